"""Bounds on the difference between a function and its multilinear interpolant.

The function v is represented by bounds on its derivatives on the cells of a grid (`CellBounds`). On a box with sides
h_i, let I be the multilinear interpolation, M_ij = sup |d_i d_j v|, M_ijj = sup |d_i d_j d_j v|, and W_i the length of
an interval that contains d_i v. Means are over the box, and I = I_1 ... I_d is a product of interpolations along axes.

Derivatives. d_i (v - I v) = (d_i v - m_i) + (m_i - J m_i), where m_i is the mean of d_i v along axis i and J
interpolates along the other axes, because d_i I_i g is the mean of d_i g. The first part has mean zero along axis i and
the second does not depend on x_i, so their squares add up.

- First part, along axis i: a function with Lipschitz constant M has variance at most M^2 h^2 / 12 (half the mean of
  M^2 (x - y)^2), attained by v = x_i^2. Values in an interval of length W have variance at most W^2 / 4.
- Second part: |g - I_j g| <= T x (h_j - x) / 2 with T = sup |d_j d_j g|, and <= 2 L x (h_j - x) / h_j for a Lipschitz
  constant L, hence T = min(M_ijj, 4 M_ij / h_j). Interpolation along one axis does not increase a bound that depends
  on other axes only, so the errors along the axes j != i add up. x (h - x) / 2 has mean h^2 / 12 and mean square
  h^4 / 120.
- Both d_i v and d_i I v lie in the interval of length W_i, so the mean square is at most W_i^2.

Values. Likewise |v - I v| <= sum_i S_i x_i (h_i - x_i) / 2 with S_i = min(M_ii, 2 W_i / h_i), because slopes in an
interval of length W imply |g - I g| <= W x (h - x) / h. On a face, the axis normal to it is omitted.

Round-off. If nodal values have errors of at most t, I v has an error of at most t and its derivatives have errors of at
most 2 t / h_i; these are added to the norms. For a network with large weights that cancel, t may be as large as the
variation of v within a cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from sciml_bounds.grid import Grid

__all__ = [
    "CellBounded",
    "CellBounds",
    "across_squares",
    "cell_bounded",
    "derivative_squares",
    "remainder_squares",
    "value_squares",
    "weighted",
]


class CellBounds(NamedTuple):
    """Bounds on a function and its derivatives on the cells of a grid with n cells along d axes, in float64.

    Attributes
    ----------
    nodes : Tensor, shape (n + 1)
        Values at the nodes.
    value, gradient, second : tuple of two Tensor
        Lower and upper bounds on the value (n), on all first derivatives (d, n) and on all second derivatives (d, d,
        n); infinite if unknown.
    third : Tensor, shape (d, d, n)
        Bounds on |d_i d_j d_j v|; infinite if unknown.
    multilinear_sides : tuple of str
        Names of the sides of the grid on which the function is multilinear.
    round_off : float
        Bound on the round-off in `nodes`.
    """

    nodes: Tensor
    value: tuple[Tensor, Tensor]
    gradient: tuple[Tensor, Tensor]
    second: tuple[Tensor, Tensor]
    third: Tensor
    multilinear_sides: tuple[str, ...] = ()
    round_off: float = 0.0

    def to(self, device: torch.device) -> CellBounds:
        """Return the bounds on another device."""
        value, gradient, second = (
            (low.to(device), high.to(device)) for low, high in (self.value, self.gradient, self.second)
        )
        return self._replace(
            nodes=self.nodes.to(device), value=value, gradient=gradient, second=second, third=self.third.to(device)
        )

    @property
    def curvatures(self) -> Tensor:
        """Estimate of d_i d_i v on each cell, shape (d, n); zero where the bounds on it are infinite."""
        middle = torch.stack([(self.second[0][i, i] + self.second[1][i, i]) / 2 for i in range(len(self.third))])
        return torch.where(torch.isfinite(middle), middle, 0.0)


@runtime_checkable
class CellBounded(Protocol):
    """Interface of functions that compute bounds on themselves on cells."""

    def cell_bounds(self, grid: Grid) -> CellBounds:
        """Bound the function and its derivatives on every cell of a grid."""
        ...


def cell_bounded(values: Any) -> Any:
    """Return the network in the result of a network solver, if it has `cell_bounds`; other values unchanged."""
    network = getattr(values, "network", None)
    return network if isinstance(network, CellBounded) else values


def derivative_squares(bounds: CellBounds, spacing: Sequence[float], axis: int) -> Tensor:
    """Bound the mean square of d_axis (v - I v) over each cell, shape (n)."""
    width = _width(bounds, axis)
    first = torch.minimum(spacing[axis] ** 2 / 12 * _max_second(bounds, axis, axis).square(), width.square() / 4)
    squares = torch.minimum(first + _across(bounds, spacing, axis), width.square())
    return _perturbed_squares(squares, 2 * bounds.round_off / spacing[axis])


def across_squares(bounds: CellBounds, spacing: Sequence[float], axis: int) -> Tensor:
    """Bound the mean square of the second part of d_axis (v - I v), m - J m, over each cell, shape (n)."""
    return _perturbed_squares(_across(bounds, spacing, axis), 2 * bounds.round_off / spacing[axis])


def _across(bounds: CellBounds, spacing: Sequence[float], axis: int) -> Tensor:
    width, others = _width(bounds, axis), [j for j in range(len(spacing)) if j != axis]
    curvatures = [torch.minimum(bounds.third[axis, j], 4 / spacing[j] * _max_second(bounds, axis, j)) for j in others]
    return torch.minimum(_bubble_squares(curvatures, [spacing[j] for j in others], width), width.square())


def remainder_squares(bounds: CellBounds, spacing: Sequence[float], axis: int) -> Tensor:
    """Bound the mean square of d_axis (v - I v) - b (x - x_K), b = `curvatures`, over each cell, shape (n)."""
    h, width = spacing[axis], _width(bounds, axis)
    spread = (bounds.second[1][axis, axis] - bounds.second[0][axis, axis]) / 2
    first = torch.where(torch.isfinite(spread), h**2 / 12 * spread.square(), width.square() / 4)
    return _perturbed_squares(first + _across(bounds, spacing, axis), 2 * bounds.round_off / spacing[axis])


def value_squares(bounds: CellBounds, spacing: Sequence[float], axes: Sequence[int]) -> Tensor:
    """Bound the mean square of v - I v over each cell, or over a face with these axes, shape (n)."""
    curvatures = [torch.minimum(_max_second(bounds, i, i), 2 / spacing[i] * _width(bounds, i)) for i in axes]
    squares = _bubble_squares(curvatures, [spacing[i] for i in axes], bounds.value[0])
    return _perturbed_squares(squares, bounds.round_off)


def weighted(weights: Tensor, squares: Tensor) -> Tensor:
    """Return weights times squares, where zero times infinity is zero."""
    return torch.where((weights == 0) | (squares == 0), 0.0, weights * squares)


def _perturbed_squares(squares: Tensor, size: float) -> Tensor:
    """Bound the mean squares of functions after a perturbation by at most `size`."""
    return (squares.sqrt() + size).square() if size else squares


def _width(bounds: CellBounds, axis: int) -> Tensor:
    return bounds.gradient[1][axis] - bounds.gradient[0][axis]


def _max_second(bounds: CellBounds, i: int, j: int) -> Tensor:
    lower, upper = bounds.second
    return torch.maximum(lower[i, j].abs(), upper[i, j].abs())


def _bubble_squares(curvatures: list[Tensor], spacing: Sequence[float], like: Tensor) -> Tensor:
    """Return the mean square of sum_j T_j x_j (h_j - x_j) / 2: the square of the mean plus the variances."""
    mean, variance = torch.zeros_like(like), torch.zeros_like(like)
    for curvature, h in zip(curvatures, spacing):
        mean = mean + curvature * (h**2 / 12)
        variance = variance + curvature.square() * (h**4 / 120 - h**4 / 144)
    return mean.square() + variance
