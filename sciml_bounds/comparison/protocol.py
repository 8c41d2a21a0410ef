"""Timing protocol: methods run in rounds, from set-up to solution, and the residual of each solution is recomputed."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from sciml_bounds.arrays import require_choice, require_count
from sciml_bounds.comparison.equations import Array, Equations
from sciml_bounds.comparison.methods import DIRECT, METHODS
from sciml_bounds.comparison.peers import load_petsc
from sciml_bounds.errors import ConvergenceWarning, InputError
from sciml_bounds.krylov._loop import check_tolerances

__all__ = ["Comparison", "Result"]


@dataclass(frozen=True)
class Result:
    """Measured performance of one method.

    Attributes
    ----------
    method : str
        Name of the method.
    setup_seconds, solve_seconds : float
        Medians of the wall-clock times.
    iterations : int
        Number of iterations; 0 for a direct method.
    residual : float
        Recomputed ||b - A x|| / ||b||; NaN if the method failed.
    converged : bool
        True if the residual is at most rtol, up to round-off.
    reason : str
        "converged", "converged to round-off", or the cause of failure.
    energy_error : float or None
        Relative energy error |||x - reference||| / |||reference|||; None without a reference.
    history : tuple of (float, float)
        Pairs of seconds since the start of the set-up and relative residual: one pair before the first iteration and
        one after each iteration; a single pair for a direct method.
    """

    method: str
    setup_seconds: float
    solve_seconds: float
    iterations: int
    residual: float
    converged: bool
    reason: str
    energy_error: float | None = None
    history: tuple[tuple[float, float], ...] = ()

    @property
    def total_seconds(self) -> float:
        """Sum of set-up and solve times."""
        return self.setup_seconds + self.solve_seconds


@dataclass
class _Record:
    """The measurements of one method."""

    runs: list[Result] = field(default_factory=list)
    history: tuple[tuple[float, float], ...] = ()


class Comparison:
    """Comparison of methods on one system, timed in rounds so that other load on the machine affects all methods alike.

    Parameters
    ----------
    equations : Equations
        The linear system.
    methods : iterable of str
        Names from `METHODS`.
    rtol : float, default 1e-8
        Relative tolerance of all methods: stop when ||b - A x|| <= rtol ||b||.
    maxiter : int, default 1000
        Maximum number of iterations of all methods.

    Raises
    ------
    InputError
        If a name is unknown or repeated, or the tolerance or `maxiter` is invalid.
    MissingExtraError
        If a method needs a package that is not installed.
    """

    def __init__(
        self, equations: Equations, methods: Iterable[str], *, rtol: float = 1e-8, maxiter: int = 1000
    ) -> None:
        names = list(methods)
        for name in names:
            require_choice(name, "method", METHODS)
        if len(set(names)) < len(names) or not names:
            raise InputError(
                f"the methods are {', '.join(names) or 'empty'}; give at least one method, and no method twice."
            )
        if any(name.startswith("petsc:") for name in names):
            load_petsc()
        self.equations = equations
        require_count(maxiter, "maxiter", 0)
        self.rtol, self.maxiter = check_tolerances(rtol, 0.0, torch.float64), maxiter
        self._records = {name: _Record() for name in names}

    @property
    def results(self) -> list[Result]:
        """Medians of the runs so far, in the order of the names; methods without runs are left out."""
        return [_median(record) for record in self._records.values() if record.runs]

    def run(self, repeat: int = 3, *, histories: bool = False, notify: Callable[[str], None] | None = None) -> None:
        """Time all methods; after an interruption, `results` contains the finished runs.

        Parameters
        ----------
        repeat : int, default 3
            Number of rounds.
        histories : bool, default False
            Run each method once more to record the residuals of its iterates. The time to compute residuals is not
            counted.
        notify : callable, optional
            Called with a short text before each run.
        """
        tell = notify or (lambda text: None)
        for name in self._records:
            if name not in DIRECT:
                tell(f"{name}: warming up")
                self._measure(name, maxiter=1)
        for count in range(1, repeat + 1):
            for name, record in self._records.items():
                if not record.runs or np.isfinite(record.runs[-1].residual):
                    tell(f"{name}: round {count} of {repeat}")
                    record.runs.append(self._measure(name, self.maxiter))
        for name, record in self._records.items():
            if histories and np.isfinite(record.runs[-1].residual):
                tell(f"{name}: recording residuals")
                record.history = self._measure(name, self.maxiter, watched=True).history

    def _measure(self, name: str, maxiter: int, *, watched: bool = False) -> Result:
        watch = _Stopwatch(self.equations)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # convergence is judged below, as for the others
                solve = METHODS[name](self.equations)
                setup = watch.start_solving()
                x, iterations = solve(self.rtol, maxiter, watch.note if watched else None)
                total = watch.seconds()
        except (InputError, ArithmeticError, RuntimeError, ValueError, TypeError, MemoryError) as error:
            return _failure(name, str(error).splitlines()[0] if str(error) else type(error).__name__)
        residual = self.equations.relative_residual(x)
        if not np.isfinite(residual):
            return _failure(name, _NOT_FINITE)
        reason = self._reason(residual, self.equations.round_off(x), iterations >= maxiter)
        energy = None if self.equations.energy_error is None else self.equations.energy_error(x)
        direct = name in DIRECT or iterations == 0  # such as multigrid on a single level
        history = ((total, residual),) if direct else tuple(watch.history)
        converged = reason.startswith("converged")
        return Result(name, setup, total - setup, iterations, residual, converged, reason, energy, history)

    def _reason(self, residual: float, round_off: float, exhausted: bool) -> str:
        if residual <= self.rtol * (1 + 1e-6):
            return "converged"
        if residual <= self.rtol + round_off:
            return "converged to round-off"
        return "maxiter reached" if exhausted else "stopped above the tolerance"


_NOT_FINITE = (
    "the solution is NaN or infinite, probably because the matrix is singular or indefinite; give a symmetric positive "
    "definite matrix."
)


def _failure(name: str, why: str) -> Result:
    return Result(name, np.nan, np.nan, 0, np.nan, False, f"failed: {why}")


class _Stopwatch:
    """A clock that is paused while residuals are computed."""

    def __init__(self, equations: Equations) -> None:
        self._equations = equations
        self.history: list[tuple[float, float]] = []
        self._start = time.perf_counter()

    def seconds(self) -> float:
        return time.perf_counter() - self._start

    def start_solving(self) -> float:
        """Record the end of the set-up, and return the seconds that it took."""
        setup = self.seconds()
        self.history.append((setup, 1.0))
        return setup

    def note(self, x: Array) -> None:
        """Record the residual of an iterate."""
        now = self.seconds()
        self.history.append((now, self._equations.relative_residual(x)))
        self._start += self.seconds() - now


def _median(record: _Record) -> Result:
    setup, solve = ([getattr(run, name) for run in record.runs] for name in ("setup_seconds", "solve_seconds"))
    return replace(
        record.runs[-1],
        setup_seconds=statistics.median(setup),
        solve_seconds=statistics.median(solve),
        history=record.history,
    )
