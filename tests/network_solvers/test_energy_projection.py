"""Projections that grow function by function against dense linear algebra."""

from __future__ import annotations

import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.barron._barron_network import BarronNetwork
from sciml_bounds.network_solvers._energy_projection import Projection
from sciml_bounds.network_solvers._quadrature import gauss
from sciml_bounds.network_solvers._trial_space import EnergySpace, feature_jets, jet_of


@pytest.fixture
def space():
    problem = sb.variational.VariationalProblem(
        sb.barron.Box([1.0, 2.0]),
        sb.variational.QuadraticEnergy(lambda x: 1 + x[..., 0], lambda x: 2 - x[..., 1] / 2),
        lambda x: x.prod(-1).sin(),
        boundary=sb.Neumann(0.0),
    )
    return EnergySpace(problem, gauss(problem.box, (4, 6)))


def test_the_projection_solves_the_normal_equations(space):
    network = BarronNetwork(2, 8, "tanh", lengths=(1.0, 2.0), seed=1)
    lifting = BarronNetwork.of([[1.0, -2.0]], [0.3], [0.7])
    x = space.quadrature.points
    jets, start = feature_jets(network, x), jet_of(lifting, x)
    projection = Projection(space, start, 8)
    sizes = [projection.add(jets[..., i]) for i in range(8)]
    gram, load = space.product(jets, jets), space.load(jets) - space.product(jets, start[..., None])[:, 0]
    exact = torch.linalg.solve(gram, load)
    # coefficients differ by round-off times the condition number of the Gram matrix
    tolerance = 1e-14 * float(torch.linalg.cond(gram)) * float(exact.norm())
    torch.testing.assert_close(projection.coefficients(), exact, rtol=0, atol=tolerance)
    torch.testing.assert_close(projection.jet, start + jets @ exact, rtol=0, atol=tolerance)

    def energy(jet):
        return float(space.product(jet[..., None], jet[..., None]) / 2 - space.load(jet[..., None]))

    assert projection.energy == pytest.approx(energy(projection.jet), abs=1e-12)
    assert energy(start) - projection.energy == pytest.approx(sum(size**2 for size in sizes) / 2, abs=1e-12)


def test_what_is_not_new_is_left_out(space):
    network = BarronNetwork(2, 2, "tanh", lengths=(1.0, 2.0))
    jets = feature_jets(network, space.quadrature.points)
    projection = Projection(space, torch.zeros_like(jets[..., 0]), 4)
    assert projection.add(jets[..., 0]) is not None
    assert projection.add(jets[..., 1]) is not None
    before = projection.coefficients()
    assert projection.add(jets[..., 0] - 3 * jets[..., 1]) is None
    assert projection.add(torch.zeros_like(jets[..., 0])) is None
    torch.testing.assert_close(projection.coefficients(), before)
