"""Linear solvers for the pressure of a flow, by name or around any preconditioner.

They fit `sciml_bounds.evolution.smoke.Smoke(pressure=...)`, and keep their set-up while the solids stay where they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from sciml_bounds._linear import (
    Algebraic,
    ConjugateGradients,
    LinearSolver,
    Method,
    Multigrid,
    Stop,
    full_multigrid_guess,
)
from sciml_bounds.arrays import require_count, require_finite, require_number
from sciml_bounds.errors import InputError
from sciml_bounds.krylov._learned_directions import LearnedDirections
from sciml_bounds.krylov._loop import LEARNED_MEMORY, iterate
from sciml_bounds.krylov._system import require_fit
from sciml_bounds.multigrid._cycle import Cycle
from sciml_bounds.operators._lattice_operator import LatticeOperator, LatticeSystem
from sciml_bounds.operators._linear_operator import LinearOperator, aslinearoperator
from sciml_bounds.results import LinearSolution

__all__ = ["METHODS", "Preconditioned", "PressureSolver", "learned_cycle", "learned_directions"]


@dataclass(frozen=True)
class Preconditioned:
    """Conjugate gradients with a preconditioner that is made for each geometry.

    Parameters
    ----------
    make
        Makes the preconditioner from a system: an approximate inverse of its operator, anything that `sb.cg` takes as
        M. The loop is flexible where that is not known to be linear and symmetric, as of a network.
    memory
        Number of previous directions that a flexible loop makes the new one orthogonal to.

    Raises
    ------
    InputError
        If `make` cannot be called, or `memory` is no positive integer.
    """

    make: Callable[[LatticeSystem], Any]
    memory: int = 1

    def __post_init__(self) -> None:
        if not callable(self.make):
            raise InputError(f"a preconditioner is made by a {type(self.make).__name__}; give a function of a system.")
        if hasattr(self.make, "as_preconditioner"):
            raise InputError(
                f"a preconditioner is made by a {type(self.make).__name__}; give its method as_preconditioner, without "
                "calling it."
            )
        require_count(self.memory, "memory", 1)


#: Sources that should balance do so to this part of their norm, whatever they were rounded to.
UNBALANCED = 1e-6


@lru_cache
def _trained(name: str, device: torch.device) -> LearnedDirections:
    return LearnedDirections.load(name).to(device)


def learned_cycle(system: LatticeSystem) -> LinearOperator:
    """Make the learned cycle of a system, in two or three dimensions, with the weights that ship."""
    _require_system(system)
    dim = len(system.operator.offsets)
    if dim == 1:
        raise InputError(
            "the learned cycle is there in two and three dimensions, and the system has one; take 'multigrid-pcg'."
        )
    return _trained(f"cycle{dim}d", system.rhs.device).as_preconditioner(system)


def learned_directions(system: LatticeSystem) -> LinearOperator:
    """Make the network of directions that ships, which is for three dimensions, a preconditioner of a system."""
    _require_system(system)
    lattice = system.operator.lattice
    if lattice[0] == 1:
        raise InputError(
            f"the weights of 'dcdm' are for three dimensions, and the lattice is {lattice[1]}x{lattice[2]}; take a "
            "method without weights, or Preconditioned around a network of your own."
        )
    return _trained("poisson3d-64", system.rhs.device).as_preconditioner(system)


#: What names stand for.
METHODS: dict[str, Method | Preconditioned] = {
    "multigrid-pcg": Multigrid(),
    "learned-cycle": Preconditioned(learned_cycle),
    "cg": ConjugateGradients(),
    "pyamg": Algebraic(),
    "dcdm": Preconditioned(learned_directions, memory=LEARNED_MEMORY),
}


class PressureSolver:
    """Solves systems of the pressure, one geometry after the other.

    Parameters
    ----------
    method
        A name ("multigrid-pcg", "learned-cycle", "cg", "pyamg", "dcdm"), a method such as `sb.Multigrid(sweeps=2)`, or
        `Preconditioned`.
    maxiter
        Largest number of iterations; by default 500 with multigrid, ten times the number of cells otherwise.

    Raises
    ------
    InputError
        If the method is unknown; from a solve with "dcdm", if the system has not three axes.

    Notes
    -----
    "dcdm" is flexible conjugate gradients along the directions of the network that ships as `poisson3d-64`, the
    residual, and the last two (Kaneda et al., ICML 2023); it was trained in a closed box without solids.
    "learned-cycle" is plain conjugate gradients with the multigrid cycle of `cycle2d` or `cycle3d`
    (`sciml_bounds.krylov._learned_cycle`), from full multigrid as "multigrid-pcg".

    Examples
    --------
    Conjugate gradients with a preconditioner of one's own:

    >>> from sciml_bounds.operators._linear_operator import Diagonal
    >>> from sciml_bounds.pressure import Preconditioned, PressureSolver
    >>> def jacobi(system):
    ...     return Diagonal(system.operator.diagonal().flatten(1).reciprocal())
    >>> solver = PressureSolver(Preconditioned(jacobi))
    """

    def __init__(self, method: str | Method | Preconditioned = "multigrid-pcg", *, maxiter: int | None = None) -> None:
        self.method = _named(method)
        self.maxiter = maxiter
        if maxiter is not None:
            require_count(maxiter, "maxiter", 0)
        self._operator: LatticeOperator | None = None
        self._ready: LinearSolver | LinearOperator | None = None

    def __call__(self, system: LatticeSystem, guess: Tensor | None, atol: float) -> LinearSolution:
        """Solve until the norm of the residual is at most `atol`.

        Parameters
        ----------
        system
            On one sample.
        guess
            Initial guess (1, x, y, z), or None.
        atol
            What is asked for.

        Returns
        -------
        LinearSolution
            With `seconds` that include the set-up, where the geometry is another one than before.

        Raises
        ------
        InputError
            If the right-hand side or the guess is not finite or has another shape than the lattice, `atol` is not
            positive, the source does not balance in a part of the fluid that floats, or the preconditioner does not
            fit.
        """
        start = time.perf_counter()
        _check(system, guess, atol)
        self.prepare(system)
        if isinstance(self._ready, LinearSolver):
            stop = Stop(rtol=0.0, atol=atol, maxiter=self.maxiter)
            solution = self._ready.with_system(system).solve(x0=guess, stop=stop)
        else:
            solution = self._iterate(system, guess, atol)
        return replace(solution, seconds=time.perf_counter() - start)

    def prepare(self, system: LatticeSystem) -> None:
        """Set up for the geometry of a system, unless it is that of the system before."""
        _require_system(system)
        if self._operator is not system.operator:
            self._ready, self._operator = self._set_up(system), system.operator

    def _set_up(self, system: LatticeSystem) -> LinearSolver | LinearOperator:
        if isinstance(self.method, Preconditioned):
            rhs = system.rhs.flatten(1)
            found = aslinearoperator(self.method.make(system), rhs)
            require_fit(found, rhs, "the preconditioner")
            return found
        return LinearSolver(system, self.method)

    def _iterate(self, system: LatticeSystem, guess: Tensor | None, atol: float) -> LinearSolution:
        assert isinstance(self._ready, LinearOperator)
        assert isinstance(self.method, Preconditioned)
        b = system.into_range(system.rhs).flatten(1)
        x0 = None if guess is None else guess.flatten(1).clone()
        if isinstance(self._ready, Cycle):
            x0 = full_multigrid_guess(system.operator, self._ready, b, x0, Stop(rtol=0.0, atol=atol))
        solution = iterate(
            system.operator, b, self._ready, x0, rtol=0.0, atol=atol, maxiter=self.maxiter, memory=self.method.memory,
        )  # fmt: skip
        x = system.fix_mean(solution.x.view(system.rhs.shape))
        return replace(solution, x=x.flatten(1))


def _require_system(system: LatticeSystem) -> None:
    if not isinstance(system, LatticeSystem):
        raise InputError(f"the system is a {type(system).__name__}; give a LatticeSystem, as pressure_systems does.")


def _check(system: LatticeSystem, guess: Tensor | None, atol: float) -> None:
    _require_system(system)
    if guess is not None and not isinstance(guess, Tensor):
        kind = type(guess).__name__
        raise InputError(f"the guess of the pressure is a {kind}; give a tensor of the shape of the lattice.")
    rhs, lattice = system.rhs, system.operator.lattice
    require_number(atol, "atol", positive=True)
    for field, name in ((rhs, "the right-hand side of the pressure"), (guess, "the guess of the pressure")):
        if field is None:
            continue
        if tuple(field.shape) != (1, *lattice):
            raise InputError(f"{name} has shape {tuple(field.shape)}; the lattice of one sample is {(1, *lattice)}.")
        require_finite(field, name)
    outside = float((rhs - system.into_range(rhs)).norm())
    if outside > max(atol, UNBALANCED * float(rhs.norm())):
        raise InputError(
            f"the source does not balance in a part of the fluid that floats: {outside:.3g} of its norm is outside the "
            "range of the operator; subtract its mean there, or open a side."
        )


def _named(method: str | Method | Preconditioned) -> Method | Preconditioned:
    if isinstance(method, Method | Preconditioned):
        return method
    if not isinstance(method, str):
        raise InputError(f"the method is a {type(method).__name__}; give a name, a method, or Preconditioned(...).")
    if method not in METHODS:
        raise InputError(f"unknown method {method!r}; the choices are {', '.join(map(repr, METHODS))}.")
    return METHODS[method]
