"""The hierarchy of a lattice operator: operator-dependent interpolation, Galerkin coarse operators, semicoarsening.

Every second point is kept along each coarsened axis, for any number of points. Interpolation is Dendy's black-box
multigrid (see `kernels.coarsen`), which follows jumps of the coefficient. Axes along which neighbours are much more
weakly coupled than along the strongest axis are not coarsened (semicoarsening: Trottenberg, Oosterlee, Schueller,
"Multigrid" (2001), section 5.1).
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciml_bounds.kernels import lattice, transfer
from sciml_bounds.kernels.coarsen import galerkin, interpolation_weights
from sciml_bounds.multigrid.cycle import CoarseSolver, Cycle, pseudo_inverse
from sciml_bounds.operators.lattice import LatticeOperator

__all__ = ["LatticeLevel", "lattice_cycle"]

#: A lattice of at most so many points is solved directly.
COARSEST_POINTS = 64

#: An axis shorter than this is not coarsened further.
SHORTEST_AXIS = 4

#: Axes coupled more weakly than this part of the strongest are not coarsened: h / sqrt(a) that differ by more than
#: sqrt(2). Measured for constant coefficients: 6-7 iterations at any ratio, where coarsening up to a ratio of 2 takes 9
#: in two and 12 in three dimensions.
WEAK_COUPLING = 0.5


class LatticeLevel:
    """One level of the hierarchy: the operator, its smoother, and the way to the next level."""

    def __init__(self, operator: LatticeOperator, axes: tuple[bool, bool, bool]) -> None:
        self.operator = operator
        self.axes = axes
        row_sums = operator.absolute_row_sums()
        # a row of zeros is a component that has shrunk to one point: nothing to smooth there
        self.inverse_row_sums = torch.where(row_sums > 0, 1 / row_sums, 0.0)
        self.weights = interpolation_weights(operator.offsets, operator.conductance, operator.absorption, axes)

    def coarse_operator(self) -> LatticeOperator:
        """Return the Galerkin operator P^T A P."""
        A = self.operator
        return LatticeOperator(*galerkin(A.offsets, A.conductance, A.absorption, self.axes, self.weights))

    def empty(self, batch: int) -> Tensor:
        """Allocate a field (b, x, y, z)."""
        return torch.empty((batch, *self.operator.lattice), dtype=self.operator.dtype, device=self.operator.device)

    def scale(self, b: Tensor, weight: float, out: Tensor) -> None:
        """Write weight D^-1 b."""
        torch.mul(b, self.inverse_row_sums, out=out).mul_(weight)

    def relax(self, x: Tensor, b: Tensor, weight: float, out: Tensor) -> None:
        """Write x + weight D^-1 (b - A x)."""
        A = self.operator
        lattice.relax(A.offsets, A.conductance, A.absorption, self.inverse_row_sums, x, b, weight, out)

    def residual(self, x: Tensor, b: Tensor, out: Tensor) -> None:
        """Write b - A x."""
        A = self.operator
        lattice.residual(A.offsets, A.conductance, A.absorption, x, b, out)

    def restrict(self, fine: Tensor, coarse: Tensor) -> None:
        """Write P^T fine."""
        transfer.restrict(self.axes, self.weights, fine, coarse)

    def prolong_add(self, coarse: Tensor, fine: Tensor) -> None:
        """Add P coarse."""
        transfer.prolong_add(self.axes, self.weights, coarse, fine)


def lattice_cycle(operator: LatticeOperator, sweeps: int = 2) -> Cycle:
    """Set up the V-cycle of a lattice operator (symmetric positive semi-definite, positive diagonal)."""
    levels = []
    current = operator.detach()
    while (axes := _axes_to_coarsen(current)) is not None:
        levels.append(LatticeLevel(current, axes))
        current = levels[-1].coarse_operator()
    coarsest = CoarseSolver(pseudo_inverse(_dense(current)), current.lattice)
    return Cycle(levels, coarsest, operator.shape[0], sweeps)


def _axes_to_coarsen(operator: LatticeOperator) -> tuple[bool, bool, bool] | None:
    """Choose the axes to coarsen, the same for all samples; None on the coarsest level."""
    long = torch.tensor([n > SHORTEST_AXIS for n in operator.lattice])
    if operator.shape[0] <= COARSEST_POINTS or not bool(long.any()):
        return None
    coupling = torch.stack([_coupling(operator, axis) for axis in range(3)]).cpu()
    coupling[~long] = 0.0
    relative = (coupling / coupling.amax(0).clamp_min(torch.finfo(coupling.dtype).tiny)).mean(1)
    chosen = long & (relative >= min(WEAK_COUPLING, float(relative.max())))
    return (bool(chosen[0]), bool(chosen[1]), bool(chosen[2]))


def _coupling(operator: LatticeOperator, axis: int) -> Tensor:
    """Mean conductance across an axis, one number a sample."""
    across = [operator.conductance[k] for k, offset in enumerate(operator.offsets) if offset[axis]]
    if not across:
        return operator.absorption.new_zeros(operator.batch)
    total = sum(across, torch.zeros_like(across[0])).flatten(1)
    return total.sum(1).clamp_min(0) / (total != 0).sum(1).clamp_min(1)


def _dense(operator: LatticeOperator) -> Tensor:
    """Assemble the matrices (b, n, n)."""
    n = operator.shape[0]
    index = torch.arange(n, device=operator.device)
    matrix = torch.diag_embed(operator.diagonal().flatten(1))
    for k, offset in enumerate(operator.offsets):
        neighbour = lattice.shifted(index.view(operator.lattice), offset).reshape(-1)
        value = -operator.conductance[k].flatten(1)
        where = torch.zeros_like(matrix)
        where[:, index, neighbour] = value
        matrix = matrix + where + where.mT
    return matrix
