"""Advection: exact cases, orders of convergence, bounds, and behaviour at solids and sides."""

from __future__ import annotations

import math

import pytest
import torch

from sciml_bounds.evolution.advection import advect_cells, advect_velocity, trace
from sciml_bounds.evolution.staggered import cell_points, face_points, face_shape
from sciml_bounds.grid import Grid

SCHEMES = ["semi-lagrangian", "maccormack"]


def uniform(grid: Grid, *speed: float) -> tuple[torch.Tensor, ...]:
    return tuple(torch.full(face_shape(grid, axis), v, dtype=torch.float64) for axis, v in enumerate(speed))


def rotation(grid: Grid) -> tuple[torch.Tensor, ...]:
    """One turn in a time of one about the middle of the first two axes of a unit box."""
    middle = [face_points(grid, axis) - 0.5 for axis in range(2)]
    turning = (-2 * math.pi * middle[0][..., 1], 2 * math.pi * middle[1][..., 0])
    return turning + uniform(grid, *(0.0,) * grid.dim)[2:]


def bump(points: torch.Tensor) -> torch.Tensor:
    """A smooth off-centre hill, nearly zero at the sides."""
    return torch.exp(-60 * ((points[..., 0] - 0.5) ** 2 + (points[..., 1] - 0.7) ** 2))


def fluid(grid: Grid) -> torch.Tensor:
    return torch.ones(grid.shape, dtype=torch.bool)


def error_after_a_turn(n: int, scheme: str, dim: int = 2) -> float:
    """Mean error of the hill after a quarter of a turn, with three cells a step at most."""
    grid = Grid((n,) * 2 + (4,) * (dim - 2))
    steps = n // 2
    paths = trace(rotation(grid), grid, 0.25 / steps)
    field = bump(cell_points(grid))[None]
    for _ in range(steps):
        field = advect_cells(field, paths, fluid(grid), (), scheme)
    x = cell_points(grid) - 0.5
    back = torch.stack([x[..., 1], -x[..., 0], *x.unbind(-1)[2:]], -1) + 0.5
    return float((field[0] - bump(back)).abs().mean())


@pytest.mark.parametrize(("scheme", "low", "high"), [("semi-lagrangian", 0.6, 1.3), ("maccormack", 1.8, 2.6)])
def test_the_order_on_a_smooth_field_that_rotates(scheme, low, high):
    """The first order is approached from below, as the hill has lost half of its height on the coarse grid."""
    coarse, fine = (error_after_a_turn(n, scheme) for n in (64, 128))
    assert low < math.log2(coarse / fine) < high


def test_the_order_in_three_dimensions():
    """Nothing changes along the third axis, so that the errors are those of two dimensions up to round-off."""
    assert error_after_a_turn(32, "maccormack", 3) == pytest.approx(error_after_a_turn(32, "maccormack"), rel=1e-9)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("shape", [(12, 9), (7, 6, 8)], ids=["2-D", "3-D"])
def test_a_shift_by_whole_cells_is_exact(scheme, shape):
    grid = Grid(shape, tuple(float(n) for n in shape))
    field = torch.rand(1, *shape, dtype=torch.float64)
    paths = trace(uniform(grid, 2.0, *(0.0,) * (grid.dim - 2), -1.0), grid, 1.0)
    moved = advect_cells(field, paths, fluid(grid), (), scheme)[0]
    inner = field[0].roll((2, -1), (0, -1))
    assert torch.allclose(moved[2:, ..., :-1], inner[2:, ..., :-1], rtol=0, atol=1e-14)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("shape", [(20, 16), (8, 9, 7)], ids=["2-D", "3-D"])
def test_bounds_are_kept(scheme, shape):
    """Interpolation weights sum to one up to a few round-offs; the flow is as rough as the field."""
    grid = Grid(shape)
    velocity = tuple(torch.randn(face_shape(grid, axis), dtype=torch.float64) for axis in range(grid.dim))
    solid = torch.rand(shape) < 0.2
    field = torch.where(solid, 0.0, 2.0 + torch.rand(1, *shape, dtype=torch.float64))
    for _ in range(5):
        field = advect_cells(field, trace(velocity, grid, 0.1), ~solid, (), scheme)
        field = torch.where(solid, 0.0, field)
    inside = field[0][~solid]
    some = inside[inside > 0]  # where everything around is solid, there is nothing to take
    assert float(inside.max()) <= 3.0 + 1e-14
    assert float(some.min()) >= 2.0 - 1e-14
    assert len(some) > 0.9 * len(inside)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_velocities_keep_their_bounds(scheme):
    grid = Grid((16, 16))
    velocity = tuple(torch.randn(face_shape(grid, axis), dtype=torch.float64) for axis in range(2))
    moved = advect_velocity(velocity, trace(velocity, grid, 0.2), scheme)
    for before, after in zip(velocity, moved):
        assert float(after.max()) <= float(before.max()) + 1e-14
        assert float(after.min()) >= float(before.min()) - 1e-14


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("grid", [Grid((8, 12)), Grid((6, 5, 4))], ids=["2-D", "3-D"])
def test_a_uniform_velocity_stays_uniform(scheme, grid):
    speed = (0.3, -0.2, 0.7)[: grid.dim]
    moved = advect_velocity(uniform(grid, *speed), trace(uniform(grid, *speed), grid, 0.4), scheme)
    for component, expected in zip(moved, speed):
        assert torch.allclose(component, torch.full_like(component, expected), rtol=0, atol=1e-15)


def test_clear_air_comes_in_through_open_sides_only():
    grid = Grid((8, 8))
    ones, paths = torch.ones(1, 8, 8, dtype=torch.float64), trace(uniform(grid, 1.0, 0.0), grid, 0.25)
    closed = advect_cells(ones, paths, fluid(grid), (), "semi-lagrangian")[0]
    opened = advect_cells(ones, paths, fluid(grid), ("x0", "x1"), "semi-lagrangian")[0]
    assert torch.equal(closed, ones[0])
    assert torch.equal(opened, torch.cat([torch.zeros(2, 8), torch.ones(6, 8)]).double())


def test_nothing_is_taken_from_a_wall():
    """A wall divides the grid; the field next to it neither decays nor passes through."""
    grid = Grid((12, 8))
    solid = torch.zeros(12, 8, dtype=torch.bool)
    solid[5:7] = True
    field = torch.zeros(1, 12, 8, dtype=torch.float64)
    field[:, 7:] = 1.0
    moved = advect_cells(field, trace(uniform(grid, 1.0, 0.0), grid, 0.07), ~solid, (), "maccormack")[0]
    assert torch.allclose(moved[7:], torch.ones(5, 8).double(), rtol=0, atol=1e-15)
    assert not bool(moved[:5].any())
