"""Scaling of the objective and the constraints, so that their derivatives at x0 are of order one.

Penalties, shifts and default tolerances are absolute numbers, so they suit functions of size one. IPOPT divides by
large gradients for the same reason (Waechter and Biegler, Math. Program. 106, 2006, section 3.8). Factors are powers of
two, which do not add round-off.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.linalg import vector_norm

from sciml_bounds.optimize._kkt import frobenius, scipy_matrix
from sciml_bounds.optimize._nonlinear_program import Point, Program
from sciml_bounds.optimize._products import Matrix, Products

__all__ = ["scale_program"]

#: Functions with derivatives below this are scaled to derivatives of size 1.
MIN_UNSCALED_DERIVATIVE = 0.1

#: Relative step of the difference that estimates a curvature.
CURVATURE_STEP = 1e-4


def scale_program(program: Program, point: Point, largest: float) -> Point:
    """Scale functions with derivatives below 0.1 or above `largest` at a point; return the point in scaled units.

    Steep constraints are scaled to derivatives of size 1, but a steep objective to `largest`, as in IPOPT, since it may
    be flat at the minimum. With size 1, LUKVLE15 (n = 49) of CUTEst takes more than 1,000 quasi-Newton iterations
    instead of 352.
    """
    slopes, length = _row_lengths(point.jacobian), float(vector_norm(point.x))
    values = torch.where(slopes < MIN_UNSCALED_DERIVATIVE, torch.maximum(slopes, point.constraints.abs()), slopes)
    size = point.gradient.new_tensor([_objective_size(program, point)])
    f, c = _factors(size, length, largest, largest), _factors(values, length, largest, 1.0)
    program.scale(float(f), c)
    return program.scaled(point)


def _factors(sizes: Tensor, length: float, largest: float, target: float) -> Tensor:
    """Return powers of two that scale small sizes to about 1 and large ones to about `target`, and 1 for zero sizes.

    If ||x|| < 1, a derivative counts as large if its product with ||x||, the change of the function, is large.
    """
    changes = sizes * min(1.0, length or 1.0)
    excess = torch.where(sizes < MIN_UNSCALED_DERIVATIVE, sizes, changes / target)
    off = (sizes > 0) & ((sizes < MIN_UNSCALED_DERIVATIVE) | (changes > largest)) & torch.isfinite(sizes)
    return torch.where(off, torch.exp2(-torch.log2(torch.where(off, excess, 1.0)).round()), 1.0)


def _objective_size(program: Program, point: Point) -> float:
    """Return ||g||, or, if larger, the change of g over the length of x due to curvature: x0 may be a minimum."""
    size = float(vector_norm(point.gradient))
    if not size < MIN_UNSCALED_DERIVATIVE:
        return size
    return max(size, _curvature(program, point) * max(1.0, float(vector_norm(point.x))))


def _curvature(program: Program, point: Point) -> float:
    if program.has_hessians:
        return frobenius(program.objective.hessian(point.x, point.x.new_ones(1)))
    along = point.gradient if bool(point.gradient.any()) else torch.ones_like(point.gradient)
    step = CURVATURE_STEP * max(1.0, float(vector_norm(point.x))) / float(vector_norm(along)) * along
    change = program.objective.gradient(point.x + step) - point.gradient
    return float(vector_norm(change) / vector_norm(step))


def _row_lengths(G: Matrix) -> Tensor:
    m = G.shape[0]
    if isinstance(G, Products):  # the root mean square of all rows
        return torch.full((m,), G.frobenius / max(m, 1) ** 0.5, dtype=torch.float64, device=G.device)
    if G.layout == torch.strided:
        lengths: Tensor = vector_norm(G, dim=1)
        return lengths
    squares: Tensor = torch.from_numpy(scipy_matrix(G).power(2).sum(axis=1)).to(G.device)
    return squares.sqrt()
