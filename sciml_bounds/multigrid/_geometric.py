"""The hierarchy of a lattice operator: operator-dependent interpolation, Galerkin coarse operators, semicoarsening.

Every second point is kept along each coarsened axis, for any number of points. Interpolation is Dendy's black-box
multigrid (see `kernels.interpolation`), which follows jumps of the coefficient. Axes along which neighbours are much
more weakly coupled than along the strongest axis are not coarsened (semicoarsening: Trottenberg, Oosterlee, Schueller,
"Multigrid" (2001), section 5.1).

Walls (points without neighbours, inside solids) take part in the hierarchy as if they conducted a little. Otherwise
fluid in gaps where no coarse point lies has nothing to be interpolated from, and iterations grow with every refinement.
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

#: A lattice of at most so many points is solved directly: 11^2 or 5^3, where winding channels are still resolved.
COARSEST_POINTS = 128

#: An axis shorter than this is not coarsened further.
SHORTEST_AXIS = 4

#: Axes coupled more weakly than this part of the strongest are not coarsened: h / sqrt(a) that differ by more than
#: sqrt(2). Measured for constant coefficients: 6-7 iterations at any ratio, where coarsening up to a ratio of 2 takes 9
#: in two and 12 in three dimensions.
WEAK_COUPLING = 0.5

#: Lattices with fewer points in all samples stay in the precision of the problem: single precision saves transport
#: through memory, of which they have little. Measured on one thread: 0.15 of 2.3 ms lost on 32^2, 0.4 of 6 won on
#: 128^2.
SINGLE_PRECISION_POINTS = 8192

#: Largest ratio of two conductances with which cycles are in single precision. Measured for round inclusions with a
#: ratio of 1e6: 10 iterations become 16; with 1e4 none is lost.
SINGLE_PRECISION_JUMP = 1e5

#: Largest ratio of an entry and a conductance with which neither leaves the range of single precision on any level.
SINGLE_PRECISION_RANGE = 1e15

#: What is held by nothing but absorption of less than this part of all conductances is left to double precision: the
#: coarsest inverse multiplies round-off by its reciprocal. Measured: at 1e-10 some solves take hundreds of iterations,
#: at 1e-8 up to four more, from 1e-6 on none.
SINGLE_PRECISION_EXCESS = 3e-8

#: Largest ratio of conductances that follow each other with which coarse operators couple nearest neighbours only.
#: Measured on three axes: iterations grow from 4 to 5, up to here sometimes to 6, and with a ratio of 20 to 8; set-up
#: and solve take a fifth less time with 5, and as long with 6. In two dimensions nothing is gained.
MILD_CONTRAST = 10.0

Precision = Literal["auto", "double"]

#: Conductance of walls in the hierarchy, relative to the smallest of the sample: little beside the fluid's.
WALL_CONDUCTANCE = 1e-4


class LatticeLevel:
    """One level of the hierarchy: the operator, its smoother, and the way to the next level."""

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
        """Write x after smoothing steps from zero, and the restriction of its residual."""
        smoothing.descend(self.stage, steps, b, x, coarse)

    def ascend(self, coarse: Tensor, b: Tensor, steps: tuple[float, ...], x: Tensor, out: Tensor) -> None:
        """Write x and the prolonged correction after smoothing steps."""
        smoothing.ascend(self.stage, steps, coarse, b, x, out)

    def residual(self, x: Tensor, b: Tensor, out: Tensor) -> None:
        """Write b - A x."""
        self.operator.residual_into(x, b, out)


class WalledCycle(Cycle):
    """The fluid part of a cycle whose walls conduct a little, and the inverse of x = 0 (times a number) on the walls.

    If the cycle approximates the inverse of F >= A from below, its fluid part does so for the Schur complement of F,
    which is at least the fluid part of A: symmetry, definiteness and the bound 1 of the spectrum are kept.

    Parameters
    ----------
    levels, coarsest, n, steps, dtype, scale
        As for `Cycle`.
    walls
        Where the walls are, shape (b, n).
    diagonal
        The numbers in their equations, shape (b, n).
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
        # zero: a chamber of one point, whose solution is a free constant
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
        """Approximate A^-1 b `(..., n)` by full multigrid: one V-cycle a level, coarsest first."""
        flat = b.reshape(-1, self.shape[0])
        result = super().full_multigrid(flat * self.fluid) * self.fluid + self.inverse * flat
        return result.view(b.shape)


class Coarsened(NamedTuple):
    """The next coarser level.

    Attributes
    ----------
    weights
        The interpolation from it, as in `kernels.transfer`.
    operator, survey
        Its operator, and what a reading of that tells.
    """

    weights: Tensor
    operator: LatticeOperator
    survey: Survey


#: Makes a coarser level of the k-th one (0: the finest), whose survey is at hand, along these axes.
Coarsening = Callable[[int, LatticeOperator, Survey, tuple[bool, bool, bool]], Coarsened]


def galerkin_coarsening(k: int, operator: LatticeOperator, survey: Survey, axes: tuple[bool, bool, bool]) -> Coarsened:
    """Make the coarse operator P^T A P of operator-dependent interpolation."""
    fine = operator.offsets, operator.conductance, operator.absorption, axes
    weights, defect = interpolation_weights(*fine)
    offsets, T, c, coarse_survey = galerkin(*fine, weights, defect, survey.diagonal)
    return Coarsened(weights, LatticeOperator(offsets, T, c), coarse_survey)


def cheapest_coarsening(k: int, operator: LatticeOperator, survey: Survey, axes: tuple[bool, bool, bool]) -> Coarsened:
    """Couple nearest neighbours only where these are coupled on three axes, with mild contrast; else P^T A P.

    The latter too where a strongly coupled axis is left as it is, say because it is short: smoothing does little there,
    and what coarse operators lack is not made up for. Measured: up to 50 iterations instead of 21.
    """
    fine = operator.offsets, operator.conductance, operator.absorption, axes
    mild = len(operator.offsets) == 3 and couples_neighbours(operator.offsets)
    mild = mild and not _leaves_the_strongest(operator, survey, axes)
    if not mild or bool((survey.contrast > MILD_CONTRAST).any()) or crosses_odd_seam(*fine[:2], axes):
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
    """Set up the V-cycle of a lattice operator (symmetric positive semi-definite, positive diagonal).

    The hierarchy is set up in the precision it is applied in, if that suits the coefficients, otherwise in double.

    Parameters
    ----------
    operator
        The operator.
    steps
        How many Chebyshev steps smooth, or the lengths of the steps of each level, the last of which serves all below.
    precision
        "auto" or "double".
    coarsen
        Makes coarser levels.
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
        # a row of zeros is a component that has shrunk to one point: nothing to smooth there
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
    """Whether no sample is almost singular, or has conductances too far from each other or its largest entry (b,)."""
    smallest, largest = survey.conductances[..., 2].amin(1), survey.conductances[..., 3].amax(1)
    near = (largest <= SINGLE_PRECISION_JUMP * smallest) & (entry <= SINGLE_PRECISION_RANGE * smallest)
    held = (survey.excess == 0) | (survey.excess >= SINGLE_PRECISION_EXCESS * survey.conductances[..., 0].sum(1))
    return bool((near & held).all())


def _scaled_operator(operator: LatticeOperator, scale: Tensor, dtype: torch.dtype) -> LatticeOperator:
    """Multiply an operator with one number a sample, in another dtype."""
    T = _scaled(lattice.rows(operator.conductance), scale, dtype).movedim(3, 0)
    return LatticeOperator(operator.offsets, T, _scaled(operator.absorption, scale, dtype))


def _scaled(field: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Multiply (b, ...) with one number a sample, in another dtype; in the same one there is no need of it."""
    return field if field.dtype == dtype else scaled_copy(field, scale, new_field(field, dtype=dtype))


def walls_of(operator: LatticeOperator, survey: Survey) -> Tensor | None:
    """Mark the points without neighbours, shape (b, x, y, z); None if they all lie on sides, as Dirichlet nodes do."""
    if not bool(survey.isolated.any()):
        return None
    coupled = torch.zeros_like(operator.absorption, dtype=torch.bool)
    for offset, along in zip(operator.offsets, operator.conductance != 0):
        coupled |= along | lattice.shifted(along, tuple(-o for o in offset))
    return ~coupled


def with_conducting_walls(operator: LatticeOperator, walls: Tensor, smallest: Tensor) -> LatticeOperator:
    """Couple walls weakly to all their neighbours, in place of their own equations.

    `smallest` holds the smallest conductance of each sample, infinite where there is none.
    """
    T = operator.conductance.clone()
    weak = WALL_CONDUCTANCE * torch.where(torch.isfinite(smallest), smallest, 1.0).to(T.dtype)
    for offset, along in zip(operator.offsets, T):
        beside = walls | lattice.shifted(walls, offset)
        last = 1 + offset.index(1), -1
        if not bool(along.select(*last).any()):  # not periodic
            beside.select(*last).fill_(False)
        for row, where, conductance in zip(along, beside, weak):  # few are changed
            row.masked_fill_(where, conductance)
    return LatticeOperator(operator.offsets, T, torch.where(walls, 0.0, operator.absorption))


def axes_to_coarsen(operator: LatticeOperator, survey: Survey) -> tuple[bool, bool, bool] | None:
    """Choose the axes to coarsen, the same for all samples; None on the coarsest level."""
    long = torch.tensor([n > SHORTEST_AXIS for n in operator.lattice])
    if operator.shape[0] <= COARSEST_POINTS or not bool(long.any()):
        return None
    coupling = _couplings(operator, survey)
    coupling[~long] = 0.0
    relative = (coupling / coupling.amax(0).clamp_min(torch.finfo(coupling.dtype).tiny)).mean(1)
    chosen = long & (relative >= min(WEAK_COUPLING, float(relative.max())))
    return (bool(chosen[0]), bool(chosen[1]), bool(chosen[2]))


def _leaves_the_strongest(operator: LatticeOperator, survey: Survey, axes: tuple[bool, bool, bool]) -> bool:
    """Whether points of some sample are much more strongly coupled along an axis than along all that are coarsened."""
    coupling = _couplings(operator, survey)
    return bool((coupling[torch.tensor(axes)].amax(0) < WEAK_COUPLING * coupling.amax(0)).any())


def _couplings(operator: LatticeOperator, survey: Survey) -> Tensor:
    """Mean conductances across the three axes, shape (3, b), on the CPU."""
    conductances = survey.conductances.cpu()
    return torch.stack([_coupling(operator.offsets, conductances, axis) for axis in range(3)])


def _coupling(offsets: lattice.Offsets, conductances: Tensor, axis: int) -> Tensor:
    """Mean conductance across an axis, one number a sample.

    The neighbours on the axis itself do not tell how many points have couplings along it: they may cancel on coarse
    levels, where those on diagonals remain.
    """
    across = conductances[:, [k for k, offset in enumerate(offsets) if offset[axis]]]
    if across.shape[1] == 0:
        return torch.zeros_like(conductances[:, 0, 0])
    return across[..., 0].sum(1).clamp_min(0) / across[..., 1].amax(1).clamp_min(1)


def dense(operator: LatticeOperator) -> Tensor:
    """Assemble the matrices (b, n, n), through which gradients flow."""
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
