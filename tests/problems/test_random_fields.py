from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.fft

from sciml_bounds.problems.random_fields import cosine_field, torus_field

SHAPES = [(7,), (5, 4), (4, 5), (6, 6), (2, 4, 3)]
CASES = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
PARAMETERS = {"tau": 3.0, "alpha": 2.0}
FIELDS = pytest.mark.parametrize("field", [cosine_field, torus_field], ids=["cosine", "torus"])


class UnitVector:
    """In place of a generator: all numbers are zero but one."""

    def __init__(self, place: int) -> None:
        self.place = place

    def standard_normal(self, size):
        numbers = np.zeros(size)
        numbers.reshape(-1)[self.place] = 1.0
        return numbers


def sources(count, seed=0):
    return [np.random.default_rng([seed, i]) for i in range(count)]


def covariance(field, shape, drawn):
    """The covariance matrix of the field: it is linear in the numbers drawn, which are independent."""
    columns = field([UnitVector(i) for i in range(drawn)], shape, **PARAMETERS).reshape(drawn, -1)
    return columns.T @ columns


def eigenvalue(laplace, dim, tau, alpha):
    """Of tau^(2 alpha - d) (-Laplace + tau^2)^(-alpha)."""
    return tau ** (2 * alpha - dim) * (laplace + tau**2) ** -alpha


@CASES
def test_cosine_fields_have_the_covariance_of_their_definition(shape):
    """Eigenfunctions are products of 1 and sqrt(2) cos(k pi x); the grid takes as many as it has cells."""
    dim = len(shape)
    points = np.stack([g.ravel() for g in np.meshgrid(*[(np.arange(n) + 0.5) / n for n in shape], indexing="ij")])
    expected = np.zeros((points.shape[1],) * 2)
    for k in itertools.product(*map(range, shape)):
        if any(k):
            phi = np.prod([np.sqrt(2) ** (q > 0) * np.cos(q * np.pi * x) for q, x in zip(k, points)], axis=0)
            expected += eigenvalue(np.pi**2 * np.dot(k, k), dim, **PARAMETERS) * np.outer(phi, phi)
    found = covariance(cosine_field, shape, max(shape) ** dim)
    np.testing.assert_allclose(found, expected, atol=1e-13 * expected.max())


def test_cosine_fields_follow_the_published_code():
    """Item by item: L = s tau^(alpha - 1) (pi^2 (k1^2 + k2^2) + tau^2)^(-alpha / 2) xi, then the inverse transform."""
    s, tau, alpha = 8, 5.0, 2.0
    field = cosine_field(sources(1), (s, s), tau=tau, alpha=alpha)[0]
    series = scipy.fft.dctn(field, norm="ortho")
    k = np.arange(s)
    scale = s * tau ** (alpha - 1) * (np.pi**2 * (k[:, None] ** 2 + k**2) + tau**2) ** (-alpha / 2)
    xi = series / scale
    assert abs(xi[0, 0]) < 1e-12
    drawn = sources(1)[0].standard_normal(s * s)
    np.testing.assert_allclose(np.sort(xi.ravel()[1:]), np.sort(drawn[1:]), rtol=1e-9)


@CASES
def test_torus_fields_have_the_covariance_of_their_definition(shape):
    """C(x, y) is the sum of eigenvalue times cos(2 pi k (x - y)) over all k below half the sampling frequency."""
    dim = len(shape)
    points = np.stack([g.ravel() for g in np.meshgrid(*[np.arange(n) / n for n in shape], indexing="ij")])
    expected = np.zeros((points.shape[1],) * 2)
    for k in itertools.product(*[range(-((n - 1) // 2), (n - 1) // 2 + 1) for n in shape]):
        if any(k):
            phase = 2 * np.pi * np.asarray(k) @ points
            value = eigenvalue(4 * np.pi**2 * np.dot(k, k), dim, **PARAMETERS)
            expected += value * np.cos(phase[:, None] - phase)
    drawn = 2 * (2 * ((max(shape) - 1) // 2) + 1) ** dim
    found = covariance(torus_field, shape, drawn)
    np.testing.assert_allclose(found, expected, atol=1e-13 * expected.max())


def test_the_initial_vorticity_is_as_large_as_in_the_published_code():
    """Covariance 7^3 (-Laplace + 49)^-2.5: a standard deviation of 0.186, where the paper's text would give 0.043."""
    n, count = 32, 400
    k = np.arange(-15, 16)
    laplace = 4 * np.pi**2 * (k[:, None] ** 2 + k**2)
    values = np.where(laplace > 0, 7.0**3 * (laplace + 49) ** -2.5, 0.0)
    assert np.sqrt(values.sum()) == pytest.approx(0.186, abs=1e-3)
    fields = torus_field(sources(count), (n, n), tau=7.0, alpha=2.5)
    # the mean square of a field is a sum of squares of normal numbers: its variance is 2 sum(eigenvalue^2)
    five_sigma = 5 * np.sqrt(2 * (values**2).sum() / count)
    assert np.mean(fields**2) == pytest.approx(values.sum(), abs=five_sigma)
    assert 0.45 < np.abs(fields).max((1, 2)).mean() < 0.52


@pytest.mark.parametrize(("coarse", "fine"), [((8, 8), (20, 20)), ((5, 5), (6, 6)), ((6, 8), (16, 16))])
def test_a_finer_grid_continues_the_cosine_series(coarse, fine):
    if coarse[0] != coarse[1]:  # the cube of the longest axis is what is drawn
        low = cosine_field(sources(1), (8, 8), **PARAMETERS)[0]
        few = scipy.fft.dctn(cosine_field(sources(1), coarse, **PARAMETERS)[0], norm="ortho") / np.sqrt(48)
        np.testing.assert_allclose(few, scipy.fft.dctn(low, norm="ortho")[:6, :8] / 8, atol=1e-14)
    series = [
        scipy.fft.dctn(cosine_field(sources(1), shape, **PARAMETERS)[0], norm="ortho") / np.sqrt(np.prod(shape))
        for shape in (coarse, fine)
    ]
    np.testing.assert_allclose(series[0], series[1][: coarse[0], : coarse[1]], atol=1e-14)


@pytest.mark.parametrize(("coarse", "fine"), [(8, 16), (7, 32), (64, 256)])
def test_a_finer_grid_continues_the_fourier_series(coarse, fine):
    low, high = (
        np.fft.fftshift(np.fft.fft2(torus_field(sources(1), (n, n), tau=7.0, alpha=2.5)[0], norm="forward"))
        for n in (coarse, fine)
    )
    m = (coarse - 1) // 2
    window = [slice(n // 2 - m, n // 2 + m + 1) for n in (coarse, fine)]
    np.testing.assert_allclose(low[window[0], window[0]], high[window[1], window[1]], atol=1e-15)


@FIELDS
def test_a_field_depends_on_its_own_source_alone(field):
    together = field(sources(3), (6, 5), **PARAMETERS)
    alone = [field([source], (6, 5), **PARAMETERS)[0] for source in sources(3)]
    np.testing.assert_array_equal(together, alone)
    assert np.abs(together[0] - together[1]).max() > 0.01
