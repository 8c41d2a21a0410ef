"""Fields on a staggered grid (Harlow, Welch, Phys. Fluids 8, 1965): velocities at faces, all else at cell centres.

Fields are (x, y[, z]). A velocity is a tuple, one field an axis: component a is the speed along axis a at the faces
across that axis, of which there are n + 1; the first and the last lie on the sides of the box.
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

#: One component an axis, at the faces across it.
Velocity = tuple[Tensor, ...]


def face_shape(grid: Grid, axis: int) -> tuple[int, ...]:
    """Give the shape of the component along an axis."""
    return tuple(n + (a == axis) for a, n in enumerate(grid.shape))


def cell_points(grid: Grid, device: torch.device | str = "cpu") -> Tensor:
    """Coordinates of the cell centres, shape (x, y[, z], dim)."""
    return _points([grid.centers(axis, device=device) for axis in range(grid.dim)])


def face_points(grid: Grid, axis: int, device: torch.device | str = "cpu") -> Tensor:
    """Coordinates of the centres of the faces across an axis, shape (faces, dim)."""
    lines = [(grid.nodes if a == axis else grid.centers)(a, device=device) for a in range(grid.dim)]
    return _points(lines)


def _points(lines: list[Tensor]) -> Tensor:
    return torch.stack(torch.meshgrid(*lines, indexing="ij"), -1)


def divergence(velocity: Velocity, grid: Grid) -> Tensor:
    """Compute what flows out of each cell, divided by its volume; shape (x, y[, z])."""
    parts = [torch.diff(component, dim=a) / grid.spacing[a] for a, component in enumerate(velocity)]
    return torch.stack(parts).sum(0)


def at_centers(velocity: Velocity) -> Tensor:
    """Average the two faces of each cell: the velocity at cell centres, shape (dim, x, y[, z])."""
    halves = [
        (component.narrow(a, 0, component.shape[a] - 1) + component.narrow(a, 1, component.shape[a] - 1)) / 2
        for a, component in enumerate(velocity)
    ]
    return torch.stack(halves)


def at_faces(field: Tensor, axis: int) -> Tensor:
    """Average a cell field (x, y[, z]) over the two cells of each face across an axis; faces on sides have one cell."""
    n = field.shape[axis]
    first, last = field.narrow(axis, 0, 1), field.narrow(axis, n - 1, 1)
    return (torch.cat([first, field], axis) + torch.cat([field, last], axis)) / 2


def kinetic_energy(velocity: Velocity, grid: Grid) -> float:
    """Compute the integral of |u|^2 / 2: a face stands for a cell, and on a side for half a one."""
    total = 0.0
    for axis, component in enumerate(velocity):
        square = component.square()
        ends = square.select(axis, 0).sum() + square.select(axis, -1).sum()
        total += float(square.sum() - ends / 2)
    return total * grid.cell_volume / 2
