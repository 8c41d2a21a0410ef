"""Block projections with momentum: what a sweep is, how many steps it takes, and where it ends."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from nonlinear_programs import PROBLEMS
from refusals import refusals

import sciml_bounds as sb
from sciml_bounds.optimize._inner_solvers import as_inner
from sciml_bounds.sketching._accelerated_kaczmarz import AcceleratedSolve, accelerated_kaczmarz
from sciml_bounds.sketching._sketch_and_project import sketch_and_project
from sciml_bounds.sketching._sketches.row_block import RowBlock


def kkt_matrix(n, m, condition):
    """A symmetric indefinite matrix; eigenvalues of its Hessian are spread over 1 to `condition`."""
    generator = torch.Generator().manual_seed(1)
    rotation, _ = torch.linalg.qr(torch.randn((n, n), generator=generator, dtype=torch.float64))
    H = (rotation * torch.logspace(0, -np.log10(condition), n, dtype=torch.float64)) @ rotation.T
    G = torch.randn((m, n), generator=generator, dtype=torch.float64) / n**0.5
    return torch.cat([torch.cat([H, G.T], 1), torch.cat([G, torch.zeros(m, m)], 1)])


A = kkt_matrix(20, 10, 1e3)
EXACT = torch.linspace(-1.0, 1.0, 30, dtype=torch.float64)
B = A @ EXACT


def started(matrix=A, b=B, cap=100_000, **options):
    return AcceleratedSolve(matrix, b, torch.Generator().manual_seed(0), cap, **options)


def test_a_sweep_is_symmetric_and_does_not_enlarge():
    """E has eigenvalues in [0, 1): of products of projections there and back; round-off is 1e-8 where they are damped.

    Damping by 1e-8 of the largest singular value of a block, whose condition number is below 1e3, changes a projection
    by (1e-5)^2.
    """
    solve = started(size=5)
    E = torch.stack([solve._sweep(column, None) for column in torch.eye(30, dtype=torch.float64)], 1)
    assert solve.steps == 30 * len(solve._order)
    torch.testing.assert_close(E, E.T, rtol=0, atol=1e-8)
    values = torch.linalg.eigvalsh((E + E.T) / 2)
    assert float(values[0]) >= -1e-8
    assert float(values[-1]) < 1
    torch.testing.assert_close(solve._sweep(EXACT, solve._values), EXACT, rtol=0, atol=1e-8)


@pytest.mark.parametrize("size", [1, 4, 16, 100])
def test_solutions_are_reached(size):
    s = accelerated_kaczmarz(A, B, size=size, rtol=1e-10)
    assert bool(s.converged)
    assert float(s.residual_norm) == pytest.approx(float((A @ s.x - B).norm()), rel=1e-3)
    assert float((s.x - EXACT).norm()) <= float(s.residual_norm) / float(torch.linalg.svdvals(A)[-1])


@pytest.mark.parametrize(("condition", "factor"), [(1e2, 10), (1e3, 20)])
def test_momentum_saves_most_steps_on_ill_conditioned_systems(condition, factor):
    """Steps of both are projections on blocks of as many rows; the plain ones are counted until their cap at most."""
    matrix = kkt_matrix(20, 10, condition)
    b = matrix @ EXACT
    fast = accelerated_kaczmarz(matrix, b, size=4, rtol=1e-6)
    assert bool(fast.converged)
    with pytest.warns(sb.ConvergenceWarning):
        plain = sketch_and_project(matrix, b, RowBlock(4), rtol=1e-6, maxiter=factor * int(fast.iterations))
    assert float(plain.residual_norm) > 10 * float(plain.tolerance)


def test_few_large_singular_values_cost_few_steps():
    """Five singular values of 1e4 among ones: 25 sweeps measured; a condition number of 1e4 usually needs thousands."""
    generator = torch.Generator().manual_seed(3)
    left, right = (torch.linalg.qr(torch.randn((64, 64), generator=generator, dtype=torch.float64))[0] for _ in "lr")
    sizes = torch.cat([torch.full((5,), 1e4), torch.ones(59)]).double()
    matrix = (left * sizes) @ right
    s = accelerated_kaczmarz(matrix, matrix @ torch.ones(64, dtype=torch.float64), size=16, rtol=1e-8)
    assert bool(s.converged)
    assert int(s.iterations) <= 30 * 7


def test_tall_and_dependent_systems_are_solved_if_they_are_consistent():
    """The solution of least norm, where there are several: all steps are within the span of the rows."""
    generator = torch.Generator().manual_seed(2)
    tall = torch.randn((50, 7), generator=generator, dtype=torch.float64)
    tall[:, 6] = tall[:, 0] + tall[:, 1]
    b = tall @ torch.ones(7, dtype=torch.float64)
    s = accelerated_kaczmarz(tall, b, rtol=1e-10)
    torch.testing.assert_close(s.x, torch.linalg.pinv(tall) @ b, rtol=0, atol=1e-8)


def test_refining_goes_on_from_where_it_was():
    """The same steps as at once."""
    at_once, by_parts = started(), started()
    at_once.refine(1e-8)
    steps = []
    for tolerance in (1e-1, 1e-4, 1e-4, 1e-8):
        by_parts.refine(tolerance)
        assert by_parts.residual_norm <= tolerance
        steps.append(by_parts.steps)
    assert steps == sorted(steps)
    assert steps[1] == steps[2]
    assert torch.equal(by_parts.z, at_once.z)
    assert (by_parts.steps, by_parts.capped) == (at_once.steps, False)


def test_a_cap_ends_it():
    solve = started(cap=20, size=5)
    solve.refine(1e-12)
    assert solve.capped
    assert 0 < solve.steps <= 20
    with pytest.warns(sb.ConvergenceWarning, match=r"accelerated Kaczmarz.*maxiter reached.*larger blocks"):
        assert accelerated_kaczmarz(A, B, maxiter=20).reason is sb.results.Reason.MAXITER


def test_round_off_ends_it():
    solve = started()
    solve.refine(0.0)
    assert not solve.capped
    assert solve.residual_norm <= 1e-12


def test_systems_without_solution_end_it():
    with pytest.warns(sb.ConvergenceWarning, match="not in the range of A"):
        s = accelerated_kaczmarz(torch.ones((4, 4), dtype=torch.float64), [1.0, 2.0, 3.0, 4.0])
    assert s.reason is sb.results.Reason.STAGNATED
    nearly = torch.diag(torch.tensor([1.0, -2.0, 1e-17], dtype=torch.float64))
    with pytest.warns(sb.ConvergenceWarning, match="not in the range of A"):
        s = accelerated_kaczmarz(nearly, [1.0, 1.0, 1.0])
    assert float((nearly @ s.x - 1).norm()) == pytest.approx(float(s.residual_norm))
    assert float(s.residual_norm) <= 3**0.5  # no worse than where it began


def test_a_right_hand_side_of_zero_takes_no_step():
    s = accelerated_kaczmarz(A, 0 * B)
    assert (int(s.iterations), bool(s.converged)) == (0, True)


# --- as an inner solver -----------------------------------------------------------------------------------------------


COUNTED = [name for name, problem in PROBLEMS.items() if problem.counts]


@pytest.mark.parametrize(
    ("name", "method"), [*((name, "sketched") for name in COUNTED), *((name, "auto") for name in COUNTED[:3])]
)
def test_problems_are_solved(name, method):
    """By the published method in its own iterations: its accuracy asks for Newton steps that are nearly exact."""
    problem = PROBLEMS[name]
    m = problem.constraints(problem.start).numel()
    result = sb.minimize(
        problem.fun, problem.start, constraints=problem.constraints, method=method, inner="accelerated",
        multipliers=torch.full((m,), problem.multipliers, dtype=torch.float64),
    )  # fmt: skip
    assert result.success
    if method == "sketched":
        assert result.nit == problem.counts[0]


def test_dependent_columns_do_no_harm_in_single_precision():
    """Their round-off, 1e-7, is damped in the projections."""
    A = torch.randn((30, 12), generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    A[:, 0] = A[:, 1]
    s = accelerated_kaczmarz(A, A @ torch.ones(12), rtol=1e-3, size=12)
    assert bool(s.converged)


EYE, ONES = torch.eye(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)

test_bad_input_is_refused = refusals(
    ("size 0", lambda: accelerated_kaczmarz(A, B, size=0)),
    ("b shape", lambda: accelerated_kaczmarz(A, B[:3])),
    ("'accelerated'", lambda: as_inner("speedy", seed=0)),
    ("squares residuals range", lambda: accelerated_kaczmarz(1e-170 * EYE, ONES)),
    ("squares residuals range", lambda: accelerated_kaczmarz(1e160 * EYE, ONES)),
    ("side b size", lambda: accelerated_kaczmarz(EYE, 1e-170 * ONES)),
    ("side b size", lambda: accelerated_kaczmarz(EYE, 1e160 * ONES)),
    ("rtol -1.0", lambda: accelerated_kaczmarz(EYE, ONES, rtol=-1.0)),
    ("rtol nan", lambda: accelerated_kaczmarz(EYE, ONES, rtol=math.nan)),
    ("atol -1.0", lambda: accelerated_kaczmarz(EYE, ONES, atol=-1.0)),
    ("guess x0", lambda: accelerated_kaczmarz(EYE, ONES, x0=[math.nan, 1.0, 1.0])),
)
