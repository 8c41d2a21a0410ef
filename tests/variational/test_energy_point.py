"""Points of a minimisation: matrices that are positive, and frozen ones that have the same derivative."""

from __future__ import annotations

import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.variational._energy_point import EnergyPoint

GRID = sb.Grid((4, 3))


def point(density: sb.variational.EnergyDensity, seed: int = 0) -> EnergyPoint:
    problem = sb.variational.VariationalProblem(GRID, density)
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
