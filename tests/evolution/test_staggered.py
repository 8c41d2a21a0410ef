"""Staggered fields: differences are exact for linear fields, and averages conserve sums."""

from __future__ import annotations

import pytest
import torch

from sciml_bounds.evolution.staggered import (
    at_centers,
    at_faces,
    cell_points,
    divergence,
    face_points,
    face_shape,
    kinetic_energy,
)
from sciml_bounds.grid import Grid

GRIDS = [Grid((5, 7), (1.0, 2.0), (0.5, -1.0)), Grid((4, 5, 6), (1.0, 2.0, 0.5))]


def linear_velocity(grid: Grid, matrix: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return tuple(face_points(grid, axis) @ matrix[axis] for axis in range(grid.dim))


@pytest.mark.parametrize("grid", GRIDS, ids=["2-D", "3-D"])
def test_the_divergence_of_a_linear_velocity_is_the_trace(grid):
    matrix = torch.randn(grid.dim, grid.dim, dtype=torch.float64)
    trace = matrix.trace().expand(grid.shape)
    assert torch.allclose(divergence(linear_velocity(grid, matrix), grid), trace, rtol=0, atol=1e-13)


@pytest.mark.parametrize("grid", GRIDS, ids=["2-D", "3-D"])
def test_a_linear_velocity_is_averaged_exactly(grid):
    matrix = torch.randn(grid.dim, grid.dim, dtype=torch.float64)
    expected = (cell_points(grid) @ matrix.T).movedim(-1, 0)
    assert torch.allclose(at_centers(linear_velocity(grid, matrix)), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("grid", GRIDS, ids=["2-D", "3-D"])
def test_a_linear_cell_field_is_averaged_exactly_between_cells(grid):
    slope = torch.randn(grid.dim, dtype=torch.float64)
    for axis in range(grid.dim):
        faces = at_faces(cell_points(grid) @ slope, axis)
        assert tuple(faces.shape) == face_shape(grid, axis)
        inner, n = face_points(grid, axis) @ slope, grid.shape[axis]
        between = (faces.narrow(axis, 1, n - 1), inner.narrow(axis, 1, n - 1))
        assert torch.allclose(*between, rtol=0, atol=1e-14)


@pytest.mark.parametrize("grid", GRIDS, ids=["2-D", "3-D"])
def test_the_energy_of_a_uniform_velocity_is_that_of_the_box(grid):
    """Faces on the two sides stand for half a cell each, so that the faces of an axis stand for the whole box."""
    uniform = tuple(torch.full(face_shape(grid, axis), axis + 1.0, dtype=torch.float64) for axis in range(grid.dim))
    volume = torch.tensor(grid.lengths).prod()
    expected = volume * sum((axis + 1) ** 2 for axis in range(grid.dim)) / 2
    assert kinetic_energy(uniform, grid) == pytest.approx(float(expected), rel=1e-6)  # the volume is single precision
