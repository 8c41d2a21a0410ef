"""Upper bound on the Fenchel gap of a field and a flux.

Let L(x, u, p) = a g(|p|) + c h(u) be convex, v and the minimiser u functions with the prescribed Dirichlet values, y
any flux with the prescribed normal component on Neumann sides, and s = div y + f (s = 0 where c = 0). By Fenchel's
inequality

    J(v) - J(u) <= int L(v, grad v) + a g*(|y| / a) + c h*(s / c) - y . grad v - s v.

The integrand is never negative (Ekeland, Temam, "Convex Analysis and Variational Problems" (1976), chapter III; Repin,
"A Posteriori Estimates for Partial Differential Equations" (2008), chapter 7). The products y . grad v and s v are
integrated exactly; integration by parts in every cell shows that the bubble part b of a `CellFlux` contributes nothing
to their sum. The convex functions are bounded by the rules of `bounds._convex_sums`.

Fields are multilinear. Optionally, their gradients are replaced by grad v + b (x - x_K), with the cell centre x_K and a
constant b_i per cell and axis. These gradients are multilinear too, so the bounds remain valid. The bubble part of a
`CellFlux` still contributes nothing to the products, since it is even around x_K along its own axis.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml_bounds.bounds._convex_sums import CellFlux, gauss, midpoints, trapezoid
from sciml_bounds.kernels.q1 import modes
from sciml_bounds.problems.elements import Elements, Rule
from sciml_bounds.problems.energies import IsotropicEnergy
from sciml_bounds.problems.scalar_functions import ScalarFunction
from sciml_bounds.problems.variational_problem import VariationalProblem

__all__ = ["Fenchel"]

#: Number of values that are evaluated at once: points times cells.
CHUNK_SIZE = 2**21

#: Three Gauss points, which are exact for the squares of fluxes.
GAUSS3 = ((0.5 - 0.15**0.5, 5 / 18), (0.5, 4 / 9), (0.5 + 0.15**0.5, 5 / 18))

#: Two Gauss points in each half of a cell.
GAUSS4 = gauss(2)

#: Round-off of the sum over a cell, relative to the sum of the absolute values of its terms.
ROUND_OFF = 64 * torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class _Terms:
    """Sum of terms in each cell, and sum of their absolute values."""

    total: Tensor
    size: Tensor


class Fenchel:
    """Bounds and estimates of the energies and gaps of one problem; node fields have shape (n + 1).

    Parameters
    ----------
    problem : VariationalProblem
        Problem on a grid, with an isotropic convex density.
    """

    def __init__(self, problem: VariationalProblem) -> None:
        assert problem.grid is not None
        assert isinstance(problem.density, IsotropicEnergy)
        self.problem, self.grid = problem, problem.grid
        self.a, self.c = problem.quadrature_data
        self.profile, self.potential = problem.density.profile, problem.density.potential
        self.has_reaction = bool(self.c.any())
        self.curvatures: Tensor | None = None

    def with_profile(self, profile: ScalarFunction) -> Fenchel:
        """Return a copy with another profile g."""
        other = copy.copy(self)
        other.profile = profile
        return other

    def with_curvatures(self, curvatures: Tensor) -> Fenchel:
        """Return a copy for fields with gradients grad v + b (x - x_K), where `curvatures` is b, shape (d, n)."""
        other = copy.copy(self)
        other.curvatures = curvatures
        return other

    def field_at(self, nodes: Tensor, elements: Elements, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Return values (q, n) and gradients (q, n, d) at the selected points of all cells."""
        u, p = elements.at(nodes, rows)
        if self.curvatures is None:
            return u, p
        h = elements.points.new_tensor(self.grid.spacing)
        offsets = (elements.points[rows] - 0.5) * h
        return u, p + offsets.view(-1, *(1,) * self.grid.dim, self.grid.dim) * self.curvatures.movedim(0, -1)

    # --- energies -----------------------------------------------------------------------------------------------------

    def energy_above(self, nodes: Tensor, count: int) -> Tensor:
        """Bound the integral of L over each cell from above, on N sub-cells along each axis, shape (n)."""
        terms = self._primal(nodes, trapezoid(count))
        return terms.total + ROUND_OFF * terms.size

    def energy_below(self, nodes: Tensor, count: int) -> Tensor:
        """Bound the integral of L over each cell from below, shape (n)."""
        terms = self._primal(nodes, midpoints(count))
        return terms.total - ROUND_OFF * terms.size

    def energy_estimate(self, nodes: Tensor, count: int = 2) -> Tensor:
        """Estimate the integral of L over each cell by Gauss quadrature, shape (n)."""
        return self._primal(nodes, gauss(count)).total

    def _primal(self, nodes: Tensor, rule: Rule) -> _Terms:
        elements = self.problem.elements_with(rule)
        exact_u, exact_p = self._squares(nodes, self.problem.elements)

        def density(rows: slice) -> Tensor:
            u, p = self.field_at(nodes, elements, rows)
            value: Tensor = self.a * self.profile.value(torch.linalg.vector_norm(p, dim=-1))
            return value + self.c * self.potential.value(u) if self.has_reaction else value

        total, size = self._sums(elements, density)
        low, low_u = self._convexity_modulus(self.profile), self._convexity_modulus(self.potential) * self.has_reaction
        if low or low_u:
            about_u, about_p = self._squares(nodes, elements)
            total = total - self.a * low / 2 * (about_p - exact_p) - self.c * low_u / 2 * (about_u - exact_u)
            size = size + self.a * low * about_p + self.c * low_u * about_u
        return _Terms(total, size)

    @staticmethod
    def _convexity_modulus(function: ScalarFunction) -> float:
        return max(function.lower, 0.0)

    # --- gaps ---------------------------------------------------------------------------------------------------------

    def dual_above(self, nodes: Tensor, flux: CellFlux, count: int) -> Tensor:
        """Bound the integral of a g*(|y| / a) + c h*(s / c) - y . grad v - s v over each cell from above, shape (n).

        The gap of a cell is the sum of this bound and the energy of the cell. It is infinite where a conjugate is
        infinite.
        """
        dual = self._dual(flux, flux.rule(count), count)
        products = self._products(nodes, flux)
        return dual.total - products.total + ROUND_OFF * (dual.size + products.size)

    def gap_estimate(self, nodes: Tensor, flux: CellFlux, rule: Rule = GAUSS4) -> Tensor:
        """Estimate the gap of each cell by Gauss or Simpson quadrature, shape (n)."""
        total: Tensor = self._primal(nodes, rule).total + self._dual(flux, rule, 0).total
        return total - self._products(nodes, flux).total

    def _dual(self, flux: CellFlux, rule: Rule, count: int) -> _Terms:
        elements = self.problem.elements_with(rule)

        def conjugate(rows: slice) -> Tensor:
            points = elements.points[rows]
            length = torch.linalg.vector_norm(flux.at(points, count), dim=-1)
            value: Tensor = self.a * self.profile.conjugate(length / self.a)
            if not self.has_reaction:
                return value
            holds = self.c > 0
            c = torch.where(holds, self.c, 1.0)
            dual = flux.dual_at(points, self.problem.source)
            return value + torch.where(holds, c * self.potential.conjugate(dual / c), 0.0)

        total, size = self._sums(elements, conjugate)
        return self._with_exact_squares(flux, elements, count, total, size)

    def _with_exact_squares(
        self, flux: CellFlux, elements: Elements, count: int, total: Tensor, size: Tensor
    ) -> _Terms:
        """Integrate the quadratic parts of the conjugates exactly: g* is strongly convex with modulus 1 / Lambda."""
        steep, stiff = 1 / self.profile.upper, self.has_reaction / self.potential.upper
        exact = self.problem.elements_with(GAUSS3)

        def squares(elements: Elements, count: int) -> Tensor:
            return self._sums(elements, lambda rows: flux.at(elements.points[rows], count).square().sum(-1))[0]

        def duals(elements: Elements) -> Tensor:
            source = self.problem.source
            return self._sums(elements, lambda rows: flux.dual_at(elements.points[rows], source).square())[0]

        if steep:
            about = squares(elements, count)
            total = total - steep / 2 * (about - squares(exact, 0)) / self.a
            size = size + steep * about / self.a
        if stiff:
            c = torch.where(self.c > 0, self.c, torch.inf)
            about = duals(elements)
            total = total - stiff / 2 * (about - duals(exact)) / c
            size = size + stiff * about / c
        return _Terms(total, size)

    def _products(self, nodes: Tensor, flux: CellFlux) -> _Terms:
        """Integrate y . grad v + s v over each cell exactly; the bubble part of the flux contributes nothing."""
        dim, volume = self.grid.dim, self.grid.cell_volume
        found = modes(nodes, dim)
        parts = []
        for axis, (mean, h) in enumerate(zip(flux.means, self.grid.spacing)):
            bits = tuple(int(other == axis) for other in range(dim))
            parts.append(volume * mean * found[bits] / h)
        dual = flux.divergence + self.problem.source
        parts.append(volume * torch.where(self.c > 0, dual, 0.0) * found[(0,) * dim])
        parts.append(self.bent_products(flux))
        together = torch.stack(parts)
        return _Terms(together.sum(0), together.abs().sum(0))

    def bent_products(self, flux: CellFlux) -> Tensor:
        """Integrate y . b (x - x_K) over each cell exactly, shape (n)."""
        total = torch.zeros_like(self.a)
        curvatures = () if self.curvatures is None else self.curvatures
        for b, (low, high), h in zip(curvatures, flux.ends(), self.grid.spacing):
            total = total + self.grid.cell_volume * (high - low) * b * h / 12
        return total

    def _sums(self, elements: Elements, evaluate: Callable[[slice], Tensor]) -> tuple[Tensor, Tensor]:
        """Return the weighted sums of `evaluate` and of its absolute values over the points, shape (n) each."""
        step = max(1, CHUNK_SIZE // max(1, self.a.numel()))
        total, size = torch.zeros_like(self.a), torch.zeros_like(self.a)
        for start in range(0, len(elements.weights), step):
            rows = slice(start, start + step)
            values = evaluate(rows).expand(-1, *self.grid.shape)
            total += torch.tensordot(elements.weights[rows], values, 1)
            size += torch.tensordot(elements.weights[rows], values.abs(), 1)
        return total, size

    def _squares(self, nodes: Tensor, elements: Elements) -> tuple[Tensor, Tensor]:
        """Return the weighted sums of u^2 and |p|^2 over the points of each cell, shape (n) each."""
        step = max(1, CHUNK_SIZE // max(1, nodes.numel()))
        of_u: list[Tensor] = []
        of_p: list[Tensor] = []
        for start in range(0, len(elements.weights), step):
            rows = slice(start, start + step)
            u, p = self.field_at(nodes, elements, rows)
            of_u.append(torch.tensordot(elements.weights[rows], u.square(), 1))
            of_p.append(torch.tensordot(elements.weights[rows], p.square().sum(-1), 1))
        return torch.stack(of_u).sum(0), torch.stack(of_p).sum(0)
