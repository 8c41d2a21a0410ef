"""What solvers by networks return: the network, and a record of how it came about."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch

from sciml_bounds.barron import _norms as norms
from sciml_bounds.barron._barron_network import BarronNetwork
from sciml_bounds.reports import describe, summary_table, warn

__all__ = ["NetworkSolution", "NetworkStep", "energies_agree", "warn_unless_converged"]

#: How much the energy may differ between two sets of points, as a part of it or by round-off; what may be left of the
#: gradient after a fit; how far a contraction may be above the proven one.
CHANGED, ROUND_OFF, LEFT, MARGIN = 1e-2, 1e-14, 1e-4, 1e-6


@dataclass(frozen=True)
class NetworkStep:
    """One step of a solver by networks.

    Attributes
    ----------
    width
        Neurons of the network after it.
    energy
        J of the network, by the points of the solver.
    norm
        `barron_norm` of the network (of ReLU networks the variation norm).
    size
        How far the step moved the network in the energy norm, where it is known; otherwise NaN. After an orthogonal
        projection the error before the step was at least that, up to the error of the integrals.
    allowed
        The norm that theory allows the iterate; NaN without such a theorem.
    """

    width: int
    energy: float
    norm: float
    size: float = math.nan
    allowed: float = math.nan


@dataclass(frozen=True, repr=False, eq=False)
class NetworkSolution:
    """The result of `greedy_network` and its like.

    Attributes
    ----------
    network
        The network.
    energy
        J of it, by other points than those of the solver: twice as many cells along each axis, or other samples.
    energy_change
        How much J differs between the two sets of points, an estimate of the error of the integrals; zero where
        they are exact.
    history
        One record a step.
    method
        What was used, in words.
    integrals
        How integrals were computed, in words.
    proven_order
        The order of the error in the energy norm in the width that a theorem gives, where u has a finite variation norm
        or Barron norm; None without a theorem.
    seconds
        Wall-clock time.
    proven_contraction
        What the error of an iteration is multiplied by in each step at most, up to what networks cannot fit; None
        without such a theorem.
    residual
        What is left of the gradient after the outer weights were fitted, relative to the source and the flux in L2;
        zero where none were.
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
        """Whether all that is known speaks for the answer.

        False if a gradient is left after the fit (`residual` above 1e-4), if `energy_change` is more than 1 % of the
        energy, or if steps contract by less than is proven. True is no guarantee: see `sb.certify`.
        """
        return not self.shortcoming

    @property
    def shortcoming(self) -> str:
        """Which number is off, and what to do; nothing where it converged."""
        if not self.residual <= LEFT:
            return (
                f"a gradient of {self.residual:.1e} is left after the fit, relative to source and flux; see whether "
                "the energy has a minimum, or take other neurons (scale, seed)"
            )
        if not energies_agree(self.energy - self.energy_change, self.energy):
            return (
                f"the energy differs by {self.energy_change:.1e} between the points of the solver and others; take "
                "fewer neurons, a smaller scale, or an sb.Grid with more cells"
            )
        proven, observed = self.proven_contraction, self.observed_contraction
        if proven is not None and observed > proven + MARGIN:
            return (
                f"steps shrink by {observed:.4g} only where {proven:.4g} is proven; take fewer neurons, which depend "
                "less on each other"
            )
        return ""

    @property
    def width(self) -> int:
        """Neurons of the network."""
        return self.network.width

    @property
    def fitted_order(self) -> float:
        """The observed order, NaN where it is not known: an estimate.

        Errors of orthogonal projections are |||u - u_n|||^2 = sum over later steps of size^2; what the last one leaves
        is unknown and left out. The slope is that between an eighth and half of all neurons.
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
        """The largest ratio of a step that adds no neurons to the one before, without those of round-off; or NaN."""
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
        """Write the norm, or where it is infinite why, and the path norm, which never is."""
        norm = self.network.barron_norm
        if math.isfinite(norm):
            return {"Barron norm": describe(torch.tensor(norm, dtype=torch.float64))}
        path = torch.tensor(self.network.path_norm, dtype=torch.float64)
        return {"Barron norm": norms.words(self.network), "path norm": describe(path)}

    def _integrals(self) -> str:
        change = "" if self.energy_change == 0 else f"; other points change J by {self.energy_change:.1e}"
        return self.integrals + change


def energies_agree(coarse: float, fine: float) -> bool:
    """Whether two sets of points give nearly the same energy."""
    return math.isfinite(fine) and abs(fine - coarse) <= CHANGED * abs(fine) + ROUND_OFF


def warn_unless_converged(solution: NetworkSolution) -> None:
    """Say which number is off."""
    if not solution.converged:
        warn(f"the network did not converge: {solution.shortcoming}.")
