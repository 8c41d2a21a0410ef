"""What `minimize_energy` returns: a record with one entry an iteration, and what theory says of it."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from torch import Tensor

from sciml_bounds.bounds._energy_certificate import EnergyCertificate
from sciml_bounds.grid import Grid
from sciml_bounds.reports import Reason, counted, describe_interval, describe_upper, summary_table

__all__ = ["EnergyStep", "VariationalSolution"]

#: What to do where `minimize_energy` stops for a reason that linear solvers have too.
_ADVICE = {
    Reason.MAXITER: "Raise maxiter, or take method='newton'.",
    Reason.STAGNATED: "No step lowers the energy any more; ask for a larger rtol.",
    Reason.UNBOUNDED: "The energy has no lower bound: the load is more than any flux of finite energy carries.",
    Reason.NOT_FINITE: "The energy or a derivative is NaN or infinite near the last iterate; start from another x0, or "
    "write the density so that it does not overflow there.",
}


@dataclass(frozen=True)
class EnergyStep:
    """One iteration of `minimize_energy`.

    Attributes
    ----------
    energy, residual_norm
        J, and the dual norm of its derivative, at the new iterate.
    step_length
        The part of the direction that was taken.
    step_norm
        Energy norm of the step.
    inner_steps
        Steps of conjugate gradients.
    """

    energy: float
    residual_norm: float
    step_length: float
    step_norm: float
    inner_steps: int


@dataclass(frozen=True, repr=False, eq=False)
class VariationalSolution:
    """The result of `minimize_energy`.

    Attributes
    ----------
    values
        Nodal values, shape (nodes).
    energy
        J of them, as `VariationalProblem.energy`: by two Gauss points an axis, so that it may lie outside the bounds of
        `certificate.energy` where the density is no square.
    residual_norm, tolerance
        Dual norm of the derivative of J, and what it was asked to fall below.
    reason
        Why the iteration stopped.
    history
        One record an iteration.
    proven_contraction
        What the error is multiplied by in each iteration, at most; None where no theorem gives a number.
    contraction_of
        The error that it is meant of.
    method
        What was used, in words.
    grid
        The grid of the values.
    certificate
        Guaranteed bounds of J(v) - J(u), where they were asked for and `energy` is finite.
    seconds
        Wall-clock time.
    """

    values: Tensor
    energy: float
    residual_norm: float
    tolerance: float
    reason: Reason
    history: tuple[EnergyStep, ...]
    proven_contraction: float | None
    contraction_of: str
    method: str
    grid: Grid
    certificate: EnergyCertificate | None
    seconds: float

    @property
    def converged(self) -> bool:
        """Whether the residual is as small as asked, or as round-off lets it be."""
        return self.reason in (Reason.CONVERGED, Reason.ROUND_OFF)

    @property
    def iterations(self) -> int:
        """Number of iterations."""
        return len(self.history)

    @property
    def inner_steps(self) -> int:
        """Number of steps of conjugate gradients."""
        return sum(step.inner_steps for step in self.history)

    @property
    def observed_contraction(self) -> float:
        """The largest ratio of the norms of successive steps that round-off has no part in; NaN below two steps."""
        norms = [step.step_norm for step in self.history]
        least = 1e-9 * max(norms, default=0.0)
        return max((after / before for before, after in itertools.pairwise(norms) if after > least), default=math.nan)

    @property
    def advice(self) -> str:
        """What to do about the reason, in one sentence; empty where all is well."""
        if self.reason is Reason.MAXITER and self.method.startswith("Newton, line search"):
            return "Raise maxiter, or ask for a larger rtol."
        return _ADVICE.get(self.reason, self.reason.advice)

    @property
    def progress(self) -> str:
        """How far the iteration came, in words."""
        asked = f"the residual is {self.residual_norm:.3g} (asked: {self.tolerance:.3g})"
        return f"after {counted(self.iterations, 'iteration')} {asked}"

    def __repr__(self) -> str:
        rows = {
            "values": f"{tuple(self.values.shape)} float64",
            "method": self.method,
            "reason": str(self.reason),
            "energy": f"{self.energy:.10g}",
            "residual": f"{self.residual_norm:.3g} (asked: {self.tolerance:.3g})",
            "iterations": f"{self.iterations}, inner steps {self.inner_steps}",
            "contraction": self._contraction(),
        }
        if self.certificate is not None:
            ends = self.certificate.lower, self.certificate.upper
            rows["J(v) - J(u)"] = f"{describe_interval(*ends, 'excess')}  ({self.certificate.kind})"
            rows["relative"] = f"<= {describe_upper(self.certificate.relative_upper)}"
        return summary_table("VariationalSolution", rows)

    def _contraction(self) -> str:
        seen = "" if math.isnan(self.observed_contraction) else f"observed {self.observed_contraction:.3f}"
        if self.proven_contraction is None:
            return seen or "none seen"
        return f"proven {self.proven_contraction:.3f} of the {self.contraction_of}" + (f", {seen}" if seen else "")
