"""Common grid for all fields of a data set, for formats with a single grid.

If a coefficient is given on cells and a solution at nodes, the common grid is that of the cells: the coefficient is
unchanged, and the mean over the corners of a cell is exactly the value of the bilinear solution at its centre.
"""

from __future__ import annotations

import numpy as np

from sciml_bounds.errors import InputError
from sciml_bounds.store.datasets.dataset_source import DatasetSource
from sciml_bounds.store.reading.contents import Array

__all__ = ["NODE", "as_float32", "average_to_cells", "common_axes"]

#: Suffix of the names of nodal axes.
NODE = "_node"


def common_axes(source: DatasetSource) -> tuple[str, ...]:
    """Return the axes of the common grid: cell axes if there are fields on cells, otherwise those of the fields.

    Raises
    ------
    InputError
        If the fields are not on the cells or at the nodes of a single grid, or time is not the first axis.
    """
    for name in source.fields:
        if "time" in source.dims(name)[1:]:
            raise InputError(f"{name!r} has the axes {source.dims(name)}; time must be the first of them.")
    spaces = list(dict.fromkeys(source.space(name) for name in source.fields))
    cells = tuple(axis.removesuffix(NODE) for axis in spaces[0])
    nodes = tuple(axis + NODE for axis in cells)
    if not 1 <= len(cells) <= 3 or (spaces[1:] and set(spaces) != {cells, nodes}):
        raise InputError(f"its fields have the axes {', '.join(map(str, spaces))}, which do not form a single grid.")
    lengths = source.header.lengths
    for axis, node in zip(cells, nodes) if spaces[1:] else ():
        if lengths[node] != lengths[axis] + 1:
            raise InputError(f"it has {lengths[axis]} cells but {lengths[node]} nodes along {axis}; create it again.")
    return cells if spaces[1:] else spaces[0]


def average_to_cells(nodal: Array, dim: int) -> Array:
    """Return the mean over the corners of each cell, the value at its centre of the multilinear interpolant.

    The last `dim` axes of `nodal` are those of the nodes.

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
    """Convert a field to float32.

    Raises
    ------
    InputError
        If a number is not finite, or overflows.
    """
    with np.errstate(over="ignore"):  # overflow is detected below
        converted = np.asarray(field, np.float32)
    if not np.isfinite(converted).all():
        raise InputError(f"{name!r} has values that are not finite in float32; leave out the sample or scale it.")
    return converted
