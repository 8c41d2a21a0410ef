"""How methods are measured: judged by their own answer, timed in rounds, and shown where they do not arrive."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from refusals import refusals

from sciml_bounds.comparison import METHODS, Comparison, Equations, from_matrix, protocol


def exact(equations: Equations) -> np.ndarray:
    """Solve by a factorisation."""
    return scipy.sparse.linalg.spsolve(equations.matrix.tocsc(), equations.rhs)


def test_the_residual_is_judged_by_what_a_method_returns(run_one, equations, monkeypatch):
    """Whatever it says of itself."""
    for factor, converged in ((1 + 1e-9, True), (1 + 1e-7, False)):
        answer = factor * exact(equations)
        monkeypatch.setitem(METHODS, "cg", lambda _, answer=answer: lambda rtol, maxiter, watch: (answer, 3))
        result = run_one(equations, "cg", rtol=1e-8)
        assert result.residual == pytest.approx(factor - 1, rel=1e-3)
        assert result.converged is converged
    assert result.reason == "stopped above the tolerance"


def test_what_is_not_reached_or_fails_is_shown(equations):
    comparison = Comparison(equations, ["scipy:cg", "multigrid", "direct"], rtol=1e-10, maxiter=4)
    comparison.run(repeat=2)
    iterative, missing, direct = comparison.results
    assert (iterative.iterations, iterative.converged, iterative.reason) == (4, False, "maxiter reached")
    assert not missing.converged
    assert missing.reason.startswith("failed: ")
    assert all(word in missing.reason for word in ("multigrid", "grid", "cg", "algebraic", "direct"))
    assert np.isnan(missing.total_seconds)
    assert direct.converged


def test_what_is_singular_is_not_called_solved(run_one):
    singular = scipy.sparse.csr_array(scipy.sparse.diags_array(np.r_[np.zeros(1), np.ones(9)]))
    with np.errstate(all="ignore"):
        assert not run_one(from_matrix(singular), "direct").converged


def test_what_has_no_solution_is_not_solved_to_round_off(run_one):
    """The sum of the rows is zero and that of the right-hand side is not, so that iterates grow without end."""
    chain = scipy.sparse.diags_array([-np.ones(49), np.r_[1, 2 * np.ones(48), 1], -np.ones(49)], offsets=(-1, 0, 1))
    with np.errstate(all="ignore"):
        assert not run_one(from_matrix(chain), "cg").converged
        peer = run_one(from_matrix(chain), "pyamg:ruge-stuben")
    assert not peer.converged
    # whether the factors of its coarsest level divide by zero or by round-off is up to the processor
    assert peer.reason.startswith(("failed: the solution is NaN or infinite", "maxiter reached"))


def test_times_are_medians_of_the_rounds_and_the_clock_stands_while_residuals_are_computed(equations, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(protocol.time, "perf_counter", lambda: now[0])
    costs = iter([1.0, 1.0, 5.0, 3.0, 3.0])  # the first is not measured, the last is watched

    def slow(equations):
        cost = next(costs)
        now[0] += cost

        def solve(rtol, maxiter, watch):
            now[0] += 10 * cost
            if watch is not None:
                watch(np.zeros_like(equations.rhs))
            now[0] += 10 * cost
            return exact(equations), 1

        return solve

    residual = Equations.relative_residual
    monkeypatch.setitem(METHODS, "cg", slow)
    monkeypatch.setattr(
        Equations, "relative_residual", lambda self, x: (now.__setitem__(0, now[0] + 100.0), residual(self, x))[1]
    )
    comparison = Comparison(equations, ["cg"])
    comparison.run(repeat=3, histories=True)
    (result,) = comparison.results
    assert (result.setup_seconds, result.solve_seconds) == (3.0, 60.0)
    assert result.history == ((3.0, 1.0), (33.0, 1.0))


def test_what_is_done_before_an_interruption_stays(equations):
    comparison = Comparison(equations, ["cg", "scipy:cg"])

    def interrupt(words):
        if words == "scipy:cg: round 1 of 3":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        comparison.run(3, notify=interrupt)
    assert [result.method for result in comparison.results] == ["cg"]
    assert comparison.results[0].converged


test_bad_input = refusals(
    ("'gauss' auto", lambda equations: Comparison(equations, ["gauss"])),
    ("method", lambda equations: Comparison(equations, [])),
    ("cg twice", lambda equations: Comparison(equations, ["cg", "cg"])),
    ("round-off float64", lambda equations: Comparison(equations, ["cg"], rtol=1e-17)),
    ("maxiter -1", lambda equations: Comparison(equations, ["cg"], maxiter=-1)),
)


def test_results_are_frozen(run_one, equations):
    with pytest.raises(dataclasses.FrozenInstanceError):
        run_one(equations, "cg").residual = 0.0
