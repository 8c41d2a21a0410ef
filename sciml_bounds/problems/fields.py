"""Conversion, sampling and validation of fields on a grid and on its sides."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sciml_bounds.arrays import convert, require_finite, to_mask
from sciml_bounds.errors import InputError
from sciml_bounds.grid import AXES, Boundary, Dirichlet, Grid, Neumann, Periodic, Robin, side_axis

__all__ = [
    "Sides",
    "cell_field",
    "cell_range",
    "convert_sides",
    "is_array_free_callable",
    "node_shape",
    "require_samples",
    "require_size",
    "require_sizes",
    "side_values",
    "solid_field",
    "unbatched_shape",
]

#: Boundary conditions by side, with data converted to tensors (batch..., side shape).
Sides = dict[str, Boundary]


#: Smallest and largest accepted size of data. Beyond them, squares in norms and bounds would overflow or underflow.
LIMITS = {torch.float32: (1e-15, 1e15), torch.float64: (1e-75, 1e75)}


def require_sizes(tensor: Tensor, name: str, *, large_only: bool = False) -> None:
    """Raise if the largest entry of a field is outside `LIMITS`; zero fields are accepted.

    Parameters
    ----------
    tensor : Tensor
        The field.
    name : str
        Name of the field for the error message.
    large_only : bool
        Whether to accept small fields.

    Raises
    ------
    InputError
        If the largest absolute value is too large, or too small but not zero.
    """
    if tensor.numel():
        require_size(max(map(abs, _range(tensor))), tensor.dtype, name, large_only=large_only)


def _range(tensor: Tensor) -> list[float]:
    """Return the smallest and the largest entry, by one transfer to the host; NaN if the field contains NaN."""
    one = tensor.detach() if any(tensor.stride()) else tensor.detach()[(0,) * tensor.ndim]  # an expanded number
    ends: list[float] = torch.stack(one.aminmax()).tolist()
    return ends


def require_size(size: float, dtype: torch.dtype, name: str, *, large_only: bool = False) -> None:
    """Raise if the size of a number is outside `LIMITS`; see `require_sizes`."""
    smallest, largest = LIMITS[dtype]
    if size > largest or (0.0 < size < smallest and not large_only):
        kind = str(dtype).removeprefix("torch.")
        wider = ", or use float64" if kind == "float32" else ""
        raise InputError(
            f"{name} is of size {size:.3g}, whose square overflows or underflows in {kind}; choose units in which the "
            f"size lies between {smallest:g} and {largest:g}{wider}."
        )


def is_array_free_callable(value: Any) -> bool:
    """Return whether a value is a function of the coordinates, and not an array that happens to be callable."""
    return callable(value) and not hasattr(value, "dtype")


def cell_field(value: Any, name: str, grid: Grid, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Convert a cell field to a tensor (batch..., n); a Python number is expanded to all cells.

    Raises
    ------
    InputError
        If the trailing axes do not have the shape of the grid, or an entry is not finite.
    """
    return cell_range(value, name, grid, dtype, device)[0]


def cell_range(
    value: Any, name: str, grid: Grid, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, float, float]:
    """Convert a field like `cell_field`, and also return its smallest and largest entries."""
    given = _at_centers(value, name, grid, dtype, device)
    return _checked(given, name, grid.shape, dtype, device, lambda tensor: _require_cells(tensor, name, grid))


def _checked(
    value: Any,
    name: str,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
    require_shape: Callable[[Tensor], None],
) -> tuple[Tensor, float, float]:
    """Convert and check a field, with one transfer to the host (without one for a Python number)."""
    plain = isinstance(value, int | float)
    tensor = convert(value, name, dtype, torch.device("cpu") if plain else device)
    if tensor.ndim:
        require_shape(tensor)
    low, high = (math.nan, math.nan) if tensor.is_meta else _range(tensor)
    if not (math.isfinite(low) and math.isfinite(high)):
        require_finite(tensor, name)
    require_size(max(abs(low), abs(high)), dtype, name)
    if plain and device.type != "cpu":
        tensor = torch.full((), low, dtype=dtype, device=device)
    return tensor if tensor.ndim else tensor.expand(shape), low, high


def solid_field(value: Any, grid: Grid, dtype: torch.dtype, device: torch.device) -> Tensor | None:
    """Convert the mask of solid cells to a boolean tensor (batch..., n); None if there are no solids.

    Raises
    ------
    InputError
        If the mask is not boolean, its trailing axes do not have the shape of the grid, or a sample has no fluid cell.
    """
    if value is None:
        return None
    mask = to_mask(_at_centers(value, "solid", grid, dtype, device), "solid")
    _require_cells(mask, "solid", grid)
    if bool(mask.reshape(-1, *grid.shape).flatten(1).all(1).any()):
        raise InputError("every cell of a sample is solid, so its domain is empty; leave at least one cell fluid.")
    return mask.to(device)


def _at_centers(value: Any, name: str, grid: Grid, dtype: torch.dtype, device: torch.device) -> Any:
    """Sample a function of the coordinates at the cell centres; return other values unchanged."""
    if not is_array_free_callable(value):
        return value
    centers = [grid.centers(axis, dtype, device) for axis in range(grid.dim)]
    return _call(value, name, torch.meshgrid(*centers, indexing="ij"))


def _require_cells(tensor: Tensor, name: str, grid: Grid) -> None:
    if tuple(tensor.shape[-grid.dim :]) != grid.shape:
        raise InputError(
            f"{name} has shape {tuple(tensor.shape)}, but it needs one value per cell: "
            f"(batch..., {_join(grid.shape)}).{_hint(tensor, name, grid)}"
        )
    require_samples(tensor, name)


def require_samples(tensor: Tensor, name: str) -> None:
    """Raise unless a field has at least one sample.

    Raises
    ------
    InputError
        If the field has no samples.
    """
    if tensor.numel() == 0:
        raise InputError(f"{name} has shape {tuple(tensor.shape)}, so the batch is empty; pass at least one sample.")


def _hint(tensor: Tensor, name: str, grid: Grid) -> str:
    if tuple(tensor.shape[-grid.dim :]) == tuple(n + 1 for n in grid.shape):
        if name == "source":
            return (
                " It looks like a node field: pass solver.mass @ values as rhs= to a solver from sb.prepare, because "
                "averages over the cells would smooth it."
            )
        return " It looks like a node field, but the data are constant on each cell; give values at the cell centres."
    if tuple(tensor.shape[-grid.dim :]) == tuple(reversed(grid.shape)):
        return " Its axes seem to be in reverse order; transpose it, so that the first axis is x."
    return ""


def _join(shape: Sequence[int]) -> str:
    return ", ".join(str(n) for n in shape)


def node_shape(grid: Grid, periodic: tuple[bool, ...]) -> tuple[int, ...]:
    """Return the shape of a node field: n + 1 nodes along an axis, n along a periodic one."""
    return tuple(n if p else n + 1 for n, p in zip(grid.shape, periodic))


def unbatched_shape(side: str, condition: Boundary, grid: Grid, periodic: tuple[bool, ...]) -> tuple[int, ...]:
    """Return the shape of the data of a side: the shape of its nodes for Dirichlet data, of its faces otherwise."""
    axis, _ = side_axis(side)
    shape = node_shape(grid, periodic) if isinstance(condition, Dirichlet) else grid.shape
    return shape[:axis] + shape[axis + 1 :]


def convert_sides(
    boundary: Any, grid: Grid, dtype: torch.dtype, device: torch.device
) -> tuple[Sides, tuple[bool, ...]]:
    """Check the conditions of all sides and convert their data; also return which axes are periodic.

    Raises
    ------
    InputError
        If a side is missing or unknown, only one side of an axis is periodic, or data have a wrong shape or value.
    """
    sides = named_sides(boundary, grid)
    periodic = tuple(isinstance(sides[f"{AXES[a]}0"], Periodic) for a in range(grid.dim))
    return {side: _convert_side(side, c, grid, periodic, dtype, device) for side, c in sides.items()}, periodic


def named_sides(boundary: Any, grid: Grid) -> Sides:
    """Return the condition of every side, given one condition for all sides or a dict from side names to conditions.

    Raises
    ------
    InputError
        If a side is missing or unknown, or only one side of an axis is periodic.
    """
    if isinstance(boundary, Dirichlet | Neumann | Robin | Periodic):
        return dict.fromkeys(grid.sides, boundary)
    if not isinstance(boundary, dict):
        raise InputError(
            f"boundary is {getattr(boundary, '__name__', type(boundary).__name__)}; give one condition, such as "
            "sb.Dirichlet(0.0), or a dict from side names to conditions."
        )
    unknown = [side for side in boundary if side not in grid.sides]
    if unknown:
        raise InputError(
            f"boundary has the unknown side {unknown[0]!r}; the sides of this grid are {', '.join(grid.sides)}."
        )
    missing = [side for side in grid.sides if side not in boundary]
    if missing:
        raise InputError(
            f"boundary has no condition for {', '.join(missing)}; it needs one for every side "
            f"({', '.join(grid.sides)})."
        )
    for side, condition in boundary.items():
        if not isinstance(condition, Dirichlet | Neumann | Robin | Periodic):
            raise InputError(
                f"the condition on {side} is a {type(condition).__name__}; use sb.Dirichlet, sb.Neumann, sb.Robin or "
                "sb.Periodic."
            )
    for axis in AXES[: grid.dim]:
        first, second = (isinstance(boundary[f"{axis}{end}"], Periodic) for end in (0, 1))
        if first != second:
            raise InputError(f"only one of {axis}0 and {axis}1 is periodic; give both sides of the axis sb.Periodic().")
    return {side: boundary[side] for side in grid.sides}


def side_values(sides: Mapping[str, Boundary]) -> list[tuple[str, Any]]:
    """Return the data of all sides, each with a name for error messages."""
    values: list[tuple[str, Any]] = []
    for side, condition in sides.items():
        if isinstance(condition, Dirichlet):
            values.append((f"the Dirichlet value on {side}", condition.value))
        elif isinstance(condition, Neumann):
            values.append((f"the Neumann flux on {side}", condition.flux))
        elif isinstance(condition, Robin):
            values += [(f"alpha on {side}", condition.alpha), (f"g on {side}", condition.g)]
    return values


def _convert_side(
    side: str, condition: Boundary, grid: Grid, periodic: tuple[bool, ...], dtype: torch.dtype, device: torch.device
) -> Boundary:
    if isinstance(condition, Periodic):
        return condition
    shape = unbatched_shape(side, condition, grid, periodic)

    def data(value: Any, name: str) -> tuple[Tensor, float]:
        return _side_field(
            value, f"{name} on {side}", side, isinstance(condition, Dirichlet), shape, grid, dtype, device
        )

    if isinstance(condition, Dirichlet):
        return Dirichlet(data(condition.value, "the Dirichlet value")[0])
    if isinstance(condition, Neumann):
        return Neumann(data(condition.flux, "the Neumann flux")[0])
    alpha, low = data(condition.alpha, "the Robin coefficient alpha")
    if low < 0:
        raise InputError(
            f"the Robin coefficient alpha on {side} must not be negative, but its smallest value is {low:g}; check its "
            "sign."
        )
    return Robin(alpha, data(condition.g, "the Robin right-hand side g")[0])


def _side_field(
    value: Any,
    name: str,
    side: str,
    nodal: bool,
    shape: tuple[int, ...],
    grid: Grid,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[Tensor, float]:
    """Convert the data of a side, and also return their smallest entry."""
    axis, end = side_axis(side)
    if is_array_free_callable(value):
        value = _sample(value, name, axis, end, nodal, shape, grid, dtype, device)

    def require_shape(tensor: Tensor) -> None:
        if tensor.ndim < len(shape) or tuple(tensor.shape[tensor.ndim - len(shape) :]) != shape:
            place = "node" if nodal else "face"
            expected = f"(batch..., {_join(shape)})" if shape else "(batch...)"
            raise InputError(
                f"{name} has shape {tuple(tensor.shape)}; give one value per {place} of the side, shape {expected}."
            )
        require_samples(tensor, name)

    return _checked(value, name, shape, dtype, device, require_shape)[:2]


def _sample(
    function: Any,
    name: str,
    axis: int,
    end: int,
    nodal: bool,
    shape: tuple[int, ...],
    grid: Grid,
    dtype: torch.dtype,
    device: torch.device,
) -> Any:
    """Sample a function of all coordinates at the nodes or face centres of a side."""
    place = grid.nodes if nodal else grid.centers
    along = [place(a, dtype, device) for a in range(grid.dim) if a != axis]
    along = [points[:n] for points, n in zip(along, shape)]  # a periodic axis has no last node
    coordinates = list(torch.meshgrid(*along, indexing="ij")) if along else []
    fixed = grid.origin[axis] + end * grid.lengths[axis]
    coordinates.insert(axis, torch.full(shape, fixed, dtype=dtype, device=device))
    return _call(function, name, coordinates)


def _call(function: Any, name: str, coordinates: Sequence[Tensor]) -> Any:
    """Call a function of the coordinates; exceptions raised inside it are not caught.

    A function whose attribute `of_points` is true, such as a Barron function or network, is called with points (...,
    d).
    """
    if getattr(function, "of_points", False):
        return function(torch.stack(tuple(coordinates), -1))
    try:
        inspect.signature(function).bind(*coordinates)
    except TypeError:
        dim = len(coordinates)
        counted = "1 coordinate; the grid has 1 axis" if dim == 1 else f"{dim} coordinates; the grid has {dim} axes"
        names = " and ".join(filter(None, (", ".join(AXES[: dim - 1]), AXES[dim - 1])))
        raise InputError(f"{name} is a function that cannot be called with {counted}; let it take {names}.") from None
    except ValueError:  # some functions written in C have no signature
        pass
    return function(*coordinates)
