"""Grids of box cells, and the conditions on their sides.

Axis letters: x, y, z are the axes of the grid in this order ('ij' indexing); side `x0` is where x is smallest, `x1`
where it is largest. Node fields have shape `n + 1` along an axis, cell fields `n`, face fields `n + 1` along their own
axis. A periodic axis has `n` nodes.
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

#: Spacings outside of this range have squares or volumes that under- or overflow, and bounds with them.
_SPACINGS = (1e-100, 1e100)


@dataclass(frozen=True)
class Grid:
    """A box divided into equal cells along each axis, in one, two or three dimensions.

    Parameters
    ----------
    shape
        Number of cells along each axis, each at least 2; a plain integer means one dimension.
    lengths
        Side lengths of the box; 1 along every axis by default.
    origin
        Coordinates of the corner where every coordinate is smallest; 0 by default.

    Raises
    ------
    InputError
        If an axis has fewer than two cells, a length is not positive, a spacing is not between 1e-100 and 1e100, the
        numbers of entries differ, or two plain integers leave open whether the second one is a length.

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
                f"Grid{both} is a line of {shape} cells, {lengths} long; give Grid({both}) for cells along two axes, "
                f"or lengths=({lengths},) for the line."
            )
        if not 1 <= len(cells) <= 3:
            raise InputError(f"a grid has one, two or three axes, but shape={tuple(cells)} has {len(cells)}.")
        for axis, n in zip(AXES, cells):
            if n < 2:
                raise InputError(f"axis {axis} has {n} {'cell' if n == 1 else 'cells'}; every axis needs at least 2.")
        object.__setattr__(self, "shape", cells)
        object.__setattr__(self, "lengths", axis_numbers(1.0 if lengths is None else lengths, len(cells), "lengths"))
        object.__setattr__(self, "origin", axis_numbers(0.0 if origin is None else origin, len(cells), "origin"))
        for axis, length in zip(AXES, self.lengths):
            if length <= 0:
                raise InputError(f"the length of axis {axis} is {length}; it must be positive.")
        for axis, h in zip(AXES, self.spacing):
            if not _SPACINGS[0] <= h <= _SPACINGS[1]:
                raise InputError(f"the spacing along axis {axis} is {h:g}; choose units that bring it close to 1.")

    @property
    def dim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Side lengths of one cell."""
        return tuple(length / n for length, n in zip(self.lengths, self.shape))

    @property
    def cell_volume(self) -> float:
        """Volume (length, area) of one cell."""
        return math.prod(self.spacing)

    @property
    def box(self) -> Box:
        """The box without its cells."""
        return Box(self.lengths, self.origin)

    @property
    def sides(self) -> tuple[str, ...]:
        """Names of the sides: `x0`, `x1`, `y0`, ..."""
        return tuple(f"{AXES[axis]}{end}" for axis in range(self.dim) for end in (0, 1))

    def face_area(self, axis: int) -> float:
        """Area (length, 1) of one cell face that is perpendicular to `axis`."""
        return self.cell_volume / self.spacing[axis]

    def refine(self, factor: int = 2) -> Grid:
        """Return the grid of the same box with every cell divided into `factor` cells along each axis."""
        require_count(factor, "the refinement factor", 1)
        return Grid(tuple(n * factor for n in self.shape), self.lengths, self.origin)

    def nodes(self, axis: int, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Tensor:
        """Coordinates of the `n + 1` nodes along one axis."""
        steps = torch.arange(self.shape[axis] + 1, dtype=torch.float64, device=device)
        return (self.origin[axis] + self.lengths[axis] * (steps / self.shape[axis])).to(dtype)

    def centers(self, axis: int, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Tensor:
        """Coordinates of the `n` cell centres along one axis."""
        steps = torch.arange(self.shape[axis], dtype=torch.float64, device=device) + 0.5
        return (self.origin[axis] + self.lengths[axis] * (steps / self.shape[axis])).to(dtype)


@dataclass(frozen=True)
class Box:
    """A box in any number of dimensions, without cells: where functions live that no grid can hold.

    Parameters
    ----------
    lengths
        Side lengths, one an axis; a single number means one dimension.
    origin
        Coordinates of the corner where every coordinate is smallest; 0 by default.

    Raises
    ------
    InputError
        If a length is not positive, or the numbers of entries differ.

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
        entries = _numbers(lengths, 1, "the lengths of a box are a number or one number an axis")
        if not entries:
            raise InputError("a box has at least one axis; give the length of each.")
        object.__setattr__(self, "lengths", axis_numbers(entries, len(entries), "lengths"))
        object.__setattr__(self, "origin", axis_numbers(0.0 if origin is None else origin, len(entries), "origin"))
        for axis, length in enumerate(self.lengths):
            if length <= 0:
                raise InputError(f"the length of axis {axis} of the box is {length}; it must be positive.")

    @property
    def dim(self) -> int:
        """Number of axes."""
        return len(self.lengths)

    @property
    def volume(self) -> float:
        """Volume (length, area, ...)."""
        return math.prod(self.lengths)

    def points(self, unit: Tensor) -> Tensor:
        """Map points of the unit cube, (..., d), to the box.

        Raises
        ------
        InputError
            If points have another number of coordinates.
        """
        unit = to_tensor(unit, "the points")
        if unit.ndim == 0 or unit.shape[-1] != self.dim:
            shape = tuple(unit.shape)
            raise InputError(f"the points have shape {shape}; they need {self.dim} coordinates in the last axis.")
        lengths, origin = (unit.new_tensor(numbers) for numbers in (self.lengths, self.origin))
        return origin + lengths * unit


@dataclass(frozen=True)
class Dirichlet:
    """Prescribed values u = value; nodal data mean their multilinear interpolant.

    Parameters
    ----------
    value
        A number, an array over the nodes of the side, or a callable of the coordinates.
    """

    value: Any = 0.0


@dataclass(frozen=True)
class Neumann:
    """Prescribed flux a du/dn = flux, n the outward normal, constant on each face of the side.

    Parameters
    ----------
    flux
        A number, an array over the faces of the side, or a callable of the coordinates, sampled at face centres.
    """

    flux: Any = 0.0


@dataclass(frozen=True)
class Robin:
    """Exchange with the outside: a du/dn + alpha u = g, n the outward normal, alpha and g constant on each face.

    Parameters
    ----------
    alpha
        Exchange coefficient, not negative.
    g
        Right-hand side (alpha times the outside value, where there is one).
    """

    alpha: Any
    g: Any = 0.0


@dataclass(frozen=True)
class Periodic:
    """The two sides of an axis are the same place; both sides of the axis must be periodic."""


#: A condition on one side.
Boundary = Dirichlet | Neumann | Robin | Periodic


def side_axis(side: str) -> tuple[int, int]:
    """Split a side name into the number of its axis and its end (0 or 1)."""
    return AXES.index(side[0]), int(side[1])


def _integers(shape: int | Sequence[int]) -> tuple[int, ...]:
    words = "the shape of a grid is an integer or a tuple of integers"
    entries = _numbers(shape, 1, words)
    if not all(isinstance(n, Integral) or float(n).is_integer() for n in entries):
        raise InputError(f"{words}, not {shape!r}.")
    return tuple(int(n) for n in entries)


def axis_numbers(value: Any, count: int, name: str) -> tuple[float, ...]:
    """Read one finite number for each of so many axes, or one for all.

    Raises
    ------
    InputError
        If entries are no finite numbers, or more or less than the axes.
    """
    entries = tuple(_double(v) for v in _numbers(value, count, f"{name} is a number or one number an axis"))
    if len(entries) != count:
        given = "1 entry" if len(entries) == 1 else f"{len(entries)} entries"
        raise InputError(f"{name} has {given}, but there {'is 1 axis' if count == 1 else f'are {count} axes'}.")
    if not all(math.isfinite(v) for v in entries):
        raise InputError(f"{name} has an entry that is not finite: {entries}.")
    return entries


def _numbers(value: Any, count: int, words: str) -> tuple[float, ...]:
    """Read the numbers of a sequence or of a one-dimensional array; a single number is repeated `count` times."""
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
    """Turn arrays and tensors into lists, and their scalars into plain numbers."""
    return value.tolist() if hasattr(value, "tolist") else value
