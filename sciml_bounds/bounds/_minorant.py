"""The guaranteed lower bound of the energy error: |||u - v||| >= R(w) / |||w||| for any w, with R the residual of v.

Two test functions are combined in the best way. One is the difference e of v to another approximation on the same grid
(see `bounds._correction`). The other is a sum of bubbles on the edges of the grid (`kernels.bubbles`), which see what
no function of the grid can; their weights are a Jacobi step from v + t e, t being where its energy is smallest. Bank,
Smith, SIAM J. Numer. Anal. 30 (1993) 921-935, for such a surplus as an error indicator; the bound itself is
Cauchy-Schwarz.

Everything is a sum over cells, and no grid but the given one is there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml_bounds.bounds._correction import correction_by_cycles, correction_from_pressure
from sciml_bounds.grid import Dirichlet, Neumann, Robin, side_axis
from sciml_bounds.kernels.bubbles import (
    Data,
    bubble_products,
    bubble_residual,
    bubble_scales,
    nodal_products,
    relax_bubbles,
)
from sciml_bounds.problems.diffusion import Diffusion

__all__ = ["minorant", "nodal_minorant"]

#: Round-offs that may come together in a term of a sum over cells and in the sum.
ROUND_OFF = 64
EPS = torch.finfo(torch.float64).eps

#: |||u - v - e|||^2 = |||u - v|||^2 - 2 R(e) + |||e|||^2. Where the root of it may be more than so many times the upper
#: bound of |||u - v|||, pressures make no good nodal field: where two stiff parts touch at a vertex only, no flux goes
#: through it, but nodal fields are continuous there.
NO_HELP = 1.5

Edges = tuple[Tensor, ...]


def minorant(problem: Diffusion, values: Tensor, pressure: Tensor | None = None, upper: Tensor | None = None) -> Tensor:
    """Compute the lower bound for a node field (b, n + 1) with the right boundary values, shape (b,).

    Parameters
    ----------
    problem
        The problem.
    values
        The field v, with copies of periodic nodes.
    pressure, upper
        The cell pressures (b, n) of the flux solve and the upper bound (b,) that came of it. Without them, and where
        pressures make no good nodal field, cycles of multigrid find the correction.
    """
    with torch.no_grad():
        sums = _CellSums(problem, values)
        correction, alone = _correction(sums, pressure, upper)
        sure = _sure(alone)
        length = torch.where(alone.energy > 0, sure / alone.energy, 0.0)
        length = torch.where(length.isfinite(), length, 0.0).view(-1, *(1,) * problem.grid.dim)
        weights = sums.relaxed(torch.addcmul(values, length, correction))
        bubbles, product = sums.of_bubbles(weights, correction)
        lower = _best_ratio(alone, bubbles, product)
        return torch.where(torch.isfinite(lower), lower, 0.0)  # what overflowed bounds nothing


def nodal_minorant(
    problem: Diffusion, values: Tensor, pressure: Tensor | None = None, upper: Tensor | None = None
) -> Tensor:
    """Compute the lower bound that the first test function gives alone, a node function, shape (b,)."""
    with torch.no_grad():
        _, alone = _correction(_CellSums(problem, values), pressure, upper)
        norm = alone.energy.sqrt() + ROUND_OFF * EPS * (alone.energy.sqrt() + alone.size.sqrt())
        lower = torch.where(norm > 0, _sure(alone).abs() / torch.where(norm > 0, norm, 1.0), 0.0)
        return torch.where(torch.isfinite(lower), lower, 0.0)


def _correction(sums: _CellSums, pressure: Tensor | None, upper: Tensor | None) -> tuple[Tensor, _TestFunction]:
    """Find the difference to another approximation, a node field, and what it is as a test function."""
    problem, values = sums.problem, sums.values
    if pressure is None or upper is None:
        correction = correction_by_cycles(problem, values)
        return correction, sums.of_nodes(correction)
    correction = correction_from_pressure(problem, values, pressure)
    alone = sums.of_nodes(correction)
    misses = ~(alone.energy - 2 * alone.right <= (NO_HELP**2 - 1) * upper**2)
    if bool(misses.any()):  # of each sample by itself, so that it does not depend on the others
        by_cycles = correction_by_cycles(problem, values)
        correction = torch.where(misses.view(-1, *(1,) * problem.grid.dim), by_cycles, correction)
        alone = sums.of_nodes(correction)
    return correction, alone


@dataclass(frozen=True)
class _TestFunction:
    """R(w), |||w|||^2 and how far round-off may have changed R(w) and |||w|||, in units of it, each (b,)."""

    right: Tensor
    energy: Tensor
    noise: Tensor
    size: Tensor


def _sure(alone: _TestFunction) -> Tensor:
    """R(w) less what round-off may have added, shape (b,)."""
    return alone.right.sign() * (alone.right.abs() - ROUND_OFF * EPS * alone.noise).clamp_min(0)


def _best_ratio(e: _TestFunction, w: _TestFunction, product: Tensor) -> Tensor:
    """Maximise R over norm among s e + t w, and bound the ratio from below whatever round-off has done.

    Modes of the functions are off by round-off, which by the triangle inequality changes the norm by no more than that
    of what they are off by (`size`); the round-off of their products is at most that of the product of the norms.
    """
    parts = (e, w)
    eps = ROUND_OFF * EPS
    scale = torch.stack([torch.where(p.energy > 0, p.energy, 1.0).rsqrt() for p in parts], -1)
    right = torch.stack([p.right for p in parts], -1) * scale
    cosine = (product * scale.prod(-1)).clamp(-1, 1)
    one = torch.ones_like(cosine)
    gram = torch.stack([torch.stack([one, cosine], -1), torch.stack([cosine, one], -1)], -2)
    usable = (right.isfinite() & torch.stack([p.energy > 0 for p in parts], -1)).all(-1) & cosine.isfinite()
    gram = torch.where(usable.view(-1, 1, 1), gram, torch.eye(2, dtype=gram.dtype, device=gram.device))
    right = torch.where(right.isfinite(), right, 0.0)
    shares = (torch.linalg.pinv(gram, rtol=1e-10, hermitian=True) @ right.unsqueeze(-1)).squeeze(-1)
    s, t = (shares * scale).unbind(-1)
    found = s * e.right + t * w.right
    lost = eps * (s.abs() * (e.noise + e.right.abs()) + t.abs() * (w.noise + w.right.abs()))
    sizes = s.abs() * e.energy.sqrt() + t.abs() * w.energy.sqrt()
    squared = s * s * e.energy + 2 * s * t * product + t * t * w.energy
    norm = (squared.clamp_min(0) + eps * sizes**2).sqrt() + eps * (s.abs() * e.size.sqrt() + t.abs() * w.size.sqrt())
    return torch.where(norm > 0, (found - lost) / torch.where(norm > 0, norm, 1.0), 0.0).clamp_min(0)


class _CellSums:
    """The residual R of a field and the energy, in nodal functions and in bubbles, with what round-off may add."""

    def __init__(self, problem: Diffusion, values: Tensor) -> None:
        fluid = problem.fluid
        parts = (*problem.coefficient, problem.reaction, problem.source)
        *a, c, f = (problem.samples(q) if problem.solid is None else torch.where(fluid, problem.samples(q), 0.0)
                    for q in parts)  # fmt: skip
        self.problem, self.values = problem, values
        self.data: Data = (tuple(a), c, f)
        flat = values.flatten(1)
        self.level = torch.maximum(-flat.amin(1), flat.amax(1))  # without a temporary
        self.sides = list(_exchanges(problem))

    def of_nodes(self, e: Tensor) -> _TestFunction:
        """Take a node field for the test function."""
        total = nodal_products(self.data, self.values, e, self.level, self.problem.grid.spacing)
        for side in self.sides:
            total = total + nodal_products(side.data, side.trace(self.values), side.trace(e), self.level, side.spacing)
        return _TestFunction(*total.unbind(1))

    def of_bubbles(self, w: Edges, e: Tensor) -> tuple[_TestFunction, Tensor]:
        """Take a sum of bubbles, and its energy product with e."""
        total = bubble_products(self.data, self.values, e, w, self.level, self.problem.grid.spacing)
        for side in self.sides:
            fields = side.trace(self.values), side.trace(e), side.edges(w)
            total = total + bubble_products(side.data, *fields, self.level, side.spacing)
        right, product, energy, noise, size = total.unbind(1)
        return _TestFunction(right, energy, noise, size), product

    def relaxed(self, values: Tensor) -> Edges:
        """Divide the residual of a field in every bubble by the energy of the bubble; zero on Dirichlet sides."""
        problem, spacing = self.problem, self.problem.grid.spacing
        residual = bubble_residual(self.data, values, spacing)
        for side in self.sides:
            for there, more in zip(side.edges(residual), bubble_residual(side.data, side.trace(values), side.spacing)):
                there += more
        for axis, r in enumerate(residual):
            for other in range(problem.grid.dim):
                if problem.periodic[other] and other != axis:
                    first, last = r.select(1 + other, 0), r.select(1 + other, -1)
                    first += last
                    last.copy_(first)
        weights = relax_bubbles(self.data, residual, spacing, problem.periodic)
        for side in self.sides:
            side.share_scales(self.data, weights, problem)
        for name, condition in problem.boundary.items():
            if isinstance(condition, Dirichlet):
                axis, end = side_axis(name)
                for other, w in enumerate(weights):
                    if other != axis:
                        w.select(1 + axis, -end).zero_()
        return weights


@dataclass(frozen=True)
class _Exchange:
    """A Neumann or Robin side: the same sums with no coefficient, alpha as reaction and the data as source."""

    axis: int
    end: int
    data: Data
    spacing: tuple[float, ...]
    periodic: tuple[bool, ...]

    def trace(self, nodes: Tensor) -> Tensor:
        """Values (b, nodes of the side)."""
        return nodes.select(1 + self.axis, -self.end)

    def edges(self, w: Edges) -> Edges:
        """Numbers of the edges in the side, as views."""
        return tuple(part.select(1 + self.axis, -self.end) for k, part in enumerate(w) if k != self.axis)

    def share_scales(self, data: Data, weights: Edges, problem: Diffusion) -> None:
        """Add the energy that bubbles have on the side to that which their weights were divided by."""
        if not bool(self.data[1].any()):
            return
        a, c, f = data
        dim = 1 + self.axis
        cell = -self.end % c.shape[dim]
        layer = tuple(q.narrow(dim, cell, 1) for q in a), c.narrow(dim, cell, 1), f
        inside = self.edges(bubble_scales(layer, problem.grid.spacing, problem.periodic))
        for w, here, there in zip(self.edges(weights), inside, bubble_scales(self.data, self.spacing, self.periodic)):
            w *= here / (here + there)


def _exchanges(problem: Diffusion) -> list[_Exchange]:
    grid, found = problem.grid, []
    for name, condition in problem.boundary.items():
        if not isinstance(condition, Neumann | Robin):
            continue
        axis, end = side_axis(name)
        is_open = problem.fluid.select(1 + axis, -end)
        g = condition.flux if isinstance(condition, Neumann) else condition.g
        g = torch.where(is_open, problem.samples(g, grid.dim - 1), 0.0)
        alpha = torch.zeros_like(g)
        if isinstance(condition, Robin):
            alpha = torch.where(is_open, problem.samples(condition.alpha, grid.dim - 1), 0.0)
        if not bool(g.any()) and not bool(alpha.any()):
            continue
        others = [k for k in range(grid.dim) if k != axis]
        zero = torch.zeros_like(alpha)
        spacing, periodic = tuple(grid.spacing[k] for k in others), tuple(problem.periodic[k] for k in others)
        found.append(_Exchange(axis, end, ((zero,) * len(others), alpha, g), spacing, periodic))
    return found
