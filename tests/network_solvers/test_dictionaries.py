"""The search for the best ridge against sums over all points, neuron by neuron."""

from __future__ import annotations

import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.barron._barron_network import BarronNetwork
from sciml_bounds.network_solvers._dictionaries import Ridges, half_circle, random_directions


@pytest.mark.parametrize("power", [1, 2, 3])
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_the_best_ridge_against_all_sums(power, dim):
    generator = torch.Generator().manual_seed(10 * dim + power)
    box = sb.barron.Box([1.0, 2.0, 0.5, 1.0, 1.0][:dim], [-0.5, 1.0, 0.0, 2.0, 0.0][:dim])
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
