"""The outer weights and the affine part of a network that make an energy least, the neurons being given.

The energy of a convex problem is convex in these, and Newton's method with a line search finds its minimum: in one step
if the problem is linear. The coordinates are those of a basis that is orthonormal in H1 by the points, in which second
derivatives are as good as the ellipticity of the problem, however close to dependent neurons are.

Legend: q points, n functions, m of them independent, d axes; a jet is values and gradients together, (q, 1 + d, n).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sciml_bounds.barron._barron_network import BarronNetwork
from sciml_bounds.network_solvers._optimal_sampling import orthonormal
from sciml_bounds.network_solvers._quadrature import Quadrature
from sciml_bounds.network_solvers._trial_space import affine_jets, feature_jets, jet_of
from sciml_bounds.problems.energies import IsotropicEnergy
from sciml_bounds.problems.energy_density import lengthened
from sciml_bounds.problems.variational_problem import VariationalProblem

__all__ = ["OuterEnergy", "OuterFit", "fit_outer", "independent_functions", "set_outer"]

#: Newton steps at most, trials along each, and the part of the slope that may be left after it.
STEPS, TRIALS, LEFT = 50, 60, 0.25
#: Eigenvalues of second derivatives below this part of the largest are raised to it (Levenberg).
SHIFT = 1e-12
#: Stop where the relative gradient is below the first number, or a step promises to lower the energy by less than the
#: second, as a part of it.
RESIDUAL, FLAT = 1e-11, 1e-13


class OuterFit(NamedTuple):
    """How many dimensions the functions span, and what is left of the gradient, see `OuterEnergy.residual`."""

    dimensions: int
    residual: float


class OuterEnergy:
    """The energy of g + sum_i c_i phi_i as a function of coefficients, by points.

    Parameters
    ----------
    problem, quadrature
        The energy and the points.
    start
        The jet of g, (q, 1 + d).
    jets
        Those of phi, (q, 1 + d, n).
    """

    def __init__(self, problem: VariationalProblem, quadrature: Quadrature, start: Tensor, jets: Tensor) -> None:
        self._problem, self._x, self._w = problem, quadrature.points, quadrature.weights
        self._place = problem.place(quadrature.points)
        self._source = problem.source_at(quadrature.points)
        self._start, self._jets = start, jets

    def _fields(self, c: Tensor) -> tuple[Tensor, Tensor]:
        jet = self._start + self._jets @ c.detach()  # derivatives are formulas
        return jet[:, 0], jet[:, 1:]

    def value(self, c: Tensor) -> float:
        """J."""
        u, p = self._fields(c)
        return float(self._w @ (self._problem.density.value(self._place, u, p) - self._source * u))

    def gradient(self, c: Tensor) -> Tensor:
        """Its derivative, (n,)."""
        u, p = self._fields(c)
        by_u, by_p = self._problem.density.first(self._place, u, p)
        flat = torch.cat([(by_u - self._source)[:, None], by_p], 1) * self._w[:, None]
        return flat.flatten() @ self._jets.flatten(0, 1)

    def hessian(self, c: Tensor) -> Tensor:
        """Its second derivative, (n, n); where it may vanish or be infinite, that of gradients that do not vanish."""
        u, p = self._fields(c)
        if not self._elliptic():
            u, p = lengthened(u[:, None])[:, 0], lengthened(p)
        second = self._problem.density.second(self._place, u, p)
        values, slopes = self._jets[:, 0], self._jets[:, 1:]
        fluxes = second.pp @ slopes
        by_value = second.uu.expand(len(values))[:, None] * values
        if second.up is not None:
            by_value = by_value + (second.up[..., None] * slopes).sum(1)
            fluxes = fluxes + second.up[..., None] * values[:, None]
        applied = torch.cat([by_value[:, None], fluxes], 1) * self._w[:, None, None]
        return self._jets.flatten(0, 1).T @ applied.flatten(0, 1)

    def _elliptic(self) -> bool:
        """Whether second derivatives are known to be neither zero nor infinite anywhere."""
        density = self._problem.density
        elliptic = density.lower > 0 and math.isfinite(density.upper)
        return elliptic and (not isinstance(density, IsotropicEnergy) or math.isfinite(density.potential.upper))

    def residual(self, c: Tensor) -> float:
        """Return the size of the gradient, relative to that of what it is a difference of: zero at the minimum."""
        u, p = self._fields(c)
        by_u, by_p = self._problem.density.first(self._place, u, p)
        parts = [self._source, by_u, by_p.square().sum(-1).sqrt()]
        scale = max(math.sqrt(float(self._w @ part.square())) for part in parts)
        size = float(self.gradient(c).norm())
        return size / scale if size != 0 else 0.0

    def least(self, c: Tensor) -> Tensor:
        """Minimise from a start by Newton's method, in coordinates that are orthonormal in H1."""
        if not self._elliptic():
            c = self._along(c, self._linear_gradient(c))
        for _ in range(STEPS):
            if self.residual(c) < RESIDUAL:
                break
            g = self.gradient(c)
            step = -_solved(self.hessian(c), g)
            if not -float(g @ step) > FLAT * abs(self.value(c)):
                break
            new = self._along(c, step)
            if torch.equal(new, c):
                break
            c = new
        return c

    def _linear_gradient(self, c: Tensor) -> Tensor:
        """Return the way to the minimum of int |u|^2 / 2 + |grad u|^2 / 2 - f u, a start for all energies."""
        u, p = self._fields(c)
        flat = torch.cat([(self._source - u)[:, None], -p], 1) * self._w[:, None]
        return flat.flatten() @ self._jets.flatten(0, 1)

    def _along(self, c: Tensor, step: Tensor) -> Tensor:
        """Search along a step for a place where the slope is a part of that at the start; the slope increases."""
        (u, p), way = self._fields(c), self._jets @ step

        def slope(t: float) -> float:
            by_u, by_p = self._problem.density.first(self._place, u + t * way[:, 0], p + t * way[:, 1:])
            found = float(self._w @ ((by_u - self._source) * way[:, 0] + (by_p * way[:, 1:]).sum(-1)))
            return found if math.isfinite(found) else math.inf

        first, low, high, t = slope(0.0), 0.0, math.inf, 1.0
        if not first < 0:
            return c
        for _ in range(TRIALS):
            here = slope(t)
            if abs(here) <= -LEFT * first:
                return c + t * step
            low, high = (t, high) if here < 0 else (low, t)
            t = (low + high) / 2 if math.isfinite(high) else 2 * t
        return c + low * step


def _solved(hessian: Tensor, g: Tensor) -> Tensor:
    """Solve with the second derivative, shifted to be positive: energies may be flat in some directions."""
    if not bool(hessian.isfinite().all()):
        return g
    values, vectors = torch.linalg.eigh(hessian)
    found: Tensor = vectors @ ((vectors.T @ g) / values.clamp_min(SHIFT * float(values[-1]) or 1.0))
    return found


def independent_functions(
    network: BarronNetwork, problem: VariationalProblem, quadrature: Quadrature
) -> tuple[OuterEnergy, Tensor, Tensor]:
    """Return the energy in coordinates z of an orthonormal basis of H1, T (n, m) with c = T z, and z of the network."""
    x, root = quadrature.points, quadrature.weights.sqrt()[:, None, None]
    jets = torch.cat([affine_jets(network, x), feature_jets(network, x)], -1)
    old = torch.cat([network.offset[None], network.slope, network.outer]).detach()
    basis, transform = orthonormal((jets * root).flatten(0, 1))
    start, functions = jet_of(network, x) - jets @ old, basis.reshape(*jets.shape[:2], -1) / root
    energy = OuterEnergy(problem, quadrature, start, functions)
    return energy, transform, torch.linalg.lstsq(transform, old[:, None]).solution[:, 0]


def fit_outer(network: BarronNetwork, problem: VariationalProblem, quadrature: Quadrature) -> OuterFit:
    """Set outer weights and affine part to the best ones by the points."""
    energy, transform, start = independent_functions(network, problem, quadrature)
    found = energy.least(start)
    set_outer(network, transform @ found)
    return OuterFit(transform.shape[1], energy.residual(found))


@torch.no_grad()
def set_outer(network: BarronNetwork, coefficients: Tensor) -> None:
    """Write offset, slope and outer weights."""
    d = network.dimension
    network.offset.copy_(coefficients[0])
    network.slope.copy_(coefficients[1 : 1 + d])
    network.outer.copy_(coefficients[1 + d :])
