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
from sciml_bounds.problems.batch_axes import known_batch, warn_about_components
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

#: Names of the fields of a problem.
_FIELDS = ("coefficient", "source", "boundary", "reaction", "solid")

#: Size of a field in bytes above which the available memory is checked.
MIN_CHECKED_BYTES = 1 << 20


class Diffusion:
    """The diffusion problem -div(a grad u) + c u = f on a grid, with a boundary condition on every side.

    Coefficient, source and reaction are constant on each cell; the problem with these cellwise constant data is solved
    and certified. Leading axes are batch axes, and the batches of all fields are broadcast.

    Parameters
    ----------
    grid : Grid
        The box of cells.
    coefficient : float, array (batch..., nx, ny) or callable, or a tuple of these
        Coefficient a > 0. A tuple has one field per axis (diagonal coefficient). A leading axis of an array is a batch
        axis, also if its length is the dimension; an `InputWarning` says so.
    source : float, array (batch..., nx, ny) or callable
        Source f.
    boundary : Boundary or mapping of str to Boundary
        One condition for all sides, or a dict from every side name (`x0`, `x1`, `y0`, ...) to its condition. Neumann
        and Robin data are constant on each face; nodal Dirichlet data are interpolated multilinearly.
    reaction : float, array (batch..., nx, ny) or callable
        Reaction c >= 0.
    solid : boolean array (batch..., nx, ny) or callable, optional
        Cells outside the domain. Their faces are walls with zero flux.

    Attributes
    ----------
    coefficient : tuple of Tensor
        One tensor per axis; for a scalar coefficient, the same tensor for every axis.
    batch_shape : torch.Size
        The broadcast batch shape of all fields.
    node_shape : tuple of int
        Shape of a node field without batch: n + 1 along an axis, n along a periodic axis.

    Raises
    ------
    InputError
        If data are not finite, have wrong shapes or dtypes, are on different devices, or contradict each other at a
        corner; or if there is no solution, because in some part of the domain with Neumann and periodic sides only the
        data do not balance.

    Notes
    -----
    A callable field takes the coordinates and is sampled at cell centres (Dirichlet data at the nodes of the side,
    Neumann and Robin data at face centres). A field may also be an `sb.barron.BarronFunction` or a network. The
    solution is differentiable with respect to fields that require gradients.

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
        _require_memory(grid, self.dtype)
        self.solid = solid_field(solid, grid, self.dtype, self.device)
        self._set_cells({"coefficient": coefficient, "source": source, "reaction": reaction})
        self.boundary, self.periodic = convert_sides(boundary, grid, self.dtype, self.device)
        self.node_shape = node_shape(grid, self.periodic)
        self.batch_shape = self._broadcast_batches()
        self._warn_about_components()
        if not _is_one_number(sides):
            self._check_corners()
        self._check_balance()

    def _set_cells(self, fields: Mapping[str, Any]) -> None:
        """Convert and check cell fields."""
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
                raise InputError(f"reaction must not be negative, but its smallest value is {low:g}; check its sign.")

    def replace(self, **changes: Any) -> Diffusion:
        """Return the problem with some of its fields replaced (`coefficient=`, `source=`, `boundary=`, ...)."""
        unknown = changes.keys() - set(_FIELDS)
        if unknown:
            raise InputError(
                f"a diffusion problem has no field {sorted(unknown)[0]!r}; its fields are {', '.join(_FIELDS)}."
            )
        has_batch = self.has_scalar_coefficient and self.coefficient[0].ndim > self.grid.dim
        if "coefficient" not in changes or has_batch:  # then the meaning of the first axis is known
            with known_batch():
                return self._replace(changes)
        return self._replace(changes)

    def _replace(self, changes: Mapping[str, Any]) -> Diffusion:
        if changes.keys() <= {"coefficient", "source", "reaction"}:
            parts = _coefficient_parts(changes["coefficient"], self.grid) if "coefficient" in changes else []
            named = [*parts, *((name, value) for name, value in changes.items() if name != "coefficient")]
            if common_dtype_and_device([("the problem", self.source), *named])[0] == self.dtype:
                return self._with_cells(changes)
        coefficient = self.coefficient[0] if self.has_scalar_coefficient else self.coefficient
        fields = {name: getattr(self, name) for name in _FIELDS} | {"coefficient": coefficient}
        return Diffusion(self.grid, **{**fields, **changes})

    def _with_cells(self, changes: Mapping[str, Any]) -> Diffusion:
        """Return the problem with some cell fields replaced, in the same dtype and on the same device."""
        other = copy.copy(self)
        other._set_cells(changes)
        other.batch_shape = other._broadcast_batches()
        new_batch = other.batch_shape != self.batch_shape
        stale = _BATCH_PROPERTIES if new_batch else _REACTION_PROPERTIES if "reaction" in changes else ()
        for name in stale:
            other.__dict__.pop(name, None)
        other._warn_about_components()
        other._check_balance()
        return other

    def to(self, target: torch.dtype | torch.device | str) -> Diffusion:
        """Return the problem with all fields in another floating-point dtype, or on another device.

        A problem may have sources on floating components that balance up to the round-off of a narrow dtype only. In a
        wider dtype, such sources are balanced again.
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
            raise InputError(f"a problem cannot have dtype {dtype!r}; use torch.float32 or torch.float64.")
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
        """Return the problem with its fields detached from the autograd graph."""
        other = copy.copy(self)
        other.coefficient = (
            (self.coefficient[0].detach(),) * self.grid.dim
            if self.has_scalar_coefficient
            else tuple(part.detach() for part in self.coefficient)
        )
        other.source, other.reaction = self.source.detach(), self.reaction.detach()
        other.boundary = {side: _map_data(condition, Tensor.detach) for side, condition in self.boundary.items()}
        return other

    def broadcast(self, batch_shape: torch.Size) -> Diffusion:
        """Return the problem with its batch broadcast to `batch_shape`."""
        if batch_shape == self.batch_shape:
            return self
        wider = copy.copy(self)
        for name in _BATCH_PROPERTIES:
            wider.__dict__.pop(name, None)
        wider.batch_shape = torch.Size(np.broadcast_shapes(batch_shape, self.batch_shape))
        return wider

    @property
    def has_scalar_coefficient(self) -> bool:
        """Whether the coefficient is the same along all axes."""
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
            value = float((field.detach() if fluid is None else fluid)[where])
            rest = "" if count == 1 else f" ({count} such cells)"
            raise InputError(
                f"{name} must be positive, but cell {where} has {value:g}{rest}; check the units, or clip the field."
            )
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
            raise InputError(
                f"the batch axes of the fields do not broadcast ({listing}); give equal lengths or 1."
            ) from None
        return batch

    def _warn_about_components(self) -> None:
        """Warn if only the coefficient has a batch axis, and its length is the dimension."""
        others = [field.ndim > self.grid.dim for field in (self.source, self.reaction, self.solid) if field is not None]
        if self.has_scalar_coefficient and not any([*others, *self._side_batches.values()]):
            warn_about_components(self.coefficient[0], self.grid.dim)

    @cached_property
    def _side_batches(self) -> dict[str, torch.Size]:
        """Return the batch shape of the data of each side, by name."""
        found: dict[str, torch.Size] = {}
        for side, condition in self.boundary.items():
            size = len(unbatched_shape(side, condition, self.grid, self.periodic))
            found |= {name: value.shape[: value.ndim - size] for name, value in side_values({side: condition})}
        return found

    def _check_corners(self) -> None:
        """Raise if the Dirichlet data of two sides differ at a common node."""
        dirichlet = {side: c.value.detach() for side, c in self.boundary.items() if isinstance(c, Dirichlet)}
        pairs = [(a, b) for a, b in itertools.combinations(dirichlet, 2) if a[0] != b[0]]
        if not pairs:
            return
        sizes = [value.abs().amax() for value in dirichlet.values()]
        gaps = [
            (self._side_at(a, *side_axis(b)) - self._side_at(b, *side_axis(a))).detach().abs().amax() for a, b in pairs
        ]
        numbers = torch.stack(sizes + gaps).tolist()  # one transfer, as the host waits for it
        slack = 1e3 * torch.finfo(self.dtype).eps * max(numbers[: len(dirichlet)])
        for (first, second), gap in zip(pairs, numbers[len(dirichlet) :]):
            if gap > slack:
                raise InputError(
                    f"the Dirichlet values on {first} and {second} differ by {gap:g} where the two sides meet, but a "
                    "solution of finite energy requires continuous data; prescribe equal values at the common nodes."
                )

    def _side_at(self, side: str, axis: int, end: int) -> Tensor:
        """Return the Dirichlet values of a side on its edge with another side, which is given by axis and end."""
        own, _ = side_axis(side)
        position = axis - (axis > own)
        condition = self.boundary[side]
        assert isinstance(condition, Dirichlet)
        value: Tensor = condition.value
        dim = value.ndim - (self.grid.dim - 1) + position
        return value.select(dim, -1 if end else 0)

    # --- geometry -----------------------------------------------------------------------------------------------------

    def samples(self, field: Tensor, space_axes: int | None = None) -> Tensor:
        """Flatten the batch of a field from (batch..., space) to (b, space); b = 1 for a field without batch axes."""
        axes = self.grid.dim if space_axes is None else space_axes
        space = field.shape[field.ndim - axes :]
        if field.ndim == axes:
            return field.unsqueeze(0)
        return field.expand(*self.batch_shape, *space).reshape(-1, *space)

    @cached_property
    def fluid(self) -> Tensor:
        """Mask of the cells in the domain: boolean, shape (b, n)."""
        if self.solid is None:
            return torch.ones((1, *self.grid.shape), dtype=torch.bool, device=self.device)
        return self.samples(~self.solid)

    @cached_property
    def components(self) -> Components:
        """Face-connected components of the fluid cells, and which of them float."""
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
        """Whether, on some component of some sample, the data determine u up to a constant only."""
        if self.solid is None and any(isinstance(condition, Dirichlet) for condition in self.boundary.values()):
            return False
        return bool(self.components.floating.any())

    def _supply(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return the sum of source and side fluxes of each cell, and the sum of their absolute values, shape (s, n)."""
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
        """Return the source in a wider dtype, with the imbalance of each floating component subtracted evenly."""
        source: Tensor = self.source.to(dtype)
        if not self.floats:
            return source
        excess = mean_excess(self.components, self._supply(dtype)[0]) / self.grid.cell_volume
        return source - self.unflatten(excess)

    @cached_property
    def active_nodes(self) -> Tensor:
        """Mask of the nodes next to a fluid cell: boolean, shape (b, node_shape)."""
        if self.solid is None:
            return torch.ones((1, *self.node_shape), dtype=torch.bool, device=self.device)
        return sum_to_nodes(self.fluid.to(self.dtype), self.periodic) > 0

    @cached_property
    def dirichlet_nodes(self) -> Tensor:
        """Mask of the nodes with a prescribed value: boolean, shape (b, node_shape)."""
        mask = torch.zeros(self.node_shape, dtype=torch.bool, device=self.device)
        for side, condition in self.boundary.items():
            if isinstance(condition, Dirichlet):
                axis, end = side_axis(side)
                mask.select(axis, -end).fill_(True)
        return mask & self.active_nodes

    @cached_property
    def free_nodes(self) -> Tensor:
        """Mask of the nodes whose values are unknown: boolean, shape (b, node_shape)."""
        return self.active_nodes & ~self.dirichlet_nodes

    @property
    def dirichlet_values(self) -> Tensor:
        """Prescribed values at the nodes that have one, and zero elsewhere; shape (b, node_shape).

        Not cached, so that every solve has its own autograd graph.
        """
        from sciml_bounds.kernels.field_memory import new_field  # describing a problem does not need the kernels

        sides = self._dirichlet_sides()
        batch = max((len(part) for *_, part in sides), default=1)
        like = torch.empty((), dtype=self.dtype, device=self.device)
        values = _write_sides(new_field(like, (batch, *self.node_shape)).zero_(), sides)
        return values if self.solid is None else torch.where(self.dirichlet_nodes, values, 0.0)

    def complete(self, unknown: Tensor) -> Tensor:
        """Return a field with values at free nodes from (b, node_shape), prescribed values, and zero in solids."""
        if self.solid is not None:
            return torch.where(self.free_nodes, unknown, self.dirichlet_values)
        from sciml_bounds.kernels._backend import needs_gradient
        from sciml_bounds.kernels.field_memory import new_field

        sides = self._dirichlet_sides()
        batch = max([len(unknown), *(len(part) for *_, part in sides)])
        unknown = unknown.expand(batch, *self.node_shape)
        own = unknown.clone() if needs_gradient(unknown) else new_field(unknown).copy_(unknown)
        return _write_sides(own, sides)

    def _dirichlet_sides(self) -> list[tuple[int, int, Tensor]]:
        """Return the axis, the end and the prescribed values (b, side) of each Dirichlet side."""
        cached: list[tuple[int, int, Tensor]] | None = self.__dict__.get("_dirichlet_cache")
        if cached is not None:
            return cached
        found = [
            (*side_axis(side), self.samples(condition.value, self.grid.dim - 1))
            for side, condition in self.boundary.items()
            if isinstance(condition, Dirichlet)
        ]
        if not any(part.requires_grad for *_, part in found):  # otherwise every solve needs its own autograd graph
            self._dirichlet_cache = found
        return found

    def impose_boundary(self, values: Any) -> Tensor:
        """Return a node field (batch..., node_shape) with the prescribed values at Dirichlet nodes."""
        field = convert(values, "values", self.dtype, self.device)
        if tuple(field.shape[field.ndim - self.grid.dim :]) != self.node_shape:
            raise InputError(
                f"values have shape {tuple(field.shape)}, but node fields have shape (batch..., {self.node_shape}); "
                "give one value per node."
            )
        given = field.shape[: field.ndim - self.grid.dim]
        try:
            batch = torch.Size(np.broadcast_shapes(given, self.batch_shape))
        except ValueError:
            raise InputError(
                f"the batch axes {tuple(given)} of the values do not broadcast with the batch axes "
                f"{tuple(self.batch_shape)} of the problem; give one field, or one per sample."
            ) from None
        shape = batch + self.node_shape
        mask, data = (self.unflatten(q).expand(shape) for q in (self.dirichlet_nodes, self.dirichlet_values))
        return torch.where(mask, data, field.expand(shape))

    def unflatten(self, field: Tensor) -> Tensor:
        """Reshape (b, space) to (batch..., space), or to (space) if b = 1; the inverse of `samples`."""
        return field[0] if len(field) == 1 else field.reshape(*self.batch_shape, *field.shape[1:])

    def refine(self, factor: int = 2) -> Diffusion:
        """Return the same problem, with the same exact solution, on a grid whose cells are divided by `factor`."""
        finer, dim = copy.copy(self), self.grid.dim  # not checked again, as its data are those of this problem
        for name in _BATCH_PROPERTIES:
            finer.__dict__.pop(name, None)
        finer.grid = self.grid.refine(factor)
        _require_memory(finer.grid, self.dtype)
        finer.node_shape = node_shape(finer.grid, self.periodic)
        parts = self.coefficient[:1] if self.has_scalar_coefficient else self.coefficient
        refined = tuple(repeat_cells(part, factor, dim) for part in parts)
        finer.coefficient = refined * dim if self.has_scalar_coefficient else refined
        finer.source, finer.reaction = (repeat_cells(part, factor, dim) for part in (self.source, self.reaction))
        finer.solid = None if self.solid is None else repeat_cells(self.solid, factor, dim)
        finer.boundary = {}
        for side, condition in self.boundary.items():
            axis, _ = side_axis(side)
            periodic = tuple(p for a, p in enumerate(self.periodic) if a != axis)
            finer.boundary[side] = refine_condition(condition, factor, periodic)
        return finer


#: Cached properties that depend on the batch.
_BATCH_PROPERTIES = (
    "fluid",
    "components",
    "floats",
    "active_nodes",
    "dirichlet_nodes",
    "free_nodes",
    "_dirichlet_cache",
)

#: Cached properties that depend on the reaction.
_REACTION_PROPERTIES = ("components", "floats")


def _is_one_number(sides: Mapping[str, Boundary]) -> bool:
    """Return whether the Dirichlet values on all sides are one and the same Python number."""
    values = [condition.value for condition in sides.values() if isinstance(condition, Dirichlet)]
    return all(isinstance(value, int | float) and value == values[0] for value in values)


def _write_sides(values: Tensor, sides: list[tuple[int, int, Tensor]]) -> Tensor:
    """Write prescribed values into a node field (b, node_shape), in place."""
    for axis, end, part in sides:
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


def _require_memory(grid: Grid, dtype: torch.dtype) -> None:
    """Raise unless there is memory for a field on the grid."""
    size = dtype.itemsize * math.prod(n + 1 for n in grid.shape)
    if size > MIN_CHECKED_BYTES:
        require_memory(size, f"one field on a grid of {'x'.join(map(str, grid.shape))} cells")


def _require_grid(grid: Any) -> Grid:
    if isinstance(grid, Grid):
        return grid
    remedy = (
        f"pass sb.Grid({grid!r})" if isinstance(grid, tuple | list | int) else "pass a Grid, such as sb.Grid((64, 64))"
    )
    raise InputError(f"the grid is a {type(grid).__name__}; {remedy}.")


def _coefficient_parts(coefficient: Any, grid: Grid) -> list[tuple[str, Any]]:
    if not isinstance(coefficient, tuple):
        return [("coefficient", coefficient)]
    if len(coefficient) != grid.dim:
        raise InputError(
            f"the coefficient is a tuple of {len(coefficient)} fields, but a diagonal coefficient needs one field per "
            f"axis ({grid.dim}); give {grid.dim} fields."
        )
    return [(f"coefficient along {AXES[axis]}", value) for axis, value in enumerate(coefficient)]
