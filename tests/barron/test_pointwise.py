"""Values under sums, products and derivatives: the same as those of numpy, and series wherever they can be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.barron import _pointwise as pointwise
from sciml_bounds.barron._series import FourierSeries, ProductSeries

B = sb.barron.BarronFunction
X = torch.rand((40, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64)

#: One value of each kind, and another one of the same.
KINDS = {
    "Fourier": (B.fourier([[1, 2], [0, 0]], [1.0 + 2j, 0.5]), B.fourier([[1, 2], [3, 0]], [2.0, 1j])),
    "cosine": (B.cosine([[1, 2], [0, 0]], [1.0, 0.5]), B.cosine([[0, 2], [1, 2]], [2.0, 1.0])),
    "sine": (B.sine([[1, 2]], [1.0]), B.sine([[1, 2], [2, 1]], [2.0, 1.0])),
    "other": (B.gaussian([0.2, 0.3], 0.5), B.gaussian([0.5, 0.1], 0.7)),
}
PAIRS = [(a, b) for a in KINDS for b in KINDS]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_sums_and_products_have_the_values_of_numpy(first, second):
    f, g = KINDS[first][0].value, KINDS[second][1].value
    np.testing.assert_allclose(pointwise.added(f, g)(X), f(X).numpy() + g(X).numpy(), rtol=0, atol=1e-14)
    np.testing.assert_allclose(pointwise.multiplied(f, g)(X), f(X).numpy() * g(X).numpy(), rtol=0, atol=1e-13)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_series_stay_series_where_they_can(first, second):
    f, g = KINDS[first][0].value, KINDS[second][1].value
    kind = {"Fourier": FourierSeries, "cosine": ProductSeries, "sine": ProductSeries}.get(first)
    alike = first == second and kind is not None
    assert isinstance(pointwise.added(f, g), FourierSeries | ProductSeries) == alike
    assert isinstance(pointwise.multiplied(f, g), FourierSeries | ProductSeries) == (alike and first == "Fourier")
    assert not alike or isinstance(pointwise.added(f, g), kind)


def test_series_of_other_boxes_are_added_point_by_point():
    for make, sides in ((B.fourier, "periods"), (B.cosine, "lengths"), (B.sine, "lengths")):
        f, g = make([[1, 1]], [1.0]).value, make([[1, 1]], [1.0], **{sides: 2.0}).value
        total = pointwise.added(f, g)
        assert not isinstance(total, FourierSeries | ProductSeries)
        torch.testing.assert_close(total(X), f(X) + g(X))


@pytest.mark.parametrize("kind", KINDS)
def test_multiples_constants_and_slopes(kind):
    """Slopes against central differences: h^2 times a third derivative over 6 is below 1e-6 for h = 1e-5."""
    f = KINDS[kind][0].value
    np.testing.assert_allclose(pointwise.scaled(f, -2.5)(X), -2.5 * f(X).numpy(), rtol=1e-13, atol=1e-14)
    assert isinstance(pointwise.scaled(f, -2.5), type(f)) or kind == "other"
    np.testing.assert_array_equal(pointwise.constant(f, 3.0)(X), np.full(40, 3.0))
    h = torch.tensor([0.0, 1e-5], dtype=torch.float64)
    np.testing.assert_allclose(pointwise.derivative(f, 1)(X), (f(X + h) - f(X - h)) / 2e-5, rtol=0, atol=1e-6)
    assert pointwise.mean(f) == (0.5 if kind in ("Fourier", "cosine") else 0.0)
