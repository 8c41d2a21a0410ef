"""Random trigonometric polynomials, and their moments by numpy alone: dense values and their Fourier transform."""

from __future__ import annotations

import numpy as np

import sciml_bounds as sb

#: Points of a lattice along each axis: products of up to five functions with modes up to 3 are resolved.
POINTS = 32
#: The largest mode of each axis.
LARGEST = 3


class RandomSeries:
    """sum_j a_j cos(w_j . x + t_j) in one or two dimensions, with coefficients of very different size."""

    def __init__(self, rng, periods):
        self.dim, self.periods = len(periods), np.asarray(periods)
        terms = int(rng.integers(1, 6))
        self.modes = rng.integers(-LARGEST, LARGEST + 1, (terms, self.dim))
        self.amplitudes = rng.standard_normal(terms) * 10.0 ** rng.uniform(-2, 1)
        self.phases = rng.uniform(0, 2 * np.pi, terms)

    @property
    def function(self):
        return sb.barron.BarronFunction.fourier(
            self.modes, self.amplitudes * np.exp(1j * self.phases), tuple(map(float, self.periods))
        )

    def values(self, x):
        angles = x @ (2 * np.pi * self.modes / self.periods).T
        return np.cos(angles + self.phases) @ self.amplitudes


def random_periods(rng):
    return tuple(rng.uniform(0.5, 10, int(rng.integers(1, 3))))


def lattice(periods):
    axes = [np.arange(POINTS) * period / POINTS for period in periods]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1)


def frequencies(periods):
    axes = [2 * np.pi * np.fft.fftfreq(POINTS, 1 / POINTS) / period for period in periods]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1)


def moments(values, periods):
    """Exact for trigonometric polynomials that the lattice resolves, up to round-off."""
    size = np.sqrt((frequencies(periods) ** 2).sum(-1))
    found = np.abs(np.fft.fftn(values, norm="forward"))
    return np.array([(size**k * found).sum() for k in range(5)])


def slack(values, periods):
    """Round-off of transform and sum: some eps of the largest value at each of the frequencies."""
    size = np.sqrt((frequencies(periods) ** 2).sum(-1))
    return np.array([1e-15 * np.abs(values).max() * (size**k).sum() for k in range(5)])
