"""Exact energy norms, loads and residuals of multilinear fields.

|||w|||^2 is the integral of a |grad w|^2 + c w^2 over the fluid cells plus the integral of alpha w^2 over Robin sides.
Node fields have shape (b, n + 1): on a periodic axis the last node is a copy of the first.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from sciml_bounds.grid import Neumann, Robin, side_axis
from sciml_bounds.kernels.majorant import safe_sqrt
from sciml_bounds.kernels.q1 import energy, from_modes, modes, stiffness
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.transfers import (
    fold_periodic_copies,
    spread_side,
    with_periodic_copies,
    without_periodic_copies,
)

__all__ = ["EnergyForm"]


class EnergyForm:
    """The bilinear form and the load of a problem, on multilinear node fields.

    Parameters
    ----------
    problem : Diffusion
        The problem.
    """

    def __init__(self, problem: Diffusion) -> None:
        self.problem = problem
        self.coefficient = tuple(self._in_fluid(a) for a in problem.coefficient)
        self.reaction = self._in_fluid(problem.reaction)

    def _in_fluid(self, field: Tensor) -> Tensor:
        cells = self.problem.samples(field)
        return cells if self.problem.solid is None else torch.where(self.problem.fluid, cells, 0.0)

    def apply(self, values: Tensor) -> Tensor:
        """Return the bilinear form a(values, phi) for every node function phi, shape (b, n + 1)."""
        result = stiffness(self.coefficient, self.reaction, values, self.problem.grid.spacing)
        for side, condition in self.problem.boundary.items():
            if isinstance(condition, Robin):
                result = self._add_side(result, side, self._side_mass(side, condition.alpha, values))
        return result

    def norm(self, values: Tensor) -> Tensor:
        """Return the energy norm |||values|||, shape (b,)."""
        squared = energy(self.coefficient, self.reaction, values, self.problem.grid.spacing)
        for side, condition in self.problem.boundary.items():
            if isinstance(condition, Robin):
                axis, end = side_axis(side)
                trace, mass = values.select(1 + axis, -end), self._side_mass(side, condition.alpha, values)
                squared = squared + (trace * mass).reshape(len(squared), -1).sum(1)
        return safe_sqrt(squared.clamp_min(0))

    @cached_property
    def load(self) -> Tensor:
        """Return the integrals of source and side data times every node function, shape (b, n + 1)."""
        problem, dim = self.problem, self.problem.grid.dim
        weights = self._in_fluid(problem.source) * problem.grid.cell_volume
        parts = {bits: torch.zeros_like(weights) for bits in _all_bits(dim)}
        parts[(0,) * dim] = weights
        load = from_modes(parts, dim)
        for side, condition in problem.boundary.items():
            if isinstance(condition, Neumann | Robin):
                data = condition.flux if isinstance(condition, Neumann) else condition.g
                load = self._add_side(load, side, self._side_load(side, data))
        return load

    def residual(self, values: Tensor) -> Tensor:
        """Return load - a(values, phi) for node functions phi that vanish on Dirichlet sides; zero for the others."""
        return self.free(self.load - self.apply(values))

    @cached_property
    def _free_nodes(self) -> Tensor:
        problem = self.problem
        return with_periodic_copies(problem.free_nodes, problem.periodic)

    def free(self, residual: Tensor) -> Tensor:
        """Set the entries of Dirichlet nodes to zero, and both copies of a periodic node to their sum."""
        periodic = self.problem.periodic
        if any(periodic):
            residual = with_periodic_copies(fold_periodic_copies(residual, periodic), periodic)
        return torch.where(self._free_nodes, residual, 0.0)

    def pair(self, residual: Tensor, values: Tensor) -> Tensor:
        """Apply the result of `residual` to a node field that vanishes on Dirichlet sides, shape (b,)."""
        periodic = self.problem.periodic  # count the copies of periodic nodes once
        once = without_periodic_copies(residual, periodic) * without_periodic_copies(values, periodic)
        return once.flatten(1).sum(1)

    # --- sides --------------------------------------------------------------------------------------------------------

    def _open_faces(self, side: str) -> Tensor:
        axis, end = side_axis(side)
        return self.problem.fluid.select(1 + axis, -end)

    def _side_mass(self, side: str, alpha: Tensor, values: Tensor) -> Tensor:
        axis, end = side_axis(side)
        space = self.problem.grid.dim - 1
        weight = torch.where(
            self._open_faces(side), self.problem.samples(alpha, space), 0.0
        ) * self.problem.grid.face_area(axis)
        trace = values.select(1 + axis, -end)
        parts = {bits: weight * mode * 12.0 ** -sum(bits) for bits, mode in modes(trace, space).items()}
        return from_modes(parts, space)

    def _side_load(self, side: str, data: Tensor) -> Tensor:
        axis, _ = side_axis(side)
        space = self.problem.grid.dim - 1
        weight = torch.where(
            self._open_faces(side), self.problem.samples(data, space), 0.0
        ) * self.problem.grid.face_area(axis)
        parts = {bits: torch.zeros_like(weight) for bits in _all_bits(space)}
        parts[(0,) * space] = weight
        return from_modes(parts, space)

    def _add_side(self, field: Tensor, side: str, contribution: Tensor) -> Tensor:
        axis, end = side_axis(side)
        return field + spread_side(contribution, axis, end, tuple(field.shape[1:]))


def _all_bits(dim: int) -> list[tuple[int, ...]]:
    return [tuple((number >> (dim - 1 - a)) & 1 for a in range(dim)) for number in range(2**dim)]
