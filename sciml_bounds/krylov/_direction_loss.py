"""What is left of a residual after one step along a learned direction: the loss of directions.

||b - alpha A q||^2 with the step alpha = q.b / q.A q of least energy, one number a sample; b has norm one. Nothing is
asked of the size and the sign of q. Reference: Kaneda et al., ICML 2023, section 4, as the code of its authors has it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sciml_bounds.errors import InputError
from sciml_bounds.krylov._multigrid_shaped import FLUID, SOLID, check_geometry
from sciml_bounds.operators._linear_operator import LinearOperator, aslinearoperator, inner

__all__ = ["LineSearchLoss", "contraction_loss", "line_search_loss", "pressure_product"]


class LineSearchLoss:
    """The loss of directions for one symmetric operator, to train on whatever right-hand sides.

    Parameters
    ----------
    operator
        A, whose vectors are the fields, last axis fastest: a `LinearOperator`, or a symmetric matrix. A batch of
        operators takes as many samples.

    Raises
    ------
    InputError
        If it is no operator; from a call, if fields do not fit it.

    Examples
    --------
    >>> import torch
    >>> from sciml_bounds.operators._linear_operator import MatrixOperator
    >>> loss = LineSearchLoss(MatrixOperator(torch.diag(torch.tensor([1.0, 2.0, 4.0]))))
    >>> b = torch.tensor([[[1.0, 2.0, 4.0]]])
    >>> loss(-torch.ones_like(b), b)  # the solution, up to a number
    tensor([0.])
    """

    def __init__(self, operator: Any) -> None:
        self.operator = aslinearoperator(operator)

    def __call__(self, prediction: Tensor, target: Tensor, inputs: Tensor | None = None) -> Tensor:
        """Give (b,) for directions and right-hand sides (b, 1, *space)."""
        _require_tensors(prediction, target)
        if prediction.shape != target.shape or math.prod(prediction.shape[1:]) != self.operator.shape[0]:
            raise InputError(
                f"directions of shape {tuple(prediction.shape)} for right-hand sides of shape {tuple(target.shape)} "
                f"do not fit an operator of {self.operator.shape[0]} unknowns; give (b, 1, *space) of both."
            )
        q, b = (field.flatten(1).to(self.operator.dtype) for field in (prediction, target))
        return _left(q, b, _Product.apply(q, self.operator)).to(prediction.dtype)


def line_search_loss(prediction: Tensor, target: Tensor, inputs: Tensor | None = None) -> Tensor:
    """Give the loss of directions for the pressure of a fluid, whose geometry comes with the right-hand side.

    Parameters
    ----------
    prediction
        Directions, shape (b, 1, *space).
    target
        Right-hand side, and geometry (0 solid, 1 fluid, 2 air) of each cell, shape (b, 2, *space).
    inputs
        Not used.

    Returns
    -------
    Tensor
        Shape (b,).

    Raises
    ------
    InputError
        If the fields do not fit, or the geometry holds other numbers.
    """
    _require_tensors(prediction, target)
    if target.ndim < 3 or target.shape != (len(prediction), 2, *prediction.shape[2:]) or prediction.shape[1] != 1:
        raise InputError(
            f"directions of shape {tuple(prediction.shape)} need targets (b, 2, *space), right-hand side and geometry, "
            f"and these have shape {tuple(target.shape)}."
        )
    with torch.autocast(target.device.type, enabled=False):
        q, (b, geometry) = prediction[:, 0].to(target.dtype), target.unbind(1)
        check_geometry(geometry)
        q = torch.where(geometry == FLUID, q, 0.0)
        return _left(q.flatten(1), b.flatten(1), pressure_product(q, geometry).flatten(1))


def contraction_loss(prediction: Tensor, target: Tensor, inputs: Tensor | None = None) -> Tensor:
    """Give the logarithm (of base ten) of ||b - alpha A q|| / ||b||, arguments as of `line_search_loss`.

    It weighs all geometries alike, where that loss sees little but the worst, and is computed in double precision, to
    whose round-off it falls at least. A sample that is solved already, of b = 0, gives 0 whatever the direction.
    """
    _require_tensors(prediction, target)
    left = line_search_loss(prediction.double(), target.double())
    size = target[:, 0].double().flatten(1).square().sum(1)
    part = left / torch.where(size == 0, 1.0, size)
    return torch.where(size == 0, 0.0, part.clamp_min(torch.finfo(part.dtype).eps ** 2).log10() / 2)


def pressure_product(p: Tensor, geometry: Tensor) -> Tensor:
    """Apply the matrix of the pressure to cell values (b, *space): what flows out of each fluid cell.

    Walls surround the box; p is zero in air, and no flux passes into solids. Differences of neighbours are taken as
    they are, so that the diagonal counts the neighbours that are not solid.
    """
    fluid = geometry == FLUID
    p = torch.where(fluid, p, 0.0)
    out = torch.zeros_like(p)
    for axis in range(1, p.ndim):
        n = p.shape[axis]
        before, after = (geometry.narrow(axis, k, n - 1) for k in (0, 1))
        passes = (before != SOLID) & (after != SOLID)
        flux = torch.where(passes, p.narrow(axis, 0, n - 1) - p.narrow(axis, 1, n - 1), 0.0)
        ends = [0] * 2 * (p.ndim - 1 - axis)
        out = out + torch.nn.functional.pad(flux, [*ends, 0, 1]) - torch.nn.functional.pad(flux, [*ends, 1, 0])
    return torch.where(fluid, out, 0.0)


def _require_tensors(prediction: Tensor, target: Tensor) -> None:
    if not (isinstance(prediction, Tensor) and isinstance(target, Tensor)):
        raise InputError(
            f"directions are a {type(prediction).__name__} and targets a {type(target).__name__}; give torch tensors "
            "of both."
        )


def _left(q: Tensor, b: Tensor, product: Tensor) -> Tensor:
    """Square of what is left of b (rows) after the best step along q."""
    curvature, slope = inner(q, product), inner(q, b)
    alpha = torch.where(curvature > 0, slope / torch.where(curvature > 0, curvature, 1.0), 0.0)
    left: Tensor = (b - alpha.unsqueeze(1) * product).square().sum(1)
    return left


class _Product(torch.autograd.Function):
    """A q for symmetric A, whose gradient is A times the gradient behind it."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, operator: LinearOperator) -> Tensor:
        ctx.operator = operator
        return operator.matvec(q.detach().contiguous())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Product.apply(gradients[0], ctx.operator), None
