"""How a data set of ours lies in a file of The Well, and the file itself.

The Well has one grid a file. Where ours has a coefficient on cells and a solution at nodes, the cells are that grid:
the coefficient stays as it is, and the mean of the corners of a cell is the bilinear solution at its centre, exactly.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sciml_bounds import __version__
from sciml_bounds.errors import InputError
from sciml_bounds.store.contents import Array, printable
from sciml_bounds.store.dataset_header import DatasetHeader

if TYPE_CHECKING:
    import h5py

__all__ = ["BOUNDARIES", "WellLayout", "average_to_cells", "lay_out", "make_file", "put_sample"]

#: What The Well's loader knows; for all others it stops.
BOUNDARIES = ("WALL", "OPEN", "PERIODIC")
#: Where what The Well has no place for is kept: values at nodes, the index of the sample, its certified error.
EXTRA = "sciml_bounds"

_NODE = "_node"
_CHUNK = 2**20
#: Root attributes and scales, whose names no parameter can have.
_RESERVED = {
    "dataset_name", "grid_type", "n_spatial_dims", "n_trajectories", "simulation_parameters", "Conventions", "title",
    "description", "recipe", "seed", "resolution", "parameters", "source", "inputs", "targets", "layout",
}  # fmt: skip


@dataclass(frozen=True)
class WellLayout:
    """Where everything goes.

    Attributes
    ----------
    header
        The data set.
    axes
        Its axes that are the axes of The Well's grid, such as x, y.
    lengths
        The length of each.
    times
        The times of the frames; one where nothing varies in time.
    moved
        The fields that are averaged from nodes to cells.
    boundary
        The condition of each axis, in The Well's words.
    """

    header: DatasetHeader
    axes: tuple[str, ...]
    lengths: tuple[int, ...]
    times: Array
    moved: frozenset[str]
    boundary: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the axes in The Well."""
        return tuple(axis.removesuffix(_NODE) for axis in self.axes)

    @property
    def extras(self) -> tuple[str, ...]:
        """Variables that are kept beside the fields."""
        others = (name for name in self.header.variables if name not in self.header.fields)
        return (*others, *sorted(self.moved))

    def varies_in_time(self, name: str) -> bool:
        """Whether a field is one of frames, which a network predicts, and not a constant one, which it is given."""
        return "time" in self.header.dims(name) or name in self.header.targets

    def field(self, name: str, sample: Array) -> Array:
        """Turn one sample of a field into what is stored, (time, *space) or (*space), in float32.

        Raises
        ------
        InputError
            If it is not finite.
        """
        moved = average_to_cells(sample, len(self.axes)) if name in self.moved else sample
        with np.errstate(over="ignore"):  # caught by what follows
            stored = np.asarray(moved, np.float32)
        if not np.isfinite(stored).all():
            raise InputError(f"{name!r} holds NaN or infinite values (or ones too large for float32), which The Well "
                             "does not allow; leave the sample out.")  # fmt: skip
        steady_target = self.varies_in_time(name) and "time" not in self.header.dims(name)
        return stored[None] if steady_target else stored


def average_to_cells(nodal: Array, dim: int) -> Array:
    """Average the corners of each cell over the last `dim` axes: the value of the (multi)linear function at its centre.

    Examples
    --------
    >>> average_to_cells(np.array([0.0, 1.0, 4.0]), 1)
    array([0.5, 2.5])
    """
    for axis in range(nodal.ndim - dim, nodal.ndim):
        low = [slice(None)] * nodal.ndim
        high = list(low)
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        nodal = (nodal[tuple(low)] + nodal[tuple(high)]) / 2
    return nodal


def lay_out(header: DatasetHeader) -> WellLayout:
    """Decide where everything goes.

    Raises
    ------
    InputError
        If the fields lie on grids that do not fit together, or a target is steady while others vary in time.
    """
    spaces = {name: tuple(dim for dim in header.dims(name) if dim != "time") for name in header.fields}
    times = _times(header)
    for name in header.fields:
        if header.dims(name) not in (spaces[name], ("time", *spaces[name])):
            raise InputError(f"{name!r} has the axes {header.dims(name)}; time has to be the first after the sample.")
        if times is not None and name in header.targets and "time" not in header.dims(name):
            raise InputError(
                f"{name!r} is a steady target beside fields that vary in time; The Well has no such thing."
            )
    cells = {tuple(dim.removesuffix(_NODE) for dim in space) for space in spaces.values()}
    if len(cells) != 1 or not 1 <= len(next(iter(cells))) <= 3:
        raise InputError(f"the fields lie on different grids, {sorted(set(spaces.values()))}; The Well has one a file.")
    axes = min(spaces.values(), key=lambda space: sum(dim.endswith(_NODE) for dim in space))
    lengths = next(header.shape(name)[-len(axes) :] for name in header.fields if spaces[name] == axes)
    moved = frozenset(name for name in header.fields if spaces[name] != axes)
    for name in header.fields:
        expected = tuple(n + (dim not in axes) for n, dim in zip(lengths, spaces[name]))
        if header.shape(name)[-len(axes) :] != expected:
            raise InputError(f"{name!r} has the shape {header.shape(name)}, but its grid the shape {expected}.")
    for name in moved:
        if any(dim in axes for dim in spaces[name]):
            raise InputError(f"{name!r} lies at nodes along some axes only; The Well has one grid a file.")
    boundary = _boundary(header, len(axes))
    return WellLayout(header, axes, lengths, np.zeros(1) if times is None else times, moved, boundary)


def _times(header: DatasetHeader) -> Array | None:
    counts = {header.shape(name)[0] for name in header.fields if header.dims(name)[:1] == ("time",)}
    if len(counts) > 1:
        raise InputError(f"the fields have different numbers of frames, {sorted(counts)}; The Well has one a file.")
    if not counts:
        return None
    count = counts.pop()
    return header.coordinates.get("time", np.arange(count))


def _boundary(header: DatasetHeader, dim: int) -> tuple[str, ...]:
    """Say in The Well's words what happens at the ends of each axis; it has none for a Dirichlet condition."""
    said = json.dumps(header.parameters.get("boundary", "")).lower()
    if "periodic" in said or header.recipe.startswith("navier-stokes"):
        return ("PERIODIC",) * dim
    if header.recipe == "pipe":  # along the pipe, and across
        return ("OPEN", "WALL")
    if header.recipe == "imported" and said == '""':
        return ("OPEN",) * dim  # what the loader takes where nothing is stated
    return ("WALL",) * dim


# --- the file ---------------------------------------------------------------------------------------------------------


def make_file(file: h5py.File, layout: WellLayout, count: int) -> None:
    """Write everything but the samples, of which there will be `count`."""
    _put_attributes(file, layout, count)
    _put_axes(file, layout, count)
    _put_boundaries(file, layout)
    _put_scalars(file, layout)
    header, dim = layout.header, len(layout.axes)
    group = file.create_group("t0_fields")
    group.attrs["field_names"] = _words(header.fields)
    for name in header.fields:
        varies = layout.varies_in_time(name)
        shape = (count, *((len(layout.times),) if varies else ()), *layout.lengths)
        dims = ("trajectory", *(("time",) if varies else ()), *layout.names)
        dataset = _make(file, group, name, shape, dims, np.dtype(np.float32), header.variables[name].attributes)
        dataset.attrs["dim_varying"] = [True] * dim
        dataset.attrs["sample_varying"], dataset.attrs["time_varying"] = True, varies
    for empty in ("t1_fields", "t2_fields"):
        file.create_group(empty).attrs["field_names"] = _words(())
    extra = file.create_group(EXTRA)
    _make(file, extra, "sample", (count,), ("trajectory",), np.dtype(np.int64), {"long_name": "index in the data set"})
    for name in layout.extras:
        info = header.variables[name]
        dims = ("trajectory", *_extra_dims(layout, name))
        _make(file, extra, name, (count, *header.shape(name)), dims, np.dtype(info.dtype), info.attributes)


def put_sample(file: h5py.File, layout: WellLayout, place: int, sample: int, rows: Mapping[str, Array]) -> None:
    """Write one sample of every variable at its place in the file."""
    for name in layout.header.fields:
        file["t0_fields"][name][place] = layout.field(name, rows[name])
    for name in layout.extras:
        file[EXTRA][name][place] = rows[name]
    file[EXTRA]["sample"][place] = sample


def _put_attributes(file: h5py.File, layout: WellLayout, count: int) -> None:
    header = layout.header
    scalars = _scalars(header)
    told = {name: header.attributes[name] for name in ("title", "description", "seed", "resolution", "layout")
            if name in header.attributes}  # fmt: skip
    file.attrs.update(told | scalars)
    file.attrs.update(
        dataset_name=header.recipe,
        grid_type="cartesian",
        n_spatial_dims=len(layout.axes),
        n_trajectories=count,
        Conventions="CF-1.11",
        source=f"sciml_bounds {__version__}",
        recipe=header.recipe,
        parameters=json.dumps(header.parameters, sort_keys=True),
        inputs=_words(header.inputs),
        targets=_words(header.targets),
        simulation_parameters=_words(tuple(scalars)),
    )


def _scalars(header: DatasetHeader) -> dict[str, float]:
    """Take the parameters that are numbers: The Well has no place for others."""
    numbers = {
        name: float(value)
        for name, value in header.parameters.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
    return {name: value for name, value in numbers.items() if name.isidentifier() and name not in _RESERVED}


def _put_axes(file: h5py.File, layout: WellLayout, count: int) -> None:
    """Put the scales at the root, where netCDF looks for them, and link them from where The Well does."""
    header = layout.header
    group = file.create_group("dimensions")
    group.attrs["spatial_dims"] = _words(layout.names)
    axes: dict[str, tuple[Array, dict[str, Any]]] = {"trajectory": (np.arange(count, dtype=np.int32), {})}
    axes["time"] = (layout.times.astype(np.float32), header.axis_attributes.get("time", {}))
    for axis, name, length in zip(layout.axes, layout.names, layout.lengths):
        positions = header.coordinates.get(axis, np.arange(length)).astype(np.float32)
        letter = {"axis": name.upper()} if name in ("x", "y", "z") else {}
        axes[name] = (positions, header.axis_attributes.get(axis, {}) | letter)
    for variable in layout.extras:
        for dim, name, length in zip(header.dims(variable), _extra_dims(layout, variable), header.shape(variable)):
            axes.setdefault(name, (header.coordinates.get(dim, np.arange(length)), header.axis_attributes.get(dim, {})))
    for name, (values, attributes) in axes.items():
        scale = file.create_dataset(name, data=values)
        scale.make_scale(name)
        scale.attrs.update(attributes)
        scale.attrs["sample_varying"], scale.attrs["time_varying"] = False, name == "time"
        if name in ("time", *layout.names):
            group[name] = scale


def _extra_dims(layout: WellLayout, name: str) -> tuple[str, ...]:
    """Name the axes of a variable that is kept as it is; those of the grid have The Well's names."""
    names = dict(zip(layout.axes, layout.names))
    return tuple(names.get(dim, dim) for dim in layout.header.dims(name))


def _put_boundaries(file: h5py.File, layout: WellLayout) -> None:
    group = file.create_group("boundary_conditions")
    for name, length, kind in zip(layout.names, layout.lengths, layout.boundary):
        condition = group.create_group(f"{name}_{kind.lower()}")
        condition.attrs["associated_dims"] = _words((name,))
        condition.attrs["associated_fields"] = _words(())
        condition.attrs.update(bc_type=kind, sample_varying=False, time_varying=False)
        condition.attrs["stated"] = json.dumps(layout.header.parameters.get("boundary"))
        mask = np.zeros(length, bool)
        mask[[0, -1]] = True
        dataset = condition.create_dataset("mask", data=mask)
        dataset.dims[0].attach_scale(file[name])


def _put_scalars(file: h5py.File, layout: WellLayout) -> None:
    group = file.create_group("scalars")
    scalars = _scalars(layout.header)
    group.attrs["field_names"] = _words(tuple(scalars))
    for name, value in scalars.items():
        dataset = group.create_dataset(name, data=np.float32(value))
        dataset.attrs["sample_varying"], dataset.attrs["time_varying"] = False, False


def _make(
    file: h5py.File,
    group: h5py.Group,
    name: str,
    shape: tuple[int, ...],
    dims: tuple[str, ...],
    dtype: np.dtype[Any],
    attributes: Mapping[str, Any],
) -> h5py.Dataset:
    """Make a data set, compressed and with checksums, a part of one sample a chunk; every axis is labelled."""
    chunk = [1, *shape[1:]]
    for axis in range(1, len(shape)):
        rest = math.prod(chunk) * dtype.itemsize
        if rest > _CHUNK:
            chunk[axis] = max(1, chunk[axis] * _CHUNK // rest)
    dataset = group.create_dataset(
        name, shape, dtype, chunks=tuple(chunk), compression="gzip", compression_opts=1, shuffle=True, fletcher32=True
    )
    for axis, dim in enumerate(dims):
        dataset.dims[axis].attach_scale(file[dim])
    kept = {key: value for key, value in attributes.items() if key in ("long_name", "units")}
    dataset.attrs.update({key: printable(str(value)) for key, value in kept.items()})
    return dataset


def _words(words: tuple[str, ...]) -> Array:
    import h5py

    return np.array(list(words), dtype=h5py.string_dtype())
