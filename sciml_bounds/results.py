"""Immutable result classes of `solve`, `certify` and the linear solvers."""

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
from sciml_bounds.vtk_images import sample_image

if TYPE_CHECKING:
    import pyvista
    import xarray
    from matplotlib.figure import Figure

__all__ = ["Certificate", "Interval", "LinearSolution", "Progress", "Reason", "Solution"]

#: Trust in an error figure: a *bound* is guaranteed (up to floating-point round-off), an *estimate* is not.
Kind = Literal["bound", "estimate"]


@dataclass(frozen=True)
class Progress:
    """Argument of the callback of `solve`, passed after each iteration.

    Attributes
    ----------
    iteration : int
        Number of iterations done.
    values : Tensor (batch..., nodes)
        Current nodal values.
    residual_norm : Tensor (batch...)
        Residual norm of each sample.
    relative_upper : Tensor (batch...) or None
        Guaranteed bound of the relative energy error of each sample; None unless `error` was given.
    """

    iteration: int
    values: Tensor
    residual_norm: Tensor
    relative_upper: Tensor | None = None


@dataclass(frozen=True, repr=False, eq=False)
class LinearSolution:
    """Result of a linear solve A x = b; every quantity has the batch shape of b.

    Attributes
    ----------
    x : Tensor (batch..., n)
        The solution.
    converged : Tensor of bool (batch...)
        Whether the residual reached the tolerance.
    reason : Reason or tuple of Reason
        Why the iteration stopped; for a batch, one reason per sample.
    iterations : Tensor of int (batch...)
        Number of iterations.
    residual_norms : Tensor (iterations + 1, batch...)
        ||b - A x|| before each iteration and at the end, as computed by the recurrence of the iteration. For `minres`
        with a preconditioner M, all residual norms are sqrt(r.M r).
    residual_norm : Tensor (batch...)
        ||b - A x||, recomputed from the returned solution.
    tolerance : Tensor (batch...)
        Requested bound of the residual norm.
    error_lower : Tensor (iterations + 1, batch...) or None
        Lower bound of the A-norm of the error of each iterate, computed from the later steps (zero for the last
        iterate). None for methods that do not provide it.
    error_upper : Tensor (batch...) or None
        Upper bound or estimate of ||x - x*||_A for the returned solution; see `error_upper_kind`.
    error_upper_kind : {"bound", "estimate"} or None
        Kind of `error_upper`; None if there is none.
    flexible : bool
        Whether directions were orthogonalised explicitly, as is needed for a preconditioner that may be nonlinear or
        nonsymmetric.
    dropped_directions : Tensor of int (batch...) or None
        Number of iterations in which the output of the preconditioner was dropped because it was zero, not finite or
        linearly dependent on earlier directions. None if the preconditioner is known to be linear.
    method : str
        Description of the method.
    seconds : float
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
        """Sentence part that states the iterations and the residual reached, for messages."""
        tiny = torch.finfo(self.x.dtype).tiny
        worst = float((self.residual_norm / self.tolerance.clamp_min(tiny)).max())
        count = int(self.iterations.max())
        iterations = "1 iteration" if count == 1 else f"{count} iterations"
        return f"after {iterations} the residual is {worst:.3g} times the tolerance"


class Interval(NamedTuple):
    """Guaranteed lower and upper bounds of a quantity, one pair per sample."""

    lower: Tensor
    upper: Tensor

    def __repr__(self) -> str:
        return f"[{describe(self.lower, 6, decimal.ROUND_FLOOR)}, {describe_upper(self.upper, 6)}]"


@dataclass(frozen=True, repr=False, eq=False)
class Solution:
    """Discrete solution of a problem; every quantity has the batch shape of the problem.

    Attributes
    ----------
    values : Tensor (batch..., nodes)
        Nodal values.
    converged, reason, iterations, residual_norms, residual_norm, tolerance, method, seconds
        As in `LinearSolution`.
    linear : LinearSolution
        Result of the linear solve.
    certificate : Certificate or None
        Guaranteed bounds of the error, if requested.
    grid : Grid
        The grid of the values.
    coefficient : Tensor (batch..., cells)
        The coefficient along the first axis, for plots.
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
        """Residual norm, recomputed from the returned values."""
        return self.linear.residual_norm

    @property
    def tolerance(self) -> Tensor:
        """Requested bound of the residual norm."""
        return self.linear.tolerance

    @property
    def method(self) -> str:
        """Description of the method."""
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
        """Return the values and the certificate, if any, as a labelled data set."""
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

    def to_vtk(self, sample: int = 0) -> pyvista.ImageData:
        """Return one sample as a VTK image: the solution at nodes, coefficient and error indicators in cells.

        It has the names of `to_xarray`; bounds are field data. `sb.data.write(solution, "u.vti")` writes the image, and
        `sb.data.write(solution, "u.pvd")` all samples as a series.

        Parameters
        ----------
        sample : int, default 0
            Number of the sample, in batch order.

        Raises
        ------
        MissingExtraError
            If pyvista is not installed.
        """
        return sample_image(self.to_xarray(), sample)

    def plot(self, sample: int = 0) -> Figure:
        """Plot coefficient, solution and, if there is a certificate, its error indicators."""
        indicators = None if self.certificate is None else self.certificate.indicators
        return plot_solution(self.grid, self._own_coefficient, self.values, indicators, sample)

    @property
    def _own_coefficient(self) -> Tensor:
        """The coefficient of each sample; without batch axes if all samples share it."""
        dim, batch = self.grid.dim, self.values.shape[: self.values.ndim - self.grid.dim]
        return self.coefficient if self.coefficient.ndim == dim else self.coefficient.expand(*batch, *self.grid.shape)


class CertificateDetails(Protocol):
    """Quantities that a certificate computes on demand from the problem and the flux."""

    def mesh_and_model(self) -> tuple[Interval, Interval]:
        """Return `Certificate.mesh` and `Certificate.model`."""

    def l2_upper(self) -> Tensor:
        """Return `Certificate.l2_upper`."""

    def goal(self, functional: Any) -> Interval:
        """Return `Certificate.goal` of a functional."""


@dataclass(frozen=True, repr=False, eq=False)
class Certificate:
    """Guaranteed bounds of the error of a field in the energy norm.

    |||w|||^2 is the integral of a |grad w|^2 + c w^2, plus the integral of alpha w^2 over Robin sides.
    The bounds hold, up to floating-point round-off, for the problem with the declared cellwise data and for v, which is
    the multilinear interpolant of `values` or the function that was certified. Every quantity has the batch shape.

    Attributes
    ----------
    upper, lower : Tensor (batch...)
        Bounds: lower <= |||u - v||| <= upper. `lower` is zero unless requested.
    kind : {"bound"}
        "bound" means guaranteed.
    energy : Tensor (batch...)
        |||values|||.
    indicators : Tensor (batch..., cells)
        Error indicator of each cell. The sum of their squares is the square of `upper`.
    boundary_part : Tensor (batch...)
        Part of `upper` due to wrong boundary values: |||w||| of a lifting w of the difference.
    boundary_gap : Tensor (batch...)
        Largest difference between the field and the prescribed boundary values.
    terms : mapping of str to Tensor (batch...)
        Squares of the other parts of `upper`: flux, oscillation, reaction and robin. For a function these are the
        parts of its interpolant, and interpolation is the square of the part due to its values between the nodes.
    flux : tuple of Tensor
        The equilibrated flux y ~ a grad u: one face field per axis, shape (batch..., n + 1 along its own axis). Reuse
        it with `certify(problem, other_values, flux=certificate.flux)`.
    values : Tensor (batch..., nodes)
        The certified nodal field, or the nodal values of the certified function.
    layout : str
        Form in which the field was given; "function" if its values between the nodes are known too.
    grid : Grid
        The grid of the values.
    seconds : float
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
    _energy_of_values: Tensor | None = field(repr=False, default=None)  # energy, differentiable as `upper` is

    @property
    def relative_upper(self) -> Tensor:
        """Bound of |||u - values||| / |||u|||; infinite if `upper` is not below |||values|||."""
        rest = (self.energy if self._energy_of_values is None else self._energy_of_values) - self.upper
        return torch.where(rest > 0, self.upper / torch.where(rest > 0, rest, 1.0), torch.inf)

    def _require_details(self) -> CertificateDetails:
        if self._details is None:
            raise RuntimeError(
                "this certificate was read from a file, which does not contain its problem; call certify again."
            )
        return self._details

    @cached_property
    def _mesh_and_model(self) -> tuple[Interval, Interval]:
        return self._require_details().mesh_and_model()

    @property
    def mesh(self) -> Interval:
        """Bounds of the energy error of the discrete solution on this grid; one solve on first use."""
        return self._mesh_and_model[0]

    @property
    def model(self) -> Interval:
        """Bounds of the energy norm of the field minus the discrete solution; one solve on first use."""
        return self._mesh_and_model[1]

    @cached_property
    def l2_upper(self) -> Tensor:
        """Bound of the L2 norm of the error.

        Infinite where no bound is known: without Dirichlet sides and reaction, or with solid cells.
        """
        return self._require_details().l2_upper()

    def goal(self, functional: Any) -> Interval:
        """Bound a linear output of the exact solution: `sb.Mean`, `sb.BoundaryFlux`, `sb.EffectivePermeability`."""
        return self._require_details().goal(functional)

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

    def to_vtk(self, sample: int = 0) -> pyvista.ImageData:
        """Return one sample as a VTK image: the certified values at nodes, error indicators in cells.

        The bounds are field data. `sb.data.write(certificate, "u.vti")` writes the image.

        Parameters
        ----------
        sample : int, default 0
            Number of the sample, in batch order.

        Raises
        ------
        MissingExtraError
            If pyvista is not installed.
        """
        return sample_image(self.to_xarray(), sample)

    def plot(self, sample: int = 0) -> Figure:
        """Plot the field and the error indicators of one sample, with its bounds as the title."""
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
