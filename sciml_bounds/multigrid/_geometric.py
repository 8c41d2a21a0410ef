"""Geometric multigrid for lattice operators: operator-dependent interpolation, Galerkin operators, semicoarsening.

Along each coarsened axis, every second point is a coarse point; the number of points is arbitrary. The interpolation is
that of Dendy's black-box multigrid (see `kernels.interpolation`), which follows jumps of the coefficient. An axis is
not coarsened if neighbours are coupled much more weakly along it than along the strongest axis (semicoarsening:
Trottenberg, Oosterlee, Schueller, "Multigrid" (2001), section 5.1).

Walls (points without neighbours, inside solids) get a small conductance in the hierarchy. Otherwise fluid points in
narrow gaps without coarse points could not be interpolated, and iteration counts would grow with each refinement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from sciml_bounds.arrays import binary_scales
from sciml_bounds.kernels import lattice, smoothing
from sciml_bounds.kernels.coarsen import crosses_odd_seam, galerkin
from sciml_bounds.kernels.field_memory import new_field
from sciml_bounds.kernels.interpolation import interpolation_weights
from sciml_bounds.kernels.survey import Survey
from sciml_bounds.kernels.vectors import scaled_copy
from sciml_bounds.multigrid._cycle import CoarseSolver, Cycle, Level, pseudo_inverse
from sciml_bounds.multigrid._neighbour_coarsening import couples_neighbours, neighbour_operator
from sciml_bounds.operators._lattice_operator import LatticeOperator

__all__ = [
    "Coarsened",
    "LatticeLevel",
    "Precision",
    "axes_to_coarsen",
    "dense",
    "lattice_cycle",
    "walls_of",
    "with_conducting_walls",
]

#: A lattice of at most this number of points (such as 11^2 or 5^3) is solved directly. Its points still resolve winding
#: channels.
COARSEST_POINTS = 128

#: An axis of at most this number of points is not coarsened.
SHORTEST_AXIS = 4

#: An axis is not coarsened if its coupling is below this fraction of the strongest coupling, that is, if h / sqrt(a) of
#: the two axes differ by more than a factor of sqrt(2). Measured for constant coefficients: 6 to 7 iterations at any
#: ratio. If axes are coarsened up to a ratio of 2 in h / sqrt(a), 9 iterations in two and 12 in three dimensions.
WEAK_COUPLING = 0.5

#: Batches with fewer points in total keep the precision of the problem: single precision saves memory traffic, which is
#: small for small lattices. Measured on one thread: single precision loses 0.15 of 2.3 ms on 32^2 points and gains 0.4
#: of 6 ms on 128^2.
SINGLE_PRECISION_POINTS = 8192

#: Largest ratio of two conductances for cycles in single precision. Measured for round inclusions: a ratio of 1e6
#: raises the iterations from 10 to 16; a ratio of 1e4 does not change them.
SINGLE_PRECISION_JUMP = 1e5

#: Largest ratio of a diagonal entry to a conductance for which neither overflows or underflows in single precision on
#: any level.
SINGLE_PRECISION_RANGE = 1e15

#: Smallest ratio of total absorption to total conductance of a floating component for cycles in single precision. The
#: coarsest inverse amplifies round-off by the reciprocal of this ratio. Measured: at 1e-10 some solves take hundreds of
#: iterations; at 1e-8 up to four more than in double precision; from 1e-6 on no more than in double precision.
SINGLE_PRECISION_EXCESS = 3e-8

#: Largest ratio of consecutive conductances for which coarse operators couple nearest neighbours only. Measured on
#: three axes: iterations grow from 4 to 5, sometimes to 6 near this ratio, and to 8 at a ratio of 20. Set-up and solve
#: take 20% less time with 5 iterations, and the same time with 6. In two dimensions there is no gain.
MAX_NEIGHBOUR_CONTRAST = 10.0

Precision = Literal["auto", "double"]

#: Conductance of walls in the hierarchy, relative to the smallest conductance of the sample.
WALL_CONDUCTANCE = 1e-4


class LatticeLevel:
    """One level of the hierarchy: the operator, its smoother, and the transfer to the next level."""

    def __init__(
        self, operator: LatticeOperator, inverse_row_sums: Tensor, axes: tuple[bool, bool, bool], weights: Tensor
    ) -> None:
        self.operator = operator
        self.stage = smoothing.Stage(
            operator.offsets, operator.conductance, operator.absorption, inverse_row_sums, axes, weights
        )

    def empty(self, batch: int) -> Tensor:
        """Allocate a field (b, x, y, z)."""
        return new_field(self.operator.absorption, (batch, *self.operator.lattice))

    def descend(self, b: Tensor, steps: tuple[float, ...], x: Tensor, coarse: Tensor) -> None:
        """Smooth from a zero guess into `x`, and write the restricted residual to `coarse`."""
        smoothing.descend(self.stage, steps, b, x, coarse)

    def ascend(self, coarse: Tensor, b: Tensor, steps: tuple[float, ...], x: Tensor, out: Tensor) -> None:
        """Add the prolonged correction to `x`, smooth, and write the result to `out`."""
        smoothing.ascend(self.stage, steps, coarse, b, x, out)

    def residual(self, x: Tensor, b: Tensor, out: Tensor) -> None:
        """Write b - A x to `out`."""
        self.operator.residual_into(x, b, out)


class WalledCycle(Cycle):
    """A V-cycle with weakly conducting walls, restricted to the fluid; at wall points it divides by the diagonal of A.

    Let F be the operator with conducting walls, so that F >= A, and let the cycle approximate the inverse of F from
    below. The fluid part of the cycle then approximates, also from below, the inverse of the Schur complement of F,
    which is at least the fluid part of A. So the restriction stays symmetric and definite, and its spectrum stays
    bounded by 1.

    Parameters
    ----------
    levels, coarsest, n, steps, dtype, scale
        See `Cycle`.
    walls : Tensor
        Mask of the wall points, shape (b, n).
    diagonal : Tensor
        Diagonal entries of A at the walls, shape (b, n).
    """

    def __init__(
        self,
        levels: Sequence[Level],
        coarsest: CoarseSolver,
        n: int,
        steps: int | Sequence[tuple[float, ...]],
        dtype: torch.dtype,
        scale: Tensor,
        walls: Tensor,
        diagonal: Tensor,
    ) -> None:
        super().__init__(levels, coarsest, n, steps, dtype, scale)
        self.fluid = (~walls).to(self.dtype)
        # isolated fluid points have a zero diagonal and arbitrary values
        self.inverse = torch.where(walls & (diagonal > 0), 1 / diagonal, 0.0)
        self._fluid_rhs = self.fluid.new_empty(0)

    def matvec_into(self, x: Tensor, out: Tensor) -> Tensor:
        """Apply one V-cycle without allocation (after the first call with this batch size)."""
        flat, result = x.reshape(-1, self.shape[0]), out.view(-1, self.shape[0])
        with self._turn:
            if self._fluid_rhs.shape != flat.shape:
                self._fluid_rhs = torch.empty_like(flat)
            super().matvec_into(torch.mul(flat, self.fluid, out=self._fluid_rhs), result)
        result.mul_(self.fluid).addcmul_(self.inverse, flat)
        return out

    def full_multigrid(self, b: Tensor) -> Tensor:
        """Approximate A^-1 b `(..., n)` by full multigrid: one V-cycle per level, coarsest level first."""
        flat = b.reshape(-1, self.shape[0])
        result = super().full_multigrid(flat * self.fluid) * self.fluid + self.inverse * flat
        return result.view(b.shape)


class Coarsened(NamedTuple):
    """The result of one coarsening step.

    Attributes
    ----------
    weights : Tensor
        Weights of the interpolation from the coarse level to the finer level, as in `kernels.transfer`.
    operator : LatticeOperator
        The coarse operator.
    survey : Survey
        Row sums, conductance ranges and other statistics of the coarse operator.
    """

    weights: Tensor
    operator: LatticeOperator
    survey: Survey


#: Function (k, operator, survey, axes) that coarsens level k (0 is the finest) along `axes`, and returns level k + 1.
Coarsening = Callable[[int, LatticeOperator, Survey, tuple[bool, bool, bool]], Coarsened]


def galerkin_coarsening(k: int, operator: LatticeOperator, survey: Survey, axes: tuple[bool, bool, bool]) -> Coarsened:
    """Return the Galerkin operator P^T A P, with operator-dependent interpolation P."""
    fine = operator.offsets, operator.conductance, operator.absorption, axes
    weights, defect = interpolation_weights(*fine)
    offsets, T, c, coarse_survey = galerkin(*fine, weights, defect, survey.diagonal)
    return Coarsened(weights, LatticeOperator(offsets, T, c), coarse_survey)


def cheapest_coarsening(k: int, operator: LatticeOperator, survey: Survey, axes: tuple[bool, bool, bool]) -> Coarsened:
    """Return a nearest-neighbour coarse operator where it is accurate enough, and P^T A P otherwise.

    The nearest-neighbour operator requires three axes, a fine operator that couples nearest neighbours only, and a mild
    contrast of the conductances. It is not used where a strongly coupled axis stays uncoarsened, for example because
    the axis is short: there smoothing hardly reduces errors, and does not make up for the less accurate operator
    (measured: up to 50 iterations instead of 21).
    """
    fine = operator.offsets, operator.conductance, operator.absorption, axes
    mild = len(operator.offsets) == 3 and couples_neighbours(operator.offsets)
    mild = mild and not _strongest_axis_uncoarsened(operator, survey, axes)
    if not mild or bool((survey.contrast > MAX_NEIGHBOUR_CONTRAST).any()) or crosses_odd_seam(*fine[:2], axes):
        return galerkin_coarsening(k, operator, survey, axes)
    weights, defect = interpolation_weights(*fine)
    coarse = neighbour_operator(operator, axes, weights, defect)
    return Coarsened(weights, coarse, coarse.survey())


def lattice_cycle(
    operator: LatticeOperator,
    steps: int | Sequence[tuple[float, ...]] = 3,
    *,
    precision: Precision = "auto",
    coarsen: Coarsening = cheapest_coarsening,
) -> Cycle:
    """Set up a V-cycle for a lattice operator.

    The hierarchy is computed in the precision in which it is applied if the coefficients allow this, and in double
    precision otherwise.

    Parameters
    ----------
    operator : LatticeOperator
        Symmetric positive semi-definite operator with a positive diagonal.
    steps : int or sequence of tuple of float
        Number of Chebyshev smoothing steps; or one tuple of step lengths per level, where the last tuple also applies
        to all coarser levels.
    precision : {"auto", "double"}
        "auto" applies the cycle in single precision where that is faster and safe; "double" never does.
    coarsen : callable
        Function (k, operator, survey, axes) that returns the next coarser level.

    Returns
    -------
    Cycle
        The V-cycle, a linear operator that approximates the inverse of `operator`.
    """
    n = operator.shape[0]
    survey = operator.survey()
    largest = survey.diagonal.flatten(1).amax(1)
    suits = _suits_single_precision(survey, largest)
    large = operator.absorption.numel() >= SINGLE_PRECISION_POINTS
    single = precision == "auto" and operator.dtype == torch.float64 and suits and large
    dtype = torch.float32 if single else operator.dtype
    scale = binary_scales(largest.unsqueeze(1)).squeeze(1) if single else torch.ones_like(largest)
    current = _scaled_operator(operator.detach(), 1 / scale, dtype if suits else torch.float64)
    walls = walls_of(current, survey)
    if walls is not None:
        current = with_conducting_walls(current, walls, survey.conductances[..., 2].amin(1) / scale)
        survey = current.survey()
    elif current.dtype != operator.dtype:
        diagonal, absolute = (_scaled(field, 1 / scale, current.dtype) for field in (survey.diagonal, survey.absolute))
        survey = survey._replace(diagonal=diagonal, absolute=absolute)
    levels: list[LatticeLevel] = []
    while (axes := axes_to_coarsen(current, survey)) is not None:
        weights, coarse, coarse_survey = coarsen(len(levels), current, survey, axes)
        # a floating component that has shrunk to one point has a zero row and needs no smoothing
        inverse_row_sums = survey.absolute.reciprocal_().nan_to_num_(posinf=0.0).to(dtype)
        levels.append(LatticeLevel(current.to(dtype), inverse_row_sums, axes, lattice.interleaved(weights.to(dtype))))
        current, survey = coarse, coarse_survey
    coarsest = CoarseSolver(pseudo_inverse(dense(current.to(torch.float64))).to(dtype), current.lattice)
    if not isinstance(steps, int):
        steps = [steps[min(k, len(steps) - 1)] for k in range(len(levels))]
    if walls is None:
        return Cycle(levels, coarsest, n, steps, operator.dtype, scale)
    return WalledCycle(
        levels, coarsest, n, steps, operator.dtype, scale, walls.flatten(1), operator.absorption.detach().flatten(1)
    )


def _suits_single_precision(survey: Survey, entry: Tensor) -> bool:
    """Check that no sample is almost singular or has too large a contrast; `entry` (b,) has the largest entries."""
    smallest, largest = survey.conductances[..., 2].amin(1), survey.conductances[..., 3].amax(1)
    near = (largest <= SINGLE_PRECISION_JUMP * smallest) & (entry <= SINGLE_PRECISION_RANGE * smallest)
    total = survey.conductances[..., 0].sum(1)
    regular = (survey.excess == 0) | (survey.excess >= SINGLE_PRECISION_EXCESS * total)
    return bool((near & regular).all())


def _scaled_operator(operator: LatticeOperator, scale: Tensor, dtype: torch.dtype) -> LatticeOperator:
    """Multiply an operator by one factor per sample, shape (b,), and convert it to `dtype`."""
    T = _scaled(lattice.rows(operator.conductance), scale, dtype).movedim(3, 0)
    return LatticeOperator(operator.offsets, T, _scaled(operator.absorption, scale, dtype))


def _scaled(field: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Multiply a field (b, ...) by one factor per sample and convert it; without effect if the dtype matches."""
    return field if field.dtype == dtype else scaled_copy(field, scale, new_field(field, dtype=dtype))


def walls_of(operator: LatticeOperator, survey: Survey) -> Tensor | None:
    """Return the mask of wall points, which have no neighbours, shape (b, x, y, z).

    The result is None if all of them lie on sides of the box, as Dirichlet nodes do.
    """
    if not bool(survey.isolated.any()):
        return None
    coupled = torch.zeros_like(operator.absorption, dtype=torch.bool)
    for offset, along in zip(operator.offsets, operator.conductance != 0):
        coupled |= along | lattice.shifted(along, tuple(-o for o in offset))
    return ~coupled


def with_conducting_walls(operator: LatticeOperator, walls: Tensor, smallest: Tensor) -> LatticeOperator:
    """Replace the equations of wall points by weak couplings to all their neighbours.

    `smallest` (b,) is the smallest conductance of each sample, infinite for samples without conductances.
    """
    T = operator.conductance.clone()
    weak = WALL_CONDUCTANCE * torch.where(torch.isfinite(smallest), smallest, 1.0).to(T.dtype)
    for offset, along in zip(operator.offsets, T):
        touches_wall = walls | lattice.shifted(walls, offset)
        last = 1 + offset.index(1), -1
        if not bool(along.select(*last).any()):  # not periodic
            touches_wall.select(*last).fill_(False)
        for row, where, conductance in zip(along, touches_wall, weak):
            row.masked_fill_(where, conductance)
    return LatticeOperator(operator.offsets, T, torch.where(walls, 0.0, operator.absorption))


def axes_to_coarsen(operator: LatticeOperator, survey: Survey) -> tuple[bool, bool, bool] | None:
    """Return which axes to coarsen, the same for all samples; None if this is the coarsest level."""
    long = torch.tensor([n > SHORTEST_AXIS for n in operator.lattice])
    if operator.shape[0] <= COARSEST_POINTS or not bool(long.any()):
        return None
    coupling = _couplings(operator, survey)
    coupling[~long] = 0.0
    relative = (coupling / coupling.amax(0).clamp_min(torch.finfo(coupling.dtype).tiny)).mean(1)
    chosen = long & (relative >= min(WEAK_COUPLING, float(relative.max())))
    return (bool(chosen[0]), bool(chosen[1]), bool(chosen[2]))


def _strongest_axis_uncoarsened(operator: LatticeOperator, survey: Survey, axes: tuple[bool, bool, bool]) -> bool:
    """Return whether, in some sample, an axis is coupled much more strongly than all coarsened axes."""
    coupling = _couplings(operator, survey)
    return bool((coupling[torch.tensor(axes)].amax(0) < WEAK_COUPLING * coupling.amax(0)).any())


def _couplings(operator: LatticeOperator, survey: Survey) -> Tensor:
    """Return the mean conductances along the three axes, shape (3, b), on the CPU."""
    conductances = survey.conductances.cpu()
    return torch.stack([_coupling(operator.offsets, conductances, axis) for axis in range(3)])


def _coupling(offsets: lattice.Offsets, conductances: Tensor, axis: int) -> Tensor:
    """Return the mean conductance along an axis, shape (b,).

    Diagonal couplings are included: on coarse levels, couplings along the axis itself may cancel.
    """
    across = conductances[:, [k for k, offset in enumerate(offsets) if offset[axis]]]
    if across.shape[1] == 0:
        return torch.zeros_like(conductances[:, 0, 0])
    return across[..., 0].sum(1).clamp_min(0) / across[..., 1].amax(1).clamp_min(1)


def dense(operator: LatticeOperator) -> Tensor:
    """Assemble the dense matrices, shape (b, n, n); differentiable."""
    n = operator.shape[0]
    index = torch.arange(n, device=operator.device)
    diagonal = operator.absorption
    matrix = torch.zeros((len(diagonal), n, n), dtype=operator.dtype, device=operator.device)
    for offset, T in zip(operator.offsets, operator.conductance):
        diagonal = diagonal + T + lattice.shifted(T, tuple(-o for o in offset))
        neighbour = lattice.shifted(index.view(operator.lattice), offset).reshape(-1)
        where = torch.zeros_like(matrix)
        where[:, index, neighbour] = -T.flatten(1)
        matrix = matrix + where + where.mT
    return matrix + torch.diag_embed(diagonal.flatten(1))
