"""Certificates for functions that compute bounds on their derivatives on each cell.

Let u be the exact solution, v the function, I v its multilinear interpolant, w the lifting of the boundary defect of I
v on Dirichlet sides, and y the equilibrated flux of the certificate of I v. There are two upper bounds.

Triangle inequality: |||u - v||| <= |||u - I v||| + |||v - I v|||, without conditions on the boundary values of v.

With slopes: if v is multilinear on all Dirichlet sides, v + w has the prescribed values there, and the bound N of
`bounds._majorant` applies to v + w itself. N is a norm of residuals, in which part of v - I v can be included exactly:
the slopes b_i (x_i - x_K) along each axis, with the cell centre x_K and a constant b_i per cell and axis. Since y_i is
linear in x_i with slope s_i, the flux term becomes

    sum_i 1 / a_i (||a_i d_i (I v + w) - mean of y_i||^2 + |K| (a_i b_i - s_i)^2 h_i^2 / 12).

This term is small if v is close to u, whereas |||u - I v||| contains the discretisation error of the grid. The rest of
d = v - I v increases N by at most (||a^1/2 (grad d - b (x - x_K))|| + m c ||d||)^2 + c ||d||^2 on each cell, and alpha
||d||^2 on Robin faces.

Lower bound: let t be a node function that vanishes on Dirichlet sides. Since d_i t does not depend on x_i, the energy
product a(v - I v, t) contains only the second part of d_i (v - I v) (see `bounds._interpolation_error`). Hence |||u -
v||| is at least R(t) / |||t||| minus the norm of this part and minus |||w|||, where R is the residual of I v + w.
"""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sciml_bounds.bounds._energy import EnergyForm
from sciml_bounds.bounds._interpolation_error import (
    CellBounds,
    across_squares,
    derivative_squares,
    remainder_squares,
    value_squares,
    weighted,
)
from sciml_bounds.bounds._majorant import Majorant
from sciml_bounds.bounds._minorant import nodal_minorant
from sciml_bounds.errors import InputError
from sciml_bounds.grid import AXES, Dirichlet, Robin, side_axis
from sciml_bounds.kernels.q1 import modes
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.transfers import with_periodic_copies
from sciml_bounds.results import Certificate, Interval

__all__ = ["NodalCertificate", "function_certificate", "nodes_of"]

#: Values on both sides of a periodic axis may differ by this fraction of the largest value, to allow for round-off. The
#: bound includes the effect of the difference.
PERIODIC_SLACK = 1e-9


class NodalCertificate(NamedTuple):
    """The certificate of an interpolant, and the data from which it was computed.

    Attributes
    ----------
    certificate : Certificate
        The certificate.
    bound : Majorant
        Upper bound of the certificate, on the grid of the flux.
    problem : Diffusion
        The problem, in float64 and with the batch of the certificate.
    values : Tensor, shape (b, n + 1)
        I v + w, with copies of periodic nodes.
    faces : tuple of Tensor
        Flux y, on a grid that is finer by `factor`.
    factor : int
        Refinement factor of the grid of the flux.
    pressure : Tensor, shape (b, n), or None
        Cell pressures from which y was computed, if known.
    """

    certificate: Certificate
    bound: Majorant
    problem: Diffusion
    values: Tensor
    faces: tuple[Tensor, ...]
    factor: int
    pressure: Tensor | None


def nodes_of(problem: Diffusion, bounds: CellBounds) -> Tensor:
    """Return the values at the nodes of a problem, shape `node_shape`.

    Raises
    ------
    InputError
        If an axis of the problem is periodic and the function is not periodic along it.
    """
    nodes = bounds.nodes.to(problem.device)
    for axis, wraps in enumerate(problem.periodic):
        if wraps:
            last, first = nodes.select(axis, -1), nodes.select(axis, 0)
            gap = float((last - first).abs().max())
            if gap > PERIODIC_SLACK * float(nodes.abs().max()):
                raise InputError(
                    f"the function differs by up to {gap:.4g} between the two sides of the periodic axis "
                    f"{AXES[axis]}; certify a function with the same period, such as a cosine network."
                )
            nodes = nodes.narrow(axis, 0, nodes.shape[axis] - 1)
    return nodes


def function_certificate(interpolant: NodalCertificate, bounds: CellBounds, start: float) -> Certificate:
    """Convert the certificate of an interpolant into a certificate of the function."""
    bounds, problem = bounds.to(interpolant.problem.device), interpolant.problem
    certificate, batch = interpolant.certificate, problem.batch_shape

    def shaped(field: Tensor) -> Tensor:
        return field.expand(batch.numel(), *field.shape[1:]).reshape((*batch, *field.shape[1:]))

    cells = shaped(_energy_squares(problem, bounds))
    part = _norm(cells, len(batch)) + shaped(_periodicity_defect(problem, bounds))
    upper, indicators = (
        certificate.upper + part,
        _combined_indicators(certificate.indicators, certificate.upper, cells, part),
    )
    added = part
    if interpolant.factor == 1 and _equals_interpolant_on_sides(problem, bounds):
        corrected = dataclasses.replace(interpolant.bound, flux=_flux_with_slopes(interpolant, bounds))
        rest = shaped(_rest_squares(problem, bounds))
        first, second = shaped(corrected.total) + certificate.boundary_part, _norm(rest, len(batch))
        better = first + second < upper
        joined = _combined_indicators(shaped(corrected.squared.clamp_min(0)).sqrt(), first, rest, second)
        indicators = torch.where(better.reshape(*batch, *(1,) * problem.grid.dim), joined, indicators)
        upper, added = torch.where(better, first + second, upper), torch.where(better, second, part)
    lower = certificate.lower - part
    if bool((certificate.lower > 0).any()):
        nodal = nodal_minorant(problem, interpolant.values, interpolant.pressure, interpolant.bound.total)
        lower = torch.maximum(lower, shaped(nodal) - shaped(_across_part(problem, bounds)) - certificate.boundary_part)
    return dataclasses.replace(
        certificate,
        upper=upper,
        lower=lower.clamp_min(0),
        indicators=indicators,
        terms={**certificate.terms, "interpolation": added.square()},
        layout="function",
        seconds=time.perf_counter() - start,
        _details=_Details(certificate, part, shaped(_l2_norm(problem, bounds))),
    )


@dataclass(frozen=True, eq=False)
class _Details:
    """Certificate of the interpolant, and bounds on v - I v in the energy norm (`part`) and in L2 (`in_l2`)."""

    certificate: Certificate
    part: Tensor
    in_l2: Tensor

    def mesh_and_model(self) -> tuple[Interval, Interval]:
        """Bound the discretisation error and the distance to the discrete solution."""
        mesh, model = self.certificate.mesh, self.certificate.model
        return mesh, Interval((model.lower - self.part).clamp_min(0), model.upper + self.part)

    def l2_upper(self) -> Tensor:
        """Bound the L2 norm of the error."""
        return self.certificate.l2_upper + self.in_l2

    def goal(self, functional: Any) -> Interval:
        """Bound a linear output of the exact solution."""
        return self.certificate.goal(functional)


def _norm(squares: Tensor, first: int) -> Tensor:
    return squares.flatten(first).sum(-1).sqrt()


def _combined_indicators(indicators: Tensor, upper: Tensor, cells: Tensor, part: Tensor) -> Tensor:
    """Combine indicators A_K and squares B_K^2; the squares (A + B) (A_K^2 / A + B_K^2 / B) sum to (A + B)^2."""
    axes = tuple(range(part.ndim, cells.ndim))

    def share(squared: Tensor, total: Tensor) -> Tensor:
        whole = squared.sum(axes)
        return (total / torch.where(whole > 0, whole, 1.0)).reshape(*total.shape, *(1,) * len(axes)) * squared

    shares = share(indicators.square(), upper) + share(cells, part)
    return share(shares, (upper + part).square()).sqrt()


# --- with slopes ------------------------------------------------------------------------------------------------------


def _equals_interpolant_on_sides(problem: Diffusion, bounds: CellBounds) -> bool:
    """Return whether the function equals its interpolant on all Dirichlet sides, and no axis is periodic."""
    dirichlet = [side for side, condition in problem.boundary.items() if isinstance(condition, Dirichlet)]
    return not any(problem.periodic) and all(side in bounds.multilinear_sides for side in dirichlet)


def _flux_with_slopes(interpolant: NodalCertificate, bounds: CellBounds) -> Tensor:
    """Return the flux term with the slopes b (x - x_K), shape (b, n), as a sum of squares without cancellation."""
    problem, dim = interpolant.problem, interpolant.problem.grid.dim
    found = modes(interpolant.values, dim)
    total = torch.zeros_like(interpolant.bound.flux)
    for axis, h in enumerate(problem.grid.spacing):
        a, y, count = problem.samples(problem.coefficient[axis]), interpolant.faces[axis], problem.grid.shape[axis]
        a = a if problem.solid is None else torch.where(problem.fluid, a, 1.0)
        low, high = y.narrow(1 + axis, 0, count), y.narrow(1 + axis, 1, count)
        along = tuple(int(i == axis) for i in range(dim))
        squared = (a * found[along] / h - (low + high) / 2).square() / a
        squared = squared + (a * bounds.curvatures[axis] * h - (high - low)).square() / (12 * a)
        for bits, mode in found.items():
            if bits[axis] and bits != along:
                squared = squared + a * (mode / h).square() * 12.0 ** (1 - sum(bits))
        total = total + squared
    return torch.where(problem.fluid, total, 0.0) * problem.grid.cell_volume


def _rest_squares(problem: Diffusion, bounds: CellBounds) -> Tensor:
    """Bound the squared norm of the residuals that the flux term omits, on each cell, shape (b, n)."""
    grid, form = problem.grid, EnergyForm(problem)
    flux, longest = torch.zeros_like(form.coefficient[0]), torch.zeros_like(form.coefficient[0])
    for axis, coefficient in enumerate(form.coefficient):
        flux = flux + weighted(coefficient, remainder_squares(bounds, grid.spacing, axis))
        longest = torch.maximum(longest, grid.spacing[axis] ** 2 / torch.where(coefficient > 0, coefficient, 1.0))
    value = value_squares(bounds, grid.spacing, range(grid.dim))
    oscillation = weighted(longest.sqrt() / math.pi * form.reaction, value.sqrt())
    squared = ((flux.sqrt() + oscillation).square() + weighted(form.reaction, value)) * grid.cell_volume
    return _with_robin_sides(problem, bounds, squared)


# --- parts of v - I v -------------------------------------------------------------------------------------------------


def _energy_squares(problem: Diffusion, bounds: CellBounds) -> Tensor:
    """Bound |||v - I v|||^2 on each cell, shape (b, n)."""
    grid, form = problem.grid, EnergyForm(problem)
    squared = weighted(form.reaction, value_squares(bounds, grid.spacing, range(grid.dim)))
    for axis, coefficient in enumerate(form.coefficient):
        squared = squared + weighted(coefficient, derivative_squares(bounds, grid.spacing, axis))
    return _with_robin_sides(problem, bounds, squared * grid.cell_volume)


def _across_part(problem: Diffusion, bounds: CellBounds) -> Tensor:
    """Bound the energy product of v - I v with any node function t, divided by |||t|||, shape (b,)."""
    grid, form = problem.grid, EnergyForm(problem)
    squared = weighted(form.reaction, value_squares(bounds, grid.spacing, range(grid.dim)))
    for axis, coefficient in enumerate(form.coefficient):
        squared = squared + weighted(coefficient, across_squares(bounds, grid.spacing, axis))
    whole = _norm(_with_robin_sides(problem, bounds, squared * grid.cell_volume), 1)
    return whole + _periodicity_defect(problem, bounds)


def _periodicity_defect(problem: Diffusion, bounds: CellBounds) -> Tensor:
    """Return the energy norm of the difference between the nodal values and periodic ones, shape (b,)."""
    if not any(problem.periodic):
        return bounds.nodes.new_zeros(1)
    lacking = with_periodic_copies(nodes_of(problem, bounds)[None], problem.periodic) - bounds.nodes
    return EnergyForm(problem).norm(lacking.repeat(problem.batch_shape.numel(), *(1,) * problem.grid.dim))


def _with_robin_sides(problem: Diffusion, bounds: CellBounds, squared: Tensor) -> Tensor:
    """Add bounds on the integrals of alpha (v - I v)^2 over Robin faces to the adjacent cells, shape (b, n)."""
    grid = problem.grid
    for side, condition in problem.boundary.items():
        if isinstance(condition, Robin):
            axis, end = side_axis(side)
            others = [i for i in range(grid.dim) if i != axis]
            on_faces = value_squares(bounds, grid.spacing, others).select(axis, -end)
            weight = torch.where(
                problem.fluid.select(1 + axis, -end), problem.samples(condition.alpha, grid.dim - 1), 0.0
            )
            part = weighted(weight, on_faces) * grid.face_area(axis)
            wide = squared.expand(max(len(squared), len(part)), *grid.shape).clone()
            wide.select(1 + axis, -end).add_(part)
            squared = wide
    return squared


def _l2_norm(problem: Diffusion, bounds: CellBounds) -> Tensor:
    squared = torch.where(problem.fluid, value_squares(bounds, problem.grid.spacing, range(problem.grid.dim)), 0.0)
    return (squared.flatten(1).sum(1) * problem.grid.cell_volume).sqrt()
