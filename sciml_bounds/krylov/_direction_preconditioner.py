"""Direction networks as preconditioners of flexible conjugate gradients, on the lattice of an operator."""

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

#: Number of residuals per forward pass of a network.
PREDICT_BATCH_SIZE = 16

#: On the CPU, torch uses a slow algorithm to convolve 16 channels of a single sample if the first two axes together
#: have at most this number of points.
SLOW_CONVOLUTION_POINTS = 20480 // 16


class DirectionModel(Protocol):
    """Interface of direction networks such as `LearnedDirections`."""

    network: Any
    dim: int
    in_channels: int

    def parameters(self) -> Iterator[Parameter]:
        """Iterate over the parameters."""

    def kernels(self, geometry: Tensor) -> Any:
        """Return the geometry-dependent kernels, computed once for all residuals."""

    def along(self, r: Tensor, kernels: Any) -> Tensor:
        """Return directions for residuals (b, *space)."""


@dataclass(frozen=True)
class _VectorLattice:
    """The lattice on which the vectors of a linear system are defined.

    Attributes
    ----------
    space : tuple of int
        Points along each axis.
    geometry : Tensor
        SOLID, FLUID or AIR at each point, shape (1 or b, *space).
    centre : callable
        Projection of fields (b, *space) onto the range of the operator, which removes their part in the null space.
    mirrors : tuple of (int, int)
        The open sides across which residuals are mirrored: the axis, counted from the last, and its end, 0 or 1.
    dtype, device : torch.dtype, torch.device
        Precision and device of the vectors.
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
    """Return a direction network as preconditioner of flexible conjugate gradients.

    Parameters
    ----------
    model : DirectionModel
        The network, with its current weights.
    problem : Diffusion, Solver, LatticeOperator, LatticeSystem or sequence of int
        Defines the lattice of the vectors: a `Diffusion` problem or a `Solver` prepared for it (the lattice of nodes),
        a `LatticeOperator` or its system (see `Smoke.pressure_systems`), or the number of points along each axis (for
        vectors in float64, last axis fastest).
    geometry : array or Tensor, shape (batch..., *space), optional
        Type of each point: 0 solid, 1 fluid, 2 air, where zero is prescribed. The default is the geometry of the
        problem. For a `LatticeOperator`, the default has solids at points without neighbours; for a sequence of int,
        all points are fluid. Directions are zero outside the fluid.
    published : bool
        If True, search along the network's direction and the last two directions only, as in the paper. By default the
        residual is a search direction too; without it, a network that does not suit the problem can be slower than
        steepest descent, or fail.

    Returns
    -------
    DirectionPreconditioner
        Preconditioner for `sb.cg(solver.operator, solver.rhs, M=...)`.

    Raises
    ------
    InputError
        If the network has another number of axes than the lattice or is on another device than the problem, or if the
        geometry has the wrong shape or values other than 0, 1 and 2.

    Notes
    -----
    A network knows the boundary only from the lattice points, and treats the ends of the lattice as walls, as in the
    training data `ritz-poisson-2d` and `-3d`. It recognises an open side that consists of lattice points: nodes with a
    prescribed value, or a layer of air in `geometry`. The open sides of a `LatticeOperator` have no lattice points;
    they only add to the diagonal. To make them visible (which the published networks do not do), the residual is
    continued with opposite sign into a mirror image of the box behind the open side, and this larger box is surrounded
    by walls. Mirroring doubles the work for each axis with an open side. If both sides of an axis are open, only the
    last one is mirrored.

    On floating components of the fluid, where the solution is determined up to a constant, the mean of each direction
    is subtracted. This is not done if `problem` is a sequence of int.

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
    lattice = _vector_lattice(problem, weight.device)
    if len(lattice.space) == 1:
        raise InputError(
            f"direction networks need two or three axes, but the vectors lie on a line of {lattice.space[0]} points; "
            "use M from sb.prepare(problem, method='multigrid').as_preconditioner()."
        )
    if len(lattice.space) != model.dim:
        raise InputError(
            f"the network is for {model.dim} axes, but the vectors lie on a lattice of {_shape(lattice.space)} points; "
            f"use weights for {len(lattice.space)} axes."
        )
    if weight.device != lattice.device:
        raise InputError(
            f"the weights of the network are on {weight.device}, but the problem is on {lattice.device}; move the "
            f"network to {lattice.device} with its method to()."
        )
    checked = lattice.geometry if geometry is None else _checked_geometry(geometry, lattice)
    return DirectionPreconditioner(model, lattice, checked, published=published)


def cycle_preconditioner(model: DirectionModel, problem: Any, *, geometry: Any, published: bool) -> Cycle:
    """Return a learned cycle as preconditioner of a problem, a `Solver`, a lattice operator or its system.

    Raises
    ------
    InputError
        If `geometry` or `published` is given, the problem has no operator, or `LearnedCycle.as_cycle` does not support
        it.
    """
    if geometry is not None or published:
        raise InputError(
            "a learned cycle is built from the operator of the problem; leave out the arguments geometry and published."
        )
    problem = getattr(problem, "problem", problem)
    if isinstance(problem, Diffusion):
        problem = node_system(problem.detach()).operator
    if isinstance(problem, LatticeSystem):
        problem = problem.operator
    if not isinstance(problem, LatticeOperator):
        raise InputError(
            f"a learned cycle needs an operator, but a {type(problem).__name__} has none; give a Diffusion problem, a "
            "Solver, a LatticeOperator or its system."
        )
    cycle: Cycle = model.network.as_cycle(problem)
    return cycle


class DirectionPreconditioner(LinearOperator):
    """Linear operator interface of a direction network: the map from residuals to directions.

    Residuals are scaled to norm one before the network is evaluated, and directions are scaled back. So the map is
    homogeneous of degree one, up to rounding.
    """

    symmetric = None
    linear = None

    def __init__(self, model: DirectionModel, lattice: _VectorLattice, geometry: Tensor, *, published: bool) -> None:
        self.model, self.safeguard = model, not published
        self._lattice = lattice
        self._free = geometry == FLUID
        self._weight = next(model.parameters())
        with torch.no_grad():
            wide = _with_images(geometry, lattice.mirrors, 1.0)
            self._kernels = model.kernels(wide) if model.in_channels == 2 else None
        n = math.prod(lattice.space)
        self.shape, self.dtype, self.device = (n, n), lattice.dtype, lattice.device

    @property
    def batch(self) -> int:
        """Number of geometries: 1, or the number of samples."""
        return len(self._free)

    def matvec(self, x: Tensor) -> Tensor:
        """Apply to residuals `(..., n)`; the result is zero for residuals that are not finite."""
        self._check_batch(x)
        rows = x.reshape(-1, self.shape[0])
        with torch.no_grad():
            size = _norms(rows)
            usable = (size > 0) & (size < torch.inf)
            unit = torch.where(usable, rows / torch.where(usable, size, 1.0), 0.0)
            field = self._directions(unit.view(-1, 1, *self._lattice.space).to(self._weight.dtype))
            directions = torch.where(self._free, field.squeeze(1).to(rows.dtype), 0.0)
            directions = torch.where(usable, size, 0.0) * self._lattice.centre(directions).flatten(1)
        return directions.view(x.shape)

    def _directions(self, r: Tensor) -> Tensor:
        wide = _with_images(r, self._lattice.mirrors, -1.0) * 0.5 ** (0.5 * len(self._lattice.mirrors))  # norm one
        if self.batch > 1:
            return _odd_part(self.model.along(wide, self._kernels), self._lattice.mirrors)
        parts = [
            self.model.along(_repeated_if_slow(part), self._kernels)[: len(part)]
            for part in wide.split(PREDICT_BATCH_SIZE)
        ]
        return _odd_part(torch.cat(parts), self._lattice.mirrors)


def _repeated_if_slow(r: Tensor) -> Tensor:
    """Repeat a small single sample: torch convolves it two to four times as slowly as a batch of two."""
    slow = len(r) == 1 and r.device.type == "cpu" and r.shape[2] * r.shape[3] <= SLOW_CONVOLUTION_POINTS
    return r.expand(2, *r.shape[1:]) if slow else r


def _with_images(field: Tensor, mirrors: Sequence[tuple[int, int]], sign: float) -> Tensor:
    """Append mirror images of fields behind open sides, multiplied by `sign`."""
    for axis, end in mirrors:
        image = sign * field.flip(axis)
        field = torch.cat([field, image] if end else [image, field], axis)
    return field


def _odd_part(field: Tensor, mirrors: Sequence[tuple[int, int]]) -> Tensor:
    """Invert `_with_images` with sign -1 by taking the odd part, in which an undetermined constant cancels."""
    for axis, end in reversed(mirrors):
        first, second = field.chunk(2, axis)
        field = first - second.flip(axis) if end else second - first.flip(axis)
    return field


def _norms(x: Tensor) -> Tensor:
    """Return the norms of rows, shape (b, 1), without overflow or underflow of squares."""
    largest = x.abs().amax(1, keepdim=True)
    scale = torch.where(largest > 0, largest, 1.0)
    norms: Tensor = scale * (x / scale).norm(dim=1, keepdim=True)
    return norms


def _vector_lattice(problem: Any, device: torch.device) -> _VectorLattice:
    problem = getattr(problem, "problem", problem)
    if isinstance(problem, Diffusion):
        return _nodes(problem.detach())
    if isinstance(problem, LatticeSystem):
        return _lattice(problem.operator, problem.components)
    if isinstance(problem, LatticeOperator):
        return _lattice(problem, problem.floating())
    if isinstance(problem, Sequence) and problem and all(isinstance(n, Integral) and int(n) > 0 for n in problem):
        space = tuple(int(n) for n in problem)
        require_memory(8 * math.prod(space), f"a geometry of {_shape(space)} points")
        geometry = torch.full((1, *space), FLUID, device=device)
        return _VectorLattice(space, geometry, lambda field: field, torch.float64, device)
    raise InputError(
        f"a {type(problem).__name__} does not define the lattice of the residuals; give a Diffusion problem, a Solver, "
        "a LatticeOperator or its system, or the number of points along each axis."
    )


@torch.no_grad()
def _nodes(problem: Diffusion) -> _VectorLattice:
    """Return the lattice of the nodes of a problem: air at Dirichlet nodes, solid at nodes that touch no fluid."""
    system = node_system(problem)
    active, dirichlet = torch.broadcast_tensors(problem.active_nodes, problem.dirichlet_nodes)
    geometry = torch.where(dirichlet, AIR, torch.where(active, FLUID, SOLID))

    def centre(field: Tensor) -> Tensor:
        return system.fix_mean(field.reshape(-1, *system.operator.lattice)).view(field.shape)

    return _VectorLattice(problem.node_shape, geometry, centre, problem.dtype, problem.device)


@torch.no_grad()
def _lattice(operator: LatticeOperator, floating: Tensor | None) -> _VectorLattice:
    """Return the lattice of an operator: points without neighbours are solid, others fluid."""
    space = operator.lattice
    while len(space) > 1 and space[0] == 1:  # lower dimensions have leading axes of length one
        space = space[1:]
    coupled = (operator.diagonal() > operator.absorption).view(-1, *space)
    ones = torch.ones_like(operator.absorption)

    def centre(field: Tensor) -> Tensor:
        if floating is None:
            return field
        return subtract_means(field.reshape(-1, *operator.lattice), floating, ones).view(field.shape)

    mirrors = _open_sides(operator.absorption.view(coupled.shape), coupled)
    return _VectorLattice(space, torch.where(coupled, FLUID, SOLID), centre, operator.dtype, operator.device, mirrors)


def _open_sides(absorption: Tensor, coupled: Tensor) -> tuple[tuple[int, int], ...]:
    """Return at most one side per axis whose points all have more absorption than their inner neighbours."""
    sides: dict[int, int] = {}
    for axis in range(1 - coupled.ndim, 0):
        for end, (outer, inner) in enumerate(((0, 1), (-1, -2))):
            pairs = coupled.select(axis, outer) & coupled.select(axis, inner)
            more = absorption.select(axis, outer) > absorption.select(axis, inner)
            if bool(pairs.any()) and bool(more[pairs].all()):
                sides[axis] = end
    return tuple(sides.items())


def _checked_geometry(geometry: Any, lattice: _VectorLattice) -> Tensor:
    try:
        found = torch.as_tensor(geometry)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            f"the geometry is a {type(geometry).__name__} that cannot be converted to an array; give one number per "
            "point."
        ) from None
    if tuple(found.shape[-len(lattice.space) :]) != lattice.space or found.ndim < len(lattice.space):
        raise InputError(
            f"the geometry has shape {tuple(found.shape)}, but the vectors lie on a lattice of {_shape(lattice.space)} "
            "points; give one number per point."
        )
    if found.dtype == torch.bool or found.is_complex():
        dtype = str(found.dtype).removeprefix("torch.")
        raise InputError(f"the geometry has dtype {dtype}; give numbers: 0 (solid), 1 (fluid) or 2 (air).")
    points = found.to(lattice.device).reshape(-1, *lattice.space)
    check_geometry(points)
    return points


def _shape(space: Sequence[int]) -> str:
    return "x".join(map(str, space))
