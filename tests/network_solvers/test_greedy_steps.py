"""Greedy steps: projections against dense linear algebra, and the best ridge against all sums."""

from __future__ import annotations

import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.barron import Box
from sciml_bounds.barron._barron_network import BarronNetwork
from sciml_bounds.network_solvers._dictionaries import Ridges, half_circle, random_directions
from sciml_bounds.network_solvers._energy_projection import Projection
from sciml_bounds.network_solvers._quadrature import gauss
from sciml_bounds.network_solvers._trial_space import EnergySpace, feature_jets, jet_of
from sciml_bounds.variational import QuadraticEnergy, VariationalProblem


@pytest.fixture
def space():
    problem = VariationalProblem(
        Box([1.0, 2.0]),
        QuadraticEnergy(lambda x: 1 + x[..., 0], lambda x: 2 - x[..., 1] / 2),
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


@pytest.mark.parametrize("power", [1, 2, 3])
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_the_best_ridge_against_all_sums(power, dim):
    generator = torch.Generator().manual_seed(10 * dim + power)
    box = Box([1.0, 2.0, 0.5, 1.0, 1.0][:dim], [-0.5, 1.0, 0.0, 2.0, 0.0][:dim])
    points = box.points(torch.rand((200, dim), generator=generator, dtype=torch.float64))
    A, B = (torch.randn(200, *shape, generator=generator, dtype=torch.float64) for shape in ((), (dim,)))
    directions = torch.ones(1, 1).double() if dim == 1 else random_directions(9, dim, generator)
    kinks = 13
    found = Ridges(box, points, power, kinks).best(directions, A, B)

    corner, lengths = torch.tensor(box.origin).double(), torch.tensor(box.lengths).double()
    every = []
    for w in torch.cat([directions, -directions]):
        ends = w * corner + w.clamp_max(0) * lengths, w * corner + w.clamp_min(0) * lengths
        low, high = float(ends[0].sum()), float(ends[1].sum())
        for j in range(kinks + 1):
            bias = -(low + (high - low) * j / kinks)
            neuron = BarronNetwork.of(w[None], [bias], [1.0], activation="relu", power=power)
            with torch.no_grad():
                seen = A @ neuron(points) + (B * neuron.gradient(points)).sum()
            every.append((abs(float(seen)), float(seen), bias, w))
    _size, seen, bias, w = max(every, key=lambda entry: entry[0])
    # sums of 200 terms of size 10: round-off below 1e-12
    assert found.seen == pytest.approx(seen, abs=1e-12)
    assert found.bias == pytest.approx(bias, abs=1e-12)
    torch.testing.assert_close(found.weight, w)


def test_directions_have_length_one():
    for directions in (half_circle(7), random_directions(20, 4, torch.Generator().manual_seed(0))):
        torch.testing.assert_close(directions.square().sum(-1), torch.ones(len(directions)).double())
