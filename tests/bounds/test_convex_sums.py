"""Rules for convex functions against fine quadrature, and fluxes of cells against their definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.bounds._convex_sums import CellFlux, bernstein, bubbles_of, gauss, midpoints, simpson, trapezoid
from sciml_bounds.problems.elements import Elements

GRIDS = {1: sb.Grid(3, lengths=2.0), 2: sb.Grid((3, 2), lengths=(1.0, 0.5)), 3: sb.Grid((2, 2, 3))}


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(dim: int, *, bubbles: bool = True) -> CellFlux:
    grid = GRIDS[dim]
    faces = tuple(rand(*(n + (a == axis) for a, n in enumerate(grid.shape)), seed=axis) for axis in range(dim))
    nodal = 5 * rand(*(n + 1 for n in grid.shape), seed=7)
    return CellFlux(grid, faces, bubbles_of(nodal, dim) if bubbles else {})


@pytest.mark.parametrize("rule", [trapezoid, midpoints, gauss, bernstein])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_rules_integrate_linear_functions(rule, count):
    points, weights = np.array(rule(count)).T
    assert weights.sum() == pytest.approx(1)
    assert weights @ points == pytest.approx(0.5)
    assert ((points >= 0) & (points <= 1) & (weights > 0)).all()


def test_simpsons_rule_integrates_cubics():
    points, weights = np.array(simpson()).T
    for power in range(4):
        assert weights @ points**power == pytest.approx(1 / (power + 1))


@pytest.mark.parametrize("dim", GRIDS)
def test_the_divergence_is_that_of_the_flux(dim):
    """By central differences inside cells, which are exact for polynomials of degree two."""
    flux, h = made(dim), 1e-3
    inside = 0.1 + 0.8 * torch.rand(20, dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    total = torch.zeros(20, *flux.grid.shape, dtype=torch.float64)
    for axis, spacing in enumerate(flux.grid.spacing):
        step = h * torch.eye(dim, dtype=torch.float64)[axis]
        total += (flux.at(inside + step) - flux.at(inside - step))[..., axis] / (2 * h * spacing)
    source = rand(*flux.grid.shape, seed=3)
    torch.testing.assert_close(total + source, flux.dual_at(inside, source), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dim", GRIDS)
def test_normal_components_on_faces_are_those_that_are_given(dim):
    flux = made(dim)
    points = torch.rand(9, dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for axis, face in enumerate(flux.faces):
        for end in (0, 1):
            on_face = points.clone()
            on_face[:, axis] = end
            given = face.narrow(axis, end, flux.grid.shape[axis])
            torch.testing.assert_close(flux.at(on_face)[..., axis], given.expand(9, *given.shape))


@pytest.mark.parametrize("dim", GRIDS)
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("bubbles", [True, False])
@pytest.mark.parametrize("power", [1.0, 1.5, 2.0, 4.0])
def test_rules_bound_convex_functions_of_fluxes_from_above(dim, count, bubbles, power):
    """|y|^p over every cell: above Gauss with 8 sub-intervals, and at most O(N^-2) above it."""
    flux = made(dim, bubbles=bubbles)

    def integral(rule: tuple, of_rule: int) -> torch.Tensor:
        elements = Elements(flux.grid, rule)
        values = torch.linalg.vector_norm(flux.at(elements.points, of_rule), dim=-1) ** power
        return torch.tensordot(elements.weights, values, 1)

    nearly = integral(gauss(8 if dim < 3 else 4), 0)
    above, better = (integral(flux.rule(n), n) for n in (count, 2 * count))
    # quadrature is off by up to 1e-3 of the values where |y| has its kink
    slack = 1e-3 * nearly
    assert (above >= nearly - slack).all()
    assert float((better - nearly).sum()) <= 0.5 * float((above - nearly).sum()) + float(slack.sum())


@pytest.mark.parametrize("dim", GRIDS)
def test_the_mean_of_squares_is_known(dim):
    """Of a flux that is linear along its axis from l to r the square has the mean (l^2 + l r + r^2) / 3."""
    flux = made(dim, bubbles=False)
    elements = Elements(flux.grid, gauss(1))
    found = torch.tensordot(elements.weights, flux.at(elements.points).square().sum(-1), 1)
    ends = [(f.narrow(a, 0, n), f.narrow(a, 1, n)) for a, (f, n) in enumerate(zip(flux.faces, flux.grid.shape))]
    expected = sum((l**2 + l * r + r**2) / 3 for l, r in ends) * flux.grid.cell_volume
    torch.testing.assert_close(found, expected)
