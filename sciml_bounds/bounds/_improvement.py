"""Local improvement of an equilibrated flux where the error indicators are large.

A circulation is a loop of flux around a node (in three dimensions, around an edge) of the grid. It does not change the
divergence. On the loops that touch the marked cells, the flux term ||a^-1/2 (a grad v - y)||^2 is a quadratic function,
which a few conjugate-gradient steps decrease. Each step makes the bound smaller, and the bound is valid after any
number of steps. Cells are marked as by Doerfler, SIAM J. Numer. Anal. 33 (1996) 1106-1124.

Notation: a plane is a pair of axes (i, j). Its loops are given by one value psi per node of the plane, and their flux
is y_i = d psi / d x_j, y_j = -d psi / d x_i.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from sciml_bounds.bounds._flux import open_faces
from sciml_bounds.grid import AXES, Dirichlet
from sciml_bounds.kernels.q1 import modes
from sciml_bounds.krylov._loop import iterate
from sciml_bounds.operators._linear_operator import Diagonal, LinearOperator
from sciml_bounds.problems.diffusion import Diffusion

__all__ = ["improve_flux"]

#: Cells are marked in the smallest set that contributes this fraction of the squared bound.
MARKED_SHARE = 0.9


def improve_flux(
    problem: Diffusion, values: Tensor, flux: tuple[Tensor, ...], squared: Tensor, steps: int
) -> tuple[Tensor, ...]:
    """Lower the flux term of the bound by changing the flux around the cells with large indicators.

    Parameters
    ----------
    problem, values, flux
        As in `bounds._majorant.majorant`.
    squared : Tensor, shape (b, n)
        Squared indicators.
    steps : int
        Number of conjugate-gradient steps.

    Returns
    -------
    tuple of Tensor
        The improved flux, which has the same divergence as the given flux.
    """
    if problem.grid.dim == 1:  # a line has no circulations
        return flux
    with torch.no_grad():
        loops = _Loops(problem, _marked(squared))
        operator = _LoopOperator(loops, len(values))
        right = loops.gather(loops.mismatch(values, flux))
        psi = iterate(operator, right, operator.jacobi, maxiter=steps).x
    return tuple(face + change for face, change in zip(flux, loops.spread(psi)))


def _marked(squared: Tensor) -> Tensor:
    """Return the mask of the smallest set of cells that contributes `MARKED_SHARE` of the sum, shape (b, n)."""
    flat = squared.flatten(1)
    ordered, order = flat.sort(dim=1, descending=True)
    before = torch.cumsum(ordered, 1) - ordered
    chosen = before < MARKED_SHARE * flat.sum(1, keepdim=True)
    return torch.zeros_like(flat, dtype=torch.bool).scatter(1, order, chosen).view(squared.shape)


class _Loops:
    """The admissible loops, and the maps between loop values and face fluxes."""

    def __init__(self, problem: Diffusion, marked: Tensor) -> None:
        self.problem = problem
        self.planes = tuple(combinations(range(problem.grid.dim), 2))
        free = [self._free_faces(axis) for axis in range(problem.grid.dim)]
        self.allowed = [self._allowed(plane, free, marked) for plane in self.planes]
        fluid = problem.fluid
        volume = problem.grid.cell_volume
        coefficient = (torch.where(fluid, problem.samples(a), 1.0) for a in problem.coefficient)
        self.weight = [torch.where(fluid, volume / (6 * a), 0.0) for a in coefficient]

    def _free_faces(self, axis: int) -> Tensor:
        """Return the mask of the faces whose flux may change: between fluid cells, and on Dirichlet sides."""
        free = open_faces(self.problem, axis).clone()
        for end in (0, 1):
            if not isinstance(self.problem.boundary[f"{AXES[axis]}{end}"], Dirichlet):
                free.select(1 + axis, -end).fill_(False)
        return free

    def _allowed(self, plane: tuple[int, int], free: list[Tensor], marked: Tensor) -> Tensor:
        i, j = (1 + axis for axis in plane)
        blocked = _around(~free[plane[0]], j) | _around(~free[plane[1]], i)
        return _around(_around(marked, i), j) & ~blocked

    def spread(self, psi: Tensor) -> tuple[Tensor, ...]:
        """Return the face fluxes of loop values psi (b, loops)."""
        grid = self.problem.grid
        changes = [torch.zeros((), dtype=psi.dtype, device=psi.device)] * grid.dim
        first = 0
        for (i, j), allowed in zip(self.planes, self.allowed):
            count = allowed[0].numel()
            part = psi[:, first : first + count].reshape(len(psi), *allowed.shape[1:])
            first += count
            changes[i] = changes[i] + torch.diff(part, dim=1 + j) / grid.face_area(i)
            changes[j] = changes[j] - torch.diff(part, dim=1 + i) / grid.face_area(j)
        return tuple(changes)

    def gather(self, faces: tuple[Tensor, ...]) -> Tensor:
        """Apply the transpose of `spread`, with zero for the loops that are not admissible, shape (b, loops)."""
        grid = self.problem.grid
        parts = []
        for (i, j), allowed in zip(self.planes, self.allowed):
            part = _difference_transposed(faces[i], 1 + j) / grid.face_area(i)
            part = part - _difference_transposed(faces[j], 1 + i) / grid.face_area(j)
            parts.append(torch.where(allowed, part, 0.0).flatten(1))
        return torch.cat(parts, 1)

    def mass(self, faces: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the product of the mass matrix of the fluxes, weighted with 1/a, and a flux."""
        result = []
        for axis, face in enumerate(faces):
            dim, n = 1 + axis, self.problem.grid.shape[axis]
            low, high = face.narrow(dim, 0, n), face.narrow(dim, 1, n)
            result.append(_to_faces(self.weight[axis] * (2 * low + high), self.weight[axis] * (low + 2 * high), dim))
        return tuple(result)

    def mismatch(self, values: Tensor, flux: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return minus half the derivative of the flux term with respect to each face flux."""
        grid = self.problem.grid
        parts = modes(values, grid.dim)
        result = []
        for axis, weighted in enumerate(self.mass(flux)):
            first = tuple(int(a == axis) for a in range(grid.dim))
            gradient = self.problem.samples(self.problem.coefficient[axis]) * parts[first] / grid.spacing[axis]
            target = torch.where(self.problem.fluid, 3 * self.weight[axis] * gradient, 0.0)
            result.append(_to_faces(target, target, 1 + axis) - weighted)
        return tuple(result)

    def diagonal(self) -> Tensor:
        """Return the diagonal of the loop matrix, with 1 for loops that are not admissible."""
        grid = self.problem.grid
        share = [_to_faces(2 * w, 2 * w, 1 + axis) / grid.face_area(axis) ** 2 for axis, w in enumerate(self.weight)]
        parts = []
        for (i, j), allowed in zip(self.planes, self.allowed):
            part = _around_sum(share[i], 1 + j) + _around_sum(share[j], 1 + i)
            parts.append(torch.where(allowed, part, 1.0).flatten(1))
        return torch.cat([part.expand(max(map(len, parts)), -1) for part in parts], 1)


class _LoopOperator(LinearOperator):
    """Matrix of the flux term on the admissible loops, for vectors (b, loops)."""

    symmetric = True

    def __init__(self, loops: _Loops, batch: int) -> None:
        self.loops = loops
        n = sum(allowed[0].numel() for allowed in loops.allowed)
        self.shape = (n, n)
        self.dtype, self.device = loops.problem.dtype, loops.problem.device
        self.jacobi = Diagonal(loops.diagonal().reciprocal())

    def matvec(self, x: Tensor) -> Tensor:
        """Apply the matrix."""
        return self.loops.gather(self.loops.mass(self.loops.spread(x)))


def _around(mask: Tensor, dim: int) -> Tensor:
    """Return the mask of the points, n + 1 along a dimension, that touch a marked interval."""
    nothing = torch.zeros_like(mask.narrow(dim, 0, 1))
    return torch.cat([mask, nothing], dim) | torch.cat([nothing, mask], dim)


def _around_sum(field: Tensor, dim: int) -> Tensor:
    zero = torch.zeros_like(field.narrow(dim, 0, 1))
    return torch.cat([field, zero], dim) + torch.cat([zero, field], dim)


def _to_faces(low: Tensor, high: Tensor, dim: int) -> Tensor:
    """Sum the contributions of cells to their lower and upper faces along a dimension."""
    zero = torch.zeros_like(low.narrow(dim, 0, 1))
    return torch.cat([low, zero], dim) + torch.cat([zero, high], dim)


def _difference_transposed(field: Tensor, dim: int) -> Tensor:
    """Apply the transpose of `torch.diff` along a dimension."""
    zero = torch.zeros_like(field.narrow(dim, 0, 1))
    return torch.cat([zero, field], dim) - torch.cat([field, zero], dim)
