"""The published method: its counts with exact inner solves, its constants, and what happens where it gives up."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from nonlinear_programs import PROBLEMS
from refusals import refused

import sciml_bounds as sb
from sciml_bounds.optimize._inner_solvers import DirectSolve
from sciml_bounds.sketching._sketches.row_block import RowBlock

PUBLISHED = sb.optimize.SketchedNewton(preset="published")
SOLVED = [name for name, problem in PROBLEMS.items() if problem.counts]


def solve(name, method=PUBLISHED, **options):
    problem = PROBLEMS[name]
    m = problem.constraints(problem.start).numel()
    multipliers = torch.full((m,), problem.multipliers, dtype=torch.float64)
    return sb.minimize(
        problem.fun, problem.start, constraints=problem.constraints, method=method, multipliers=multipliers, **options
    )


def evaluations(result):
    """As the published tables count: two for values and two for derivatives at each point, and the new one again."""
    return 2 * result.nfev + 2 * result.nit


@pytest.mark.filterwarnings("ignore::sciml_bounds.ConvergenceWarning")
@pytest.mark.parametrize("name", PROBLEMS)
def test_formulas_give_the_published_residual_at_the_start(name):
    residual = solve(name, maxiter=0).kkt_residual
    assert residual == pytest.approx(PROBLEMS[name].start_residual, rel=5e-4)  # four digits are published


@pytest.mark.parametrize("name", SOLVED)
def test_exact_inner_solves_take_the_published_iterations_and_evaluations(name):
    """Appendix A of the notes: the run with row sketches; on BT2, HS52 and HS100LNP the other run differs from it."""
    result = solve(name)
    assert (result.nit, evaluations(result)) == PROBLEMS[name].counts
    assert result.kkt_residual <= 1e-4


@pytest.mark.parametrize("inner", ["gaussian", "kaczmarz"])
@pytest.mark.parametrize("name", ["HS7", "HS40", "HS79", "DENSCHNFNE"])
def test_sketched_inner_solves_take_the_published_counts(name, inner):
    result = solve(name, inner=inner)
    assert (result.nit, evaluations(result)) == PROBLEMS[name].counts
    assert sum(step.inner_steps for step in result.history) > 500  # the published accuracy is nearly exact


def test_blocks_of_rows_need_fewer_steps():
    steps = [sum(s.inner_steps for s in solve("HS79", inner=inner).history) for inner in ("kaczmarz", RowBlock(4))]
    assert 4 * steps[1] < steps[0]


def first_tolerance(name):
    """Published formulas, implemented again: the relative residual in the first iteration, and Psi."""
    problem = PROBLEMS[name]
    x, n = problem.start, len(problem.start)
    H = torch.autograd.functional.hessian(problem.fun, x)  # no multipliers yet
    G = torch.autograd.functional.jacobian(problem.constraints, x).view(-1, n)
    Z = torch.linalg.svd(G)[2][len(G) :].T
    curvature = torch.linalg.eigvalsh(Z.T @ H @ Z)[0]
    B = H + (0.1 + float(H.norm()) if curvature < 1e-6 else 0.0) * torch.eye(n)
    A = torch.cat([torch.cat([B, G.T], 1), torch.cat([G, torch.zeros(len(G), len(G))], 1)])
    rank = float(torch.linalg.eigvalsh(G @ G.T)[0])
    psi = 20 * max(float(B.square().sum()), 1.0) / (min(rank, 1.0) * 0.1)
    return 1e-6 / (float(A.norm()) * psi), psi  # delta is at its floor


@pytest.mark.filterwarnings("ignore::sciml_bounds.ConvergenceWarning")
@pytest.mark.parametrize(
    ("name", "expected", "psi"),
    [("HS6", 3e-11, 8e2), ("HS7", 9e-11, 2e2), ("HS40", 1e-10, 1.4e3), ("HS79", 5e-12, 1e4), ("HS52", 4e-14, 7e5)],
)
def test_the_first_accuracy_is_the_published_one(name, expected, psi):
    """The figures have one or two digits; a chunk of 64 steps overshoots a tolerance by less than a factor of ten."""
    tolerance, bound = first_tolerance(name)
    assert (tolerance, bound) == (pytest.approx(expected, rel=0.3), pytest.approx(psi, rel=0.1))
    (step,) = solve(
        name, sb.optimize.SketchedNewton(preset="published", cap=10_000_000), inner="gaussian", maxiter=1
    ).history
    assert tolerance / 10 < step.inner_residual <= tolerance


@pytest.mark.filterwarnings("ignore::sciml_bounds.ConvergenceWarning")
def test_the_accuracy_follows_the_penalties(monkeypatch):
    """Each change of the penalties divides delta by nu^4: what steps of descent allow falls by less than nu^3."""
    asked = []
    monkeypatch.setattr(DirectSolve, "refine", lambda self, tolerance: asked.append(tolerance))
    method = sb.optimize.SketchedNewton(preset="published", eta1=0.01, smallest_delta=1e-300)
    (step,) = solve("HS40", method, maxiter=1).history
    changes = round(math.log(0.1 / step.eta2, 1.5))
    assert changes >= 2
    assert len(asked) == 1 + changes
    assert [later / before for before, later in itertools.pairwise(asked)] == pytest.approx([1.5**-4] * changes)


def test_a_power_sharpens_the_accuracy():
    """theta_k = min(1, ||R_k||^2): the residual of a step is smaller by this factor than with theta = 1."""
    plain = solve("HS42", sb.optimize.SketchedNewton(), inner="gaussian")
    sharp = solve("HS42", sb.optimize.SketchedNewton(power=2.0), inner="gaussian")
    before, last, sharp_last = plain.history[-2], plain.history[-1], sharp.history[-1]
    assert before.kkt_residual < 0.1
    # a chunk of 64 steps overshoots a tolerance by less than a factor of ten: gamma is 1e-2
    assert sharp_last.inner_residual < 10 * before.kkt_residual**2 * last.inner_residual
    assert sharp.success


@pytest.mark.parametrize("name", ["GOTTFR", "PRICE4NE"])
def test_the_published_preset_gives_up_where_the_published_code_does(name):
    with pytest.warns(sb.ConvergenceWarning, match="preset='robust'"):
        result = solve(name)
    assert result.reason is sb.results.Reason.SINGULAR_JACOBIAN
    assert result.nit == {"GOTTFR": 1, "PRICE4NE": 8}[name]
    robust = solve(name, sb.optimize.SketchedNewton())
    assert robust.nit == {"GOTTFR": 5, "PRICE4NE": 14}[name]
    assert robust.success


def test_a_reached_cap_is_reported():
    """A solve that is cut short may still be good enough; where no step comes of it, that is the reason."""
    result = solve("HS7", sb.optimize.SketchedNewton(cap=64), inner="kaczmarz")
    assert result.success
    assert "inner solves of 6 stopped at the cap of steps" in result.message
    assert "stopped at the cap of steps" in repr(result)
    with pytest.warns(sb.ConvergenceWarning, match="raise their maximum"):
        result = solve("HS79", sb.optimize.SketchedNewton(cap=1), inner="kaczmarz")
    assert result.reason is sb.results.Reason.CAPPED


def test_results_are_reproducible_by_seed():
    first, again, other = (solve("HS40", inner="gaussian", seed=seed).x for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_penalties_are_monotone():
    history = solve("HS7").history
    for before, after in itertools.pairwise(history):
        assert after.eta1 >= before.eta1
        assert after.eta2 <= before.eta2


def test_shifts_are_of_the_size_of_the_hessian():
    """Where the reduced Hessian is not positive definite, xi_B + ||H||_F is added (HS7 at its start: 0.1 + 6/25)."""
    assert solve("HS7").history[0].shift == pytest.approx(0.34)
    assert all(step.shift == 0 for step in solve("HS28").history)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eta1": 0.0}, "eta1 0.0 positive number"),
        ({"beta": 0.5}, "beta 0.5 0 1/2"),
        ({"theta": 2.0}, "theta 2.0 0 1"),
        ({"nu": 1.0}, "nu 1.0 1"),
        ({"power": -1.0}, "power -1.0 negative"),
        ({"cap": 0}, "cap 0 positive integer"),
        ({"preset": "paper"}, "'paper'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_constants_out_of_range_are_refused(options, message):
    refused(message, sb.optimize.SketchedNewton, **options)
