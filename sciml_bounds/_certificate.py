"""Certificates of the energy error, and fields as labelled data sets."""

from __future__ import annotations

import decimal
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from sciml_bounds.arrays import require_choice
from sciml_bounds.grid import AXES, Grid
from sciml_bounds.plot import plot_certificate
from sciml_bounds.reports import describe, describe_interval, describe_upper, summary_table
from sciml_bounds.vtk_images import sample_image

if TYPE_CHECKING:
    import pyvista
    import xarray
    from matplotlib.figure import Figure

__all__ = [
    "Certificate",
    "CertificateDetails",
    "Interval",
    "Kind",
    "certificate_variables",
    "dataset_of",
    "describe_shape",
    "variable_of",
]

#: Kind of an error figure: a *bound* is guaranteed (up to floating-point round-off), an *estimate* is not.
Kind = Literal["bound", "estimate"]


#: What a certificate bounds the error of, by the layout of the given values.
CERTIFIED_FUNCTIONS = {
    "nodes": "multilinear interpolant of nodal values",
    "cells": "multilinear interpolant of cell values averaged to nodes",
    "interior": "multilinear interpolant of interior nodal values",
    "coarse": "multilinear interpolant of coarse nodal values",
    "centres": "cell values, joined by half-cell fluxes on half the spacing",
    "function": "function itself, between the nodes too",
}


class Interval(NamedTuple):
    """Guaranteed lower and upper bounds on a quantity, one pair per sample."""

    lower: Tensor
    upper: Tensor

    def __repr__(self) -> str:
        return f"[{describe(self.lower, 6, decimal.ROUND_FLOOR)}, {describe_upper(self.upper, 6)}]"


class CertificateDetails(Protocol):
    """Quantities that a certificate computes on demand from the problem and the flux."""

    def mesh_and_model(self) -> tuple[Interval, Interval]:
        """Return `Certificate.mesh` and `Certificate.model`."""

    def l2_upper(self) -> Tensor:
        """Return `Certificate.l2_upper`."""

    def goal(self, functional: Any) -> Interval:
        """Return the bounds that `Certificate.goal` returns for a functional."""


@dataclass(frozen=True, repr=False, eq=False)
class Certificate:
    """Guaranteed bounds on the error of a field in the energy norm.

    |||w|||^2 is the integral of a |grad w|^2 + c w^2, plus the integral of alpha w^2 over Robin sides. The bounds are
    valid, up to floating-point round-off, for the problem with cellwise constant data, its exact solution u, and the
    field v, which is the multilinear interpolant of `values` or the function that was certified. Every quantity has the
    batch shape.

    Attributes
    ----------
    upper, lower : Tensor (batch...)
        Bounds lower <= |||u - v||| <= upper; `lower` is zero unless requested.
    kind : {"bound"}
        "bound" means guaranteed.
    energy : Tensor (batch...)
        Energy norm |||v||| of the field.
    indicators : Tensor (batch..., cells)
        Error indicator of each cell. The sum of their squares is the square of `upper`.
    boundary_part : Tensor (batch...)
        Part of `upper` that is due to wrong boundary values: |||w||| for a lifting w of the difference.
    boundary_gap : Tensor (batch...)
        Largest difference between the field and the prescribed boundary values.
    terms : mapping of str to Tensor (batch...)
        Squares of the other parts of `upper`: flux, oscillation, reaction and robin. For a function these are the parts
        of its interpolant, and interpolation is the square of the part that is due to the values between the nodes.
    flux : tuple of Tensor
        Equilibrated flux y ~ a grad u: one face field per axis, shape (batch..., n + 1 along its own axis). To reuse
        the flux: `certify(problem, other_values, flux=certificate.flux)`.
    values : Tensor (batch..., nodes)
        The certified nodal field, or the nodal values of the certified function.
    layout : str
        Form in which the field was given; "function" if the certified field is a function, also between the nodes.
    grid : Grid
        The grid of the values.
    seconds : float
        Wall-clock time of the certification.
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
        """Upper bound on |||u - values||| / |||u|||; infinite if `upper` is not below |||values|||."""
        rest = (self.energy if self._energy_of_values is None else self._energy_of_values) - self.upper
        return torch.where(rest > 0, self.upper / torch.where(rest > 0, rest, 1.0), torch.inf)

    @property
    def certified(self) -> str:
        """The function whose error is bounded, in words."""
        return CERTIFIED_FUNCTIONS[self.layout]

    def relative_to(self, reference: Literal["solution", "values"]) -> Tensor:
        """Return the upper bound relative to the energy norm of the exact solution, or of the certified field.

        Parameters
        ----------
        reference : {"solution", "values"}
            "solution": `relative_upper`, which is infinite if the bound exceeds the energy norm of the field.
            "values": `upper / energy`, which is finite unless the field has no energy, but is small for wrong fields
            with a large energy.

        Returns
        -------
        Tensor (batch...)
        """
        require_choice(reference, "reference", ("solution", "values"))
        return self.relative_upper if reference == "solution" else self.upper / self.energy

    def _describe_relative(self) -> str:
        """Return the relative bound, with the reason if it is so large that it says nothing."""
        text = f"<= {describe_upper(self.relative_upper)}"
        if not bool((self.relative_upper > 1).any()):
            return text
        return f"{text}; the bound is {describe_upper(self.relative_to('values'))} of the energy norm of the field"

    def _require_details(self) -> CertificateDetails:
        if self._details is None:
            raise RuntimeError(
                "this certificate was read from a file, which does not contain its problem; call sb.certify again."
            )
        return self._details

    @cached_property
    def _mesh_and_model(self) -> tuple[Interval, Interval]:
        return self._require_details().mesh_and_model()

    @property
    def mesh(self) -> Interval:
        """Bounds on the energy error of the discrete solution on this grid; the first use takes one solve."""
        return self._mesh_and_model[0]

    @property
    def model(self) -> Interval:
        """Bounds on the energy norm of the field minus the discrete solution; the first use takes one solve."""
        return self._mesh_and_model[1]

    @cached_property
    def l2_upper(self) -> Tensor:
        """Upper bound on the L2 norm of the error.

        Infinite where no bound is known: without Dirichlet sides and reaction, or with solid cells.
        """
        return self._require_details().l2_upper()

    def goal(self, functional: Any) -> Interval:
        """Bound a linear output of the exact solution: `sb.Mean`, `sb.BoundaryFlux` or `sb.EffectivePermeability`."""
        return self._require_details().goal(functional)

    def __repr__(self) -> str:
        rows = {
            "certified": f"{self.certified}, {describe_shape(self.values)}",
            "energy error": f"{describe_interval(self.lower, self.upper, 'error')}  ({self.kind})",
            "relative": self._describe_relative(),
        }
        if "interpolation" in self.terms:
            rows["between nodes"] = f"part of the bound: {describe_upper(self.terms['interpolation'].sqrt())}"
        if bool((self.boundary_gap > 0).any()):
            rows["boundary values"] = (
                f"off by up to {describe(self.boundary_gap)}; part of the bound: {describe(self.boundary_part)}"
            )
        return summary_table("Certificate", rows)

    def to_xarray(self) -> xarray.Dataset:
        """Return bounds, indicators and values as a labelled data set."""
        data = {"values": variable_of(self.values, self.grid, nodal=True, long_name="certified field")}
        data |= certificate_variables(self)
        return dataset_of(data, self.grid, self.values.shape, {"layout": self.layout})

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
        """Plot the field and the error indicators of one sample, with the bounds as the title."""
        figure = plot_certificate(self.grid, self.values, self.indicators, sample)
        ends = (end.detach().reshape(-1) for end in (self.lower, self.upper, self.relative_upper))
        lower, upper, relative = (end[sample if len(end) > 1 else 0] for end in ends)
        interval = describe_interval(lower, upper, "error")
        figure.suptitle(f"{interval}, relative <= {describe_upper(relative)} ({self.kind})")
        return figure


def describe_shape(values: Tensor) -> str:
    """Return shape and dtype of values."""
    return f"{tuple(values.shape)} {str(values.dtype).removeprefix('torch.')}"


def variable_of(tensor: Tensor, grid: Grid, *, nodal: bool, long_name: str) -> tuple[list[str], Any, dict[str, str]]:
    """Return axes, numbers and attributes of a field, as a variable of xarray."""
    batch = [f"batch{i}" if i else "sample" for i in range(tensor.ndim - grid.dim)]
    space = [f"{axis}_node" if nodal else axis for axis in AXES[: grid.dim]]
    return [*batch, *space], tensor.detach().cpu().numpy(), {"long_name": long_name, "units": "1"}


def certificate_variables(certificate: Certificate) -> dict[str, Any]:
    """Return indicators and bounds of a certificate as variables of xarray."""
    batch = ["sample" if i == 0 else f"batch{i}" for i in range(certificate.upper.ndim)]

    def scalar(value: Tensor, long_name: str) -> tuple[list[str], Any, dict[str, str]]:
        return batch, value.detach().cpu().numpy(), {"long_name": long_name, "units": "1", "kind": certificate.kind}

    return {
        "error_indicator": variable_of(
            certificate.indicators, certificate.grid, nodal=False, long_name="energy error indicator"
        ),
        "error_upper": scalar(certificate.upper, "upper bound of the energy error"),
        "error_lower": scalar(certificate.lower, "lower bound of the energy error"),
        "error_relative_upper": scalar(certificate.relative_upper, "upper bound of the relative energy error"),
        "boundary_part": scalar(certificate.boundary_part, "part of the upper bound from boundary values"),
    }


def dataset_of(data: dict[str, Any], grid: Grid, node_shape: torch.Size, attributes: dict[str, Any]) -> xarray.Dataset:
    """Return variables as a data set with the coordinates of cells and nodes."""
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
