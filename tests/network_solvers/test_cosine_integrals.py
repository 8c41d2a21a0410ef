"""Integrals of cosines in closed form against Gauss points."""

from __future__ import annotations

import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.network_solvers._cosine_integrals import cosine_products, cosine_squares, frequencies, series_load
from sciml_bounds.network_solvers._quadrature import gauss

BOX = sb.barron.Box([1.5, 0.5], [-0.3, 2.0])
MODES = torch.tensor([[0, 0], [1, 0], [1, -2], [3, 1], [0, 2], [2, 2]])


@pytest.fixture(scope="module")
def points():
    """Sixth order on 30 cells of waves with up to 6 half periods: errors of (6 pi / 30)^6 / 2e6, below 1e-7."""
    rule = gauss(BOX, (120, 120))
    s = rule.points - torch.tensor(BOX.origin, dtype=torch.float64)
    return rule, s @ frequencies(MODES, BOX).T


def test_products(points):
    rule, phases = points
    mass, stiffness = cosine_products(MODES, MODES[:4], BOX)
    w = frequencies(MODES, BOX)
    cosines, sines = phases.cos(), phases.sin()
    by_points = cosines.T @ (rule.weights[:, None] * cosines[:, :4])
    slopes = (w @ w[:4].T) * (sines.T @ (rule.weights[:, None] * sines[:, :4]))
    torch.testing.assert_close(mass, by_points, rtol=0, atol=1e-10)
    torch.testing.assert_close(stiffness, slopes, rtol=0, atol=1e-8)
    squares = cosine_squares(MODES[:4], BOX)
    torch.testing.assert_close(squares[0], mass[:4].diagonal(), rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(squares[1], stiffness[:4].diagonal(), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    "series",
    [
        sb.barron.BarronFunction.cosine([[0, 0], [1, 2], [2, 0]], [0.5, 1.0, -2.0], lengths=(1.5, 0.7)),
        sb.barron.BarronFunction.sine([[1, 2], [2, 1]], [1.0, -2.0], lengths=(1.5, 0.7)),
        sb.barron.BarronFunction.fourier([[0, 0], [1, -2], [2, 0]], [0.5, 1.0 + 2j, -2.0], periods=(1.1, 2.0)),
    ],
)
def test_loads_of_series(points, series):
    """Whose lengths need not be those of the box."""
    rule, phases = points
    by_points = phases.cos().T @ (rule.weights * series(rule.points))
    torch.testing.assert_close(series_load(series, MODES, BOX), by_points, rtol=0, atol=1e-9)


def test_products_in_ten_dimensions():
    """A cosine of k and its mirror images make a product of cosines, whose integrals are products."""
    box = sb.barron.Box([1.0] * 10)
    mirrored = torch.zeros(4, 10, dtype=torch.int64)
    mirrored[:, 0], mirrored[:, 4], mirrored[:, 7] = 1, torch.tensor([1, 1, -1, -1]), torch.tensor([2, -2, 2, -2])
    mass, stiffness = cosine_products(mirrored, mirrored, box)
    assert float(mass.mean()) == pytest.approx(1 / 8, rel=1e-13)
    assert float(stiffness.mean()) == pytest.approx(6 * torch.pi**2 / 8, rel=1e-13)
