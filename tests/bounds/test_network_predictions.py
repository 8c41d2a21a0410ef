"""Predictions of networks that know nothing of this package, and the guesses that solves start from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from own_networks import CNN
from refusals import refusals
from torch import nn

import sciml_bounds as sb
from sciml_bounds.bounds._network_predictions import predict

RNG = np.random.default_rng(0)
PROBLEM = sb.Diffusion(sb.Grid((6, 5)), coefficient=RNG.uniform(1, 2, (3, 6, 5)), source=RNG.random((6, 5)))


class Shaped(nn.Module):
    """Means of the channels, in any shape."""

    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def forward(self, x):
        return x.flatten(1).mean(1).view(-1, *(1,) * (len(self.shape) + 1)).expand(-1, 1, *self.shape)


def test_the_network_sees_the_coefficient_and_the_boundary_is_imposed():
    torch.manual_seed(0)
    net = CNN().train()
    values = predict(net, PROBLEM)
    with torch.no_grad():
        expected = net(PROBLEM.coefficient[0].float().unsqueeze(1))[:, 0].double()
    torch.testing.assert_close(values[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1])
    assert values.dtype == torch.float64
    assert not values[:, 0].any()
    assert net.training


def test_fields_are_channels_in_their_order():
    net = CNN(channels=2)
    net.fields = ("source", "coefficient")
    own = predict(net, PROBLEM)
    assert torch.equal(own, predict(net, PROBLEM, fields=("source", "coefficient")))
    assert not torch.equal(own, predict(net, PROBLEM, fields=("coefficient", "source")))


@pytest.mark.parametrize("layout", ["nodes", "interior", "cells"])
def test_values_of_every_layout_become_nodal(layout):
    shape = {"nodes": (7, 6), "interior": (5, 4), "cells": (6, 5)}[layout]
    values = predict(Shaped(*shape), PROBLEM)
    means = PROBLEM.coefficient[0].mean((1, 2))
    assert values.shape == (3, 7, 6)
    torch.testing.assert_close(values[:, 1:-1, 1:-1], means.view(3, 1, 1).expand(3, 5, 4), rtol=1e-6, atol=0)
    assert bool((sb.certify(PROBLEM, values).upper > 0).all())


def test_solids_are_a_channel():
    solid = torch.zeros(6, 5, dtype=torch.bool)
    solid[2, 2] = True
    seen = []
    net = Shaped(7, 6)
    net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    predict(net, PROBLEM.replace(solid=solid), fields=["solid"])
    predict(net, PROBLEM, fields=["solid"])
    assert torch.equal(seen[0][1, 0], solid.float())
    assert not seen[1].any()


def test_a_solve_starts_from_any_network():
    """A network that is close to the solution saves iterations; the answer does not depend on it."""
    problem = sb.Diffusion(sb.Grid((32, 32)), coefficient=RNG.uniform(1, 9, (32, 32)), source=1.0)
    exact = sb.solve(problem, method="direct")

    class Memory(nn.Module):
        def forward(self, x):
            return exact.values.float()[None, None].expand(len(x), -1, -1, -1)

    started, plain = (sb.solve(problem, method="multigrid", x0=x0) for x0 in (Memory(), None))
    torch.testing.assert_close(started.values, exact.values, rtol=1e-5, atol=1e-9)
    assert int(started.iterations) < int(plain.iterations)
    poor = sb.solve(problem, method="multigrid", x0=CNN())
    torch.testing.assert_close(poor.values, exact.values, rtol=1e-5, atol=1e-8)


test_refusals = refusals(
    ("fields pressure coefficient", lambda: predict(CNN(), PROBLEM, fields=["pressure"])),
    ("CNN (3, 2, 6, 5) fields", lambda: predict(CNN(), PROBLEM, fields=["coefficient", "source"])),
    ("Flatten (3, 30) one channel", lambda: predict(nn.Flatten(), PROBLEM)),
    ("(4, 4) nodes (7, 6) interior (5, 4) cells (6, 5)", lambda: predict(Shaped(4, 4), PROBLEM)),
    ("axes", lambda: predict(CNN(), PROBLEM.replace(coefficient=(1.0, 2.0)))),
    ("LearnedDirections directions", lambda: predict(sb.LearnedDirections(dim=2, channels=4), PROBLEM)),
)  # fmt: skip
