"""The diffusion problem -div(a grad u) + c u = f on a box of cells."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml_bounds.arrays import Field, check_device, common_dtype_and_device, convert
from sciml_bounds.errors import InputError
from sciml_bounds.grid import AXES, Boundary, Dirichlet, Grid, Neumann, Robin, side_axis
from sciml_bounds.memory import require_memory
from sciml_bounds.problems.components import Components, add_on_sides, check_balance, find_components, mean_excess
from sciml_bounds.problems.fields import (
    cell_field,
    cell_range,
    convert_sides,
    named_sides,
    node_shape,
    require_size,
    side_values,
    solid_field,
    unbatched_shape,
)
from sciml_bounds.problems.refinement import refine_condition
from sciml_bounds.problems.transfers import repeat_cells, sum_to_nodes

__all__ = ["Diffusion"]

_ZERO = Dirichlet(0.0)

#: Bytes of a field from which on it is asked whether there is memory for it.
LARGE = 1 << 20


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
    for Dirichlet data, at face centres for Neumann and Robin data), or as an `sb.barron.BarronFunction` or network.
    Gradients flow into fields that require them.

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
        sides = named_sides(boundary, grid)
        named = [*parts, ("source", source), ("reaction", reaction), *side_values(sides)]
        self.dtype, self.device = common_dtype_and_device(named)
        size = self.dtype.itemsize * math.prod(n + 1 for n in grid.shape)
        if size > LARGE:
            require_memory(size, f"one field on a grid of {'x'.join(map(str, grid.shape))} cells")
        self.solid = solid_field(solid, grid, self.dtype, self.device)
        self._set_cells({"coefficient": coefficient, "source": source, "reaction": reaction})
        self.boundary, self.periodic = convert_sides(boundary, grid, self.dtype, self.device)
        self.node_shape = node_shape(grid, self.periodic)
        self.batch_shape = self._broadcast_batches()
        if not _is_one_number(sides):
            self._check_corners()
        self._check_balance()

    def _set_cells(self, fields: Mapping[str, Any]) -> None:
        """Convert and check fields that are given per cell."""
        place = self.grid, self.dtype, self.device
        if "coefficient" in fields:
            parts = _coefficient_parts(fields["coefficient"], self.grid)
            self.coefficient = tuple(self._positive(value, name) for name, value in parts)
            if len(self.coefficient) == 1:
                self.coefficient = self.coefficient * self.grid.dim
        if "source" in fields:
            self.source = cell_field(fields["source"], "source", *place)
        if "reaction" in fields:
            self.reaction, low, _ = cell_range(fields["reaction"], "reaction", *place)
            if low < 0:
                raise InputError(f"reaction is negative ({low:g}); -div(a grad u) + c u = f needs c >= 0.")

    def replace(self, **changes: Any) -> Diffusion:
        """Return the problem with some of its fields given anew (`coefficient=`, `source=`, `boundary=`, ...)."""
        names = ("coefficient", "source", "boundary", "reaction", "solid")
        unknown = changes.keys() - names
        if unknown:
            raise InputError(
                f"a diffusion problem has no field {sorted(unknown)[0]!r}; its fields are {', '.join(names)}."
            )
        if changes.keys() <= {"coefficient", "source", "reaction"}:
            parts = _coefficient_parts(changes["coefficient"], self.grid) if "coefficient" in changes else []
            named = [*parts, *((name, value) for name, value in changes.items() if name != "coefficient")]
            if common_dtype_and_device([("the problem", self.source), *named])[0] == self.dtype:
                return self._with_cells(changes)
        coefficient = self.coefficient[0] if self.has_scalar_coefficient else self.coefficient
        fields = {name: getattr(self, name) for name in names} | {"coefficient": coefficient}
        return Diffusion(self.grid, **{**fields, **changes})

    def _with_cells(self, changes: Mapping[str, Any]) -> Diffusion:
        """Return the problem with other fields on cells, in the same dtype and on the same device."""
        other = copy.copy(self)
        other._set_cells(changes)
        other.batch_shape = other._broadcast_batches()
        stale = _CACHED if other.batch_shape != self.batch_shape else _OF_REACTION if "reaction" in changes else ()
        for name in stale:
            other.__dict__.pop(name, None)
        other._check_balance()
        return other

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
            source=self._balanced_source(dtype),
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
        wider.batch_shape = torch.Size(np.broadcast_shapes(batch_shape, self.batch_shape))
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
        field, low, _ = cell_range(value, name, self.grid, self.dtype, self.device)
        fluid = None if self.solid is None else torch.where(self.solid, 1.0, field.detach())
        low = low if fluid is None else float(fluid.amin())
        if low <= 0:
            bad = (field.detach() if fluid is None else fluid) <= 0
            where, count = tuple(int(i) for i in torch.nonzero(bad)[0]), int(bad.sum())
            found = "1 cell is zero or negative," if count == 1 else f"{count} cells are zero or negative, the first"
            raise InputError(f"{name} must be positive; {found} at index {where}.")
        require_size(low, self.dtype, f"the smallest {name}")
        return field

    def _broadcast_batches(self) -> torch.Size:
        dim = self.grid.dim
        fields = {"coefficient": self.coefficient[0], "source": self.source, "reaction": self.reaction}
        if not self.has_scalar_coefficient:
            fields |= {f"coefficient along {AXES[a]}": self.coefficient[a] for a in range(1, dim)}
        batches = {name: tensor.shape[: tensor.ndim - dim] for name, tensor in fields.items()} | self._side_batches
        if self.solid is not None:
            batches["solid"] = self.solid.shape[: self.solid.ndim - dim]
        shapes = {shape for shape in batches.values() if shape}
        try:
            batch = torch.Size(np.broadcast_shapes(*shapes))
        except ValueError:
            listing = ", ".join(f"{name} {tuple(shape)}" for name, shape in batches.items() if shape)
            raise InputError(f"the batch axes of the fields do not broadcast: {listing}.") from None
        return batch

    @cached_property
    def _side_batches(self) -> dict[str, torch.Size]:
        """The batch axes of the data of all sides, by name."""
        found: dict[str, torch.Size] = {}
        for side, condition in self.boundary.items():
            size = len(unbatched_shape(side, condition, self.grid, self.periodic))
            found |= {name: value.shape[: value.ndim - size] for name, value in side_values({side: condition})}
        return found

    def _check_corners(self) -> None:
        """Refuse Dirichlet data that differ at a node which two sides share."""
        held = {side: c.value.detach() for side, c in self.boundary.items() if isinstance(c, Dirichlet)}
        pairs = [(a, b) for a, b in itertools.combinations(held, 2) if a[0] != b[0]]
        if not pairs:
            return
        sizes = [value.abs().amax() for value in held.values()]
        gaps = [
            (self._side_at(a, *side_axis(b)) - self._side_at(b, *side_axis(a))).detach().abs().amax() for a, b in pairs
        ]
        numbers = torch.stack(sizes + gaps).tolist()  # at once, since the host waits for them
        slack = 1e3 * torch.finfo(self.dtype).eps * max(numbers[: len(held)])
        for (first, second), gap in zip(pairs, numbers[len(held) :]):
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
        fixed = self.samples(self.reaction.detach() > 0)
        sides = []
        for side, condition in self.boundary.items():
            if isinstance(condition, Dirichlet):
                sides.append((*side_axis(side), torch.ones((1,) * self.grid.dim, dtype=torch.bool, device=self.device)))
            elif isinstance(condition, Robin):
                sides.append((*side_axis(side), self.samples(condition.alpha.detach() > 0, self.grid.dim - 1)))
        return find_components(self.fluid, self.periodic, add_on_sides(fixed, sides) & self.fluid)

    @cached_property
    def floats(self) -> bool:
        """Whether nothing fixes the level of the solution on some component of some sample."""
        if self.solid is None and any(isinstance(condition, Dirichlet) for condition in self.boundary.values()):
            return False
        return bool(self.components.floating.any())

    def _supply(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Compute what sources and sides bring into each cell, and the sum of magnitudes, shape (s, n)."""
        supply = self.samples(self.source.detach().to(dtype)) * self.grid.cell_volume
        inflows = []
        for side, condition in self.boundary.items():
            if isinstance(condition, Neumann | Robin):
                data = condition.flux if isinstance(condition, Neumann) else condition.g
                axis, end = side_axis(side)
                inflow = self.samples(data.detach().to(dtype), self.grid.dim - 1) * self.grid.face_area(axis)
                inflows.append((axis, end, inflow))
        sizes = [(axis, end, inflow.abs()) for axis, end, inflow in inflows]
        return add_on_sides(supply, inflows), add_on_sides(supply.abs(), sizes)

    def _check_balance(self) -> None:
        if self.floats:
            check_balance(self.components, *self._supply(self.dtype))

    def _balanced_source(self, dtype: torch.dtype) -> Tensor:
        """Convert the source to a wider dtype, and spread what is left of its balance over each component."""
        source: Tensor = self.source.to(dtype)
        if not self.floats:
            return source
        excess = mean_excess(self.components, self._supply(dtype)[0]) / self.grid.cell_volume
        return source - self.unflatten(excess)

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

    @cached_property
    def free_nodes(self) -> Tensor:
        """The nodes whose values are unknown: boolean, shape (b, node_shape)."""
        return self.active_nodes & ~self.dirichlet_nodes

    @property
    def dirichlet_values(self) -> Tensor:
        """The prescribed values at their nodes and zero elsewhere, shape (b, node_shape).

        Put together anew each time, so that every solve has a gradient history of its own.
        """
        from sciml_bounds.kernels.field_memory import new_field  # the compiler is not needed to describe a problem

        held = self._held_sides()
        batch = max((len(part) for *_, part in held), default=1)
        like = torch.empty((), dtype=self.dtype, device=self.device)
        values = _with_held_sides(new_field(like, (batch, *self.node_shape)).zero_(), held)
        return values if self.solid is None else torch.where(self.dirichlet_nodes, values, 0.0)

    def complete(self, unknown: Tensor) -> Tensor:
        """Put values at free nodes (b, node_shape) and the prescribed ones together, zero inside solids."""
        if self.solid is not None:
            return torch.where(self.free_nodes, unknown, self.dirichlet_values)
        from sciml_bounds.kernels._backend import needs_gradient
        from sciml_bounds.kernels.field_memory import new_field

        held = self._held_sides()
        batch = max([len(unknown), *(len(part) for *_, part in held)])
        unknown = unknown.expand(batch, *self.node_shape)
        own = unknown.clone() if needs_gradient(unknown) else new_field(unknown).copy_(unknown)
        return _with_held_sides(own, held)

    def _held_sides(self) -> list[tuple[int, int, Tensor]]:
        """List the Dirichlet sides: axis, end and prescribed values (b, side)."""
        known: list[tuple[int, int, Tensor]] | None = self.__dict__.get("_held")
        if known is not None:
            return known
        found = [
            (*side_axis(side), self.samples(condition.value, self.grid.dim - 1))
            for side, condition in self.boundary.items()
            if isinstance(condition, Dirichlet)
        ]
        if not any(part.requires_grad for *_, part in found):  # otherwise with a gradient history of its own
            self._held = found
        return found

    def impose_boundary(self, values: Any) -> Tensor:
        """Return a nodal field (batch..., node_shape) with the prescribed values put in where they belong."""
        field = convert(values, "values", self.dtype, self.device)
        if tuple(field.shape[field.ndim - self.grid.dim :]) != self.node_shape:
            raise InputError(
                f"values have shape {tuple(field.shape)}, but a node field has (batch..., {self.node_shape})."
            )
        given = field.shape[: field.ndim - self.grid.dim]
        try:
            batch = torch.Size(np.broadcast_shapes(given, self.batch_shape))
        except ValueError:
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
        grid, dim = self.grid.refine(factor), self.grid.dim
        parts = self.coefficient[:1] if self.has_scalar_coefficient else self.coefficient
        refined = tuple(repeat_cells(part, factor, dim) for part in parts)
        boundary = {}
        for side, condition in self.boundary.items():
            axis, _ = side_axis(side)
            periodic = tuple(p for a, p in enumerate(self.periodic) if a != axis)
            boundary[side] = refine_condition(condition, factor, periodic)
        finer = Diffusion(
            grid,
            coefficient=refined[0] if self.has_scalar_coefficient else refined,
            source=repeat_cells(self.source, factor, dim),
            boundary=boundary,
            reaction=repeat_cells(self.reaction, factor, dim),
            solid=None if self.solid is None else repeat_cells(self.solid, factor, dim),
        )
        return finer.broadcast(self.batch_shape)


#: Properties that depend on the batch.
_CACHED = ("fluid", "components", "floats", "active_nodes", "dirichlet_nodes", "free_nodes", "_held")

#: Those that depend on the reaction.
_OF_REACTION = ("components", "floats")


def _is_one_number(sides: Mapping[str, Boundary]) -> bool:
    """Whether all Dirichlet values are the same plain number."""
    values = [condition.value for condition in sides.values() if isinstance(condition, Dirichlet)]
    return all(isinstance(value, int | float) and value == values[0] for value in values)


def _with_held_sides(values: Tensor, held: list[tuple[int, int, Tensor]]) -> Tensor:
    """Write prescribed values into a field (b, node_shape)."""
    for axis, end, part in held:
        values.select(1 + axis, -end).copy_(part)
    return values


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
