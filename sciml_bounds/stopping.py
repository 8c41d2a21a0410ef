"""Stopping criteria of iterations: tolerances, a maximum number of iterations, and a callback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sciml_bounds.arrays import require_callback, require_count, require_number
from sciml_bounds.errors import InputError

__all__ = ["StoppingCriteria"]


@dataclass(frozen=True)
class StoppingCriteria:
    """Criteria that end an iteration.

    Attributes
    ----------
    rtol, atol : float
        The iteration has converged if its residual is at most max(rtol times a reference value, atol). If `rtol` is
        None, the method chooses its own tolerance.
    maxiter : int or None
        Maximum number of iterations; if None, the method chooses it.
    callback : callable or None
        Called after each iteration, with arguments that depend on the method; the iteration stops if it returns True.
    """

    rtol: float | None = None
    atol: float = 0.0
    maxiter: int | None = None
    callback: Callable[..., Any] | None = None

    def check(self) -> None:
        """Check the criteria of a nonlinear iteration, for which a tolerance of zero cannot be reached.

        Raises
        ------
        InputError
            If a tolerance is negative or not a finite number, both tolerances are zero, `maxiter` is not a non-negative
            integer, or `callback` is not a function.
        """
        numbers = require_number(0.0 if self.rtol is None else self.rtol, "rtol"), require_number(self.atol, "atol")
        if min(numbers) < 0 or max(numbers) == 0:
            raise InputError(
                f"rtol={self.rtol} and atol={self.atol} must not be negative; give at least one positive tolerance."
            )
        require_count(self.maxiter, "maxiter", 0)
        require_callback(self.callback)

    def maxiter_reached(self, iterations: int) -> bool:
        """Return whether the maximum number of iterations is reached."""
        return self.maxiter is not None and iterations >= self.maxiter

    def tolerance(self, reference: float) -> float:
        """Return the largest residual that counts as converged."""
        return max((self.rtol or 0.0) * reference, self.atol)
