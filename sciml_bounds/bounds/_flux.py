"""Fluxes in equilibrium with the data: div y = -f on every cell (where there is no reaction), y.n = g on Neumann sides.

The flux of the cell-centred two-point scheme balances every cell; what an inexact solve leaves is swept out exactly
over a spanning tree, so the bound that is built on it needs no constant of the domain.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sciml_bounds._linear import Automatic, LinearSolver, Multigrid, Stop
from sciml_bounds.bounds._defect_sweep import open_side, sweep_out
from sciml_bounds.errors import InputError
from sciml_bounds.grid import AXES, Neumann, Robin
from sciml_bounds.kernels.field_memory import elementwise
from sciml_bounds.kernels.majorant import BALANCE
from sciml_bounds.operators._lattice_operator import LatticeSystem, to_lattice
from sciml_bounds.operators._linear_operator import inner
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.discretization import cell_fluxes

__all__ = [
    "Flux",
    "divergence",
    "equilibrate",
    "equilibrated_flux",
    "face_shape",
    "flux_and_pressure",
    "open_faces",
    "with_known_faces",
]

#: A given flux whose defect is larger than this part of its sources is corrected by a solve before the sweep, which
#: would carry a large defect out along lines and so make the bound needlessly large.
LARGE_DEFECT = 1e-7

#: A swept flux is in equilibrium up to the round-off of sums over all cells. A larger defect than this, relative to the
#: largest number it came from, is that of data that are not compatible, and a bound made of it would be none.
UNBALANCED = 1e-9

#: How to solve where three digits are enough: full multigrid takes as long, and may reach them by its first guess
#: alone, which leaves more of what outputs depend on (see the tests of goals).
FEW_CYCLES = Automatic(otherwise=Multigrid(cycle="V", sweeps=2))


#: A field that has to be scaled by more than this, or less than its inverse, to be near the solution is not like it.
LIKE = 2.0


def face_shape(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """Shape of a face field along its own axis."""
    return tuple(n + (a == axis) for a, n in enumerate(shape))


def divergence(faces: tuple[Tensor, ...], spacing: tuple[float, ...]) -> Tensor:
    """Compute div y on every cell, shape (b, n)."""
    parts = []
    for axis, (face, h) in enumerate(zip(faces, spacing)):
        n = face.shape[1 + axis] - 1
        parts.append(elementwise(torch.sub, face.narrow(1 + axis, 1, n), face.narrow(1 + axis, 0, n)).mul_(1 / h))
    total = parts[0]
    for part in parts[1:]:
        total = total.add_(part) if len(total) >= len(part) else total + part
    return total


def equilibrated_flux(problem: Diffusion, rtol: float = 1e-3) -> tuple[Tensor, ...]:
    """Compute the flux of the two-point scheme and sweep out what the solver left.

    With reaction the flux satisfies div y = c p - f, where p are the cell pressures of the scheme.

    Returns
    -------
    tuple of Tensor
        y at the face centres, one field (b, n + 1 along its own axis) an axis.
    """
    return flux_and_pressure(problem, rtol)[0]


class Flux(tuple[Tensor, ...]):
    """A flux, one field an axis, with the cell pressures (b, n) that it came from: they serve the lower bound."""

    pressure: Tensor | None = None

    @classmethod
    def of(cls, problem: Diffusion, faces: tuple[Tensor, ...], pressure: Tensor | None) -> Flux:
        """Give the faces of a problem (b, ...) its batch shape."""
        flux = cls(problem.unflatten(face) for face in faces)
        flux.pressure = pressure
        return flux

    @staticmethod
    def pressure_of(flux: tuple[Any, ...], problem: Diffusion) -> Tensor | None:
        """Return the pressures of a flux if it has some, and they fit a problem."""
        pressure = getattr(flux, "pressure", None)
        counts = 1, problem.batch_shape.numel()
        fits = pressure is not None and len(pressure) in counts and tuple(pressure.shape[1:]) == problem.grid.shape
        return pressure if fits else None


def flux_and_pressure(
    problem: Diffusion, rtol: float = 1e-3, values: Tensor | None = None
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Compute such a flux, and the cell pressures (b, n) that it came from.

    A node field (b, n + 1) that may resemble the solution saves an iteration if it does.
    """
    with torch.no_grad():
        scheme = cell_fluxes(problem)
        pressure, size = _pressure(problem, scheme.system, rtol, values)
        faces = tuple(face.expand(len(pressure), *face.shape[1:]) for face in scheme.faces(pressure))
        target = elementwise(torch.neg, problem.samples(problem.source))
        if bool(problem.reaction.any()):
            target = problem.samples(problem.reaction) * pressure + target
        return _swept(problem, faces, target, size), pressure


def _pressure(problem: Diffusion, system: LatticeSystem, rtol: float, values: Tensor | None) -> tuple[Tensor, Tensor]:
    """Solve for the cell pressures around the constant that fits the data best, shape (b, n).

    Also returns the size (b,) of the terms that fluxes are differences of.

    The residual is then small beside what varies: a level that all boundary values share (an absolute temperature, say)
    passes no flux, and must not set the scale.
    """
    one = torch.ones((), dtype=problem.dtype, device=problem.device)
    level_load = system.operator.absorption  # the matrix times one
    if problem.solid is not None:
        one = to_lattice(problem.fluid.to(problem.dtype), problem.grid.dim)
        level_load = level_load * one
    flat, rhs = torch.broadcast_tensors(level_load.flatten(1), system.rhs.flatten(1))
    size = inner(flat, flat)
    level = inner(flat, rhs) / torch.where(size > 0, size, 1.0)
    level = level.view(-1, 1, 1, 1)
    solver = LinearSolver(system, FEW_CYCLES)
    varying = elementwise(torch.sub, system.rhs, elementwise(torch.mul, level_load, level))
    guess = None if values is None else _guess(system, varying, values, level, one)
    solution = solver.solve(rhs=varying, x0=guess, stop=Stop(rtol=rtol))
    pressure = solution.x.view(-1, *system.rhs.shape[1:])
    largest = _largest(pressure)
    if bool(level.any()):
        pressure = elementwise(torch.add, pressure, level * one)
    return pressure.view(-1, *problem.grid.shape), solver.operator.norm_upper * largest


def _guess(system: LatticeSystem, rhs: Tensor, values: Tensor, level: Tensor, fluid: Tensor) -> Tensor | None:
    """Make a first guess of what varies in the pressures, from a node field (b, n + 1).

    Its means over the cells less the level, scaled to be as near to the solution as they can in energy. None where they
    do not resemble it, or gain nothing: there is a direct method, or one problem for many fields.
    """
    if system.inverse is not None or len(values) > max(len(rhs), system.operator.batch):
        return None
    x = values
    for dim in range(1, values.ndim):
        n = x.shape[dim] - 1
        x = elementwise(torch.add, x.narrow(dim, 0, n), x.narrow(dim, 1, n))
    corners = 2 ** (values.ndim - 1)
    x = x.view(len(x), *rhs.shape[1:])
    if bool(level.any()):
        x = elementwise(torch.sub, x, corners * level)
    if fluid.ndim:
        x = elementwise(torch.mul, x, fluid)
    flat, b = x.flatten(1), rhs.flatten(1).expand(len(x), -1)
    length = inner(flat, b) / system.operator.energy_into(flat, torch.empty_like(flat))
    resembles = (length * corners > 1 / LIKE) & (length * corners < LIKE)
    if not bool(resembles.any()):
        return None
    return x.mul_(torch.where(resembles, length, 0.0).view(-1, 1, 1, 1))


def equilibrate(problem: Diffusion, faces: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Make any given flux equilibrated; gradients flow through.

    Fluxes through walls and Neumann faces are set to their known values, then the defect of every cell without reaction
    is corrected: by a two-point solve if it is large, and exactly by the sweep.
    """
    faces = with_known_faces(problem, faces)
    target = torch.where(
        problem.samples(problem.reaction) > 0, divergence(faces, problem.grid.spacing), -problem.samples(problem.source)
    )
    missing = _missing_outflow(problem, faces, target)
    if _is_balanced(problem, faces, missing) and not missing.requires_grad:
        return faces
    size = _sizes(problem, faces)
    if bool((_largest(missing) > LARGE_DEFECT * size).any()):
        faces = tuple(face + change for face, change in zip(faces, _correction(problem, missing)))
    return _swept(problem, faces, target, size)


def _swept(problem: Diffusion, faces: tuple[Tensor, ...], target: Tensor, size: Tensor) -> tuple[Tensor, ...]:
    """Sweep out what fluxes lack of a target divergence, and see that nothing is left.

    `size` (b,) is that of the numbers which the fluxes come from: where nothing flows, fluxes are their round-off.
    """
    faces = sweep_out(problem, faces, _missing_outflow(problem, faces, target))
    if open_side(problem) is not None:  # every line of cells lets out what it has
        return faces
    no_reaction = problem.samples(problem.reaction) == 0  # elsewhere the bound accounts for what is left
    left = torch.where(no_reaction, _missing_outflow(problem, faces, target), 0.0)
    relative = float((_largest(left) / torch.maximum(size, _sizes(problem, faces))).max())
    if not relative <= UNBALANCED:
        raise InputError(
            f"the flux could not be balanced (a part of {relative:.2g} is left over), so no bound can be given; see "
            "that sources and boundary fluxes add up on every part of the domain that nothing holds."
        )
    return faces


def _is_balanced(problem: Diffusion, faces: tuple[Tensor, ...], missing: Tensor) -> bool:
    """Whether every cell lacks no more than round-off of its own fluxes and source.

    Not of the largest of the sample: where little flows, a lack of that size may be all there is.
    """
    size = problem.samples(problem.source).abs() * problem.grid.cell_volume
    for axis, face in enumerate(faces):
        n = problem.grid.shape[axis]
        low, high = face.narrow(1 + axis, 0, n).abs(), face.narrow(1 + axis, 1, n).abs()
        size = torch.maximum(size, torch.maximum(low, high) * problem.grid.face_area(axis))
    return bool((missing.abs() <= BALANCE * torch.finfo(missing.dtype).eps * size).all())


def _largest(field: Tensor) -> Tensor:
    """Largest absolute value of each sample, shape (b,)."""
    flat = field.detach().flatten(1)
    return torch.maximum(-flat.amin(1), flat.amax(1))  # without a temporary; torch.aminmax takes one thread a sample


def _sizes(problem: Diffusion, faces: tuple[Tensor, ...]) -> Tensor:
    """Largest flux through a face or source in a cell, to which the defects of each sample are compared, shape (b,)."""
    size = _largest(problem.samples(problem.source)) * problem.grid.cell_volume
    for axis, face in enumerate(faces):
        size = torch.maximum(size, _largest(face) * problem.grid.face_area(axis))
    return size.clamp_min(torch.finfo(size.dtype).tiny)


def _missing_outflow(problem: Diffusion, faces: tuple[Tensor, ...], target: Tensor) -> Tensor:
    missing = elementwise(torch.sub, target, divergence(faces, problem.grid.spacing)).mul_(problem.grid.cell_volume)
    return missing if problem.solid is None else torch.where(problem.fluid, missing, 0.0)


def _correction(problem: Diffusion, missing: Tensor) -> tuple[Tensor, ...]:
    """Two-point flux with the given outflow from every cell without reaction (cells with reaction are free)."""
    scheme = cell_fluxes(problem)
    solver = LinearSolver(scheme.system, Automatic())
    potential = solver.solve(rhs=to_lattice(-missing, problem.grid.dim), stop=Stop(rtol=1e-8)).x
    potential = potential.view(-1, *problem.grid.shape)
    affine = zip(scheme.faces(potential), scheme.faces(torch.zeros_like(potential)))
    return tuple(face - offset for face, offset in affine)


def with_known_faces(problem: Diffusion, faces: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Put the known normal fluxes into a given flux: zero at walls, the data at Neumann faces."""
    result = []
    for axis, face in enumerate(faces):
        dim, n = 1 + axis, problem.grid.shape[axis]
        first, inner, last = face.narrow(dim, 0, 1), face.narrow(dim, 1, n - 1), face.narrow(dim, n, 1)
        if problem.periodic[axis]:
            first = last = (first + last) / 2  # one face, given twice
        else:
            first, last = _known_end(problem, axis, 0, first), _known_end(problem, axis, 1, last)
        if problem.solid is None and _equal(first, face.narrow(dim, 0, 1)) and _equal(last, face.narrow(dim, n, 1)):
            result.append(face)
            continue
        batch = max(len(first), len(inner), len(last))
        face = torch.cat([part.expand(batch, *part.shape[1:]) for part in (first, inner, last)], dim)
        result.append(torch.where(open_faces(problem, axis), face, 0.0))
    return tuple(result)


def _equal(known: Tensor, given: Tensor) -> bool:
    """Whether a field (1 or b, ...) has the values of another, and nothing to differentiate."""
    return not known.requires_grad and len(known) <= len(given) and bool((known == given).all())


def _known_end(problem: Diffusion, axis: int, end: int, face: Tensor) -> Tensor:
    """Replace the flux through the faces of a side where the side prescribes it."""
    condition = problem.boundary[f"{AXES[axis]}{end}"]
    space = problem.grid.dim - 1
    outward = 1.0 if end else -1.0
    if isinstance(condition, Neumann):
        return outward * problem.samples(condition.flux, space).unsqueeze(1 + axis)
    if isinstance(condition, Robin):
        alpha, g = (problem.samples(q, space).unsqueeze(1 + axis) for q in (condition.alpha, condition.g))
        return torch.where(alpha > 0, face, outward * g)
    return face


def open_faces(problem: Diffusion, axis: int) -> Tensor:
    """Mark the faces that no solid touches, shape (b, n + 1 along the axis)."""
    dim, fluid = 1 + axis, problem.fluid
    n = fluid.shape[dim]
    first, last = fluid.narrow(dim, 0, 1), fluid.narrow(dim, n - 1, 1)
    before, after = (last, first) if problem.periodic[axis] else (first, last)
    return torch.cat([before, fluid], dim) & torch.cat([fluid, after], dim)
