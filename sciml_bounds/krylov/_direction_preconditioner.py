"""A network of directions as the preconditioner of flexible conjugate gradients, on the lattice of an operator."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import Parameter

from sciml_bounds.errors import InputError
from sciml_bounds.krylov._multigrid_shaped import AIR, FLUID, SOLID, check_geometry
from sciml_bounds.memory import require_memory
from sciml_bounds.multigrid._cycle import Cycle
from sciml_bounds.operators._lattice_operator import LatticeOperator, LatticeSystem, subtract_means
from sciml_bounds.operators._linear_operator import LinearOperator
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.discretization import node_system

__all__ = ["DirectionPreconditioner", "cycle_preconditioner", "direction_preconditioner"]

#: Residuals that go through a network at once.
TOGETHER = 16

#: Points of the first two axes up to which torch convolves 16 channels of a sample alone on a CPU by a slow path.
ALONE = 20480 // 16


class DirectionModel(Protocol):
    """A network of directions, as `LearnedDirections`."""

    network: Any
    dim: int
    in_channels: int

    def parameters(self) -> Iterator[Parameter]:
        """Walk through the parameters."""

    def kernels(self, geometry: Tensor) -> Any:
        """Return what the network needs of the geometry, once for all residuals."""

    def along(self, r: Tensor, kernels: Any) -> Tensor:
        """Return a direction for residuals (b, *space)."""


@dataclass(frozen=True)
class _Place:
    """The lattice of the vectors.

    Attributes
    ----------
    space
        Points along each axis.
    geometry
        What each point is, (1 or b, *space): SOLID, FLUID or AIR.
    centre
        Takes from fields (b, *space) what lies in the null space of the operator.
    mirrors
        Axis (from the end) and end (0 or 1) of the open sides across which residuals are continued.
    dtype, device
        Of the vectors.
    """

    space: tuple[int, ...]
    geometry: Tensor
    centre: Callable[[Tensor], Tensor]
    dtype: torch.dtype
    device: torch.device
    mirrors: tuple[tuple[int, int], ...] = ()


def direction_preconditioner(
    model: DirectionModel, problem: Any, *, geometry: Any = None, published: bool = False
) -> DirectionPreconditioner:
    """Make a network of directions a preconditioner.

    Parameters
    ----------
    model
        The network, in its present weights.
    problem
        Where the vectors lie: a `Diffusion` problem or a `Solver` that was prepared for one (its nodes), a
        `LatticeOperator` or its system (as `Smoke.pressure_systems` gives it), or the number of points along each axis
        (of vectors in float64, last axis fastest).
    geometry
        What each point is, shape (batch..., *space): 0 solid, 1 fluid, 2 air, where zero is prescribed. By default as
        the problem says; of a `LatticeOperator` the points without a neighbour are solid, and of a tuple none is.
        Directions are zero where there is no fluid.
    published
        Search along the network's direction and the last two alone, as published, and not along the residual too. Then
        a network that is not for the problem can be slower than steepest descent, or fail.

    Returns
    -------
    DirectionPreconditioner
        For `sb.cg(solver.operator, solver.rhs, M=...)`.

    Raises
    ------
    InputError
        If the network is for another number of axes or on another device, or the geometry has another shape or other
        numbers.

    Notes
    -----
    A network sees what lies on the lattice. Beyond its ends there is nothing, as in the data sets `ritz-poisson-2d` and
    `-3d`, where that is a wall: open sides are seen where they are points of the lattice (nodes with a prescribed
    value, or a layer of air in `geometry`). Open sides of a `LatticeOperator`, which only add to the diagonal of their
    points, are made visible by images, in networks of either kind and other than published: the residual is continued
    with the opposite sign into a mirrored box behind the side, where walls are all around again. That doubles the work
    for each axis with an open side; of two open sides of one axis only the last is seen.

    Where nothing fixes the level of a part of the fluid, the mean of directions is taken off there, for each part by
    itself. Of a tuple nothing is known of that.

    Examples
    --------
    >>> import torch, sciml_bounds as sb
    >>> _ = torch.manual_seed(0)
    >>> solver = sb.prepare(sb.Diffusion(sb.Grid((16, 16)), source=1.0))
    >>> M = sb.LearnedDirections.published("dcdm-64", dim=2).as_preconditioner(solver)
    >>> bool(sb.cg(solver.operator, solver.rhs[0], M=M).converged)  # the weights are random
    True
    """
    weight = next(model.parameters())
    place = _find_place(problem, weight.device)
    if len(place.space) == 1:
        raise InputError(
            f"networks of directions are for two and three axes, and the vectors lie on a line of {place.space[0]} "
            "points; take M from sb.prepare(problem, method='multigrid').as_preconditioner()."
        )
    if len(place.space) != model.dim:
        raise InputError(
            f"the network is for {model.dim} axes, and the vectors lie on a lattice of {_times(place.space)}; use "
            f"weights for {len(place.space)} axes."
        )
    if weight.device != place.device:
        raise InputError(f"the weights are on {weight.device} and the problem on {place.device}; move one of them.")
    known = place.geometry if geometry is None else _checked_geometry(geometry, place)
    return DirectionPreconditioner(model, place, known, published=published)


def cycle_preconditioner(model: DirectionModel, problem: Any, *, geometry: Any, published: bool) -> Cycle:
    """Make a learned cycle the preconditioner of a problem, a `Solver`, a lattice operator or its system.

    Raises
    ------
    InputError
        If a geometry is given, the problem has no operator, or there is no cycle for it (`LearnedCycle.as_cycle`).
    """
    if geometry is not None or published:
        raise InputError("a learned cycle sees the operator of the problem; leave out geometry and published.")
    problem = getattr(problem, "problem", problem)
    if isinstance(problem, Diffusion):
        problem = node_system(problem.detach()).operator
    if isinstance(problem, LatticeSystem):
        problem = problem.operator
    if not isinstance(problem, LatticeOperator):
        raise InputError(
            f"a learned cycle is made for an operator, which a {type(problem).__name__} has not; give a Diffusion "
            "problem, a Solver, a LatticeOperator or its system."
        )
    cycle: Cycle = model.network.as_cycle(problem)
    return cycle


class DirectionPreconditioner(LinearOperator):
    """From residuals to the directions of a network, which sees them scaled to a norm of one.

    What the network gives is scaled back, so that the map is in proportion to its argument as far as rounding goes.
    """

    symmetric = None
    linear = None

    def __init__(self, model: DirectionModel, place: _Place, geometry: Tensor, *, published: bool) -> None:
        self.model, self.safeguard = model, not published
        self._place = place
        self._free = geometry == FLUID
        self._weight = next(model.parameters())
        with torch.no_grad():
            wide = _continued(geometry, place.mirrors, 1.0)
            self._kernels = model.kernels(wide) if model.in_channels == 2 else None
        n = math.prod(place.space)
        self.shape, self.dtype, self.device = (n, n), place.dtype, place.device

    @property
    def batch(self) -> int:
        """Number of geometries: 1, or the number of samples."""
        return len(self._free)

    def matvec(self, x: Tensor) -> Tensor:
        """Apply to residuals `(..., n)`; those that are not finite give zeros."""
        self._check_batch(x)
        given = x.reshape(-1, self.shape[0])
        with torch.no_grad():
            size = _norms(given)
            seen = (size > 0) & (size < torch.inf)
            unit = torch.where(seen, given / torch.where(seen, size, 1.0), 0.0)
            field = self._directions(unit.view(-1, 1, *self._place.space).to(self._weight.dtype))
            found = torch.where(self._free, field.squeeze(1).to(given.dtype), 0.0)
            found = torch.where(seen, size, 0.0) * self._place.centre(found).flatten(1)
        return found.view(x.shape)

    def _directions(self, r: Tensor) -> Tensor:
        wide = _continued(r, self._place.mirrors, -1.0) * 0.5 ** (0.5 * len(self._place.mirrors))  # of norm one again
        if self.batch > 1:
            return _folded(self.model.along(wide, self._kernels), self._place.mirrors)
        parts = [self.model.along(_fast(part), self._kernels)[: len(part)] for part in wide.split(TOGETHER)]
        return _folded(torch.cat(parts), self._place.mirrors)


def _fast(r: Tensor) -> Tensor:
    """Repeat a small sample that is alone: torch convolves it two to four times as slowly as two of them."""
    slow = len(r) == 1 and r.device.type == "cpu" and r.shape[2] * r.shape[3] <= ALONE
    return r.expand(2, *r.shape[1:]) if slow else r


def _continued(field: Tensor, mirrors: Sequence[tuple[int, int]], sign: float) -> Tensor:
    """Put images of fields behind open sides."""
    for axis, end in mirrors:
        image = sign * field.flip(axis)
        field = torch.cat([field, image] if end else [image, field], axis)
    return field


def _folded(field: Tensor, mirrors: Sequence[tuple[int, int]]) -> Tensor:
    """Take back `_continued` of opposite sign, and drop what is not odd: above all the constant, which is free."""
    for axis, end in reversed(mirrors):
        first, second = field.chunk(2, axis)
        field = first - second.flip(axis) if end else second - first.flip(axis)
    return field


def _norms(x: Tensor) -> Tensor:
    """Norms of rows, shape (b, 1), whose squares may be too small or too large for their dtype."""
    largest = x.abs().amax(1, keepdim=True)
    scale = torch.where(largest > 0, largest, 1.0)
    norms: Tensor = scale * (x / scale).norm(dim=1, keepdim=True)
    return norms


def _find_place(problem: Any, device: torch.device) -> _Place:
    problem = getattr(problem, "problem", problem)
    if isinstance(problem, Diffusion):
        return _nodes(problem.detach())
    if isinstance(problem, LatticeSystem):
        return _lattice(problem.operator, problem.components)
    if isinstance(problem, LatticeOperator):
        return _lattice(problem, problem.floating())
    if isinstance(problem, Sequence) and problem and all(isinstance(n, Integral) and int(n) > 0 for n in problem):
        space = tuple(int(n) for n in problem)
        require_memory(8 * math.prod(space), f"a geometry of {_times(space)} points")
        geometry = torch.full((1, *space), FLUID, device=device)
        return _Place(space, geometry, lambda field: field, torch.float64, device)
    raise InputError(
        f"a {type(problem).__name__} does not tell where the residuals lie; give a Diffusion problem, a Solver, a "
        "LatticeOperator or its system, or the number of points along each axis."
    )


@torch.no_grad()
def _nodes(problem: Diffusion) -> _Place:
    """Take the nodes of a problem: air where a value is prescribed, and solid where they touch no fluid."""
    system = node_system(problem)
    active, held = torch.broadcast_tensors(problem.active_nodes, problem.dirichlet_nodes)
    geometry = torch.where(held, AIR, torch.where(active, FLUID, SOLID))

    def centre(field: Tensor) -> Tensor:
        return system.fix_mean(field.reshape(-1, *system.operator.lattice)).view(field.shape)

    return _Place(problem.node_shape, geometry, centre, problem.dtype, problem.device)


@torch.no_grad()
def _lattice(operator: LatticeOperator, floating: Tensor | None) -> _Place:
    """Take the points of an operator: solid where they have no neighbour, and fluid elsewhere."""
    space = operator.lattice
    while len(space) > 1 and space[0] == 1:  # lower dimensions are padded in front
        space = space[1:]
    coupled = (operator.diagonal() > operator.absorption).view(-1, *space)
    ones = torch.ones_like(operator.absorption)

    def centre(field: Tensor) -> Tensor:
        if floating is None:
            return field
        return subtract_means(field.reshape(-1, *operator.lattice), floating, ones).view(field.shape)

    mirrors = _open_sides(operator.absorption.view(coupled.shape), coupled)
    return _Place(space, torch.where(coupled, FLUID, SOLID), centre, operator.dtype, operator.device, mirrors)


def _open_sides(absorption: Tensor, coupled: Tensor) -> tuple[tuple[int, int], ...]:
    """Find one side of each axis at most whose points all have more absorption than those next to them inside."""
    sides: dict[int, int] = {}
    for axis in range(1 - coupled.ndim, 0):
        for end, (outer, inner) in enumerate(((0, 1), (-1, -2))):
            pairs = coupled.select(axis, outer) & coupled.select(axis, inner)
            more = absorption.select(axis, outer) > absorption.select(axis, inner)
            if bool(pairs.any()) and bool(more[pairs].all()):
                sides[axis] = end
    return tuple(sides.items())


def _checked_geometry(geometry: Any, place: _Place) -> Tensor:
    try:
        found = torch.as_tensor(geometry)
    except (TypeError, ValueError, RuntimeError):
        raise InputError("the geometry cannot be read as an array; give one number for each point.") from None
    if tuple(found.shape[-len(place.space) :]) != place.space or found.ndim < len(place.space):
        raise InputError(
            f"the geometry has shape {tuple(found.shape)}, and the vectors lie on a lattice of {_times(place.space)}; "
            "give one number for each point."
        )
    if found.dtype == torch.bool or found.is_complex():
        dtype = str(found.dtype).removeprefix("torch.")
        raise InputError(f"the geometry has dtype {dtype}; give numbers, 0 (solid), 1 (fluid) or 2 (air).")
    known = found.to(place.device).reshape(-1, *place.space)
    check_geometry(known)
    return known


def _times(space: Sequence[int]) -> str:
    return "x".join(map(str, space))
