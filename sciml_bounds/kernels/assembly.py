"""Sums over the cells around each node or edge, from which lattice equations are assembled.

A node has cells on both sides along every axis. An edge has cells on both sides along every axis except its own. Cells
beyond an end of a non-periodic axis count as zero.
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
    """Return `scale` times the sum of a cell field over the cells around each node or edge.

    Parameters
    ----------
    cells : Tensor (b, n)
        Cell field.
    along : tuple of bool
        Axes along which both neighbouring cells are summed. Along every other axis the result has one value per cell,
        and zero at the last node.
    periodic : tuple of bool
        Which axes are periodic.
    scale : float
        Common factor.

    Returns
    -------
    Tensor (b, n + 1, or n along periodic axes)
        The sums.
    """
    if not any(cells.stride()[1:]):  # constant on each sample
        return _uniform_sums(cells, along, periodic, scale)
    shape = tuple(n + (not wraps) for n, wraps in zip(cells.shape[1:], periodic))
    out = new_field(cells, (1, len(cells), *shape))  # every entry is written
    add_cell_sums(cells, along, periodic, scale, out.view(1, len(cells), *(1,) * (3 - len(shape)), *shape), 0)
    return out[0]


def _uniform_sums(cells: Tensor, along: Axes, periodic: Axes, scale: float) -> Tensor:
    """Return the sums of a field that is constant on each sample: its value times the number of cells summed."""
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
    """Write the sums of `cell_sums` into `out[k]` of `out` (k, b, x, y, z), a lattice padded to three axes."""
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
    if length == cells.shape[dim]:  # a missing axis
        return cells
    zero = torch.zeros_like(cells.narrow(dim, 0, 1))
    after = torch.cat([cells, zero], dim)
    return after + torch.cat([zero, cells], dim) if both else after
