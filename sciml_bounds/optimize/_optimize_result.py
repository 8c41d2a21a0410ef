"""Results of `minimize`, with scipy's names, and records of its iterations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sciml_bounds.reports import Reason, counted, summary_table

__all__ = ["NewtonStep", "OptimizeResult"]


@dataclass(frozen=True)
class NewtonStep:
    """Record of one iteration of `minimize`.

    Attributes
    ----------
    fun, kkt_residual, constraint_violation : float
        Measures of the new point, as in `OptimizeResult`.
    step_length : float
        Step length of the line search. NaN for a step that only reduced the constraint violation or escaped a saddle
        point; for such steps, the following entries are NaN or zero.
    trials, not_finite : int
        Number of trial points of the line search, and how many of them gave NaN or infinity.
    shift, damping : float
        Multiples of the identity added to the Hessian, and subtracted in the lower right block of the KKT matrix.
    eta1, eta2 : float
        Penalties of the merit function.
    inner_steps : int
        Number of steps of the inner solver; zero for direct solvers.
    inner_residual : float
        Final residual of the inner solver relative to the right-hand side, in the norm that it minimises.
    inner_capped : bool
        Whether the inner solver stopped at its maximum number of steps.
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


#: Advice for reasons that linear solvers have too.
_ADVICE = {
    Reason.MAXITER: "Raise maxiter, or start from another x0.",
    Reason.STAGNATED: "No step reduces the merit function; use a larger atol, or give exact derivatives.",
    Reason.NOT_FINITE: "The functions are NaN or infinite near the last x; start elsewhere, or make them smooth there.",
}


@dataclass(frozen=True, repr=False, eq=False)
class OptimizeResult:
    """Result of `minimize`, with scipy's names.

    Attributes
    ----------
    x : Tensor or ndarray, shape (n,)
        The solution: a tensor if x0 was one, else an array.
    fun : float
        Objective at x.
    multipliers : Tensor or ndarray, shape (m,)
        Lagrange multipliers l of f + l.c.
    kkt_residual : float
        Euclidean norm of (grad f + J^T l, c) at x. If derivatives are differences, and the iteration stopped at its
        tolerance, round-off or stagnation, an estimate of their error is included.
    constraint_violation : float
        Euclidean norm of c at x.
    tolerance : float
        Tolerance for the KKT residual.
    reason : Reason
        Why the iteration stopped.
    nit, nfev, njev, nhev : int
        Numbers of iterations, of calls of the objective (including those for differences), of points with first
        derivatives, and of Hessians.
    history : tuple of NewtonStep
        One record per iteration.
    method : str
        Description of the method.
    seconds : float
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
        """Whether the KKT residual reached its tolerance or round-off, and x is not a known saddle point."""
        return self.reason in (Reason.CONVERGED, Reason.ROUND_OFF)

    @property
    def status(self) -> int:
        """Zero for success, otherwise the position of `reason` in `Reason`."""
        return 0 if self.success else list(Reason).index(self.reason)

    @property
    def message(self) -> str:
        """Why the iteration stopped, and what to do about it."""
        return f"{str(self.reason).capitalize()}: {self.progress}. {self.advice}".strip()

    @property
    def progress(self) -> str:
        """The final KKT residual and the number of capped inner solves, in words."""
        reached = f"the KKT residual is {self.kkt_residual:.3g} (tolerance {self.tolerance:.3g})"
        return f"{reached}; {self._capped}" if self._capped else reached

    @property
    def advice(self) -> str:
        """What to do about a failure, in one sentence; empty on success."""
        return _ADVICE.get(self.reason, self.reason.advice)

    @property
    def _capped(self) -> str:
        count = sum(step.inner_capped for step in self.history)
        return f"{counted(count, 'inner solve')} of {self.nit} stopped at the cap of steps" if count else ""

    def __repr__(self) -> str:
        rows = {
            "method": self.method,
            "unknowns": f"{len(self.x)}, constraints {len(self.multipliers)}",
            "reason": str(self.reason),
            "fun": f"{self.fun:.10g}",
            "KKT residual": f"{self.kkt_residual:.3g} (tolerance {self.tolerance:.3g})",
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
