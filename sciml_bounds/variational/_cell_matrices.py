"""Element matrices of multilinear elements on a grid, one small matrix per cell, and solves with multigrid.

Notation: q points of a cell, k and l its corners, n cells, i and j axes; vectors are node fields, flat.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from sciml_bounds._linear_methods import Automatic
from sciml_bounds._solve import prepare
from sciml_bounds.krylov._loop import iterate
from sciml_bounds.operators._linear_operator import CallableOperator, LinearOperator
from sciml_bounds.problems.elements import corners, sum_corners
from sciml_bounds.problems.energy_density import Second
from sciml_bounds.problems.transfers import fold_periodic_copies, with_periodic_copies
from sciml_bounds.problems.variational_problem import VariationalProblem

__all__ = ["CellMatrices"]

#: Smallest weight in preconditioners, as a fraction of the largest one; weights of degenerate energies may vanish.
LEAST_WEIGHT = 1e-8

#: Maximum number of iterations per solve; solves that need more are limited by round-off.
MAXITER = 200


class CellMatrices:
    """The second derivative of an energy on the free nodes, and the identity on the Dirichlet nodes.

    Parameters
    ----------
    problem : VariationalProblem
        The problem, which defines elements and free nodes.
    second : Second
        Second derivatives of the density at the quadrature points, positive semi-definite.
    """

    def __init__(self, problem: VariationalProblem, second: Second) -> None:
        self.problem = problem
        self._second = second
        self._matrices = self._assembled(second)

    def _assembled(self, second: Second) -> Tensor:
        elements = self.problem.elements
        weights, shapes, slopes = elements.weights, elements.shapes, elements.slopes
        cells = second.uu.shape[1:]
        count = shapes.shape[1]
        of_gradients = torch.einsum("q,qki,qlj->klqij", weights, slopes, slopes).reshape(count**2, -1)
        of_values = torch.einsum("q,qk,ql->klq", weights, shapes, shapes).reshape(count**2, -1)
        pp = second.pp.movedim((-2, -1), (1, 2)).reshape(-1, cells.numel())
        matrices = of_gradients @ pp
        if bool(second.uu.any()):
            matrices += of_values @ second.uu.reshape(-1, cells.numel())
        if second.up is not None:
            mixed = torch.einsum("q,qk,qlj->klqj", weights, shapes, slopes)
            mixed = (mixed + mixed.transpose(0, 1)).reshape(count**2, -1)
            matrices += mixed @ second.up.movedim(-1, 1).reshape(-1, cells.numel())
        return matrices.view(count, count, *cells)

    @property
    def finite(self) -> bool:
        """Whether all second derivatives are finite."""
        return all(bool(part.isfinite().all()) for part in (self._second.pp, self._second.uu))

    def shifted(self, other: CellMatrices, weight: float) -> CellMatrices:
        """Return the sum of this matrix and `weight` times `other`."""
        mine, theirs = self._second, other._second
        return CellMatrices(self.problem, Second(mine.pp + weight * theirs.pp, mine.up, mine.uu + weight * theirs.uu))

    def apply(self, nodes: Tensor) -> Tensor:
        """Apply to any node field; the result is zero at Dirichlet nodes.

        The field may be nonzero at Dirichlet nodes.
        """
        problem = self.problem
        dim, periodic = problem.dim, problem.frame.periodic
        of_corners = corners(with_periodic_copies(nodes, periodic), dim)
        parts = torch.einsum("kl...,l...->k...", self._matrices, of_corners)
        return problem.free * fold_periodic_copies(sum_corners(parts, dim), periodic)

    @cached_property
    def operator(self) -> LinearOperator:
        """The matrix for flat vectors, with ones on the diagonal where values are prescribed."""
        free = self.problem.free

        def matvec(x: Tensor) -> Tensor:
            rows = [self.apply(free * row) + (1 - free) * row for row in x.reshape(-1, *free.shape)]
            return torch.stack(rows).view(x.shape)

        return CallableOperator(matvec, free.numel(), free.dtype, free.device, symmetric=True)

    def product(self, u: Tensor, v: Tensor) -> float:
        """Return u . A v for node fields."""
        return float((u * self.apply(v)).sum())

    @cached_property
    def preconditioner(self) -> LinearOperator:
        """Solver of the lattice equations with the diagonal of the weights: fast transforms or a multigrid cycle."""
        frame, size = self.problem.frame, float(self._second.pp.diagonal(dim1=-2, dim2=-1).max())
        diagonal = self._second.pp.diagonal(dim1=-2, dim2=-1).mean(0) / size  # the scale of a preconditioner is free
        parts = tuple(diagonal[..., i].clamp_min(LEAST_WEIGHT) for i in range(self.problem.dim))
        same = all(bool(torch.equal(part, parts[0])) for part in parts)
        reaction = torch.where(frame.reaction > 0, self._second.uu.mean(0).clamp_min(0.0) / size, 0.0)
        if not bool(frame.dirichlet_nodes.any()):  # the reaction may vanish here, and the matrix become singular
            reaction = torch.where(frame.reaction > 0, reaction.clamp_min(LEAST_WEIGHT), 0.0)
        weighted = frame.replace(coefficient=parts[0] if same else parts, reaction=reaction)
        return prepare(weighted, method=Automatic()).as_preconditioner()

    def solve(self, rhs: Tensor, rtol: float) -> tuple[Tensor, int]:
        """Solve for a node field that is zero at Dirichlet nodes; return it and the number of iterations."""
        b = (self.problem.free * rhs).reshape(1, -1)
        if not bool(b.any()):
            return torch.zeros_like(rhs), 0
        solution = iterate(self.operator, b, self.preconditioner, None, rtol=rtol, maxiter=MAXITER)
        return solution.x.view(rhs.shape), int(solution.iterations.max())
