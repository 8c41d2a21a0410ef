"""What `certify` returns for variational problems."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from sciml_bounds.grid import Grid
from sciml_bounds.plot import plot_certificate
from sciml_bounds.reports import describe_interval, describe_upper, summary_table
from sciml_bounds.results import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["EnergyCertificate"]

#: "bound": guaranteed. The others are so if what users declared of their densities is true.
EnergyKind = Literal["bound", "assumes convexity", "assumes lambda"]


@dataclass(frozen=True, repr=False, eq=False)
class EnergyCertificate:
    """Guaranteed bounds of J(v) - J(u), the energy of a field above the least one.

    They hold for the problem with the declared cellwise data, all functions with the prescribed values on Dirichlet
    sides taken into account, and for the multilinear field `values`, up to floating-point round-off.

    Attributes
    ----------
    upper, lower
        J(v) - J(u) lies between them; `lower` is zero where it was not asked for.
    kind
        "bound", or "assumes convexity" where a user declared the density to be convex.
    energy
        Bounds of J(v).
    minimum
        Bounds of J(u).
    gradient_upper
        Bound of the L2 norm of grad (u - v): sqrt(2 upper / lambda), infinite where no lambda is known.
    gradient_kind
        "bound", or "assumes lambda" where a user declared it.
    gradient_norm
        L2 norm of grad v; of a function, a number that it is not below.
    indicators
        The part of each cell in `upper`, shape (n).
    flux
        The flux y ~ dL/dp, one face field (n + 1 along its own axis) an axis; reuse it with
        `certify(problem, other_values, flux=certificate.flux)`.
    values
        The nodal field that was certified, or the values of the function at the nodes.
    layout
        "nodes" or "function": what was certified.
    subdivisions
        Number of sub-cells along each axis of a cell of the flux, on which integrals are bounded.
    grid
        The grid of the values.
    seconds
        Wall-clock time.
    """

    upper: Tensor
    lower: Tensor
    kind: EnergyKind
    energy: Interval
    minimum: Interval
    gradient_upper: Tensor
    gradient_kind: EnergyKind
    gradient_norm: Tensor
    indicators: Tensor
    flux: tuple[Tensor, ...]
    values: Tensor
    layout: Literal["nodes", "function"]
    subdivisions: int
    grid: Grid
    seconds: float

    @property
    def relative_upper(self) -> Tensor:
        """Bound of (J(v) - J(u)) / |J(u)|; infinite where J(u) may be zero."""
        low, high = self.minimum
        least = torch.where(low > 0, low, torch.where(high < 0, -high, 0.0))
        return torch.where(least > 0, self.upper / torch.where(least > 0, least, 1.0), torch.inf)

    @property
    def relative_gradient_upper(self) -> Tensor:
        """Bound of the norm of grad (u - v) over that of grad u; infinite where it is as large as that of grad v."""
        rest = self.gradient_norm - self.gradient_upper
        return torch.where(rest > 0, self.gradient_upper / torch.where(rest > 0, rest, 1.0), torch.inf)

    def plot(self) -> Figure:
        """Draw the field and the part of each cell in `upper`, with the bounds as the title."""
        figure = plot_certificate(self.grid, self.values, self.indicators)
        interval = describe_interval(self.lower, self.upper, "J(v) - J(u)")
        figure.suptitle(f"{interval} ({self.kind})")
        return figure

    def __repr__(self) -> str:
        rows = {
            "values": f"{tuple(self.values.shape)} float64, given as {self.layout}",
            "J(v) - J(u)": f"{describe_interval(self.lower, self.upper, 'excess')}  ({self.kind})",
            "J(u)": describe_interval(*self.minimum, "minimum"),
            "relative": f"<= {describe_upper(self.relative_upper)}",
        }
        if bool(self.gradient_upper.isfinite()):
            relative = describe_upper(self.relative_gradient_upper)
            bound = describe_upper(self.gradient_upper)
            rows["gradient error"] = f"<= {bound}, relative <= {relative}  ({self.gradient_kind})"
        return summary_table("EnergyCertificate", rows)
