"""Immutable result classes of `solve`, `certify` and the linear solvers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciml_bounds._certificate import (
    Certificate,
    Interval,
    Kind,
    certificate_variables,
    dataset_of,
    describe_shape,
    variable_of,
)
from sciml_bounds.grid import AXES, Grid
from sciml_bounds.plot import plot_solution
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

__all__ = ["CellSolution", "Certificate", "Interval", "LinearSolution", "Progress", "Reason", "Solution"]


@dataclass(frozen=True)
class Progress:
    """State of a solve, with which `solve` calls the callback after each iteration.

    Attributes
    ----------
    iteration : int
        Number of iterations so far.
    values : Tensor (batch..., nodes)
        Current nodal values.
    residual_norm : Tensor (batch...)
        Residual norm of each sample.
    relative_upper : Tensor (batch...) or None
        Guaranteed bound on the relative energy error of each sample; None unless `error` was given.
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
        with a preconditioner M, all residual norms are sqrt(r.M r) with the residual r = b - A x.
    residual_norm : Tensor (batch...)
        ||b - A x||, recomputed from the returned solution.
    tolerance : Tensor (batch...)
        Requested bound on the residual norm.
    error_lower : Tensor (iterations + 1, batch...) or None
        Lower bound on the A-norm of the error of each iterate, computed from the later steps (zero for the last
        iterate). None for methods that do not compute it.
    error_upper : Tensor (batch...) or None
        Upper bound or estimate of ||x - x*||_A, with the exact solution x*; see `error_upper_kind`.
    error_upper_kind : {"bound", "estimate"} or None
        Kind of `error_upper`; None if `error_upper` is None.
    flexible : bool
        Whether directions were orthogonalised explicitly, as required by a preconditioner that may be nonlinear or
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

    def reshape(self, batch: torch.Size) -> LinearSolution:
        """Return the same result with this batch shape, () for a single solve, instead of a flat batch."""

        def shaped(tensor: Tensor, first: int = 0) -> Tensor:
            return tensor.reshape((*tensor.shape[:first], *batch, *tensor.shape[first + 1 :]))

        reasons = self.reason if isinstance(self.reason, tuple) else (self.reason,)
        return replace(
            self,
            x=shaped(self.x), converged=shaped(self.converged), reason=reasons if batch else reasons[0],
            iterations=shaped(self.iterations), residual_norms=shaped(self.residual_norms, 1),
            residual_norm=shaped(self.residual_norm), tolerance=shaped(self.tolerance),
            error_lower=None if self.error_lower is None else shaped(self.error_lower, 1),
            error_upper=None if self.error_upper is None else shaped(self.error_upper),
        )  # fmt: skip

    @property
    def progress(self) -> str:
        """Part of a sentence that states the iterations and the residual reached, for messages."""
        tiny = torch.finfo(self.x.dtype).tiny
        worst = float((self.residual_norm / self.tolerance.clamp_min(tiny)).max())
        count = int(self.iterations.max())
        iterations = "1 iteration" if count == 1 else f"{count} iterations"
        return f"after {iterations} the residual is {worst:.3g} times the tolerance"


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
        Guaranteed bounds on the error, if requested.
    grid : Grid
        The grid of the values.
    coefficient : Tensor (batch..., cells)
        The coefficient along the first axis, for plots.
    other_coefficients : tuple of Tensor
        The coefficients along the other axes; empty if the coefficient is the same along all axes.
    """

    values: Tensor
    converged: Tensor
    reason: Reason | tuple[Reason, ...]
    linear: LinearSolution
    grid: Grid
    coefficient: Tensor
    certificate: Certificate | None = None
    seconds: float = 0.0
    other_coefficients: tuple[Tensor, ...] = ()

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
        """Requested bound on the residual norm."""
        return self.linear.tolerance

    @property
    def method(self) -> str:
        """Description of the method."""
        return self.linear.method

    def __repr__(self) -> str:
        rows = {
            "values": describe_shape(self.values),
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
        """Return the values and (if computed) the certificate as a labelled data set.

        For a diagonal coefficient, `coefficient` is that along x, and `coefficient_y`, `coefficient_z` are the others.
        """
        data = {"solution": variable_of(self.values, self.grid, nodal=True, long_name="solution u")}
        data["coefficient"] = variable_of(self._own_coefficient, self.grid, nodal=False, long_name="coefficient a")
        for axis, part in zip(AXES[1:], self.other_coefficients):
            name = f"coefficient a along {axis}"
            data[f"coefficient_{axis}"] = variable_of(self._per_sample(part), self.grid, nodal=False, long_name=name)
        attributes = {
            "method": self.method,
            "reason": describe_reason(self.reason),
            "iterations": int(self.iterations.max()),
            "converged": int(self.converged.all()),
        }
        if self.certificate is not None:
            data |= certificate_variables(self.certificate)
        return dataset_of(data, self.grid, self.values.shape, attributes)

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
        """Coefficient of each sample; without batch axes if all samples share it."""
        return self._per_sample(self.coefficient)

    def _per_sample(self, field: Tensor) -> Tensor:
        batch = self.values.shape[: self.values.ndim - self.grid.dim]
        return field if field.ndim == self.grid.dim else field.expand(*batch, *self.grid.shape)


@dataclass(frozen=True, repr=False, eq=False)
class CellSolution:
    """Cell pressures and face fluxes of a two-point scheme; every quantity has the batch shape of the problem.

    Attributes
    ----------
    pressure : Tensor (batch..., cells)
        Pressures of the cells; zero in solids.
    rates : tuple of Tensor
        Volume per time through each face, positive along the axis: one field per axis, shape (batch..., n + 1 along its
        own axis). The rates out of a cell sum to its source times its volume, up to the residual of the solve.
    linear : LinearSolution
        Result of the linear solve.
    grid : Grid
        The grid.
    seconds : float
        Wall-clock time of the solve, without the set-up.
    """

    pressure: Tensor
    rates: tuple[Tensor, ...]
    linear: LinearSolution
    grid: Grid
    seconds: float

    @property
    def flux(self) -> tuple[Tensor, ...]:
        """Flux y ~ a grad p at the face centres, as `sb.certify(..., flux=)` takes it: -rates / area of a face."""
        return tuple(rate / -self.grid.face_area(axis) for axis, rate in enumerate(self.rates))

    @property
    def converged(self) -> Tensor:
        """Whether the residual reached the tolerance."""
        return self.linear.converged

    @property
    def reason(self) -> Reason | tuple[Reason, ...]:
        """Why the iteration stopped; for a batch, one reason per sample."""
        return self.linear.reason

    @property
    def iterations(self) -> Tensor:
        """Number of iterations."""
        return self.linear.iterations

    def __repr__(self) -> str:
        linear = self.linear
        rows = {
            "pressure": f"{tuple(self.pressure.shape)} in [{self.pressure.min():.4g}, {self.pressure.max():.4g}]",
            "method": linear.method,
            "reason": describe_reason(linear.reason),
            "iterations": describe(linear.iterations),
            "residual": describe_residual(linear.residual_norm, linear.tolerance, linear.reason),
            "seconds": f"{self.seconds:.3g}",
        }
        return summary_table("CellSolution", rows)
