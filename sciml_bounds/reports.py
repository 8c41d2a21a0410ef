"""Text of results: stopping reasons, formatted numbers, short tables and convergence warnings."""

from __future__ import annotations

import decimal
import os
import warnings
from collections.abc import Mapping
from enum import StrEnum

from torch import Tensor

from sciml_bounds.errors import ConvergenceError, ConvergenceWarning

__all__ = [
    "Reason",
    "counted",
    "describe",
    "describe_interval",
    "describe_reason",
    "describe_residual",
    "describe_upper",
    "report_failure",
    "summary_table",
    "warn",
]


class Reason(StrEnum):
    """Why an iteration stopped."""

    CONVERGED = "converged"
    ROUND_OFF = "converged to round-off"
    MAXITER = "maxiter reached"
    STAGNATED = "stagnated above the tolerance"
    INDEFINITE = "operator not positive definite"
    INDEFINITE_PRECONDITIONER = "preconditioner not positive definite"
    NO_NEW_DIRECTION = "preconditioner gave no new direction"
    NOT_FINITE = "not finite"
    STOPPED = "stopped by the callback"
    ERROR_REACHED = "error bound reached"
    MESH_LIMITED = "error bound limited by the mesh"
    INFEASIBLE = "constraints cannot be met near x"
    UNBOUNDED = "objective unbounded below"
    SINGULAR_JACOBIAN = "Jacobian of the constraints rank-deficient"
    CAPPED = "inner solver ended at its cap of steps"
    SADDLE = "stationary, but not a minimum"

    def __repr__(self) -> str:
        """Return the quoted value, so that the reasons of a batch can be read when printed."""
        return repr(self.value)

    @property
    def advice(self) -> str:
        """Remedy, in one sentence; empty if none is needed."""
        return _ADVICE.get(self, "")


_ADVICE = {
    Reason.MAXITER: "Raise maxiter, or use a better preconditioner (M=).",
    Reason.STAGNATED: "The residual has stopped decreasing; use a larger rtol, or float64 data.",
    Reason.INDEFINITE: (
        "Conjugate gradients need a symmetric positive definite operator, but this operator is singular or indefinite."
    ),
    Reason.INDEFINITE_PRECONDITIONER: (
        "The preconditioner gave r.Mr <= 0; use a symmetric positive definite one, or flexible=True."
    ),
    Reason.NO_NEW_DIRECTION: (
        "The preconditioner returned zeros, NaN or combinations of earlier directions; use another preconditioner."
    ),
    Reason.NOT_FINITE: (
        "The operator or the preconditioner returned NaN or infinity; apply each of them to b to find out which."
    ),
    Reason.MESH_LIMITED: (
        "The error bound of the discrete solution on this grid is larger than requested; refine the grid, or in "
        "Python give the flux of a finer grid."
    ),
    Reason.INFEASIBLE: (
        "No small change of x reduces the constraint violation, so the constraints may be inconsistent; start from "
        "another x0, or remove a constraint."
    ),
    Reason.UNBOUNDED: (
        "The objective has no lower bound on the feasible set; check the sign of the objective, or add bounds on the "
        "variables."
    ),
    Reason.SINGULAR_JACOBIAN: (
        "Use preset='robust', which continues with a rank-deficient Jacobian, or remove a dependent constraint."
    ),
    Reason.CAPPED: "The inner steps were not accurate enough; raise their maximum number, or use inner='direct'.",
    Reason.SADDLE: "Steps away from this saddle point led back to it; start from another x0, or use inner='direct'.",
}


def counted(count: int, noun: str) -> str:
    """Format a count and its noun: "1 cell", "3 cells"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def describe(value: Tensor, digits: int = 4, rounding: str = decimal.ROUND_HALF_EVEN) -> str:
    """Format a number, or the smallest and largest number of a batch; for bounds, pass a `rounding` outwards."""
    flat = value.detach().reshape(-1)
    if flat.numel() == 0:
        return "empty"
    low, high = (_describe_number(end.item(), digits, rounding) for end in (flat.min(), flat.max()))
    return low if low == high else f"{low} ... {high}"


def _describe_number(number: float, digits: int, rounding: str) -> str:
    if isinstance(number, int):
        return str(number)
    # Fewer digits below 1e-307, where floats have fewer and conversion to float could undo the rounding.
    context = decimal.Context(prec=digits, rounding=rounding, Emin=-307)
    return f"{float(context.create_decimal_from_float(number)):z.{digits}g}"


def describe_interval(lower: Tensor, upper: Tensor, between: str) -> str:
    """Format an inequality lower <= `between` <= upper, with both bounds rounded outwards."""
    return f"{describe(lower, rounding=decimal.ROUND_FLOOR)} <= {between} <= {describe_upper(upper)}"


def describe_upper(upper: Tensor, digits: int = 4) -> str:
    """Format an upper bound, rounded up."""
    return describe(upper, digits, decimal.ROUND_CEILING)


def describe_reason(reason: Reason | tuple[Reason, ...]) -> str:
    """Format a reason, or the number of samples with each reason in a batch."""
    if isinstance(reason, Reason):
        return str(reason)
    counts = {r: reason.count(r) for r in dict.fromkeys(reason)}
    return ", ".join(f"{count} x {r}" for r, count in counts.items())


def describe_residual(norm: Tensor, tolerance: Tensor, reason: Reason | tuple[Reason, ...]) -> str:
    """Format a residual norm with its tolerance, or without it if the solver stopped by an error bound."""
    error_reasons = (Reason.ERROR_REACHED, Reason.MESH_LIMITED)
    if any(one in error_reasons for one in ([reason] if isinstance(reason, Reason) else reason)):
        return describe(norm)
    return f"{describe(norm)} (tolerance {describe(tolerance)})"


def summary_table(title: str, rows: Mapping[str, str]) -> str:
    """Format a titled table of two columns."""
    width = max(len(key) for key in rows)
    return "\n".join([title, *(f"  {key:<{width}}  {value}" for key, value in rows.items())])


def report_failure(
    what: str, reason: Reason | tuple[Reason, ...], detail: str, *, throw: bool, advice: Mapping[Reason, str] = _ADVICE
) -> None:
    """Warn that an iteration did not reach its tolerance, or raise an error.

    Parameters
    ----------
    what : str
        Name of the computation.
    reason : Reason or tuple of Reason
        Why the iteration stopped; for a batch, one reason per sample.
    detail : str
        Number of iterations and residual at the end.
    throw : bool
        Whether to raise instead of warning.
    advice : mapping of Reason to str, optional
        Remedies that replace those of `Reason.advice`.

    Raises
    ------
    ConvergenceError
        If `throw` is true.
    """
    reasons = (reason,) if isinstance(reason, Reason) else tuple(dict.fromkeys(reason))
    sentences = " ".join(advice.get(r, r.advice) for r in reasons if r.advice)
    message = f"{what} did not converge: {describe_reason(reason)}; {detail}. {sentences}".strip()
    if throw:
        raise ConvergenceError(message)
    warn(message)


def warn(message: str, category: type[Warning] = ConvergenceWarning) -> None:
    """Issue a warning that points to the user's line that called the package."""
    package = os.path.join(os.path.dirname(__file__), "")
    warnings.warn(message, category, skip_file_prefixes=(package,))
