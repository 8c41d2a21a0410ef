"""Connected components of the fluid cells, and the condition for a solution on each component.

Cells are connected through faces only, since no flux passes through a common vertex (or, in three dimensions, edge). A
component floats if u is determined on it up to a constant only: it has no Dirichlet face, no Robin face with alpha > 0,
and no reaction. Then a solution exists only if the sources on the component balance.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
import torch
from torch import Tensor

from sciml_bounds.errors import InputError

__all__ = ["Components", "add_on_sides", "cell_graph", "check_balance", "find_components", "mean_excess"]

#: Tolerance for the imbalance of a floating component, in units of the round-off of the sum of |sources|.
BALANCE_TOL = 1e4

#: Number of partial sums per component. Summing millions of cells one after the other would accumulate round-off.
PARTIAL_SUMS = 1024


@dataclass(frozen=True)
class Components:
    """The face-connected components of the fluid cells.

    Attributes
    ----------
    labels : Tensor of int64 (s, n)
        Index of the component of each cell, with distinct indices in the s samples; -1 in solids. s is 1 if all samples
        have the same components.
    floating : Tensor of bool (components,)
        Whether each component floats.
    """

    labels: Tensor
    floating: Tensor

    def for_batch(self, batch: int) -> Components:
        """Return the components repeated for every sample of a batch, with distinct indices."""
        if len(self.labels) == batch:
            return self
        count = len(self.floating)
        step = torch.arange(batch, device=self.labels.device).view(-1, *(1,) * (self.labels.ndim - 1)) * count
        labels = torch.where(self.labels >= 0, self.labels + step, -1)
        return Components(labels, self.floating.repeat(batch))

    def sums(self, field: Tensor) -> Tensor:
        """Return the sum of a field (s, n) over each component."""
        fluid, count = self.labels >= 0, len(self.floating)
        parts = PARTIAL_SUMS if count * PARTIAL_SUMS <= fluid.numel() else 1
        part = torch.arange(fluid[0].numel(), device=fluid.device).remainder_(parts).view(fluid[0].shape)
        index = self.labels[fluid] * parts + part.expand(fluid.shape)[fluid]
        total = torch.zeros(count * parts, dtype=field.dtype, device=field.device)
        return total.index_add(0, index, field.expand(fluid.shape)[fluid]).view(count, parts).sum(1)


def find_components(fluid: Tensor, periodic: tuple[bool, ...], fixed: Tensor) -> Components:
    """Return the components of the fluid, and which of them float.

    Parameters
    ----------
    fluid : Tensor of bool (s, n)
        Mask of the fluid cells.
    periodic : tuple of bool
        Whether each axis is periodic.
    fixed : Tensor of bool (s, n)
        Mask of the cells at which u is fixed, by a Dirichlet or Robin side or by a reaction.
    """
    labels = _labels(fluid, periodic)
    count = int(labels.max()) + 1
    components = Components(labels, torch.zeros(count, dtype=torch.bool, device=labels.device))
    components = components.for_batch(max(len(labels), len(fixed)))
    return Components(components.labels, components.sums(fixed.to(torch.float64)) == 0)


def add_on_sides(cells: Tensor, sides: Iterable[tuple[int, int, Tensor]]) -> Tensor:
    """Add side fields, given as (axis, end, field), to the adjacent cells (s, n); for booleans use "or"."""
    for axis, end, faces in sides:
        cells = cells.expand(max(len(cells), len(faces)), *cells.shape[1:]).clone()
        cells.select(1 + axis, -end).add_(faces)
    return cells


def check_balance(components: Components, supply: Tensor, size: Tensor) -> None:
    """Raise unless sources and boundary fluxes sum to zero on every floating component, so that a solution exists.

    Parameters
    ----------
    components : Components
        Components of the fluid.
    supply, size : Tensor (s, n)
        Sum of the sources of each cell and the fluxes into it through sides, and the sum of their absolute values.

    Raises
    ------
    InputError
        If the sum over a floating component is not zero.
    """
    repeated = components.for_batch(max(len(supply), len(components.labels)))
    total, scale = repeated.sums(supply), repeated.sums(size)
    slack = BALANCE_TOL * torch.finfo(supply.dtype).eps * scale
    bad = repeated.floating & (total.abs() > slack)
    if bool(bad.any()):
        number = int(torch.nonzero(bad)[0])
        part = "the domain" if len(components.floating) == 1 else f"component {number} of the fluid"
        raise InputError(
            f"sources and boundary fluxes of {part} sum to {float(total[number]):.6g}, but they must sum to zero, "
            "since nothing there fixes the level of u (only Neumann or periodic sides, and no reaction); subtract the "
            "mean from the source."
        )


def mean_excess(components: Components, supply: Tensor) -> Tensor:
    """Return in each cell the mean of `supply` over its component if the component floats, else zero; shape (s, n)."""
    components = components.for_batch(max(len(supply), len(components.labels)))
    cells = components.sums((components.labels >= 0).to(supply.dtype))
    mean = torch.where(components.floating, components.sums(supply) / cells, 0.0)
    return torch.where(components.labels >= 0, mean[components.labels], 0.0)


def cell_graph(
    fluid: np.ndarray[Any, Any], periodic: tuple[bool, ...]
) -> tuple[scipy.sparse.csr_array, np.ndarray[Any, Any]]:
    """Return the face-adjacency matrix of the fluid cells of one sample, and the cell indices (-1 in solids)."""
    count = int(np.count_nonzero(fluid))
    numbers = np.full(fluid.shape, -1, dtype=np.int64)
    numbers[fluid] = np.arange(count)
    starts, ends = [], []
    for axis, wraps in enumerate(periodic):
        here, there = numbers, np.roll(numbers, -1, axis)
        if not wraps:
            inner = tuple(slice(None, -1) if a == axis else slice(None) for a in range(fluid.ndim))
            here, there = here[inner], there[inner]
        both = (here >= 0) & (there >= 0)
        starts.append(here[both])
        ends.append(there[both])
    pairs = (np.concatenate(starts), np.concatenate(ends))
    graph = scipy.sparse.coo_array((np.ones(len(pairs[0]), dtype=np.int8), pairs), shape=(count, count))
    return graph.tocsr(), numbers


def _labels(fluid: Tensor, periodic: tuple[bool, ...]) -> Tensor:
    if bool(fluid.all()):
        return torch.zeros((1, *fluid.shape[1:]), dtype=torch.int64, device=fluid.device)
    masks = fluid.cpu().numpy()
    labels = np.full(masks.shape, -1, dtype=np.int64)
    first = 0
    for mask, label in zip(masks, labels):
        graph, numbers = cell_graph(mask, periodic)
        count, found = scipy.sparse.csgraph.connected_components(graph, directed=False)
        label[mask] = found[numbers[mask]] + first
        first += count
    return torch.as_tensor(labels, device=fluid.device)
