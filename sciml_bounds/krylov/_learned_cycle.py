"""A multigrid cycle for the pressure of a fluid whose coarse operators and smoothing are learned.

Galerkin products make a third of the set-up of a cycle, and their dense stencils a third of its work. Here every coarse
operator is a lattice operator of nearest neighbours again, whose conductances a small network makes from the ones they
stand for, and the lengths of the smoothing steps are learned level by level. Whatever the weights, the cycle is
symmetric and positive definite: conductances are exponentials of what the network says, so that every level is
positive semi-definite; pre- and post-smoothing are the same polynomial of the operator scaled by its absolute row sums,
which Gershgorin's theorem bounds by one; and the polynomial is shortened until it contracts everything in that range.
So plain conjugate gradients apply, and weights can make it slow, never wrong.

References: Alcouffe, Brandt, Dendy, Painter, "The multi-grid method for the diffusion equation with strongly
discontinuous coefficients", SIAM J. Sci. Stat. Comput. 2 (1981) 430-454, for interpolation by the operator and means of
conductances; Baker, Falgout, Kolev, Yang, SIAM J. Sci. Comput. 33 (2011) 2864-2887, for the smoothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from sciml_bounds.errors import InputError
from sciml_bounds.kernels import lattice
from sciml_bounds.kernels.interpolation import interpolation_weights
from sciml_bounds.kernels.survey import Survey
from sciml_bounds.kernels.transfer import prolonged, restrict_across, restricted
from sciml_bounds.krylov._multigrid_shaped import FLUID, SOLID
from sciml_bounds.multigrid._chebyshev import chebyshev_weights
from sciml_bounds.multigrid._cycle import Cycle
from sciml_bounds.multigrid._geometric import (
    COARSEST_POINTS,
    Coarsened,
    axes_to_coarsen,
    dense,
    lattice_cycle,
    walls_of,
    with_conducting_walls,
)
from sciml_bounds.multigrid._neighbour_coarsening import absorbed, halves, in_series
from sciml_bounds.operators._lattice_operator import LatticeOperator
from sciml_bounds.operators._linear_operator import inner

__all__ = ["LearnedCycle", "pressure_operator"]

#: Conductances and absorption are between exp(-2) and exp(2) times what they are made from.
FREEDOM = 2.0

#: Levels with weights of their own; all below share those of the last.
LEVELS = 3

#: Roots of the smoothing polynomial are not below this part of the spectrum.
SMALLEST_ROOT = 0.02

#: The polynomial is at most this between its first root and the end of the spectrum.
LARGEST = 0.999

#: Logarithms of ratios of conductances are cut off here, and taken for zero below the other.
FARTHEST, NOTHING = 6.0, 1e-3

#: What to use in place of the cycle, where no weights will do.
_INSTEAD = "M from sb.prepare(problem, method='multigrid').as_preconditioner(), or sb.solve with that method"

Axes = tuple[bool, bool, bool]


@dataclass(frozen=True)
class Hierarchy:
    """The levels of a cycle through which gradients flow.

    Attributes
    ----------
    operator
        What the cycle is for.
    operators
        From the finest to the coarsest; walls conduct a little on them.
    scales
        What residuals are multiplied with in a step of length one, (b, x, y, z), on all levels but the coarsest.
    axes, weights
        The ways between levels, as in `kernels.transfer`.
    inverse
        Of the coarsest matrices, (b, n, n).
    fluid
        Where there is fluid, (b, x, y, z).
    """

    operator: LatticeOperator
    operators: list[LatticeOperator]
    scales: list[Tensor]
    axes: list[Axes]
    weights: list[Tensor]
    inverse: Tensor
    fluid: Tensor


class LearnedCycle(nn.Module):
    """A V-cycle for operators of nearest neighbours, with learned coarse operators and smoothing.

    Parameters
    ----------
    dim
        Number of space axes, 2 or 3.
    sweeps
        Smoothing steps before and after each coarse correction.
    width
        Width of the network that makes coarse conductances.
    unrolled
        In training mode `along` gives what so many iterations of conjugate gradients make of the residual, so that a
        loss sees how the iteration contracts; in evaluation mode it gives one cycle.
    """

    multiple = 1

    def __init__(self, dim: int, *, sweeps: int = 6, width: int = 16, unrolled: int = 2) -> None:
        super().__init__()
        self.dim, self.unrolled = dim, unrolled
        roots = torch.tensor(chebyshev_weights(sweeps)).reciprocal()
        inside = (roots - SMALLEST_ROOT) / (1 - SMALLEST_ROOT)
        self.roots = nn.Parameter(torch.logit(inside).repeat(LEVELS, 1))
        self.absorption = nn.Parameter(torch.zeros(LEVELS))
        answer = nn.Linear(width, 2)
        nn.init.zeros_(answer.weight)  # the mean of lower and upper bound
        nn.init.zeros_(answer.bias)
        self.conductance = nn.Sequential(nn.Linear(2 + LEVELS, width), nn.SiLU(), answer)

    # --- what is learned ----------------------------------------------------------------------------------------------

    def steps(self) -> Tensor:
        """Lengths of the smoothing steps of each level, (LEVELS, sweeps)."""
        lengths = 1 / (SMALLEST_ROOT + (1 - SMALLEST_ROOT) * torch.sigmoid(self.roots.double()))
        shortened = [_contracting(row) for row in lengths.detach().cpu().numpy()]
        return lengths * torch.tensor(shortened, device=lengths.device).unsqueeze(1)

    def coarse_operator(
        self, k: int, operator: LatticeOperator, axes: Axes, weights: Tensor, defect: Tensor
    ) -> LatticeOperator:
        """Make the operator on the lattice of even points below the k-th level.

        The conductance between two coarse points lies near two sums over the ways between their planes, each as much as
        it is interpolated from them: of the two halves of each way in series, and of their mean. No less conducts, and
        no more, where the values of a plane are free to differ, and where they are not.
        """
        level = min(k, LEVELS - 1)
        offsets, T, c = operator.offsets, operator.conductance, operator.absorption
        bounds = [_bounds(t, offset.index(1), axes, weights) for offset, t in zip(offsets, T)]
        lower, upper = (torch.stack(both) for both in zip(*bounds))
        absorption = c.new_zeros(lower.shape[1:])
        if bool(c.any()):
            absorption = _factor(self.absorption[level]) * absorbed(operator, axes, weights, defect)
        return LatticeOperator(offsets, self._between(level, lower, upper), absorption)

    def _between(self, level: int, lower: Tensor, upper: Tensor) -> Tensor:
        """Choose a conductance for each coarse edge, given bounds (k, b, x, y, z), not far outside them.

        Most edges lie in a uniform medium, and have the same answer of the network.
        """
        largest = lower.amax(0)
        special = (lower > 0) & ((upper - lower > NOTHING * upper) | (largest - lower > NOTHING * largest))
        special |= special.any(0) & (lower > 0)
        low, high = lower[special], upper[special]
        beside = (lower.sum(0).expand_as(lower)[special] - low) / (len(lower) - 1)
        tiny = torch.finfo(low.dtype).tiny
        features = torch.stack([(low / high).log(), (low / beside.clamp_min(tiny)).log()], -1)
        features = features.clamp(-FARTHEST, FARTHEST)
        share, factor = self._answer(level, features).unbind(-1)
        usual = _factor(self._answer(level, features.new_zeros(1, 2))[0, 1])
        between = low * (-share.sigmoid() * features[:, 0]).exp()
        return (lower * usual).masked_scatter(special, _factor(factor) * between)

    def _answer(self, level: int, features: Tensor) -> Tensor:
        dtype = self.roots.dtype
        place = features.new_zeros(len(features), LEVELS, dtype=dtype)
        place[:, level] = 1.0
        found: Tensor = self.conductance(torch.cat([features.to(dtype), place], 1)).to(features.dtype)
        return found.nan_to_num(nan=0.0)  # of differences of two infinite ones, with weights of enormous size

    # --- with gradients -----------------------------------------------------------------------------------------------

    def kernels(self, geometry: Tensor) -> Hierarchy:
        """Make the levels for the pressure around solids, geometry (b, *space)."""
        return self.hierarchy(pressure_operator(geometry))

    def hierarchy(self, operator: LatticeOperator) -> Hierarchy:
        """Make the levels of an operator."""
        _require_neighbours(operator)
        survey = operator.survey()
        walls = walls_of(operator, survey)
        current = operator
        if walls is not None:
            current = with_conducting_walls(operator, walls, survey.conductances[..., 2].amin(1))
        fluid = torch.ones_like(operator.absorption) if walls is None else (~walls).to(operator.dtype)
        operators, scales, ways, transfers = [current], [], [], []
        while (axes := axes_to_coarsen(current.detach(), current.detach().survey())) is not None:
            with torch.no_grad():
                weights, defect = interpolation_weights(
                    current.offsets, current.conductance.detach(), current.absorption.detach(), axes
                )
            scales.append(_absolute_row_sums(current).reciprocal().nan_to_num(posinf=0.0))
            ways.append(axes)
            transfers.append(weights)
            current = self.coarse_operator(len(scales) - 1, current, axes, weights, defect)
            operators.append(current)
        return Hierarchy(operator, operators, scales, ways, transfers, _pseudo_inverse(current), fluid)

    def along(self, hierarchy: Hierarchy, r: Tensor) -> Tensor:
        """Apply to residuals (b, 1, *space): one cycle, or in training mode some conjugate gradients."""
        space = hierarchy.operator.lattice
        if self.training and not hierarchy.scales:
            raise InputError(
                f"a lattice of {'x'.join(map(str, space[-self.dim :]))} points is solved directly, and nothing is "
                f"learned from it; train on more than {COARSEST_POINTS} points."
            )
        b = r.to(hierarchy.fluid.dtype).reshape(-1, *space)
        x = self._iterated(hierarchy, b) if self.training else self.apply_cycle(hierarchy, b)
        return x.reshape(r.shape)

    def apply_cycle(self, hierarchy: Hierarchy, b: Tensor) -> Tensor:
        """Apply one cycle to (b, x, y, z)."""
        return hierarchy.fluid * self._level(hierarchy, self.steps().to(b.dtype), 0, hierarchy.fluid * b)

    def _level(self, levels: Hierarchy, steps: Tensor, k: int, b: Tensor) -> Tensor:
        if k == len(levels.scales):
            return (levels.inverse @ b.flatten(1).unsqueeze(-1)).view(b.shape)
        A, lengths = levels.operators[k], steps[min(k, LEVELS - 1)]
        x = torch.zeros_like(b)
        for length in lengths:
            x = x + length * levels.scales[k] * (b - _product(A, x))
        below = self._level(levels, steps, k + 1, restricted(levels.axes[k], levels.weights[k], b - _product(A, x)))
        x = x + prolonged(levels.axes[k], levels.weights[k], below, b.shape)
        for length in lengths:
            x = x + length * levels.scales[k] * (b - _product(A, x))
        return x

    def _iterated(self, hierarchy: Hierarchy, b: Tensor) -> Tensor:
        A = hierarchy.operator
        x, p, r = torch.zeros_like(b), torch.zeros_like(b), hierarchy.fluid * b
        rz_old = torch.ones(len(b), 1, 1, 1, dtype=b.dtype, device=b.device)
        for _ in range(self.unrolled):
            z = self.apply_cycle(hierarchy, r)
            rz = inner(r.flatten(1), z.flatten(1)).view(-1, 1, 1, 1)
            p = z + _ratio(rz, rz_old) * p
            q = hierarchy.fluid * _product(A, p)
            alpha = _ratio(rz, inner(p.flatten(1), q.flatten(1)).view(-1, 1, 1, 1))
            x, r, rz_old = x + alpha * p, r - alpha * q, rz
        return x

    # --- compiled -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def as_cycle(self, operator: LatticeOperator) -> Cycle:
        """Make the cycle of an operator, in the compiled loops of the package's own multigrid.

        Raises
        ------
        InputError
            If the operator has one axis or another number than the weights, couples other points than nearest
            neighbours, or is periodic, or weights are not finite.
        """
        _require_neighbours(operator)
        if not all(bool(torch.isfinite(weight).all()) for weight in self.parameters()):
            raise InputError("the weights hold NaN or infinity; load others, or train anew with a smaller lr.")
        if len(operator.offsets) == 1:
            raise InputError(
                f"the learned cycle is there in two and three dimensions, and the operator has one; take {_INSTEAD}."
            )
        if len(operator.offsets) != self.dim:
            raise InputError(
                f"the learned cycle is for {self.dim} axes and the operator has {len(operator.offsets)}; use weights "
                f"for {len(operator.offsets)} axes."
            )

        def coarsen(k: int, fine: LatticeOperator, survey: Survey, axes: Axes) -> Coarsened:
            weights, defect = interpolation_weights(fine.offsets, fine.conductance, fine.absorption, axes)
            coarse = self.coarse_operator(k, fine, axes, weights, defect)
            return Coarsened(weights, coarse, coarse.survey())

        return lattice_cycle(operator, [tuple(row) for row in self.steps().tolist()], coarsen=coarsen)


def pressure_operator(geometry: Tensor) -> LatticeOperator:
    """Make the operator of `losses.pressure_product`: a box with walls all around, geometry (b, *space).

    Points that are not fluid are coupled to nothing, and fluid ones to air only by what they absorb.
    """
    b, space = len(geometry), geometry.shape[1:]
    fluid, solid = geometry == FLUID, geometry == SOLID
    T = torch.zeros((len(space), *geometry.shape), dtype=torch.float64, device=geometry.device)
    c = torch.zeros(geometry.shape, dtype=torch.float64, device=geometry.device)
    for axis, n in enumerate(space):
        (f0, f1), (s0, s1) = ([field.narrow(1 + axis, k, n - 1) for k in (0, 1)] for field in (fluid, solid))
        T[axis].narrow(1 + axis, 0, n - 1).copy_(f0 & f1)
        c.narrow(1 + axis, 0, n - 1).add_((f0 & ~f1 & ~s1).double())
        c.narrow(1 + axis, 1, n - 1).add_((f1 & ~f0 & ~s0).double())
    c = torch.where(fluid, c, 1.0)
    padded = b, *(1,) * (3 - len(space)), *space
    offsets = tuple((int(k == 0), int(k == 1), int(k == 2)) for k in range(3 - len(space), 3))
    return LatticeOperator(offsets, T.view(len(space), *padded), c.view(padded))


# --- parts ------------------------------------------------------------------------------------------------------------


def _require_neighbours(operator: LatticeOperator) -> None:
    for offset, conductance in zip(operator.offsets, operator.conductance):
        if sum(map(abs, offset)) != 1 or bool(conductance.select(1 + offset.index(1), -1).any()):
            raise InputError(
                "the learned cycle is for operators that couple nearest neighbours on a box without periodic axes; "
                f"take {_INSTEAD}."
            )


def _contracting(lengths: np.ndarray) -> float:
    """Find how far steps must be shortened for prod (1 - w t) to lie within (-1, 1) for all t in (0, 1].

    Shortening stretches the polynomial: the part of it up to the first place where it is too large fills the interval.
    """
    t = np.linspace(0.0, 1.0, 2049)
    size = np.abs(np.prod(1 - lengths[:, None] * t, 0))
    too_large = t[(t > 1 / lengths.max()) & (size > LARGEST)]  # before its first root it falls from one
    return 1.0 if len(too_large) == 0 else float(too_large[0] - t[1])


def _factor(logarithm: Tensor) -> Tensor:
    return logarithm.clamp(-FREEDOM, FREEDOM).exp()


def _bounds(t: Tensor, axis: int, axes: Axes, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Sum the conductances t (b, x, y, z) along an axis over the ways between coarse planes: in series, and means."""
    ways = [t]
    if axes[axis]:
        first, second = halves(t, axis)
        alone = first.shape[1 + axis] - second.shape[1 + axis]
        total = first + torch.nn.functional.pad(second, [0, 0] * (2 - axis) + [0, alone])
        ways = [in_series(first, second, axis), 0.25 * total]
    sums = [restrict_across(axis, axes, weights, way.contiguous()) for way in ways]
    return sums[0], sums[-1]


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """Divide by what is positive; zero elsewhere, where nothing is left to do."""
    found: Tensor = torch.where(b > 0, a / torch.where(b > 0, b, 1.0), 0.0)
    return found


def _product(A: LatticeOperator, u: Tensor) -> Tensor:
    return lattice.lattice_product(A.offsets, A.conductance, A.absorption, u)


def _absolute_row_sums(A: LatticeOperator) -> Tensor:
    total = A.absorption
    for offset, T in zip(A.offsets, A.conductance):
        total = total + 2 * (T + lattice.shifted(T, tuple(-o for o in offset)))
    return total


def _pseudo_inverse(A: LatticeOperator) -> Tensor:
    """Invert coarsest matrices, to whose parts that nothing holds the projection onto constants is added."""
    matrix = dense(A)
    mean = matrix.diagonal(dim1=1, dim2=2).mean(1).view(-1, 1, 1)
    nothing = 1e-14 * mean.detach().unsqueeze(-1)
    absorption = torch.where(A.absorption > nothing, A.absorption, 0.0)
    parts = LatticeOperator(A.offsets, A.conductance, absorption).floating()
    if parts is not None:
        number = parts.flatten(1)
        same = ((number.unsqueeze(1) == number.unsqueeze(2)) & (number >= 0).unsqueeze(2)).to(matrix.dtype)
        matrix = matrix + torch.where(mean > 0, mean, 1.0) * same / same.sum(2, keepdim=True).clamp_min(1)
    inverse: Tensor = torch.linalg.inv(matrix)
    return inverse
