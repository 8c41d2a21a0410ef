"""Result of network solvers: the network, its energy, and a record of the solution process."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch

from sciml_bounds.barron import _norms as norms
from sciml_bounds.barron._barron_network import BarronNetwork
from sciml_bounds.reports import describe, summary_table, warn

__all__ = ["NetworkSolution", "NetworkStep", "energies_agree", "warn_unless_converged"]

#: Energies by two sets of points agree if their relative difference is at most `ENERGY_RTOL`, or it is round-off.
ENERGY_RTOL, ROUND_OFF = 1e-2, 1e-14
#: Largest relative gradient of a converged fit.
GRADIENT_TOL = 1e-4
#: Largest excess of an observed contraction over the proven one.
CONTRACTION_TOL = 1e-6


@dataclass(frozen=True)
class NetworkStep:
    """Record of one step of a network solver.

    Attributes
    ----------
    width : int
        Number of neurons after the step.
    energy : float
        Energy J of the network, integrated with the points of the solver.
    norm : float
        `barron_norm` of the network (for ReLU networks, the variation norm).
    size : float
        Change of the network in the energy norm (for `unfolded_network`, in the H1 norm); NaN if not computed. For
        orthogonal projections it is a lower bound of the error before the step, up to the error of the integrals.
    allowed : float
        Theoretical bound of the Barron norm of the exact iterate; NaN without such a theorem.
    """

    width: int
    energy: float
    norm: float
    size: float = math.nan
    allowed: float = math.nan


@dataclass(frozen=True, repr=False, eq=False)
class NetworkSolution:
    """Result of a network solver such as `greedy_network`.

    Attributes
    ----------
    network : BarronNetwork
        The network.
    energy : float
        Energy J of the network, integrated with other points than those of the solver: twice as many cells along each
        axis, or other samples.
    energy_change : float
        Difference of J between the two sets of points, an estimate of the integration error; zero for exact integrals.
    history : tuple of NetworkStep
        One record per step.
    method : str
        Description of the method.
    integrals : str
        Description of the integration.
    proven_order : float or None
        Proven convergence order in the width, for the error in the energy norm, if u has a finite variation norm or
        Barron norm; None without a theorem.
    seconds : float
        Wall-clock time.
    proven_contraction : float or None
        Proven contraction factor of the error in each step of an iteration, apart from the error of the network fit;
        None without a theorem.
    residual : float
        Gradient after the fit of the outer weights, relative to the source and the flux in L2; zero without a fit.
    """

    network: BarronNetwork
    energy: float
    energy_change: float
    history: tuple[NetworkStep, ...]
    method: str
    integrals: str
    proven_order: float | None
    seconds: float
    proven_contraction: float | None = None
    residual: float = 0.0

    @property
    def converged(self) -> bool:
        """Whether all convergence checks passed.

        False if the gradient after the fit is too large (`residual` above 1e-4), `energy_change` is more than 1 % of
        the energy, or the observed contraction is worse than the proven one. True is not a guarantee; for guaranteed
        error bounds use `sb.certify`.
        """
        return not self.shortcoming

    @property
    def shortcoming(self) -> str:
        """Failed convergence check with its remedy, as a sentence; empty if converged."""
        if not self.residual <= GRADIENT_TOL:
            return (
                f"a gradient of {self.residual:.1e} is left after the fit, relative to source and flux; check that "
                "the energy has a minimum, or use other neurons (scale, seed)"
            )
        if not energies_agree(self.energy - self.energy_change, self.energy):
            return (
                f"the energy differs by {self.energy_change:.1e} between the points of the solver and other points; "
                "use fewer neurons, a smaller scale, or an sb.Grid with more cells"
            )
        proven, observed = self.proven_contraction, self.observed_contraction
        if proven is not None and observed > proven + CONTRACTION_TOL:
            return (
                f"steps contract by the factor {observed:.4g}, but {proven:.4g} is proven; use fewer neurons, which "
                "are less linearly dependent"
            )
        return ""

    @property
    def width(self) -> int:
        """Number of neurons of the network."""
        return self.network.width

    @property
    def fitted_order(self) -> float:
        """Estimate of the observed convergence order in the width; NaN if the sizes of the steps are unknown.

        For orthogonal projections, |||u - u_n|||^2 is the sum of size^2 over later steps plus the error after the last
        step, which is unknown and neglected. The order is fitted between an eighth and half of all neurons.
        """
        sizes = torch.tensor([step.size for step in self.history], dtype=torch.float64)
        if len(sizes) < 16 or bool(sizes.isnan().any()):
            return math.nan
        widths = torch.tensor([step.width for step in self.history], dtype=torch.float64)
        errors = sizes.square().flip(0).cumsum(0).flip(0)[1:].sqrt()
        widths = widths[:-1]
        used = (widths >= widths[-1] / 8) & (widths <= widths[-1] / 2) & (errors > 0)
        n, e = widths[used].log(), errors[used].log()
        n = n - n.mean()
        return -float((n @ e) / (n @ n))

    @property
    def observed_contraction(self) -> float:
        """Largest ratio of the sizes of consecutive steps of equal width, without round-off; NaN without such steps."""
        least = 1e-9 * max((step.size for step in self.history), default=0.0)
        pairs = itertools.pairwise(self.history)
        ratios = [b.size / a.size for a, b in pairs if a.width == b.width and b.size > least]
        return max(ratios, default=math.nan)

    def __repr__(self) -> str:
        rows = {
            "method": self.method,
            "converged": f"no: {self.shortcoming}" if self.shortcoming else "yes",
            "width": str(self.width),
            "energy": f"{self.energy:.10g}",
            "integrals": self._integrals(),
            **self._norms(),
        }
        if self.proven_order is not None:
            seen = "" if math.isnan(self.fitted_order) else f", fitted {self.fitted_order:.2f} (estimate)"
            rows["order"] = f"proven {self.proven_order:.2f}{seen}"
        if self.proven_contraction is not None:
            rows["contraction"] = f"proven {self.proven_contraction:.3f}, observed {self.observed_contraction:.3f}"
        return summary_table("NetworkSolution", rows)

    def _norms(self) -> dict[str, str]:
        """Format the Barron norm; if it is infinite, the reason and the path norm, which is always finite."""
        norm = self.network.barron_norm
        if math.isfinite(norm):
            return {"Barron norm": describe(torch.tensor(norm, dtype=torch.float64))}
        path = torch.tensor(self.network.path_norm, dtype=torch.float64)
        return {"Barron norm": norms.describe_norm(self.network), "path norm": describe(path)}

    def _integrals(self) -> str:
        change = "" if self.energy_change == 0 else f"; other points change J by {self.energy_change:.1e}"
        return self.integrals + change


def energies_agree(coarse: float, fine: float) -> bool:
    """Check that two quadrature rules yield nearly the same energy."""
    return math.isfinite(fine) and abs(fine - coarse) <= ENERGY_RTOL * abs(fine) + ROUND_OFF


def warn_unless_converged(solution: NetworkSolution) -> None:
    """Warn with the failed convergence check, if any."""
    if not solution.converged:
        warn(f"the network did not converge: {solution.shortcoming}.")
