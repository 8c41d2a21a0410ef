"""Points of a minimisation and their matrices: derivatives of the gradient, symmetric, positive, and solved."""

from __future__ import annotations

import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.variational._cell_matrices import CellMatrices
from sciml_bounds.variational._energy_point import EnergyPoint

DENSITIES = {
    "shear thinning": sb.variational.ShearThinning(3.0, lambda *x: 1 + x[0], 2.0),
    "general": sb.variational.EnergyDensity(
        lambda x, u, p: torch.exp((p.square().sum(-1) + u * p[..., 0] + u**2) / 8) + u**2, convex=True
    ),
}
GRIDS = {1: sb.Grid(7), 2: sb.Grid((4, 5), lengths=(1.0, 2.0)), 3: sb.Grid((2, 3, 3))}


HELD = sb.Dirichlet(0.0)


def made(name: str, dim: int, boundary=HELD) -> tuple[sb.variational.VariationalProblem, torch.Tensor, CellMatrices]:
    problem = sb.variational.VariationalProblem(GRIDS[dim], DENSITIES[name], boundary=boundary)
    v = torch.randn(problem.node_shape, generator=torch.Generator().manual_seed(dim), dtype=torch.float64)
    v = problem.impose_boundary(v)
    periodic = torch.cat([v, v[:1]]) if problem.frame.periodic[0] else v
    second = problem.density.second(problem.quadrature_data, *problem.elements.at(periodic))
    return problem, v, CellMatrices(problem, second)


@pytest.mark.parametrize("dim", GRIDS)
@pytest.mark.parametrize("name", DENSITIES)
def test_products_are_derivatives_of_the_gradient(name, dim):
    """Central differences with h = 1e-5 of functions of size 1."""
    problem, v, A = made(name, dim)
    d, h = problem.free * torch.randn(v.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64), 1e-5
    difference = (problem.gradient(v + h * d) - problem.gradient(v - h * d)) / (2 * h)
    size = float(difference.abs().max())
    torch.testing.assert_close(A.apply(d), difference, rtol=1e-6, atol=1e-7 * size)


@pytest.mark.parametrize("name", DENSITIES)
def test_the_matrix_is_symmetric_and_positive(name):
    _, _, A = made(name, 2)
    dense = A.operator.matvec(torch.eye(A.operator.shape[0], dtype=torch.float64))
    torch.testing.assert_close(dense, dense.mT)
    assert torch.linalg.eigvalsh(dense)[0] > 0


@pytest.mark.parametrize("dim", GRIDS)
def test_solves_reach_the_tolerance(dim):
    sides = {side: sb.Dirichlet(0.0) for side in GRIDS[dim].sides} | {"x0": sb.Periodic(), "x1": sb.Periodic()}
    problem, v, A = made("shear thinning", dim, sides)
    rhs = problem.free * v
    x, steps = A.solve(rhs, 1e-10)
    assert float((A.apply(x) - rhs).norm()) <= 1e-10 * float(rhs.norm())
    assert 0 < steps < 30
    assert not (x * (1 - problem.free)).any()
    nothing, steps = A.solve(torch.zeros_like(v), 1e-10)
    assert (bool(nothing.any()), steps) == (False, 0)


def test_a_sum_of_matrices():
    _, v, A = made("shear thinning", 2)
    torch.testing.assert_close(A.shifted(A, 0.5).apply(v), 1.5 * A.apply(v))


POINT_GRID = sb.Grid((4, 3))


def point(density: sb.variational.EnergyDensity, seed: int = 0) -> EnergyPoint:
    problem = sb.variational.VariationalProblem(POINT_GRID, density)
    generator = torch.Generator().manual_seed(seed)
    return EnergyPoint(problem, problem.free * torch.randn(5, 4, generator=generator, dtype=torch.float64))


@pytest.mark.parametrize(
    "density",
    [
        sb.variational.GinzburgLandau(0.1),
        sb.variational.EnergyDensity(lambda x, u, p: p[..., 0] ** 2 - p[..., 1] ** 2 + 3 * u * p[..., 0] - u**2),
        sb.variational.PLaplacian(4),
        sb.variational.PLaplacian(1.2),
    ],
)
def test_matrices_are_positive_whatever_the_energy_is(density):
    at = point(density)
    for seed in range(5):
        d = at.problem.free * torch.randn(5, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert at.hessian().product(d, d) >= -1e-12


@pytest.mark.parametrize(
    "density",
    [
        sb.variational.ShearThinning(3.0),
        sb.variational.PLaplacian(3, reaction=1.0, power=4),
        sb.variational.MinimalSurface(),
    ],
)
def test_the_frozen_energy_has_the_same_derivative(density):
    """K(v) v is the derivative of J at v without load, where no gradient is so short that it is lengthened."""
    at = point(density)
    torch.testing.assert_close(at.frozen().apply(at.v), at.gradient)


def test_weights_that_fall_are_known():
    assert point(sb.variational.ShearThinning(3.0)).has_decreasing_weights()
    assert not point(sb.variational.PLaplacian(3)).has_decreasing_weights()
    assert not point(sb.variational.ShearThinning(3.0, reaction=1.0, power=4)).has_decreasing_weights()
