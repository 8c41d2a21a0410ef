"""Sums along the branches of a spanning forest.

A forest is given by its cells in breadth-first order and by the parent of each cell (-1 for a root). Each step depends
on the step before, so there is no triton version: fields on CUDA are summed on the host.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sciml_bounds.kernels._backend import backend_for, run_compiled

__all__ = ["add_to_children", "add_to_parents"]

Integers = np.ndarray[tuple[int], np.dtype[np.int64]]


def add_to_parents(order: Integers, parent: Integers, values: Tensor) -> Tensor:
    """Replace the value of each cell by the sum of the values of itself and its descendants, in place.

    Parameters
    ----------
    order : array of int64
        Cells in the order of a breadth-first search from all roots.
    parent : array of int64
        Parent of each cell, -1 for roots.
    values : Tensor (n,)
        Values of the cells, on the CPU.
    """
    if backend_for(values) == "compiled":
        run_compiled("add_to_parents", 0, order, parent, values)
        return values
    for cells, parents in reversed(_levels(order, parent)):
        values.index_add_(0, parents, values[cells])
    return values


def add_to_children(order: Integers, parent: Integers, values: Tensor) -> Tensor:
    """Replace the value of each cell by the sum of the values of itself and its ancestors, in place.

    This is the transpose of `add_to_parents`, with the same parameters.
    """
    if backend_for(values) == "compiled":
        run_compiled("add_to_children", 0, order, parent, values)
        return values
    for cells, parents in _levels(order, parent):
        values[cells] += values[parents]
    return values


def _levels(order: Integers, parent: Integers) -> list[tuple[Tensor, Tensor]]:
    """Return the cells at distance 1, 2, ... from the roots, with their parents: one pair of tensors per distance."""
    place = np.empty(len(parent), dtype=np.int64)
    place[order] = np.arange(len(order))
    above = parent[order]
    before = np.where(above >= 0, place[above], -1)  # ascending, since the search is breadth-first
    levels, start = [], int(np.searchsorted(before, 0))
    while start < len(order):
        end = int(np.searchsorted(before, start))
        levels.append((torch.from_numpy(order[start:end]), torch.from_numpy(above[start:end])))
        start = end
    return levels
