"""Coarse operators that couple nearest neighbours only, from averaged conductances instead of Galerkin products.

A coarse edge replaces pairs of fine edges in series. Its conductance is the sum of the series conductances of all pairs
between the two coarse planes, weighted by the interpolation. References: Alcouffe, Brandt, Dendy, Painter, "The
multi-grid method for the diffusion equation with strongly discontinuous coefficients", SIAM J. Sci. Stat. Comput. 2
(1981) 430-454; Wesseling, "An introduction to multigrid methods" (1992), chapter 6, on when such operators work.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciml_bounds.kernels import lattice
from sciml_bounds.kernels._backend import needs_gradient
from sciml_bounds.kernels.field_memory import new_field
from sciml_bounds.kernels.transfer import restrict, restrict_across, restricted
from sciml_bounds.operators._lattice_operator import LatticeOperator

__all__ = ["absorbed", "couples_neighbours", "halves", "in_series", "neighbour_operator"]

Axes = tuple[bool, bool, bool]


def couples_neighbours(offsets: lattice.Offsets) -> bool:
    """Return whether only nearest neighbours are coupled."""
    return all(sum(map(abs, offset)) == 1 for offset in offsets)


def neighbour_operator(operator: LatticeOperator, axes: Axes, weights: Tensor, defect: Tensor) -> LatticeOperator:
    """Return the nearest-neighbour operator on the even points along the coarsened axes.

    Parameters
    ----------
    operator : LatticeOperator
        Fine operator. It couples nearest neighbours only, and must not couple two even points across the seam of a
        periodic axis.
    axes : tuple of bool
        Which axes are coarsened.
    weights, defect : Tensor
        Interpolation weights and their defect, as returned by `kernels.interpolation.interpolation_weights`.
    """
    T = weights.new_empty((len(operator.offsets), *weights.shape[1:]))
    for offset, fine, coarse in zip(operator.offsets, operator.conductance, T):
        axis = offset.index(1)
        edges = in_series(*halves(fine, axis), axis) if axes[axis] else fine
        coarse.copy_(restrict_across(axis, axes, weights, edges))
    absorption = T.new_zeros(T.shape[1:])
    if bool(operator.absorption.any()):
        absorption = absorbed(operator, axes, weights, defect)
    return LatticeOperator(operator.offsets, T, absorption)


def halves(t: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Split the conductances (b, x, y, z) along an axis into the first and the second halves of the coarse edges.

    There may be one more first half than second halves: the last even point has no odd point after it.
    """
    first, second = (t[(*(slice(None),) * (1 + axis), slice(start, None, 2))] for start in (0, 1))
    return first, second


def in_series(first: Tensor, second: Tensor, axis: int) -> Tensor:
    """Return the conductance of two nonnegative conductances in series; zero where there is no second conductance."""
    whole, unpaired = second.shape[1 + axis], first.shape[1 + axis] - second.shape[1 + axis]
    paired = first.narrow(1 + axis, 0, whole)
    tiny = torch.finfo(first.dtype).tiny
    if needs_gradient(first, second):
        series = paired * (second / (paired + second).clamp_min(tiny))  # paired * second may overflow
        return torch.nn.functional.pad(series, [0, 0] * (2 - axis) + [0, unpaired])
    result = new_field(first)
    result.narrow(1 + axis, whole, unpaired).zero_()
    total = result.narrow(1 + axis, 0, whole)
    torch.add(paired, second, out=total).clamp_min_(tiny)
    torch.div(second, total, out=total).mul_(paired)
    return result


def absorbed(operator: LatticeOperator, axes: Axes, weights: Tensor, defect: Tensor) -> Tensor:
    """Return the absorption at the coarse points, max(P^T A P 1, 0), where P is the interpolation."""
    offsets, T, c = operator.offsets, operator.conductance, operator.absorption
    if needs_gradient(T, c):
        of_ones = lattice.lattice_product(offsets, T, c, 1 - defect)
        return restricted(axes, weights, of_ones).clamp_min(0)
    of_ones = lattice.residual(offsets, T, c, defect, c, new_field(c))  # A 1 is c
    return restrict(axes, weights, of_ones, c.new_empty(weights.shape[1:])).clamp_min_(0)
