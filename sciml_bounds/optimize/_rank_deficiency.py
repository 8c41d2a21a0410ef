"""What is left of constraints whose Jacobian has lost its rank."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml_bounds.optimize._inner_solvers import DirectSolve
from sciml_bounds.optimize._kkt import frobenius, identity, kkt_matrix
from sciml_bounds.optimize._nonlinear_program import Point
from sciml_bounds.optimize._products import Products, damped_solution

__all__ = ["attainable_residual"]

#: Singular values of the Jacobian below this part of its norm are taken for zero, where one has to be.
RANK = 1e-6


def attainable_residual(point: Point) -> Tensor:
    """Return (grad_x L, c') with the part c' of c in the range of G: along the rest, multipliers grow without end.

    c' = G p, with p from (e^2 I + G^T G) p = G^T c, solved as the KKT system [[e I, G^T], [G, -e I]] (p, y) = (0, c).
    """
    n, e, G = len(point.x), max(RANK * frobenius(point.jacobian), 1e-150), point.jacobian
    if isinstance(G, Products):
        p = damped_solution(G, point.constraints, e**2)
    else:
        A = kkt_matrix(identity(G, e), G, e)
        p = DirectSolve(A, torch.cat([point.x.new_zeros(n), point.constraints]), 0).z[:n]
    return torch.cat([point.lagrangian_gradient, G @ p])
