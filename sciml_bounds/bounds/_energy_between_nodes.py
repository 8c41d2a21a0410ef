"""Energy bounds for functions that compute bounds on their derivatives on each cell.

Let v be a function with the prescribed boundary values, I v its multilinear interpolant, y a flux with s = div y + f,
and on each cell q = grad (I v) + b (x - x_K) with the centre x_K and constants b_i ~ d_i d_i v. The remainders r = grad
v - q and e = v - I v are small, and `bounds._interpolation_error` bounds them. Let G be the Fenchel gap of (q, I v) and
y; see `bounds._fenchel`. Integration by parts yields

    J(v) - J(u) <= G + int (a dg(q) - y) . r + (c h'(I v) - s) e + Taylor remainders,
    J(v) >= int a g(|q|) + c h(I v) - y . b (x - x_K) - load(I v) + the same integral.

On each cell, this integral is bounded by the smaller of two numbers. Let R be the largest length of all gradients that
occur, including the gradients that correspond to y / a, M = sup g'' up to R, and H = sup h'' over the values that
occur.

- g* is strongly convex with modulus 1 / M between y / a and dg(q). Hence the gap at a point is at least
  |a dg(q) - y|^2 / (2 a M), and the integral at most 2 sqrt(G E) with E = (a M ||r||^2 + c H ||e||^2) / 2. The Taylor
  remainders are at most E.
- The suprema of |a dg(p) - y| and |c h'(w) - s| over all p and w that occur, times the norms of r and e. In this case
there is no remainder, since g(q + r) - g(q) <= dg(q + r) . r for convex g; second derivatives are not needed.

Notation: n cells, d axes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sciml_bounds.bounds._convex_sums import CellFlux, trapezoid
from sciml_bounds.bounds._fenchel import Fenchel
from sciml_bounds.bounds._interpolation_error import (
    CellBounds,
    derivative_squares,
    remainder_squares,
    value_squares,
    weighted,
)
from sciml_bounds.errors import InputError
from sciml_bounds.grid import Dirichlet, Grid
from sciml_bounds.problems.variational_problem import VariationalProblem

__all__ = ["FunctionCorrections", "admissible_nodes", "function_corrections", "gradient_part"]

#: Values count as equal to the prescribed values up to this fraction of the largest value.
BOUNDARY_SLACK = 1e-12


class FunctionCorrections(NamedTuple):
    """Corrections from (q, I v) to the function v, for the gap and for the energy, shape (n) each.

    Attributes
    ----------
    above : Tensor
        The gap of v is at most G + above.
    below : Tensor
        The energy of v is at least the energy of (q, I v) minus below.
    """

    above: Tensor
    below: Tensor

    @staticmethod
    def zero(cells: Tensor) -> FunctionCorrections:
        """Return the corrections for a nodal field, which are zero."""
        return FunctionCorrections(torch.zeros_like(cells), torch.zeros_like(cells))


def admissible_nodes(problem: VariationalProblem, bounds: CellBounds) -> Tensor:
    """Return the nodal values of a function, after checking that it has the prescribed values on all Dirichlet sides.

    Raises
    ------
    InputError
        If the function is not known to have these values, or an axis is periodic.
    """
    if any(problem.frame.periodic):
        raise InputError(
            "an axis is periodic, but the function is not known to be periodic between the nodes; certify the array of "
            "its values at the nodes of problem.grid instead."
        )
    for side, condition in problem.boundary.items():
        if isinstance(condition, Dirichlet) and side not in bounds.multilinear_sides:
            raise InputError(
                f"the function is not known to have the prescribed values on all of side {side}, and a function with "
                "other values may have less energy than the minimiser; use a network with dirichlet_sides='all' and a "
                "lifting of width zero, or certify its values at the nodes."
            )
    exact = problem.impose_boundary(bounds.nodes)
    gap = float((exact - bounds.nodes).abs().max())
    known = torch.stack([*bounds.value]).abs().nan_to_num(posinf=0.0)  # not only nodes: a wave may vanish at all nodes
    if gap > BOUNDARY_SLACK * max(float(part.abs().max()) for part in (exact, bounds.nodes, known)):
        raise InputError(
            f"the function differs from the prescribed boundary values by up to {gap:.4g}, and such a function may "
            "have less energy than the minimiser; use a network whose lifting has the prescribed values."
        )
    return exact


def function_corrections(fenchel: Fenchel, bounds: CellBounds, flux: CellFlux, gap: Tensor) -> FunctionCorrections:
    """Bound the corrections from (q, I v), with the gap (n), to the function v; `fenchel` must have the slopes b."""
    grid, volume = fenchel.grid, fenchel.grid.cell_volume
    of_r = torch.stack([remainder_squares(bounds, grid.spacing, axis) for axis in range(grid.dim)]).sum(0) * volume
    of_e = value_squares(bounds, grid.spacing, range(grid.dim)) * volume
    gradients, values = _GradientSuprema.of(fenchel, bounds, flux), _ValueSuprema.of(fenchel, bounds, flux)
    E = (weighted(fenchel.a * gradients.curvature, of_r) + weighted(fenchel.c * values.curvature, of_e)) / 2
    cross = torch.where(E.isfinite(), 2 * torch.sqrt(weighted(gap.clamp_min(0), E)), torch.inf)
    plain = math.sqrt(volume) * (weighted(gradients.mismatch, of_r.sqrt()) + weighted(values.mismatch, of_e.sqrt()))
    return FunctionCorrections(torch.minimum(cross + E, plain), torch.minimum(cross, plain))


def gradient_part(grid: Grid, bounds: CellBounds) -> Tensor:
    """Bound the L2 norm of grad (v - I v)."""
    squares = torch.stack([derivative_squares(bounds, grid.spacing, axis) for axis in range(grid.dim)])
    return (squares.sum() * grid.cell_volume).sqrt()


class _GradientSuprema(NamedTuple):
    """Suprema of g'' and of |a dg(p) - y| over all gradients p of a cell, shape (n) each."""

    curvature: Tensor
    mismatch: Tensor

    @staticmethod
    def of(fenchel: Fenchel, bounds: CellBounds, flux: CellFlux) -> _GradientSuprema:
        assert fenchel.curvatures is not None
        dim, profile = fenchel.grid.dim, fenchel.profile
        spacing = bounds.nodes.new_tensor(fenchel.grid.spacing).view(-1, *(1,) * dim)
        low, high = bounds.gradient
        centre = torch.where((high - low).isfinite(), (low + high) / 2, 0.0)
        # covers q too
        half = (high - low) / 2 + fenchel.curvatures.abs() * spacing / 2 + 2 * bounds.round_off / spacing
        y, spread = torch.stack(flux.means), torch.stack([flux.spread(axis) for axis in range(dim)])

        length = torch.linalg.vector_norm(centre, dim=0)
        reach = torch.linalg.vector_norm(half, dim=0)
        longest = torch.linalg.vector_norm(centre.abs() + half, dim=0)
        shortest = torch.linalg.vector_norm((centre.abs() - half).clamp_min(0), dim=0)
        dual = profile.inverse(torch.linalg.vector_norm(y.abs() + spread, dim=0) / fenchel.a)

        slope, most, least = profile.slope(length), profile.slope(longest), profile.slope(shortest)
        turn = torch.where(
            length > 0, 2 * reach / torch.where(length > 0, length, 1.0), 2.0
        )  # bounds change of p / |p|
        change = torch.minimum(torch.maximum(most - slope, slope - least) + slope * turn, most + slope)
        direction = centre / torch.where(length > 0, length, 1.0)
        middle = torch.linalg.vector_norm(fenchel.a * slope * direction - y, dim=0)
        mismatch = middle + fenchel.a * change + torch.linalg.vector_norm(spread, dim=0)
        return _GradientSuprema(profile.steepest(torch.maximum(longest, dual)), _finite_or_unbounded(mismatch))


class _ValueSuprema(NamedTuple):
    """Suprema of h'' and of |c h'(w) - s| over all values w of a cell, shape (n) each; zero where c = 0."""

    curvature: Tensor
    mismatch: Tensor

    @staticmethod
    def of(fenchel: Fenchel, bounds: CellBounds, flux: CellFlux) -> _ValueSuprema:
        if not fenchel.has_reaction:
            return _ValueSuprema(torch.zeros_like(fenchel.a), torch.zeros_like(fenchel.a))
        holds, potential = fenchel.c > 0, fenchel.potential
        c = torch.where(holds, fenchel.c, 1.0)
        low, high = bounds.value[0] - bounds.round_off, bounds.value[1] + bounds.round_off  # covers I v too
        s = flux.dual_at(fenchel.problem.elements_with(trapezoid(1)).points, fenchel.problem.source)
        least, most = s.amin(0), s.amax(0)
        dual = torch.maximum(potential.inverse(least / c).abs(), potential.inverse(most / c).abs())
        steepest = potential.steepest(torch.maximum(torch.maximum(low.abs(), high.abs()), dual))
        mismatch = torch.maximum(c * potential.slope(high) - least, most - c * potential.slope(low))
        return _ValueSuprema(torch.where(holds, steepest, 0.0), torch.where(holds, _finite_or_unbounded(mismatch), 0.0))


def _finite_or_unbounded(suprema: Tensor) -> Tensor:
    """Replace NaN, which infinite or overflowing gradients or values cause, by infinity."""
    return suprema.nan_to_num(nan=math.inf, posinf=math.inf)
