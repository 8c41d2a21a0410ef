"""Check whether a KKT residual is at the level of round-off.

A gradient that is steep, or a sum of large terms, never becomes small: for `s * f` with s = 1e8 and curvature 1e3, the
last digit of x changes the gradient by 1e-5. The level is measured, since cancellation inside functions is unknown.
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

#: Number of points near x where the residual is evaluated; their entries differ from those of x in the last digit.
PROBES = 3

#: An entry of the residual is round-off up to this multiple of its change by the last digit of x or of its terms.
ROUND_OFF_FACTOR = 10.0

#: Largest residual relative to its terms that can be round-off, with exact first derivatives and with differences. It
#: excludes kinks, where the last digit of x changes gradients by their own size.
MAX_RELATIVE_EXACT, MAX_RELATIVE_DIFFERENCES = 1e-8, 1e-5

EPS = torch.finfo(torch.float64).eps


def is_round_off(program: Program, point: Point) -> bool:
    """Whether all entries of the KKT residual of a point are at the level of round-off."""
    if not is_negligible(program, point):
        return False
    level = torch.cat([EPS * _terms(point), torch.zeros_like(point.constraints)])
    signs = torch.randint(0, 2, (PROBES, len(point.x)), generator=torch.Generator().manual_seed(0)).to(point.x)
    for row in 2 * signs - 1:
        near = program.at(point.x * (1 + EPS * row), point.multipliers)
        level = torch.maximum(level, (near.residual - point.residual).abs())
    return bool((point.residual.abs() <= ROUND_OFF_FACTOR * level).all())


def is_negligible(program: Program, point: Point, error: Tensor | float = 0.0) -> bool:
    """Whether the residual is much smaller than its terms; `error` (n,) is added to |grad_x L|."""
    largest = MAX_RELATIVE_EXACT if program.has_jacobians else MAX_RELATIVE_DIFFERENCES
    size = float(vector_norm(point.lagrangian_gradient.abs() + error))
    return size <= largest * max(1.0, float(vector_norm(_terms(point)))) and point.constraint_violation <= largest


def _terms(point: Point) -> Tensor:
    """Return the sizes of the terms of grad_x L: |g| + |J|^T |l|, or |g| + |J^T l| if J is an operator."""
    G, multipliers = point.jacobian, point.multipliers
    if isinstance(G, Products):
        return point.gradient.abs() + (G.mT @ multipliers).abs()
    sizes = csr_tensor(abs(scipy_matrix(G)), device=G.device) if is_sparse(G) else G.abs()
    return point.gradient.abs() + sizes.mT @ multipliers.abs()
