"""Example scenes of smoke in the unit box, in two and three dimensions, at any resolution."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sciml_bounds.arrays import require_choice, require_count, to_mask
from sciml_bounds.errors import InputError
from sciml_bounds.evolution.bodies import Ball, Body, Star, Voxels
from sciml_bounds.evolution.smoke import MIN_CELLS, Source
from sciml_bounds.grid import Grid
from sciml_bounds.store.reading.contents import Array

__all__ = ["SCENES", "Scene", "make_scene"]

#: Number of cells that the flow crosses per step at its typical speed, about one box length per unit of time.
CELLS_PER_STEP = 2.5

#: Upward acceleration of air at temperature 1.
BUOYANCY = 2.0


@dataclass(frozen=True)
class Scene:
    """Arguments of `Smoke` for an example scene.

    Attributes
    ----------
    name : str
        Name of the scene.
    grid : Grid
        Grid of the unit box.
    dt : float
        A time step that suits the grid.
    sources, bodies, open_sides, buoyancy
        As for `Smoke`.
    """

    name: str
    grid: Grid
    dt: float
    sources: tuple[Source, ...]
    bodies: tuple[Body, ...]
    open_sides: tuple[str, ...]
    buoyancy: float = BUOYANCY

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of `Smoke` except the grid and the time step."""
        return {name: getattr(self, name) for name in ("sources", "bodies", "open_sides", "buoyancy")}


def make_scene(name: str, dim: int, cells: int, solid: Array | None = None) -> Scene:
    """Return an example scene: a warm source near the bottom of a box with an open top, and an obstacle above it.

    Parameters
    ----------
    name : {"plume", "sphere", "rotating"}
        The obstacle: none ("plume"), a ball that swings from side to side ("sphere"), or a rotating body with three
        arms ("rotating").
    dim : {2, 3}
        Dimension; up is along the last axis.
    cells : int
        Number of cells along each axis.
    solid : boolean array (x, y[, z]), optional
        Mask of additional solid cells.

    Raises
    ------
    InputError
        If the scene is unknown, a number is out of range, or the mask does not have the shape of the grid.
    """
    require_choice(name, "the scene", SCENES)
    if not isinstance(dim, int) or dim not in (2, 3):
        raise InputError(f"the scene has {dim} dimensions; choose 2 or 3.")
    require_count(cells, "the number of cells", 1)
    if cells < MIN_CELLS:
        raise InputError(f"a scene with {cells} cells along an axis is too coarse; use at least {MIN_CELLS}.")
    grid = Grid((cells,) * dim)
    bodies = SCENES[name](dim)
    if solid is not None:
        mask = to_mask(solid, "the array of voxels")
        shape = tuple(mask.shape)
        if shape != grid.shape:
            wanted = " x ".join(map(str, grid.shape))
            raise InputError(
                f"the voxels have shape {shape}, but the grid has {wanted} cells; give one voxel per cell."
            )
        bodies = (*bodies, Body(Voxels(mask, grid.spacing), (0.5,) * dim))
    warm = Source(Ball(max(0.08, 1.0 / cells)), (*(0.5,) * (dim - 1), 0.12))
    return Scene(name, grid, CELLS_PER_STEP / cells / math.sqrt(BUOYANCY), (warm,), bodies, (f"{'xyz'[dim - 1]}1",))


def _above_the_source(dim: int, height: float, aside: float = 0.0) -> tuple[float, ...]:
    return (0.5 + aside, *(0.5,) * (dim - 2), height)


def _no_bodies(dim: int) -> tuple[Body, ...]:
    return ()


def _swinging_ball(dim: int) -> tuple[Body, ...]:
    def center(time: float) -> tuple[float, ...]:
        return _above_the_source(dim, 0.45, 0.12 * math.sin(2.0 * time))

    return (Body(Ball(0.1), center),)


def _turning_star(dim: int) -> tuple[Body, ...]:
    return (Body(Star(0.13), _above_the_source(dim, 0.45), spin=2.0),)


#: The bodies of each scene, by its name.
SCENES: dict[str, Callable[[int], tuple[Body, ...]]] = {
    "plume": _no_bodies,
    "sphere": _swinging_ball,
    "rotating": _turning_star,
}
