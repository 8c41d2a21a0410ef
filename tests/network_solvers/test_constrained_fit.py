"""Points on sides, and minima with given values there."""

from __future__ import annotations

import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.barron._barron_network import BarronNetwork
from sciml_bounds.network_solvers._constrained_fit import fit_with_constraints, side_points
from sciml_bounds.network_solvers._quadrature import gauss
from sciml_bounds.network_solvers._trial_space import energy_of


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
    problem = sb.variational.VariationalProblem(
        sb.barron.Box([1.0, 1.0]), sb.variational.ShearThinning(2.0, reaction=1.0), 5.0
    )
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
