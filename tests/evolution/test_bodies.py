"""Bodies: their volume on a grid, their motion, and the faces that move with them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from refusals import refused

from sciml_bounds.evolution.bodies import Ball, Block, Body, Solids, Star, Voxels
from sciml_bounds.evolution.staggered import cell_points, divergence, face_shape
from sciml_bounds.grid import Grid

CPU = torch.device("cpu")


def solids_of(body: Body, grid: Grid, start: float = 0.0, end: float = 0.1) -> Solids:
    return Solids.at([body], grid, end, (start, end), CPU)


def volume(body: Body, grid: Grid, time: float = 0.0) -> float:
    return float(body.covers(cell_points(grid), time).sum()) * grid.cell_volume


SHAPES = [
    ("disc", Ball(0.3), 2, math.pi * 0.09, 2 * math.pi * 0.3),
    ("rectangle", Block((0.5, 0.31)), 2, 0.155, 1.62),
    ("star", Star(0.25, 3, 0.4), 2, math.pi * 0.0625 * (1 + 0.08), 2.2),
    ("ball", Ball(0.3), 3, 4 / 3 * math.pi * 0.027, 4 * math.pi * 0.09),
    ("box", Block((0.5, 0.31, 0.4)), 3, 0.062, 0.958),
]


@pytest.mark.parametrize(("shape", "dim", "exact", "surface"), [c[1:] for c in SHAPES], ids=[c[0] for c in SHAPES])
@pytest.mark.parametrize("n", [16, 32])
def test_the_volume_of_solid_cells_is_that_of_the_shape(shape, dim, exact, surface, n):
    """Only cells cut by the surface are uncertain, a layer as thick as the diagonal of a cell: first order."""
    grid = Grid((n,) * dim)
    body = Body(shape, (0.51, 0.48, 0.5)[:dim])
    assert abs(volume(body, grid) - exact) < surface * math.sqrt(dim) / n / 2


@pytest.mark.parametrize("spin", [0.0, 2.0])
def test_a_body_that_moves_keeps_its_volume(spin):
    grid = Grid((64, 64))
    body = Body(Star(0.2), lambda t: (0.4 + 0.2 * t, 0.5 + 0.1 * math.sin(t)), spin)
    volumes = [volume(body, grid, time) for time in np.linspace(0, 1, 11)]
    exact = math.pi * 0.04 * 1.08
    assert max(abs(v - exact) for v in volumes) < 2.0 / 64 / 2  # the surface times half a cell


def test_a_quarter_turn_of_a_square_grid_is_exact():
    """The plane of the turn is that of the first and the last axis, and counter-clockwise."""
    grid = Grid((32, 32))
    body = Body(Block((0.6, 0.2)), (0.6, 0.5), spin=math.pi / 2)
    plain = Body(Block((0.2, 0.6)), (0.6, 0.5))
    assert torch.equal(body.covers(cell_points(grid), 1.0), plain.covers(cell_points(grid), 0.0))
    arm = Body(
        lambda x: torch.where((x[..., 0] > 0) & (x[..., -1].abs() < 0.1), -1.0, 1.0), (0.5, 0.5), spin=math.pi / 2
    )
    up = arm.covers(cell_points(grid), 1.0)
    assert bool(up[15:17, 20:].all())
    assert not bool(up[:, :16].any())


@pytest.mark.parametrize("dim", [2, 3])
def test_the_velocity_is_that_of_the_points_that_move_along(dim):
    """A point of the body moves by the step times its velocity, up to the square of the step."""
    body = Body(Ball(0.1), lambda t: (0.5 + t, *(0.4,) * (dim - 1)), spin=1.5)
    step, points = 1e-4, torch.rand(20, dim, dtype=torch.float64)
    local = points - points.new_tensor(body.center_at(1.0, dim))
    angle = 1.5 * step
    later = local.clone()
    later[:, 0] = math.cos(angle) * local[:, 0] - math.sin(angle) * local[:, -1]
    later[:, -1] = math.sin(angle) * local[:, 0] + math.cos(angle) * local[:, -1]
    later += points.new_tensor(body.center_at(1.0 + step, dim))
    velocity = body.velocity(points, 1.0, 1.0 - step, 1.0)
    assert torch.allclose((later - points) / step, velocity, rtol=0, atol=2e-4)


@pytest.mark.parametrize("dim", [2, 3])
def test_voxels_are_the_cells_they_were_taken_from(dim):
    shape = (12, 9, 7)[:dim]
    grid = Grid(shape, tuple(0.1 * n for n in shape))
    cells = np.random.default_rng(0).random(shape) < 0.4
    body = Body(Voxels(cells, grid.spacing), [length / 2 for length in grid.lengths])
    assert np.array_equal(body.covers(cell_points(grid), 0.0).numpy(), cells)
    far = Body(Voxels(np.ones((2,) * dim, dtype=bool), grid.spacing), grid.origin)
    assert int(far.covers(cell_points(grid), 0.0).sum()) == 1  # one of its cells lies in the box


def test_voxels_turn_like_any_shape():
    """A bar of voxels that has turned by a quarter is the bar along the other axis."""
    grid, bar = Grid((32, 32)), np.ones((12, 4), dtype=bool)
    turned = Body(Voxels(bar, grid.spacing), (0.5, 0.5), spin=math.pi / 2).covers(cell_points(grid), 1.0)
    upright = Body(Voxels(bar.T, grid.spacing), (0.5, 0.5)).covers(cell_points(grid), 0.0)
    assert torch.equal(turned, upright)
    assert int(turned.sum()) == 48


@pytest.mark.parametrize("dim", [2, 3])
def test_nothing_flows_into_a_rigid_body_as_a_whole(dim):
    """Component a of a rigid motion does not change along axis a, so that its discrete divergence vanishes."""
    grid = Grid((16,) * dim)
    body = Body(Star(0.25), lambda t: (0.5 + 0.3 * t, *(0.5,) * (dim - 1)), spin=2.0)
    solids = solids_of(body, grid)
    velocity = solids.impose(tuple(torch.zeros(face_shape(grid, a), dtype=torch.float64) for a in range(dim)))
    inside = divergence(velocity, grid)[solids.mask]
    assert float(inside.abs().max()) < 1e-12
    assert float(divergence(velocity, grid).sum().abs()) < 1e-11


def test_the_faces_of_a_body_move_with_it_and_no_others():
    grid = Grid((8, 8))
    body = Body(Block((0.5, 0.25)), lambda t: (0.5 + 2.0 * t, 0.5))
    solids = solids_of(body, grid, -0.1, 0.0)
    velocity = solids.impose(tuple(torch.full(face_shape(grid, a), 7.0, dtype=torch.float64) for a in range(2)))
    assert bool(solids.mask[2:6, 3:5].all())
    assert int(solids.mask.sum()) == 8
    assert torch.allclose(velocity[0][2:7, 3:5], torch.full((5, 2), 2.0, dtype=torch.float64))
    assert not bool(velocity[1][2:6, 3:6].any())
    assert int((velocity[0] == 7.0).sum()) == 72 - 10
    assert int((velocity[1] == 7.0).sum()) == 72 - 12


def test_the_later_of_two_bodies_decides():
    grid = Grid((8, 8))
    still, moving = Body(Ball(0.3), (0.5, 0.5)), Body(Ball(0.3), lambda t: (0.5, 0.5 + t))
    for bodies, speed in (([still, moving], 1.0), ([moving, still], 0.0)):
        solids = Solids.at(bodies, grid, 0.0, (-1e-3, 0.0), CPU)
        assert torch.allclose(solids.speeds[1], torch.full_like(solids.speeds[1], speed))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Ball(0.0), "radius 0.0 positive number"),
        (lambda: Block((1.0, -1.0)), "side length -1.0"),
        (lambda: Star(0.1, depth=1.0), "depth 1.0 0 1"),
        (lambda: Voxels(np.zeros((3, 3)), (1.0, 1.0)), "array voxels dtype float64"),
        (lambda: Voxels(np.zeros((3, 3), bool), (1.0,)), "spacing voxels (1.0,) 2 finite"),
        (lambda: Voxels(np.zeros((3, 3), bool), (1.0, 0.0)), "spacing voxels 0.0 positive"),
        (lambda: Voxels(np.zeros((0, 2), bool), (1.0, 1.0)), "voxels shape (0, 2)"),
        (lambda: Ball(True), "radius True positive number"),
        (lambda: Block(0.3), "side lengths 0.3 number"),
        (lambda: Block(iter((0.3, 0.3))), "side lengths <tuple_iterator number"),
        (lambda: Star(0.1, arms=0), "arms 0 positive integer"),
        (lambda: Star(0.1, depth="deep"), "depth 'deep' finite number"),
        (lambda: Body(None, (0.5, 0.5)), "shape body None Ball Block function"),
        (
            lambda: Body(lambda x, y: x**2 + y**2 - 0.01, (0.5, 0.5)),
            "shape body function",
        ),
        (lambda: Body(Ball(0.1), (0.5, 0.5), spin=math.nan), "body nan finite number"),
    ],
)
def test_bodies_that_cannot_be_are_refused(make, sentence):
    refused(sentence, make)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (Body(Block((0.3, 0.3, 0.3)), (0.5, 0.5)), "block 3 side lengths grid 2"),
        (Body(Voxels(np.ones((2, 2, 2), bool), (0.1,) * 3), (0.5, 0.5)), "array voxels 3 axes"),
        (Body(Ball(0.1), 0.5), "body 0.5 2 finite numbers"),
        (Body(Ball(0.1), lambda t: (0.5, math.nan)), "body time 0.1 0.5 2"),
        (Body(Ball(0.1), lambda t: (0.5, 0.5, 0.5)), "body time 0.1 (0.5, 0.5, 0.5) 2"),
        (Body(lambda x: x[..., 0] * math.nan, (0.5, 0.5)), "shape NaN number position"),
        (Body(lambda x: x[..., 0] < 0, (0.5, 0.5)), "shape booleans number"),
        (Body(lambda x: x, (0.5, 0.5)), "shape array (8, 8, 2) (8, 8)"),
        (Body(lambda x: None, (0.5, 0.5)), "shape NoneType number position"),
        (Body(lambda x: "inside", (0.5, 0.5)), "shape str number position"),
        (Body(lambda x: x[..., 0] * 1j, (0.5, 0.5)), "shape complex numbers"),
        (Body(Ball(0.1), lambda t: None), "body time 0.1 None 2 finite"),
        (Body(Ball(0.1), lambda t: "ab"), "body time 0.1 'ab' 2 finite"),
        (Body(Ball(0.1), (None, 0.5)), "body None 0.5) 2 finite numbers"),
        (Body(Ball(0.1), {"x": 0.5, "y": 0.5}), r"the centre of a body is {'x': 0.5, 'y': 0.5} 2 finite numbers"),
    ],
)
def test_bodies_that_do_not_fit_the_grid_are_refused(body, sentence):
    """Comparisons with NaN are false everywhere: such a body would vanish without a word."""
    refused(sentence, lambda: solids_of(body, Grid((8, 8))))
