"""The range-space method: the same solutions as MINRES in half the steps, and MINRES where it does not apply."""

from __future__ import annotations

import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.newton.minres import MinresSolve
from sciml_bounds.newton.products import Products
from sciml_bounds.newton.program import Point
from sciml_bounds.newton.range_space import RangeSpace, RangeSpaceSolve

N, M = 40, 15


def system(diagonal=None, damping=0.0):
    """A dense KKT matrix with a diagonal Hessian, a right-hand side, and a preconditioner that is not exact."""
    generator = torch.Generator().manual_seed(0)
    J, b = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((M, N), (N + M,)))
    h = torch.linspace(1.0, 3.0, N, dtype=torch.float64) if diagonal is None else diagonal
    A = torch.cat([torch.cat([torch.diag(h), J.T], 1), torch.cat([J, -damping * torch.eye(M).double()], 1)])
    schur = J @ torch.diag(1 / h.abs()) @ J.T
    near = schur + 0.5 * torch.diag(schur.diagonal())
    P = torch.block_diag(torch.diag(1 / h.abs()), torch.linalg.inv(near))
    return A, b, P


def started(A, b, P, settings=RangeSpace, **arguments):
    solver = settings(P, **arguments).solver()
    zero = torch.zeros(N, dtype=torch.float64)
    solver.at(Point(zero, zero[:M], 0.0, zero[:M], zero, A[N:, :N]))
    products = Products.symmetric(N + M, lambda z: A @ z, b.device)
    return solver(products, b, 1000)


@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_solutions_are_exact(damping):
    A, b, P = system(damping=damping)
    solve = started(A, b, P)
    assert isinstance(solve, RangeSpaceSolve)
    solve.refine(0.0)
    torch.testing.assert_close(solve.z, torch.linalg.solve(A, b), rtol=1e-9, atol=1e-11)
    assert solve.negative == M == int((torch.linalg.eigvalsh(A) < 0).sum())


def test_residuals_are_those_of_the_multipliers_in_the_norm_of_the_preconditioner():
    A, b, P = system()
    solve = started(A, b, P)
    for tolerance in (1e-1, 1e-4, 1e-8):
        solve.refine(tolerance)
        r = b - A @ solve.z
        assert float(r[:N].norm()) <= 1e-13 * float(b.norm())
        assert solve.residual_norm == pytest.approx(float(r @ P @ r) ** 0.5, rel=1e-5)
        assert solve.residual_norm <= tolerance


def test_half_the_steps_of_minres():
    from sciml_bounds.newton.minres import Minres

    A, b, P = system()
    steps = []
    for settings in (RangeSpace, Minres):
        solve = started(A, b, P, settings)
        solve.refine(1e-8 * solve.rhs_norm)
        steps.append(solve.steps)
    assert steps[0] <= 0.6 * steps[1]


def test_minres_where_the_hessian_is_not_positive():
    h = torch.linspace(-0.1, 3.0, N, dtype=torch.float64)
    A, b, P = system(h)
    solve = started(A, b, P)
    assert isinstance(solve, MinresSolve)
    solve.refine(1e-10)
    torch.testing.assert_close(solve.z, torch.linalg.solve(A, b), rtol=1e-6, atol=1e-8)


def test_a_cap_and_a_relative_tolerance_end_it():
    A, b, P = system()
    solve = started(A, b, P, maxiter=2)
    solve.refine(0.0)
    assert solve.capped
    assert solve.steps == 2
    solve = started(A, b, P, rtol=1e-3)
    solve.refine(0.5 * solve.rhs_norm)
    assert solve.residual_norm <= 1e-3 * solve.rhs_norm


@pytest.mark.parametrize("factor", [-1.0, 0.0, float("nan")])
def test_preconditioners_that_are_not_positive_definite_are_one_sentence(factor):
    A, b, P = system()
    with pytest.raises(sb.InputError, match=r"P of RangeSpace is not positive definite: r\.Pr = "):
        started(A, b, factor * P)
