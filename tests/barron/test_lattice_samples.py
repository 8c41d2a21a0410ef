"""Sampled fields: polynomials are found exactly, other functions are bounded where their decay is stated."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from random_series import RandomSeries, lattice, random_periods

import sciml_bounds as sb

RATIO = 0.6
MODES = np.arange(1, 400)


def kernel_of_poisson(x):
    """1 + 2 sum_k r^k cos(k x), whose coefficients are all known."""
    return (1 - RATIO**2) / (1 - 2 * RATIO * np.cos(x) + RATIO**2)


def exact_moment(order):
    return float((order == 0) + 2 * (MODES.astype(float) ** order * RATIO**MODES).sum())


def samples(n, shift=0.0):
    return kernel_of_poisson(2 * np.pi * np.arange(n) / n - shift)


def test_polynomials_that_the_lattice_resolves_are_found():
    rng = np.random.default_rng(0)
    for _ in range(100):
        periods = random_periods(rng)
        drawn = RandomSeries(rng, periods)
        found = sb.barron.BarronFunction.sampled(drawn.values(lattice(periods)), periods)
        np.testing.assert_allclose(found.moments[:2], drawn.function.moments[:2], rtol=1e-10, atol=1e-9)
        x = rng.uniform(-3, 3, (10, len(periods)))
        np.testing.assert_allclose(found(x), drawn.values(x), rtol=0, atol=1e-11)
        assert found.kind == (found * 2.0).kind == (1.0 + found.derivative(0)).kind == "estimate"


@pytest.mark.parametrize("n", [4, 5, 8, 13, 32, 64])
@pytest.mark.parametrize("order", [2, 4])
def test_stated_decay_makes_a_bound(n, order):
    """At every shift of the lattice; the interpolant differs by the part that is left out, twice, at most."""
    points = torch.linspace(0, 2 * np.pi, 200, dtype=torch.float64)[:, None]
    for shift in np.linspace(0, 2 * np.pi / n, 7):
        f = sb.barron.BarronFunction.sampled(samples(n, shift), 2 * np.pi, decay=(order, exact_moment(order)))
        assert f.kind == "bound"
        for k in range(order + 1):
            assert exact_moment(k) <= f.moments[k] * (1 + 1e-12)
        error = np.abs(f(points).numpy() - kernel_of_poisson(points[:, 0].numpy() - shift)).max()
        assert error <= 2 * exact_moment(order) / (n / 2) ** order + 1e-12


def test_fine_samples_leave_little_out():
    """At 64 points, with m_4: 2 m_4 / 32^3 = 0.03 is added to m_1 = 7.5."""
    f = sb.barron.BarronFunction.sampled(samples(64), 2 * np.pi, decay=(4, exact_moment(4)))
    assert f.moments[1] <= 1.03 * exact_moment(1)


def test_without_it_samples_may_see_too_little():
    """Which is why the word is estimate."""
    assert sb.barron.BarronFunction.sampled(samples(8), 2 * np.pi).norm < exact_moment(0) + exact_moment(1)
