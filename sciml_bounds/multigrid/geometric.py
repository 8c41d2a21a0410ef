"""The hierarchy of a lattice operator: operator-dependent interpolation, Galerkin coarse operators, semicoarsening.

Every second point is kept along each coarsened axis, for any number of points. Interpolation is Dendy's black-box
multigrid (see `kernels.coarsen`), which follows jumps of the coefficient. Axes along which neighbours are much more
weakly coupled than along the strongest axis are not coarsened (semicoarsening: Trottenberg, Oosterlee, Schueller,
"Multigrid" (2001), section 5.1).

Walls (points without neighbours, inside solids) take part in the hierarchy as if they conducted a little. Otherwise
fluid in gaps where no coarse point lies has nothing to be interpolated from, and iterations grow with every refinement.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sciml_bounds.kernels import lattice, transfer
from sciml_bounds.kernels.coarsen import galerkin, interpolation_weights
from sciml_bounds.multigrid.cycle import CoarseSolver, Cycle, Level, pseudo_inverse
from sciml_bounds.operators.lattice import LatticeOperator

__all__ = ["LatticeLevel", "lattice_cycle"]

#: A lattice of at most so many points is solved directly: 11^2 or 5^3, where winding channels are still resolved.
COARSEST_POINTS = 128

#: An axis shorter than this is not coarsened further.
SHORTEST_AXIS = 4

#: Axes coupled more weakly than this part of the strongest are not coarsened: h / sqrt(a) that differ by more than
#: sqrt(2). Measured for constant coefficients: 6-7 iterations at any ratio, where coarsening up to a ratio of 2 takes 9
#: in two and 12 in three dimensions.
WEAK_COUPLING = 0.5

#: Conductance of walls in the hierarchy, relative to the smallest of the sample: little beside the fluid's.
WALL_CONDUCTANCE = 1e-4


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


class WalledCycle(Cycle):
    """The fluid part of a cycle whose walls conduct a little, and the inverse of x = 0 (times a number) on the walls.

    If the cycle approximates the inverse of F >= A from below, its fluid part does so for the Schur complement of F,
    which is at least the fluid part of A: symmetry, definiteness and the bound 1 of the spectrum are kept.

    Parameters
    ----------
    levels, coarsest, n, sweeps
        As for `Cycle`.
    walls
        Where the walls are, shape (b, n).
    diagonal
        The numbers in their equations, shape (b, n).
    """

    def __init__(
        self, levels: Sequence[Level], coarsest: CoarseSolver, n: int, sweeps: int, walls: Tensor, diagonal: Tensor
    ) -> None:
        super().__init__(levels, coarsest, n, sweeps)
        self.fluid = (~walls).to(self.dtype)
        # zero: a chamber of one point, whose solution is a free constant
        self.inverse = torch.where(walls & (diagonal > 0), 1 / diagonal, 0.0)
        self._fluid_rhs = self.fluid.new_empty(0)

    def matvec_into(self, x: Tensor, out: Tensor) -> Tensor:
        """Apply one V-cycle without allocation (after the first call with this batch size)."""
        flat, result = x.reshape(-1, self.shape[0]), out.view(-1, self.shape[0])
        if self._fluid_rhs.shape != flat.shape:
            self._fluid_rhs = torch.empty_like(flat)
        super().matvec_into(torch.mul(flat, self.fluid, out=self._fluid_rhs), result)
        result.mul_(self.fluid).addcmul_(self.inverse, flat)
        return out

    def full_multigrid(self, b: Tensor) -> Tensor:
        """Approximate A^-1 b `(..., n)` by full multigrid: one V-cycle a level, coarsest first."""
        flat = b.reshape(-1, self.shape[0])
        result = super().full_multigrid(flat * self.fluid) * self.fluid + self.inverse * flat
        return result.view(b.shape)


def lattice_cycle(operator: LatticeOperator, sweeps: int = 2) -> Cycle:
    """Set up the V-cycle of a lattice operator (symmetric positive semi-definite, positive diagonal)."""
    n = operator.shape[0]
    walls = _walls(operator)
    current = operator.detach() if walls is None else _with_conducting_walls(operator.detach(), walls)
    levels: list[LatticeLevel] = []
    while (axes := _axes_to_coarsen(current)) is not None:
        levels.append(LatticeLevel(current, axes))
        current = levels[-1].coarse_operator()
    coarsest = CoarseSolver(pseudo_inverse(_dense(current)), current.lattice)
    if walls is None:
        return Cycle(levels, coarsest, n, sweeps)
    return WalledCycle(levels, coarsest, n, sweeps, walls.flatten(1), operator.absorption.detach().flatten(1))


def _walls(operator: LatticeOperator) -> Tensor | None:
    """Mark the points without neighbours, shape (b, x, y, z); None if they all lie on sides, as Dirichlet nodes do."""
    coupled = torch.zeros_like(operator.absorption, dtype=torch.bool)
    for offset, T in zip(operator.offsets, operator.conductance):
        coupled |= (T != 0) | lattice.shifted(T != 0, tuple(-o for o in offset))
    inside = tuple(slice(1, -1) if n > 1 else slice(None) for n in operator.lattice)
    return None if bool(coupled[:, *inside].all()) else ~coupled


def _with_conducting_walls(operator: LatticeOperator, walls: Tensor) -> LatticeOperator:
    """Couple walls weakly to all their neighbours, in place of their own equations."""
    T = operator.conductance.clone()
    smallest = torch.where(T > 0, T, torch.inf).flatten(2).amin((0, 2))
    weak = WALL_CONDUCTANCE * torch.where(torch.isfinite(smallest), smallest, 1.0).view(-1, 1, 1, 1)
    for offset, along in zip(operator.offsets, T):
        beside = walls | lattice.shifted(walls, offset)
        last = 1 + offset.index(1), -1
        if not bool(along.select(*last).any()):  # not periodic
            beside.select(*last).fill_(False)
        along.copy_(torch.where(beside, weak, along))
    return LatticeOperator(operator.offsets, T, torch.where(walls, 0.0, operator.absorption))


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
