"""The best outer weights of convex energies: derivatives against differences, minima against others."""

from __future__ import annotations

import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.barron.network import BarronNetwork
from sciml_bounds.barron.outer_fit import OuterEnergy, fit_outer
from sciml_bounds.barron.quadrature import gauss
from sciml_bounds.barron.trial_space import affine_jets, energy_of, feature_jets, jet_of

DENSITIES = {
    "thinning": sb.ShearThinning(3.0, reaction=0.5, power=4),
    "surface": sb.MinimalSurface(),
    "own": sb.EnergyDensity(
        lambda x, u, p: (
            (1 + p.square().sum(-1) + (u * p[..., 0]).square() / 50 + u.square()).sqrt() + p.square().sum(-1)
        ),
        convex=False,
    ),
}


@pytest.mark.parametrize("name", DENSITIES)
def test_derivatives_against_differences(name):
    problem = sb.VariationalProblem(sb.Box([1.0, 1.5]), DENSITIES[name], lambda x: x.sum(-1))
    network = BarronNetwork(2, 6, "tanh", lengths=(1.0, 1.5), held="all", seed=2)
    rule = gauss(problem.box, (4, 4))
    energy = OuterEnergy(problem, rule, 0 * jet_of(network, rule.points), feature_jets(network, rule.points))
    c = torch.linspace(-1, 1, 6, dtype=torch.float64)
    g, H, h = energy.gradient(c), energy.hessian(c), 1e-5
    for i, e in enumerate(torch.eye(6, dtype=torch.float64)):
        # central differences: errors of h^2 and of 1e-16 / h
        assert float(g[i]) == pytest.approx((energy.value(c + h * e) - energy.value(c - h * e)) / (2 * h), abs=1e-8)
        slope = (energy.gradient(c + h * e) - energy.gradient(c - h * e)) / (2 * h)
        torch.testing.assert_close(H[i], slope, rtol=0, atol=1e-7)


@pytest.mark.parametrize("density", [sb.QuadraticEnergy(2.0), sb.ShearThinning(5.0), sb.PLaplacian(4)])
def test_the_minimum_is_stationary(density):
    problem = sb.VariationalProblem(sb.Box([1.0, 1.0]), density, 3.0)
    network = BarronNetwork(2, 12, "tanh", held="all", seed=1)
    rule = gauss(problem.box, (8, 8))
    assert fit_outer(network, problem, rule) == 15
    x = rule.points
    jets = torch.cat([affine_jets(network, x), feature_jets(network, x)], -1)
    c = torch.cat([network.offset[None], network.slope, network.outer]).detach()
    energy = OuterEnergy(problem, rule, 0 * jets[..., 0], jets)
    # decrements of 1e-13 of J leave gradients of sqrt(1e-13), times the size of functions
    scale = float(energy.gradient(0 * c).abs().max())
    assert float(energy.gradient(c).abs().max()) < 1e-5 * scale
    assert energy.value(c) == pytest.approx(energy_of(network, problem, rule), rel=1e-10)


def test_close_to_the_classical_minimum():
    """The same shear thinning on a fine grid: multilinear functions have more energy than u, by O(h^2)."""
    grid = sb.Grid((64, 64))
    problem = sb.VariationalProblem(grid, sb.ShearThinning(3.0), source=20.0)
    classical = sb.minimize_energy(problem)
    solution = sb.random_feature_network(problem, 60)
    assert solution.energy < classical.energy
    assert solution.energy == pytest.approx(classical.energy, rel=2e-3)
