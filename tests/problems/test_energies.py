"""Energy densities: analytic derivatives against autograd, and invalid input."""

from __future__ import annotations

import math

import pytest
import torch
from refusals import refused

import sciml_bounds as sb

DENSITIES = {
    "quadratic": sb.variational.QuadraticEnergy(2.0, 1.0),
    "cubic reaction": sb.variational.QuadraticEnergy(2.0, 1.0, power=4),
    "p = 3": sb.variational.PLaplacian(3, reaction=0.5),
    "p = 1.5": sb.variational.PLaplacian(1.5, 2.0, 1.0, power=1.5),
    "minimal surface": sb.variational.MinimalSurface(3.0, 1.0),
    "shear thinning": sb.variational.ShearThinning(3.0),
    "two phases": sb.variational.GinzburgLandau(0.1),
    "own profile": sb.variational.IsotropicEnergy(lambda r: torch.cosh(r), lambda u: torch.exp(u), convex=True),
}


def points(dim: int) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(dim)
    a, c, u = torch.randn(3, 50, generator=generator, dtype=torch.float64)
    return (a.exp(), c.exp()), u, torch.randn(50, dim, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("dim", [1, 2, 3, 10])
@pytest.mark.parametrize("name", DENSITIES)
def test_derivatives_are_those_of_torch(name, dim):
    density = DENSITIES[name]
    place, u, p = points(dim)
    general = sb.variational.EnergyDensity(lambda x, u, p: density.value(place, u, p))
    for ours, theirs in zip(density.first(place, u, p), general.first(p, u, p)):
        torch.testing.assert_close(ours, theirs)
    ours, theirs = density.second(place, u, p), general.second(p, u, p)
    torch.testing.assert_close(ours.pp, theirs.pp)
    torch.testing.assert_close(ours.uu, theirs.uu)
    assert ours.up is None
    assert not theirs.up.any()


@pytest.mark.parametrize("name", DENSITIES)
def test_frozen_weights_give_the_first_derivatives(name):
    density = DENSITIES[name]
    if name == "own profile":  # exp(u) has a slope at 0
        density = sb.variational.IsotropicEnergy(lambda r: torch.cosh(r), convex=True)
    place, u, p = points(2)
    k, m = density.frozen(place, u, p)
    slope_u, slope_p = density.first(place, u, p)
    torch.testing.assert_close(k.unsqueeze(-1) * p, slope_p)
    torch.testing.assert_close(m * u, slope_u)


@pytest.mark.parametrize("name", DENSITIES)
def test_where_the_gradient_vanishes_derivatives_are_zero(name):
    place, u, p = points(2)
    _, slope = DENSITIES[name].first(place, u, torch.zeros_like(p))
    assert (slope == 0).all()
    p = torch.zeros_like(p).requires_grad_()
    (flowing,) = torch.autograd.grad(DENSITIES[name].value(place, u, p).sum(), p)
    assert (flowing == 0).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sb.variational.PLaplacian(1.0), "exponent 1.0 larger than 1"),
        (lambda: sb.variational.QuadraticEnergy(power=math.nan), "power nan"),
        (lambda: sb.variational.ShearThinning(-0.5), "extra -0.5"),
        (lambda: sb.variational.GinzburgLandau(0.0), "width 0.0"),
        (lambda: sb.variational.IsotropicEnergy(3.0), "profile 3.0 torch function"),
        (lambda: sb.variational.IsotropicEnergy(torch.cosh, 3.0), "potential 3.0 torch function"),
        (
            lambda: sb.variational.IsotropicEnergy(torch.cosh, reaction=1.0),
            "reaction potential None",
        ),
        (
            lambda: sb.variational.IsotropicEnergy(torch.cosh, lower=-1.0),
            "lower -1.0 upper inf 0 <=",
        ),
        (lambda: sb.variational.PLaplacian("a"), "exponent 'a' finite number"),
    ],
)
def test_what_makes_no_density_is_refused(make, message):
    refused(message, make)
