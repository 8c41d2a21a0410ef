"""Norms of two-layer networks, projections on balls of them, and products that vanish on sides."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import torch
from refusals import refused

import sciml_bounds as sb
from sciml_bounds.barron._box_distance import BoxDistance, checked_sides
from sciml_bounds.barron._norms import projected


def tensor(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(30))
def test_projection_is_the_closest_point(seed):
    """Against a general optimiser for a = p - n with p, n >= 0, which comes within 1e-7 of the least distance."""
    rng = np.random.default_rng(seed)
    a, w = rng.standard_normal(6), rng.uniform(0.2, 3, 6)
    bound = float(rng.uniform(0.1, 1.2) * (w @ np.abs(a)))
    found = projected(torch.as_tensor(a), torch.as_tensor(w), bound).numpy()
    assert w @ np.abs(found) <= bound * (1 + 1e-12)

    def distance(z):
        off = z[:6] - z[6:] - a
        return (off**2).sum(), 2 * np.concatenate([off, -off])

    within = {"type": "ineq", "fun": lambda z: bound - np.concatenate([w, w]) @ z}
    best = scipy.optimize.minimize(
        distance, np.full(12, 1e-3), jac=True, bounds=[(0, None)] * 12, constraints=within, method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )  # fmt: skip
    assert ((found - a) ** 2).sum() <= best.fun + 1e-7


def test_projection_on_the_origin_and_of_what_is_inside():
    a, w = tensor(1.0, -2.0), tensor(1.0, 1.0)
    assert projected(a, w, 0.0).tolist() == [0.0, 0.0]
    assert projected(a, w, 3.0).tolist() == [1.0, -2.0]
    assert projected(a, w, 2.0).tolist() == [0.5, -1.5]


def test_norms_of_products_with_the_distance_hold_its_slope():
    """One neuron that is 1 makes u the distance function itself; |u| + |u'| is never above a Barron norm."""
    network = sb.BarronNetwork.of([[0.0]], [0.0], [1.0], activation="cosine", dirichlet_sides="all")
    x = torch.linspace(0, 1, 101, dtype=torch.float64)[:, None]
    with torch.no_grad():
        largest = float(network(x).abs().max() + network.gradient(x).abs().max())
    assert largest <= network.barron_norm <= 2 * largest


def test_values_by_hand():
    distance = BoxDistance((1.0, 0.0, 5.0), (2.0, 4.0, 1.0), ((0, 0), (0, 1), (1, 1)))
    x = torch.tensor([1.5, 1.0, 5.3], dtype=torch.float64)
    value, slope, bend = distance.jet(x)
    assert float(value) == pytest.approx(4 * 0.25 * 0.75 * 0.75)
    assert slope.tolist() == pytest.approx([4 * (0.5 / 2) * 0.75, 4 * 0.25 * 0.75 * -0.25, 0.0])
    assert float(bend) == pytest.approx(-8 / 4 * 0.75)


def test_derivatives_against_automatic_ones_also_on_sides():
    distance = BoxDistance((0.0,) * 4, (1.0, 2.0, 0.5, 1.0), checked_sides("all", 4))
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((20, 4), generator=generator, dtype=torch.float64)
    x[0, 0] = x[1, 1] = x[2, :] = 0.0
    x.requires_grad_()
    value, slope, bend = distance.jet(x)
    (gradient,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    torch.testing.assert_close(slope, gradient, rtol=0, atol=1e-13)
    laplacian = sum(torch.autograd.grad(gradient[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(4))
    torch.testing.assert_close(bend, laplacian, rtol=0, atol=1e-12)


def test_one_side_by_itself_is_told_how_to_be_given():
    words = "dirichlet_sides (0, 1) single side list [(0, 1)]"
    refused(words, checked_sides, (0, 1), 2)
    assert checked_sides([(1, 0), [0, 1], (1, 0)], 2) == ((0, 1), (1, 0))


@pytest.mark.parametrize("held", ["some", [(0, 2)], [(3, 0)], [0], 1])
def test_bad_sides_are_one_sentence(held):
    with pytest.raises(sb.InputError, match="dirichlet_sides"):
        checked_sides(held, 3)
