"""The certificate that `certify_energy` returns."""

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

#: "bound" is guaranteed; the other kinds are guaranteed if the user's declarations about the density are true.
EnergyKind = Literal["bound", "assumes convexity", "assumes lambda"]


@dataclass(frozen=True, repr=False, eq=False)
class EnergyCertificate:
    """Guaranteed bounds on the energy excess J(v) - J(u) of a field v over the minimiser u.

    The bounds are valid up to floating-point round-off. They refer to the problem with cellwise constant data, to the
    minimiser u among all functions with the prescribed Dirichlet values, and to the multilinear field `values`.

    Attributes
    ----------
    upper, lower : Tensor, shape ()
        Bounds on J(v) - J(u); `lower` is zero if it was not requested.
    kind : str
        "bound", or "assumes convexity" if the user declared the density to be convex.
    energy : Interval
        Bounds on J(v).
    minimum : Interval
        Bounds on J(u).
    gradient_upper : Tensor, shape ()
        Upper bound on the L2 norm of grad (u - v), sqrt(2 upper / lambda); infinite if no ellipticity constant lambda
        is known.
    gradient_kind : str
        "bound", or "assumes lambda" if the user declared lambda.
    gradient_norm : Tensor, shape ()
        L2 norm of grad v; if v is a function, a lower bound on this norm.
    indicators : Tensor, shape (n)
        Contribution of each cell to `upper`.
    flux : tuple of Tensor
        Flux y ~ dL/dp, one face field (n + 1 along its own axis) per axis; reuse it with
        `certify_energy(problem, other_values, flux=certificate.flux)`.
    values : Tensor
        The certified nodal field, or the values of the certified function at the nodes.
    layout : {"nodes", "function"}
        Whether a nodal field or a function was certified.
    subdivisions : int
        Number of sub-cells along each axis of a flux cell, on which integrals are bounded.
    grid : Grid
        Grid of the values.
    seconds : float
        Wall-clock time of the certification.
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
        """Upper bound on (J(v) - J(u)) / |J(u)|; infinite if J(u) may be zero."""
        low, high = self.minimum
        least = torch.where(low > 0, low, torch.where(high < 0, -high, 0.0))
        return torch.where(least > 0, self.upper / torch.where(least > 0, least, 1.0), torch.inf)

    @property
    def relative_gradient_upper(self) -> Tensor:
        """Upper bound on ||grad (u - v)|| / ||grad u||; infinite if `gradient_upper` is at least `gradient_norm`."""
        rest = self.gradient_norm - self.gradient_upper
        return torch.where(rest > 0, self.gradient_upper / torch.where(rest > 0, rest, 1.0), torch.inf)

    def plot(self) -> Figure:
        """Draw the field and the contribution of each cell to `upper`, with the bounds as the title."""
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
