"""The diffusion problem -div(a grad u) + c u = f on a box of cells."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sciml_bounds.arrays import Field, check_device, common_dtype_and_device, convert
from sciml_bounds.errors import InputError
from sciml_bounds.grid import AXES, Boundary, Dirichlet, Grid, Neumann, Robin, side_axis
from sciml_bounds.problems.components import Components, balanced_source, check_balance, find_components
from sciml_bounds.problems.fields import (
    cell_field,
    convert_sides,
    named_sides,
    node_shape,
    require_sizes,
    side_values,
    solid_field,
    unbatched_shape,
)
from sciml_bounds.problems.refinement import refine_problem
from sciml_bounds.problems.transfers import sum_to_nodes
from sciml_bounds.store.memory import require_memory

__all__ = ["Diffusion"]

_ZERO = Dirichlet(0.0)


class Diffusion:
    """-div(a grad u) + c u = f on a grid, with a condition on every side.

    Coefficient, source and reaction are constant on each cell; that is the problem which is solved and certified. Any
    leading axes are a batch, and the batches of all fields broadcast.

    Parameters
    ----------
    grid
        The box of cells.
    coefficient
        a > 0, shape (batch..., n), or a tuple of such fields, one an axis (diagonal coefficient).
    source
        f, shape (batch..., n).
    boundary
        One condition for all sides, or a dict from every side name (`x0`, `x1`, `y0`, ...) to its condition. Neumann
        and Robin data are constant on each face; Dirichlet data are nodal and mean their multilinear interpolant.
    reaction
        c >= 0, shape (batch..., n).
    solid
        Boolean, shape (batch..., n): cells that are no part of the domain; their faces are walls (zero flux).

    Attributes
    ----------
    coefficient
        Tuple of tensors, one an axis (the same tensor for a scalar coefficient).
    batch_shape
        The broadcast batch shape of all fields.
    node_shape
        Shape of a node field without batch: n + 1 along an axis, n along a periodic one.

    Raises
    ------
    InputError
        If data are not finite, have wrong shapes or dtypes, lie on different devices, contradict each other at a
        corner, or leave a part of the domain without a solution (incompatible pure Neumann or periodic data).

    Notes
    -----
    Every field may also be given as a callable of the coordinates, sampled at cell centres (at the nodes of the side
    for Dirichlet data, at face centres for Neumann and Robin data), or as an `sb.BarronFunction` or network. Gradients
    flow into fields that require them.

    Examples
    --------
    >>> import sciml_bounds as sb
    >>> problem = sb.Diffusion(sb.Grid((8, 8)), coefficient=lambda x, y: 1 + x, source=1.0)
    >>> problem.node_shape
    (9, 9)
    """

    def __init__(
        self,
        grid: Grid,
        coefficient: Field | tuple[Field, ...] = 1.0,
        source: Field = 0.0,
        *,
        boundary: Boundary | Mapping[str, Boundary] = _ZERO,
        reaction: Field = 0.0,
        solid: Any = None,
    ) -> None:
        self.grid = _require_grid(grid)
        boundary = dict(boundary) if isinstance(boundary, Mapping) else boundary
        parts = _coefficient_parts(coefficient, grid)
        named = [(name, value) for name, value in parts]
        named += [("source", source), ("reaction", reaction), *side_values(named_sides(boundary, grid))]
        self.dtype, self.device = common_dtype_and_device(named)
        size = self.dtype.itemsize * math.prod(n + 1 for n in grid.shape)
        require_memory(size, f"one field on a grid of {'x'.join(map(str, grid.shape))} cells")
        self.solid = solid_field(solid, grid, self.dtype, self.device)
        self.coefficient = tuple(self._positive(value, name) for name, value in parts)
        if len(self.coefficient) == 1:
            self.coefficient = self.coefficient * grid.dim
        self.source = cell_field(source, "source", grid, self.dtype, self.device)
        self.reaction = cell_field(reaction, "reaction", grid, self.dtype, self.device)
        if bool((self.reaction < 0).any()):
            raise InputError(
                f"reaction is negative ({self.reaction.detach().min():g}); -div(a grad u) + c u = f needs c >= 0."
            )
        self.boundary, self.periodic = convert_sides(boundary, grid, self.dtype, self.device)
        self.node_shape = node_shape(grid, self.periodic)
        self.batch_shape = self._broadcast_batches()
        self._check_corners()
        check_balance(self)

    def replace(self, **changes: Any) -> Diffusion:
        """Return the problem with some of its fields given anew (`coefficient=`, `source=`, `boundary=`, ...)."""
        fields = {
            "coefficient": self.coefficient[0] if self.has_scalar_coefficient else self.coefficient,
            "source": self.source,
            "boundary": self.boundary,
            "reaction": self.reaction,
            "solid": self.solid,
        }
        unknown = set(changes) - set(fields)
        if unknown:
            raise InputError(
                f"a diffusion problem has no field {sorted(unknown)[0]!r}; its fields are {', '.join(fields)}."
            )
        return Diffusion(self.grid, **{**fields, **changes})

    def to(self, target: torch.dtype | torch.device | str) -> Diffusion:
        """Return the problem with all fields in another floating-point dtype, or on another device.

        Sources that balance up to the round-off of a narrower dtype are balanced anew in a wider one.
        """
        return self._to_dtype(target) if isinstance(target, torch.dtype) else self._to_device(check_device(target))

    def _to_device(self, device: torch.device) -> Diffusion:
        if device == self.device:
            return self
        parts = tuple(part.to(device) for part in self.coefficient)
        return self.replace(
            coefficient=parts[0] if self.has_scalar_coefficient else parts,
            source=self.source.to(device),
            boundary={side: _map_data(c, lambda data: data.to(device)) for side, c in self.boundary.items()},
            reaction=self.reaction.to(device),
            solid=None if self.solid is None else self.solid.to(device),
        )

    def _to_dtype(self, dtype: torch.dtype) -> Diffusion:
        if dtype not in (torch.float32, torch.float64):
            raise InputError(f"a problem cannot be in {dtype!r}; give torch.float32 or torch.float64.")
        if dtype == self.dtype:
            return self
        parts = tuple(part.to(dtype) for part in self.coefficient)
        return self.replace(
            coefficient=parts[0] if self.has_scalar_coefficient else parts,
            source=balanced_source(self, dtype),
            boundary={side: _map_data(c, lambda data: data.to(dtype)) for side, c in self.boundary.items()},
            reaction=self.reaction.to(dtype),
        )

    def detach(self) -> Diffusion:
        """Return the problem without the gradient history of its fields."""
        known = copy.copy(self)
        known.coefficient = (
            (self.coefficient[0].detach(),) * self.grid.dim
            if self.has_scalar_coefficient
            else tuple(part.detach() for part in self.coefficient)
        )
        known.source, known.reaction = self.source.detach(), self.reaction.detach()
        known.boundary = {side: _map_data(condition, Tensor.detach) for side, condition in self.boundary.items()}
        return known

    def broadcast(self, batch_shape: torch.Size) -> Diffusion:
        """Return the problem with a larger batch, to which its own broadcasts."""
        if batch_shape == self.batch_shape:
            return self
        wider = copy.copy(self)
        for name in _CACHED:
            wider.__dict__.pop(name, None)
        wider.batch_shape = torch.broadcast_shapes(batch_shape, self.batch_shape)
        return wider

    @property
    def has_scalar_coefficient(self) -> bool:
        """Whether one field serves all axes."""
        return all(part is self.coefficient[0] for part in self.coefficient)

    def __repr__(self) -> str:
        sides = ", ".join(f"{side}: {type(c).__name__}" for side, c in self.boundary.items())
        batch = f", batch {tuple(self.batch_shape)}" if self.batch_shape else ""
        cells = "x".join(map(str, self.grid.shape))
        return f"Diffusion({cells} cells{batch}, {str(self.dtype).removeprefix('torch.')}; {sides})"

    # --- checks -------------------------------------------------------------------------------------------------------

    def _positive(self, value: Any, name: str) -> Tensor:
        field = cell_field(value, name, self.grid, self.dtype, self.device)
        bad = field.detach() <= 0
        if self.solid is not None:
            bad = bad & ~self.solid
        if bool(bad.any()):
            where, count = tuple(int(i) for i in torch.nonzero(bad)[0]), int(bad.sum())
            found = "1 cell is zero or negative," if count == 1 else f"{count} cells are zero or negative, the first"
            raise InputError(f"{name} must be positive; {found} at index {where}.")
        fluid = field if self.solid is None else torch.where(self.solid, 1.0, field)
        require_sizes(fluid.detach().amin(), f"the smallest {name}")
        return field

    def _broadcast_batches(self) -> torch.Size:
        dim = self.grid.dim
        fields = {"coefficient": self.coefficient[0], "source": self.source, "reaction": self.reaction}
        if not self.has_scalar_coefficient:
            fields |= {f"coefficient along {AXES[a]}": self.coefficient[a] for a in range(1, dim)}
        batches = {name: tensor.shape[: tensor.ndim - dim] for name, tensor in fields.items()}
        if self.solid is not None:
            batches["solid"] = self.solid.shape[: self.solid.ndim - dim]
        for side, condition in self.boundary.items():
            size = len(unbatched_shape(side, condition, self.grid, self.periodic))
            for name, value in side_values({side: condition}):
                batches[name] = value.shape[: value.ndim - size]
        try:
            batch: torch.Size = torch.broadcast_shapes(*batches.values())
        except RuntimeError:
            listing = ", ".join(f"{name} {tuple(shape)}" for name, shape in batches.items() if shape)
            raise InputError(f"the batch axes of the fields do not broadcast: {listing}.") from None
        return batch

    def _check_corners(self) -> None:
        """Refuse Dirichlet data that differ at a node which two sides share."""
        scale = max(
            [float(c.value.detach().abs().max()) for c in self.boundary.values() if isinstance(c, Dirichlet)],
            default=0.0,
        )
        slack = 1e3 * torch.finfo(self.dtype).eps * scale
        names = [side for side, c in self.boundary.items() if isinstance(c, Dirichlet)]
        for i, first in enumerate(names):
            for second in names[i + 1 :]:
                (axis, end), (other, other_end) = side_axis(first), side_axis(second)
                if axis == other:
                    continue
                ours = self._side_at(first, other, other_end)
                theirs = self._side_at(second, axis, end)
                gap = float((ours - theirs).detach().abs().max())
                if gap > slack:
                    raise InputError(
                        f"the Dirichlet values on {first} and {second} differ by {gap:g} where the two sides meet; a "
                        "solution of finite energy needs continuous data, so let one of them go over to the other's "
                        "value at its last nodes."
                    )

    def _side_at(self, side: str, axis: int, end: int) -> Tensor:
        """Dirichlet values of one side along its edge with the side at the given end of another axis."""
        own, _ = side_axis(side)
        position = axis - (axis > own)
        condition = self.boundary[side]
        assert isinstance(condition, Dirichlet)
        value: Tensor = condition.value
        dim = value.ndim - (self.grid.dim - 1) + position
        return value.select(dim, -1 if end else 0)

    # --- geometry -----------------------------------------------------------------------------------------------------

    def samples(self, field: Tensor, space_axes: int | None = None) -> Tensor:
        """Flatten the batch of a field: (batch..., space) becomes (b, space), with b = 1 for a field without batch."""
        axes = self.grid.dim if space_axes is None else space_axes
        space = field.shape[field.ndim - axes :]
        if field.ndim == axes:
            return field.unsqueeze(0)
        return field.expand(*self.batch_shape, *space).reshape(-1, *space)

    @cached_property
    def fluid(self) -> Tensor:
        """The cells that belong to the domain: boolean, shape (b, n)."""
        if self.solid is None:
            return torch.ones((1, *self.grid.shape), dtype=torch.bool, device=self.device)
        return self.samples(~self.solid)

    @cached_property
    def components(self) -> Components:
        """The face-connected components of the fluid, and which of them nothing holds."""
        return find_components(self)

    @cached_property
    def active_nodes(self) -> Tensor:
        """The nodes that touch a fluid cell: boolean, shape (b, node_shape)."""
        if self.solid is None:
            return torch.ones((1, *self.node_shape), dtype=torch.bool, device=self.device)
        return sum_to_nodes(self.fluid.to(self.dtype), self.periodic) > 0

    @cached_property
    def dirichlet_nodes(self) -> Tensor:
        """The nodes with a prescribed value: boolean, shape (b, node_shape)."""
        mask = torch.zeros(self.node_shape, dtype=torch.bool, device=self.device)
        for side, condition in self.boundary.items():
            if isinstance(condition, Dirichlet):
                axis, end = side_axis(side)
                mask.select(axis, -end).fill_(True)
        return mask & self.active_nodes

    @property
    def dirichlet_values(self) -> Tensor:
        """The prescribed values at their nodes and zero elsewhere, shape (b, node_shape).

        Put together anew each time, so that every solve has a gradient history of its own.
        """
        from sciml_bounds.kernels.memory import new_field  # the compiler is not needed to describe a problem

        batch = max((len(part) for *_, part in self._held_sides()), default=1)
        like = torch.empty((), dtype=self.dtype, device=self.device)
        values = self._with_held_sides(new_field(like, (batch, *self.node_shape)).zero_())
        return values if self.solid is None else torch.where(self.dirichlet_nodes, values, 0.0)

    def complete(self, unknown: Tensor) -> Tensor:
        """Put values at free nodes (b, node_shape) and the prescribed ones together, zero inside solids."""
        if self.solid is not None:
            return torch.where(self.active_nodes & ~self.dirichlet_nodes, unknown, self.dirichlet_values)
        from sciml_bounds.kernels._backend import needs_gradient
        from sciml_bounds.kernels.memory import new_field

        batch = max([len(unknown), *(len(part) for *_, part in self._held_sides())])
        unknown = unknown.expand(batch, *self.node_shape)
        own = unknown.clone() if needs_gradient(unknown) else new_field(unknown).copy_(unknown)
        return self._with_held_sides(own)

    def _held_sides(self) -> list[tuple[int, int, Tensor]]:
        """List the Dirichlet sides: axis, end and prescribed values (b, side)."""
        return [
            (*side_axis(side), self.samples(condition.value, self.grid.dim - 1))
            for side, condition in self.boundary.items()
            if isinstance(condition, Dirichlet)
        ]

    def _with_held_sides(self, values: Tensor) -> Tensor:
        """Write the prescribed values into a field (b, node_shape)."""
        for axis, end, part in self._held_sides():
            values.select(1 + axis, -end).copy_(part)
        return values

    def impose_boundary(self, values: Any) -> Tensor:
        """Return a nodal field (batch..., node_shape) with the prescribed values put in where they belong."""
        field = convert(values, "values", self.dtype, self.device)
        if tuple(field.shape[field.ndim - self.grid.dim :]) != self.node_shape:
            raise InputError(
                f"values have shape {tuple(field.shape)}, but a node field has (batch..., {self.node_shape})."
            )
        given = field.shape[: field.ndim - self.grid.dim]
        try:
            batch: torch.Size = torch.broadcast_shapes(given, self.batch_shape)
        except RuntimeError:
            raise InputError(
                f"the batch axes {tuple(given)} of the values do not broadcast to those of the problem, "
                f"{tuple(self.batch_shape)}."
            ) from None
        shape = batch + self.node_shape
        mask, data = (self.unflatten(q).expand(shape) for q in (self.dirichlet_nodes, self.dirichlet_values))
        return torch.where(mask, data, field.expand(shape))

    def unflatten(self, field: Tensor) -> Tensor:
        """Undo `samples`: (b, space) becomes (batch..., space), or (space) for b = 1."""
        return field[0] if len(field) == 1 else field.reshape(*self.batch_shape, *field.shape[1:])

    def refine(self, factor: int = 2) -> Diffusion:
        """Return the same problem on the grid with every cell divided: the same data, the same exact solution."""
        return refine_problem(self, factor)


#: Properties that depend on the batch.
_CACHED = ("fluid", "components", "active_nodes", "dirichlet_nodes")


def _map_data(condition: Boundary, change: Callable[[Tensor], Tensor]) -> Boundary:
    if isinstance(condition, Dirichlet):
        return Dirichlet(change(condition.value))
    if isinstance(condition, Neumann):
        return Neumann(change(condition.flux))
    if isinstance(condition, Robin):
        return Robin(change(condition.alpha), change(condition.g))
    return condition


def _require_grid(grid: Any) -> Grid:
    if isinstance(grid, Grid):
        return grid
    remedy = (
        f"give sb.Grid({grid!r})" if isinstance(grid, tuple | list | int) else "give a Grid, such as sb.Grid((64, 64))"
    )
    raise InputError(f"the grid is a {type(grid).__name__}; {remedy}.")


def _coefficient_parts(coefficient: Any, grid: Grid) -> list[tuple[str, Any]]:
    if not isinstance(coefficient, tuple):
        return [("coefficient", coefficient)]
    if len(coefficient) != grid.dim:
        raise InputError(
            f"a diagonal coefficient has one field an axis ({grid.dim}), but the tuple has {len(coefficient)}."
        )
    return [(f"coefficient along {AXES[axis]}", value) for axis, value in enumerate(coefficient)]
