"""Integrals over boxes: polynomials are exact, and cells are those of the data."""

from __future__ import annotations

import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.barron.quadrature import gauss, quadrature_of, sobol


@pytest.mark.parametrize(("dim", "degree"), [(1, 7), (2, 5), (3, 3)])
def test_gauss_points_integrate_polynomials_exactly(dim, degree):
    box = sb.Box([1.5, 2.0, 0.5][:dim], [-1.0, 0.5, 2.0][:dim])
    rule = gauss(box, (2, 3, 1)[:dim])
    exact = 1.0
    for a, length in zip(box.origin, box.lengths):
        exact *= ((a + length) ** (degree + 1) - a ** (degree + 1)) / (degree + 1)
    assert float(rule.weights @ rule.points.prod(-1) ** degree) == pytest.approx(exact, rel=1e-13)


def test_cells_divide_those_of_the_grid():
    """So that a coefficient that jumps between cells is integrated exactly."""
    grid = sb.Grid((5, 7), lengths=(1.0, 2.0))
    a = torch.rand(5, 7, dtype=torch.float64) + 1
    problem = sb.VariationalProblem(grid, sb.QuadraticEnergy(a), 1.0)
    rule = quadrature_of(problem)
    assert rule.cells[0] % 5 == 0
    assert rule.cells[1] % 7 == 0
    exact = float(a.sum()) * 2 / 35
    assert float(rule.weights @ problem.coefficient_at(rule.points)) == pytest.approx(exact, rel=1e-12)
    assert quadrature_of(problem, fineness=2).cells == (2 * rule.cells[0], 2 * rule.cells[1])


def test_samples_above_three_dimensions():
    problem = sb.VariationalProblem(sb.Box([2.0] * 5), sb.QuadraticEnergy(), 1.0)
    rule = quadrature_of(problem, seed=3)
    assert rule.points.shape == (2**13, 5)
    assert rule.cells == ()
    assert float(rule.weights.sum()) == pytest.approx(32.0, rel=1e-12)
    # scrambled nets integrate linear functions with an error far below the 1 / sqrt(N) of random points
    assert float(rule.weights @ rule.points.sum(-1)) == pytest.approx(5 * 32.0, rel=1e-3)
    assert torch.equal(rule.points, sobol(problem.box, 2**13, 3).points)


def test_after_the_largest_seed_comes_the_first():
    """Solvers measure energies by the points of the next seed."""
    box = sb.Box([1.0] * 4)
    assert torch.equal(sobol(box, 8, 2**64).points, sobol(box, 8, 0).points)
