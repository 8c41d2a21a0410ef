"""Grids of equal cells on boxes, and boundary conditions on their sides.

The axes of a grid are x, y, z in this order ('ij' indexing). Side `x0` is where x is smallest, and `x1` where x is
largest. Along an axis with `n` cells, a node field has `n + 1` values (`n` if the axis is periodic), and a cell field
has `n`. A face field has `n + 1` values along the axis normal to its faces.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from sciml_bounds.arrays import require_count, to_tensor
from sciml_bounds.errors import InputError

__all__ = ["AXES", "Boundary", "Box", "Dirichlet", "Grid", "Neumann", "Periodic", "Robin", "axis_numbers", "side_axis"]

#: The names of the axes, in the order of the array dimensions.
AXES = "xyz"

#: Allowed range of spacings; outside of it, squares and volumes (and so the bounds) would overflow or underflow.
_SPACINGS = (1e-100, 1e100)


@dataclass(frozen=True)
class Grid:
    """A box divided into equal cells along each axis, in one, two or three dimensions.

    Parameters
    ----------
    shape : int or sequence of int
        Number of cells along each axis, each at least 2. An integer means one dimension.
    lengths : float or sequence of float, optional
        Side lengths of the box; 1 along every axis by default.
    origin : float or sequence of float, optional
        Coordinates of the corner where every coordinate is smallest; 0 by default.

    Raises
    ------
    InputError
        If an axis has fewer than two cells, a length is not positive, a spacing is not between 1e-100 and 1e100,
        `lengths` or `origin` do not have one entry per axis, or the call is ambiguous, as in `Grid(4, 2)`.

    Examples
    --------
    >>> grid = Grid((4, 2), lengths=(1.0, 3.0))
    >>> grid.spacing
    (0.25, 1.5)
    >>> grid.sides
    ('x0', 'x1', 'y0', 'y1')
    """

    shape: tuple[int, ...]
    lengths: tuple[float, ...] = ()
    origin: tuple[float, ...] = ()

    def __init__(
        self,
        shape: int | Sequence[int],
        lengths: float | Sequence[float] | None = None,
        origin: float | Sequence[float] | None = None,
    ) -> None:
        cells = _integers(shape)
        if isinstance(shape, Integral) and isinstance(lengths, Integral) and lengths > 1:
            both = f"({shape}, {lengths})"
            raise InputError(
                f"Grid{both} is ambiguous; write Grid({both}) for two axes with these numbers of cells, or "
                f"Grid({shape}, lengths=({lengths},)) for one axis of length {lengths}."
            )
        if not 1 <= len(cells) <= 3:
            raise InputError(
                f"a grid has one, two or three axes, but shape={tuple(cells)} has {len(cells)}; give 1 to 3 numbers."
            )
        for axis, n in zip(AXES, cells):
            if n < 2:
                raise InputError(
                    f"axis {axis} has {n} {'cell' if n == 1 else 'cells'}; give each axis at least 2 cells."
                )
        object.__setattr__(self, "shape", cells)
        object.__setattr__(self, "lengths", axis_numbers(1.0 if lengths is None else lengths, len(cells), "lengths"))
        object.__setattr__(self, "origin", axis_numbers(0.0 if origin is None else origin, len(cells), "origin"))
        for axis, length in zip(AXES, self.lengths):
            if length <= 0:
                raise InputError(f"the length of axis {axis} is {length}; give a positive length.")
        for axis, h in zip(AXES, self.spacing):
            if not _SPACINGS[0] <= h <= _SPACINGS[1]:
                raise InputError(
                    f"the spacing along axis {axis} is {h:g}, outside [{_SPACINGS[0]:g}, {_SPACINGS[1]:g}]; choose "
                    "units in which the spacing is close to 1."
                )

    @property
    def dim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Side lengths of a cell."""
        return tuple(length / n for length, n in zip(self.lengths, self.shape))

    @property
    def cell_volume(self) -> float:
        """Volume of a cell (length in 1-D, area in 2-D)."""
        return math.prod(self.spacing)

    @property
    def box(self) -> Box:
        """Box that the grid covers, an `sb.barron.Box`."""
        return Box(self.lengths, self.origin)

    @property
    def sides(self) -> tuple[str, ...]:
        """Names of the sides: `x0`, `x1`, `y0`, ..."""
        return tuple(f"{AXES[axis]}{end}" for axis in range(self.dim) for end in (0, 1))

    def face_area(self, axis: int) -> float:
        """Return the area of a cell face perpendicular to `axis` (length in 2-D, 1 in 1-D)."""
        return self.cell_volume / self.spacing[axis]

    def refine(self, factor: int = 2) -> Grid:
        """Return the grid in which every cell is divided into `factor` cells along each axis."""
        require_count(factor, "the refinement factor", 1)
        return Grid(tuple(n * factor for n in self.shape), self.lengths, self.origin)

    def nodes(self, axis: int, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Tensor:
        """Return the coordinates of the `n + 1` nodes along an axis."""
        steps = torch.arange(self.shape[axis] + 1, dtype=torch.float64, device=device)
        return (self.origin[axis] + self.lengths[axis] * (steps / self.shape[axis])).to(dtype)

    def centers(self, axis: int, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Tensor:
        """Return the coordinates of the `n` cell centres along an axis."""
        steps = torch.arange(self.shape[axis], dtype=torch.float64, device=device) + 0.5
        return (self.origin[axis] + self.lengths[axis] * (steps / self.shape[axis])).to(dtype)


@dataclass(frozen=True)
class Box:
    """A box in any number of dimensions, without a grid: the domain of networks and other functions.

    Parameters
    ----------
    lengths : float or sequence of float
        Side length along each axis. One number gives a box in one dimension.
    origin : float or sequence of float, optional
        Coordinates of the corner where every coordinate is smallest; 0 by default.

    Raises
    ------
    InputError
        If a length is not positive, or `origin` does not have one entry per axis.

    Examples
    --------
    >>> box = Box([1.0] * 10)
    >>> box.dim, box.volume
    (10, 1.0)
    >>> Grid((4, 4), lengths=(1.0, 2.0)).box
    Box(lengths=(1.0, 2.0), origin=(0.0, 0.0))
    """

    lengths: tuple[float, ...]
    origin: tuple[float, ...] = ()

    def __init__(self, lengths: float | Sequence[float], origin: float | Sequence[float] | None = None) -> None:
        entries = _numbers(lengths, 1, "the lengths of a box must be a number or one number per axis")
        if not entries:
            raise InputError("the lengths of a box are empty; give one length per axis.")
        object.__setattr__(self, "lengths", axis_numbers(entries, len(entries), "lengths"))
        object.__setattr__(self, "origin", axis_numbers(0.0 if origin is None else origin, len(entries), "origin"))
        for axis, length in enumerate(self.lengths):
            if length <= 0:
                raise InputError(f"the length of axis {axis} of the box is {length}; give a positive length.")

    @property
    def dim(self) -> int:
        """Number of axes."""
        return len(self.lengths)

    @property
    def volume(self) -> float:
        """Volume (length in 1-D, area in 2-D)."""
        return math.prod(self.lengths)

    def points(self, unit: Tensor) -> Tensor:
        """Map points of the unit cube, shape (..., dim), to the box by scaling and translation.

        Raises
        ------
        InputError
            If the last axis of `unit` does not have `dim` entries.
        """
        unit = to_tensor(unit, "the points")
        if unit.ndim == 0 or unit.shape[-1] != self.dim:
            shape = tuple(unit.shape)
            raise InputError(f"the points have shape {shape}; give {self.dim} coordinates along the last axis.")
        lengths, origin = (unit.new_tensor(numbers) for numbers in (self.lengths, self.origin))
        return origin + lengths * unit


@dataclass(frozen=True)
class Dirichlet:
    """Prescribed values u = value; an array over nodes represents its multilinear interpolant.

    Parameters
    ----------
    value : float, array or callable
        A number, an array over the nodes of the side, or a callable of the coordinates.
    """

    value: Any = 0.0


@dataclass(frozen=True)
class Neumann:
    """Prescribed flux a du/dn = flux with the outward normal n, constant on each cell face of the side.

    Parameters
    ----------
    flux : float, array or callable
        A number, an array over the faces of the side, or a callable of the coordinates, sampled at face centres.
    """

    flux: Any = 0.0


@dataclass(frozen=True)
class Robin:
    """Robin condition a du/dn + alpha u = g with the outward normal n; alpha and g are constant on each face.

    Parameters
    ----------
    alpha : float, array or callable
        Exchange coefficient, not negative.
    g : float, array or callable
        Right-hand side, for example alpha times the value of u outside.
    """

    alpha: Any
    g: Any = 0.0


@dataclass(frozen=True)
class Periodic:
    """The two sides of an axis are identified; both sides must be declared periodic."""


#: Boundary condition on one side.
Boundary = Dirichlet | Neumann | Robin | Periodic


def side_axis(side: str) -> tuple[int, int]:
    """Return the index of the axis and the end (0 or 1) of a side, given its name such as "y1"."""
    return AXES.index(side[0]), int(side[1])


def _integers(shape: int | Sequence[int]) -> tuple[int, ...]:
    words = "the shape of a grid must be an integer or a sequence of integers"
    entries = _numbers(shape, 1, words)
    if not all(isinstance(n, Integral) or float(n).is_integer() for n in entries):
        raise InputError(f"{words}, not {shape!r}.")
    return tuple(int(n) for n in entries)


def axis_numbers(value: Any, count: int, name: str) -> tuple[float, ...]:
    """Return one finite number per axis; a single number is repeated for all `count` axes.

    Raises
    ------
    InputError
        If an entry is not a finite number, or there are not `count` entries.
    """
    entries = tuple(_double(v) for v in _numbers(value, count, f"{name} must be a number or one number per axis"))
    if len(entries) != count:
        given = "1 entry" if len(entries) == 1 else f"{len(entries)} entries"
        raise InputError(
            f"{name} has {given}, but there {'is 1 axis' if count == 1 else f'are {count} axes'}; give one per axis."
        )
    if not all(math.isfinite(v) for v in entries):
        raise InputError(f"{name} is {entries}; replace NaN and infinity by finite numbers.")
    return entries


def _numbers(value: Any, count: int, words: str) -> tuple[float, ...]:
    """Return the numbers of a sequence or one-dimensional array; a single number is repeated `count` times."""
    plain = _plain(value)
    entries = tuple(map(_plain, plain)) if isinstance(plain, list | tuple | range) else (plain,) * count
    if not all(isinstance(v, Real) and not isinstance(v, bool) for v in entries):
        raise InputError(f"{words}, not {value!r}.")
    return entries


def _double(number: float) -> float:
    try:
        return float(number)
    except OverflowError:  # an integer beyond double precision
        return math.inf


def _plain(value: Any) -> Any:
    """Convert arrays and tensors to lists, and their scalars to Python numbers."""
    return value.tolist() if hasattr(value, "tolist") else value
