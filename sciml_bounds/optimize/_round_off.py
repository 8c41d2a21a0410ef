"""Whether a KKT residual is what round-off leaves of it.

A gradient that is a sum of large terms, or steep, is never small: on `s * f` with s = 1e8 and curvature 1e3 the last
digit of x alone changes it by 1e-5. The level is measured, since no formula knows what cancels inside of functions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.linalg import vector_norm

from sciml_bounds.operators._linear_operator import csr_tensor
from sciml_bounds.optimize._kkt import is_sparse, scipy_matrix
from sciml_bounds.optimize._nonlinear_program import Point, Program
from sciml_bounds.optimize._products import Products

__all__ = ["is_negligible", "is_round_off"]

#: Points near x at which the residual is evaluated; their entries differ from those of x in the last digit.
PROBES = 3

#: An entry of the residual may be this many times what the last digit of x, or of one of its terms, changes in it.
DIGITS = 10.0

#: Largest residual relative to its terms, with exact first derivatives and with differences: at a kink the last digit
#: of x changes gradients by their own size.
EXACT, DIFFERENCES = 1e-8, 1e-5

EPS = torch.finfo(torch.float64).eps


def is_round_off(program: Program, point: Point) -> bool:
    """Return whether no entry of the residual of a point is larger than round-off explains."""
    if not is_negligible(program, point):
        return False
    level = torch.cat([EPS * _terms(point), torch.zeros_like(point.constraints)])
    signs = torch.randint(0, 2, (PROBES, len(point.x)), generator=torch.Generator().manual_seed(0)).to(point.x)
    for row in 2 * signs - 1:
        near = program.at(point.x * (1 + EPS * row), point.multipliers)
        level = torch.maximum(level, (near.residual - point.residual).abs())
    return bool((point.residual.abs() <= DIGITS * level).all())


def is_negligible(program: Program, point: Point, error: Tensor | float = 0.0) -> bool:
    """Return whether the residual, with an error of grad_x L (n,), is much smaller than its terms."""
    largest = EXACT if program.has_jacobians else DIFFERENCES
    size = float(vector_norm(point.lagrangian_gradient.abs() + error))
    return size <= largest * max(1.0, float(vector_norm(_terms(point)))) and point.constraint_violation <= largest


def _terms(point: Point) -> Tensor:
    """Return the sizes of what each entry of grad_x L is a sum of: |g| + |J|^T |l|, or |g| + |J^T l| by products."""
    G, multipliers = point.jacobian, point.multipliers
    if isinstance(G, Products):
        return point.gradient.abs() + (G.mT @ multipliers).abs()
    sizes = csr_tensor(abs(scipy_matrix(G)), device=G.device) if is_sparse(G) else G.abs()
    return point.gradient.abs() + sizes.mT @ multipliers.abs()
