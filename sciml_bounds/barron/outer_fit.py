"""The outer weights and the affine part of a network that make an energy least, the neurons being given.

The energy of a convex problem is convex in these, and Newton's method with a line search finds its minimum: in one step
if the problem is linear. The coordinates are those of a basis that is orthonormal in H1 by the points, in which second
derivatives are as good as the ellipticity of the problem, however close to dependent neurons are.

Legend: q points, n functions, m of them independent, d axes; a jet is values and gradients together, (q, 1 + d, n).
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciml_bounds.barron.network import BarronNetwork
from sciml_bounds.barron.optimal_sampling import orthonormal
from sciml_bounds.barron.quadrature import Quadrature
from sciml_bounds.barron.trial_space import affine_jets, feature_jets, jet_of
from sciml_bounds.problems.variational import VariationalProblem

__all__ = ["OuterEnergy", "fit_outer", "independent_functions", "set_outer"]

#: Newton steps at most, halvings of each, and the part of the decrease that the slope promises (Armijo).
STEPS, HALVINGS, ARMIJO = 50, 40, 1e-4
#: Stop where a step promises to lower the energy by less than this part of it.
FLAT = 1e-13


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
        """Its second derivative, (n, n)."""
        second = self._problem.density.second(self._place, *self._fields(c))
        values, slopes = self._jets[:, 0], self._jets[:, 1:]
        fluxes = second.pp @ slopes
        by_value = second.uu.expand(len(values))[:, None] * values
        if second.up is not None:
            by_value = by_value + (second.up[..., None] * slopes).sum(1)
            fluxes = fluxes + second.up[..., None] * values[:, None]
        applied = torch.cat([by_value[:, None], fluxes], 1) * self._w[:, None, None]
        return self._jets.flatten(0, 1).T @ applied.flatten(0, 1)

    def least(self, c: Tensor) -> Tensor:
        """Minimise from a start by Newton's method."""
        energy = self.value(c)
        for _ in range(STEPS):
            g = self.gradient(c)
            step = -_solved(self.hessian(c), g)
            slope = float(g @ step)
            if not -slope > FLAT * abs(energy):
                break
            for _ in range(HALVINGS):
                lower = self.value(c + step)
                if lower <= energy + ARMIJO * slope:
                    break
                step, slope = step / 2, slope / 2
            else:
                break
            c, energy = c + step, lower
        return c


def _solved(hessian: Tensor, g: Tensor) -> Tensor:
    """Solve where the second derivative is positive: energies may be flat in some directions, as for |grad u|^4."""
    values, vectors = torch.linalg.eigh(hessian)
    kept = values > 1e-12 * values[-1]
    found: Tensor = vectors[:, kept] @ ((vectors[:, kept].T @ g) / values[kept])
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


def fit_outer(network: BarronNetwork, problem: VariationalProblem, quadrature: Quadrature) -> int:
    """Set outer weights and affine part to the best ones by the points; return how many dimensions they span."""
    energy, transform, start = independent_functions(network, problem, quadrature)
    set_outer(network, transform @ energy.least(start))
    return transform.shape[1]


@torch.no_grad()
def set_outer(network: BarronNetwork, coefficients: Tensor) -> None:
    """Write offset, slope and outer weights."""
    d = network.dimension
    network.offset.copy_(coefficients[0])
    network.slope.copy_(coefficients[1 : 1 + d])
    network.outer.copy_(coefficients[1 + d :])
