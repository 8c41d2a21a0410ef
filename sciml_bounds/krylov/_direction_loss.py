"""Training losses for search directions: the residual that remains after one line search.

The loss of a direction q for a right-hand side b of norm one is ||b - alpha A q||^2, where the step length alpha = q.b
/ q.A q minimises the energy along q. Each sample has its own loss; the scale and sign of q do not matter. Reference:
Kaneda et al., ICML 2023, section 4, as implemented by its authors.
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
    """Loss of search directions for one symmetric operator and arbitrary right-hand sides.

    Parameters
    ----------
    operator : LinearOperator or symmetric matrix
        The operator A. Its vectors are the flattened fields, last axis fastest. A batch of operators requires one
        sample per operator.

    Raises
    ------
    InputError
        If `operator` is not a linear operator; when the loss is called, if fields do not have one value per unknown.

    Examples
    --------
    >>> import torch
    >>> from sciml_bounds.operators._linear_operator import MatrixOperator
    >>> loss = LineSearchLoss(MatrixOperator(torch.diag(torch.tensor([1.0, 2.0, 4.0]))))
    >>> b = torch.tensor([[[1.0, 2.0, 4.0]]])
    >>> loss(-torch.ones_like(b), b)  # a multiple of the solution
    tensor([0.])
    """

    def __init__(self, operator: Any) -> None:
        self.operator = aslinearoperator(operator)

    def __call__(self, prediction: Tensor, target: Tensor, inputs: Tensor | None = None) -> Tensor:
        """Return the loss (b,) of directions (b, 1, *space) for right-hand sides of the same shape."""
        _require_tensors(prediction, target)
        if prediction.shape != target.shape or math.prod(prediction.shape[1:]) != self.operator.shape[0]:
            raise InputError(
                f"directions have shape {tuple(prediction.shape)} and right-hand sides {tuple(target.shape)}; give "
                f"both shape (b, 1, *space) with {self.operator.shape[0]} points, one per unknown of the operator."
            )
        q, b = (field.flatten(1).to(self.operator.dtype) for field in (prediction, target))
        return _remaining(q, b, _Product.apply(q, self.operator)).to(prediction.dtype)


def line_search_loss(prediction: Tensor, target: Tensor, inputs: Tensor | None = None) -> Tensor:
    """Compute the loss of directions for the pressure equation of a fluid; each sample has its own geometry.

    Parameters
    ----------
    prediction : Tensor
        Directions, shape (b, 1, *space).
    target : Tensor
        Right-hand side and geometry (0 solid, 1 fluid, 2 air) of each cell, shape (b, 2, *space).
    inputs : Tensor or None
        Not used.

    Returns
    -------
    Tensor
        Loss of each sample, shape (b,).

    Raises
    ------
    InputError
        If shapes do not match, or the geometry has values other than 0, 1 and 2.
    """
    _require_tensors(prediction, target)
    if target.ndim < 3 or target.shape != (len(prediction), 2, *prediction.shape[2:]) or prediction.shape[1] != 1:
        raise InputError(
            f"directions have shape {tuple(prediction.shape)} and targets {tuple(target.shape)}; give directions "
            "(b, 1, *space) and targets (b, 2, *space), right-hand side and geometry."
        )
    with torch.autocast(target.device.type, enabled=False):
        q, (b, geometry) = prediction[:, 0].to(target.dtype), target.unbind(1)
        check_geometry(geometry)
        q = torch.where(geometry == FLUID, q, 0.0)
        return _remaining(q.flatten(1), b.flatten(1), pressure_product(q, geometry).flatten(1))


def contraction_loss(prediction: Tensor, target: Tensor, inputs: Tensor | None = None) -> Tensor:
    """Compute log10(||b - alpha A q|| / ||b||); arguments as for `line_search_loss`.

    The logarithm gives all geometries equal weight, whereas `line_search_loss` is dominated by those with the largest
    residuals. The loss is computed in float64, and ratios below round-off are replaced by round-off. A sample with b =
    0 has loss 0 for every direction.
    """
    _require_tensors(prediction, target)
    remaining = line_search_loss(prediction.double(), target.double())
    size = target[:, 0].double().flatten(1).square().sum(1)
    part = remaining / torch.where(size == 0, 1.0, size)
    return torch.where(size == 0, 0.0, part.clamp_min(torch.finfo(part.dtype).eps ** 2).log10() / 2)


def pressure_product(p: Tensor, geometry: Tensor) -> Tensor:
    """Return the sum of the fluxes out of each fluid cell: the pressure matrix applied to cell values p (b, *space).

    Walls surround the box, p is zero in air, and no flux enters solids. A flux is the difference of two neighbouring
    values, so a diagonal entry of the matrix is the number of neighbours that are not solid.
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
            f"directions are a {type(prediction).__name__} and targets a {type(target).__name__}; give both as torch "
            "tensors."
        )


def _remaining(q: Tensor, b: Tensor, product: Tensor) -> Tensor:
    """Return ||b - alpha A q||^2 per row, with product = A q and the step length alpha = q.b / q.A q."""
    curvature, slope = inner(q, product), inner(q, b)
    alpha = torch.where(curvature > 0, slope / torch.where(curvature > 0, curvature, 1.0), 0.0)
    squared: Tensor = (b - alpha.unsqueeze(1) * product).square().sum(1)
    return squared


class _Product(torch.autograd.Function):
    """The product A q with symmetric A; its backward pass multiplies by A again."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, operator: LinearOperator) -> Tensor:
        ctx.operator = operator
        return operator.matvec(q.detach().contiguous())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Product.apply(gradients[0], ctx.operator), None
