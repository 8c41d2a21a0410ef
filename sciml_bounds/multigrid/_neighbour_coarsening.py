"""Coarse operators that couple nearest neighbours only, made of means of conductances instead of Galerkin products.

The conductance between two coarse points is the sum over the ways between their planes, each as much as it is
interpolated from them, of the conductances of the halves of a way in series. References: Alcouffe, Brandt, Dendy,
Painter, "The multi-grid method for the diffusion equation with strongly discontinuous coefficients", SIAM J. Sci. Stat.
Comput. 2 (1981) 430-454; Wesseling, "An introduction to multigrid methods" (1992), chapter 6, for what such operators
are good for.
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
    """Whether nearest neighbours are coupled only."""
    return all(sum(map(abs, offset)) == 1 for offset in offsets)


def neighbour_operator(operator: LatticeOperator, axes: Axes, weights: Tensor, defect: Tensor) -> LatticeOperator:
    """Make the operator of the even points along the axes.

    Parameters
    ----------
    operator
        Couples nearest neighbours only, and no two even points across the seam of a periodic axis.
    axes
        Which are coarsened.
    weights, defect
        The interpolation, of `kernels.interpolation.interpolation_weights`.
    """
    T = weights.new_empty((len(operator.offsets), *weights.shape[1:]))
    for offset, fine, coarse in zip(operator.offsets, operator.conductance, T):
        axis = offset.index(1)
        ways = in_series(*halves(fine, axis), axis) if axes[axis] else fine
        coarse.copy_(restrict_across(axis, axes, weights, ways))
    absorption = T.new_zeros(T.shape[1:])
    if bool(operator.absorption.any()):
        absorption = absorbed(operator, axes, weights, defect)
    return LatticeOperator(operator.offsets, T, absorption)


def halves(t: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Split conductances (b, x, y, z) along an axis into those of the first and second halves of coarse edges.

    There may be one more of the first: the last even point has no odd one behind it.
    """
    first, second = (t[(*(slice(None),) * (1 + axis), slice(start, None, 2))] for start in (0, 1))
    return first, second


def in_series(first: Tensor, second: Tensor, axis: int) -> Tensor:
    """Make one conductance of two, none of them negative; zero where there is no second."""
    whole, alone = second.shape[1 + axis], first.shape[1 + axis] - second.shape[1 + axis]
    paired = first.narrow(1 + axis, 0, whole)
    tiny = torch.finfo(first.dtype).tiny
    if needs_gradient(first, second):
        found = paired * (second / (paired + second).clamp_min(tiny))  # products may leave the range
        return torch.nn.functional.pad(found, [0, 0] * (2 - axis) + [0, alone])
    result = new_field(first)
    result.narrow(1 + axis, whole, alone).zero_()
    total = result.narrow(1 + axis, 0, whole)
    torch.add(paired, second, out=total).clamp_min_(tiny)
    torch.div(second, total, out=total).mul_(paired)
    return result


def absorbed(operator: LatticeOperator, axes: Axes, weights: Tensor, defect: Tensor) -> Tensor:
    """Compute P^T A P 1, where it is positive: what coarse points absorb."""
    offsets, T, c = operator.offsets, operator.conductance, operator.absorption
    if needs_gradient(T, c):
        of_ones = lattice.lattice_product(offsets, T, c, 1 - defect)
        return restricted(axes, weights, of_ones).clamp_min(0)
    of_ones = lattice.residual(offsets, T, c, defect, c, new_field(c))  # A 1 is c
    return restrict(axes, weights, of_ones, c.new_empty(weights.shape[1:])).clamp_min_(0)
