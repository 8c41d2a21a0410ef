"""Norms of two-layer networks, and the projection on balls of them against an optimiser."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import torch

import sciml_bounds as sb
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
