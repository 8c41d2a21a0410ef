"""Wells of reservoir and groundwater simulations, as cell terms of a diffusion problem.

A well with a rate q in a cell of volume V adds q / V to the source. A well with the index w and the bottom-hole
pressure p_w injects w (p_w - p) at the cell pressure p (Peaceman, SPE J. 18 (1978) 183-194); it adds w / V to the
reaction and w p_w / V to the source.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sciml_bounds.arrays import convert, require_finite
from sciml_bounds.errors import InputError
from sciml_bounds.problems.diffusion import Diffusion

__all__ = ["Well", "with_wells"]


@dataclass(frozen=True)
class Well:
    """A well in one or several cells, with a prescribed rate or a prescribed bottom-hole pressure.

    Parameters
    ----------
    cells : tuple of int and slice
        Index of the cells in a cell field, such as `(10, 20)`, or `(10, 20, slice(None))` for a vertical well.
    rate : float or array, optional
        Volume per time that is injected into each of the cells; negative for production.
    index : float or array, optional
        Well index of each of the cells, positive: rate per pressure difference between well and cell.
    pressure : float or array, optional
        Bottom-hole pressure, together with `index`.

    Raises
    ------
    InputError
        If neither `rate` nor both of `index` and `pressure` are given, or all of them.
    """

    cells: tuple[Any, ...]
    rate: Any = None
    index: Any = None
    pressure: Any = None

    def __post_init__(self) -> None:
        given = tuple(value is not None for value in (self.rate, self.index, self.pressure))
        if given not in ((True, False, False), (False, True, True)):
            raise InputError("a well needs either rate, or both index and pressure; give one of the two.")
        if not isinstance(self.cells, tuple):
            raise InputError(f"cells is {self.cells!r}; give a tuple of indices and slices, one per axis.")

    def rates(self, pressure: Tensor) -> Tensor:
        """Return the rates injected into the cells of the well, for cell pressures (batch..., cells)."""
        inside = pressure[(..., *self.cells)]
        if self.rate is not None:
            return torch.as_tensor(self.rate, dtype=inside.dtype, device=inside.device).expand(inside.shape)
        index, bottom_hole = (torch.as_tensor(q, dtype=inside.dtype) for q in (self.index, self.pressure))
        return index.to(inside.device) * (bottom_hole.to(inside.device) - inside)


def with_wells(problem: Diffusion, wells: Sequence[Well]) -> Diffusion:
    """Return a problem whose source and reaction include wells.

    Parameters
    ----------
    problem : Diffusion
        The problem without wells.
    wells : sequence of Well
        The wells; several wells in one cell add up.

    Raises
    ------
    InputError
        If a well lies outside the grid or in a solid cell, or one of its numbers does not fit.

    Examples
    --------
    >>> import sciml_bounds as sb
    >>> wells = [sb.simulation.Well((0, 0), rate=1.0), sb.simulation.Well((7, 7), index=2.0, pressure=10.0)]
    >>> closed = sb.Diffusion(sb.Grid((8, 8)), boundary=sb.Neumann(0.0))
    >>> s = sb.prepare(sb.simulation.with_wells(closed, wells), unknowns="cells").solve()
    >>> [round(well.rates(s.pressure).item(), 6) for well in wells]
    [1.0, -1.0]
    """
    shape = (*problem.batch_shape, *problem.grid.shape)
    source, reaction = (field.expand(shape).flatten(-problem.grid.dim) for field in (problem.source, problem.reaction))
    for number, well in enumerate(wells):
        cells = _cells_of(problem, well, number)
        if well.rate is not None:
            rate = _numbers(problem, well.rate, f"the rate of well {number}", cells)
        else:
            index = _numbers(problem, well.index, f"the index of well {number}", cells)
            if not bool((index > 0).all()):
                raise InputError(
                    f"the index of well {number} must be positive, but is {index.min():g}; check its sign."
                )
            reaction = reaction.index_add(-1, cells.flatten(), _densities(problem, index, reaction))
            rate = index * _numbers(problem, well.pressure, f"the pressure of well {number}", cells)
        source = source.index_add(-1, cells.flatten(), _densities(problem, rate, source))
    return problem.replace(source=source.view(shape), reaction=reaction.view(shape))


def _densities(problem: Diffusion, rates: Tensor, like: Tensor) -> Tensor:
    """Return rates per volume, for each sample of a field (batch..., cells)."""
    return (rates.flatten() / problem.grid.cell_volume).expand(*like.shape[:-1], -1)


def _cells_of(problem: Diffusion, well: Well, number: int) -> Tensor:
    """Return the flat indices of the cells of a well."""
    shape = problem.grid.shape
    numbers = torch.arange(math.prod(shape), device=problem.device).view(shape)
    try:
        cells = numbers[well.cells]
    except (IndexError, TypeError):
        cells = numbers[:0]
    if len(well.cells) != problem.grid.dim or cells.numel() == 0:
        raise InputError(
            f"well {number} has the cells {well.cells}, but the grid has the shape {shape}; give one index or slice "
            "per axis, inside the grid."
        )
    if not bool(problem.fluid.flatten(1)[:, cells.flatten()].all()):
        raise InputError(f"well {number} has a solid cell among its cells {well.cells}; move it to a fluid cell.")
    return cells


def _numbers(problem: Diffusion, value: Any, name: str, cells: Tensor) -> Tensor:
    """Return one finite number for each cell of a well."""
    numbers = convert(value, name, problem.dtype, problem.device)
    require_finite(numbers, name)
    try:
        return numbers.expand(cells.shape)
    except RuntimeError:
        raise InputError(
            f"{name} has shape {tuple(numbers.shape)}, but the well has cells of shape {tuple(cells.shape)}; give one "
            "number, or one per cell."
        ) from None
