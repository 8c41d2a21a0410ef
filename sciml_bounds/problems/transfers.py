"""Differentiable transfers between cells, faces and nodes.

Fields have shape (b, x, y, z) with as many space axes as the grid; `periodic` has one entry per space axis.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciml_bounds.kernels._backend import needs_gradient
from sciml_bounds.kernels.field_memory import new_field

__all__ = [
    "fold_periodic_copies",
    "interpolate_nodes",
    "node_average",
    "repeat_cells",
    "spread_side",
    "sum_to_nodes",
    "with_periodic_copies",
    "without_periodic_copies",
]


def sum_to_nodes(cells: Tensor, periodic: tuple[bool, ...], axes: tuple[int, ...] | None = None) -> Tensor:
    """Return at each node the sum over the adjacent cells along the given axes, by default along all axes."""
    first = cells.ndim - len(periodic)
    for axis in range(len(periodic)) if axes is None else axes:
        dim = first + axis
        zero = torch.zeros_like(cells.narrow(dim, 0, 1))
        if periodic[axis]:
            cells = cells + torch.roll(cells, 1, dim)
        else:
            cells = torch.cat([cells, zero], dim) + torch.cat([zero, cells], dim)
    return cells


def node_average(nodes: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Return the means of neighbouring nodes along the given axes, from n + 1 nodes to n means per axis."""
    for dim in axes:
        n = nodes.shape[dim] - 1
        nodes = (nodes.narrow(dim, 0, n) + nodes.narrow(dim, 1, n)) / 2
    return nodes


def with_periodic_copies(nodes: Tensor, periodic: tuple[bool, ...]) -> Tensor:
    """Append the first node at the end of each periodic axis, so that every axis has n + 1 nodes."""
    first = nodes.ndim - len(periodic)
    for axis, wraps in enumerate(periodic):
        if wraps:
            nodes = torch.cat([nodes, nodes.narrow(first + axis, 0, 1)], first + axis)
    return nodes


def without_periodic_copies(nodes: Tensor, periodic: tuple[bool, ...]) -> Tensor:
    """Drop the last node of each periodic axis, which repeats the first."""
    first = nodes.ndim - len(periodic)
    for axis, wraps in enumerate(periodic):
        if wraps:
            nodes = nodes.narrow(first + axis, 0, nodes.shape[first + axis] - 1)
    return nodes


def fold_periodic_copies(nodes: Tensor, periodic: tuple[bool, ...]) -> Tensor:
    """Add the last node of each periodic axis to the first, and drop it: the transpose of `with_periodic_copies`."""
    first = nodes.ndim - len(periodic)
    for axis, wraps in enumerate(periodic):
        if wraps:
            dim = first + axis
            n = nodes.shape[dim] - 1
            seam = nodes.narrow(dim, 0, 1) + nodes.narrow(dim, n, 1)
            nodes = torch.cat([seam, nodes.narrow(dim, 1, n - 1)], dim)
    return nodes


def spread_side(values: Tensor, axis: int, end: int, shape: tuple[int, ...]) -> Tensor:
    """Return a field (b, shape) with the given values on a side (b, side), and zero elsewhere."""
    full = values.new_zeros((len(values), *shape))
    index = torch.tensor([(shape[axis] - 1) * end], device=values.device)
    return full.index_copy(1 + axis, index, values.unsqueeze(1 + axis))


def repeat_cells(cells: Tensor, factor: int, dim: int) -> Tensor:
    """Divide every cell into `factor` cells of the same value along each of the last `dim` axes."""
    batch, space = cells.shape[: cells.ndim - dim], cells.shape[cells.ndim - dim :]
    split = cells.reshape((*batch, *(size for n in space for size in (n, 1))))
    repeated = split.expand((*batch, *(size for n in space for size in (n, factor))))
    shape = *batch, *(n * factor for n in space)
    if needs_gradient(cells):
        return repeated.reshape(shape)
    return new_field(cells, repeated.shape).copy_(repeated).view(shape)


def interpolate_nodes(nodes: Tensor, factor: int, periodic: tuple[bool, ...]) -> Tensor:
    """Evaluate the multilinear interpolant at the nodes of the grid refined by `factor` along each axis."""
    if factor == 1:
        return nodes
    fine = with_periodic_copies(nodes, periodic)
    first = fine.ndim - len(periodic)
    for dim in range(first, fine.ndim):
        n = fine.shape[dim] - 1
        left, right = fine.narrow(dim, 0, n), fine.narrow(dim, 1, n)
        between = [left + (right - left) * (k / factor) for k in range(factor)]
        stacked = torch.stack(between, dim + 1).flatten(dim, dim + 1)
        fine = torch.cat([stacked, fine.narrow(dim, n, 1)], dim)
    return without_periodic_copies(fine, periodic)
