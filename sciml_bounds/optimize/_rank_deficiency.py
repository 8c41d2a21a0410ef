"""The attainable part of constraints with a rank-deficient Jacobian."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml_bounds.optimize._inner_solvers import DirectSolve
from sciml_bounds.optimize._kkt import frobenius, identity, kkt_matrix
from sciml_bounds.optimize._nonlinear_program import Point
from sciml_bounds.optimize._products import Products, damped_solution

__all__ = ["attainable_residual"]

#: Singular values of a rank-deficient Jacobian below this fraction of its norm count as zero.
RANK_TOL = 1e-6


def attainable_residual(point: Point) -> Tensor:
    """Return (grad_x L, c') with the part c' of c in the range of G; the other part would let multipliers diverge.

    c' = G p, with p from (e^2 I + G^T G) p = G^T c, solved as the KKT system [[e I, G^T], [G, -e I]] (p, y) = (0, c).
    """
    n, e, G = len(point.x), max(RANK_TOL * frobenius(point.jacobian), 1e-150), point.jacobian
    if isinstance(G, Products):
        p = damped_solution(G, point.constraints, e**2)
    else:
        A = kkt_matrix(identity(G, e), G, e)
        p = DirectSolve(A, torch.cat([point.x.new_zeros(n), point.constraints]), 0).z[:n]
    return torch.cat([point.lagrangian_gradient, G @ p])
