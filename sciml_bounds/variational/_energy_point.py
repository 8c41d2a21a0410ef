"""One point of the minimisation of an energy: a nodal field, its energy, and the matrices at this field."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Tensor

from sciml_bounds.problems.energies import IsotropicEnergy
from sciml_bounds.problems.energy_density import Second, lengthened
from sciml_bounds.problems.transfers import with_periodic_copies
from sciml_bounds.problems.variational_problem import VariationalProblem
from sciml_bounds.variational._cell_matrices import CellMatrices

__all__ = ["EnergyPoint", "isotropic"]


class EnergyPoint:
    """A nodal field, with its energy and the derivatives of the energy.

    Parameters
    ----------
    problem : VariationalProblem
        Problem on a grid.
    v : Tensor
        Nodal field, with the prescribed values.
    """

    def __init__(self, problem: VariationalProblem, v: Tensor) -> None:
        self.problem, self.v = problem, v

    @cached_property
    def _fields(self) -> tuple[Tensor, Tensor]:
        return self.problem.elements.at(with_periodic_copies(self.v, self.problem.frame.periodic))

    @cached_property
    def energy(self) -> float:
        """The energy J."""
        return float(self.problem.energy(self.v))

    @cached_property
    def gradient(self) -> Tensor:
        """Derivative of J by the free values, a node field."""
        return self.problem.gradient(self.v)

    def regularised_fields(self) -> tuple[Tensor, Tensor]:
        """Return values and gradients at the quadrature points.

        If the energy may degenerate, gradients close to zero are lengthened.
        """
        u, p = self._fields
        density = self.problem.density
        if density.lower > 0 and math.isfinite(density.upper):
            return u, p
        return u, lengthened(p)

    def hessian(self) -> CellMatrices:
        """Assemble the second derivative of J, or its positive part if the problem is not convex."""
        u, p = self.regularised_fields()
        second = self.problem.density.second(self.problem.quadrature_data, u, p)
        return CellMatrices(self.problem, second if self.problem.convex else _positive_part(second))

    def frozen(self) -> CellMatrices:
        """Assemble the matrix of the quadratic energy with the weights frozen at this point."""
        u, p = self.regularised_fields()
        k, m = self.problem.density.frozen(self.problem.quadrature_data, u, p)
        return CellMatrices(self.problem, isotropic(k, m.expand_as(u).clamp_min(0.0), p))

    def has_decreasing_weights(self) -> bool:
        """Whether the frozen weights are known to decrease with growing gradients and values."""
        density = self.problem.density
        assert isinstance(density, IsotropicEnergy)
        return bool(density.profile.secant_falls and density.potential.secant_falls)


def isotropic(k: Tensor, m: Tensor, p: Tensor) -> Second:
    """Return the second derivatives of k |p|^2 / 2 + m u^2 / 2, for weights (...) and gradients (..., d)."""
    return Second(torch.diag_embed(k.unsqueeze(-1).expand(p.shape)), None, m.expand(p.shape[:-1]))


def _positive_part(second: Second) -> Second:
    """Return the second derivatives in (u, p) without their negative eigenvalues."""
    cross = torch.zeros_like(second.pp[..., 0]) if second.up is None else second.up
    top = torch.cat([second.uu.unsqueeze(-1), cross], -1).unsqueeze(-2)
    whole = torch.cat([top, torch.cat([cross.unsqueeze(-1), second.pp], -1)], -2)
    values, vectors = torch.linalg.eigh(whole)
    kept = vectors * values.clamp_min(0.0).unsqueeze(-2) @ vectors.mT
    return Second(kept[..., 1:, 1:], kept[..., 0, 1:], kept[..., 0, 0])
