"""The best outer weights: derivatives against differences, minima against others, given values on sides."""

from __future__ import annotations

import pytest
import scipy.optimize
import torch

import sciml_bounds as sb
from sciml_bounds.barron import Box
from sciml_bounds.barron._barron_network import BarronNetwork
from sciml_bounds.network_solvers import random_feature_network
from sciml_bounds.network_solvers._constrained_fit import fit_with_constraints, side_points
from sciml_bounds.network_solvers._outer_fit import OuterEnergy, fit_outer, independent_functions
from sciml_bounds.network_solvers._quadrature import gauss
from sciml_bounds.network_solvers._trial_space import affine_jets, energy_of, feature_jets, jet_of
from sciml_bounds.variational import (
    EnergyDensity,
    MinimalSurface,
    PLaplacian,
    QuadraticEnergy,
    ShearThinning,
    VariationalProblem,
    minimize_energy,
)

DENSITIES = {
    "thinning": ShearThinning(3.0, reaction=0.5, power=4),
    "surface": MinimalSurface(),
    "own": EnergyDensity(
        lambda x, u, p: (
            (1 + p.square().sum(-1) + (u * p[..., 0]).square() / 50 + u.square()).sqrt() + p.square().sum(-1)
        ),
        convex=False,
    ),
}


@pytest.mark.parametrize("name", DENSITIES)
def test_derivatives_against_differences(name):
    problem = VariationalProblem(Box([1.0, 1.5]), DENSITIES[name], lambda x: x.sum(-1))
    network = BarronNetwork(2, 6, "tanh", lengths=(1.0, 1.5), dirichlet_sides="all", seed=2)
    rule = gauss(problem.box, (4, 4))
    energy = OuterEnergy(problem, rule, 0 * jet_of(network, rule.points), feature_jets(network, rule.points))
    c = torch.linspace(-1, 1, 6, dtype=torch.float64)
    g, H, h = energy.gradient(c), energy.hessian(c), 1e-5
    for i, e in enumerate(torch.eye(6, dtype=torch.float64)):
        # central differences: errors of h^2 and of 1e-16 / h
        assert float(g[i]) == pytest.approx((energy.value(c + h * e) - energy.value(c - h * e)) / (2 * h), abs=1e-8)
        slope = (energy.gradient(c + h * e) - energy.gradient(c - h * e)) / (2 * h)
        torch.testing.assert_close(H[i], slope, rtol=0, atol=1e-7)


@pytest.mark.parametrize("density", [QuadraticEnergy(2.0), ShearThinning(5.0), PLaplacian(4)])
def test_the_minimum_is_stationary(density):
    problem = VariationalProblem(Box([1.0, 1.0]), density, 3.0)
    network = BarronNetwork(2, 12, "tanh", dirichlet_sides="all", seed=1)
    rule = gauss(problem.box, (8, 8))
    assert fit_outer(network, problem, rule).dimensions == 15
    x = rule.points
    jets = torch.cat([affine_jets(network, x), feature_jets(network, x)], -1)
    c = torch.cat([network.offset[None], network.slope, network.outer]).detach()
    energy = OuterEnergy(problem, rule, 0 * jets[..., 0], jets)
    # decrements of 1e-13 of J leave gradients of sqrt(1e-13), times the size of functions
    scale = float(energy.gradient(0 * c).abs().max())
    assert float(energy.gradient(c).abs().max()) < 1e-5 * scale
    assert energy.value(c) == pytest.approx(energy_of(network, problem, rule), rel=1e-10)


@pytest.mark.parametrize(
    ("density", "source", "cells", "width", "low", "high"),
    [
        pytest.param(ShearThinning(3.0), 20.0, 64, 60, -2e-3, 0.0, marks=pytest.mark.slow),
        *[(PLaplacian(q), 1.0, 32, 40, -0.01, 0.01) for q in (1.5, 3, 4)],
    ],
    ids=["shear thinning", "p = 1.5", "p = 3", "p = 4"],
)
def test_energies_come_close_to_the_classical_minimum(density, source, cells, width, low, high):
    """On a fine grid, whose multilinear functions have more energy than u, by O(h^2)."""
    grid = sb.Grid((cells, cells))
    classical = minimize_energy(VariationalProblem(grid, density, source))
    problem = VariationalProblem(Box([1.0, 1.0]), density, source)
    solution = random_feature_network(problem, width)
    assert low < (solution.energy - classical.energy) / abs(classical.energy) < high


def spots(x):
    """A source and a sink."""
    squares = [(x - centre).square().sum(-1) for centre in (0.3, 0.7)]
    return 100 * ((-50 * squares[0]).exp() - (-50 * squares[1]).exp())


HARD = [
    *((PLaplacian(q), 1.0) for q in (1.2, 1.5, 2.5, 4, 10)),
    *((QuadraticEnergy(reaction=10.0, power=m), 1.0) for m in (1.1, 1.5, 4)),
    *((ShearThinning(0.0, reaction=5.0, power=m), spots) for m in (1.1, 1.5)),
    (PLaplacian(4, reaction=2.0, power=1.2), spots),
    (EnergyDensity(lambda x, u, p: p.square().sum(-1).square() + u.square().square(), convex=True), spots),
]


@pytest.mark.parametrize("width", [10, 20])
@pytest.mark.parametrize(("density", "source"), HARD, ids=range(len(HARD)))
def test_no_quasi_newton_method_goes_lower(density, source, width):
    problem = VariationalProblem(Box([1.0, 1.0]), density, source)
    network = BarronNetwork(2, width, "tanh", dirichlet_sides="all", seed=3)
    with torch.no_grad():
        network.outer.zero_()
    energy, _, start = independent_functions(network, problem, gauss(problem.box, (16, 16)))
    c = energy.minimise(start)

    def both(z):
        at = torch.from_numpy(z)
        return energy.value(at), energy.gradient(at).numpy()

    other = scipy.optimize.minimize(both, c.numpy(), jac=True, method="BFGS", options={"gtol": 1e-12, "maxiter": 50})
    least = energy.value(c)
    assert least < 0
    assert least - other.fun < 1e-11 * -least  # Newton stops where a step promises 1e-13
    assert energy.residual(c) < 1e-6
    assert energy.residual(start) > 1e-3


def test_loads_that_no_network_carries_leave_a_gradient():
    """The area of a graph grows like the slope: beyond Cheeger's constant 3.77 loads pull it down without end."""
    problem = VariationalProblem(Box([1.0, 1.0]), MinimalSurface(), 50.0)
    network = BarronNetwork(2, 10, "tanh", dirichlet_sides="all", seed=3)
    energy, _, start = independent_functions(network, problem, gauss(problem.box, (16, 16)))
    assert energy.residual(energy.minimise(start)) > 0.1


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_points_lie_on_their_sides(dim):
    network = BarronNetwork(dim, 60, "tanh", lengths=2.0, origin=-0.5)
    held = tuple((axis, end) for axis in range(dim) for end in (0, 1))[1:]
    points = side_points(network, held)
    count = len(points) // len(held)
    assert len(points) <= 30
    assert len(points) == count * len(held)
    for (axis, end), face in zip(held, points.split(count)):
        torch.testing.assert_close(face[:, axis], torch.full((count,), -0.5 + 2.0 * end).double())
        assert bool(((face > -0.5) & (face < 1.5))[:, [i for i in range(dim) if i != axis]].all())


def test_the_minimum_with_constraints():
    """No network with the same neurons and the same values at the points has less energy."""
    problem = VariationalProblem(Box([1.0, 1.0]), ShearThinning(2.0, reaction=1.0), 5.0)
    network = BarronNetwork(2, 24, "tanh", seed=3)
    places = side_points(network, ((0, 0), (0, 1)))
    rule = gauss(problem.box, (10, 10))
    fit_with_constraints(network, problem, rule, places, 1 + places[:, 1])
    with torch.no_grad():
        torch.testing.assert_close(network(places), 1 + places[:, 1], rtol=0, atol=1e-9)
        least = energy_of(network, problem, rule)
        kernel = torch.linalg.svd(network.features(places))[2][len(places) :]  # changes that leave the values
        for row in kernel[:6]:
            for sign in (1, -1):
                network.outer += sign * 1e-2 * row
                assert energy_of(network, problem, rule) > least
                network.outer -= sign * 1e-2 * row
