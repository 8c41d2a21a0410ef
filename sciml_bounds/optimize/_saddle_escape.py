"""Escape from saddle points along negative curvature in the null space of the constraint Jacobian."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.linalg import vector_norm

from sciml_bounds.krylov._ritz_vectors import lanczos
from sciml_bounds.operators._linear_operator import CallableOperator
from sciml_bounds.optimize._hessians import ExactHessian, Hessians
from sciml_bounds.optimize._kkt import frobenius, identity, is_sparse, kkt_matrix
from sciml_bounds.optimize._merit import Merit
from sciml_bounds.optimize._nonlinear_program import Point, Program
from sciml_bounds.optimize._products import Matrix, Products, damped_solution
from sciml_bounds.optimize._restoration import restore
from sciml_bounds.optimize._sparse_factors import sparse_factors
from sciml_bounds.reports import Reason

__all__ = ["Escapes", "escape", "free_part"]

#: Maximum number of consecutive escapes whose decrease of the objective is at most `SIGNIFICANT_DECREASE` times the
#: decrease since the first escape.
MAX_ESCAPES, SIGNIFICANT_DECREASE = 5, 1e-3

#: Curvature counts as negative below minus this times ||H||; smaller values may be round-off at a degenerate minimum.
CURVATURE_TOL = 1e-6

#: First trial step, relative to 1 + ||x||, and maximum number of halvings.
FIRST_STEP, MAX_HALVINGS = 0.1, 10

#: Required decrease of the merit value, as a fraction of that predicted by the curvature.
SUFFICIENT_DECREASE = 0.1

#: Number of Lanczos steps, for Hessians that are sparse or operators.
LANCZOS_STEPS = 20

#: With an operator as Jacobian, each projection on its null space is a least-squares problem, which takes at least as
#: many products as there are constraints. With more than `MANY_CONSTRAINTS`, the Hessian is first tested without
#: constraints, and the number of Lanczos steps is reduced to `FEW_LANCZOS_STEPS`.
MANY_CONSTRAINTS, FEW_LANCZOS_STEPS = 50, 6

#: Regularisation of projections on the null space of a sparse Jacobian G, relative to ||G||^2.
PROJECTION_DAMPING = 1e-14

#: A direction d counts as being in the null space if ||G d|| / (||G|| ||d||) is at most this.
NULL_SPACE_TOL = 1e-5


class Escapes:
    """Escapes from saddle points, with a limit on consecutive escapes that gain little.

    Parameters
    ----------
    program : Program
        The problem.
    hessians : Hessians
        Its Hessians; saddle points are detected with exact ones only.
    tolerance : float
        Tolerance of the constraint violation.
    count : int or None
        Maximum number of consecutive escapes that gain little.
    """

    def __init__(self, program: Program, hessians: Hessians, tolerance: float, count: int | None = None) -> None:
        self._program, self._hessians, self._tolerance = program, hessians, tolerance
        self._count = self._left = MAX_ESCAPES if count is None else count
        self._funs: list[float] = []  # at the points that were left

    def away_from(self, point: Point, eta1: float) -> Point | Reason | None:
        """Return a point to continue from, `SADDLE` after too many escapes, or None if `point` may be a minimum."""
        if not isinstance(self._hessians, ExactHessian):
            return None
        H, _ = self._hessians.at(point)
        if not math.isfinite(frobenius(H)):
            return None
        found = escape(self._program, point, H, eta1, self._tolerance)
        if found is None:
            return None
        funs = self._funs = [*self._funs, point.fun]
        if len(funs) > 1 and funs[-2] - funs[-1] > SIGNIFICANT_DECREASE * abs(funs[0] - funs[-1]):
            self._left = self._count
        if self._left == 0:
            return Reason.SADDLE
        self._left -= 1
        return found


def escape(program: Program, point: Point, H: Matrix, eta1: float, tolerance: float) -> Point | None:
    """Leave a saddle point along negative curvature of H in the null space of the Jacobian.

    With dense matrices, the direction combines all eigenvectors of negative curvature. Otherwise it comes from a few
    steps of the Lanczos method, which may miss weak negative curvature.

    Returns
    -------
    Point or None
        A point with a lower f + l.c + eta1/2 ||c||^2, or None if none is found.
    """
    G = point.jacobian
    dense = not (isinstance(H, Products) or isinstance(G, Products) or is_sparse(H) or is_sparse(G))
    found = _eigenvector_direction(H, G) if dense else _lanczos_direction(H, G, len(point.x))
    if found is None or found[0] >= -CURVATURE_TOL * frobenius(H):
        return None
    merit, (curvature, direction) = Merit(eta1, 0.0), found
    here, length = merit.value(point), FIRST_STEP * (1 + float(point.x.norm()))
    for _ in range(MAX_HALVINGS):
        for step in (length * direction, -length * direction):
            trial = _closer_to_feasible(program, program.at(point.x + step, point.multipliers), tolerance)
            if trial.finite and merit.value(trial) <= here + SUFFICIENT_DECREASE * curvature / 2 * length**2:
                return trial
        length /= 2
    return None


def _closer_to_feasible(program: Program, trial: Point, tolerance: float) -> Point:
    """Reduce the constraint violation at a trial point; a straight step violates curved constraints.

    Without this, the penalty would shorten the step, and the next direction might lead back to the saddle point: its
    normal part, towards the constraints, can hide the negative curvature.
    """
    nearer = restore(program, trial, tolerance) if trial.finite else None
    return replace(nearer, multipliers=trial.multipliers) if isinstance(nearer, Point) else trial


def _eigenvector_direction(H: Matrix, G: Matrix) -> tuple[float, Tensor] | None:
    """Return a direction of negative curvature in the null space of G with its curvature, or the least curvature.

    The direction combines all eigenvectors of negative curvature, weighted by it: a single one would lead from one
    saddle point to the next.
    """
    assert isinstance(H, Tensor)
    assert isinstance(G, Tensor)
    free = _null_space(G)
    values, vectors = torch.linalg.eigh(free.mT @ H @ free)
    if not len(values):
        return None
    part = (values / values[0]).clamp_min(0.0) if values[0] < 0 else torch.eye(len(values)).to(values)[0]
    weights = part * (0.5 + torch.rand(len(values), generator=torch.Generator().manual_seed(0)).to(values))
    weights = weights / vector_norm(weights)
    return float(weights.square() @ values), free @ (vectors @ weights)


def _null_space(G: Tensor) -> Tensor:
    """Return an orthonormal basis of the null space of G, shape (n, n - rank)."""
    m, n = G.shape
    if m == 0:
        return torch.eye(n, dtype=G.dtype, device=G.device)
    _, sizes, rows = torch.linalg.svd(G, full_matrices=True)
    rank = int((sizes > CURVATURE_TOL * sizes[0]).sum())
    basis: Tensor = rows[rank:].mT
    return basis


def _lanczos_direction(H: Matrix, G: Matrix, n: int) -> tuple[float, Tensor] | None:
    """Return the least Ritz value of H in the null space of G, and its vector; None if the null space is trivial."""
    random = torch.randn(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(H.device)
    expensive = isinstance(G, Products) and G.shape[0] > MANY_CONSTRAINTS
    if expensive and _least_ritz(H, torch.clone, random, LANCZOS_STEPS)[0] >= -CURVATURE_TOL * frobenius(H):
        return None
    project = _projection(G)
    start = project(random)
    if not _in_null_space(G, start):
        return None  # the null space is trivial, or the projection has not converged
    found = _least_ritz(H, project, start, FEW_LANCZOS_STEPS if expensive else LANCZOS_STEPS)
    return found if _in_null_space(G, found[1]) else None


def free_part(G: Matrix, direction: Tensor) -> Tensor | None:
    """Return the projection of a direction (n,) on the null space of G (m, n), or None if it is only round-off."""
    part = _projection(G)(direction)
    return part if _in_null_space(G, part) else None


def _in_null_space(G: Matrix, direction: Tensor) -> bool:
    size = float(direction.norm())
    return size > 0 and float((G @ direction).norm()) <= NULL_SPACE_TOL * frobenius(G) * size


def _least_ritz(H: Matrix, project: Callable[[Tensor], Tensor], start: Tensor, products: int) -> tuple[float, Tensor]:
    """Return the least Ritz value of the projected H, and its vector, after `products` Lanczos steps."""
    operator = CallableOperator(
        lambda v: project(H @ v.view(-1)).view(v.shape), len(start), torch.float64, start.device, symmetric=True
    )
    basis, diagonal, off = lanczos(operator, start, products)
    values, vectors = torch.linalg.eigh(torch.diag(diagonal) + torch.diag(off, 1) + torch.diag(off, -1))
    return float(values[0]), vectors[:, 0] @ basis


def _projection(G: Matrix) -> Callable[[Tensor], Tensor]:
    """Return the orthogonal projection on the null space of G."""
    m, n = G.shape
    if m == 0:
        return torch.clone
    if isinstance(G, Products):
        return lambda v: v - G.mT @ damped_solution(G.mT, v, 0.0)
    e = max(PROJECTION_DAMPING * frobenius(G) ** 2, 1e-150)
    if not is_sparse(G):
        _, sizes, rows = torch.linalg.svd(G, full_matrices=False)
        rows = rows[sizes > CURVATURE_TOL * sizes[0]]
        return lambda v: v - rows.mT @ (rows @ v)
    solve = sparse_factors(kkt_matrix(identity(G), G, e))
    if solve is None:
        return torch.zeros_like
    return lambda v: solve(torch.cat([v, v.new_zeros(m)]))[:n]
