"""General energy densities: derivatives by autograd, lengthened gradients, and invalid input."""

from __future__ import annotations

import math

import pytest
import torch
from refusals import refused

from sciml_bounds.problems.energy_density import MIN_RELATIVE_LENGTH, lengthened
from sciml_bounds.variational import EnergyDensity


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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EnergyDensity(3.0), "function (x, u, p)"),
        (lambda: EnergyDensity(plain, lower=2.0, upper=1.0), "0 <= lower <= upper"),
        (lambda: EnergyDensity(plain, lower=-1.0), "0 <= lower <= upper"),
        (lambda: EnergyDensity(plain, lower=math.nan), "lower nan finite"),
        (lambda: EnergyDensity(plain, upper=torch.ones(2)), "upper tensor([1., 1.]) positive"),
        (lambda: EnergyDensity(plain).frozen(None, None, None), "Kacanov dL/dp"),
        (lambda: EnergyDensity(lambda x, u, p: p).value(None, torch.zeros(3), torch.zeros(3, 2)),
         "shape (3, 2) (3,) one number"),
        (lambda: EnergyDensity(lambda x, u, p: 1.0).value(None, torch.zeros(3), torch.zeros(3, 2)),
         "float (3,) one number"),
    ],
)  # fmt: skip
def test_what_makes_no_density_is_refused(make, message):
    refused(message, make)
