"""Results of `minimize_energy`: the solution, records of the iterations, and proven convergence rates."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from torch import Tensor

from sciml_bounds.bounds._energy_certificate import EnergyCertificate
from sciml_bounds.grid import Grid
from sciml_bounds.reports import Reason, counted, describe_interval, describe_upper, summary_table

__all__ = ["EnergyStep", "VariationalSolution"]

#: Advice for reasons that linear solvers have too.
_ADVICE = {
    Reason.MAXITER: "Raise maxiter, or use method='newton'.",
    Reason.STAGNATED: "No step reduces the energy; use a larger rtol.",
    Reason.UNBOUNDED: "The energy has no lower bound: no flux of finite energy balances the load; reduce the load.",
    Reason.NOT_FINITE: "The energy or a derivative is NaN or infinite near the last iterate; start from another x0, or "
    "write the density so that it does not overflow there.",
}


@dataclass(frozen=True)
class EnergyStep:
    """Record of one iteration of `minimize_energy`.

    Attributes
    ----------
    energy, residual_norm : float
        J and the dual norm of its derivative at the new iterate.
    step_length : float
        Step length of the line search.
    step_norm : float
        Energy norm of the step.
    inner_steps : int
        Number of conjugate-gradient iterations.
    """

    energy: float
    residual_norm: float
    step_length: float
    step_norm: float
    inner_steps: int


@dataclass(frozen=True, repr=False, eq=False)
class VariationalSolution:
    """Result of `minimize_energy`.

    Attributes
    ----------
    values : Tensor
        Nodal values v, shape (nodes).
    energy : float
        J(v), as computed by `VariationalProblem.energy` with two Gauss points per axis. If the density is not
        quadratic, it may lie outside the guaranteed bounds of `certificate.energy`.
    residual_norm, tolerance : float
        Dual norm of the derivative of J, and its tolerance.
    reason : Reason
        Why the iteration stopped.
    history : tuple of EnergyStep
        One record per iteration.
    proven_contraction : float or None
        Proven upper bound of the factor by which each iteration multiplies the error; None if there is no theorem.
    contraction_of : str
        The error that this factor refers to.
    method : str
        Description of the method.
    grid : Grid
        The grid of the values.
    certificate : EnergyCertificate or None
        Guaranteed bounds of J(v) - J(u), if requested and `energy` is finite.
    seconds : float
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
        """Whether the residual reached its tolerance or the level of round-off."""
        return self.reason in (Reason.CONVERGED, Reason.ROUND_OFF)

    @property
    def iterations(self) -> int:
        """Number of iterations."""
        return len(self.history)

    @property
    def inner_steps(self) -> int:
        """Total number of conjugate-gradient iterations."""
        return sum(step.inner_steps for step in self.history)

    @property
    def observed_contraction(self) -> float:
        """Largest ratio of the norms of successive steps above round-off; NaN if there are fewer than two."""
        norms = [step.step_norm for step in self.history]
        least = 1e-9 * max(norms, default=0.0)
        return max((after / before for before, after in itertools.pairwise(norms) if after > least), default=math.nan)

    @property
    def advice(self) -> str:
        """What to do about a failure, in one sentence; empty on success."""
        if self.reason is Reason.MAXITER and self.method.startswith("Newton, line search"):
            return "Raise maxiter, or use a larger rtol."
        return _ADVICE.get(self.reason, self.reason.advice)

    @property
    def progress(self) -> str:
        """Number of iterations and final residual, in words."""
        residual = f"the residual is {self.residual_norm:.3g} (tolerance {self.tolerance:.3g})"
        return f"after {counted(self.iterations, 'iteration')} {residual}"

    def __repr__(self) -> str:
        rows = {
            "values": f"{tuple(self.values.shape)} float64",
            "method": self.method,
            "reason": str(self.reason),
            "energy": f"{self.energy:.10g}",
            "residual": f"{self.residual_norm:.3g} (tolerance {self.tolerance:.3g})",
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
            return seen or "not observed"
        return f"proven {self.proven_contraction:.3f} of the {self.contraction_of}" + (f", {seen}" if seen else "")
