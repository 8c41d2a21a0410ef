"""Methods side by side: each reaches what is asked, is judged by its own answer, and is shown where it does not."""

from __future__ import annotations

import dataclasses
import importlib

import numpy as np
import pyamg
import pytest
import scipy.sparse
import scipy.sparse.linalg

import sciml_bounds as sb
from sciml_bounds import _linear, comparison
from sciml_bounds.comparison import METHODS, Comparison, Equations, from_matrix, from_problem
from sciml_bounds.errors import InputError, MissingExtraError

A = scipy.sparse.csr_array(pyamg.gallery.poisson((12, 11)))
B = np.random.default_rng(0).standard_normal(A.shape[0])
FIELD = np.random.default_rng(0).lognormal(size=(12, 9))
PROBLEM = sb.Diffusion(sb.Grid((12, 9)), FIELD, 1.0)
NAMES = [pytest.param(name, marks=[pytest.mark.fem] * name.startswith("petsc")) for name in METHODS]


def _one(equations: Equations, name: str, **options) -> comparison.Result:
    run = Comparison(equations, [name], **options)
    run.run(repeat=1, histories=True)
    (result,) = run.results
    return result


def test_every_method_of_solve_is_a_method_here():
    assert set(_linear._NAMES) <= set(METHODS)


@pytest.mark.parametrize("name", NAMES)
def test_every_method_reaches_the_residual_and_its_history_leads_there(name):
    problem = sb.Diffusion(sb.Grid((12, 9)), 1.0, 1.0) if name == "transform" else PROBLEM
    result = _one(from_problem(problem), name, rtol=1e-9)
    assert (result.converged, result.reason) == (True, "converged")
    assert result.residual <= 1.001e-9
    seconds, residuals = np.array(result.history).T
    assert residuals[-1] == pytest.approx(result.residual, rel=0.5)  # PyAMG's hierarchies differ from run to run
    assert (np.diff(seconds) > 0).all()
    direct = name in ("direct", "scipy:spsolve")
    assert (result.iterations == 0) is direct
    assert len(result.history) == result.iterations + 1 or name.startswith("pyamg")
    assert residuals[0] == 1.0 or direct
    assert result.setup_seconds > 0
    assert result.total_seconds == result.setup_seconds + result.solve_seconds


@pytest.mark.parametrize("name", [p for p in NAMES if p.values[0] not in ("auto", "transform", "multigrid")])
def test_matrices_from_elsewhere_are_solved(name):
    equations = from_matrix(A, B)
    result = _one(equations, name, rtol=1e-10)
    assert result.converged
    assert result.energy_error is None


def test_the_residual_is_judged_by_what_a_method_returns(monkeypatch):
    """Whatever it says of itself."""
    exact = scipy.sparse.linalg.spsolve(A.tocsc(), B)
    for factor, converged in ((1 + 1e-9, True), (1 + 1e-7, False)):
        monkeypatch.setitem(METHODS, "cg", lambda _, factor=factor: lambda rtol, maxiter, watch: (factor * exact, 3))
        result = _one(from_matrix(A, B), "cg", rtol=1e-8)
        assert result.residual == pytest.approx(factor - 1, rel=1e-3)
        assert result.converged is converged
    assert result.reason == "ended above the tolerance"


def test_what_is_not_reached_or_fails_is_shown():
    run = Comparison(from_matrix(A, B), ["scipy:cg", "multigrid", "direct"], rtol=1e-10, maxiter=4)
    run.run(repeat=2)
    iterative, missing, direct = run.results
    assert (iterative.iterations, iterative.converged, iterative.reason) == (4, False, "maxiter reached")
    assert not missing.converged
    assert (
        missing.reason
        == "failed: multigrid needs a problem on a grid; for a matrix there are cg, algebraic and direct."
    )
    assert np.isnan(missing.total_seconds)
    assert direct.converged


@pytest.mark.parametrize("name", ["cg", "algebraic", "scipy:cg"])
def test_a_matrix_that_a_method_is_not_made_for_is_no_end(name):
    skew = A + scipy.sparse.triu(A, 1) * 0.5
    result = _one(from_matrix(skew, B), name, maxiter=50)
    assert not result.converged
    indefinite = A - 1.5 * scipy.sparse.eye_array(len(B))
    assert not _one(from_matrix(indefinite, B), name, maxiter=20).converged


def test_what_is_singular_is_not_called_solved():
    singular = scipy.sparse.csr_array(scipy.sparse.diags_array(np.r_[np.zeros(1), np.ones(9)]))
    with np.errstate(all="ignore"):
        assert not _one(from_matrix(singular), "direct").converged


def test_times_are_medians_of_the_rounds_and_the_clock_stands_while_residuals_are_computed(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(comparison.time, "perf_counter", lambda: now[0])
    costs = iter([1.0, 1.0, 5.0, 3.0, 3.0])  # the first is not measured, the last is watched

    def slow(equations):
        cost = next(costs)
        now[0] += cost

        def solve(rtol, maxiter, watch):
            now[0] += 10 * cost
            if watch is not None:
                watch(np.zeros(len(B)))
            now[0] += 10 * cost
            return scipy.sparse.linalg.spsolve(A.tocsc(), B), 1

        return solve

    residual = Equations.relative_residual
    monkeypatch.setitem(METHODS, "cg", slow)
    monkeypatch.setattr(
        Equations, "relative_residual", lambda self, x: (now.__setitem__(0, now[0] + 100.0), residual(self, x))[1]
    )
    run = Comparison(from_matrix(A, B), ["cg"])
    run.run(repeat=3, histories=True)
    (result,) = run.results
    assert (result.setup_seconds, result.solve_seconds) == (3.0, 60.0)
    assert result.history == ((3.0, 1.0), (33.0, 1.0))


def test_what_is_done_before_an_interruption_stays():
    run = Comparison(from_matrix(A, B), ["cg", "scipy:cg"])

    def interrupt(words):
        if words == "scipy:cg: round 1 of 3":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.run(3, notify=interrupt)
    assert [result.method for result in run.results] == ["cg"]
    assert run.results[0].converged


def test_the_energy_error_is_that_of_the_certificate():
    fine = sb.solve(PROBLEM, rtol=1e-12)
    wrong = 1.1 * fine.values
    result = _one(from_problem(PROBLEM, wrong), "direct")
    assert result.energy_error == pytest.approx(0.1 / 1.1, rel=1e-9)
    assert _one(from_problem(PROBLEM, fine.values), "cg", rtol=1e-6).energy_error < 1e-4


def test_boundary_values_belong_to_the_solution():
    sides = {"x0": sb.Dirichlet(1.0), "x1": sb.Dirichlet(2.0), "y0": sb.Periodic(), "y1": sb.Periodic()}
    problem = sb.Diffusion(sb.Grid((8, 6)), 2.0, 1.0, boundary=sides)
    result = _one(from_problem(problem, sb.solve(problem, rtol=1e-12).values), "pyamg:ruge-stuben", rtol=1e-10)
    assert result.energy_error < 1e-8


def test_a_floating_domain_is_solved_in_the_range_of_its_matrix():
    solid = np.zeros((12, 9), dtype=bool)
    solid[5] = True
    f = np.random.default_rng(0).standard_normal((12, 9))
    for part in (slice(0, 5), slice(6, 12)):
        f[part] -= f[part].mean()
    problem = sb.Diffusion(sb.Grid((12, 9)), FIELD, f, boundary=sb.Neumann(), solid=solid)
    for name in ("multigrid", "scipy:cg"):
        assert _one(from_problem(problem), name).converged


REFUSED = {
    "unknown method 'gauss'; the choices are auto, ": lambda: Comparison(from_matrix(A), ["gauss"]),
    "name at least one method": lambda: Comparison(from_matrix(A), []),
    "each of them once": lambda: Comparison(from_matrix(A), ["cg", "cg"]),
    "below the round-off of float64": lambda: Comparison(from_matrix(A), ["cg"], rtol=1e-17),
    "maxiter is -1": lambda: Comparison(from_matrix(A), ["cg"], maxiter=-1),
    "a square one is needed": lambda: from_matrix(A[:5]),
    "has 132 rows, but the right-hand side has shape": lambda: from_matrix(A, np.ones(3)),
    "NaN or infinite": lambda: from_matrix(A, np.full(132, np.nan)),
    "there is nothing to compare": lambda: from_matrix(A, np.zeros(132)),
    "this is a batch of": lambda: from_problem(sb.Diffusion(sb.Grid((2, 2)), np.ones((3, 2, 2)), 1.0)),
    "the reference has shape": lambda: from_problem(PROBLEM, np.ones((12, 9))),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_means_nothing_is_refused_in_one_sentence(words):
    with pytest.raises(InputError, match=r"^[^\n]*$") as caught:
        REFUSED[words]()
    assert words in str(caught.value)


def test_a_missing_package_is_one_sentence_with_the_command(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"pip install 'sciml-bounds\[fem\]'"):
        Comparison(from_matrix(A), ["petsc:gamg"])


def test_results_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        _one(from_matrix(A), "cg").residual = 0.0
