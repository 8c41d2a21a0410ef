"""How results are put into words: reasons, numbers, short tables, and the warning that something was not reached."""

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
    SADDLE = "stationary, but no minimum"

    def __repr__(self) -> str:
        """Write it as the word that it is: the reasons of a batch are a tuple."""
        return repr(self.value)

    @property
    def advice(self) -> str:
        """What to do about it, in one sentence; empty where all is well."""
        return _ADVICE.get(self, "")


_ADVICE = {
    Reason.MAXITER: "Raise maxiter, or use a better preconditioner (M=).",
    Reason.STAGNATED: "The residual stopped falling; ask for a larger rtol, or for float64 where the data are float32.",
    Reason.INDEFINITE: (
        "Conjugate gradients need a symmetric positive definite operator, and this one is singular or indefinite."
    ),
    Reason.INDEFINITE_PRECONDITIONER: (
        "The preconditioner gave r.Mr <= 0; use a symmetric positive definite one, or flexible=True."
    ),
    Reason.NO_NEW_DIRECTION: "It gives zeros, NaN, or what was searched along already; use another one.",
    Reason.NOT_FINITE: (
        "The operator or the preconditioner produced NaN or infinity; check them on the right-hand side."
    ),
    Reason.MESH_LIMITED: (
        "The bound of the discrete solution on this grid stays above that; refine the grid or pass a flux of a finer "
        "grid."
    ),
    Reason.INFEASIBLE: (
        "No small change of x reduces the constraint violation: the constraints may contradict each other; start from "
        "another x0, or leave one out."
    ),
    Reason.UNBOUNDED: "The objective has no lower bound on the constraints; check its sign, or bound the variables.",
    Reason.SINGULAR_JACOBIAN: "Use preset='robust', which goes on from there, or leave out a dependent constraint.",
    Reason.CAPPED: "Its steps were not accurate enough; raise the cap, or use inner='direct'.",
    Reason.SADDLE: "Steps away from there lead back; start from another x0, or use inner='direct'.",
}


def counted(count: int, noun: str) -> str:
    """Write a number of things, whose plural ends in s."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def describe(value: Tensor, digits: int = 4, rounding: str = decimal.ROUND_HALF_EVEN) -> str:
    """Write a number, or the range of a batch of them; bounds are rounded outwards, so that they stay bounds."""
    flat = value.detach().reshape(-1)
    if flat.numel() == 0:
        return "empty"
    low, high = (_describe_number(end.item(), digits, rounding) for end in (flat.min(), flat.max()))
    return low if low == high else f"{low} ... {high}"


def _describe_number(number: float, digits: int, rounding: str) -> str:
    if isinstance(number, int):
        return str(number)
    # Fewer digits below 1e-307: there a float no longer has as many, and writing it could undo the rounding.
    context = decimal.Context(prec=digits, rounding=rounding, Emin=-307)
    return f"{float(context.create_decimal_from_float(number)):z.{digits}g}"


def describe_interval(lower: Tensor, upper: Tensor, between: str) -> str:
    """Write two bounds and what lies between them."""
    return f"{describe(lower, rounding=decimal.ROUND_FLOOR)} <= {between} <= {describe_upper(upper)}"


def describe_upper(upper: Tensor, digits: int = 4) -> str:
    """Write an upper bound."""
    return describe(upper, digits, decimal.ROUND_CEILING)


def describe_reason(reason: Reason | tuple[Reason, ...]) -> str:
    """Write a reason, or how often each occurred in a batch."""
    if isinstance(reason, Reason):
        return str(reason)
    counts = {r: reason.count(r) for r in dict.fromkeys(reason)}
    return ", ".join(f"{count} x {r}" for r, count in counts.items())


def describe_residual(norm: Tensor, tolerance: Tensor, reason: Reason | tuple[Reason, ...]) -> str:
    """Write a norm, and what was asked of it: nothing where a bound of the error was."""
    of_errors = (Reason.ERROR_REACHED, Reason.MESH_LIMITED)
    if any(one in of_errors for one in ([reason] if isinstance(reason, Reason) else reason)):
        return describe(norm)
    return f"{describe(norm)} (asked: {describe(tolerance)})"


def summary_table(title: str, rows: Mapping[str, str]) -> str:
    """Lay out a short two-column table."""
    width = max(len(key) for key in rows)
    return "\n".join([title, *(f"  {key:<{width}}  {value}" for key, value in rows.items())])


def report_failure(
    what: str, reason: Reason | tuple[Reason, ...], detail: str, *, throw: bool, advice: Mapping[Reason, str] = _ADVICE
) -> None:
    """Warn, or raise if asked, that an iteration did not reach what was asked; `advice` is what to do, by reason.

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


def warn(message: str) -> None:
    """Give a `ConvergenceWarning` that points at the user's line."""
    package = os.path.join(os.path.dirname(__file__), "")
    warnings.warn(message, ConvergenceWarning, skip_file_prefixes=(package,))
