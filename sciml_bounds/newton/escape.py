"""A way on from stationary points that are no minima: along what the constraints leave free and curves downwards."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml_bounds.newton.kkt import is_sparse
from sciml_bounds.newton.merit import Merit
from sciml_bounds.newton.products import Matrix, Products
from sciml_bounds.newton.program import Point, Program

__all__ = ["escape"]

#: Curvature is negative below this part of the norm of the Hessian: less may be round-off at a degenerate minimum.
NEGATIVE = 1e-6

#: The first step, relative to 1 + ||x||, and how often it is halved.
FIRST, HALVINGS = 0.1, 10

#: The part of the decrease that the curvature promises which is enough.
ENOUGH = 0.1


def escape(program: Program, point: Point, H: Matrix, eta1: float) -> Point | None:
    """Step off a stationary point along the most negative curvature of H on the null space of the Jacobian.

    Returns
    -------
    Point or None
        A point with a lower f + l.c + eta1/2 ||c||^2; None where there is none, or matrices are sparse.
    """
    G = point.jacobian
    if isinstance(H, Products) or isinstance(G, Products) or is_sparse(H) or is_sparse(G):
        return None
    free = _null_space(G)
    values, vectors = torch.linalg.eigh(free.mT @ H @ free)
    if len(values) == 0 or values[0] >= -NEGATIVE * H.norm():
        return None
    merit, direction = Merit(eta1, 0.0), free @ vectors[:, 0]
    here, length = merit.value(point), FIRST * (1 + float(point.x.norm()))
    for _ in range(HALVINGS):
        for step in (length * direction, -length * direction):
            trial = program.at(point.x + step, point.multipliers)
            if trial.finite and merit.value(trial) <= here + ENOUGH * float(values[0]) / 2 * length**2:
                return trial
        length /= 2
    return None


def _null_space(G: Tensor) -> Tensor:
    """Return an orthonormal basis of what G maps to zero, shape (n, n - rank)."""
    m, n = G.shape
    if m == 0:
        return torch.eye(n, dtype=G.dtype, device=G.device)
    _, sizes, rows = torch.linalg.svd(G, full_matrices=True)
    rank = int((sizes > NEGATIVE * sizes[0]).sum())
    basis: Tensor = rows[rank:].mT
    return basis
