"""Bounds on the energy excess J(v) - J(u) of a field v over the minimiser u.

The upper bound is a Fenchel gap. The lower bound is J(v) - J(w), where w results from a few Newton steps that start at
v, on a grid with half the spacing; J(v) is bounded from below and J(w) from above.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor

from sciml_bounds._linear import LinearSolver
from sciml_bounds._linear_methods import Automatic, Multigrid
from sciml_bounds.arrays import convert, require_count, require_finite, to_tensor
from sciml_bounds.bounds._certify import certify
from sciml_bounds.bounds._convex_sums import CellFlux
from sciml_bounds.bounds._dual_flux import DualFlux
from sciml_bounds.bounds._energy_between_nodes import (
    FunctionCorrections,
    admissible_nodes,
    function_corrections,
    gradient_part,
)
from sciml_bounds.bounds._energy_certificate import EnergyCertificate
from sciml_bounds.bounds._fenchel import Fenchel
from sciml_bounds.bounds._flux import Flux, face_shape, flux_and_pressure, with_prescribed_faces
from sciml_bounds.bounds._interpolation_error import CellBounded, CellBounds, cell_bounded
from sciml_bounds.errors import InputError
from sciml_bounds.grid import AXES
from sciml_bounds.krylov._loop import check_tolerances
from sciml_bounds.operators._lattice_operator import to_lattice
from sciml_bounds.problems.discretization import node_system
from sciml_bounds.problems.energies import IsotropicEnergy
from sciml_bounds.problems.energy_density import lengthened
from sciml_bounds.problems.transfers import interpolate_nodes, with_periodic_copies, without_periodic_copies
from sciml_bounds.problems.variational_problem import VariationalProblem
from sciml_bounds.results import Interval
from sciml_bounds.stopping import StoppingCriteria

__all__ = ["certify_energy"]

#: Sub-cells are refined until the bounds on the integrals add at most this fraction of the gap.
MAX_RELATIVE_EXCESS = 0.03
#: Maximum number of sub-cells along each axis of a cell, by dimension.
MAX_SUBCELLS = {1: 64, 2: 16, 3: 6}

#: Maximum number of Newton steps towards the minimiser on the finer grid.
MAX_NEWTON_STEPS = 8
#: Stop after a Newton step that gains less than this fraction of the total gain.
MIN_RELATIVE_GAIN = 0.02
#: Maximum number of halvings of a Newton step.
MAX_HALVINGS = 10

#: Boundary values count as equal to the prescribed values up to this fraction of the largest value, by dtype.
BOUNDARY_SLACK = {torch.float32: 1e-6, torch.float64: 1e-12}


def certify_energy(
    problem: VariationalProblem,
    values: Any,
    *,
    flux: tuple[Any, ...] | None = None,
    lower: bool = True,
    halvings: int = 0,
    rtol: float = 1e-3,
) -> EnergyCertificate:
    """Bound the energy excess J(v) - J(u) of a field v over the minimiser u, from above and from below.

    Parameters
    ----------
    problem : VariationalProblem
        Problem on an `sb.Grid`, with a convex energy whose conjugate is known.
    values : array, shape (nodes), a solution, or function with cell bounds
        Field to certify, with the prescribed values on Dirichlet sides. Nodal values stand for their multilinear
        interpolant. A function that computes bounds on its own values and derivatives, such as a `BarronNetwork` or the
        result of a network solver, is certified itself, also between the nodes.
    flux : tuple of array, one face field per axis, optional
        Flux y ~ dL/dp at face centres, used instead of computing a flux: the `flux` of an earlier certificate of the
        same problem, or a flux on a grid refined by an integer factor. Any flux gives a valid bound.
    lower : bool
        Whether to compute the lower bound.
    halvings : int
        Number of times that the cells are halved along each axis for the computed flux. Each halving gives a tighter
        bound, and multiplies the number of faces by 2^dim.
    rtol : float
        Relative residual of the first linear solve for the flux. Any value gives a valid bound.

    Returns
    -------
    EnergyCertificate
        The certificate, in float64 for any input dtype.

    Raises
    ------
    InputError
        If shapes do not fit, an entry is not finite, boundary values differ from the prescribed values, or the energy
        is not convex, is not finite or has no known conjugate.

    Notes
    -----
    The upper bound is a Fenchel gap; see `bounds._fenchel`. For nodal fields of linear problems, both bounds follow
    from the bounds of `sb.certify`, since J(v) - J(u) = |||u - v|||^2 / 2.

    Examples
    --------
    >>> import sciml_bounds as sb
    >>> problem = sb.variational.VariationalProblem(sb.Grid((16, 16)), sb.variational.ShearThinning(3.0), source=10.0)
    >>> certificate = sb.variational.certify_energy(problem, sb.variational.minimize_energy(problem))
    >>> bool(certificate.lower < certificate.upper < 3 * certificate.lower)
    True
    """
    start = time.perf_counter()
    if not isinstance(problem, VariationalProblem):
        raise InputError(
            "certify_energy needs an sb.variational.VariationalProblem, but got an object of type "
            f"{type(problem).__name__}; certify the fields of an sb.Diffusion with sb.certify."
        )
    require_count(halvings, "halvings", 0)
    if halvings and flux is not None:
        raise InputError(
            f"halvings={halvings} applies to a computed flux, but a flux is given; leave out halvings or flux."
        )
    check_tolerances(rtol, 0.0, torch.float64)
    values = cell_bounded(values)
    if problem.linear and not isinstance(values, CellBounded):
        return _certify_linear_energy(problem, _admissible(problem, values), flux, lower, halvings, rtol)
    _require_convex(problem)
    given = None if flux is None else _converted_flux(problem, flux)
    factor = 2**halvings if given is None else given[1]
    fine = problem if factor == 1 else problem.refine(factor)
    bounds = values.cell_bounds(fine.elements.grid).to(problem.device) if isinstance(values, CellBounded) else None
    v, nodes = _fields(problem, fine, values if bounds is None else bounds, factor)
    _require_finite_energy(fine, nodes)
    dual = DualFlux(Fenchel(fine), nodes)
    faces = dual.compute(rtol) if given is None else _balanced_flux(dual, given[0])
    y = dual.flux(faces)
    fenchel = dual.fenchel if bounds is None else dual.fenchel.with_curvatures(bounds.curvatures)
    primal, conjugates, count = _bound_gap(fenchel, nodes, y)
    gap = primal + conjugates
    more = FunctionCorrections.zero(gap) if bounds is None else function_corrections(fenchel, bounds, y, gap)
    cells = gap + more.above
    upper = cells.sum()
    load = (fine.load * without_periodic_copies(nodes, fine.frame.periodic)).sum() + fenchel.bent_products(y).sum()
    high = primal.sum() - load + more.above.sum()
    low = fenchel.energy_below(nodes, count).sum() - load - more.below.sum()
    least = _refined_energy_above(problem, v) if lower else high
    below = torch.minimum((low - least).clamp_min(0.0), upper)
    minimum = Interval(-conjugates.sum() - load, torch.minimum(least, high))
    return _certificate(
        problem, v, upper, below, Interval(low, high), minimum,
        indicators=_sum_to_coarse_cells(cells, factor, problem.dim),
        gradient_norm=_gradient_norm(fine, nodes, bounds), flux=faces, subdivisions=count,
        layout="nodes" if bounds is None else "function", seconds=time.perf_counter() - start,
    )  # fmt: skip


def _certify_linear_energy(
    problem: VariationalProblem, v: Tensor, flux: tuple[Any, ...] | None, lower: bool, halvings: int, rtol: float
) -> EnergyCertificate:
    """Certify a nodal field by the bounds of the linear problem: J(v) - J(u) = |||u - v|||^2 / 2."""
    if halvings:
        factor = 2**halvings
        fine = problem.refine(factor).as_diffusion()
        nodes = interpolate_nodes(v.unsqueeze(0), factor, fine.periodic)
        faces, pressure = flux_and_pressure(fine, rtol, with_periodic_copies(nodes, fine.periodic).detach())
        flux = Flux.of(fine, faces, pressure)
    certificate = certify(problem.as_diffusion(), v, flux=flux, lower=lower, rtol=rtol)
    upper, lowest = certificate.upper.square() / 2, certificate.lower.square() / 2
    energy = problem.energy(v)
    nodes = with_periodic_copies(v, problem.frame.periodic)
    return _certificate(
        problem, v, upper, lowest, Interval(energy, energy), Interval(energy - upper, energy - lowest),
        indicators=certificate.indicators.square() / 2, gradient_norm=_gradient_norm(problem, nodes, None),
        flux=certificate.flux, subdivisions=1, layout="nodes", seconds=certificate.seconds,
    )  # fmt: skip


def _certificate(
    problem: VariationalProblem,
    v: Tensor,
    upper: Tensor,
    lower: Tensor,
    energy: Interval,
    minimum: Interval,
    **more: Any,
) -> EnergyCertificate:
    ellipticity, declared = problem.ellipticity[0], problem.density.declared
    assert problem.grid is not None
    return EnergyCertificate(
        upper=upper,
        lower=lower,
        kind="assumes convexity" if declared else "bound",
        energy=energy,
        minimum=minimum,
        gradient_upper=torch.sqrt(2 * upper / ellipticity) if ellipticity > 0 else upper + torch.inf,
        gradient_kind="assumes lambda" if declared else "bound",
        values=v,
        grid=problem.grid,
        **more,
    )


def _gradient_norm(problem: VariationalProblem, nodes: Tensor, bounds: CellBounds | None) -> Tensor:
    """Return the L2 norm of grad v for a node field (n + 1), or a lower bound on the norm for a function."""
    _, p = problem.elements.at(nodes)
    norm = problem.elements.integrate(p.square().sum(-1)).sqrt()
    return norm if bounds is None else (norm - gradient_part(problem.elements.grid, bounds)).clamp_min(0)


def _require_convex(problem: VariationalProblem) -> None:
    if problem.grid is None:
        raise InputError(
            "the problem is on a box without a grid, where errors cannot be certified; state the problem on an sb.Grid."
        )
    if not problem.convex:
        raise InputError(
            f"the energy {type(problem.density).__name__} is not convex, so no bound on J(v) - J(u) is known; use a "
            "convex energy, or declare convex=True if it is convex."
        )
    if not isinstance(problem.density, IsotropicEnergy):
        raise InputError(
            "the convex conjugate of a general density L(x, u, p) is not known, so no bound can be given; if the "
            "density is a g(|p|) + c h(u), write it as sb.variational.IsotropicEnergy(profile, potential)."
        )


def _require_finite_energy(problem: VariationalProblem, nodes: Tensor) -> None:
    u, p = problem.elements.at(nodes)
    if not bool(problem.density.value(problem.quadrature_data, u, p).isfinite().all()):
        longest = float(torch.linalg.vector_norm(p, dim=-1).max())
        raise InputError(
            "the energy of the field to certify is not finite in double precision (|grad v| is up to "
            f"{longest:.3g}, |v| up to {float(u.abs().max()):.3g}); certify a field of finite energy, or write "
            "the density so that it does not overflow at these values."
        )


def _admissible(problem: VariationalProblem, values: Any) -> Tensor:
    """Convert a field to nodal values, and check that it has the prescribed boundary values.

    Raises
    ------
    InputError
        If the boundary values differ from the prescribed values, or `values` is not a nodal field.
    """
    v = problem.nodes(values)
    given = values if isinstance(values, Tensor) else getattr(values, "values", values)
    slack = BOUNDARY_SLACK[to_tensor(given, "values").dtype]
    exact = problem.impose_boundary(v)
    gap = float((exact - v).abs().max())
    if gap > slack * max(float(v.abs().max()), float(exact.abs().max())):
        raise InputError(
            f"values differ from the prescribed boundary values by up to {gap:.4g}, and such a field may have less "
            "energy than the minimiser; repair the values with problem.impose_boundary(values)."
        )
    return exact


def _fields(problem: VariationalProblem, fine: VariationalProblem, given: Any, factor: int) -> tuple[Tensor, Tensor]:
    """Return the nodal field on the grid of the problem, and on the grid of the flux with copies of periodic nodes."""
    if isinstance(given, CellBounds):
        nodes = admissible_nodes(fine, given)
        return nodes[(slice(None, None, factor),) * problem.dim], nodes
    v = _admissible(problem, given)
    return v, _interpolated(fine, problem, v, factor)


def _interpolated(fine: VariationalProblem, problem: VariationalProblem, v: Tensor, factor: int) -> Tensor:
    """Interpolate a field to a finer grid, with copies of periodic nodes."""
    nodes = interpolate_nodes(v.unsqueeze(0), factor, problem.frame.periodic)[0]
    return with_periodic_copies(nodes, fine.frame.periodic)


# --- upper bound ------------------------------------------------------------------------------------------------------


def _converted_flux(problem: VariationalProblem, flux: tuple[Any, ...]) -> tuple[tuple[Tensor, ...], int]:
    """Convert a given flux, and return it with the refinement factor of its grid."""
    assert problem.grid is not None
    dim = problem.dim
    if not isinstance(flux, tuple | list) or len(flux) != dim:
        raise InputError(
            f"flux is not a tuple of {dim} face fields; give one face field per axis, for example the .flux of a "
            "certificate."
        )
    faces = [convert(part, f"the flux along {a}", torch.float64, problem.frame.device) for a, part in zip(AXES, flux)]
    factor = max(1, (faces[0].shape[0] - 1) // problem.grid.shape[0]) if faces[0].ndim == dim else 1
    shape = tuple(n * factor for n in problem.grid.shape)
    for axis, face in enumerate(faces):
        expected = face_shape(shape, axis)
        if tuple(face.shape) != expected:
            raise InputError(
                f"the flux along {AXES[axis]} has shape {tuple(face.shape)}; give one value per face, shape {expected}."
            )
        require_finite(face, f"the flux along {AXES[axis]}")
    return tuple(faces), factor


def _balanced_flux(dual: DualFlux, faces: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    known = with_prescribed_faces(dual.frame, tuple(face.unsqueeze(0) for face in faces))
    return dual.balanced(tuple(face[0] for face in known))


def _bound_gap(fenchel: Fenchel, nodes: Tensor, flux: CellFlux) -> tuple[Tensor, Tensor, int]:
    """Bound the primal and the dual part of the gap, and return the number of sub-cells along each axis.

    Sub-cells are refined until the bounds on the integrals add little to the gap. The two parts are bounded separately,
    since the dual part alone bounds J(u). Finer sub-cells need not be better in every cell, hence the minimum.
    """
    finest = MAX_SUBCELLS[fenchel.grid.dim]
    estimate = float(fenchel.gap_estimate(nodes, flux).sum())
    round_off = 1e-12 * float(fenchel.energy_estimate(nodes, 1).abs().sum())
    count, primal, dual = 1, fenchel.energy_above(nodes, 1), fenchel.dual_above(nodes, flux, 1)
    while count < finest and math.isfinite(estimate):
        excess = float((primal + dual).sum()) - estimate
        allowed = max(MAX_RELATIVE_EXCESS * estimate, round_off)
        if not excess > allowed:
            break
        wanted = count * math.sqrt(excess / allowed)
        count = min(finest, max(2 * count, math.ceil(min(wanted, finest))))
        primal = torch.minimum(primal, fenchel.energy_above(nodes, count))  # both bound the same integral
        dual = torch.minimum(dual, fenchel.dual_above(nodes, flux, count))
    return primal, dual, count


def _sum_to_coarse_cells(cells: Tensor, factor: int, dim: int) -> Tensor:
    for axis in range(dim) if factor > 1 else ():
        shape = cells.shape
        cells = cells.reshape(*shape[:axis], shape[axis] // factor, factor, *shape[axis + 1 :]).sum(axis + 1)
    return cells


# --- lower bound ------------------------------------------------------------------------------------------------------


def _refined_energy_above(problem: VariationalProblem, v: Tensor) -> Tensor:
    """Bound the energy from above for a field closer to the minimiser, found by Newton steps on a finer grid."""
    fine = problem.refine(2)
    w = without_periodic_copies(_interpolated(fine, problem, v, 2), fine.frame.periodic)
    first = energy = float(fine.energy(w))
    if not math.isfinite(energy):
        return fine.load.new_tensor(math.inf)  # possible although the energy was finite at the points of coarser cells
    for _ in range(MAX_NEWTON_STEPS):
        w, lower = _newton_step(fine, w, energy)
        gain, energy = energy - lower, lower
        if gain <= MIN_RELATIVE_GAIN * (first - energy):
            break
    nodes = with_periodic_copies(w, fine.frame.periodic)
    count = max(2, MAX_SUBCELLS[problem.dim] // 2)
    return Fenchel(fine).energy_above(nodes, count).sum() - (fine.load * w).sum()


def _newton_step(problem: VariationalProblem, w: Tensor, energy: float) -> tuple[Tensor, float]:
    """Take a damped Newton step with the diagonal part of the second derivatives; return the field and its energy."""
    direction = _newton_direction(problem, w)
    length = 1.0
    for _ in range(MAX_HALVINGS):
        there = w + length * direction
        lower = float(problem.energy(there))
        if lower < energy:
            return there, lower
        length /= 2
    return w, energy


def _newton_direction(problem: VariationalProblem, w: Tensor) -> Tensor:
    frame, density = problem.frame, problem.density
    u, p = problem.elements.at(with_periodic_copies(w, frame.periodic))
    second = density.second(problem.quadrature_data, u, lengthened(p))
    weights = second.pp.diagonal(dim1=-2, dim2=-1).mean(0)
    size = float(weights[weights.isfinite()].max())
    coefficient = tuple(
        (weights[..., axis] / size).nan_to_num(posinf=1.0).clamp_min(1e-8) for axis in range(problem.dim)
    )
    reaction = torch.where(frame.reaction > 0, (second.uu.mean(0) / size).nan_to_num(posinf=1e8).clamp_min(1e-8), 0.0)
    system = node_system(frame.replace(coefficient=coefficient, reaction=reaction))
    solver = LinearSolver(system, Automatic(otherwise=Multigrid(cycle="V", sweeps=2)))
    rhs = to_lattice(-problem.gradient(w).unsqueeze(0) / size, problem.dim)
    return solver.solve(rhs=rhs, stop=StoppingCriteria(rtol=1e-3)).x.view(w.shape) * problem.free
