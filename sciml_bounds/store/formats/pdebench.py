"""Import and export of PDEBench files: one flat HDF5 file per data set, in float32.

Darcy flow has `tensor` (sample, 1, x, y), the solution, and `nu` (sample, x, y), the coefficient, both at cell centres;
the root attribute `beta` is the source. One field in time and one space dimension is `tensor` (sample, time, x); its
`t-coordinate` has one entry more than the time axis. Compressible flow has one array per component.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sciml_bounds.errors import InputError
from sciml_bounds.store.datasets.dataset_source import DatasetSource, open_source
from sciml_bounds.store.formats.common_grid import as_float32, average_to_cells, common_axes
from sciml_bounds.store.formats.foreign_layout import (
    SPACE,
    ForeignLayout,
    ForeignVariable,
    plain_dtype,
    require_arrays,
    same_samples,
)
from sciml_bounds.store.formats.physical_numbers import physical_numbers
from sciml_bounds.store.reading.contents import Array, Contents
from sciml_bounds.store.reading.readers import one_sentence
from sciml_bounds.store.safety.hdf5_output import Hdf5Output
from sciml_bounds.store.safety.writer import FILTERS, check_new_file, replacing

if TYPE_CHECKING:
    import h5py

__all__ = ["describe_pdebench", "export_pdebench", "is_pdebench"]

_REFERENCE = "Takamoto et al., PDEBench: an extensive benchmark for scientific machine learning, NeurIPS 2022"
_FLOW = ("density", "pressure", "Vx", "Vy", "Vz")


# --- export -----------------------------------------------------------------------------------------------------------


def export_pdebench(path: Path | str, out: Path | str, *, callback: Callable[[int, int], None] | None = None) -> Path:
    """Export a data set to a PDEBench file; the file is written atomically.

    Parameters
    ----------
    path : Path or str
        Data set file of this package: one coefficient and one solution in two dimensions, or one field in time and one
        space dimension.
    out : Path or str
        File to write; it must end in .hdf5, by which the loader of PDEBench recognises this layout, and must not exist.
    callback : callable, optional
        Called after each sample with the number of finished samples and the number of all samples.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the file is not a data set, PDEBench has no layout for it, it contains NaN or infinity, or the output cannot
        be written.

    Notes
    -----
    A nodal solution is averaged to the cell centres, where PDEBench expects it; for a bilinear solution this is its
    value there. The arrays `sample` and `split` keep indices and splits; the loader of PDEBench ignores them.
    """
    target = check_new_file(out, (".hdf5",))
    source = open_source(path)
    with one_sentence(f"the data set {path}"):
        axes = common_axes(source)
        darcy = _is_darcy(source, axes)
    with replacing(target) as part, closing(Hdf5Output(part)) as output:
        with output.step() as file:
            (_make_darcy if darcy else _make_frames)(file, source, axes)
        _write_samples(output, source, axes, callback)
        output.finish()
    return target


def _is_darcy(source: DatasetSource, axes: tuple[str, ...]) -> bool:
    """Return whether a data set is Darcy flow rather than a time-dependent field; raise if it is neither."""
    header = source.header
    steady = all("time" not in source.dims(name) for name in source.fields)
    if steady and header.inputs == ("coefficient",) and len(header.targets) == 1 and len(axes) == 2:
        return True
    if len(source.fields) == 1 and source.dims(source.fields[0]) == ("time", *axes) and len(axes) == 1:
        return False
    what = "; ".join(f"{name} {source.dims(name)}" for name in source.fields)
    raise InputError(
        "PDEBench has layouts for one coefficient and its solution in two dimensions, and for one field in time and "
        f"one space dimension, but this data set has {what}; export it to The Well instead."
    )


def _make_darcy(file: h5py.File, source: DatasetSource, axes: tuple[str, ...]) -> None:
    count, lengths = len(source.samples), [source.header.lengths[axis] for axis in axes]
    _make(file, "tensor", (count, 1, *lengths))
    _make(file, "nu", (count, *lengths))
    _put_positions(file, source, axes)
    numbers = physical_numbers(source.header.parameters)
    if "source" in numbers:
        file.attrs["beta"] = numbers["source"]


def _make_frames(file: h5py.File, source: DatasetSource, axes: tuple[str, ...]) -> None:
    times = source.positions("time").astype(np.float64)
    step = times[-1] - times[-2] if len(times) > 1 else 1.0
    _make(file, "tensor", (len(source.samples), len(times), source.header.lengths[axes[0]]))
    file["t-coordinate"] = np.append(times, times[-1] + step).astype(np.float32)
    _put_positions(file, source, axes)


def _put_positions(file: h5py.File, source: DatasetSource, axes: tuple[str, ...]) -> None:
    for axis, letter in zip(axes, SPACE):
        file[f"{letter}-coordinate"] = source.positions(axis).astype(np.float32)
    file["sample"], file["split"] = source.samples, source.splits
    file.attrs.update(physical_numbers(source.header.parameters))


def _make(file: h5py.File, name: str, shape: tuple[int, ...]) -> None:
    file.create_dataset(name, shape, np.float32, chunks=(1, *shape[1:]), **FILTERS)


def _write_samples(
    output: Hdf5Output, source: DatasetSource, axes: tuple[str, ...], callback: Callable[[int, int], None] | None
) -> None:
    names = {source.header.targets[0]: "tensor"}
    names |= {} if len(source.fields) == 1 else {source.header.inputs[0]: "nu"}
    with closing(source.walk(tuple(names))) as walk:
        for place, (sample, _, rows) in enumerate(walk):
            with one_sentence(f"sample {sample} of the data set {source.path}"):
                fields = {name: _field(source, name, row, axes) for name, row in rows.items()}
            with output.step() as file:
                for name, field in fields.items():
                    file[names[name]][place] = field
            if callback is not None:
                callback(place + 1, len(source.samples))


def _field(source: DatasetSource, name: str, row: Array, axes: tuple[str, ...]) -> Array:
    return as_float32(row if source.space(name) == axes else average_to_cells(row, len(axes)), name)


# --- import -----------------------------------------------------------------------------------------------------------


def is_pdebench(contents: Contents) -> bool:
    """Return whether a file has the array names of the flat files of PDEBench."""
    return "x-coordinate" in contents.arrays and not {"tensor", *_FLOW}.isdisjoint(contents.arrays)


def describe_pdebench(contents: Contents) -> ForeignLayout:
    """Return the layout of a flat file.

    Raises
    ------
    InputError
        If an array is missing, the shapes disagree, or the file has one group per seed.
    """
    if any(name.endswith("/data") for name in contents.arrays) and "tensor" not in contents.arrays:
        raise InputError("it has one group per seed, like some files of PDEBench; only flat files can be imported.")
    if "nu" in contents.arrays:
        return _darcy(contents)
    if "tensor" in contents.arrays:
        return _frames(contents, {"tensor": "solution"}, (3,))
    names = {name: name for name in _FLOW if name in contents.arrays}
    if not names:
        require_arrays(contents, ("tensor",), {"tensor": (3, 4)})  # raises the error
    return _frames(contents, names, (3, 4, 5))


def _darcy(contents: Contents) -> ForeignLayout:
    require_arrays(contents, ("tensor", "nu"), {"tensor": (4,), "nu": (3,)})
    tensor, shape = contents.arrays["tensor"].shape, contents.arrays["nu"].shape
    if tensor != (shape[0], 1, *shape[1:]):
        raise InputError(
            f"the shapes of its arrays disagree: tensor {tensor}, nu {shape}; they must be (n, 1, x, y) and (n, x, y)."
        )
    dims, dtype = ("x", "y"), plain_dtype(contents, "tensor")
    numbers = _numbers(contents)
    stated = {"source": numbers["beta"]} if "beta" in numbers else {}
    equation = {"equation": "-div(a grad u) = f in (0, 1)^2, u = 0 on the boundary"}
    return ForeignLayout(
        "Darcy flow of PDEBench",
        _REFERENCE,
        {
            "coefficient": ForeignVariable(("nu",), dims, shape[1:], plain_dtype(contents, "nu"), "coefficient"),
            "solution": ForeignVariable(("tensor",), dims, shape[1:], dtype, "solution", make=_only_channel),
        },
        ("coefficient",),
        ("solution",),
        "same",
        _positions(contents, dims, shape[1:]),
        equation | stated | numbers,
    )


def _frames(contents: Contents, names: Mapping[str, str], ndims: tuple[int, ...]) -> ForeignLayout:
    require_arrays(contents, tuple(names), dict.fromkeys(names, ndims))
    same_samples(contents, tuple(names), same_shape=True)
    shape = contents.arrays[next(iter(names))].shape[1:]
    dims = ("time", *SPACE[: len(shape) - 1])
    variables = {
        ours: ForeignVariable((name,), dims, shape, plain_dtype(contents, name), ours) for name, ours in names.items()
    }
    fields = tuple(variables)
    positions = _positions(contents, dims, shape)
    return ForeignLayout(
        "Trajectories of PDEBench", _REFERENCE, variables, fields, fields, "time", positions, _numbers(contents)
    )


def _positions(contents: Contents, dims: tuple[str, ...], shape: tuple[int, ...]) -> dict[str, tuple[Array, str]]:
    return {dim: (_axis(contents, dim, length), "1") for dim, length in zip(dims, shape)}


def _axis(contents: Contents, dim: str, length: int) -> Array:
    """Return the positions along an axis; times may have one additional entry."""
    name = f"{dim[0]}-coordinate"
    require_arrays(contents, (name,), {name: (1,)})
    positions = contents.read(name)
    if len(positions) not in ((length, length + 1) if dim == "time" else (length,)):
        raise InputError(
            f"the shapes of its arrays disagree: {name} has {len(positions)} values for an axis of length {length}; "
            "correct the file."
        )
    if not (np.diff(positions) > 0).all() or not np.isfinite(positions).all():
        raise InputError(f"{name} must be finite and increasing along the axis.")
    return positions[:length]


def _numbers(contents: Contents) -> dict[str, float]:
    return physical_numbers(contents.attributes)


def _only_channel(rows: Sequence[Array]) -> Array:
    return np.asarray(rows[0][0])
