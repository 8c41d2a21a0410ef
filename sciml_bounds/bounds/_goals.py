"""Guaranteed intervals for linear outputs of the exact solution.

Let z be the dual solution of the output s, and let v and z_h be approximations of u and z with known fluxes. In the
error representation s(u) - s(v) = R_v(z_h) + a(u - v, z - z_h), with the residual R_v of v, the last product is
unknown. Both errors in it are projections of known vectors X_v = (a^-1/2 (y - a grad v), c^-1/2 r', alpha^-1/2 rho) and
X_z onto the same space. Twice a projection minus the identity is an isometry, so the product differs from X_v.X_z / 2
by at most |X_v| |X_z| / 2 (Prager and Synge's hypercircle). The oscillation terms of `bounds._majorant` widen the
interval. It is half as wide as the interval from the product of two error bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sciml_bounds.arrays import Field
from sciml_bounds.bounds._energy import EnergyForm
from sciml_bounds.bounds._flux import equilibrated_flux
from sciml_bounds.bounds._hypercircle import hypercircle_vector, rows
from sciml_bounds.bounds._parts import discrete_solution
from sciml_bounds.errors import InputError
from sciml_bounds.grid import AXES, Boundary, Dirichlet, Neumann, Periodic, Robin, side_axis
from sciml_bounds.kernels.q1 import modes
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.fields import cell_field, is_array_free_callable
from sciml_bounds.problems.transfers import interpolate_nodes, repeat_cells
from sciml_bounds.results import Interval

__all__ = ["BoundaryFlux", "Certified", "EffectivePermeability", "Mean", "goal_interval"]


@dataclass(frozen=True)
class Mean:
    """The output is the mean of u over a region.

    Parameters
    ----------
    region : float, array of shape (n) or (batch..., n), or callable
        Weight of each cell (1 inside, 0 outside); by default the whole domain.
    """

    region: Field = 1.0


@dataclass(frozen=True)
class BoundaryFlux:
    """The output is the total outward flux, the integral of a du/dn over a side.

    If a Dirichlet side meets another Dirichlet side, the flux may be infinite. The flux is therefore weighted with the
    node function that is 1 at the nodes of the side and 0 at all other nodes. The output then includes part of the flux
    through the other side, with a weight that decreases to zero over the first cell.

    Parameters
    ----------
    side : str
        Name of the side, such as "x0".
    """

    side: str


@dataclass(frozen=True)
class EffectivePermeability:
    """The output is the effective permeability along an axis: flux per area, times length, divided by the drop of u.

    The problem must have constant Dirichlet values on the two sides of the axis, zero Neumann or periodic conditions on
    all other sides, no source and no reaction.

    Parameters
    ----------
    axis : {"x", "y", "z"}
        Direction of the flow.
    """

    axis: str = "x"


@dataclass(frozen=True)
class Certified:
    """A node field (b, n + 1) with the prescribed boundary values, its problem, flux and error bounds."""

    problem: Diffusion
    values: Tensor
    flux: tuple[Tensor, ...]
    upper: Tensor
    lower: Tensor


def goal_interval(certified: Certified, functional: Any, factor: int) -> Interval:
    """Bound a linear output of the exact solution.

    Parameters
    ----------
    certified : Certified
        The certified field, on the grid of its flux.
    functional : Mean, BoundaryFlux, EffectivePermeability, or array of shape (n)
        The output; an array contains weights q per cell for the output int q u.
    factor : int
        Number of cells of the flux grid per cell of the user's grid, along each axis.

    Raises
    ------
    InputError
        If the functional does not fit the problem.
    """
    with torch.no_grad():
        if isinstance(functional, type):
            raise InputError(
                f"the output is the class {functional.__name__}; give an instance of a class, such as sb.Mean()."
            )
        if isinstance(functional, EffectivePermeability):
            return _permeability(certified, functional.axis)
        if isinstance(functional, BoundaryFlux):
            return _boundary_flux(certified, functional.side, factor)
        if not isinstance(functional, Mean) and not _is_weight_field(functional):
            raise InputError(
                "an output must be sb.Mean(), sb.BoundaryFlux(side), sb.EffectivePermeability(axis) or an array with "
                f"one weight per cell, not {functional!r}."
            )
        return _weighted_integral(certified, functional, factor)


def _is_weight_field(functional: Any) -> bool:
    """Return whether a functional is an array, list or function of the coordinates; a number is likely a mistake."""
    if isinstance(functional, list | tuple) or is_array_free_callable(functional):
        return not isinstance(functional, type)
    return getattr(functional, "ndim", 0) > 0


def _weighted_integral(certified: Certified, functional: Any, factor: int) -> Interval:
    problem = certified.problem
    region = functional.region if isinstance(functional, Mean) else functional
    coarse = (
        problem.grid
        if factor == 1
        else type(problem.grid)(
            tuple(n // factor for n in problem.grid.shape), problem.grid.lengths, problem.grid.origin
        )
    )
    weights = cell_field(region, "the weights of the functional", coarse, problem.dtype, problem.device)
    _check_batch(problem, weights)
    weights = torch.where(problem.fluid, problem.samples(repeat_cells(weights, factor, problem.grid.dim)), 0.0)
    if isinstance(functional, Mean):
        size = weights.flatten(1).sum(1).view(-1, *(1,) * problem.grid.dim) * problem.grid.cell_volume
        if bool((size <= 0).any()):
            raise InputError(
                "the region of the mean is empty; give weights that are positive on at least one fluid cell."
            )
        weights = weights / size
    dual = _dual(problem, source=problem.unflatten(weights))
    mean = modes(certified.values, problem.grid.dim)[(0,) * problem.grid.dim]
    output = (weights * mean).flatten(1).sum(1) * problem.grid.cell_volume
    return _interval(certified, dual, output, 1.0)


def _check_batch(problem: Diffusion, weights: Tensor) -> None:
    try:
        weights.expand(*problem.batch_shape, *weights.shape[weights.ndim - problem.grid.dim :])
    except RuntimeError:
        raise InputError(
            f"the weights of the functional have shape {tuple(weights.shape)}, whose batch axes do not broadcast to "
            f"the batch {tuple(problem.batch_shape)} of the certificate; give one array, or one per sample."
        ) from None


def _boundary_flux(certified: Certified, side: str, factor: int) -> Interval:
    problem = certified.problem
    if side not in problem.grid.sides:
        raise InputError(f"side is {side!r}; choose from the sides of this grid: {', '.join(problem.grid.sides)}.")
    axis, end = side_axis(side)
    condition = problem.boundary[side]
    area = problem.grid.face_area(axis)
    space = problem.grid.dim - 1
    open_faces = problem.fluid.select(1 + axis, -end)
    if isinstance(condition, Neumann):
        total = rows(problem.samples(condition.flux, space) * open_faces).sum(1) * area
        return Interval(*(total.expand(len(certified.values)),) * 2)
    if isinstance(condition, Robin):
        alpha, g = (problem.samples(q, space) for q in (condition.alpha, condition.g))
        trace = modes(certified.values.select(1 + axis, -end), space)[(0,) * space]
        output = rows((g - alpha * trace) * open_faces).sum(1) * area
        weighted = Robin(condition.alpha, -condition.alpha)
        return _interval(certified, _dual(problem, sides={side: weighted}), output, 1.0)
    if isinstance(condition, Periodic):
        raise InputError(f"side {side} is periodic, so no flux leaves there; use the flux through another side.")
    dual = _dual(problem, sides=_indicator_sides(problem, side, factor))
    return _interval(certified, dual, None, -1.0)


def _permeability(certified: Certified, axis_name: str) -> Interval:
    problem = certified.problem
    if axis_name not in tuple(AXES[: problem.grid.dim]):
        raise InputError(
            f"axis is {axis_name!r}; choose from the axes of this grid: {', '.join(AXES[: problem.grid.dim])}."
        )
    axis = AXES.index(axis_name)
    first, last = (problem.boundary[f"{axis_name}{end}"] for end in (0, 1))
    if not isinstance(first, Dirichlet) or not isinstance(last, Dirichlet):
        raise InputError(
            f"the permeability along {axis_name} is defined by a drop of u; prescribe sb.Dirichlet values on "
            f"{axis_name}0 and {axis_name}1."
        )
    high, low = (rows(problem.samples(side.value, problem.grid.dim - 1)) for side in (first, last))
    others = [c for name, c in problem.boundary.items() if name[0] != axis_name]
    closed = all(isinstance(c, Periodic) or (isinstance(c, Neumann) and not bool(c.flux.any())) for c in others)
    constant = bool((high == high[:, :1]).all()) and bool((low == low[:, :1]).all())
    if not closed or not constant or bool(problem.source.any()) or bool(problem.reaction.any()):
        raise InputError(
            f"the permeability along {axis_name} needs constant values on {axis_name}0 and {axis_name}1, "
            "sb.Neumann(0.0) or sb.Periodic() elsewhere, no source and no reaction; remove the other data."
        )
    drop = high[:, 0] - low[:, 0]
    if bool((drop == 0).any()):
        raise InputError(
            f"the values on {axis_name}0 and {axis_name}1 are equal, so there is no flow; prescribe different values."
        )
    length = problem.grid.lengths[axis]
    section = problem.grid.cell_volume * problem.fluid[0].numel() / length
    scale = length / (section * drop**2)
    energy = EnergyForm(problem).norm(certified.values) ** 2  # u minimises it: |||v|||^2 = |||u|||^2 + |||u - v|||^2
    return Interval((energy - certified.upper**2).clamp_min(0) * scale, (energy - certified.lower**2) * scale)


def _interval(certified: Certified, dual: Diffusion, output: Tensor | None, sign: float) -> Interval:
    """Evaluate the error representation; if `output` is None, the output is the flux weighted by the dual solution."""
    problem, v = certified.problem, certified.values
    form = EnergyForm(problem)
    z, _ = discrete_solution(dual)
    if output is None:
        center = ((form.apply(v) - form.load) * z).flatten(1).sum(1)
    else:
        center = output + form.pair(form.residual(v), z)
    ours = hypercircle_vector(problem, v, certified.flux)
    theirs = hypercircle_vector(dual, z, equilibrated_flux(dual))
    half_width = (
        ours.norm * theirs.norm / 2
        + ours.norm * theirs.oscillation
        + ours.oscillation * (theirs.norm + theirs.oscillation)
    )
    center = center + sign * ours.dot(theirs) / 2
    return Interval(center - half_width, center + half_width)


def _dual(problem: Diffusion, source: Tensor | float = 0.0, sides: dict[str, Boundary] | None = None) -> Diffusion:
    """Return the dual problem, with homogeneous data except for the given source and sides."""
    homogeneous = {side: _homogeneous(condition) for side, condition in problem.boundary.items()}
    try:
        dual = problem.replace(source=source, boundary=homogeneous | (sides or {}))
    except InputError as error:
        raise InputError(f"this output is not defined, since u is determined up to a constant only: {error}") from None
    return dual.broadcast(problem.batch_shape)


def _homogeneous(condition: Boundary) -> Boundary:
    if isinstance(condition, Dirichlet):
        return Dirichlet(0.0)
    if isinstance(condition, Neumann):
        return Neumann(0.0)
    return Robin(condition.alpha, 0.0) if isinstance(condition, Robin) else condition


def _indicator_sides(problem: Diffusion, side: str, factor: int) -> dict[str, Boundary]:
    """Return Dirichlet data of the node function on the user's grid that is 1 on a side and 0 at all other nodes."""
    axis, end = side_axis(side)
    coarse = tuple(n // factor + (not wraps) for n, wraps in zip(problem.grid.shape, problem.periodic))
    indicator = torch.zeros(coarse, dtype=problem.dtype, device=problem.device)
    indicator.select(axis, -end).fill_(1.0)
    indicator = interpolate_nodes(indicator, factor, problem.periodic)
    sides = {name: side_axis(name) for name, condition in problem.boundary.items() if isinstance(condition, Dirichlet)}
    return {name: Dirichlet(indicator.select(own, -own_end)) for name, (own, own_end) in sides.items()}
