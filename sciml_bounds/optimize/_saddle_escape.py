"""A way on from stationary points that are no minima: along what the constraints leave free and curves downwards."""

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

#: Largest number of stationary points in a row that are left because they are not minima, without a notable decrease of
#: the objective from one to the next: this part of the decrease since the first one.
ESCAPES, NOTABLE = 5, 1e-3

#: Curvature is negative below this part of the norm of the Hessian: less may be round-off at a degenerate minimum.
NEGATIVE = 1e-6

#: The first step, relative to 1 + ||x||, and how often it is halved.
FIRST, HALVINGS = 0.1, 10

#: The part of the decrease that the curvature promises which is enough.
ENOUGH = 0.1

#: Products with the Hessian that are spent on the search where it has no entries, or sparse ones.
PRODUCTS = 20

#: Projections on the null space of a Jacobian that is known by products are least squares, which take as many products
#: as there are constraints, or more. With more than this number of them, H is looked at without constraints before, and
#: fewer products with H are made.
CONSTRAINTS, FEW = 50, 6

#: Projections on the null space of a sparse Jacobian G are exact up to this, relative to ||G||^2 and squared.
DAMPING = 1e-14

#: ||G d|| / (||G|| ||d||) of a direction d that is taken for one of the null space.
FREE = 1e-5


class Escapes:
    """Ways on from stationary points that are known not to be minima, a few times at most while nothing is gained.

    Parameters
    ----------
    program, hessians, tolerance
        As for directions; only exact Hessians tell minima from other points.
    count
        Largest number of escapes that gain little.
    """

    def __init__(self, program: Program, hessians: Hessians, tolerance: float, count: int | None = None) -> None:
        self._program, self._hessians, self._tolerance = program, hessians, tolerance
        self._count = self._left = ESCAPES if count is None else count
        self._funs: list[float] = []  # at the points that were left

    def away_from(self, point: Point, eta1: float) -> Point | Reason | None:
        """Return a point to go on from, SADDLE where there have been too many, or None where a minimum is possible."""
        if not isinstance(self._hessians, ExactHessian):
            return None
        H, _ = self._hessians.at(point)
        if not math.isfinite(frobenius(H)):
            return None
        found = escape(self._program, point, H, eta1, self._tolerance)
        if found is None:
            return None
        funs = self._funs = [*self._funs, point.fun]
        if len(funs) > 1 and funs[-2] - funs[-1] > NOTABLE * abs(funs[0] - funs[-1]):
            self._left = self._count
        if self._left == 0:
            return Reason.SADDLE
        self._left -= 1
        return found


def escape(program: Program, point: Point, H: Matrix, eta1: float, tolerance: float) -> Point | None:
    """Step off a stationary point along negative curvature of H on the null space of the Jacobian.

    It is a mean of all that is negative where matrices are dense. Otherwise Lanczos' method looks for it with a few
    products, so that what it finds is true, but weak curvature may go unseen.

    Returns
    -------
    Point or None
        A point with a lower f + l.c + eta1/2 ||c||^2, or None where none is found.
    """
    G = point.jacobian
    dense = not (isinstance(H, Products) or isinstance(G, Products) or is_sparse(H) or is_sparse(G))
    found = _of_eigenvectors(H, G) if dense else _of_lanczos(H, G, len(point.x))
    if found is None or found[0] >= -NEGATIVE * frobenius(H):
        return None
    merit, (curvature, direction) = Merit(eta1, 0.0), found
    here, length = merit.value(point), FIRST * (1 + float(point.x.norm()))
    for _ in range(HALVINGS):
        for step in (length * direction, -length * direction):
            trial = _near_the_constraints(program, program.at(point.x + step, point.multipliers), tolerance)
            if trial.finite and merit.value(trial) <= here + ENOUGH * curvature / 2 * length**2:
                return trial
        length /= 2
    return None


def _near_the_constraints(program: Program, trial: Point, tolerance: float) -> Point:
    """Go back to the constraints, which a straight step leaves where they are curved.

    Their penalty would shorten the step, and what the next direction does about them hides that it leads back along
    negative curvature.
    """
    nearer = restore(program, trial, tolerance) if trial.finite else None
    return replace(nearer, multipliers=trial.multipliers) if isinstance(nearer, Point) else trial


def _of_eigenvectors(H: Matrix, G: Matrix) -> tuple[float, Tensor] | None:
    """Return a negative curvature on the null space, and its direction; or the least one.

    Eigenvectors are mixed by their negative curvature, since one alone leads to the next of many saddles in a row.
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
    """Return an orthonormal basis of what G maps to zero, shape (n, n - rank)."""
    m, n = G.shape
    if m == 0:
        return torch.eye(n, dtype=G.dtype, device=G.device)
    _, sizes, rows = torch.linalg.svd(G, full_matrices=True)
    rank = int((sizes > NEGATIVE * sizes[0]).sum())
    basis: Tensor = rows[rank:].mT
    return basis


def _of_lanczos(H: Matrix, G: Matrix, n: int) -> tuple[float, Tensor] | None:
    """Return the least Ritz value of H on the null space, and its vector; None where no direction is free."""
    random = torch.randn(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(H.device)
    dear = isinstance(G, Products) and G.shape[0] > CONSTRAINTS
    if dear and _least_ritz(H, torch.clone, random, PRODUCTS)[0] >= -NEGATIVE * frobenius(H):
        return None
    project = _projection(G)
    start = project(random)
    if not _is_free(G, start):
        return None  # nothing but round-off is free, or the projection has not converged
    found = _least_ritz(H, project, start, FEW if dear else PRODUCTS)
    return found if _is_free(G, found[1]) else None


def free_part(G: Matrix, direction: Tensor) -> Tensor | None:
    """Return the part of a direction (n,) in the null space of G (m, n), or None where it is nothing but errors."""
    part = _projection(G)(direction)
    return part if _is_free(G, part) else None


def _is_free(G: Matrix, direction: Tensor) -> bool:
    size = float(direction.norm())
    return size > 0 and float((G @ direction).norm()) <= FREE * frobenius(G) * size


def _least_ritz(H: Matrix, project: Callable[[Tensor], Tensor], start: Tensor, products: int) -> tuple[float, Tensor]:
    """Return the least Ritz value of the projected H, and its vector."""
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
    e = max(DAMPING * frobenius(G) ** 2, 1e-150)
    if not is_sparse(G):
        _, sizes, rows = torch.linalg.svd(G, full_matrices=False)
        rows = rows[sizes > NEGATIVE * sizes[0]]
        return lambda v: v - rows.mT @ (rows @ v)
    solve = sparse_factors(kkt_matrix(identity(G), G, e))
    if solve is None:
        return torch.zeros_like
    return lambda v: solve(torch.cat([v, v.new_zeros(m)]))[:n]
