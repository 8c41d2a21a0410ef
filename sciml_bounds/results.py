"""What the verbs return: frozen records that say what was asked, what was reached, and why it stopped."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from sciml_bounds.errors import ConvergenceError, ConvergenceWarning

if TYPE_CHECKING:
    import xarray

__all__ = ["Kind", "LinearSolution", "Reason", "report_failure", "summary_table"]

#: How far a number can be trusted: a *bound* is guaranteed (up to floating-point round-off), an *estimate* is not.
Kind = Literal["bound", "estimate"]


class Reason(StrEnum):
    """Why an iteration stopped."""

    CONVERGED = "converged"
    ROUND_OFF = "converged to round-off"
    MAXITER = "maxiter reached"
    STAGNATED = "stagnated above the tolerance"
    INDEFINITE = "operator not positive definite"
    INDEFINITE_PRECONDITIONER = "preconditioner not positive definite"
    NOT_FINITE = "not finite"
    STOPPED = "stopped by the callback"
    ERROR_REACHED = "error bound reached"
    MESH_LIMITED = "error limited by the mesh"

    @property
    def advice(self) -> str:
        """What to do about it, in one sentence; empty where all is well."""
        return _ADVICE.get(self, "")


_ADVICE = {
    Reason.MAXITER: "Raise maxiter, or use a better preconditioner (M=, method='multigrid').",
    Reason.STAGNATED: "The residual stopped falling; ask for a larger rtol or use float64.",
    Reason.INDEFINITE: "Conjugate gradients need a symmetric positive definite operator, and this one is singular or indefinite.",
    Reason.INDEFINITE_PRECONDITIONER: "The preconditioner gave r.Mr <= 0; use a symmetric positive definite one, or flexible=True.",
    Reason.NOT_FINITE: "The operator or the preconditioner produced NaN or infinity; check them on the right-hand side.",
    Reason.MESH_LIMITED: "The discrete solution itself has a larger error; refine the grid.",
}


@dataclass(frozen=True, repr=False)
class LinearSolution:
    """The result of a linear solve; every quantity has the batch shape of the right-hand side.

    Attributes
    ----------
    x
        The solution, shape (batch..., n).
    converged
        Whether the requested residual was reached.
    reason
        Why the iteration stopped: one `Reason`, or a tuple of them in batch order.
    iterations
        Number of iterations.
    residual_norms
        ||b - A x|| as the iteration saw it, before each iteration and at the end; shape (iterations + 1, batch...).
    residual_norm
        ||b - A x|| computed anew from the returned solution.
    tolerance
        What the residual was asked to fall below.
    error_lower
        Lower bound of the error in the A-norm at each iterate, from the steps that followed it (zero for the last); shape
        as `residual_norms`. None for methods without such steps.
    error_upper
        Upper bound or estimate of ||x - x*||_A for the returned solution; see `error_upper_kind`.
    error_upper_kind
        "bound" or "estimate"; None where there is no number.
    flexible
        Whether the loop orthogonalised explicitly, as a preconditioner not known to be linear and symmetric requires.
    method
        What was used, in words.
    seconds
        Wall-clock time of set-up and solve.
    """

    x: Tensor
    converged: Tensor
    reason: Reason | tuple[Reason, ...]
    iterations: Tensor
    residual_norms: Tensor
    residual_norm: Tensor
    tolerance: Tensor
    error_lower: Tensor | None = None
    error_upper: Tensor | None = None
    error_upper_kind: Kind | None = None
    flexible: bool = False
    method: str = "conjugate gradients"
    seconds: float = 0.0

    def __repr__(self) -> str:
        rows = {
            "method": self.method,
            "unknowns": str(self.x.shape[-1]),
            "reason": describe_reason(self.reason),
            "iterations": describe(self.iterations),
            "residual": f"{describe(self.residual_norm)} (asked: {describe(self.tolerance)})",
        }
        if self.error_upper is not None:
            rows[f"A-norm error ({self.error_upper_kind})"] = f"<= {describe(self.error_upper)}"
        return summary_table("LinearSolution", rows)


def describe(value: Tensor) -> str:
    """Write a number, or the range of a batch of them."""
    flat = value.detach().reshape(-1)
    if flat.numel() == 0:
        return "empty"
    low, high = flat.min().item(), flat.max().item()
    return f"{low:.4g}" if flat.numel() == 1 or low == high else f"{low:.4g} ... {high:.4g}"


def describe_reason(reason: Reason | tuple[Reason, ...]) -> str:
    """Write a reason, or how often each occurred in a batch."""
    if isinstance(reason, Reason):
        return str(reason)
    counts = {r: reason.count(r) for r in dict.fromkeys(reason)}
    return ", ".join(f"{count} x {r}" for r, count in counts.items())


def summary_table(title: str, rows: Mapping[str, str]) -> str:
    """Lay out a short two-column table."""
    width = max(len(key) for key in rows)
    return "\n".join([title, *(f"  {key:<{width}}  {value}" for key, value in rows.items())])


def report_failure(what: str, reason: Reason | tuple[Reason, ...], detail: str, *, throw: bool) -> None:
    """Warn, or raise if asked, that an iteration did not reach what was asked.

    Raises
    ------
    ConvergenceError
        If `throw` is true.
    """
    reasons = (reason,) if isinstance(reason, Reason) else tuple(dict.fromkeys(reason))
    advice = " ".join(r.advice for r in reasons if r.advice)
    message = f"{what} did not converge: {describe_reason(reason)}; {detail}. {advice}".strip()
    if throw:
        raise ConvergenceError(message)
    warnings.warn(message, ConvergenceWarning, stacklevel=3)
