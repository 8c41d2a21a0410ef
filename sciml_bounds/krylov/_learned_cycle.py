"""A multigrid cycle for the pressure of a fluid, with learned coarse operators and smoothing.

In a classical cycle, Galerkin products take a third of the set-up time, and the dense stencils of the products a third
of the work. Here every coarse operator couples nearest neighbours only: a small network computes its conductances from
those of the finer level. The lengths of the smoothing steps are learned for each level.

For all weights, the cycle is symmetric and positive definite. Conductances are exponentials of the network output, so
every level is positive semi-definite. Pre- and post-smoothing are the same polynomial of the operator scaled by its
absolute row sums, whose spectrum lies in [0, 1] by Gershgorin's theorem, and the steps are shortened until the
polynomial contracts on all of (0, 1]. So plain conjugate gradients apply: poor weights cost iterations, never accuracy.

References: Alcouffe, Brandt, Dendy, Painter, "The multi-grid method for the diffusion equation with strongly
discontinuous coefficients", SIAM J. Sci. Stat. Comput. 2 (1981) 430-454, for operator-dependent interpolation and
averaged conductances; Baker, Falgout, Kolev, Yang, SIAM J. Sci. Comput. 33 (2011) 2864-2887, for the smoothing.
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

#: Learned factors of conductances and absorption lie between exp(-this) and exp(this).
MAX_LOG_FACTOR = 2.0

#: Number of levels with their own weights; all coarser levels share those of the last one.
LEVELS = 3

#: Smallest root of the smoothing polynomial.
SMALLEST_ROOT = 0.02

#: Largest absolute value of the smoothing polynomial between its first root and 1.
MAX_AMPLIFICATION = 0.999

#: Largest absolute value of an input of the network; the inputs are logarithms of ratios of conductances.
MAX_LOG_RATIO = 6.0

#: Relative difference below which two conductances count as equal.
EQUAL_CONDUCTANCE_TOL = 1e-3

#: What error messages recommend for operators that the cycle does not support.
_INSTEAD = "M from sb.prepare(problem, method='multigrid').as_preconditioner(), or sb.solve with that method"

Axes = tuple[bool, bool, bool]


@dataclass(frozen=True)
class Hierarchy:
    """The levels of a differentiable cycle.

    Attributes
    ----------
    operator : LatticeOperator
        The operator that the cycle preconditions.
    operators : list of LatticeOperator
        Operators of all levels, finest first, with weakly conducting walls.
    scales : list of Tensor
        Inverse absolute row sums, the scaling of smoothing steps, shape (b, x, y, z), on all levels except the
        coarsest.
    axes, weights : list of tuple of bool, list of Tensor
        Coarsened axes and interpolation weights between levels, as in `kernels.transfer`.
    inverse : Tensor
        Inverses of the coarsest matrices, shape (b, n, n).
    fluid : Tensor
        1 at fluid points and 0 elsewhere, shape (b, x, y, z).
    """

    operator: LatticeOperator
    operators: list[LatticeOperator]
    scales: list[Tensor]
    axes: list[Axes]
    weights: list[Tensor]
    inverse: Tensor
    fluid: Tensor


class LearnedCycle(nn.Module):
    """A V-cycle for nearest-neighbour operators, with learned coarse operators and smoothing.

    Parameters
    ----------
    dim : int
        Number of space axes, 2 or 3.
    sweeps : int
        Number of smoothing steps before and after each coarse correction.
    width : int
        Width of the network that computes the conductances of coarse levels.
    unrolled : int
        Number of conjugate-gradient iterations that `along` applies in training mode, so that the loss depends on the
        convergence of the iteration. In evaluation mode `along` applies one cycle.
    """

    multiple = 1

    def __init__(self, dim: int, *, sweeps: int = 6, width: int = 16, unrolled: int = 2) -> None:
        super().__init__()
        self.dim, self.unrolled = dim, unrolled
        roots = torch.tensor(chebyshev_weights(sweeps)).reciprocal()
        inside = (roots - SMALLEST_ROOT) / (1 - SMALLEST_ROOT)
        self.roots = nn.Parameter(torch.logit(inside).repeat(LEVELS, 1))
        self.absorption = nn.Parameter(torch.zeros(LEVELS))
        output = nn.Linear(width, 2)
        nn.init.zeros_(output.weight)  # start from the geometric mean of lower and upper bound
        nn.init.zeros_(output.bias)
        self.conductance = nn.Sequential(nn.Linear(2 + LEVELS, width), nn.SiLU(), output)

    # --- learned steps and operators ----------------------------------------------------------------------------------

    def steps(self) -> Tensor:
        """Return the lengths of the smoothing steps of each level, shape (LEVELS, sweeps)."""
        lengths = 1 / (SMALLEST_ROOT + (1 - SMALLEST_ROOT) * torch.sigmoid(self.roots.double()))
        shortened = [_contraction_factor(row) for row in lengths.detach().cpu().numpy()]
        return lengths * torch.tensor(shortened, device=lengths.device).unsqueeze(1)

    def coarse_operator(
        self, k: int, operator: LatticeOperator, axes: Axes, weights: Tensor, defect: Tensor
    ) -> LatticeOperator:
        """Return the operator on level k + 1, which is coarser than `operator` on level k.

        A coarse edge replaces many paths between two coarse planes. Each path consists of two fine edges and is
        weighted by the interpolation. The conductance of the coarse edge has a lower bound (values within a plane are
        free: the sum over the paths of both edges in series) and an upper bound (values within a plane are equal: the
        sum over the paths of the mean of both edges). The learned conductance lies between the two bounds or near them.
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
        """Return the conductance of each coarse edge, given lower and upper bounds (k, b, x, y, z) on it.

        Edges in a uniform medium, which are the majority, share one evaluation of the network.
        """
        largest = lower.amax(0)
        special = (lower > 0) & (
            (upper - lower > EQUAL_CONDUCTANCE_TOL * upper) | (largest - lower > EQUAL_CONDUCTANCE_TOL * largest)
        )
        special |= special.any(0) & (lower > 0)
        low, high = lower[special], upper[special]
        other_axes = (lower.sum(0).expand_as(lower)[special] - low) / (len(lower) - 1)
        tiny = torch.finfo(low.dtype).tiny
        features = torch.stack([(low / high).log(), (low / other_axes.clamp_min(tiny)).log()], -1)
        features = features.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
        share, factor = self._network_output(level, features).unbind(-1)
        usual = _factor(self._network_output(level, features.new_zeros(1, 2))[0, 1])
        between = low * (-share.sigmoid() * features[:, 0]).exp()
        return (lower * usual).masked_scatter(special, _factor(factor) * between)

    def _network_output(self, level: int, features: Tensor) -> Tensor:
        dtype = self.roots.dtype
        one_hot = features.new_zeros(len(features), LEVELS, dtype=dtype)
        one_hot[:, level] = 1.0
        output: Tensor = self.conductance(torch.cat([features.to(dtype), one_hot], 1)).to(features.dtype)
        return output.nan_to_num(nan=0.0)  # inf - inf, with very large weights

    # --- with gradients -----------------------------------------------------------------------------------------------

    def kernels(self, geometry: Tensor) -> Hierarchy:
        """Return the levels of the cycle for the pressure equation around solids, with the geometry (b, *space)."""
        return self.hierarchy(pressure_operator(geometry))

    def hierarchy(self, operator: LatticeOperator) -> Hierarchy:
        """Return the levels of the cycle for an operator."""
        _require_neighbours(operator)
        survey = operator.survey()
        walls = walls_of(operator, survey)
        current = operator
        if walls is not None:
            current = with_conducting_walls(operator, walls, survey.conductances[..., 2].amin(1))
        fluid = torch.ones_like(operator.absorption) if walls is None else (~walls).to(operator.dtype)
        operators, scales, coarsened, transfers = [current], [], [], []
        while (axes := axes_to_coarsen(current.detach(), current.detach().survey())) is not None:
            with torch.no_grad():
                weights, defect = interpolation_weights(
                    current.offsets, current.conductance.detach(), current.absorption.detach(), axes
                )
            scales.append(_absolute_row_sums(current).reciprocal().nan_to_num(posinf=0.0))
            coarsened.append(axes)
            transfers.append(weights)
            current = self.coarse_operator(len(scales) - 1, current, axes, weights, defect)
            operators.append(current)
        return Hierarchy(operator, operators, scales, coarsened, transfers, _pseudo_inverse(current), fluid)

    def along(self, hierarchy: Hierarchy, r: Tensor) -> Tensor:
        """Apply one cycle to residuals (b, 1, *space), or in training mode `unrolled` conjugate-gradient iterations."""
        space = hierarchy.operator.lattice
        if self.training and not hierarchy.scales:
            raise InputError(
                f"a lattice of {'x'.join(map(str, space[-self.dim :]))} points is solved directly, so there is nothing "
                f"to learn; train on more than {COARSEST_POINTS} points."
            )
        b = r.to(hierarchy.fluid.dtype).reshape(-1, *space)
        x = self._iterated(hierarchy, b) if self.training else self.apply_cycle(hierarchy, b)
        return x.reshape(r.shape)

    def apply_cycle(self, hierarchy: Hierarchy, b: Tensor) -> Tensor:
        """Apply one cycle to right-hand sides (b, x, y, z)."""
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
        """Return the cycle for an operator, to be applied by the compiled multigrid kernels.

        Raises
        ------
        InputError
            If the operator has one axis or not `dim` axes, couples more than nearest neighbours or is periodic, or if
            weights are not finite.
        """
        _require_neighbours(operator)
        if not all(bool(torch.isfinite(weight).all()) for weight in self.parameters()):
            raise InputError(
                "the weights contain NaN or infinity; load other weights, or train again with a smaller learning rate."
            )
        if len(operator.offsets) == 1:
            raise InputError(
                f"the learned cycle is for two or three dimensions, but the operator has one; use {_INSTEAD}."
            )
        if len(operator.offsets) != self.dim:
            raise InputError(
                f"the learned cycle is for {self.dim} axes, but the operator has {len(operator.offsets)}; use weights "
                f"for {len(operator.offsets)} axes."
            )

        def coarsen(k: int, fine: LatticeOperator, survey: Survey, axes: Axes) -> Coarsened:
            weights, defect = interpolation_weights(fine.offsets, fine.conductance, fine.absorption, axes)
            coarse = self.coarse_operator(k, fine, axes, weights, defect)
            return Coarsened(weights, coarse, coarse.survey())

        return lattice_cycle(operator, [tuple(row) for row in self.steps().tolist()], coarsen=coarsen)


def pressure_operator(geometry: Tensor) -> LatticeOperator:
    """Return the lattice operator of the pressure matrix of `pressure_product`, for a geometry (b, *space).

    Points outside the fluid are isolated; each air neighbour of a fluid point adds to its absorption.
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
                f"use {_INSTEAD}."
            )


def _contraction_factor(lengths: np.ndarray) -> float:
    """Return the factor for the step lengths w that keeps prod (1 - w t) within (-1, 1) for all t in (0, 1].

    Shorter steps stretch the polynomial along t. With the factor returned, the interval (0, 1] ends before the
    polynomial leaves (-1, 1).
    """
    t = np.linspace(0.0, 1.0, 2049)
    size = np.abs(np.prod(1 - lengths[:, None] * t, 0))
    too_large = t[
        (t > 1 / lengths.max()) & (size > MAX_AMPLIFICATION)
    ]  # the polynomial decreases from 1 to its first root
    return 1.0 if len(too_large) == 0 else float(too_large[0] - t[1])


def _factor(logarithm: Tensor) -> Tensor:
    return logarithm.clamp(-MAX_LOG_FACTOR, MAX_LOG_FACTOR).exp()


def _bounds(t: Tensor, axis: int, axes: Axes, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return lower and upper bounds on the coarse conductances along an axis, from the fine ones t (b, x, y, z)."""
    bounds = [t]
    if axes[axis]:
        first, second = halves(t, axis)
        unpaired = first.shape[1 + axis] - second.shape[1 + axis]
        total = first + torch.nn.functional.pad(second, [0, 0] * (2 - axis) + [0, unpaired])
        bounds = [in_series(first, second, axis), 0.25 * total]
    sums = [restrict_across(axis, axes, weights, bound.contiguous()) for bound in bounds]
    return sums[0], sums[-1]


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """Return a / b where b > 0; zero elsewhere, where the iteration has ended."""
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
    """Return the inverses of the coarsest matrices, with constants fixed on floating components."""
    matrix = dense(A)
    mean = matrix.diagonal(dim1=1, dim2=2).mean(1).view(-1, 1, 1)
    negligible = 1e-14 * mean.detach().unsqueeze(-1)
    absorption = torch.where(A.absorption > negligible, A.absorption, 0.0)
    parts = LatticeOperator(A.offsets, A.conductance, absorption).floating()
    if parts is not None:
        number = parts.flatten(1)
        same = ((number.unsqueeze(1) == number.unsqueeze(2)) & (number >= 0).unsqueeze(2)).to(matrix.dtype)
        matrix = matrix + torch.where(mean > 0, mean, 1.0) * same / same.sum(2, keepdim=True).clamp_min(1)
    inverse: Tensor = torch.linalg.inv(matrix)
    return inverse
