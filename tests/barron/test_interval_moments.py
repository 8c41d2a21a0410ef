"""Spectral moments of functions on intervals: the waves behind them written out."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.integrate
import torch

from sciml_bounds.barron._interval_moments import half_moments, linear_moments, parabola_moments, tanh_moments


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
