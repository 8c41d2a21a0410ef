"""Solid bodies in a flow: shapes, prescribed rigid motions, and the cells that they cover.

A shape is a function of positions (..., dim) relative to the centre of the body. It is negative inside the body, like a
signed distance. A cell is solid if its centre lies inside a body.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sciml_bounds.arrays import require_count, require_number, to_mask
from sciml_bounds.errors import InputError
from sciml_bounds.evolution.staggered import Velocity, cell_points, face_points
from sciml_bounds.grid import Grid

__all__ = ["Ball", "Block", "Body", "Shape", "Solids", "Star", "Voxels", "require_shape", "require_vector"]

#: Function of positions (..., dim) relative to the centre; negative inside the body.
Shape = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Ball:
    """A disc or a ball.

    Parameters
    ----------
    radius : float
        Radius, a positive number.
    """

    radius: float

    def __post_init__(self) -> None:
        require_number(self.radius, "the radius of a ball", positive=True)

    def __call__(self, points: Tensor) -> Tensor:
        """Return the signed distance of points (..., dim) from the surface, shape (...)."""
        distance: Tensor = points.norm(dim=-1) - self.radius
        return distance


@dataclass(frozen=True)
class Block:
    """A rectangle or a box.

    Parameters
    ----------
    lengths : tuple of float
        Side length along each axis.
    """

    lengths: tuple[float, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.lengths, Collection):
            raise InputError(
                f"the side lengths of a block are {self.lengths!r}; give one number per axis, such as (0.2, 0.1)."
            )
        for length in self.lengths:
            require_number(length, "a side length of a block", positive=True)

    def __call__(self, points: Tensor) -> Tensor:
        """Return the largest signed distance of points (..., dim) from the planes of the sides, shape (...)."""
        _require_axes(f"a block has {len(self.lengths)} side lengths", len(self.lengths), points)
        return (points.abs() - points.new_tensor(self.lengths) / 2).amax(-1)


@dataclass(frozen=True)
class Star:
    """A body with arms: in the plane of the first and last axes, its radius is r (1 + depth cos(arms angle)).

    In three dimensions the cross-section shrinks along the middle axis like the cross-section of a ball.

    Parameters
    ----------
    radius : float
        Mean radius r.
    arms : int
        Number of arms.
    depth : float
        Amplitude of the variation of the radius, relative to r, in [0, 1).
    """

    radius: float
    arms: int = 3
    depth: float = 0.4

    def __post_init__(self) -> None:
        require_number(self.radius, "the radius of a star", positive=True)
        require_count(self.arms, "the number of arms of a star", 1)
        if not 0 <= require_number(self.depth, "the depth of a star") < 1:
            raise InputError(f"the depth of a star is {self.depth}; give a number that is at least 0 and less than 1.")

    def __call__(self, points: Tensor) -> Tensor:
        """Return the distance of points (..., dim) from the centre minus the radius in their direction, shape (...)."""
        angle = torch.atan2(points[..., -1], points[..., 0])
        distance: Tensor = points.norm(dim=-1) - self.radius * (1 + self.depth * torch.cos(self.arms * angle))
        return distance


class Voxels:
    """A body that consists of equal cells, such as a scan; its centre is the centre of the array.

    Parameters
    ----------
    cells : boolean array (x, y[, z])
        Mask of the solid cells.
    spacing : sequence of float
        Side length of a cell along each axis.

    Raises
    ------
    InputError
        If `cells` is not boolean or is empty, or `spacing` does not have one entry per axis.
    """

    def __init__(self, cells: Any, spacing: Sequence[float]) -> None:
        self.cells = to_mask(cells, "the array of voxels")
        if 0 in self.cells.shape:
            raise InputError(
                f"the voxels have shape {tuple(self.cells.shape)}; give at least one voxel along each axis."
            )
        self.spacing = require_vector(spacing, "the spacing of voxels", self.cells.ndim)
        for h in self.spacing:
            require_number(h, "the spacing of voxels", positive=True)

    def __call__(self, points: Tensor) -> Tensor:
        """Return -1 for points (..., dim) in solid cells and 1 for others, shape (...)."""
        _require_axes(f"an array of voxels has {self.cells.ndim} axes", self.cells.ndim, points)
        shape = torch.tensor(self.cells.shape, device=points.device)
        index = torch.floor(points / points.new_tensor(self.spacing) + shape / 2).long()
        inside = ((index >= 0) & (index < shape)).all(-1)
        clipped = torch.minimum(index.clamp_min(0), shape - 1).unbind(-1)
        return torch.where(inside & self.cells.to(points.device)[clipped], -1.0, 1.0)


@dataclass(frozen=True)
class Body:
    """A shape with a prescribed rigid motion.

    Parameters
    ----------
    shape : callable
        A `Ball`, `Block`, `Star`, `Voxels`, or any function of positions (..., dim) relative to the centre that returns
        one value per position, negative inside the body.
    center : sequence of float, or callable
        Coordinates of the centre, or a function that returns them for a time.
    spin : float
        Angular velocity about the centre, in radians per unit time, in the plane of the first and last axes.

    Raises
    ------
    InputError
        If `shape` is not a function or `spin` is not a number. From `covers` and `velocity`: if the centre does not
        have one finite coordinate per axis, or the shape does not return one value per position.
    """

    shape: Shape
    center: Sequence[float] | Callable[[float], Sequence[float]]
    spin: float = 0.0

    def __post_init__(self) -> None:
        require_shape(self.shape, "a body")
        require_number(self.spin, "the spin of a body")

    @property
    def moves(self) -> bool:
        """Whether the position or orientation may change in time."""
        return callable(self.center) or self.spin != 0.0

    def center_at(self, time: float, dim: int) -> tuple[float, ...]:
        """Return the coordinates of the centre at the given time."""
        if callable(self.center):
            return require_vector(self.center(time), f"the centre of a body at time {time:g}", dim)
        return require_vector(self.center, "the centre of a body", dim)

    def covers(self, points: Tensor, time: float) -> Tensor:
        """Return the mask of the points (..., dim) inside the body at the given time."""
        local = points - self._center(points, time)
        if self.spin != 0.0:
            local = _rotated(local, -self.spin * time)
        return _sampled(self.shape, local) < 0

    def velocity(self, points: Tensor, time: float, start: float, end: float) -> Tensor:
        """Return the velocity of the body at points (..., dim) at the given time.

        During the step from `start` to `end`, the centre moves with its mean velocity over the step.
        """
        before, after = (self._center(points, moment) for moment in (start, end))
        speed = ((after - before) / (end - start)).expand(points.shape)
        if self.spin == 0.0:
            return speed
        local = points - self._center(points, time)
        turning = torch.zeros_like(points)
        turning[..., 0] = -self.spin * local[..., -1]
        turning[..., -1] = self.spin * local[..., 0]
        return speed + turning

    def _center(self, points: Tensor, time: float) -> Tensor:
        return points.new_tensor(self.center_at(time, points.shape[-1]))


def _rotated(points: Tensor, angle: float) -> Tensor:
    """Return points rotated by an angle in the plane of the first and last axes."""
    first, last = points[..., 0], points[..., -1]
    rotated = points.clone()
    rotated[..., 0] = math.cos(angle) * first - math.sin(angle) * last
    rotated[..., -1] = math.sin(angle) * first + math.cos(angle) * last
    return rotated


@dataclass(frozen=True)
class Solids:
    """Solid cells at one time, and the velocities of their faces.

    Attributes
    ----------
    mask : Tensor of bool (x, y[, z])
        Mask of the solid cells.
    faces : tuple of Tensor
        For each axis, the flat indices of the faces next to a solid cell.
    speeds : tuple of Tensor
        For each axis, the speed of the body along the axis at these faces.
    """

    mask: Tensor
    faces: tuple[Tensor, ...] = field(repr=False)
    speeds: tuple[Tensor, ...] = field(repr=False)

    @classmethod
    def at(
        cls, bodies: Sequence[Body], grid: Grid, time: float, step: tuple[float, float], device: torch.device
    ) -> Solids:
        """Return the solids of the bodies at a time, with speeds during the step from `step[0]` to `step[1]`.

        Cells that belong to several bodies get the speed of the last of these bodies in the list.
        """
        points = cell_points(grid, device)
        number = torch.full(grid.shape, -1, dtype=torch.int16, device=device)
        for k, body in enumerate(bodies):
            number[body.covers(points, time)] = k
        faces, speeds = zip(*(_body_faces(bodies, grid, number, axis, time, step) for axis in range(grid.dim)))
        return cls(number >= 0, faces, speeds)

    def impose(self, velocity: Velocity) -> Velocity:
        """Return a velocity whose values at the faces of bodies are replaced by the speed of the body."""
        result = []
        for component, faces, speed in zip(velocity, self.faces, self.speeds):
            imposed = component.reshape(-1).index_copy(0, faces, speed)
            result.append(imposed.view(component.shape))
        return tuple(result)


def _body_faces(
    bodies: Sequence[Body], grid: Grid, number: Tensor, axis: int, time: float, step: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Return the faces normal to an axis next to a solid cell, and the speed of the body there along the axis."""
    outside = torch.full_like(number.narrow(axis, 0, 1), -1)
    adjacent = torch.maximum(torch.cat([outside, number], axis), torch.cat([number, outside], axis)).reshape(-1)
    points = face_points(grid, axis, number.device).view(-1, grid.dim)
    faces = torch.nonzero(adjacent >= 0).view(-1)
    speeds = points.new_zeros(len(faces))
    for k, body in enumerate(bodies):
        own = adjacent[faces] == k
        speeds[own] = body.velocity(points[faces[own]], time, *step)[:, axis]
    return faces, speeds


def require_shape(shape: Any, what: str) -> None:
    """Raise unless a shape is a function of one argument.

    Raises
    ------
    InputError
        If the shape is not a function of one argument.
    """
    if not callable(shape):
        raise InputError(
            f"the shape of {what} is {shape!r}; give sb.simulation.Ball, sb.simulation.Block, or a function that is "
            "negative inside."
        )
    try:
        inspect.signature(shape).bind(None)
    except TypeError:
        raise InputError(
            f"the shape of {what} is a function that cannot be called with one argument; let it take the positions "
            "relative to the centre as one tensor (..., axis)."
        ) from None
    except ValueError:  # some functions written in C have no signature
        pass


def require_vector(value: Any, what: str, dim: int) -> tuple[float, ...]:
    """Return a vector as a tuple of floats.

    Raises
    ------
    InputError
        If the value does not consist of `dim` finite numbers.
    """
    try:
        numbers = tuple(map(float, value))
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != dim or not all(map(math.isfinite, numbers)):
        raise InputError(f"{what} is {numbers or value!r}; give {dim} finite numbers, one per axis.")
    return numbers


def _sampled(shape: Shape, points: Tensor) -> Tensor:
    """Evaluate a shape, and raise unless it returns numbers; NaN, for example, would silently omit the body."""
    given, wanted = shape(points), tuple(points.shape[:-1])
    try:
        values = torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError):
        values = None
    if values is None:
        found = f"a {type(given).__name__}"
    elif tuple(values.shape) != wanted:
        found = f"an array of shape {tuple(values.shape)} for positions of shape {wanted}"
    elif values.dtype == torch.bool:
        found = "booleans"
    elif values.is_complex():
        found = "complex numbers"
    elif bool(values.isnan().any()):
        found = "NaN"
    else:
        return values
    raise InputError(f"a shape returned {found}; let it return one number per position, negative inside the body.")


def _require_axes(has: str, axes: int, points: Tensor) -> None:
    if axes != points.shape[-1]:
        raise InputError(f"{has}, but the grid has {points.shape[-1]} axes; give a body with {points.shape[-1]} axes.")
