"""Transfers between the cells and the nodes of a box, on the last axes of fields (b, channel, *space)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from sciml_bounds.problems.transfers import node_average

__all__ = ["average_to_interior_nodes", "interior_of", "with_zero_boundary"]


def average_to_interior_nodes(cells: Tensor, dim: int) -> Tensor:
    """Average the 2^dim cells around each interior node: n cells become n - 1 nodes along each axis."""
    return node_average(cells, tuple(range(cells.ndim - dim, cells.ndim)))


def with_zero_boundary(interior: Tensor, dim: int) -> Tensor:
    """Append boundary nodes with value zero: n - 1 nodes become n + 1 along each axis."""
    return functional.pad(interior, (1, 1) * dim)


def interior_of(nodes: Tensor, dim: int) -> Tensor:
    """Drop the boundary nodes (a view)."""
    for axis in range(nodes.ndim - dim, nodes.ndim):
        nodes = nodes.narrow(axis, 1, nodes.shape[axis] - 2)
    return nodes
