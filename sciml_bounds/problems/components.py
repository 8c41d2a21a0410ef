"""Which cells hang together: the connected components of the fluid, and whether the data leave them a solution.

Cells are connected through faces only; cells that meet at a vertex (or, in three dimensions, along an edge) are not,
because no flux passes there. A component floats if nothing fixes the level of u on it: no Dirichlet face, no Robin face
with alpha > 0, no reaction. Its sources must then balance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
import torch
from torch import Tensor

from sciml_bounds.errors import InputError
from sciml_bounds.grid import Dirichlet, Neumann, Robin, side_axis

if TYPE_CHECKING:
    from sciml_bounds.problems.diffusion import Diffusion

__all__ = ["Components", "balanced_source", "cell_graph", "check_balance", "find_components"]

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


def find_components(problem: Diffusion) -> Components:
    """Label the components of a problem and find those that float."""
    labels = _labels(problem)
    held = _holds(problem)
    count = int(labels.max()) + 1
    components = Components(labels, torch.zeros(count, dtype=torch.bool, device=labels.device))
    components = components.for_batch(max(len(labels), len(held)))
    held_sums = components.sums(held.to(torch.float64))
    return Components(components.labels, held_sums == 0)


def check_balance(problem: Diffusion) -> None:
    """Refuse sources that do not balance on a floating component: the equation has no solution there.

    Raises
    ------
    InputError
        With the imbalance and what to do.
    """
    if not problem.floats:
        return
    supply, size = _supply(problem, problem.dtype)
    components = problem.components.for_batch(max(len(supply), len(problem.components.labels)))
    total, scale = components.sums(supply), components.sums(size)
    slack = BALANCE_SLACK * torch.finfo(problem.dtype).eps * scale
    bad = components.floating & (total.abs() > slack)
    if bool(bad.any()):
        number = int(torch.nonzero(bad)[0])
        part = "the domain" if len(problem.components.floating) == 1 else f"component {number} of the fluid"
        raise InputError(
            f"sources and boundary fluxes of {part} sum to {float(total[number]):.6g}, but nothing there fixes the "
            "level of u (only Neumann or periodic sides and no reaction), so they must sum to zero; subtract the mean "
            "from the source."
        )


def balanced_source(problem: Diffusion, dtype: torch.dtype) -> Tensor:
    """Convert the source to a wider dtype, with what the narrower left of its balance spread over each component."""
    source: Tensor = problem.source.to(dtype)
    if not problem.floats:
        return source
    supply, _ = _supply(problem, dtype)
    components = problem.components.for_batch(max(len(supply), len(problem.components.labels)))
    cells = components.sums((components.labels >= 0).to(dtype))
    excess = torch.where(components.floating, components.sums(supply) / cells, 0.0) / problem.grid.cell_volume
    return source - problem.unflatten(torch.where(components.labels >= 0, excess[components.labels], 0.0))


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


def _labels(problem: Diffusion) -> Tensor:
    if problem.solid is None:
        return torch.zeros((1, *problem.grid.shape), dtype=torch.int64, device=problem.device)
    masks = problem.fluid.cpu().numpy()
    labels = np.full(masks.shape, -1, dtype=np.int64)
    first = 0
    for mask, label in zip(masks, labels):
        graph, numbers = cell_graph(mask, problem.periodic)
        count, found = scipy.sparse.csgraph.connected_components(graph, directed=False)
        label[mask] = found[numbers[mask]] + first
        first += count
    return torch.as_tensor(labels, device=problem.device)


def _holds(problem: Diffusion) -> Tensor:
    """Cells that fix the level of u: boolean, shape (s, n)."""
    holds = problem.samples(problem.reaction.detach() > 0)
    for side, condition in problem.boundary.items():
        if not isinstance(condition, Dirichlet | Robin):
            continue
        axis, end = side_axis(side)
        if isinstance(condition, Robin):
            faces = problem.samples(condition.alpha.detach() > 0, problem.grid.dim - 1)
        else:
            faces = torch.ones((1,) * problem.grid.dim, dtype=torch.bool, device=problem.device)
        holds = holds.expand(max(len(holds), len(faces)), *problem.grid.shape).clone()
        holds.select(1 + axis, -end).logical_or_(faces)
    return holds & problem.fluid


def _supply(problem: Diffusion, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Compute what sources and Neumann sides bring into each cell, and its size, shape (s, n)."""
    supply = problem.samples(problem.source.detach().to(dtype)) * problem.grid.cell_volume
    size = supply.abs()
    for side, condition in problem.boundary.items():
        if not isinstance(condition, Neumann | Robin):
            continue
        axis, end = side_axis(side)
        data = condition.flux if isinstance(condition, Neumann) else condition.g
        inflow = problem.samples(data.detach().to(dtype), problem.grid.dim - 1) * problem.grid.face_area(axis)
        shape = (max(len(supply), len(inflow)), *problem.grid.shape)
        supply, size = supply.expand(shape).clone(), size.expand(shape).clone()
        supply.select(1 + axis, -end).add_(inflow)
        size.select(1 + axis, -end).add_(inflow.abs())
    return supply, size
