"""What `minimize` returns: a record with scipy's names, and one for each iteration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sciml_bounds.reports import Reason, counted, summary_table

__all__ = ["NewtonStep", "OptimizeResult"]


@dataclass(frozen=True)
class NewtonStep:
    """One iteration of `minimize`: the point that it reached, and how.

    Attributes
    ----------
    fun, kkt_residual, constraint_violation
        At the new point, as in `OptimizeResult`.
    step_length
        The part of the direction that was taken. NaN for a step that reduced the constraint violation alone, or left a
        stationary point that is no minimum; it has none of what follows.
    trials, not_finite
        Points at which the merit function was tried, and how many of them gave NaN or infinity.
    shift, damping
        What was added to the diagonal of the Hessian, and subtracted in the corner of the KKT matrix.
    eta1, eta2
        Penalties of the merit function.
    inner_steps, inner_residual, inner_capped
        Steps of the inner solver (zero for direct ones), its final residual relative to the right-hand side, in the
        norm that it minimises, and whether it ended at its cap instead of its tolerance.
    """

    fun: float
    kkt_residual: float
    constraint_violation: float
    step_length: float
    trials: int
    not_finite: int
    shift: float
    damping: float
    eta1: float
    eta2: float
    inner_steps: int
    inner_residual: float
    inner_capped: bool


#: What to do where `minimize` stops for a reason that linear solvers have too.
_ADVICE = {
    Reason.MAXITER: "Raise maxiter, or start from another x0.",
    Reason.STAGNATED: "No step reduces the merit function; ask for a larger atol, or give exact derivatives.",
    Reason.NOT_FINITE: "The functions are NaN or infinite near the last x; start elsewhere, or make them smooth there.",
}


@dataclass(frozen=True, repr=False, eq=False)
class OptimizeResult:
    """The result of `minimize`, with scipy's names.

    Attributes
    ----------
    x
        The solution, shape (n,): a tensor where x0 was one, an array otherwise.
    fun
        Objective at x.
    multipliers
        Lagrange multipliers l of f + l.c, shape (m,), of the kind of x.
    kkt_residual
        Euclidean norm of (grad f + J^T l, c) at x; where derivatives are differences and the iteration came to its end,
        with an estimate of their error added.
    constraint_violation
        Euclidean norm of c at x.
    tolerance
        What the KKT residual was asked to fall below.
    reason
        Why the iteration stopped.
    nit, nfev, njev, nhev
        Number of iterations, of calls of the objective (for differences too), of points with first derivatives, and of
        Hessians.
    history
        One record an iteration.
    method
        What was used, in words.
    seconds
        Wall-clock time.
    """

    x: Any
    fun: float
    multipliers: Any
    kkt_residual: float
    constraint_violation: float
    tolerance: float
    reason: Reason
    nit: int
    nfev: int
    njev: int
    nhev: int
    history: tuple[NewtonStep, ...]
    method: str
    seconds: float

    @property
    def success(self) -> bool:
        """Whether the KKT residual is as small as asked, or as round-off allows, and x is not a known saddle."""
        return self.reason in (Reason.CONVERGED, Reason.ROUND_OFF)

    @property
    def status(self) -> int:
        """Zero for success, otherwise the place of `reason` in `Reason`."""
        return 0 if self.success else list(Reason).index(self.reason)

    @property
    def message(self) -> str:
        """Why the iteration stopped, and what to do about it."""
        return f"{str(self.reason).capitalize()}: {self.progress}. {self.advice}".strip()

    @property
    def progress(self) -> str:
        """How far the iteration came, in words."""
        reached = f"the KKT residual is {self.kkt_residual:.3g} (asked: {self.tolerance:.3g})"
        return f"{reached}; {self._capped}" if self._capped else reached

    @property
    def advice(self) -> str:
        """What to do about it, in one sentence; empty where all is well."""
        return _ADVICE.get(self.reason, self.reason.advice)

    @property
    def _capped(self) -> str:
        count = sum(step.inner_capped for step in self.history)
        return f"{counted(count, 'inner solve')} of {self.nit} ended at the cap of steps" if count else ""

    def __repr__(self) -> str:
        rows = {
            "method": self.method,
            "unknowns": f"{len(self.x)}, constraints {len(self.multipliers)}",
            "reason": str(self.reason),
            "fun": f"{self.fun:.10g}",
            "KKT residual": f"{self.kkt_residual:.3g} (asked: {self.tolerance:.3g})",
            "constraint violation": f"{self.constraint_violation:.3g}",
            "iterations": str(self.nit),
            "evaluations": f"{self.nfev} of fun, {self.njev} with first, {self.nhev} with second derivatives",
        }
        steps = sum(step.inner_steps for step in self.history)
        if steps:
            rows["inner steps"] = f"{steps}" + (f" ({self._capped})" if self._capped else "")
        if any(step.damping > 0 for step in self.history):
            damped = sum(step.damping > 0 for step in self.history)
            rows["rank-deficient"] = f"the Jacobian of the constraints, in {counted(damped, 'iteration')}; regularised"
        return summary_table("OptimizeResult", rows)
