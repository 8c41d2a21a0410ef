"""Integrals over boxes: exact polynomials, cells of the data, and cosines in closed form."""

from __future__ import annotations

import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.barron import BarronFunction, Box
from sciml_bounds.network_solvers._cosine_integrals import cosine_products, cosine_squares, frequencies, series_load
from sciml_bounds.network_solvers._quadrature import gauss, points_for, quadrature_of, sobol
from sciml_bounds.variational import QuadraticEnergy, VariationalProblem


@pytest.mark.parametrize(("dim", "degree"), [(1, 7), (2, 5), (3, 3)])
def test_gauss_points_integrate_polynomials_exactly(dim, degree):
    box = Box([1.5, 2.0, 0.5][:dim], [-1.0, 0.5, 2.0][:dim])
    rule = gauss(box, (2, 3, 1)[:dim])
    exact = 1.0
    for a, length in zip(box.origin, box.lengths):
        exact *= ((a + length) ** (degree + 1) - a ** (degree + 1)) / (degree + 1)
    assert float(rule.weights @ rule.points.prod(-1) ** degree) == pytest.approx(exact, rel=1e-13)


def test_cells_divide_those_of_the_grid():
    """So that a coefficient that jumps between cells is integrated exactly."""
    grid = sb.Grid((5, 7), lengths=(1.0, 2.0))
    a = torch.rand(5, 7, dtype=torch.float64) + 1
    problem = VariationalProblem(grid, QuadraticEnergy(a), 1.0)
    rule = quadrature_of(problem)
    assert rule.cells[0] % 5 == 0
    assert rule.cells[1] % 7 == 0
    exact = float(a.sum()) * 2 / 35
    assert float(rule.weights @ problem.coefficient_at(rule.points)) == pytest.approx(exact, rel=1e-12)
    finer = quadrature_of(problem, fineness=2)
    assert all(n % own == 0 for n, own in zip(finer.cells, grid.shape))
    assert len(finer.points) >= 4 * 96**2  # twice 96 points an axis


@pytest.mark.parametrize("dim", [1, 2, 3, 5])
@pytest.mark.parametrize("kinked", [False, True])
def test_there_are_at_least_so_many_points(dim, kinked):
    problem = VariationalProblem(Box([1.0] * dim), QuadraticEnergy(), 1.0)
    least = 20000 if dim > 1 else 3000
    rule = quadrature_of(problem, least=least, kinked=kinked)
    assert least <= len(rule.points) < 2 * least
    assert len(quadrature_of(problem, least=least, fineness=2, kinked=kinked).points) > 1.9 * len(rule.points)
    assert len(quadrature_of(problem, kinked=kinked).points) < least


def test_kinks_lie_between_more_cells():
    problem = VariationalProblem(Box([1.0, 1.0]), QuadraticEnergy(), 1.0)
    smooth, kinked = (quadrature_of(problem, kinked=choice) for choice in (False, True))
    assert smooth.cells == (8, 8)
    assert kinked.cells == (32, 32)
    assert len(smooth.points) == len(kinked.points)


@pytest.mark.parametrize("dim", [2, 3])
def test_fits_have_more_points_than_unknowns(dim):
    problem = VariationalProblem(Box([1.0] * dim), QuadraticEnergy(), 1.0)
    for width in (100, 2000):
        assert len(points_for(problem, sb.BarronNetwork(dim, width)).points) >= 8 * width


def test_samples_above_three_dimensions():
    problem = VariationalProblem(Box([2.0] * 5), QuadraticEnergy(), 1.0)
    rule = quadrature_of(problem, seed=3)
    assert rule.points.shape == (2**13, 5)
    assert rule.cells == ()
    assert float(rule.weights.sum()) == pytest.approx(32.0, rel=1e-12)
    # scrambled nets integrate linear functions with an error far below the 1 / sqrt(N) of random points
    assert float(rule.weights @ rule.points.sum(-1)) == pytest.approx(5 * 32.0, rel=1e-3)
    assert torch.equal(rule.points, sobol(problem.box, 2**13, 3).points)


def test_after_the_largest_seed_comes_the_first():
    """Solvers measure energies by the points of the next seed."""
    box = Box([1.0] * 4)
    assert torch.equal(sobol(box, 8, 2**64).points, sobol(box, 8, 0).points)


BOX = Box([1.5, 0.5], [-0.3, 2.0])
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
        BarronFunction.cosine([[0, 0], [1, 2], [2, 0]], [0.5, 1.0, -2.0], lengths=(1.5, 0.7)),
        BarronFunction.sine([[1, 2], [2, 1]], [1.0, -2.0], lengths=(1.5, 0.7)),
        BarronFunction.fourier([[0, 0], [1, -2], [2, 0]], [0.5, 1.0 + 2j, -2.0], periods=(1.1, 2.0)),
    ],
)
def test_loads_of_series(points, series):
    """Whose lengths need not be those of the box."""
    rule, phases = points
    by_points = phases.cos().T @ (rule.weights * series(rule.points))
    torch.testing.assert_close(series_load(series, MODES, BOX), by_points, rtol=0, atol=1e-9)


def test_products_in_ten_dimensions():
    """A cosine of k and its mirror images make a product of cosines, whose integrals are products."""
    box = Box([1.0] * 10)
    mirrored = torch.zeros(4, 10, dtype=torch.int64)
    mirrored[:, 0], mirrored[:, 4], mirrored[:, 7] = 1, torch.tensor([1, 1, -1, -1]), torch.tensor([2, -2, 2, -2])
    mass, stiffness = cosine_products(mirrored, mirrored, box)
    assert float(mass.mean()) == pytest.approx(1 / 8, rel=1e-13)
    assert float(stiffness.mean()) == pytest.approx(6 * torch.pi**2 / 8, rel=1e-13)
