"""Labelled fields on regular grids as VTK images, with pyvista (extra `vtk`)."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sciml_bounds.errors import InputError, MissingExtraError
from sciml_bounds.grid import AXES

if TYPE_CHECKING:
    import pyvista
    import xarray

__all__ = ["frame_image", "list_frames", "make_image", "require_pyvista", "sample_image"]

#: Suffix of the names of nodal axes.
NODE = "_node"
#: Name of the axis of vector and tensor components.
COMPONENT = "component"
#: Largest relative deviation between two spacings along an axis of equally spaced positions stored in float32.
SPACING_TOL = 1e-3


def require_pyvista() -> Any:
    """Import pyvista.

    Raises
    ------
    MissingExtraError
        If pyvista is not installed.
    """
    try:
        return importlib.import_module("pyvista")
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "VTK files need pyvista, which is not installed; run pip install 'sciml-bounds[vtk]'."
        ) from error


def sample_image(dataset: xarray.Dataset, sample: int = 0) -> pyvista.ImageData:
    """Return the image of one frame of a data set; see `list_frames`.

    Raises
    ------
    InputError
        If there is no such frame, or the data set does not fit into images.
    """
    frames = list_frames(dataset)
    if len(frames) > 1 and not 0 <= sample < len(frames):
        raise InputError(f"sample is {sample}, but there are {len(frames)} samples; use 0 to {len(frames) - 1}.")
    return frame_image(dataset, frames[sample if len(frames) > 1 else 0][1])


def list_frames(dataset: xarray.Dataset) -> list[tuple[float, dict[str, int]]]:
    """Return the time of each frame of a data set, and its indices along the axes of the frames.

    These axes are `sample`, `batch1`, ... or `time`; samples have the times 0, 1, ... A data set without such axes has
    one frame.

    Parameters
    ----------
    dataset : xarray.Dataset
        Fields with the axes x, y, z (cells) or x_node, y_node, z_node (nodes).

    Raises
    ------
    InputError
        If the data set has time as well as samples.
    """
    axes = [str(dim) for dim in dataset.dims if re.fullmatch(r"sample|batch\d+|time", str(dim))]
    if "time" in axes and len(axes) > 1:
        raise InputError(f"the data set has the axes {', '.join(axes)}; select one sample with isel(sample=0).")
    lengths = tuple(dataset.sizes[axis] for axis in axes)
    times: Any = range(math.prod(lengths))
    if axes == ["time"] and "time" in dataset.coords and dataset["time"].dtype.kind in "fiu":
        times = dataset["time"].values
    indices = (map(int, index) for index in np.ndindex(lengths))
    return [(float(time), dict(zip(axes, index))) for time, index in zip(times, indices)]


def frame_image(dataset: xarray.Dataset, index: Mapping[str, int]) -> pyvista.ImageData:
    """Return the image of the frame with the given indices.

    Raises
    ------
    InputError
        If a variable is not numeric, has an axis that an image does not have, or the positions along an axis are not
        equally spaced.
    """
    frame = dataset.isel(index)
    for name, variable in frame.data_vars.items():
        if variable.dtype.kind not in "fiub":
            raise InputError(
                f"variable {name!r} has {variable.dtype} values, but VTK needs numbers; drop this variable."
            )
    positions = {str(name): frame[name].values for name in frame.dims if name in frame.coords}
    sizes = {str(name): size for name, size in frame.sizes.items()}
    fields = {str(name): (tuple(map(str, field.dims)), field.values) for name, field in frame.data_vars.items()}
    return make_image(sizes, positions, fields)


def make_image(
    sizes: Mapping[str, int],
    positions: Mapping[str, NDArray[Any]],
    fields: Mapping[str, tuple[tuple[str, ...], NDArray[Any]]],
) -> pyvista.ImageData:
    """Make the image of one frame.

    Nodal fields become point data, cell fields cell data, and numbers without spatial axes field data. Along a periodic
    axis, where the nodal fields have as many values as there are cells, the first plane is repeated at the end.

    Parameters
    ----------
    sizes : mapping of str to int
        Length of each named axis.
    positions : mapping of str to array
        Positions along the named axes; axes without positions have the spacing 1.
    fields : mapping of str to (tuple of str, array)
        The axes and values of each field.

    Raises
    ------
    InputError
        If there is no spatial axis, a field has an axis that an image does not have, or the positions along an axis
        are not equally spaced.
    """
    pyvista = require_pyvista()
    letters = [axis for axis in AXES if axis in sizes or axis + NODE in sizes]
    if not letters:
        raise InputError(
            "no field has the axes x, y, z or x_node, y_node, z_node, which an image needs; rename the axes of the "
            "field."
        )
    axes = [_axis(axis, sizes, positions) for axis in letters]
    pad = 3 - len(axes)
    image = pyvista.ImageData(
        dimensions=(*(cells + 1 for cells, _, _ in axes), *(1,) * pad),
        spacing=(*(spacing for _, spacing, _ in axes), *(1.0,) * pad),
        origin=(*(origin for _, _, origin in axes), *(0.0,) * pad),
    )
    cells = {axis: count for axis, (count, _, _) in zip(letters, axes)}
    for name, (dims, values) in fields.items():
        _put(image, cells, name, dims, values)
    return image


def _axis(axis: str, sizes: Mapping[str, int], positions: Mapping[str, NDArray[Any]]) -> tuple[int, float, float]:
    """Return the number of cells, the spacing and the origin along an axis."""
    nodal = axis + NODE in sizes
    name = axis + NODE if nodal else axis
    cells = sizes[axis] if axis in sizes else sizes[name] - 1
    where = np.asarray(positions.get(name, np.arange(sizes[name])), np.float64)
    steps = np.diff(where)
    spacing = float((where[-1] - where[0]) / len(steps)) if len(steps) else 1.0
    if len(steps) and (not spacing > 0 or np.abs(steps - spacing).max() > SPACING_TOL * spacing):
        raise InputError(
            f"the positions along {name} are not equally spaced, as a VTK image needs; resample the field."
        )
    return cells, spacing, float(where[0]) - (0.0 if nodal else spacing / 2)


def _put(
    image: pyvista.ImageData, cells: Mapping[str, int], name: str, dims: tuple[str, ...], values: NDArray[Any]
) -> None:
    """Add one field to the image; in VTK, x varies fastest, and components are in the last axis."""
    values = values.astype(np.uint8) if values.dtype.kind == "b" else values
    if not dims:
        image.field_data[name] = np.atleast_1d(values)
        return
    nodes = [axis + NODE for axis in cells]
    where = next((space for space in (list(cells), nodes) if set(dims) - {COMPONENT} == set(space)), None)
    if where is None:
        raise InputError(
            f"{name!r} has the axes {dims}, but a field of this image has the axes {tuple(cells)} or {tuple(nodes)}, "
            f"and may have {COMPONENT!r}; drop this field or rename its axes."
        )
    order = [dims.index(axis) for axis in where] + [i for i, axis in enumerate(dims) if axis == COMPONENT]
    values = values.transpose(order)
    if where == nodes:
        missing = [cells[axis] + 1 - count for axis, count in zip(cells, values.shape)]
        values = np.pad(values, [(0, count) for count in missing] + [(0, 0)] * (values.ndim - len(cells)), mode="wrap")
    components = values.shape[len(cells) :]
    data = image.point_data if where == nodes else image.cell_data
    data[name] = _columns(values) if components else values.ravel(order="F")


def _columns(values: NDArray[Any]) -> NDArray[Any]:
    """Return a field (space..., component) as (points, component), x fastest."""
    return np.stack([values[..., i].ravel(order="F") for i in range(values.shape[-1])], axis=-1)
