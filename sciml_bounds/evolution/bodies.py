"""Solid bodies in a flow, which move as they are told: shapes, rigid motions, and the cells that they cover.

A shape is a function of positions (..., dim) relative to the centre of the body; it is negative inside. A signed
distance is one, and so is whatever has its sign. A cell is solid if its centre lies in a body.
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

#: Negative inside, at positions (..., dim) relative to the centre.
Shape = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Ball:
    """A disc or a ball.

    Parameters
    ----------
    radius
        Its radius, positive.
    """

    radius: float

    def __post_init__(self) -> None:
        require_number(self.radius, "the radius of a ball", positive=True)

    def __call__(self, points: Tensor) -> Tensor:
        """Give the signed distance."""
        distance: Tensor = points.norm(dim=-1) - self.radius
        return distance


@dataclass(frozen=True)
class Block:
    """A rectangle or a box.

    Parameters
    ----------
    lengths
        Its side lengths, one an axis.
    """

    lengths: tuple[float, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.lengths, Collection):
            raise InputError(f"the side lengths of a block are {self.lengths!r}; give one number an axis.")
        for length in self.lengths:
            require_number(length, "a side length of a block", positive=True)

    def __call__(self, points: Tensor) -> Tensor:
        """Give the signed distance to the nearest side, of which the sign is exact outside too."""
        _require_axes(f"a block has {len(self.lengths)} side lengths", len(self.lengths), points)
        return (points.abs() - points.new_tensor(self.lengths) / 2).amax(-1)


@dataclass(frozen=True)
class Star:
    """A body with arms: in the plane of the first and the last axis its radius is r (1 + depth cos(arms angle)).

    In three dimensions the radius shrinks along the other axis as that of a ball does.

    Parameters
    ----------
    radius
        Mean radius r.
    arms
        How many there are.
    depth
        How much longer than the mean they are, between 0 and 1.
    """

    radius: float
    arms: int = 3
    depth: float = 0.4

    def __post_init__(self) -> None:
        require_number(self.radius, "the radius of a star", positive=True)
        require_count(self.arms, "the number of arms of a star", 1)
        if not 0 <= require_number(self.depth, "the depth of a star") < 1:
            raise InputError(f"the depth of a star is {self.depth}; it must be at least 0 and less than 1.")

    def __call__(self, points: Tensor) -> Tensor:
        """Give the distance from the centre minus the radius in that direction, which has the right sign."""
        angle = torch.atan2(points[..., -1], points[..., 0])
        distance: Tensor = points.norm(dim=-1) - self.radius * (1 + self.depth * torch.cos(self.arms * angle))
        return distance


class Voxels:
    """A body made of equal cells, such as a scan; its centre is that of the array.

    Parameters
    ----------
    cells
        Which cells are solid: truth values (x, y[, z]).
    spacing
        Side lengths of a cell, one an axis.

    Raises
    ------
    InputError
        If the cells are no truth values or there are none, or the numbers of axes differ.
    """

    def __init__(self, cells: Any, spacing: Sequence[float]) -> None:
        self.cells = to_mask(cells, "the array of voxels")
        if 0 in self.cells.shape:
            raise InputError(f"the voxels have shape {tuple(self.cells.shape)}; give at least one along each axis.")
        self.spacing = require_vector(spacing, "the spacing of voxels", self.cells.ndim)
        for h in self.spacing:
            require_number(h, "the spacing of voxels", positive=True)

    def __call__(self, points: Tensor) -> Tensor:
        """Give -1 in solid cells and 1 elsewhere."""
        _require_axes(f"an array of voxels has {self.cells.ndim} axes", self.cells.ndim, points)
        shape = torch.tensor(self.cells.shape, device=points.device)
        index = torch.floor(points / points.new_tensor(self.spacing) + shape / 2).long()
        inside = ((index >= 0) & (index < shape)).all(-1)
        clipped = torch.minimum(index.clamp_min(0), shape - 1).unbind(-1)
        return torch.where(inside & self.cells.to(points.device)[clipped], -1.0, 1.0)


@dataclass(frozen=True)
class Body:
    """A shape with a rigid motion.

    Parameters
    ----------
    shape
        Where it is: a `Ball`, `Block`, `Star`, `Voxels`, or any function that is negative inside, of a tensor
        (..., axis) of positions relative to the centre, with one number a position.
    center
        Where its centre is: coordinates, or a function of time that gives them.
    spin
        How fast it turns, in radians a time, about its centre in the plane of the first and the last axis.

    Raises
    ------
    InputError
        If the shape is no function or `spin` no number; from `covers` and `velocity`, if the centre is no point there,
        or the shape gives something else than a number for each position.
    """

    shape: Shape
    center: Sequence[float] | Callable[[float], Sequence[float]]
    spin: float = 0.0

    def __post_init__(self) -> None:
        require_shape(self.shape, "a body")
        require_number(self.spin, "the spin of a body")

    @property
    def moves(self) -> bool:
        """Whether it may be elsewhere at another time."""
        return callable(self.center) or self.spin != 0.0

    def center_at(self, time: float, dim: int) -> tuple[float, ...]:
        """Where its centre is."""
        if callable(self.center):
            return require_vector(self.center(time), f"the centre of a body at time {time:g}", dim)
        return require_vector(self.center, "the centre of a body", dim)

    def covers(self, points: Tensor, time: float) -> Tensor:
        """Tell which points (..., dim) lie inside."""
        local = points - self._center(points, time)
        if self.spin != 0.0:
            local = _turned(local, -self.spin * time)
        return _sampled(self.shape, local) < 0

    def velocity(self, points: Tensor, time: float, start: float, end: float) -> Tensor:
        """Velocity (..., dim) of its points at a time, while its centre has its mean velocity of a step."""
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


def _turned(points: Tensor, angle: float) -> Tensor:
    """Turn points in the plane of the first and the last axis."""
    first, last = points[..., 0], points[..., -1]
    turned = points.clone()
    turned[..., 0] = math.cos(angle) * first - math.sin(angle) * last
    turned[..., -1] = math.sin(angle) * first + math.cos(angle) * last
    return turned


@dataclass(frozen=True)
class Solids:
    """What bodies cover at one time, and how they move there.

    Attributes
    ----------
    mask
        Solid cells, shape (x, y[, z]).
    faces
        For each axis the numbers of the faces that a body touches, in the order of the flat array ...
    speeds
        ... and the speed of the body along the axis there.
    """

    mask: Tensor
    faces: tuple[Tensor, ...] = field(repr=False)
    speeds: tuple[Tensor, ...] = field(repr=False)

    @classmethod
    def at(
        cls, bodies: Sequence[Body], grid: Grid, time: float, step: tuple[float, float], device: torch.device
    ) -> Solids:
        """Find the cells that are covered at a time, and speeds during a step from one time to another.

        Where bodies overlap, the later one decides.
        """
        points = cell_points(grid, device)
        number = torch.full(grid.shape, -1, dtype=torch.int16, device=device)
        for k, body in enumerate(bodies):
            number[body.covers(points, time)] = k
        faces, speeds = zip(*(_touched(bodies, grid, number, axis, time, step) for axis in range(grid.dim)))
        return cls(number >= 0, faces, speeds)

    def impose(self, velocity: Velocity) -> Velocity:
        """Give the faces of bodies the velocity of the body."""
        result = []
        for component, faces, speed in zip(velocity, self.faces, self.speeds):
            imposed = component.reshape(-1).index_copy(0, faces, speed)
            result.append(imposed.view(component.shape))
        return tuple(result)


def _touched(
    bodies: Sequence[Body], grid: Grid, number: Tensor, axis: int, time: float, step: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Find the faces across an axis that have a solid cell beside them, and the speed of its body along the axis."""
    outside = torch.full_like(number.narrow(axis, 0, 1), -1)
    beside = torch.maximum(torch.cat([outside, number], axis), torch.cat([number, outside], axis)).reshape(-1)
    points = face_points(grid, axis, number.device).view(-1, grid.dim)
    faces = torch.nonzero(beside >= 0).view(-1)
    speeds = points.new_zeros(len(faces))
    for k, body in enumerate(bodies):
        own = beside[faces] == k
        speeds[own] = body.velocity(points[faces[own]], time, *step)[:, axis]
    return faces, speeds


def require_shape(shape: Any, what: str) -> None:
    """Refuse what is no function of positions.

    Raises
    ------
    InputError
        With the value.
    """
    if not callable(shape):
        raise InputError(f"the shape of {what} is {shape!r}; give a Ball, Block, or function that is negative inside.")
    try:
        inspect.signature(shape).bind(None)
    except TypeError:
        raise InputError(
            f"the shape of {what} is a function that does not take one argument; it is given the positions relative to "
            "the centre as one tensor (..., axis)."
        ) from None
    except ValueError:  # a function in C does not say what it takes
        pass


def require_vector(value: Any, what: str, dim: int) -> tuple[float, ...]:
    """Read one finite number an axis.

    Raises
    ------
    InputError
        With the value.
    """
    try:
        numbers = tuple(map(float, value))
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != dim or not all(map(math.isfinite, numbers)):
        raise InputError(f"{what} is {numbers or value!r}; give {dim} finite numbers, one an axis.")
    return numbers


def _sampled(shape: Shape, points: Tensor) -> Tensor:
    """Evaluate a shape; what is no number, or NaN, would leave the body out without a word."""
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
        found = "truth values"
    elif values.is_complex():
        found = "complex numbers"
    elif bool(values.isnan().any()):
        found = "NaN"
    else:
        return values
    raise InputError(f"a shape gives {found}; it must give one number a position, negative inside.")


def _require_axes(has: str, axes: int, points: Tensor) -> None:
    if axes != points.shape[-1]:
        raise InputError(f"{has}, but the grid has {points.shape[-1]} axes; give one an axis.")
