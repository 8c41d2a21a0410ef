"""Fields on a staggered grid (Harlow, Welch, Phys. Fluids 8, 1965): velocities at faces, other fields at cell centres.

Cell fields have shape (x, y[, z]). A velocity is a tuple with one field per axis: the component along an axis is given
at the centres of the faces normal to this axis. There are n + 1 of these faces along the axis; the first and the last
lie on the sides of the box.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciml_bounds.grid import Grid

__all__ = [
    "Velocity",
    "at_centers",
    "at_faces",
    "cell_points",
    "divergence",
    "face_points",
    "face_shape",
    "kinetic_energy",
]

#: Velocity: one component per axis, at the faces normal to this axis.
Velocity = tuple[Tensor, ...]


def face_shape(grid: Grid, axis: int) -> tuple[int, ...]:
    """Return the shape of the velocity component along an axis."""
    return tuple(n + (a == axis) for a, n in enumerate(grid.shape))


def cell_points(grid: Grid, device: torch.device | str = "cpu") -> Tensor:
    """Return the coordinates of the cell centres, shape (x, y[, z], dim)."""
    return _points([grid.centers(axis, device=device) for axis in range(grid.dim)])


def face_points(grid: Grid, axis: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the coordinates of the centres of the faces normal to an axis, shape (faces, dim)."""
    lines = [(grid.nodes if a == axis else grid.centers)(a, device=device) for a in range(grid.dim)]
    return _points(lines)


def _points(lines: list[Tensor]) -> Tensor:
    return torch.stack(torch.meshgrid(*lines, indexing="ij"), -1)


def divergence(velocity: Velocity, grid: Grid) -> Tensor:
    """Return the divergence in each cell, shape (x, y[, z]): the net outflow divided by the volume."""
    parts = [torch.diff(component, dim=a) / grid.spacing[a] for a, component in enumerate(velocity)]
    return torch.stack(parts).sum(0)


def at_centers(velocity: Velocity) -> Tensor:
    """Return the velocity at cell centres, shape (dim, x, y[, z]): the mean of opposite faces."""
    halves = [
        (component.narrow(a, 0, component.shape[a] - 1) + component.narrow(a, 1, component.shape[a] - 1)) / 2
        for a, component in enumerate(velocity)
    ]
    return torch.stack(halves)


def at_faces(field: Tensor, axis: int) -> Tensor:
    """Return the mean of a cell field (x, y[, z]) over the cells on both sides of each face normal to an axis.

    A face on a side of the box takes the value of its only cell.
    """
    n = field.shape[axis]
    first, last = field.narrow(axis, 0, 1), field.narrow(axis, n - 1, 1)
    return (torch.cat([first, field], axis) + torch.cat([field, last], axis)) / 2


def kinetic_energy(velocity: Velocity, grid: Grid) -> float:
    """Return the integral of |u|^2 / 2, where a face has the weight of a cell, and of half a cell on a side."""
    total = 0.0
    for axis, component in enumerate(velocity):
        square = component.square()
        ends = square.select(axis, 0).sum() + square.select(axis, -1).sum()
        total += float(square.sum() - ends / 2)
    return total * grid.cell_volume / 2
