"""Multilinear elements on a box grid, evaluated at the same points of every cell.

Shapes: q quadrature points per cell, k = 2^d corners per cell, n cells, d axes. Node fields have n + 1 nodes along
every axis; on a periodic axis the last node is a copy of the first.
"""

from __future__ import annotations

import math
from functools import cached_property, lru_cache
from itertools import product

import torch
from torch import Tensor

from sciml_bounds.grid import Grid

__all__ = ["GAUSS", "Elements", "Rule", "corners", "elements_on", "sum_corners"]

#: Quadrature rule: points in [0, 1] and their weights.
Rule = tuple[tuple[float, float], ...]

#: Two-point Gauss rule on [0, 1]. It integrates cubics exactly, and so the energies of linear problems.
GAUSS = ((0.5 - math.sqrt(1 / 12), 0.5), (0.5 + math.sqrt(1 / 12), 0.5))


def corners(nodes: Tensor, dim: int) -> Tensor:
    """Return the values at the corners of every cell: (..., n + 1) becomes (2^d, ..., n)."""
    parts = [nodes]
    for axis in range(dim):
        position = nodes.ndim - dim + axis
        n = nodes.shape[position] - 1
        parts = [part.narrow(position, end, n) for part in parts for end in (0, 1)]
    return torch.stack(parts)


def sum_corners(parts: Tensor, dim: int) -> Tensor:
    """Sum corner values at the nodes: (2^d, ..., n) becomes (..., n + 1). This is the transpose of `corners`."""
    shape = parts.shape[1:]
    sizes = (*shape[: len(shape) - dim], *(n + 1 for n in shape[len(shape) - dim :]))
    total = parts.new_zeros(sizes)
    for part, ends in zip(parts, product((0, 1), repeat=dim)):
        view = total
        for axis, end in enumerate(ends):
            position = len(shape) - dim + axis
            view = view.narrow(position, end, shape[position])
        view += part
    return total


class Elements:
    """Multilinear elements with a tensor-product quadrature rule.

    Parameters
    ----------
    grid : Grid
        The grid.
    rule : Rule
        Points of [0, 1] and their weights, which sum to 1.
    device : torch.device or str
        Device of the fields.

    Attributes
    ----------
    weights : Tensor (q,)
        Quadrature weights of a cell.
    points : Tensor (q, d)
        Quadrature points of the unit cell.
    """

    def __init__(self, grid: Grid, rule: Rule = GAUSS, device: torch.device | str = "cpu") -> None:
        self.grid, self.device = grid, torch.device(device)
        one = torch.tensor(rule, dtype=torch.float64, device=device)
        axes = [one[:, 0]] * grid.dim
        self.points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, grid.dim)
        factors = torch.stack(torch.meshgrid(*[one[:, 1]] * grid.dim, indexing="ij"), -1)
        self.weights = factors.reshape(-1, grid.dim).prod(-1) * grid.cell_volume

    @cached_property
    def shapes(self) -> Tensor:
        """Values of the nodal basis functions at the quadrature points, shape (q, k)."""
        return self._products(None)

    @cached_property
    def slopes(self) -> Tensor:
        """Gradients of the nodal basis functions at the quadrature points, shape (q, k, d)."""
        return torch.stack([self._products(axis) for axis in range(self.grid.dim)], -1)

    def _products(self, slope: int | None) -> Tensor:
        columns = []
        for ends in product((0, 1), repeat=self.grid.dim):
            column = self.points.new_ones(len(self.points))
            for axis, end in enumerate(ends):
                t = self.points[:, axis]
                h = self.grid.spacing[axis]
                column = column * ((2 * end - 1) / h if axis == slope else t if end else 1 - t)
            columns.append(column)
        return torch.stack(columns, -1)

    def at(self, nodes: Tensor, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Return values (q, ..., n) and gradients (q, ..., n, d) of a node field (..., n + 1) at the points `rows`."""
        of_corners = corners(nodes, self.grid.dim)
        values = torch.tensordot(self.shapes[rows], of_corners, 1)
        return values, torch.einsum("qkd,k...->q...d", self.slopes[rows], of_corners)

    def tested(self, by_value: Tensor, by_gradient: Tensor) -> Tensor:
        """Return the integrals (s, phi) + (y, grad phi), shape (..., n + 1), for every nodal basis function phi.

        Parameters
        ----------
        by_value : Tensor (q, ..., n)
            Values of s at the quadrature points.
        by_gradient : Tensor (q, ..., n, d)
            Values of the vector field y at the quadrature points.
        """
        shapes = self.shapes * self.weights.unsqueeze(-1)
        slopes = self.slopes * self.weights.view(-1, 1, 1)
        parts = torch.einsum("qk,q...->k...", shapes, by_value) + torch.einsum("qkd,q...d->k...", slopes, by_gradient)
        return sum_corners(parts, self.grid.dim)

    def integrate(self, values: Tensor) -> Tensor:
        """Integrate a function over the box, given its values at the quadrature points, shape (q, n)."""
        return (self.weights @ values.reshape(len(self.weights), -1)).sum()

    def coordinates(self) -> Tensor:
        """Return the coordinates of the quadrature points of all cells, shape (q, n, d)."""
        grid = self.grid
        lines = []
        for axis, h in enumerate(grid.spacing):
            left = grid.nodes(axis, device=self.device)[:-1]
            lines.append(left + h * self.points[:, axis].unsqueeze(-1))
        full = [
            line.view(len(line), *(-1 if other == axis else 1 for other in range(grid.dim)))
            for axis, line in enumerate(lines)
        ]
        return torch.stack(torch.broadcast_tensors(*full), -1)


@lru_cache(maxsize=64)
def elements_on(grid: Grid, rule: Rule = GAUSS, device: torch.device | str = "cpu") -> Elements:
    """Return the elements of a grid with a quadrature rule; the result is cached."""
    return Elements(grid, rule, device)
