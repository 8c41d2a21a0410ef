"""Exact equilibration of a flux: its divergence defect leaves the domain along a spanning tree of the fluid cells.

Starting at the leaves, every cell passes its defect to its parent through their common face. At a root the defect
leaves the domain through a Dirichlet face or, without Dirichlet faces, through a Robin face with alpha > 0. Otherwise
the root keeps its defect: either the cell has a reaction, so a defect is admissible, or the component is floating and
its total defect is zero up to round-off. Each face-connected component has its own tree, so components may have any
shape.

If there are no solids, and every line of cells ends at one side through which flux can leave, the lines are the trees
and the sweep is one cumulative sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
import torch
from torch import Tensor

from sciml_bounds.grid import Dirichlet, Robin, side_axis
from sciml_bounds.kernels.field_memory import elementwise, new_field
from sciml_bounds.kernels.spanning_tree import add_to_children, add_to_parents
from sciml_bounds.problems.components import cell_graph
from sciml_bounds.problems.diffusion import Diffusion

__all__ = ["open_side", "sweep_out"]


def sweep_out(problem: Diffusion, faces: tuple[Tensor, ...], needed: Tensor) -> tuple[Tensor, ...]:
    """Correct face fluxes so that the outflow of every cell increases by a given amount.

    Parameters
    ----------
    problem : Diffusion
        Problem that defines the fluid cells and the boundary conditions.
    faces : tuple of Tensor
        Flux y at the face centres, one field (b, n + 1 along its own axis) per axis.
    needed : Tensor, shape (b, n)
        Amount by which the outflow of each cell must increase; zero in solids.

    Returns
    -------
    tuple of Tensor
        The corrected fluxes, differentiable with respect to `faces` and `needed`.
    """
    side = open_side(problem)
    if side is not None:
        return _sweep_lines(problem, faces, needed, side)
    return _sweep_trees(problem, faces, needed)


# --- lines ------------------------------------------------------------------------------------------------------------


def open_side(problem: Diffusion) -> str | None:
    """Return a side through which the defect of every line of cells can leave the domain, or None."""
    if problem.solid is not None:
        return None
    dirichlet = [side for side, condition in problem.boundary.items() if isinstance(condition, Dirichlet)]
    if dirichlet:  # prefer the upper end of the last axis: cumulative sums in memory order are cheaper
        return max(dirichlet, key=lambda side: (side[1], side[0]))
    for side, condition in problem.boundary.items():
        if isinstance(condition, Robin) and bool((condition.alpha.detach() > 0).all()):
            return side
    return None


def _sweep_lines(problem: Diffusion, faces: tuple[Tensor, ...], needed: Tensor, side: str) -> tuple[Tensor, ...]:
    axis, end = side_axis(side)
    dim = 1 + axis
    if end:
        carried = elementwise(torch.cumsum, needed, dim)
    else:
        carried = -torch.flip(torch.cumsum(torch.flip(needed, (dim,)), dim), (dim,))
    corrected = list(faces)
    shared = faces[axis].expand(len(needed), *faces[axis].shape[1:])
    corrected[axis] = new_field(shared).copy_(shared)
    corrected[axis].narrow(dim, end, needed.shape[dim]).add_(carried, alpha=1 / problem.grid.face_area(axis))
    return tuple(corrected)


# --- trees ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Tree:
    """Spanning forest of one sample, and the face through which each cell passes its defect."""

    order: np.ndarray[Any, Any]  # cells, parents before children
    parent: np.ndarray[Any, Any]  # parent cell; -1 for a root
    axis: np.ndarray[Any, Any]  # axis of the face towards the parent or out of the domain; -1 for a root without exit
    face: np.ndarray[Any, Any]  # position of that face in the flattened face field of its axis
    sign: np.ndarray[Any, Any]  # +1 if the parent or the exit lies in the positive direction


def _sweep_trees(problem: Diffusion, faces: tuple[Tensor, ...], needed: Tensor) -> tuple[Tensor, ...]:
    trees = _trees(problem)
    corrected = [face.expand(len(needed), *face.shape[1:]).clone() for face in faces]
    wraps = problem.periodic
    for sample in range(len(needed)):
        tree = trees[sample if len(trees) > 1 else 0]
        flow = _TreeFlow.apply(needed[sample], tree)
        for axis in range(problem.grid.dim):
            through = torch.as_tensor(tree.axis == axis, device=needed.device)
            where = torch.as_tensor(tree.face, device=needed.device)[through]
            sign = torch.as_tensor(tree.sign, dtype=needed.dtype, device=needed.device)[through]
            change = torch.zeros_like(corrected[axis][sample]).reshape(-1)
            change = change.index_add(0, where, flow.reshape(-1)[through] * sign / problem.grid.face_area(axis))
            change = change.view(corrected[axis].shape[1:])
            if wraps[axis]:  # the first and the last face are the same face
                last = change.shape[axis] - 1
                seam = change.narrow(axis, 0, 1) + change.narrow(axis, last, 1)
                change = torch.cat([seam, change.narrow(axis, 1, last - 1), seam], axis)
            corrected[axis] = corrected[axis].index_add(
                0, torch.tensor([sample], device=needed.device), change.unsqueeze(0)
            )
    return tuple(corrected)


def _trees(problem: Diffusion) -> list[_Tree]:
    fluid = problem.fluid.cpu().numpy()
    exits = _exits(problem)
    keeps = problem.samples(problem.reaction.detach()).cpu().numpy()
    count = max(len(fluid), len(keeps), *(len(mask) for mask, *_ in exits)) if exits else max(len(fluid), len(keeps))

    def pick(field: np.ndarray[Any, Any], sample: int) -> np.ndarray[Any, Any]:
        chosen: np.ndarray[Any, Any] = field[sample if len(field) > 1 else 0]
        return chosen

    return [
        _grow(
            pick(fluid, s),
            problem.periodic,
            [(pick(mask, s), axis, end, rank) for mask, axis, end, rank in exits],
            pick(keeps, s),
        )
        for s in range(count)
    ]


def _exits(problem: Diffusion) -> list[tuple[np.ndarray[Any, Any], int, int, int]]:
    """List the sides where flux can leave: mask of their faces, axis, end, and rank (0 Dirichlet, 1 Robin)."""
    exits = []
    for side, condition in problem.boundary.items():
        axis, end = side_axis(side)
        if isinstance(condition, Dirichlet):
            shape = problem.grid.shape[:axis] + problem.grid.shape[axis + 1 :]
            exits.append((np.ones((1, *shape), dtype=bool), axis, end, 0))
        elif isinstance(condition, Robin):
            mask = problem.samples(condition.alpha.detach() > 0, problem.grid.dim - 1)
            exits.append((mask.cpu().numpy(), axis, end, 1))
    return exits


def _grow(
    fluid: np.ndarray[Any, Any],
    periodic: tuple[bool, ...],
    exits: list[tuple[np.ndarray[Any, Any], int, int, int]],
    keeps: np.ndarray[Any, Any],
) -> _Tree:
    graph, _ = cell_graph(fluid, periodic)
    shape = fluid.shape
    cells = np.flatnonzero(fluid.reshape(-1))
    size = fluid.size
    axis_of = np.full(size, -1)
    face_of = np.zeros(size, dtype=np.int64)
    sign_of = np.zeros(size)
    rank_of = np.full(size, 3)  # 0 Dirichlet exit, 1 Robin exit, 2 may keep, 3 none
    rank_of[(keeps > 0).reshape(-1)] = 2
    index = np.arange(size).reshape(shape)
    for mask, axis, end, rank in exits:
        behind = index.take(-end, axis)[mask & fluid.take(-end, axis)]
        better = behind[rank_of[behind] > rank]
        rank_of[better], axis_of[better], sign_of[better] = rank, axis, 1.0 if end else -1.0
        face_of[better] = _face_position(better, axis, shape, end * shape[axis])
    roots = _roots(graph, rank_of[cells], keeps.reshape(-1)[cells])
    count = len(cells)
    ground = scipy.sparse.coo_array(
        (np.ones(len(roots), dtype=np.int8), (np.full(len(roots), count), roots)), shape=(count + 1,) * 2
    )
    full = scipy.sparse.block_diag([graph, np.zeros((1, 1), dtype=np.int8)]) + ground
    order, previous = scipy.sparse.csgraph.breadth_first_order(full.tocsr(), count, directed=False)
    order = order[1:]
    parent = np.full(size, -1, dtype=np.int64)
    inner = order[previous[order] != count]
    parent[cells[inner]] = cells[previous[inner]]
    _set_inner_faces(parent, cells[inner], axis_of, face_of, sign_of, shape)
    return _Tree(cells[order], parent, axis_of, face_of, sign_of)


def _roots(graph: Any, rank: np.ndarray[Any, Any], keeps: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the roots of each component: all cells with an exit of the best rank, or one cell without exit."""
    count, labels = scipy.sparse.csgraph.connected_components(graph, directed=False)
    best = np.full(count, 3)
    np.minimum.at(best, labels, rank)
    roots = np.flatnonzero((rank <= 1) & (rank == best[labels]))
    for component in np.flatnonzero(best >= 2):  # the cell with the strongest reaction, or any cell without reaction
        members = np.flatnonzero(labels == component)
        roots = np.append(roots, members[np.argmax(keeps[members])])
    return roots


def _face_position(cell: np.ndarray[Any, Any], axis: int, shape: tuple[int, ...], at: Any) -> np.ndarray[Any, Any]:
    """Return the positions, in the flattened face field, of the faces with index `at` on the lines of cells."""
    position = list(np.unravel_index(cell, shape))
    position[axis] = np.broadcast_to(at, cell.shape)
    face_shape = tuple(n + (a == axis) for a, n in enumerate(shape))
    result: np.ndarray[Any, Any] = np.ravel_multi_index(position, face_shape)
    return result


def _set_inner_faces(
    parent: np.ndarray[Any, Any],
    cell: np.ndarray[Any, Any],
    axis_of: np.ndarray[Any, Any],
    face_of: np.ndarray[Any, Any],
    sign_of: np.ndarray[Any, Any],
    shape: tuple[int, ...],
) -> None:
    """Set the face between each cell and its parent."""
    here, there = np.unravel_index(cell, shape), np.unravel_index(parent[cell], shape)
    for axis in range(len(shape)):
        step = there[axis] - here[axis]
        moved = step != 0
        forward = (step == 1) | (step < -1)  # a longer step crosses the seam of a periodic axis
        at = np.where(forward, here[axis] + 1, here[axis])
        chosen = cell[moved]
        axis_of[chosen] = axis
        sign_of[chosen] = np.where(forward, 1.0, -1.0)[moved]
        face_of[chosen] = _face_position(chosen, axis, shape, at[moved])


class _TreeFlow(torch.autograd.Function):
    """Flow from each cell to its parent, given the needed outflow; the derivative is computed from roots to leaves."""

    @staticmethod
    def forward(needed: Tensor, tree: _Tree) -> Tensor:
        flow = needed.detach().cpu().reshape(-1).clone()
        add_to_parents(tree.order, tree.parent, flow)
        return flow.view(needed.shape).to(needed.device)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.tree = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradients[0].detach().cpu().reshape(-1).clone()
        add_to_children(ctx.tree.order, ctx.tree.parent, gradient)
        return gradient.view(gradients[0].shape).to(gradients[0].device), None
