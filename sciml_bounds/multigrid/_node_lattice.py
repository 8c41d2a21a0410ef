"""Between cell data and the interior nodes of a box, on the last axes of (b, channel, *space)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from sciml_bounds.problems.transfers import node_average

__all__ = ["average_to_interior_nodes", "interior_of", "with_zero_boundary"]


def average_to_interior_nodes(cells: Tensor, dim: int) -> Tensor:
    """Give each interior node the mean of the 2^dim cells around it: n cells, n - 1 nodes along each axis."""
    return node_average(cells, tuple(range(cells.ndim - dim, cells.ndim)))


def with_zero_boundary(interior: Tensor, dim: int) -> Tensor:
    """Put zeros on the boundary nodes: n - 1 nodes become n + 1 along each axis."""
    return functional.pad(interior, (1, 1) * dim)


def interior_of(nodes: Tensor, dim: int) -> Tensor:
    """Drop the boundary nodes (a view)."""
    for axis in range(nodes.ndim - dim, nodes.ndim):
        nodes = nodes.narrow(axis, 1, nodes.shape[axis] - 2)
    return nodes
