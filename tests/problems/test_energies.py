"""Energy densities: analytic derivatives against autograd, lengthened gradients, and invalid input."""

from __future__ import annotations

import math

import pytest
import torch
from refusals import refusals, refused

import sciml_bounds as sb
from sciml_bounds.problems.energy_density import MIN_RELATIVE_LENGTH, lengthened
from sciml_bounds.variational import EnergyDensity

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


test_bad_parameters = refusals(
    ("exponent 1.0 larger than 1", lambda: sb.variational.PLaplacian(1.0)),
    ("power nan", lambda: sb.variational.QuadraticEnergy(power=math.nan)),
    ("extra -0.5", lambda: sb.variational.ShearThinning(-0.5)),
    ("width 0.0", lambda: sb.variational.GinzburgLandau(0.0)),
    ("profile 3.0 torch function", lambda: sb.variational.IsotropicEnergy(3.0)),
    ("potential 3.0 torch function", lambda: sb.variational.IsotropicEnergy(torch.cosh, 3.0)),
    ("reaction potential None", lambda: sb.variational.IsotropicEnergy(torch.cosh, reaction=1.0)),
    ("lower -1.0 upper inf 0 <=", lambda: sb.variational.IsotropicEnergy(torch.cosh, lower=-1.0)),
    ("exponent 'a' finite number", lambda: sb.variational.PLaplacian("a")),
)


def test_mixed_derivatives_of_a_general_density():
    density = EnergyDensity(lambda x, u, p: u * p[..., 0] * x[..., 1])
    x, u, p = torch.full((4, 2), 3.0), torch.ones(4), torch.ones(4, 2)
    assert density.second(x, u, p).up[0].tolist() == [3.0, 0.0]
    refused("Kacanov", density.frozen, x, u, p)


def test_a_density_that_does_not_depend_on_what_it_is_given_has_no_slopes():
    density = EnergyDensity(lambda x, u, p: x[..., 0])
    x, u, p = torch.ones(4, 2), torch.ones(4), torch.ones(4, 2)
    assert not any(bool(slope.any()) for slope in density.first(x, u, p))
    second = density.second(x, EnergyDensity(lambda x, u, p: u).first(x, u, p)[0], p)
    assert not bool(second.pp.any() or second.uu.any())


def test_short_gradients_are_lengthened_along_themselves():
    """To a part of the root mean square, here 5 sqrt(1 / 3); where there is none, along the first axis."""
    p = torch.tensor([[3.0, 4.0], [0.0, 1e-9], [0.0, 0.0]], dtype=torch.float64)
    shortest = MIN_RELATIVE_LENGTH * 5 * math.sqrt(1 / 3)
    expected = torch.tensor([[3.0, 4.0], [0.0, shortest], [shortest, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(lengthened(p), expected, rtol=1e-13, atol=0)
    assert lengthened(torch.zeros(2, 3)).tolist() == [[1.0, 0.0, 0.0]] * 2


def plain(x, u, p):
    return u


test_what_makes_no_density_is_refused = refusals(
    ("function (x, u, p)", lambda: EnergyDensity(3.0)),
    ("0 <= lower <= upper", lambda: EnergyDensity(plain, lower=2.0, upper=1.0)),
    ("0 <= lower <= upper", lambda: EnergyDensity(plain, lower=-1.0)),
    ("lower nan finite", lambda: EnergyDensity(plain, lower=math.nan)),
    ("upper tensor([1., 1.]) positive", lambda: EnergyDensity(plain, upper=torch.ones(2))),
    ("Kacanov dL/dp", lambda: EnergyDensity(plain).frozen(None, None, None)),
    (
        "shape (3, 2) (3,) one number",
        lambda: EnergyDensity(lambda x, u, p: p).value(None, torch.zeros(3), torch.zeros(3, 2)),
    ),
    (
        "float (3,) one number",
        lambda: EnergyDensity(lambda x, u, p: 1.0).value(None, torch.zeros(3), torch.zeros(3, 2)),
    ),
)
