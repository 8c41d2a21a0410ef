"""Sums over the cells around each node, or around each edge: what the equations of a lattice are assembled from.

A node is summed over the cells on both sides along every axis, an edge along every axis but its own. Cells beyond an
end that is not periodic count as zero.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from sciml_bounds.kernels._backend import backend_for, needs_gradient, require_batches, run_compiled
from sciml_bounds.kernels.field_memory import new_field
from sciml_bounds.kernels.lattice import rows

__all__ = ["add_cell_sums", "cell_sums"]

Axes = tuple[bool, ...]


def cell_sums(cells: Tensor, along: Axes, periodic: Axes, scale: float) -> Tensor:
    """Sum a cell field times a number over the cells around each node (edge), shape (b, n + 1; n if periodic).

    Parameters
    ----------
    cells
        Shape (b, n).
    along
        The axes that are summed over; along the others there is one value a cell, and zero at the last node.
    periodic
        Which axes wrap.
    scale
        What every cell is multiplied with.
    """
    if not any(cells.stride()[1:]):  # one number for all cells
        return _uniform_sums(cells, along, periodic, scale)
    shape = tuple(n + (not wraps) for n, wraps in zip(cells.shape[1:], periodic))
    out = new_field(cells, (1, len(cells), *shape))  # every entry is written
    add_cell_sums(cells, along, periodic, scale, out.view(1, len(cells), *(1,) * (3 - len(shape)), *shape), 0)
    return out[0]


def _uniform_sums(cells: Tensor, along: Axes, periodic: Axes, scale: float) -> Tensor:
    """Sum cells of one value a sample: a product of the numbers of cells along the axes."""
    total = scale * cells[(slice(None), *(slice(1),) * len(along))]
    for axis, (both, wraps) in enumerate(zip(along, periodic)):
        count = cells.new_full((cells.shape[1 + axis] + (not wraps),), 2.0 if both else 1.0)
        if not wraps:
            count[-1] = 1.0 if both else 0.0
            count[0] = 1.0
        factor = count.view(-1, *(1,) * (len(along) - 1 - axis))
        if needs_gradient(total):
            total = total * factor
        else:
            total = torch.mul(total, factor, out=new_field(total, np.broadcast_shapes(total.shape, factor.shape)))
    return total


def add_cell_sums(cells: Tensor, along: Axes, periodic: Axes, scale: float, out: Tensor, k: int) -> None:
    """Write such sums, on a lattice padded to three axes, into number k of `out` (k, b, x, y, z)."""
    missing = 3 - len(along)
    padded = cells.reshape(len(cells), *(1,) * missing, *cells.shape[1:])
    both, wraps = (False,) * missing + along, (False,) * missing + periodic
    if backend_for(cells) == "compiled" and not needs_gradient(cells):
        require_batches(out.shape[1], padded)
        size = out.shape[1:].numel()
        run_compiled("cell_sums", size, padded.contiguous(), _flags(both), _flags(wraps), scale, rows(out), k)
        return
    summed = padded * scale
    for axis in range(3):
        summed = _summed_along(summed, 1 + axis, both[axis], wraps[axis], out.shape[2 + axis])
    out[k].copy_(summed)


@lru_cache
def _flags(axes: Axes) -> np.ndarray:
    return np.array(axes)


# --- reference --------------------------------------------------------------------------------------------------------


def _summed_along(cells: Tensor, dim: int, both: bool, wraps: bool, length: int) -> Tensor:
    if wraps:
        return cells + torch.roll(cells, 1, dim) if both else cells
    if length == cells.shape[dim]:  # an axis that is not there
        return cells
    zero = torch.zeros_like(cells.narrow(dim, 0, 1))
    after = torch.cat([cells, zero], dim)
    return after + torch.cat([zero, cells], dim) if both else after
