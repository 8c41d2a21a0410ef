"""Activations: derivatives against each other, and bounds of the fourth against dense samples."""

from __future__ import annotations

import pytest
import torch
from refusals import refused

from sciml_bounds.barron._activations import Activation, checked_activation

SMOOTH = [Activation("cosine"), Activation("tanh"), Activation("sigmoid"), Activation("relu", 5)]
ALL = [*SMOOTH, Activation("relu"), Activation("relu", 2), Activation("relu", 3)]


@pytest.mark.parametrize("s", ALL, ids=str)
def test_each_derivative_is_that_of_the_one_before(s):
    t = torch.linspace(-3.01, 2.97, 201, dtype=torch.float64, requires_grad=True)
    for order in range(s.smoothness):
        (slope,) = torch.autograd.grad(s(t, order).sum(), t)
        torch.testing.assert_close(slope, s(t, order + 1).detach(), rtol=1e-13, atol=1e-13)


def test_values():
    t = torch.tensor([-1.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(Activation("sigmoid")(t), t.sigmoid())
    torch.testing.assert_close(Activation("relu", 2)(t), torch.tensor([0.0, 0.25], dtype=torch.float64))
    torch.testing.assert_close(Activation("step")(t), torch.tensor([0.0, 1.0], dtype=torch.float64))


@pytest.mark.parametrize("s", SMOOTH, ids=str)
def test_the_fourth_derivative_is_bounded_and_the_bound_attained(s):
    """On 4,000 random intervals, 401 samples each: they miss a maximum by at most half a spacing times the slope."""
    generator = torch.Generator().manual_seed(0)
    t = 12 * torch.rand(4000, generator=generator, dtype=torch.float64) - 6
    radius = 10 ** (3 * torch.rand(4000, generator=generator, dtype=torch.float64) - 2.5)
    bound = s.largest_fourth(t, radius)
    samples = t[:, None] + radius[:, None] * torch.linspace(-1, 1, 401, dtype=torch.float64)
    found = s(samples, 4).abs().amax(1)
    assert bool((found <= bound * (1 + 1e-12) + 1e-13).all())
    spacing = radius / 400
    slope = {"cosine": 1.0, "tanh": 17.0, "sigmoid": 1.0, "relu": 120.0}[s.name]  # above the largest fifth derivative
    assert bool((bound - found <= slope * spacing + 1e-13).all())


def test_bad_input_is_one_sentence():
    refused("activation 'swish' 'cosine' 'relu'", checked_activation, "swish", 1)
    refused("activation='relu' powers", checked_activation, "tanh", 2)
    refused("power 0", checked_activation, "relu", 0)
