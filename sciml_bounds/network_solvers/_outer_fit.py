"""Outer weights and affine part of least energy for a network with given neurons.

The energy of a convex problem is a convex function of these. Newton's method with a line search computes its minimum;
for linear problems it takes one step. The coordinates refer to a basis that is orthonormal in the H1 inner product of
the quadrature, so the condition of the Hessian is that of the problem, even if neurons are almost linearly dependent.

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

#: Maximum number of Newton steps, and of trials in each line search.
MAX_STEPS, MAX_TRIALS = 50, 60
#: The line search accepts a point if the slope there is at most this fraction of the initial slope.
SLOPE_REDUCTION = 0.25
#: Eigenvalues of the Hessian below this fraction of the largest one are raised to it (Levenberg).
MIN_EIGENVALUE_RATIO = 1e-12
#: Stop if the relative gradient is below this number.
GRADIENT_TOL = 1e-11
#: Stop if the predicted decrease of the energy is below this fraction of the energy.
DECREASE_TOL = 1e-13


class OuterFit(NamedTuple):
    """Dimension of the span of the functions, and relative gradient at the minimum (`OuterEnergy.residual`)."""

    dimensions: int
    residual: float


class OuterEnergy:
    """Energy of g + sum_i c_i phi_i as a function of the coefficients c, by quadrature.

    Parameters
    ----------
    problem : VariationalProblem
        The problem.
    quadrature : Quadrature
        Points and weights.
    start : Tensor, shape (q, 1 + d)
        Jet of g.
    jets : Tensor, shape (q, 1 + d, n)
        Jets of the functions phi.
    """

    def __init__(self, problem: VariationalProblem, quadrature: Quadrature, start: Tensor, jets: Tensor) -> None:
        self._problem, self._x, self._w = problem, quadrature.points, quadrature.weights
        self._data = problem.point_data(quadrature.points)
        self._source = problem.source_at(quadrature.points)
        self._start, self._jets = start, jets

    def _fields(self, c: Tensor) -> tuple[Tensor, Tensor]:
        jet = self._start + self._jets @ c.detach()  # derivatives are computed by formulas, not by autograd
        return jet[:, 0], jet[:, 1:]

    def value(self, c: Tensor) -> float:
        """Return the energy J."""
        u, p = self._fields(c)
        return float(self._w @ (self._problem.density.value(self._data, u, p) - self._source * u))

    def gradient(self, c: Tensor) -> Tensor:
        """Return the gradient of the energy, shape (n,)."""
        u, p = self._fields(c)
        by_u, by_p = self._problem.density.first(self._data, u, p)
        flat = torch.cat([(by_u - self._source)[:, None], by_p], 1) * self._w[:, None]
        return flat.flatten() @ self._jets.flatten(0, 1)

    def hessian(self, c: Tensor) -> Tensor:
        """Return the Hessian of the energy, shape (n, n).

        If the second derivative of the density may be zero or infinite at vanishing values or gradients, short ones are
        lengthened before the evaluation.
        """
        u, p = self._fields(c)
        if not self._elliptic():
            u, p = lengthened(u[:, None])[:, 0], lengthened(p)
        second = self._problem.density.second(self._data, u, p)
        values, slopes = self._jets[:, 0], self._jets[:, 1:]
        fluxes = second.pp @ slopes
        by_value = second.uu.expand(len(values))[:, None] * values
        if second.up is not None:
            by_value = by_value + (second.up[..., None] * slopes).sum(1)
            fluxes = fluxes + second.up[..., None] * values[:, None]
        applied = torch.cat([by_value[:, None], fluxes], 1) * self._w[:, None, None]
        return self._jets.flatten(0, 1).T @ applied.flatten(0, 1)

    def _elliptic(self) -> bool:
        """Check that the second derivatives of the density are known to be positive and finite everywhere."""
        density = self._problem.density
        elliptic = density.lower > 0 and math.isfinite(density.upper)
        return elliptic and (not isinstance(density, IsotropicEnergy) or math.isfinite(density.potential.upper))

    def residual(self, c: Tensor) -> float:
        """Return the norm of the gradient relative to the largest of its terms; zero at the minimum."""
        u, p = self._fields(c)
        by_u, by_p = self._problem.density.first(self._data, u, p)
        parts = [self._source, by_u, by_p.square().sum(-1).sqrt()]
        scale = max(math.sqrt(float(self._w @ part.square())) for part in parts)
        size = float(self.gradient(c).norm())
        return size / scale if size != 0 else 0.0

    def minimise(self, c: Tensor) -> Tensor:
        """Return the minimiser by Newton's method from a start, for functions that are orthonormal in H1."""
        if not self._elliptic():
            c = self._line_search(c, self._linear_gradient(c))
        for _ in range(MAX_STEPS):
            if self.residual(c) < GRADIENT_TOL:
                break
            g = self.gradient(c)
            step = -_solve_hessian(self.hessian(c), g)
            if not -float(g @ step) > DECREASE_TOL * abs(self.value(c)):
                break
            new = self._line_search(c, step)
            if torch.equal(new, c):
                break
            c = new
        return c

    def _linear_gradient(self, c: Tensor) -> Tensor:
        """Return the step to the minimum of int |u|^2 / 2 + |grad u|^2 / 2 - f u, a first step for any energy."""
        u, p = self._fields(c)
        flat = torch.cat([(self._source - u)[:, None], -p], 1) * self._w[:, None]
        return flat.flatten() @ self._jets.flatten(0, 1)

    def _line_search(self, c: Tensor, step: Tensor) -> Tensor:
        """Search along a step for a point where the slope, which is increasing, is sufficiently small."""
        (u, p), way = self._fields(c), self._jets @ step

        def slope(t: float) -> float:
            by_u, by_p = self._problem.density.first(self._data, u + t * way[:, 0], p + t * way[:, 1:])
            found = float(self._w @ ((by_u - self._source) * way[:, 0] + (by_p * way[:, 1:]).sum(-1)))
            return found if math.isfinite(found) else math.inf

        first, low, high, t = slope(0.0), 0.0, math.inf, 1.0
        if not first < 0:
            return c
        for _ in range(MAX_TRIALS):
            here = slope(t)
            if abs(here) <= -SLOPE_REDUCTION * first:
                return c + t * step
            low, high = (t, high) if here < 0 else (low, t)
            t = (low + high) / 2 if math.isfinite(high) else 2 * t
        return c + low * step


def _solve_hessian(hessian: Tensor, g: Tensor) -> Tensor:
    """Solve with the Hessian, whose small eigenvalues are raised, because energies may be flat in some directions."""
    if not bool(hessian.isfinite().all()):
        return g
    values, vectors = torch.linalg.eigh(hessian)
    found: Tensor = vectors @ ((vectors.T @ g) / values.clamp_min(MIN_EIGENVALUE_RATIO * float(values[-1]) or 1.0))
    return found


def independent_functions(
    network: BarronNetwork, problem: VariationalProblem, quadrature: Quadrature
) -> tuple[OuterEnergy, Tensor, Tensor]:
    """Return the energy in coordinates z of an H1-orthonormal basis, T (n, m) with c = T z, and z of the network."""
    x, root = quadrature.points, quadrature.weights.sqrt()[:, None, None]
    jets = torch.cat([affine_jets(network, x), feature_jets(network, x)], -1)
    old = torch.cat([network.offset[None], network.slope, network.outer]).detach()
    basis, transform = orthonormal((jets * root).flatten(0, 1))
    start, functions = jet_of(network, x) - jets @ old, basis.reshape(*jets.shape[:2], -1) / root
    energy = OuterEnergy(problem, quadrature, start, functions)
    return energy, transform, torch.linalg.lstsq(transform, old[:, None]).solution[:, 0]


def fit_outer(network: BarronNetwork, problem: VariationalProblem, quadrature: Quadrature) -> OuterFit:
    """Set outer weights and affine part to those of least energy, by quadrature."""
    energy, transform, start = independent_functions(network, problem, quadrature)
    found = energy.minimise(start)
    set_outer(network, transform @ found)
    return OuterFit(transform.shape[1], energy.residual(found))


@torch.no_grad()
def set_outer(network: BarronNetwork, coefficients: Tensor) -> None:
    """Set offset, slope and outer weights of a network, in this order."""
    d = network.dimension
    network.offset.copy_(coefficients[0])
    network.slope.copy_(coefficients[1 : 1 + d])
    network.outer.copy_(coefficients[1 + d :])
