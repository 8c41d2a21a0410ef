"""Layout of a data set in a file of The Well, and functions that write the file."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sciml_bounds.errors import InputError
from sciml_bounds.store.datasets.dataset_files import Variable
from sciml_bounds.store.datasets.dataset_source import DatasetSource
from sciml_bounds.store.formats.common_grid import NODE, as_float32, average_to_cells, common_axes
from sciml_bounds.store.formats.physical_numbers import physical_numbers
from sciml_bounds.store.reading.contents import Array, printable
from sciml_bounds.store.safety.writer import FILTERS

if TYPE_CHECKING:
    import h5py

__all__ = ["BOUNDARIES", "WellLayout", "lay_out", "make_file", "put_sample"]

#: Boundary conditions that the loader of The Well accepts.
BOUNDARIES = ("WALL", "OPEN", "PERIODIC")
#: Group for data that The Well cannot represent: nodal values, sample indices, certified errors.
EXTRA = "sciml_bounds"

#: Names at the root of a file that axes cannot have.
_RESERVED_NAMES = {
    "trajectory",
    "dimensions",
    "boundary_conditions",
    "scalars",
    "t0_fields",
    "t1_fields",
    "t2_fields",
    EXTRA,
}
#: Maximum bytes per chunk of a field, and numbers per chunk of a variable with one number per sample.
_CHUNK_BYTES, _CHUNK_NUMBERS = 2**20, 4096


@dataclass(frozen=True)
class WellLayout:
    """Layout of a data set in a file of The Well.

    Attributes
    ----------
    source : DatasetSource
        The data set.
    axes : tuple of str
        Axes of the data set that form the grid of The Well, such as x, y.
    times : ndarray
        Times of the frames; a single one for steady fields.
    moved : tuple of str
        Names of the fields that are averaged from nodes to cells.
    boundary : tuple of str
        Boundary condition of each axis, one of `BOUNDARIES`.
    """

    source: DatasetSource
    axes: tuple[str, ...]
    times: Array
    moved: tuple[str, ...]
    boundary: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the axes in The Well."""
        return tuple(axis.removesuffix(NODE) for axis in self.axes)

    @property
    def lengths(self) -> tuple[int, ...]:
        """The length of each axis."""
        return tuple(self.source.header.lengths[axis] for axis in self.axes)

    @property
    def extras(self) -> tuple[str, ...]:
        """Variables that are stored unchanged in addition to the fields."""
        others = (name for name in self.source.header.variables if name not in self.source.fields)
        return (*others, *self.moved)

    def varies_in_time(self, name: str) -> bool:
        """Return whether a field has frames, which a network predicts, unlike constant fields, which are inputs."""
        return "time" in self.source.dims(name) or name in self.source.header.targets

    def field(self, name: str, sample: Array) -> Array:
        """Return the stored values of one sample of a field, shape (time, *space) or (*space), in float32.

        Raises
        ------
        InputError
            If a value is not finite.
        """
        moved = average_to_cells(sample, len(self.axes)) if name in self.moved else sample
        stored = as_float32(moved, name)
        steady_target = self.varies_in_time(name) and "time" not in self.source.dims(name)
        return stored[None] if steady_target else stored


def lay_out(source: DatasetSource) -> WellLayout:
    """Return the layout of a data set.

    Raises
    ------
    InputError
        If the fields are not on a single grid, or a target is steady while other fields vary in time.
    """
    _check_names(source)
    axes = common_axes(source)
    unsteady = [name for name in source.fields if "time" in source.dims(name)]
    for name in source.header.targets:
        if unsteady and name not in unsteady:
            raise InputError(
                f"{name!r} is a steady target, but other fields vary in time; The Well does not allow both."
            )
    moved = tuple(name for name in source.fields if source.space(name) != axes)
    times = source.positions("time") if unsteady else np.zeros(1)
    return WellLayout(source, axes, times, moved, _boundary(source, len(axes)))


def _check_names(source: DatasetSource) -> None:
    """Raise if a name is unsafe as the name of a file or data set, or is reserved."""
    header = source.header
    names = {header.recipe.replace("-", "_"): "recipe", **dict.fromkeys(header.variables, "variable")}
    for name, what in (names | dict.fromkeys(header.lengths, "axis")).items():
        if not re.fullmatch(r"\w+", name) or (what == "axis" and name in _RESERVED_NAMES):
            raise InputError(f"it has a {what} named {name!r}, which a file of The Well cannot have; rename it.")


def _boundary(source: DatasetSource, dim: int) -> tuple[str, ...]:
    """Return the boundary condition of each axis in The Well, which has none for a Dirichlet condition."""
    recipe, stated = source.header.recipe, _stated_boundary(source)
    if "periodic" in stated or recipe.startswith("navier-stokes"):
        return ("PERIODIC",) * dim
    if recipe == "pipe":  # along the pipe, and across
        return ("OPEN", "WALL")
    if recipe == "imported" and stated == "null":
        return ("OPEN",) * dim  # default of the loader
    return ("WALL",) * dim


def _stated_boundary(source: DatasetSource) -> str:
    """Return the boundary condition or equation of the data set, as JSON."""
    parameters = source.header.parameters
    return json.dumps(parameters.get("boundary", parameters.get("equation")))


# --- the file ---------------------------------------------------------------------------------------------------------


def make_file(file: h5py.File, layout: WellLayout, count: int) -> None:
    """Write everything except the samples, and reserve space for `count` samples."""
    _put_attributes(file, layout, count)
    _put_axes(file, layout, count)
    _put_boundaries(file, layout)
    _put_scalars(file, layout)
    _make_fields(file, layout, count)
    group = file.create_group(EXTRA)
    about = {"long_name": "index in the data set", "units": "1"}
    _make(file, group, "sample", {"trajectory": count}, np.dtype(np.int64), about)
    for name in layout.extras:
        variable = layout.source.header.variables[name]
        axes = {"trajectory": count}
        axes |= {_extra_axis(layout, dim): layout.source.header.lengths[dim] for dim in variable.dims}
        _make(file, group, name, axes, np.dtype(variable.dtype), _about(variable))


def put_sample(
    file: h5py.File,
    layout: WellLayout,
    place: int,
    sample: int,
    fields: Mapping[str, Array],
    rows: Mapping[str, Array],
) -> None:
    """Write one sample at index `place`: fields from `WellLayout.field`, and unchanged variables from `rows`."""
    for name, field in fields.items():
        file["t0_fields"][name][place] = field
    for name in layout.extras:
        file[EXTRA][name][place] = rows[name]
    file[EXTRA]["sample"][place] = sample


def _make_fields(file: h5py.File, layout: WellLayout, count: int) -> None:
    group = file.create_group("t0_fields")
    group.attrs["field_names"] = _words(layout.source.fields)
    for name in layout.source.fields:
        varies = layout.varies_in_time(name)
        axes = {"trajectory": count} | ({"time": len(layout.times)} if varies else {})
        axes |= dict(zip(layout.names, layout.lengths))
        field = _make(file, group, name, axes, np.dtype(np.float32), _about(layout.source.header.variables[name]))
        field.attrs["dim_varying"] = [True] * len(layout.axes)
        field.attrs["sample_varying"], field.attrs["time_varying"] = True, varies
    for empty in ("t1_fields", "t2_fields"):
        file.create_group(empty).attrs["field_names"] = _words(())


def _about(variable: Variable) -> dict[str, str]:
    return {"long_name": printable(variable.long_name), "units": printable(variable.units)}


def _put_attributes(file: h5py.File, layout: WellLayout, count: int) -> None:
    header = layout.source.header
    scalars = physical_numbers(header.parameters)
    file.attrs.update(scalars)
    file.attrs.update(
        dataset_name=header.recipe,
        grid_type="cartesian",
        n_spatial_dims=len(layout.axes),
        n_trajectories=count,
        simulation_parameters=_words(tuple(scalars)),
        Conventions="CF-1.11",
        title=printable(header.title),
        description=printable(header.description),
        reference=printable(header.reference),
        sciml_bounds_version=header.version,
        recipe=header.recipe,
        parameters=json.dumps(header.parameters, sort_keys=True),
        seed=header.seed,
        resolution=header.resolution,
        inputs=_words(header.inputs),
        targets=_words(header.targets),
        layout=header.layout,
    )


def _put_axes(file: h5py.File, layout: WellLayout, count: int) -> None:
    """Write the axes at the root, where netCDF looks for them, and link them in the group `dimensions` of The Well."""
    header = layout.source.header
    group = file.create_group("dimensions")
    group.attrs["spatial_dims"] = _words(layout.names)
    _put_axis(file, "trajectory", np.arange(count, dtype=np.int32), "1")
    scales = {"time": layout.times.astype(np.float32)}
    scales |= {name: layout.source.positions(axis).astype(np.float32) for axis, name in zip(layout.axes, layout.names)}
    for axis, name in zip(("time", *layout.axes), scales):
        _put_axis(file, name, scales[name], header.coordinates[axis][1] if axis in header.coordinates else "1")
        group[name] = file[name]
    for axis in dict.fromkeys(dim for name in layout.extras for dim in layout.source.dims(name)):
        if _extra_axis(layout, axis) not in file:
            units = header.coordinates[axis][1] if axis in header.coordinates else "1"
            _put_axis(file, axis, layout.source.positions(axis), units)


def _put_axis(file: h5py.File, name: str, positions: Array, units: str) -> None:
    scale = file.create_dataset(name, data=positions)
    scale.make_scale(name)
    scale.attrs.update(long_name=f"position along {name}", units=printable(units))
    scale.attrs["sample_varying"], scale.attrs["time_varying"] = False, name == "time"


def _extra_axis(layout: WellLayout, axis: str) -> str:
    """Return the name in the file of an axis of an unchanged variable."""
    return dict(zip(layout.axes, layout.names)).get(axis, axis)


def _put_boundaries(file: h5py.File, layout: WellLayout) -> None:
    group = file.create_group("boundary_conditions")
    for name, length, kind in zip(layout.names, layout.lengths, layout.boundary):
        condition = group.create_group(f"{name}_{kind.lower()}")
        condition.attrs["associated_dims"] = _words((name,))
        condition.attrs["associated_fields"] = _words(())
        condition.attrs.update(bc_type=kind, sample_varying=False, time_varying=False)
        condition.attrs["stated"] = _stated_boundary(layout.source)
        mask = np.zeros(length, bool)
        mask[[0, -1]] = True
        dataset = condition.create_dataset("mask", data=mask)
        dataset.dims[0].attach_scale(file[name])


def _put_scalars(file: h5py.File, layout: WellLayout) -> None:
    group = file.create_group("scalars")
    scalars = physical_numbers(layout.source.header.parameters)
    group.attrs["field_names"] = _words(tuple(scalars))
    for name, value in scalars.items():
        dataset = group.create_dataset(name, data=np.float32(value))
        dataset.attrs["sample_varying"], dataset.attrs["time_varying"] = False, False


def _make(
    file: h5py.File,
    group: h5py.Group,
    name: str,
    axes: Mapping[str, int],
    dtype: np.dtype[Any],
    attributes: Mapping[str, str],
) -> h5py.Dataset:
    """Create an HDF5 data set with compression, checksums and labelled axes, with at most one sample per chunk."""
    shape = tuple(axes.values())
    chunk = [1, *shape[1:]] if shape[1:] else [min(shape[0], _CHUNK_NUMBERS)]
    for axis in range(1, len(shape)):
        rest = math.prod(chunk) * dtype.itemsize
        if rest > _CHUNK_BYTES:
            chunk[axis] = max(1, chunk[axis] * _CHUNK_BYTES // rest)
    made = group.create_dataset(name, shape, dtype, chunks=tuple(chunk), **FILTERS)
    for axis, scale in enumerate(axes):
        made.dims[axis].attach_scale(file[scale])
    made.attrs.update(attributes)
    return made


def _words(words: tuple[str, ...]) -> Array:
    import h5py

    return np.array(list(words), dtype=h5py.string_dtype())
