"""Pressure solvers for incompressible flow, by name or with any preconditioner.

Use them as `sb.simulation.Smoke(pressure=...)`. The set-up is reused while the solids do not move.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from sciml_bounds._linear import LinearSolver, full_multigrid_guess
from sciml_bounds._linear_methods import Algebraic, ConjugateGradients, Method, Multigrid
from sciml_bounds.arrays import require_choice, require_count, require_finite, require_number
from sciml_bounds.errors import InputError
from sciml_bounds.krylov._learned_directions import LearnedDirections
from sciml_bounds.krylov._loop import LEARNED_MEMORY, iterate
from sciml_bounds.krylov._system import require_fit
from sciml_bounds.multigrid._cycle import Cycle
from sciml_bounds.operators._lattice_operator import LatticeOperator, LatticeSystem
from sciml_bounds.operators._linear_operator import LinearOperator, aslinearoperator
from sciml_bounds.results import LinearSolution
from sciml_bounds.stopping import StoppingCriteria

__all__ = ["METHODS", "Preconditioned", "PressureSolver", "learned_cycle", "learned_directions"]


@dataclass(frozen=True)
class Preconditioned:
    """Conjugate gradients with a preconditioner that is set up for each geometry of the fluid.

    Parameters
    ----------
    make : callable
        Function that takes a `LatticeSystem` and returns the preconditioner, an approximate inverse in any form that
        `sb.cg` accepts as M. Flexible CG is used unless the preconditioner is known to be linear and symmetric.
    memory : int, default 1
        Number of previous directions that flexible CG keeps; each new direction is made A-orthogonal to them.

    Raises
    ------
    InputError
        If `make` is not callable, or `memory` is not a positive integer.
    """

    make: Callable[[LatticeSystem], Any]
    memory: int = 1

    def __post_init__(self) -> None:
        if not callable(self.make):
            raise InputError(
                f"make is a {type(self.make).__name__}, which is not callable; give a function of a LatticeSystem that "
                "returns a preconditioner."
            )
        if hasattr(self.make, "as_preconditioner"):
            raise InputError(
                f"make is a {type(self.make).__name__}; give its method as_preconditioner, without calling the method."
            )
        require_count(self.memory, "memory", 1)


#: Largest part of the norm of a source that round-off may leave outside the range of the operator.
IMBALANCE_TOL = 1e-6


@lru_cache
def _shipped_network(name: str, device: torch.device) -> LearnedDirections:
    return LearnedDirections.load(name).to(device)


def learned_cycle(system: LatticeSystem) -> LinearOperator:
    """Return the learned multigrid cycle for a system in two or three dimensions, with the weights that ship."""
    _require_system(system)
    dim = len(system.operator.offsets)
    if dim == 1:
        raise InputError(
            "the learned cycle exists for two and three dimensions, but the system has one; use method 'multigrid-pcg'."
        )
    return _shipped_network(f"cycle{dim}d", system.rhs.device).as_preconditioner(system)


def learned_directions(system: LatticeSystem) -> LinearOperator:
    """Return the preconditioner of the direction network that ships, for systems in three dimensions."""
    _require_system(system)
    lattice = system.operator.lattice
    if lattice[0] == 1:
        raise InputError(
            f"the weights of 'dcdm' are for three dimensions, but the lattice is {lattice[1]}x{lattice[2]}; use a "
            "method without weights, or sb.simulation.Preconditioned with your own network."
        )
    return _shipped_network("poisson3d-64", system.rhs.device).as_preconditioner(system)


#: Methods by name.
METHODS: dict[str, Method | Preconditioned] = {
    "multigrid-pcg": Multigrid(),
    "learned-cycle": Preconditioned(learned_cycle),
    "cg": ConjugateGradients(),
    "pyamg": Algebraic(),
    "dcdm": Preconditioned(learned_directions, memory=LEARNED_MEMORY),
}


class PressureSolver:
    """A solver for pressure systems, which is set up again whenever the geometry changes.

    Parameters
    ----------
    method : str, Method or Preconditioned, default "multigrid-pcg"
        A name ("multigrid-pcg", "learned-cycle", "cg", "pyamg", "dcdm"), a method such as `sb.Multigrid(sweeps=2)`, or
        `Preconditioned`.
    maxiter : int, optional
        Maximum number of iterations; by default 500 with multigrid, ten times the number of cells otherwise.

    Raises
    ------
    InputError
        If the method is unknown; from a solve with "dcdm", if the system is not three-dimensional.

    Notes
    -----
    "dcdm" is flexible conjugate gradients along three kinds of directions: the output of the network `poisson3d-64`
    that ships, the residual, and the last two directions (Kaneda et al., ICML 2023). The network was trained in a
    closed box without solids. "learned-cycle" is conjugate gradients preconditioned by the learned multigrid cycle
    `cycle2d` or `cycle3d` (`sciml_bounds.krylov._learned_cycle`); like "multigrid-pcg" it starts from full multigrid.

    Examples
    --------
    Conjugate gradients with your own preconditioner:

    >>> from sciml_bounds.operators._linear_operator import Diagonal
    >>> from sciml_bounds.pressure import Preconditioned, PressureSolver
    >>> def jacobi(system):
    ...     return Diagonal(system.operator.diagonal().flatten(1).reciprocal())
    >>> solver = PressureSolver(Preconditioned(jacobi))
    """

    def __init__(self, method: str | Method | Preconditioned = "multigrid-pcg", *, maxiter: int | None = None) -> None:
        self.method = _as_pressure_method(method)
        self.maxiter = maxiter
        if maxiter is not None:
            require_count(maxiter, "maxiter", 0)
        self._operator: LatticeOperator | None = None
        self._ready: LinearSolver | LinearOperator | None = None

    def __call__(self, system: LatticeSystem, guess: Tensor | None, atol: float) -> LinearSolution:
        """Solve until the norm of the residual is at most `atol`.

        Parameters
        ----------
        system : LatticeSystem
            A system with one sample.
        guess : Tensor (1, x, y, z) or None
            Initial guess; zero if None.
        atol : float
            Absolute tolerance, positive.

        Returns
        -------
        LinearSolution
            The solution; its `seconds` include the set-up if the geometry has changed.

        Raises
        ------
        InputError
            If the right-hand side or the guess is not finite or does not have the shape of the lattice, `atol` is not
            positive, the source on a floating component of the fluid does not sum to zero, or the preconditioner does
            not fit the system.
        """
        start = time.perf_counter()
        _check_system(system, guess, atol)
        self.prepare(system)
        if isinstance(self._ready, LinearSolver):
            stop = StoppingCriteria(rtol=0.0, atol=atol, maxiter=self.maxiter)
            solution = self._ready.with_system(system).solve(x0=guess, stop=stop)
        else:
            solution = self._iterate(system, guess, atol)
        return replace(solution, seconds=time.perf_counter() - start)

    def prepare(self, system: LatticeSystem) -> None:
        """Set up the solver for the geometry of a system, unless the previous system has the same geometry."""
        _require_system(system)
        if self._operator is not system.operator:
            self._ready, self._operator = self._set_up(system), system.operator

    def _set_up(self, system: LatticeSystem) -> LinearSolver | LinearOperator:
        if isinstance(self.method, Preconditioned):
            rhs = system.rhs.flatten(1)
            preconditioner = aslinearoperator(self.method.make(system), rhs)
            require_fit(preconditioner, rhs, "the preconditioner")
            return preconditioner
        return LinearSolver(system, self.method)

    def _iterate(self, system: LatticeSystem, guess: Tensor | None, atol: float) -> LinearSolution:
        assert isinstance(self._ready, LinearOperator)
        assert isinstance(self.method, Preconditioned)
        b = system.into_range(system.rhs).flatten(1)
        x0 = None if guess is None else guess.flatten(1).clone()
        if isinstance(self._ready, Cycle):
            x0 = full_multigrid_guess(system.operator, self._ready, b, x0, StoppingCriteria(rtol=0.0, atol=atol))
        solution = iterate(
            system.operator, b, self._ready, x0, rtol=0.0, atol=atol, maxiter=self.maxiter, memory=self.method.memory,
        )  # fmt: skip
        x = system.fix_mean(solution.x.view(system.rhs.shape))
        return replace(solution, x=x.flatten(1))


def _require_system(system: LatticeSystem) -> None:
    if not isinstance(system, LatticeSystem):
        raise InputError(
            f"the system is a {type(system).__name__}; give a LatticeSystem, for example from the method "
            "pressure_systems of sb.simulation.Smoke."
        )


def _check_system(system: LatticeSystem, guess: Tensor | None, atol: float) -> None:
    _require_system(system)
    if guess is not None and not isinstance(guess, Tensor):
        kind = type(guess).__name__
        raise InputError(f"the guess of the pressure is a {kind}; give a tensor with the shape of the lattice.")
    rhs, lattice = system.rhs, system.operator.lattice
    require_number(atol, "atol", positive=True)
    for field, name in ((rhs, "the right-hand side of the pressure"), (guess, "the guess of the pressure")):
        if field is None:
            continue
        if tuple(field.shape) != (1, *lattice):
            raise InputError(f"{name} has shape {tuple(field.shape)}; give shape {(1, *lattice)}.")
        require_finite(field, name)
    outside = float((rhs - system.into_range(rhs)).norm())
    if outside > max(atol, IMBALANCE_TOL * float(rhs.norm())):
        raise InputError(
            "the source does not sum to zero on a floating component of the fluid: its part outside the range of the "
            f"operator has norm {outside:.3g}; subtract the mean of the source there, or open a side of the domain."
        )


def _as_pressure_method(method: str | Method | Preconditioned) -> Method | Preconditioned:
    if isinstance(method, Method | Preconditioned):
        return method
    if not isinstance(method, str):
        raise InputError(
            f"method is a {type(method).__name__}; give a name, a method, or sb.simulation.Preconditioned(...)."
        )
    return METHODS[require_choice(method, "method", METHODS)]
