"""One grid for all fields of a data set, for formats that have no other.

Where a coefficient lies on cells and a solution at nodes, the cells are that grid: the coefficient stays as it is, and
the mean of the corners of a cell is the bilinear solution at its centre, exactly.
"""

from __future__ import annotations

import numpy as np

from sciml_bounds.errors import InputError
from sciml_bounds.store.datasets.dataset_source import DatasetSource
from sciml_bounds.store.reading.contents import Array

__all__ = ["NODE", "as_float32", "average_to_cells", "common_axes"]

#: Ends the names of axes that count nodes.
NODE = "_node"


def common_axes(source: DatasetSource) -> tuple[str, ...]:
    """Choose the axes of the grid: of cells if a field lies on them, otherwise those of the fields.

    Raises
    ------
    InputError
        If the fields are neither on one grid, nor on the cells and at the nodes of one, or time does not come first.
    """
    for name in source.fields:
        if "time" in source.dims(name)[1:]:
            raise InputError(f"{name!r} has the axes {source.dims(name)}; time has to come first.")
    spaces = list(dict.fromkeys(source.space(name) for name in source.fields))
    cells = tuple(axis.removesuffix(NODE) for axis in spaces[0])
    nodes = tuple(axis + NODE for axis in cells)
    if not 1 <= len(cells) <= 3 or (spaces[1:] and set(spaces) != {cells, nodes}):
        raise InputError(f"its fields have the axes {', '.join(map(str, spaces))}, which are not those of one grid.")
    lengths = source.header.lengths
    for axis, node in zip(cells, nodes) if spaces[1:] else ():
        if lengths[node] != lengths[axis] + 1:
            raise InputError(f"it has {lengths[axis]} cells but {lengths[node]} nodes along {axis}; make it again.")
    return cells if spaces[1:] else spaces[0]


def average_to_cells(nodal: Array, dim: int) -> Array:
    """Average the corners of each cell over the last `dim` axes: the value of the (multi)linear function at its centre.

    Examples
    --------
    >>> average_to_cells(np.array([0.0, 1.0, 4.0]), 1)
    array([0.5, 2.5])
    """
    for axis in range(nodal.ndim - dim, nodal.ndim):
        count = nodal.shape[axis]
        low, high = (np.take(nodal, range(first, first + count - 1), axis) for first in (0, 1))
        nodal = (low + high) / 2
    return nodal


def as_float32(field: Array, name: str) -> Array:
    """Convert to the dtype of the formats of others.

    Raises
    ------
    InputError
        If a number is not finite, or not any more.
    """
    with np.errstate(over="ignore"):  # caught by what follows
        converted = np.asarray(field, np.float32)
    if not np.isfinite(converted).all():
        raise InputError(f"{name!r} holds values that are not finite in float32; leave out the sample or scale it.")
    return converted
