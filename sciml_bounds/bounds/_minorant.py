"""Guaranteed lower bound on the energy error: |||u - v||| >= R(w) / |||w||| for any w, with the residual R of v.

The bound is the Cauchy-Schwarz inequality for the best combination of two test functions. The first is the difference e
between v and another approximation on the same grid (see `bounds._correction`). The second is a sum of bubbles on the
edges of the grid (`kernels.bubbles`), which represent the part of the error that no multilinear function represents.
The weights of the bubbles are a Jacobi step from v + t e, where t minimises the energy. Bank, Smith, SIAM J. Numer.
Anal. 30 (1993) 921-935, use such a hierarchical surplus as an error indicator.

All terms are sums over the cells of the given grid; there is no finer grid.
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

#: Round-off of a term of a sum over cells, and of the sum, in machine epsilons.
ROUND_OFF = 64
EPS = torch.finfo(torch.float64).eps

#: A correction e from pressures is rejected if the bound on |||u - v - e||| is larger than the upper bound on |||u -
#: v||| by more than this factor, where |||u - v - e|||^2 = |||u - v|||^2 - 2 R(e) + |||e|||^2. This happens where two
#: stiff regions touch at a vertex only: no flux passes through the vertex, but nodal fields are continuous there.
MAX_CORRECTION_RATIO = 1.5

Edges = tuple[Tensor, ...]


def minorant(problem: Diffusion, values: Tensor, pressure: Tensor | None = None, upper: Tensor | None = None) -> Tensor:
    """Return the lower bound for a node field with the prescribed boundary values, shape (b,).

    Parameters
    ----------
    problem : Diffusion
        The problem.
    values : Tensor, shape (b, n + 1)
        The field v, with copies of periodic nodes.
    pressure : Tensor, shape (b, n), optional
        Cell pressures of the flux solve.
    upper : Tensor, shape (b,), optional
        Upper bound on the error. If `pressure` or `upper` is missing, or the pressures yield a poor correction,
        multigrid cycles compute the correction.
    """
    with torch.no_grad():
        sums = _CellSums(problem, values)
        correction, alone = _correction(sums, pressure, upper)
        sure = _reduced_by_round_off(alone)
        length = torch.where(alone.energy > 0, sure / alone.energy, 0.0)
        length = torch.where(length.isfinite(), length, 0.0).view(-1, *(1,) * problem.grid.dim)
        weights = sums.bubble_weights(torch.addcmul(values, length, correction))
        bubbles, product = sums.of_bubbles(weights, correction)
        lower = _best_ratio(alone, bubbles, product)
        return torch.where(torch.isfinite(lower), lower, 0.0)  # overflow: no positive bound


def nodal_minorant(
    problem: Diffusion, values: Tensor, pressure: Tensor | None = None, upper: Tensor | None = None
) -> Tensor:
    """Return the lower bound from the first test function alone, which is a node function, shape (b,)."""
    with torch.no_grad():
        _, alone = _correction(_CellSums(problem, values), pressure, upper)
        norm = alone.energy.sqrt() + ROUND_OFF * EPS * (alone.energy.sqrt() + alone.size.sqrt())
        lower = torch.where(norm > 0, _reduced_by_round_off(alone).abs() / torch.where(norm > 0, norm, 1.0), 0.0)
        return torch.where(torch.isfinite(lower), lower, 0.0)


def _correction(sums: _CellSums, pressure: Tensor | None, upper: Tensor | None) -> tuple[Tensor, _TestFunction]:
    """Return the difference between the field and another approximation, and its values as a test function."""
    problem, values = sums.problem, sums.values
    if pressure is None or upper is None:
        correction = correction_by_cycles(problem, values)
        return correction, sums.of_nodes(correction)
    correction = correction_from_pressure(problem, values, pressure)
    alone = sums.of_nodes(correction)
    misses = ~(alone.energy - 2 * alone.right <= (MAX_CORRECTION_RATIO**2 - 1) * upper**2)
    if bool(misses.any()):  # decided per sample, so that a sample does not depend on the others
        by_cycles = correction_by_cycles(problem, values)
        correction = torch.where(misses.view(-1, *(1,) * problem.grid.dim), by_cycles, correction)
        alone = sums.of_nodes(correction)
    return correction, alone


@dataclass(frozen=True)
class _TestFunction:
    """R(w), |||w|||^2, and the round-off of R(w) and of |||w||| in machine epsilons, shape (b,) each."""

    right: Tensor
    energy: Tensor
    noise: Tensor
    size: Tensor


def _reduced_by_round_off(alone: _TestFunction) -> Tensor:
    """Reduce |R(w)| by its round-off, keeping the sign, shape (b,)."""
    return alone.right.sign() * (alone.right.abs() - ROUND_OFF * EPS * alone.noise).clamp_min(0)


def _best_ratio(e: _TestFunction, w: _TestFunction, product: Tensor) -> Tensor:
    """Maximise R divided by the norm among s e + t w, and return a lower bound on the ratio that includes round-off.

    Round-off in the modes of the functions changes the norm by at most the norm of the perturbation (`size`), by the
    triangle inequality. The round-off of the product of e and w is at most the round-off of the product of their norms.
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
    """Residual R of a field, and energies, for nodal test functions and bubbles, with their round-off."""

    def __init__(self, problem: Diffusion, values: Tensor) -> None:
        fluid = problem.fluid
        parts = (*problem.coefficient, problem.reaction, problem.source)
        *a, c, f = (problem.samples(q) if problem.solid is None else torch.where(fluid, problem.samples(q), 0.0)
                    for q in parts)  # fmt: skip
        self.problem, self.values = problem, values
        self.data: Data = (tuple(a), c, f)
        flat = values.flatten(1)
        self.level = torch.maximum(-flat.amin(1), flat.amax(1))  # largest absolute value, without a temporary
        self.sides = list(_boundary_terms(problem))

    def of_nodes(self, e: Tensor) -> _TestFunction:
        """Return the values of a node field as test function."""
        total = nodal_products(self.data, self.values, e, self.level, self.problem.grid.spacing)
        for side in self.sides:
            total = total + nodal_products(side.data, side.trace(self.values), side.trace(e), self.level, side.spacing)
        return _TestFunction(*total.unbind(1))

    def of_bubbles(self, w: Edges, e: Tensor) -> tuple[_TestFunction, Tensor]:
        """Return the values of a sum of bubbles as test function, and its energy product with the node field e."""
        total = bubble_products(self.data, self.values, e, w, self.level, self.problem.grid.spacing)
        for side in self.sides:
            fields = side.trace(self.values), side.trace(e), side.edges(w)
            total = total + bubble_products(side.data, *fields, self.level, side.spacing)
        right, product, energy, noise, size = total.unbind(1)
        return _TestFunction(right, energy, noise, size), product

    def bubble_weights(self, values: Tensor) -> Edges:
        """Return bubble weights: the residual of each bubble divided by its energy, zero on Dirichlet sides."""
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
class _BoundaryTerm:
    """A Neumann or Robin side, treated like a sum over cells with zero coefficient, reaction alpha and source g."""

    axis: int
    end: int
    data: Data
    spacing: tuple[float, ...]
    periodic: tuple[bool, ...]

    def trace(self, nodes: Tensor) -> Tensor:
        """Return the values on the side, shape (b, nodes of the side)."""
        return nodes.select(1 + self.axis, -self.end)

    def edges(self, w: Edges) -> Edges:
        """Return the values of the edges within the side, as views."""
        return tuple(part.select(1 + self.axis, -self.end) for k, part in enumerate(w) if k != self.axis)

    def share_scales(self, data: Data, weights: Edges, problem: Diffusion) -> None:
        """Rescale the weights of the bubbles on the side, so that the divisor includes the energy of the side."""
        if not bool(self.data[1].any()):
            return
        a, c, f = data
        dim = 1 + self.axis
        cell = -self.end % c.shape[dim]
        layer = tuple(q.narrow(dim, cell, 1) for q in a), c.narrow(dim, cell, 1), f
        inside = self.edges(bubble_scales(layer, problem.grid.spacing, problem.periodic))
        for w, here, there in zip(self.edges(weights), inside, bubble_scales(self.data, self.spacing, self.periodic)):
            w *= here / (here + there)


def _boundary_terms(problem: Diffusion) -> list[_BoundaryTerm]:
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
        found.append(_BoundaryTerm(axis, end, ((zero,) * len(others), alpha, g), spacing, periodic))
    return found
