"""Guaranteed upper bound on the energy error of any field with the prescribed boundary values.

For a field v, an equilibrated flux y, r = f + div y - c v and its cell means r' (r' = 0 where c = 0), and m of
`kernels.majorant`,

    |||u - v|||^2 <= sum over cells of (||a^-1/2 (a grad v - y)|| + m ||r - r'||)^2 + c^-1 ||r'||^2
                   + sum over Robin faces of alpha^-1 ||g - alpha v - y.n||^2

Prager, Synge, Quart. Appl. Math. 5 (1947) 241-269; with reaction and oscillation terms: Repin, "A Posteriori Estimates
for Partial Differential Equations" (2008), chapter 4; Ainsworth, Vejchodsky, Numer. Math. 119 (2011) 219-243. See
`kernels.majorant` for the cell terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sciml_bounds.grid import Robin, side_axis
from sciml_bounds.kernels.majorant import majorant_terms, safe_sqrt
from sciml_bounds.kernels.q1 import modes
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.transfers import spread_side

__all__ = ["Majorant", "majorant"]


@dataclass(frozen=True)
class Majorant:
    """Contributions of the cells to the terms of the bound.

    Attributes
    ----------
    flux : Tensor, shape (b, n)
        Flux term ||a^-1/2 (a grad v - y)||^2.
    oscillation : Tensor, shape (b, n)
        Oscillation term m ||r - r'||, not squared.
    reaction : Tensor, shape (b, n)
        Reaction term c^-1 ||r'||^2.
    robin : Tensor, shape (b, n)
        Robin term alpha^-1 ||g - alpha v - y.n||^2 on the Robin faces of the cell.
    excess : Tensor, shape (b,)
        Largest flux defect of a cell beyond round-off; zero or less for an equilibrated flux.
    """

    flux: Tensor
    oscillation: Tensor
    reaction: Tensor
    robin: Tensor
    excess: Tensor

    @cached_property
    def squared(self) -> Tensor:
        """Contribution of each cell to the square of the bound, shape (b, n)."""
        squared = self.flux
        if any(self.oscillation.stride()):  # otherwise a single zero, expanded to all cells
            squared = squared + self.oscillation * (2 * safe_sqrt(self.flux) + self.oscillation)
        for term in (self.reaction, self.robin):
            squared = squared + term if any(term.stride()) else squared
        return squared

    @property
    def totals(self) -> dict[str, Tensor]:
        """Sum over all cells of the square of each term, shape (b,)."""
        parts = {"flux": self.flux, "oscillation": self.oscillation, "reaction": self.reaction, "robin": self.robin}
        zero = torch.zeros_like(self.excess)
        some = {name: part for name, part in parts.items() if any(part.stride())}
        if list(some) == ["flux"]:
            return {name: self.summed if name == "flux" else zero for name in parts}
        sums = {name: (part**2 if name == "oscillation" else part).flatten(1).sum(1) for name, part in some.items()}
        return {name: sums.get(name, zero) for name in parts}

    @cached_property
    def summed(self) -> Tensor:
        """The square of the bound, shape (b,)."""
        return self.squared.flatten(1).sum(1)

    @cached_property
    def total(self) -> Tensor:
        """The bound, shape (b,)."""
        total = safe_sqrt(self.summed)
        return torch.where(total.isnan(), torch.inf, total)  # NaN from overflow: no finite bound


def majorant(problem: Diffusion, values: Tensor, flux: tuple[Tensor, ...]) -> Majorant:
    """Return the bound for a node field (b, n + 1) with the prescribed boundary values and an equilibrated flux."""
    coefficient = tuple(problem.samples(a) for a in problem.coefficient)
    reaction, source = problem.samples(problem.reaction), problem.samples(problem.source)
    terms = majorant_terms(coefficient, reaction, source, problem.fluid, values, flux, problem.grid.spacing)
    robin = terms.flux.new_zeros(1).expand_as(terms.flux)
    for side, condition in problem.boundary.items():
        if isinstance(condition, Robin):
            robin = robin + _robin_term(problem, side, condition, values, flux)
    return Majorant(terms.flux, terms.oscillation, terms.reaction, robin, terms.excess)


def _robin_term(problem: Diffusion, side: str, condition: Robin, values: Tensor, flux: tuple[Tensor, ...]) -> Tensor:
    axis, end = side_axis(side)
    space = problem.grid.dim - 1
    alpha, g = (problem.samples(q, space) for q in (condition.alpha, condition.g))
    outward = flux[axis].select(1 + axis, -end) * (1.0 if end else -1.0)
    trace = modes(values.select(1 + axis, -end), space)
    mean = (0,) * space
    exchanges = (alpha > 0) & problem.fluid.select(1 + axis, -end)
    safe = torch.where(exchanges, alpha, 1.0)
    squared = (g - safe * trace[mean] - outward) ** 2 / safe
    for bits, mode in trace.items():
        if bits != mean:
            squared = squared + safe * mode**2 * 12.0 ** -sum(bits)
    term = torch.where(exchanges, squared, 0.0) * problem.grid.face_area(axis)
    return spread_side(term, axis, end, problem.grid.shape)
