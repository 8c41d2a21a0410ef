"""Energies of functions, of which cells know more than the nodes say.

Let v be a function with the prescribed values, I v its interpolant, y a flux with s = div y + f, and on each cell
q = grad (I v) + b (x - x_K) with numbers b_i ~ d_i d_i v. What is left, r = grad v - q and e = v - I v, is small and
bounded by `bounds._interpolation_error`; G is the Fenchel gap of (q, I v) and y, see `bounds._fenchel`. By parts,

    J(v) - J(u) <= G + int (a dg(q) - y) . r + (c h'(I v) - s) e + remainders of Taylor,
    J(v) >= int a g(|q|) + c h(I v) - y . b (x - x_K) - load(I v) + the same integral.

It is bounded on each cell by the smaller of two numbers; R is the largest length of all gradients that occur, those
that y / a belongs to among them, and M = sup g'' up to R, H = sup h'' likewise.

- g* is 1 / M strongly convex between y / a and dg(q), so that the gap at a point is at least |a dg(q) - y|^2 / (2 a M),
  and the integral at most 2 sqrt(G E) with E = (a M ||r||^2 + c H ||e||^2) / 2. The remainders are at most E.
- |a dg(p) - y| and |c h'(w) - s| over all p and w that occur, times the norms of r and e. Then there is no remainder:
  g(q + r) - g(q) <= dg(q + r) . r, as g is convex. It asks for no second derivative of g or h.

Legend: n cells, d axes.
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
    curved_squares,
    derivative_squares,
    value_squares,
    weighted,
)
from sciml_bounds.errors import InputError
from sciml_bounds.grid import Dirichlet, Grid
from sciml_bounds.problems.variational_problem import VariationalProblem

__all__ = ["Between", "admissible_nodes", "between", "gradient_part"]

#: Values closer to the prescribed ones than this part of the largest count as equal.
BOUNDARY_SLACK = 1e-12


class Between(NamedTuple):
    """What a function adds to the gap G and to the energy of (q, I v), shape (n) each.

    Attributes
    ----------
    above
        The gap of the function is at most G + above.
    below
        Its energy is at least that of (q, I v) - below.
    """

    above: Tensor
    below: Tensor

    @staticmethod
    def nothing(cells: Tensor) -> Between:
        """Return what a nodal field adds."""
        return Between(torch.zeros_like(cells), torch.zeros_like(cells))


def admissible_nodes(problem: VariationalProblem, bounds: CellBounds) -> Tensor:
    """Return the nodal values of a function that has the prescribed values on all Dirichlet sides.

    Raises
    ------
    InputError
        If it has not, or that is not known; or an axis is periodic.
    """
    if any(problem.frame.periodic):
        raise InputError(
            "an axis is periodic, and whether a function is so between the nodes is not known; give its values at the "
            "nodes, which are certified as a field."
        )
    for side, condition in problem.boundary.items():
        if isinstance(condition, Dirichlet) and side not in bounds.straight:
            raise InputError(
                f"the function is not known to have the prescribed values on all of side {side}, and one that has not "
                "may have less energy than the minimiser; fix the network there (dirichlet_sides='all' and a "
                "lifting of width zero), or give its values at the nodes."
            )
    exact = problem.impose_boundary(bounds.nodes)
    gap = float((exact - bounds.nodes).abs().max())
    known = torch.stack([*bounds.value]).abs().nan_to_num(posinf=0.0)  # all nodes of a wave may lie at its zeros
    if gap > BOUNDARY_SLACK * max(float(part.abs().max()) for part in (exact, bounds.nodes, known)):
        raise InputError(
            f"the function differs from the prescribed boundary values by up to {gap:.4g}, and one that is not "
            "admissible may have less energy than the minimiser; give the network a lifting that has these values."
        )
    return exact


def between(fenchel: Fenchel, bounds: CellBounds, flux: CellFlux, gap: Tensor) -> Between:
    """Bound what v adds, beside the gap (n) of (q, I v); `fenchel` has the slopes b."""
    grid, volume = fenchel.grid, fenchel.grid.cell_volume
    of_r = torch.stack([curved_squares(bounds, grid.spacing, axis) for axis in range(grid.dim)]).sum(0) * volume
    of_e = value_squares(bounds, grid.spacing, range(grid.dim)) * volume
    gradients, values = _Gradients.of(fenchel, bounds, flux), _Values.of(fenchel, bounds, flux)
    E = (weighted(fenchel.a * gradients.steepest, of_r) + weighted(fenchel.c * values.steepest, of_e)) / 2
    cross = torch.where(E.isfinite(), 2 * torch.sqrt(weighted(gap.clamp_min(0), E)), torch.inf)
    plain = math.sqrt(volume) * (weighted(gradients.farthest, of_r.sqrt()) + weighted(values.farthest, of_e.sqrt()))
    return Between(torch.minimum(cross + E, plain), torch.minimum(cross, plain))


def gradient_part(grid: Grid, bounds: CellBounds) -> Tensor:
    """Bound the L2 norm of grad (v - I v)."""
    squares = torch.stack([derivative_squares(bounds, grid.spacing, axis) for axis in range(grid.dim)])
    return (squares.sum() * grid.cell_volume).sqrt()


class _Gradients(NamedTuple):
    """sup g'' over all gradients of a cell, and sup |a dg(p) - y|; shape (n) each."""

    steepest: Tensor
    farthest: Tensor

    @staticmethod
    def of(fenchel: Fenchel, bounds: CellBounds, flux: CellFlux) -> _Gradients:
        assert fenchel.bends is not None
        dim, profile = fenchel.grid.dim, fenchel.profile
        spacing = bounds.nodes.new_tensor(fenchel.grid.spacing).view(-1, *(1,) * dim)
        low, high = bounds.gradient
        centre = torch.where((high - low).isfinite(), (low + high) / 2, 0.0)
        half = (high - low) / 2 + fenchel.bends.abs() * spacing / 2 + 2 * bounds.round_off / spacing  # with q
        y, spread = torch.stack(flux.means), torch.stack([flux.spread(axis) for axis in range(dim)])

        length = torch.linalg.vector_norm(centre, dim=0)
        reach = torch.linalg.vector_norm(half, dim=0)
        longest = torch.linalg.vector_norm(centre.abs() + half, dim=0)
        shortest = torch.linalg.vector_norm((centre.abs() - half).clamp_min(0), dim=0)
        dual = profile.inverse(torch.linalg.vector_norm(y.abs() + spread, dim=0) / fenchel.a)

        slope, most, least = profile.slope(length), profile.slope(longest), profile.slope(shortest)
        turn = torch.where(length > 0, 2 * reach / torch.where(length > 0, length, 1.0), 2.0)  # of p / |p|, at most
        change = torch.minimum(torch.maximum(most - slope, slope - least) + slope * turn, most + slope)
        direction = centre / torch.where(length > 0, length, 1.0)
        middle = torch.linalg.vector_norm(fenchel.a * slope * direction - y, dim=0)
        farthest = middle + fenchel.a * change + torch.linalg.vector_norm(spread, dim=0)
        return _Gradients(profile.steepest(torch.maximum(longest, dual)), _finite_or_unbounded(farthest))


class _Values(NamedTuple):
    """sup h'' over all values of a cell, and sup |c h'(w) - s|; shape (n) each, zero where c is."""

    steepest: Tensor
    farthest: Tensor

    @staticmethod
    def of(fenchel: Fenchel, bounds: CellBounds, flux: CellFlux) -> _Values:
        if not fenchel.has_reaction:
            return _Values(torch.zeros_like(fenchel.a), torch.zeros_like(fenchel.a))
        holds, potential = fenchel.c > 0, fenchel.potential
        c = torch.where(holds, fenchel.c, 1.0)
        low, high = bounds.value[0] - bounds.round_off, bounds.value[1] + bounds.round_off  # with I v
        s = flux.dual_at(fenchel.problem.elements_with(trapezoid(1)).points, fenchel.problem.source)
        least, most = s.amin(0), s.amax(0)
        dual = torch.maximum(potential.inverse(least / c).abs(), potential.inverse(most / c).abs())
        steepest = potential.steepest(torch.maximum(torch.maximum(low.abs(), high.abs()), dual))
        farthest = torch.maximum(c * potential.slope(high) - least, most - c * potential.slope(low))
        return _Values(torch.where(holds, steepest, 0.0), torch.where(holds, _finite_or_unbounded(farthest), 0.0))


def _finite_or_unbounded(suprema: Tensor) -> Tensor:
    """Say infinite where infinite or overflowing gradients or values leave no number at all."""
    return suprema.nan_to_num(nan=math.inf, posinf=math.inf)
