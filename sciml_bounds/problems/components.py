"""Connected components of the fluid cells, and whether the data leave them a solution.

Cells are connected through faces only; cells that meet at a vertex (or, in three dimensions, along an edge) are not,
because no flux passes there. A component floats if nothing fixes the level of u on it: no Dirichlet face, no Robin face
with alpha > 0, no reaction. Its sources must then balance.
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

#: A floating component must balance its sources to this many round-offs of their absolute sum.
BALANCE_SLACK = 1e4

#: Sums over a component are made of so many, since adding millions of cells to one number gathers round-off.
PARTS = 1024


@dataclass(frozen=True)
class Components:
    """The face-connected components of the fluid cells.

    Attributes
    ----------
    labels
        int64, shape (s, n): the number of the component of each cell, distinct over the s samples; -1 in solids. s is 1
        where all samples have the same components.
    floating
        Boolean, shape (components,): whether nothing fixes the level of the solution there.
    """

    labels: Tensor
    floating: Tensor

    def for_batch(self, batch: int) -> Components:
        """Repeat for every sample of a batch, with distinct numbers."""
        if len(self.labels) == batch:
            return self
        count = len(self.floating)
        step = torch.arange(batch, device=self.labels.device).view(-1, *(1,) * (self.labels.ndim - 1)) * count
        labels = torch.where(self.labels >= 0, self.labels + step, -1)
        return Components(labels, self.floating.repeat(batch))

    def sums(self, field: Tensor) -> Tensor:
        """Sum a field (s, n) over each component."""
        fluid, count = self.labels >= 0, len(self.floating)
        parts = PARTS if count * PARTS <= fluid.numel() else 1
        part = torch.arange(fluid[0].numel(), device=fluid.device).remainder_(parts).view(fluid[0].shape)
        index = self.labels[fluid] * parts + part.expand(fluid.shape)[fluid]
        total = torch.zeros(count * parts, dtype=field.dtype, device=field.device)
        return total.index_add(0, index, field.expand(fluid.shape)[fluid]).view(count, parts).sum(1)


def find_components(fluid: Tensor, periodic: tuple[bool, ...], fixed: Tensor) -> Components:
    """Label the components of the fluid, and find those on which nothing fixes the level of the solution.

    Parameters
    ----------
    fluid
        The cells of the domain: boolean, shape (s, n).
    periodic
        Whether each axis is.
    fixed
        The cells that fix the level: boolean, shape (s, n).
    """
    labels = _labels(fluid, periodic)
    count = int(labels.max()) + 1
    components = Components(labels, torch.zeros(count, dtype=torch.bool, device=labels.device))
    components = components.for_batch(max(len(labels), len(fixed)))
    return Components(components.labels, components.sums(fixed.to(torch.float64)) == 0)


def add_on_sides(cells: Tensor, sides: Iterable[tuple[int, int, Tensor]]) -> Tensor:
    """Add fields on sides, given with axis and end, to the cells (s, n) next to them; of booleans it is "or"."""
    for axis, end, faces in sides:
        cells = cells.expand(max(len(cells), len(faces)), *cells.shape[1:]).clone()
        cells.select(1 + axis, -end).add_(faces)
    return cells


def check_balance(components: Components, supply: Tensor, size: Tensor) -> None:
    """Raise unless the sources balance on every floating component: otherwise the equation has no solution.

    Parameters
    ----------
    components
        Of the fluid.
    supply, size
        What sources and fluxes through sides bring into each cell, and the sum of their magnitudes, shape (s, n).

    Raises
    ------
    InputError
        With the imbalance and the remedy.
    """
    repeated = components.for_batch(max(len(supply), len(components.labels)))
    total, scale = repeated.sums(supply), repeated.sums(size)
    slack = BALANCE_SLACK * torch.finfo(supply.dtype).eps * scale
    bad = repeated.floating & (total.abs() > slack)
    if bool(bad.any()):
        number = int(torch.nonzero(bad)[0])
        part = "the domain" if len(components.floating) == 1 else f"component {number} of the fluid"
        raise InputError(
            f"sources and boundary fluxes of {part} sum to {float(total[number]):.6g}, but nothing there fixes the "
            "level of u (only Neumann or periodic sides and no reaction), so they must sum to zero; subtract the mean "
            "from the source."
        )


def mean_excess(components: Components, supply: Tensor) -> Tensor:
    """Return the mean of the supply of the cells of each floating component, zero elsewhere, shape (s, n)."""
    components = components.for_batch(max(len(supply), len(components.labels)))
    cells = components.sums((components.labels >= 0).to(supply.dtype))
    mean = torch.where(components.floating, components.sums(supply) / cells, 0.0)
    return torch.where(components.labels >= 0, mean[components.labels], 0.0)


def cell_graph(
    fluid: np.ndarray[Any, Any], periodic: tuple[bool, ...]
) -> tuple[scipy.sparse.csr_array, np.ndarray[Any, Any]]:
    """Return the adjacency of the fluid cells of one sample through faces, and each cell's number (-1 in solids)."""
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
