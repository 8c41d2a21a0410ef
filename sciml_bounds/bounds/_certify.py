"""Certification of arbitrary fields: guaranteed two-sided bounds on the distance to the exact solution."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml_bounds._linear import LinearSolver
from sciml_bounds._linear_methods import Automatic
from sciml_bounds.arrays import convert, require_count, require_finite, to_tensor
from sciml_bounds.bounds._cell_reconstruction import flux_on_half_spacing, values_on_half_spacing
from sciml_bounds.bounds._energy import EnergyForm
from sciml_bounds.bounds._flux import Flux, equilibrate, face_shape, flux_and_pressure, with_prescribed_faces
from sciml_bounds.bounds._function_certificates import NodalCertificate, function_certificate, nodes_of
from sciml_bounds.bounds._functions_of_coordinates import is_function_of_coordinates, values_at_nodes
from sciml_bounds.bounds._goals import Certified, goal_interval
from sciml_bounds.bounds._improvement import improve_flux
from sciml_bounds.bounds._interpolation_error import CellBounded, cell_bounded
from sciml_bounds.bounds._layouts import Layout, checked_field, to_nodes
from sciml_bounds.bounds._majorant import Majorant, majorant
from sciml_bounds.bounds._minorant import minorant
from sciml_bounds.bounds._parts import discrete_solution, l2_constant, model_interval
from sciml_bounds.bounds._predictions import is_model, prediction_of
from sciml_bounds.errors import InputError
from sciml_bounds.grid import AXES, Dirichlet, Robin, side_axis
from sciml_bounds.kernels.field_memory import elementwise, new_field
from sciml_bounds.kernels.majorant import safe_sqrt
from sciml_bounds.kernels.q1 import modes
from sciml_bounds.krylov._loop import check_tolerances
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.discretization import cell_fluxes, lifting_system
from sciml_bounds.problems.fields import require_samples, require_sizes
from sciml_bounds.problems.transfers import interpolate_nodes, with_periodic_copies
from sciml_bounds.problems.variational_problem import VariationalProblem
from sciml_bounds.results import CellSolution, Certificate, Interval, Solution
from sciml_bounds.stopping import StoppingCriteria

__all__ = ["certify"]

#: Boundary values count as equal to the prescribed values if they differ by at most this multiple of the machine
#: epsilon of their dtype, relative to the largest value.
BOUNDARY_SLACK = {torch.float32: 8.0, torch.float64: 1e3}


def certify(
    problem: Diffusion,
    values: Any,
    *,
    flux: tuple[Any, ...] | None = None,
    lower: bool = True,
    layout: Layout | None = None,
    strict: bool = False,
    improve: int = 0,
    rtol: float = 1e-3,
) -> Certificate:
    """Bound the error of any field from above and from below.

    Parameters
    ----------
    problem : Diffusion
        Problem whose exact solution the field approximates. For convex energies see `sb.variational.certify_energy`.
    values : array, shape (batch..., nodes), Solution, CellSolution, model, or function
        Field to certify; see `layout` for other shapes. Nodal values represent their multilinear interpolant, and
        values at nodes in solids are ignored. A function that computes bounds on its own values and derivatives, such
        as a `BarronNetwork` or the result of a network solver, is certified itself, also between the nodes (see
        `bounds._function_certificates`). For a model, such as an `sb.MgNO`, the prediction for the problem is
        certified: the values that `predict(problem)` returns, with the flux that `predict_flux(problem)` returns if the
        model has this method; `predict_with_flux` returns both. With a predicted flux and `lower=False`, no linear
        system is solved. Any other function f(x, y, z), or network that maps points (n, d) to values (n, 1), is
        evaluated at the nodes if `layout="nodes"` is given; the interpolant of these values is certified.
    flux : tuple of array, one face field per axis, optional
        Flux y ~ a grad u at face centres, used instead of a computed or predicted flux: the `flux` of an earlier
        certificate of the same problem, the output of a network, or a flux on a grid refined by an integer factor
        (which gives a tighter bound). The flux is equilibrated first, so any flux gives a valid bound.
    lower : bool
        Whether to compute the lower bound. Without it and with a given flux, the cost is one pass over the grid.
    layout : {"nodes", "cells", "interior", "coarse", "centres"}, default "nodes"
        Location of `values`: at the nodes; one value per cell, averaged to the nodes; at the nodes that are not on
        Dirichlet sides; at the nodes of a coarser grid of the same box; or at the cell centres, as in finite volumes
        (default for a `CellSolution`). The certified nodal field is `values` of the certificate. With "centres" it
        lives on the grid of half the spacing, which is `grid` of the certificate, and has the given values at the cell
        centres (see `bounds._cell_reconstruction`). By default the flux is then the two-point flux of the values. The
        bound needs no solve if the flux balances the sources, up to 1e-7 of the largest flux.
    strict : bool
        If True, raise an error if boundary values differ from the prescribed ones. If False, include the effect of the
        difference in the bounds.
    improve : int
        Number of steps that lower the bound by changing the flux where the indicators are large (see
        `bounds._improvement`). Three steps gain about 3 % and cost a few passes over the grid. In gradients, the change
        of the flux counts as constant.
    rtol : float
        Relative residual of the solve for the flux. Any value gives a valid bound. Compared with a converged solve,
        1e-3 increased the bound by a factor of at most 1.0003 on up to 512^2 and 128^3 cells (including coefficient
        jumps of 1e-6 to 1e6), and of 1.025 on 1024^2 cells. The solve starts from `values` if they resemble the
        solution, which saves one or two iterations. For several fields of one problem, a single solve is enough, which
        starts from zero.

    Returns
    -------
    Certificate
        The certificate, in float64 for any input dtype. `upper`, `indicators` and `energy` are differentiable with
        respect to `values` and `flux`. With respect to the fields of the problem, only `energy` is differentiable: the
        equilibrated flux depends on these fields too, but is not differentiated (hence `relative_upper` is not
        differentiable either). Predictions of models are not differentiable.

    Raises
    ------
    InputError
        If shapes do not fit, an entry is not finite, or `strict` is true and the boundary values differ from the
        prescribed values.

    Notes
    -----
    Upper bound: Prager, Synge (1947) with an equilibrated flux (see `bounds._majorant`); without reaction and Robin
    sides it also bounds the error of this flux, the norm of a^-1/2 (y - a grad u), if the boundary values are right.
    Lower bound: `bounds._minorant`. A field v with wrong values on Dirichlet sides is corrected by a discrete lifting
    w; then upper(v + w) + |||w||| and max(0, lower(v + w) - |||w|||) are bounds.

    Examples
    --------
    >>> import sciml_bounds as sb
    >>> problem = sb.Diffusion(sb.Grid((32, 32)), coefficient=1.0, source=1.0)
    >>> certificate = sb.certify(problem, sb.solve(problem))
    >>> bool(certificate.lower < certificate.upper < 0.06 * certificate.energy)
    True
    """
    start = time.perf_counter()
    _require_diffusion(problem)
    _refuse_mesh_function(values)
    require_count(improve, "improve", 0)
    check_tolerances(rtol, 0.0, torch.float64)
    if is_model(values) and not isinstance(values, CellBounded):
        problem = problem.detach()
        values, predicted = prediction_of(values, problem, with_flux=flux is None)
        flux = predicted if flux is None else flux
    if isinstance(values, CellSolution):
        flux, layout, values = values.flux if flux is None else flux, layout or "centres", values.pressure
    if not isinstance(cell_bounded(values), CellBounded) and is_function_of_coordinates(values):
        values = values_at_nodes(values, problem, layout)
    options = _CertifyOptions(
        flux=flux, lower=lower, layout=layout or "nodes", strict=strict, improve=improve, rtol=rtol, start=start
    )
    if options.layout == "centres":
        return _certify_cells(problem, values, options)
    values = cell_bounded(values)
    if not isinstance(values, CellBounded):
        return _certify(problem, values, options).certificate
    if layout not in (None, "nodes"):
        raise InputError(f"layout={layout!r} describes an array, but values is a function; leave out layout.")
    bounds = values.cell_bounds(problem.grid)
    return function_certificate(_certify(problem, nodes_of(problem, bounds), options), bounds, start)


def _require_diffusion(problem: Any) -> None:
    if not isinstance(problem, Diffusion):
        energy = "; for a VariationalProblem use sb.variational.certify_energy"
        raise InputError(
            "certify needs an sb.Diffusion problem, but got an object of type "
            f"{type(problem).__name__}{energy if isinstance(problem, VariationalProblem) else ''}."
        )


def _refuse_mesh_function(values: Any) -> None:
    """Raise if the field is a DOLFINx function, without importing DOLFINx."""
    if any(kind.__module__.startswith("dolfinx.") for kind in type(values).__mro__):
        raise InputError(
            "values is a DOLFINx function, but certify needs values at the nodes of the grid; pass "
            "sb.fem.nodal_values(function, problem.grid), whose multilinear interpolant is then certified."
        )


@dataclass(frozen=True, kw_only=True)
class _CertifyOptions:
    """Options of `certify`, and the time at which it started."""

    flux: tuple[Any, ...] | None
    lower: bool
    layout: Layout
    strict: bool
    improve: int
    rtol: float
    start: float


def _certify(
    problem: Diffusion, values: Any, options: _CertifyOptions, faces: tuple[Tensor, ...] | None = None
) -> NodalCertificate:
    """Certify nodal values, with the flux `faces` (b, n + 1 along its axis), if given, instead of `options.flux`."""
    data = problem.to(torch.float64)
    problem = data.detach()
    given = _to_float_tensor(problem, values)
    nodes = to_nodes(problem, given.to(torch.float64), options.layout)
    require_samples(nodes, "values")
    batch = nodes.shape[: nodes.ndim - problem.grid.dim]
    problem = problem.broadcast(torch.Size(np.broadcast_shapes(batch, problem.batch_shape)))
    v = nodes.expand(*problem.batch_shape, *problem.node_shape).reshape(-1, *problem.node_shape)
    # a copy, because the caller may change the memory of the values
    v = new_field(v).copy_(v) if problem.solid is None else torch.where(problem.active_nodes, v, 0.0)
    require_finite(_with_batch_shape(problem, v), "the field to certify")
    require_sizes(v, "the field to certify", large_only=True)
    slack = BOUNDARY_SLACK[given.dtype] * torch.finfo(given.dtype).eps
    lifting, gap = _lifting(problem, v, slack, strict=options.strict)
    own = with_periodic_copies(v, problem.periodic)
    with_copies = own if lifting is None else with_periodic_copies(v + lifting, problem.periodic)

    is_given = faces is not None or options.flux is not None
    fine, factor, pressure = problem, 1, None
    if faces is None:
        fine, faces, factor, pressure = _flux(problem, options.flux, options.rtol, with_copies.detach())
    fine_values = interpolate_nodes(with_copies, factor, (False,) * problem.grid.dim)
    bound = majorant(fine, fine_values, faces)
    if is_given and (any(face.requires_grad for face in faces) or bool((bound.excess > 0).any())):
        faces = equilibrate(fine, faces)
        bound = majorant(fine, fine_values, faces)
    if options.improve:
        faces = improve_flux(fine, fine_values, faces, bound.squared.detach(), options.improve)
        bound = majorant(fine, fine_values, faces)
    form = EnergyForm(problem)
    boundary_part = torch.zeros_like(gap)
    if lifting is not None:
        boundary_part = form.norm(with_periodic_copies(lifting, problem.periodic))
    energy = form.norm(own)
    upper = bound.total + boundary_part
    inner_lower = (
        minorant(problem, with_copies.detach(), pressure, bound.total.detach())
        if options.lower
        else torch.zeros_like(upper)
    )
    certified = Certified(fine, fine_values.detach(), faces, bound.total.detach(), inner_lower)

    details = _Details(certified, problem, v.detach(), None if lifting is None else lifting.detach(), factor, pressure)
    certificate = Certificate(
        upper=_with_batch_shape(problem, upper),
        lower=_with_batch_shape(problem, (inner_lower - boundary_part.detach()).clamp_min(0)),
        energy=_with_batch_shape(problem, _differentiable_energy(energy, data.broadcast(problem.batch_shape), own)),
        _energy_of_values=_with_batch_shape(problem, energy),
        indicators=_with_batch_shape(problem, _indicators(bound, upper, factor, problem.grid.dim)),
        boundary_part=_with_batch_shape(problem, boundary_part),
        boundary_gap=_with_batch_shape(problem, gap),
        terms={name: _with_batch_shape(problem, total) for name, total in bound.totals.items()},
        flux=Flux.of(problem, faces, pressure),
        values=_with_batch_shape(problem, v),
        layout=options.layout,
        grid=problem.grid,
        seconds=time.perf_counter() - options.start,
        _details=details,
    )
    return NodalCertificate(certificate, bound, problem, with_copies.detach(), faces, factor, pressure)


def _certify_cells(problem: Diffusion, values: Any, options: _CertifyOptions) -> Certificate:
    """Certify the reconstruction of cell values on the grid of half the spacing."""
    data = problem.to(torch.float64)
    cells = checked_field(data, _to_float_tensor(data, values).to(torch.float64), "centres")
    require_samples(cells, "values")
    batch = torch.Size(np.broadcast_shapes(cells.shape[: cells.ndim - data.grid.dim], data.batch_shape))
    data = data.broadcast(batch)
    problem = data.detach()
    p = torch.where(problem.fluid, cells.expand(*batch, *data.grid.shape).reshape(-1, *data.grid.shape), 0.0)
    require_finite(_with_batch_shape(problem, p), "the cell values to certify")
    if options.flux is None:
        faces = cell_fluxes(problem).faces(p)
    else:
        _, faces, factor, _ = _flux(problem, options.flux, options.rtol, p)
        if factor > 1:
            raise InputError(
                "flux belongs to a refined grid, but cell values need the flux through the faces of their own cells; "
                "give one value per face, or leave out flux."
            )
    faces = equilibrate(problem, faces)
    nodes = values_on_half_spacing(problem, p, faces)
    fine = data.refine(2)
    nodes = _with_batch_shape(problem, fine.complete(nodes))
    certified = _certify(fine, nodes, replace(options, layout="nodes"), flux_on_half_spacing(faces))
    return replace(certified.certificate, layout="centres")


def _differentiable_energy(energy: Tensor, data: Diffusion, values: Tensor) -> Tensor:
    """Return the energy, recomputed if it needs gradients with respect to the fields of the problem."""
    sides = [condition.alpha for condition in data.boundary.values() if isinstance(condition, Robin)]
    fields = (*data.coefficient, data.reaction, *sides)
    wanted = torch.is_grad_enabled() and any(field.requires_grad for field in fields)
    return EnergyForm(data).norm(values) if wanted else energy


def _to_float_tensor(problem: Diffusion, values: Any) -> Tensor:
    given = values.values if isinstance(values, Solution) else values
    if isinstance(given, Tensor) and given.device != problem.device:
        raise InputError(
            f"values are on device {given.device}, but the problem is on {problem.device}; move values to "
            f"{problem.device}."
        )
    name = "the field to certify"
    return convert(given, name, to_tensor(given, name).dtype, problem.device)


def _with_batch_shape(problem: Diffusion, field: Tensor) -> Tensor:
    """Reshape a result (b, ...) to the full batch shape."""
    total = problem.batch_shape.numel()
    return field.expand(total, *field.shape[1:]).reshape((*problem.batch_shape, *field.shape[1:]))


def _lifting(problem: Diffusion, v: Tensor, slack: float, *, strict: bool) -> tuple[Tensor | None, Tensor]:
    """Return the lifting w of the boundary defect of v (b, nodes), and the largest boundary defect (b,).

    The field v + w has the prescribed boundary values. Defects below `slack` (relative) are only added at the boundary
    nodes, which barely changes the bounds. w is None if there is no defect and v needs no gradient.
    """
    gap = v.new_zeros(len(v))
    if not any(isinstance(condition, Dirichlet) for condition in problem.boundary.values()):
        return None, gap
    prescribed = problem.dirichlet_values
    for side, condition in problem.boundary.items():
        if isinstance(condition, Dirichlet):
            axis, end = side_axis(side)
            fixed, known, given = (f.select(1 + axis, -end) for f in (problem.dirichlet_nodes, prescribed, v.detach()))
            missing = torch.where(fixed, known - given, 0.0).abs()
            gap = torch.maximum(gap, missing.reshape(len(missing), -1).amax(1))
    if not v.requires_grad and not bool(gap.any()):
        return None, gap
    difference = torch.where(problem.dirichlet_nodes, prescribed - v, 0.0)
    off = gap > slack * torch.maximum(prescribed.abs().flatten(1).amax(1), v.detach().abs().flatten(1).amax(1))
    if not bool(off.any()):
        return difference, torch.zeros_like(gap)
    if strict:
        raise InputError(_boundary_message(problem, difference.detach()))
    system = lifting_system(problem, difference)
    solver = LinearSolver(system, Automatic())
    return solver.solve(stop=StoppingCriteria(rtol=1e-8)).x.view(v.shape) + difference, gap


def _boundary_message(problem: Diffusion, difference: Tensor) -> str:
    flat = int(difference.abs().reshape(-1).argmax())
    sample, *node = (int(i) for i in torch.unravel_index(torch.tensor(flat), difference.shape))
    place = ", ".join(f"{axis}={problem.grid.nodes(i)[k].item():.4g}" for i, (axis, k) in enumerate(zip(AXES, node)))
    where = f" of sample {sample}" if len(difference) > 1 else ""
    return (
        f"values differ from the prescribed boundary values by up to {difference.abs().max().item():.4g}, at node "
        f"{tuple(node)} ({place}){where}; repair them with problem.impose_boundary(values), or leave out strict."
    )


def _flux(
    problem: Diffusion, flux: tuple[Any, ...] | None, rtol: float, values: Tensor
) -> tuple[Diffusion, tuple[Tensor, ...], int, Tensor | None]:
    """Compute a flux, or convert a given one without equilibrating it.

    Returns the problem on the grid of the flux, the face fluxes, the refinement factor of this grid, and the cell
    pressures from which the flux was computed (None if unknown).
    """
    if flux is None:
        faces, pressure = flux_and_pressure(problem, rtol, values)
        return problem, faces, 1, pressure
    dim = problem.grid.dim
    if not isinstance(flux, tuple | list) or len(flux) != dim:
        raise InputError(
            f"flux is not a tuple of {dim} face fields; give one face field per axis, for example the .flux of an "
            "earlier certificate."
        )
    fields = [convert(part, f"the flux along {axis}", torch.float64, problem.device) for axis, part in zip(AXES, flux)]
    factor = (
        max(1, (fields[0].shape[fields[0].ndim - dim] - 1) // problem.grid.shape[0]) if fields[0].ndim >= dim else 1
    )
    fine = problem if factor == 1 else problem.refine(factor)
    for axis, part in enumerate(fields):
        expected = face_shape(fine.grid.shape, axis)
        require_finite(part, f"the flux along {AXES[axis]}")
        if part.ndim < dim or tuple(part.shape[part.ndim - dim :]) != expected:
            shape = ", ".join(map(str, expected))
            raise InputError(
                f"the flux along {AXES[axis]} has shape {tuple(part.shape)}; give one value per face, shape (batch..., "
                f"{shape})."
            )
        try:
            part.expand(*problem.batch_shape, *expected)
        except RuntimeError:
            raise InputError(
                f"the flux along {AXES[axis]} has shape {tuple(part.shape)}, whose batch axes do not broadcast to the "
                f"batch {tuple(problem.batch_shape)} of problem and values; give one flux, or one per sample."
            ) from None
    samples = [fine.samples(part) for part in fields]
    own = tuple(new_field(part).copy_(part) for part in samples)  # copies, because the caller may change the originals
    return fine, with_prescribed_faces(fine, own), factor, Flux.pressure_of(flux, problem)


def _indicators(bound: Majorant, upper: Tensor, factor: int, dim: int) -> Tensor:
    """Return error indicators of the cells, scaled so that their squares sum to the square of the upper bound."""
    squared, total = bound.squared, bound.summed
    for axis in range(1, 1 + dim) if factor > 1 else ():
        n = squared.shape[axis] // factor
        squared = squared.reshape(*squared.shape[:axis], n, factor, *squared.shape[axis + 1 :]).sum(axis + 1)
    scale = torch.where(total > 0, upper / safe_sqrt(torch.where(total > 0, total, 1.0)), 0.0)
    scale = scale.view(-1, *(1,) * dim)
    return safe_sqrt(squared) * scale if squared.requires_grad else elementwise(torch.mul, squared, scale**2).sqrt_()


@dataclass(frozen=True, eq=False)
class _Details:
    """Data from which a certificate computes further bounds when they are requested."""

    certified: Certified
    problem: Diffusion
    values: Tensor
    lifting: Tensor | None
    factor: int
    pressure: Tensor | None

    def mesh_and_model(self) -> tuple[Interval, Interval]:
        """Bound the discretisation error and the distance to the discrete solution, after one linear solve."""
        problem = self.problem
        discrete, left = discrete_solution(problem)
        fine_discrete = interpolate_nodes(discrete, self.factor, (False,) * problem.grid.dim)
        with torch.no_grad():
            upper = majorant(self.certified.problem, fine_discrete, self.certified.flux).total
            lower = (minorant(problem, discrete, self.pressure, upper) - left).clamp_min(0)
            model = model_interval(problem, with_periodic_copies(self.values, problem.periodic), discrete, left)
        return self._interval(lower, upper + left), self._interval(model.lower, model.upper)

    def l2_upper(self) -> Tensor:
        """Bound the L2 norm of the error."""
        mu = l2_constant(self.problem)
        inner = torch.where(mu > 0, self.certified.upper / mu.sqrt(), torch.inf)
        return _with_batch_shape(
            self.problem, inner if self.lifting is None else inner + _l2_norm(self.problem, self.lifting)
        )

    def goal(self, functional: Any) -> Interval:
        """Bound a linear output of the exact solution."""
        return self._interval(*goal_interval(self.certified, functional, self.factor))

    def _interval(self, lower: Tensor, upper: Tensor) -> Interval:
        return Interval(_with_batch_shape(self.problem, lower), _with_batch_shape(self.problem, upper))


def _l2_norm(problem: Diffusion, values: Tensor) -> Tensor:
    """Return the L2 norm of a node field (b, nodes) over the fluid."""
    parts = modes(with_periodic_copies(values, problem.periodic), problem.grid.dim)
    squared = sum((m**2 * 12.0 ** -sum(bits) for bits, m in parts.items()), torch.zeros(()))
    return (torch.where(problem.fluid, squared, 0.0).flatten(1).sum(1) * problem.grid.cell_volume).sqrt()
