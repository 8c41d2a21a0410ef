"""The solver of `sb.prepare(problem, unknowns="cells")`: cell pressures and face fluxes of the two-point scheme."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sciml_bounds._linear import LinearSolver
from sciml_bounds._linear_methods import Method
from sciml_bounds.arrays import convert, require_count, require_finite
from sciml_bounds.errors import InputError
from sciml_bounds.krylov._loop import check_tolerances
from sciml_bounds.operators._lattice_operator import LatticeOperator, to_lattice
from sciml_bounds.operators._linear_operator import LinearOperator
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.discretization import cell_fluxes
from sciml_bounds.problems.nodal_loads import require_balanced_load
from sciml_bounds.reports import report_failure
from sciml_bounds.results import CellSolution, LinearSolution
from sciml_bounds.stopping import StoppingCriteria

__all__ = ["CellSolver"]


class CellSolver:
    """A solver for the two-point finite-volume equations, whose set-up is reused for every right-hand side.

    The flux through a face between two cells is the difference of their pressures times the harmonic mean of the
    coefficient, times the area of the face over the distance of the cell centres. Faces on Dirichlet sides use the
    distance from the centre to the side; faces of solids are closed.

    Attributes
    ----------
    problem : Diffusion
        The problem for which the solver was prepared.
    method : Method
        Method by which the equations are solved.
    setup_seconds : float
        Wall-clock time of the set-up.
    """

    def __init__(self, problem: Diffusion, method: Method) -> None:
        start = time.perf_counter()
        self.problem = problem
        self.method = method
        with torch.no_grad():
            self._scheme = cell_fluxes(problem.detach())
        self._linear = LinearSolver(self._scheme.system, method)
        self.setup_seconds = time.perf_counter() - start

    @property
    def operator(self) -> LatticeOperator:
        """Matrix of transmissibilities and well indices for flat vectors (batch, n); `.to_csr()` assembles it."""
        return self._linear.operator

    @property
    def rhs(self) -> Tensor:
        """Right-hand side, shape (batch..., cells): sources and wells times cell volumes, and boundary data."""
        return self.problem.unflatten(self._linear.system.rhs.reshape(-1, *self.problem.grid.shape))

    def as_preconditioner(self) -> LinearOperator:
        """Return an approximate inverse of `operator`, such as one multigrid cycle.

        Its `.to_scipy()` and `sb.fem.PetscPreconditioner(solver)` make it a preconditioner of other packages, also for
        a matrix of one's own that has the same stencil.
        """
        return self._linear.preconditioner

    def update(self, *, coefficient: Any) -> CellSolver:
        """Return a solver for the same problem with another coefficient."""
        return CellSolver(self.problem.replace(coefficient=coefficient), self.method)

    def solve(
        self,
        *,
        rhs: Any = None,
        x0: Any = None,
        rtol: float | None = None,
        atol: float = 0.0,
        maxiter: int | None = None,
        throw: bool = False,
    ) -> CellSolution:
        """Solve for the cell pressures.

        Parameters
        ----------
        rhs : array (batch..., cells), optional
            Right-hand side instead of `self.rhs`, for example `solver.rhs` plus an accumulation term of a time step.
        x0 : array (batch..., cells), optional
            Initial guess of the pressures; zero by default.
        rtol, atol, maxiter, throw
            As in `sb.solve`.

        Returns
        -------
        CellSolution
            Pressures and face rates. They carry no gradients.

        Raises
        ------
        InputError
            If an argument has the wrong shape or is not finite, or nothing fixes the level of the pressure and the
            right-hand side does not sum to zero.
        ConvergenceError
            If `throw` is true and the tolerance is not reached.
        """
        start = time.perf_counter()
        if maxiter is not None:
            require_count(maxiter, "maxiter", 0)
        check_tolerances(rtol, atol, self.problem.dtype)
        problem, system = self.problem, self._scheme.system
        if rhs is not None:
            load = self._on_lattice(rhs, "rhs")
            system = replace(system, rhs=load)
            supply = problem.samples(problem.source.detach()) * problem.grid.cell_volume  # its round-off may remain
            require_balanced_load(system, [load, to_lattice(supply, problem.grid.dim).expand_as(load)])
        guess = None if x0 is None else system.fix_mean(self._on_lattice(x0, "the initial guess x0"))
        with torch.no_grad():
            linear = self._linear.with_system(system).solve(x0=guess, stop=StoppingCriteria(rtol, atol, maxiter))
            solution = self._solution(linear, time.perf_counter() - start)
        if not bool(linear.converged.all()):
            report_failure("the solve", linear.reason, linear.progress, throw=throw)
        return solution

    def _on_lattice(self, values: Any, name: str) -> Tensor:
        problem = self.problem
        field = convert(values, name, problem.dtype, problem.device)
        require_finite(field, name)
        shape = (*problem.batch_shape, *problem.grid.shape)
        try:
            cells = problem.samples(field.expand(shape))
        except RuntimeError:
            raise InputError(
                f"{name} has shape {tuple(field.shape)}; give one value per cell, shape {shape}."
            ) from None
        return to_lattice(torch.where(problem.fluid, cells, 0.0), problem.grid.dim)

    def _solution(self, linear: LinearSolution, seconds: float) -> CellSolution:
        problem = self.problem
        pressure = linear.x.view(-1, *problem.grid.shape)
        faces = self._scheme.faces(pressure)
        rates = tuple(problem.unflatten(face * -problem.grid.face_area(axis)) for axis, face in enumerate(faces))
        linear = linear.reshape(problem.batch_shape)
        return CellSolution(problem.unflatten(pressure), rates, linear, problem.grid, seconds)
