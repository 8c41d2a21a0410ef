"""Dimensions of spans: known ranks, published figures, and lower bounds that least squares does not get below."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from refusals import refusals

import sciml_bounds as sb
from sciml_bounds.barron._capacity import band_limited_error

B = sb.barron.BarronFunction


def tanh_features(width, bound, seed=0):
    rng = np.random.default_rng(seed)
    w, b = rng.uniform(-bound, bound, (2, width))
    x = np.linspace(-1, 1, 1500)
    return x, np.tanh(np.outer(x, w) + b)


@pytest.mark.parametrize(("bound", "width", "tol", "expected"), [
    (1.0, 300, 1e-12, 18), (1.0, 1200, 1e-12, 18), (1.0, 300, 1e-6, 9), (5.0, 1200, 1e-12, 58),
])  # fmt: skip
def test_figures_of_tanh_in_one_dimension(bound, width, tol, expected):
    """On [-1, 1]: weights up to 1 never give more than 18 dimensions."""
    found = sb.barron.capacity(tanh_features(width, bound)[1], tol)
    assert found.dimension == expected
    assert found.width == width


def test_known_ranks():
    """20 cosines and 20 sines of a frequency are two functions; all monomials up to 4 are five."""
    x = torch.linspace(0, 1, 200, dtype=torch.float64)[:, None]
    phases = torch.linspace(0, 3, 20, dtype=torch.float64)
    network = sb.BarronNetwork.of(np.full((20, 1), 7.0), phases, np.ones(20))
    assert sb.barron.capacity(network.features(x)).dimension == 2
    cubes = sb.BarronNetwork.of(np.ones((9, 1)), np.arange(1.0, 10), np.ones(9), activation="relu", power=4)
    assert sb.barron.capacity(cubes.features(x), 1e-13).dimension == 5


@pytest.mark.parametrize("tol", [1e-3, 1e-6, 1e-12])
@pytest.mark.parametrize("frequency", [12, 30])
@pytest.mark.parametrize("outer_norm", [1.0, 1e3, 1e6])
def test_no_weights_are_better_than_the_bound(outer_norm, frequency, tol):
    """The best weights of a bounded norm by ridge regression, its parameter found by bisection.

    The bound does not depend on tol: it is the best over all cuts, and more than half of what is possible.
    """
    x, features = tanh_features(40, 1.0)
    target = np.sin(frequency * x)
    bound = sb.barron.capacity(features, tol).error_bound(target, outer_norm)
    U, s, Vt = np.linalg.svd(features, full_matrices=False)
    f = U.T @ target
    low, high = 1e-18, 1e6
    for _ in range(200):
        ridge = math.sqrt(low * high)
        a = Vt.T @ (s * f / (s**2 + ridge))
        low, high = (ridge, high) if np.linalg.norm(a) > outer_norm else (low, ridge)
    best = np.sqrt(np.mean((features @ a - target) ** 2))
    assert np.linalg.norm(a) <= outer_norm * (1 + 1e-6)
    assert 0.5 * best <= bound <= best


def test_the_bound_is_the_distance_where_nothing_is_left_out():
    rng = np.random.default_rng(0)
    features, target = rng.standard_normal((50, 4)), rng.standard_normal(50)
    residual = target - features @ np.linalg.lstsq(features, target)[0]
    found = sb.barron.capacity(features)
    assert found.dimension == 4
    assert found.error_bound(target) == pytest.approx(np.sqrt(np.mean(residual**2)))
    x, many = tanh_features(60, 1.0)
    assert sb.barron.capacity(many).error_bound(np.sign(x)) == 0.0


@pytest.mark.parametrize("points", [4, 400])
def test_the_bound_is_attained_by_the_next_singular_vector(points):
    """Features of singular values 1 and 1e-3; of the second vector with rms 1, weights of norm 100 give 100 / 1000."""
    q = np.linalg.qr(np.random.default_rng(0).standard_normal((points, 3)))[0] * np.sqrt(points)
    found = sb.barron.capacity(q @ np.diag([1.0, 1e-3, 1e-5]), 0.01)
    assert found.dimension == 1
    np.testing.assert_allclose(found.singular_values, [1.0, 1e-3, 1e-5], rtol=1e-10)
    assert found.error_bound(5 * q[:, 0] + q[:, 1], 100.0) == pytest.approx(0.9, rel=1e-9)


def test_distance_to_waves_of_a_band():
    """Against quadrature on a fine lattice."""
    n = 64
    x = (np.arange(n) + 0.5) / n
    points = np.stack(np.meshgrid(1.5 * x, 0.5 * x, indexing="ij"), -1)
    f = B.cosine([[1, 0], [2, 1], [0, 3]], [1.0, 2.0, -0.5], lengths=(1.5, 0.5))
    beyond = B.cosine([[2, 1], [0, 3]], [2.0, -0.5], lengths=(1.5, 0.5))
    R = math.pi / 1.5
    assert band_limited_error(f, R) == pytest.approx(math.sqrt(0.75 * float(beyond(points).square().mean())))
    assert band_limited_error(f, 100.0) == 0.0
    g = B.fourier([[1, 0], [2, 1]], [1j, 2.0], periods=(1.5, 0.5))
    rest = B.fourier([[2, 1]], [2.0], periods=(1.5, 0.5))
    assert band_limited_error(g, 5.0) == pytest.approx(math.sqrt(0.75 * float(rest(points).square().mean())))


def test_a_short_table():
    found = sb.barron.capacity(np.array([[1.0, 1.0], [1.0, 1.0]]))
    assert repr(found).splitlines()[:3] == [
        "Capacity",
        "  dimension               1 of 2 features",
        "  tol                     1e-12",
    ]


test_bad_input = refusals(
    ("tol 1e-18 number 1e-15", lambda: sb.barron.capacity(np.eye(3), 1e-18)),
    ("tol 2", lambda: sb.barron.capacity(np.eye(3), 2.0)),
    ("features shape (3,)", lambda: sb.barron.capacity(np.ones(3))),
    ("features 1 NaN", lambda: sb.barron.capacity(np.array([[1.0, np.nan]]))),
    ("features zero points", lambda: sb.barron.capacity(np.zeros((3, 2)))),
    ("target shape (2,) 3 points", lambda: sb.barron.capacity(np.eye(3)).error_bound(np.ones(2))),
    ("outer_norm nan", lambda: sb.barron.capacity(np.eye(3)).error_bound(np.ones(3), math.nan)),
    ("outer_norm 'a'", lambda: sb.barron.capacity(np.eye(3)).error_bound(np.ones(3), "a")),
    ("outer_norm -1.0", lambda: sb.barron.capacity(np.eye(3)).error_bound(np.ones(3), -1.0)),
    ("outer_norm array", lambda: sb.barron.capacity(np.eye(3)).error_bound(np.ones(3), np.ones(3))),
    ("target 1 NaN", lambda: sb.barron.capacity(np.eye(3)).error_bound(np.array([1.0, 2.0, np.nan]))),
    ("tol 'a'", lambda: sb.barron.capacity(np.eye(3), "a")),
    ("series", lambda: band_limited_error(B.gaussian([0.0], 1.0), 1.0)),
    ("largest -1", lambda: band_limited_error(B.cosine([[1]], [1.0]), -1.0)),
)
