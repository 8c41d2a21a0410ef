"""Spectral moments: their rules, bounds without limit, and functions on intervals by the waves behind them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.integrate
import torch

from sciml_bounds.barron._interval_moments import half_moments, linear_moments, parabola_moments, tanh_moments
from sciml_bounds.barron._moments import of_derivative, of_product, of_resolvent, of_sum, of_terms, within_band

F, NOTHING, ROUGH = (1.0, 2.0, 5.0, 14.0, 41.0), (0.0,) * 5, (1.0, 3.0, math.inf, math.inf, math.inf)


def test_moments_of_terms_are_sums_of_powers():
    """Of |w| = 5 with weight 2 and |w| = 0 with weight 1."""
    frequencies = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=torch.float64)
    assert of_terms(frequencies, torch.tensor([2.0, 1.0], dtype=torch.float64)) == (3, 10, 50, 250, 1250)


def test_products_follow_the_binomial_theorem():
    """Waves of |w| = 2 and 3 on one line have products up to |w| = 5: the bound of order k is 5^k."""
    two, three = tuple(2.0**k for k in range(5)), tuple(3.0**k for k in range(5))
    assert of_product(two, three) == tuple(5.0**k for k in range(5))


def test_nothing_times_what_has_no_bound_is_nothing():
    assert of_product(NOTHING, ROUGH) == NOTHING
    assert of_product(ROUGH, F)[:2] == (1, 2 + 3)
    assert of_sum(ROUGH, F)[2] == math.inf


def test_derivatives_take_the_better_of_band_and_moments():
    assert of_derivative(F, 2.5) == (2, 5, 12.5, 35, 102.5)
    assert of_derivative(F, math.inf) == (2, 5, 14, 41, math.inf)


def test_the_resolvent_gains_two_orders():
    assert of_resolvent(ROUGH) == (1, 0.5, 1, 3, math.inf)


@pytest.mark.parametrize(("band", "second"), [((0.6, 0.8), 3.0), ((6.0, 8.0), 30.0)])
def test_a_band_limit_bounds_all_moments(band, second):
    """m_2 <= |W| m_1, and m_1 <= |W| m_0."""
    found = within_band(ROUGH, band)
    assert found[1] == pytest.approx(min(3.0, math.hypot(*band)))
    assert found[2] == pytest.approx(min(second, math.hypot(*band) * found[1]))
    assert found[4] == pytest.approx(math.hypot(*band) ** 2 * found[2])


def tensor(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def summed(coefficients, frequencies):
    return np.abs(coefficients).sum(), (np.abs(coefficients) * frequencies).sum()


def test_the_wave_of_a_line():
    """4,000 terms of the series reproduce t and its two sums, up to tails of 1 / n^2 and 1 / n."""
    reach, m = 1.7, np.arange(1, 8001, 2)
    frequencies = np.pi * m / (4 * reach)
    slopes = (
        16 * np.sin(m * np.pi / 2) * np.sin(m * np.pi / 4) / (np.pi * m) ** 2
    )  # of the trapezium that is 1 on [-T, T]
    t = np.linspace(-reach, reach, 101)
    wave = np.sin(np.outer(t, frequencies)) @ (slopes / frequencies)
    np.testing.assert_allclose(wave, t, atol=1e-6)
    m0, m1 = linear_moments(tensor(reach))
    found = summed(slopes / frequencies, frequencies)
    assert float(m0) == pytest.approx(found[0], rel=1e-6)
    assert float(m1) == pytest.approx(found[1], rel=1e-3)


def test_the_wave_of_a_parabola():
    length, m = 0.7, np.arange(1, 4001, 2)
    coefficients = 32 / (np.pi * m) ** 3
    x = np.linspace(0, length, 101)
    wave = np.sin(np.outer(x, np.pi * m / length)) @ coefficients
    np.testing.assert_allclose(wave, 4 * x * (length - x) / length**2, atol=1e-6)
    found = summed(coefficients, np.pi * m / length)
    assert parabola_moments(length) == pytest.approx(found, rel=1e-3)
    assert half_moments(length) == pytest.approx((0.5 + float(linear_moments(tensor(0.5))[0]), np.sqrt(2) / length))


@pytest.mark.parametrize("reach", [0.01, 0.3, 1.0, 4.0, 30.0])
def test_tanh_is_what_its_two_parts_say(reach):
    """High waves by quadrature, low ones exactly: both parts are within the bounds, and make up the function."""
    m0, m1 = (float(m) for m in tanh_moments(tensor(reach)))
    low = min(np.arcsinh(1) / float(linear_moments(tensor(reach))[0]), 0.5)
    density = lambda z: 1 / np.sinh(np.pi * z / 2)  # noqa: E731
    tail = scipy.integrate.quad(density, low, 30)[0]
    slope_tail = scipy.integrate.quad(lambda z: z * density(z), 0, 30)[0]
    p, q = (float(m) for m in linear_moments(tensor(reach)))
    low0 = scipy.integrate.quad(lambda z: density(z) * np.sinh(z * p), 0, low)[0]
    low1 = scipy.integrate.quad(lambda z: density(z) * z * q * np.cosh(z * p), 0, low)[0]
    assert low0 + tail <= m0 <= low0 + tail + 0.3
    assert low1 + slope_tail * (1 - 1e-6) <= m1 + 1e-9 <= low1 + slope_tail + 0.3
    t = 0.8 * reach
    whole = scipy.integrate.quad(lambda z: density(z) * np.sin(z * t), 0, 30, limit=500)[0]
    assert whole == pytest.approx(np.tanh(t), abs=1e-8)
