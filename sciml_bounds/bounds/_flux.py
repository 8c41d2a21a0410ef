"""Equilibrated fluxes: div y = -f on every cell without reaction, y.n = g on Neumann sides.

The flux of the cell-centred two-point scheme balances every cell. The defect of an inexact solve is removed exactly
along a spanning tree, so the error bound has no constant that depends on the domain.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sciml_bounds._linear import LinearSolver
from sciml_bounds._linear_methods import Automatic, Multigrid
from sciml_bounds.bounds._defect_sweep import open_side, sweep_out
from sciml_bounds.errors import InputError
from sciml_bounds.grid import AXES, Neumann, Robin
from sciml_bounds.kernels.field_memory import elementwise
from sciml_bounds.kernels.majorant import BALANCE_ROUND_OFFS
from sciml_bounds.operators._lattice_operator import LatticeSystem, to_lattice
from sciml_bounds.operators._linear_operator import inner
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.discretization import cell_fluxes
from sciml_bounds.stopping import StoppingCriteria

__all__ = [
    "Flux",
    "divergence",
    "equilibrate",
    "equilibrated_flux",
    "face_shape",
    "flux_and_pressure",
    "open_faces",
    "with_prescribed_faces",
]

#: A given flux whose defect, relative to its sources, is larger than this is corrected by a solve before the sweep. The
#: sweep alone would move a large defect along lines and make the bound unnecessarily large.
LARGE_DEFECT = 1e-7

#: Largest admissible defect of a flux after the sweep, relative to the largest flux or source. The sweep leaves the
#: round-off of sums over all cells. A larger defect means that the data are incompatible and the bound would be
#: invalid.
BALANCE_TOL = 1e-9

#: Solver for a relative residual of 1e-3. Full multigrid takes as long, and its first guess alone may reach 1e-3, which
#: leaves larger errors in linear outputs (see the tests of goals).
THREE_DIGIT_SOLVER = Automatic(otherwise=Multigrid(cycle="V", sweeps=2))


#: A field is used as a first guess if its best scaling lies between 1 / 2 and 2.
MAX_GUESS_SCALING = 2.0


def face_shape(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """Return the shape of the face field of an axis, for a grid of the given shape."""
    return tuple(n + (a == axis) for a, n in enumerate(shape))


def divergence(faces: tuple[Tensor, ...], spacing: tuple[float, ...]) -> Tensor:
    """Return div y on every cell, shape (b, n)."""
    parts = []
    for axis, (face, h) in enumerate(zip(faces, spacing)):
        n = face.shape[1 + axis] - 1
        parts.append(elementwise(torch.sub, face.narrow(1 + axis, 1, n), face.narrow(1 + axis, 0, n)).mul_(1 / h))
    total = parts[0]
    for part in parts[1:]:
        total = total.add_(part) if len(total) >= len(part) else total + part
    return total


def equilibrated_flux(problem: Diffusion, rtol: float = 1e-3) -> tuple[Tensor, ...]:
    """Return the flux of the two-point scheme, after removing the defect that the solve has left.

    With reaction c, the flux satisfies div y = c p - f, where p are the cell pressures of the scheme.

    Returns
    -------
    tuple of Tensor
        Flux y at the face centres, one field (b, n + 1 along its own axis) per axis.
    """
    return flux_and_pressure(problem, rtol)[0]


class Flux(tuple[Tensor, ...]):
    """A flux, one field per axis, and its cell pressures (b, n), which the lower bound uses."""

    pressure: Tensor | None = None

    @classmethod
    def of(cls, problem: Diffusion, faces: tuple[Tensor, ...], pressure: Tensor | None) -> Flux:
        """Return a flux of face fields (b, ...), reshaped to the batch shape of the problem."""
        flux = cls(problem.unflatten(face) for face in faces)
        flux.pressure = pressure
        return flux

    @staticmethod
    def pressure_of(flux: tuple[Any, ...], problem: Diffusion) -> Tensor | None:
        """Return the pressures of a flux if there are any and they fit the problem, otherwise None."""
        pressure = getattr(flux, "pressure", None)
        counts = 1, problem.batch_shape.numel()
        fits = pressure is not None and len(pressure) in counts and tuple(pressure.shape[1:]) == problem.grid.shape
        return pressure if fits else None


def flux_and_pressure(
    problem: Diffusion, rtol: float = 1e-3, values: Tensor | None = None
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return an equilibrated flux, and the cell pressures (b, n) from which it was computed.

    If the node field `values` (b, n + 1) resembles the solution, it is the first guess, which saves an iteration.
    """
    with torch.no_grad():
        scheme = cell_fluxes(problem)
        pressure, size = _pressure(problem, scheme.system, rtol, values)
        faces = tuple(face.expand(len(pressure), *face.shape[1:]) for face in scheme.faces(pressure))
        target = elementwise(torch.neg, problem.samples(problem.source))
        if bool(problem.reaction.any()):
            target = problem.samples(problem.reaction) * pressure + target
        return _sweep_defect(problem, faces, target, size), pressure


def _pressure(problem: Diffusion, system: LatticeSystem, rtol: float, values: Tensor | None) -> tuple[Tensor, Tensor]:
    """Solve for the cell pressures (b, n), relative to the constant that fits the data best.

    Also returns the size (b,) of the terms whose differences are the fluxes.

    Subtracting the constant makes the residual small relative to the variation of the pressures. Without it, a level
    that all boundary values share (such as an absolute temperature) would set the scale, although it drives no flux.
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
    solver = LinearSolver(system, THREE_DIGIT_SOLVER)
    varying = elementwise(torch.sub, system.rhs, elementwise(torch.mul, level_load, level))
    guess = None if values is None else _guess(system, varying, values, level, one)
    solution = solver.solve(rhs=varying, x0=guess, stop=StoppingCriteria(rtol=rtol))
    pressure = solution.x.view(-1, *system.rhs.shape[1:])
    largest = _max_abs(pressure)
    if bool(level.any()):
        pressure = elementwise(torch.add, pressure, level * one)
    return pressure.view(-1, *problem.grid.shape), solver.operator.norm_upper * largest


def _guess(system: LatticeSystem, rhs: Tensor, values: Tensor, level: Tensor, fluid: Tensor) -> Tensor | None:
    """Return a first guess of the pressures minus their level, from a node field (b, n + 1); None if there is none.

    The guess consists of the cell means minus the level, scaled to be closest to the solution in the energy norm. There
    is none if the field does not resemble the solution, or if a guess saves nothing: with a direct method, or for many
    fields of one problem.
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
    resembles = (length * corners > 1 / MAX_GUESS_SCALING) & (length * corners < MAX_GUESS_SCALING)
    if not bool(resembles.any()):
        return None
    return x.mul_(torch.where(resembles, length, 0.0).view(-1, 1, 1, 1))


def equilibrate(problem: Diffusion, faces: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Equilibrate any given flux, differentiably.

    Fluxes through walls and Neumann faces are set to their prescribed values. Then the defect of every cell without
    reaction is corrected: first by a two-point solve if it is large, then exactly by the sweep.
    """
    faces = with_prescribed_faces(problem, faces)
    target = torch.where(
        problem.samples(problem.reaction) > 0, divergence(faces, problem.grid.spacing), -problem.samples(problem.source)
    )
    missing = _missing_outflow(problem, faces, target)
    if _is_balanced(problem, faces, missing) and not missing.requires_grad:
        return faces
    size = _sizes(problem, faces)
    if bool((_max_abs(missing) > LARGE_DEFECT * size).any()):
        faces = tuple(face + change for face, change in zip(faces, _correction(problem, missing)))
    return _sweep_defect(problem, faces, target, size)


def _sweep_defect(problem: Diffusion, faces: tuple[Tensor, ...], target: Tensor, size: Tensor) -> tuple[Tensor, ...]:
    """Correct fluxes to a target divergence by the sweep, and raise if a defect remains.

    `size` (b,) is the size of the terms whose differences are the fluxes. If nothing flows, the fluxes are the
    round-off of these terms.
    """
    faces = sweep_out(problem, faces, _missing_outflow(problem, faces, target))
    if open_side(problem) is not None:  # the defect of every line of cells can leave the domain
        return faces
    no_reaction = problem.samples(problem.reaction) == 0  # with reaction, the bound accounts for the defect
    left = torch.where(no_reaction, _missing_outflow(problem, faces, target), 0.0)
    relative = float((_max_abs(left) / torch.maximum(size, _sizes(problem, faces))).max())
    if not relative <= BALANCE_TOL:
        raise InputError(
            f"the flux could not be balanced (a relative defect of {relative:.2g} remains), so no bound can be given; "
            "check that sources and boundary fluxes sum to zero on every floating part of the domain, and subtract "
            "their mean."
        )
    return faces


def _is_balanced(problem: Diffusion, faces: tuple[Tensor, ...], missing: Tensor) -> bool:
    """Check that the defect of every cell is round-off, relative to the fluxes and the source of this cell.

    The largest flux of the sample would be the wrong scale: where little flows, the defect may be as large as the flux.
    """
    size = problem.samples(problem.source).abs() * problem.grid.cell_volume
    for axis, face in enumerate(faces):
        n = problem.grid.shape[axis]
        low, high = face.narrow(1 + axis, 0, n).abs(), face.narrow(1 + axis, 1, n).abs()
        size = torch.maximum(size, torch.maximum(low, high) * problem.grid.face_area(axis))
    return bool((missing.abs() <= BALANCE_ROUND_OFFS * torch.finfo(missing.dtype).eps * size).all())


def _max_abs(field: Tensor) -> Tensor:
    """Return the largest absolute value of each sample, shape (b,)."""
    flat = field.detach().flatten(1)
    return torch.maximum(-flat.amin(1), flat.amax(1))  # no temporary; torch.aminmax uses one thread per sample


def _sizes(problem: Diffusion, faces: tuple[Tensor, ...]) -> Tensor:
    """Return the largest flux through a face or source in a cell, which is the scale of defects; shape (b,)."""
    size = _max_abs(problem.samples(problem.source)) * problem.grid.cell_volume
    for axis, face in enumerate(faces):
        size = torch.maximum(size, _max_abs(face) * problem.grid.face_area(axis))
    return size.clamp_min(torch.finfo(size.dtype).tiny)


def _missing_outflow(problem: Diffusion, faces: tuple[Tensor, ...], target: Tensor) -> Tensor:
    missing = elementwise(torch.sub, target, divergence(faces, problem.grid.spacing)).mul_(problem.grid.cell_volume)
    return missing if problem.solid is None else torch.where(problem.fluid, missing, 0.0)


def _correction(problem: Diffusion, missing: Tensor) -> tuple[Tensor, ...]:
    """Return a two-point flux with the given outflow from every cell without reaction."""
    scheme = cell_fluxes(problem)
    solver = LinearSolver(scheme.system, Automatic())
    potential = solver.solve(rhs=to_lattice(-missing, problem.grid.dim), stop=StoppingCriteria(rtol=1e-8)).x
    potential = potential.view(-1, *problem.grid.shape)
    affine = zip(scheme.faces(potential), scheme.faces(torch.zeros_like(potential)))
    return tuple(face - offset for face, offset in affine)


def with_prescribed_faces(problem: Diffusion, faces: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Replace the normal fluxes at walls by zero, and at Neumann faces by their prescribed values."""
    result = []
    for axis, face in enumerate(faces):
        dim, n = 1 + axis, problem.grid.shape[axis]
        first, inner, last = face.narrow(dim, 0, 1), face.narrow(dim, 1, n - 1), face.narrow(dim, n, 1)
        if problem.periodic[axis]:
            first = last = (first + last) / 2  # one face, stored twice
        else:
            first, last = _with_prescribed_end(problem, axis, 0, first), _with_prescribed_end(problem, axis, 1, last)
        if problem.solid is None and _equal(first, face.narrow(dim, 0, 1)) and _equal(last, face.narrow(dim, n, 1)):
            result.append(face)
            continue
        batch = max(len(first), len(inner), len(last))
        face = torch.cat([part.expand(batch, *part.shape[1:]) for part in (first, inner, last)], dim)
        result.append(torch.where(open_faces(problem, axis), face, 0.0))
    return tuple(result)


def _equal(known: Tensor, given: Tensor) -> bool:
    """Return whether a field (1 or b, ...) has the values of another field and needs no gradient."""
    return not known.requires_grad and len(known) <= len(given) and bool((known == given).all())


def _with_prescribed_end(problem: Diffusion, axis: int, end: int, face: Tensor) -> Tensor:
    """Replace the flux through the faces of a side on which the boundary condition prescribes it."""
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
    """Return the mask of the faces that no solid touches, shape (b, n + 1 along the axis)."""
    dim, fluid = 1 + axis, problem.fluid
    n = fluid.shape[dim]
    first, last = fluid.narrow(dim, 0, 1), fluid.narrow(dim, n - 1, 1)
    before, after = (last, first) if problem.periodic[axis] else (first, last)
    return torch.cat([before, fluid], dim) & torch.cat([fluid, after], dim)
