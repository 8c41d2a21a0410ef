"""What the verbs return: frozen records that say what was asked, what was reached, and why it stopped."""

from __future__ import annotations

import decimal
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from sciml_bounds.grid import AXES, Grid
from sciml_bounds.plot import plot_certificate, plot_solution
from sciml_bounds.reports import (
    Reason,
    describe,
    describe_interval,
    describe_reason,
    describe_residual,
    describe_upper,
    summary_table,
)

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

__all__ = ["Certificate", "Interval", "LinearSolution", "Progress", "Reason", "Solution"]

#: How far a number can be trusted: a *bound* is guaranteed (up to floating-point round-off), an *estimate* is not.
Kind = Literal["bound", "estimate"]


@dataclass(frozen=True)
class Progress:
    """What the callback of `solve` is told after each iteration.

    Attributes
    ----------
    iteration
        Number of iterations done.
    values
        The current nodal values, shape (batch..., nodes).
    residual_norm
        Residual norm of each sample, shape (batch...).
    relative_upper
        Guaranteed bound of the relative energy error of each sample, shape (batch...); None unless `error` was given.
    """

    iteration: int
    values: Tensor
    residual_norm: Tensor
    relative_upper: Tensor | None = None


@dataclass(frozen=True, repr=False, eq=False)
class LinearSolution:
    """The result of a linear solve; every quantity has the batch shape of the right-hand side.

    Attributes
    ----------
    x
        The solution, shape (batch..., n).
    converged
        Whether the requested residual was reached.
    reason
        Why the iteration stopped: one `Reason`, or a tuple of them in batch order.
    iterations
        Number of iterations.
    residual_norms
        ||b - A x|| as the iteration saw it, before each iteration and at the end; shape (iterations + 1, batch...).
        With `minres` and a preconditioner M the norm is sqrt(r.M r), here and below.
    residual_norm
        ||b - A x|| computed anew from the returned solution.
    tolerance
        What the residual was asked to fall below.
    error_lower
        Lower bound of the error in the A-norm at each iterate, from the steps that followed it (zero for the last);
        shape as `residual_norms`. None for methods without such steps.
    error_upper
        Upper bound or estimate of ||x - x*||_A for the returned solution; see `error_upper_kind`.
    error_upper_kind
        "bound" or "estimate"; None where there is no number.
    flexible
        Whether the loop orthogonalised explicitly, as a preconditioner not known to be linear and symmetric requires.
    dropped_directions
        In how many iterations what the preconditioner gave was dropped, since it was zero, NaN, infinite or nothing
        new. None where the preconditioner is known to be linear, of which nothing is dropped.
    method
        What was used, in words.
    seconds
        Wall-clock time of set-up and solve.
    """

    x: Tensor
    converged: Tensor
    reason: Reason | tuple[Reason, ...]
    iterations: Tensor
    residual_norms: Tensor
    residual_norm: Tensor
    tolerance: Tensor
    error_lower: Tensor | None = None
    error_upper: Tensor | None = None
    error_upper_kind: Kind | None = None
    flexible: bool = False
    dropped_directions: Tensor | None = None
    method: str = "conjugate gradients"
    seconds: float = 0.0

    def __repr__(self) -> str:
        rows = {
            "method": self.method,
            "unknowns": str(self.x.shape[-1]),
            "reason": describe_reason(self.reason),
            "iterations": describe(self.iterations),
            "residual": describe_residual(self.residual_norm, self.tolerance, self.reason),
        }
        if self.dropped_directions is not None and bool(self.dropped_directions.any()):
            rows["dropped directions"] = describe(self.dropped_directions)
        if self.error_upper is not None:
            sign = "<=" if self.error_upper_kind == "bound" else "about"
            rows[f"A-norm error ({self.error_upper_kind})"] = f"{sign} {describe_upper(self.error_upper)}"
        return summary_table("LinearSolution", rows)

    @property
    def progress(self) -> str:
        """How far the iteration came, in words."""
        tiny = torch.finfo(self.x.dtype).tiny
        worst = float((self.residual_norm / self.tolerance.clamp_min(tiny)).max())
        count = int(self.iterations.max())
        iterations = "1 iteration" if count == 1 else f"{count} iterations"
        return f"after {iterations} the residual is {worst:.3g} times the tolerance"


class Interval(NamedTuple):
    """Two numbers a sample between which the true value is guaranteed to lie."""

    lower: Tensor
    upper: Tensor

    def __repr__(self) -> str:
        return f"[{describe(self.lower, 6, decimal.ROUND_FLOOR)}, {describe_upper(self.upper, 6)}]"


@dataclass(frozen=True, repr=False, eq=False)
class Solution:
    """The answer to a problem; every quantity has the batch shape of the problem.

    Attributes
    ----------
    values
        Nodal values, shape (batch..., nodes).
    converged, reason, iterations, residual_norms, residual_norm, tolerance, method, seconds
        As in `LinearSolution`.
    linear
        The linear solve behind it.
    certificate
        Guaranteed bounds of its error, where they were asked for.
    grid
        The grid of the values.
    coefficient
        The coefficient along the first axis, for pictures, shape (batch..., cells).
    """

    values: Tensor
    converged: Tensor
    reason: Reason | tuple[Reason, ...]
    linear: LinearSolution
    grid: Grid
    coefficient: Tensor
    certificate: Certificate | None = None
    seconds: float = 0.0

    @property
    def iterations(self) -> Tensor:
        """Number of iterations."""
        return self.linear.iterations

    @property
    def residual_norms(self) -> Tensor:
        """Residual norm before each iteration and at the end, shape (iterations + 1, batch...)."""
        return self.linear.residual_norms

    @property
    def residual_norm(self) -> Tensor:
        """Residual norm of the returned values, computed anew."""
        return self.linear.residual_norm

    @property
    def tolerance(self) -> Tensor:
        """What the residual norm was asked to fall below."""
        return self.linear.tolerance

    @property
    def method(self) -> str:
        """What was used, in words."""
        return self.linear.method

    def __repr__(self) -> str:
        rows = {
            "values": _describe_shape(self.values),
            "method": self.method,
            "reason": describe_reason(self.reason),
            "iterations": describe(self.iterations),
            "residual": describe_residual(self.residual_norm, self.tolerance, self.reason),
            "seconds": f"{self.seconds:.3g}",
        }
        if self.certificate is not None:
            rows["energy error (bound)"] = describe_interval(self.certificate.lower, self.certificate.upper, "error")
            rows["relative (bound)"] = f"<= {describe_upper(self.certificate.relative_upper)}"
        return summary_table("Solution", rows)

    def to_xarray(self) -> xarray.Dataset:
        """Return the values, and the certificate where there is one, as a labelled data set."""
        data = {"solution": _variable(self.values, self.grid, nodal=True, long_name="solution u")}
        data["coefficient"] = _variable(self._own_coefficient, self.grid, nodal=False, long_name="coefficient a")
        attributes = {
            "method": self.method,
            "reason": describe_reason(self.reason),
            "iterations": int(self.iterations.max()),
            "converged": int(self.converged.all()),
        }
        if self.certificate is not None:
            data |= _certificate_variables(self.certificate)
        return _dataset(data, self.grid, self.values.shape, attributes)

    def plot(self, sample: int = 0) -> Figure:
        """Draw coefficient, solution and, where there is a certificate, its error indicators."""
        indicators = None if self.certificate is None else self.certificate.indicators
        return plot_solution(self.grid, self._own_coefficient, self.values, indicators, sample)

    @property
    def _own_coefficient(self) -> Tensor:
        """The coefficient of each sample; without batch where all samples share it."""
        dim, batch = self.grid.dim, self.values.shape[: self.values.ndim - self.grid.dim]
        return self.coefficient if self.coefficient.ndim == dim else self.coefficient.expand(*batch, *self.grid.shape)


class CertificateDetails(Protocol):
    """What a certificate computes on request, from the problem and the flux."""

    def mesh_and_model(self) -> tuple[Interval, Interval]:
        """Return `Certificate.mesh` and `Certificate.model`."""

    def l2_upper(self) -> Tensor:
        """Return `Certificate.l2_upper`."""

    def goal(self, functional: Any) -> Interval:
        """Return `Certificate.goal` of a functional."""


@dataclass(frozen=True, repr=False, eq=False)
class Certificate:
    """Guaranteed bounds of the error of a field in the energy norm.

    |||w|||^2 is the integral of a |grad w|^2 + c w^2, plus that of alpha w^2 over Robin sides.
    The bounds hold for the problem with the declared cellwise data and for the nodal field `values`, or for the
    function that was given, up to floating-point round-off; every quantity has the batch shape.

    Attributes
    ----------
    upper, lower
        |||u - v||| lies between them, v the field or function; `lower` is zero where it was not asked for.
    kind
        "bound": guaranteed.
    energy
        |||values|||.
    indicators
        Error indicator of each cell, shape (batch..., n): their squares sum to the square of `upper`.
    boundary_part
        The part of `upper` that comes from boundary values that are not the prescribed ones: |||w||| of a lifting w.
    boundary_gap
        Largest difference between the field and the prescribed boundary values.
    terms
        Squares of the other parts of `upper`, by name: flux, oscillation, reaction, robin; for a function
        those of its interpolant, and interpolation, the square of what was added for what lies between the nodes.
    flux
        The equilibrated flux y ~ a grad u, one face field (batch..., n + 1 along its own axis) an axis; reuse it with
        `certify(problem, other_values, flux=certificate.flux)`.
    values
        The nodal field that was certified, shape (batch..., nodes), or that of the function at the nodes.
    layout
        How the field was given; "function" for what is known between the nodes too.
    grid
        The grid of the values.
    seconds
        Wall-clock time.
    """

    upper: Tensor
    lower: Tensor
    energy: Tensor
    indicators: Tensor
    boundary_part: Tensor
    boundary_gap: Tensor
    terms: Mapping[str, Tensor]
    flux: tuple[Tensor, ...]
    values: Tensor
    layout: str
    grid: Grid
    seconds: float
    kind: Kind = "bound"
    _details: CertificateDetails | None = field(repr=False, default=None)  # None if read from a file
    _energy_of_values: Tensor | None = field(repr=False, default=None)  # energy, with the gradients that `upper` has

    @property
    def relative_upper(self) -> Tensor:
        """Bound of |||u - values||| / |||u|||; infinite where the bound is as large as the field."""
        rest = (self.energy if self._energy_of_values is None else self._energy_of_values) - self.upper
        return torch.where(rest > 0, self.upper / torch.where(rest > 0, rest, 1.0), torch.inf)

    def _known(self) -> CertificateDetails:
        if self._details is None:
            raise RuntimeError("this certificate was read from a file, without its problem; certify the values again.")
        return self._details

    @cached_property
    def _mesh_and_model(self) -> tuple[Interval, Interval]:
        return self._known().mesh_and_model()

    @property
    def mesh(self) -> Interval:
        """Bounds of the energy error of the discrete solution on this grid (computed on first use, one solve)."""
        return self._mesh_and_model[0]

    @property
    def model(self) -> Interval:
        """Bounds of the energy distance of the field to the discrete solution (computed on first use, one solve)."""
        return self._mesh_and_model[1]

    @cached_property
    def l2_upper(self) -> Tensor:
        """Bound of the L2 norm of the error; infinite where none is known (no Dirichlet side, no reaction, solids)."""
        return self._known().l2_upper()

    def goal(self, functional: Any) -> Interval:
        """Bound a linear output of the exact solution: `sb.Mean`, `sb.BoundaryFlux`, `sb.EffectivePermeability`."""
        return self._known().goal(functional)

    def __repr__(self) -> str:
        rows = {
            "values": f"{_describe_shape(self.values)}, given as {self.layout}",
            "energy error": f"{describe_interval(self.lower, self.upper, 'error')}  ({self.kind})",
            "relative": f"<= {describe_upper(self.relative_upper)}",
        }
        if "interpolation" in self.terms:
            rows["between nodes"] = f"part of the bound: {describe_upper(self.terms['interpolation'].sqrt())}"
        if bool((self.boundary_part > 0).any()):
            rows["boundary values"] = (
                f"off by up to {describe(self.boundary_gap)}; part of the bound: {describe(self.boundary_part)}"
            )
        return summary_table("Certificate", rows)

    def to_xarray(self) -> xarray.Dataset:
        """Return bounds, indicators and values as a labelled data set."""
        data = {"values": _variable(self.values, self.grid, nodal=True, long_name="certified field")}
        data |= _certificate_variables(self)
        return _dataset(data, self.grid, self.values.shape, {"layout": self.layout})

    def plot(self, sample: int = 0) -> Figure:
        """Draw the field and the error indicators of one sample, with its bounds as the title."""
        figure = plot_certificate(self.grid, self.values, self.indicators, sample)
        ends = (end.detach().reshape(-1) for end in (self.lower, self.upper, self.relative_upper))
        lower, upper, relative = (end[sample if len(end) > 1 else 0] for end in ends)
        interval = describe_interval(lower, upper, "error")
        figure.suptitle(f"{interval}, relative <= {describe_upper(relative)} ({self.kind})")
        return figure


def _describe_shape(values: Tensor) -> str:
    return f"{tuple(values.shape)} {str(values.dtype).removeprefix('torch.')}"


def _variable(tensor: Tensor, grid: Grid, *, nodal: bool, long_name: str) -> tuple[list[str], Any, dict[str, str]]:
    batch = [f"batch{i}" if i else "sample" for i in range(tensor.ndim - grid.dim)]
    space = [f"{axis}_node" if nodal else axis for axis in AXES[: grid.dim]]
    return [*batch, *space], tensor.detach().cpu().numpy(), {"long_name": long_name, "units": "1"}


def _certificate_variables(certificate: Certificate) -> dict[str, Any]:
    batch = ["sample" if i == 0 else f"batch{i}" for i in range(certificate.upper.ndim)]

    def scalar(value: Tensor, long_name: str) -> tuple[list[str], Any, dict[str, str]]:
        return batch, value.detach().cpu().numpy(), {"long_name": long_name, "units": "1", "kind": certificate.kind}

    return {
        "error_indicator": _variable(
            certificate.indicators, certificate.grid, nodal=False, long_name="energy error indicator"
        ),
        "error_upper": scalar(certificate.upper, "upper bound of the energy error"),
        "error_lower": scalar(certificate.lower, "lower bound of the energy error"),
        "error_relative_upper": scalar(certificate.relative_upper, "upper bound of the relative energy error"),
        "boundary_part": scalar(certificate.boundary_part, "part of the upper bound from boundary values"),
    }


def _dataset(data: dict[str, Any], grid: Grid, node_shape: torch.Size, attributes: dict[str, Any]) -> xarray.Dataset:
    import xarray

    coordinates: dict[str, Any] = {}
    for i, axis in enumerate(AXES[: grid.dim]):
        count = node_shape[len(node_shape) - grid.dim + i]
        coordinates[f"{axis}_node"] = (
            f"{axis}_node",
            grid.nodes(i)[:count].numpy(),
            {"long_name": f"{axis} at nodes", "units": "1"},
        )
        coordinates[axis] = (axis, grid.centers(i).numpy(), {"long_name": f"{axis} at cell centres", "units": "1"})
    return xarray.Dataset(data, coordinates, attributes)
