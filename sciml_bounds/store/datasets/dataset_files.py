"""Data sets: files of many samples with common axes, which are written and read sample by sample.

A data set is a netCDF-4 file like those of `saved_results`. The leading axis of every variable is `sample`, whose
coordinate is the index of the sample in the whole data set. The root attributes `recipe`, `parameters` (JSON), `seed`,
`resolution` and `device` determine the numbers. `samples` is the size of the whole data set, of which a shard has a
part; `inputs`, `targets` and `layout` describe the intended use by a network.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sciml_bounds import __version__
from sciml_bounds.errors import InputError
from sciml_bounds.store.datasets.checked_file import CheckedFile
from sciml_bounds.store.datasets.saved_results import FORMAT_VERSION, check_content, check_format
from sciml_bounds.store.datasets.splits import SPLITS, split_of
from sciml_bounds.store.reading.contents import Array, ArrayInfo, Contents
from sciml_bounds.store.reading.hdf5_files import CHECKSUM, stored_digest
from sciml_bounds.store.reading.readers import one_sentence, open_file
from sciml_bounds.store.safety.stream import Disk
from sciml_bounds.store.safety.writer import FILTERS, SUFFIXES, check_target, replacing

if TYPE_CHECKING:
    import h5netcdf
    import h5py
    import xarray

__all__ = [
    "DatasetHeader",
    "DatasetWriter",
    "Variable",
    "check_dataset",
    "check_whole",
    "is_whole",
    "join",
    "names_in",
    "open_dataset",
    "stored_lengths",
    "stored_samples",
    "writing_dataset",
]

CONTENT = "Dataset"
#: Attributes that every data set needs.
_REQUIRED_ATTRIBUTES = ("recipe", "inputs", "targets", "layout")
#: Variables that describe the samples and are not part of the recipe.
_SAMPLE_VARIABLES = ("sample", "split")
#: Maximum bytes per chunk of frames of time-dependent samples, since pairs of frames are read.
_FRAME_CHUNK_BYTES = 2**20
#: Maximum bytes per chunk; older versions of HDF5 cannot read chunks of 4 GiB.
_MAX_CHUNK_BYTES = 2**28
#: Samples per chunk of a variable with one number per sample.
_CHUNK_NUMBERS = 4096


class Variable(Protocol):
    """A variable without its sample axis, as in recipes."""

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes of one sample."""

    @property
    def long_name(self) -> str:
        """Description of the variable."""

    @property
    def units(self) -> str:
        """Units; "1" for dimensionless numbers."""

    @property
    def dtype(self) -> Any:
        """Name of the dtype."""


@dataclass(frozen=True)
class _StoredVariable:
    dims: tuple[str, ...]
    long_name: str
    units: str
    dtype: str


@dataclass(frozen=True)
class DatasetHeader:
    """Metadata of a data set.

    Attributes
    ----------
    recipe, title, description, reference : str
        Name of the recipe, and texts that describe it.
    parameters : mapping
        Parameters of the recipe, which determine the numbers together with the next four attributes.
    seed, resolution : int
        Seed of the random numbers, and resolution.
    device, version : str
        Kind of device, and version of the package, on which the numbers were generated.
    samples : int
        Number of samples of the whole data set, of which a file may have a part.
    inputs, targets : tuple of str
        Names of the variables that a network receives and predicts.
    layout : str
        Layout as in `Recipe.layout`.
    coordinates : mapping
        Positions and units of axes, by name of the axis.
    variables : mapping
        Variables without the sample axis, by name.
    lengths : mapping
        Lengths of all axes except that of the samples.
    """

    recipe: str
    title: str
    description: str
    reference: str
    parameters: Mapping[str, Any]
    seed: int
    resolution: int
    device: str
    samples: int
    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    layout: str
    coordinates: Mapping[str, tuple[Array, str]]
    variables: Mapping[str, Variable]
    lengths: Mapping[str, int]
    version: str = __version__

    def identity(self) -> dict[str, Any]:
        """Return the entries that must agree between files of one data set, as JSON values."""
        names = ("recipe", "seed", "resolution", "device", "version")
        identity: dict[str, Any] = {name: getattr(self, name) for name in names}
        identity["variables"] = {name: f"{v.dtype} {' '.join(v.dims)}" for name, v in self.variables.items()}
        return identity | {"parameters": json.loads(json.dumps(self.parameters))}

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one sample of a variable."""
        return tuple(self.lengths[dim] for dim in self.variables[name].dims)

    def attributes(self) -> dict[str, Any]:
        """Return the root attributes of a file."""
        return {
            "Conventions": "CF-1.11",
            "title": self.title,
            "description": self.description,
            "reference": self.reference,
            "content": CONTENT,
            "format_version": FORMAT_VERSION,
            "sciml_bounds_version": self.version,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "recipe": self.recipe,
            "parameters": json.dumps(self.parameters, sort_keys=True),
            "seed": self.seed,
            "resolution": self.resolution,
            "device": self.device,
            "samples": self.samples,
            "inputs": list(self.inputs),
            "targets": list(self.targets),
            "layout": self.layout,
        }

    @classmethod
    def of(cls, contents: Contents) -> DatasetHeader:
        """Read the header of an open data set.

        Raises
        ------
        InputError
            If the file was not generated from a recipe or imported.
        """
        check_dataset(contents)
        attributes = contents.attributes
        words = {name: str(attributes.get(name, "")) for name in ("title", "description", "reference", "device")}
        numbers = ("seed", "resolution", "samples", "parameters")
        missing = [name for name in numbers if name not in attributes]
        if missing:
            raise InputError(
                f"its attribute {' and '.join(missing)} is missing, so it was not generated from a recipe of this "
                "package; generate or import it again."
            )
        arrays = {name: info for name, info in contents.arrays.items() if name not in _SAMPLE_VARIABLES}
        variables = {name: info for name, info in arrays.items() if _has_samples(info)}
        coordinates = {name: info for name, info in arrays.items() if info.role == "coordinate"}
        lengths = {dim: n for info in variables.values() for dim, n in zip(info.dims or (), info.shape)}
        return cls(
            recipe=str(attributes["recipe"]),
            parameters=json.loads(str(attributes["parameters"])),
            seed=int(attributes["seed"]),
            resolution=int(attributes["resolution"]),
            samples=int(attributes["samples"]),
            inputs=names_in(attributes["inputs"]),
            targets=names_in(attributes["targets"]),
            layout=str(attributes["layout"]),
            coordinates={name: (contents.read(name), _units(info)) for name, info in coordinates.items()},
            variables={
                name: _StoredVariable(
                    (info.dims or ())[1:], str(info.attributes.get("long_name", "")), _units(info), info.dtype
                )
                for name, info in variables.items()
            },
            lengths={dim: length for dim, length in lengths.items() if dim != "sample"},
            version=str(attributes["sciml_bounds_version"]),
            **words,
        )


def names_in(attribute: Any) -> tuple[str, ...]:
    """Return the names in an attribute, which netCDF stores as a string if there is only one."""
    return (attribute,) if isinstance(attribute, str) else tuple(map(str, attribute))


def _units(info: ArrayInfo) -> str:
    return str(info.attributes.get("units", "1"))


def _has_samples(info: ArrayInfo) -> bool:
    return info.dims is not None and info.dims[:1] == ("sample",)


# --- reading ----------------------------------------------------------------------------------------------------------


def check_dataset(contents: Contents) -> None:
    """Check that an open file is a data set with all its variables, without reading them.

    Raises
    ------
    InputError
        If it is not.
    """
    if "format_version" not in contents.attributes or "sciml_bounds_version" not in contents.attributes:
        raise InputError(
            "this package did not write it; make a data set of its arrays with sb.data.from_arrays or sciml-bounds "
            "import --arrays."
        )
    check_format(contents)
    content = contents.attributes.get("content")
    if content != CONTENT or any(name not in contents.attributes for name in _REQUIRED_ATTRIBUTES):
        what = "labelled fields without a recipe" if content == CONTENT else f"a {content}"
        raise InputError(
            f"it contains {what}, not a data set; open it with sb.data.read or sciml-bounds inspect, or make a data "
            "set of its arrays with sb.data.from_arrays."
        )
    if any(info.role == "link" for info in contents.arrays.values()):
        raise InputError("it has a link, unlike all data sets; it was changed after it was written.")
    for name in ("sample", *names_in(contents.attributes["inputs"]), *names_in(contents.attributes["targets"])):
        info = contents.arrays.get(name)
        if info is None:
            raise InputError(
                f"the variable {name!r} is missing; the file is damaged or was changed, generate it again."
            )
        if not info.is_numeric or not _has_samples(info):
            raise InputError(
                f"the variable {name!r} must be numeric with the leading axis 'sample'; generate the file again."
            )


def open_dataset(path: Path | str) -> xarray.Dataset:
    """Open a data set lazily: its numbers are read when they are used.

    Parameters
    ----------
    path : Path or str
        File of `make_dataset`, `sciml-bounds generate` or `sciml-bounds import`.

    Returns
    -------
    xarray.Dataset
        Data set with leading axis `sample` and the variable `split` (0 train, 1 validation, 2 test). Its attributes
        determine the numbers; `parameters` is JSON, `inputs` and `targets` are lists.

    Raises
    ------
    InputError
        If it is not a data set, or has a newer format.

    Notes
    -----
    Reading a part of the data checks the checksums of that part; `sciml-bounds inspect` checks the whole file.

    Examples
    --------
    >>> import sciml_bounds as sb
    >>> data = sb.open_dataset("darcy.nc")  # doctest: +SKIP
    >>> test = data.isel(sample=data.split == 2)  # doctest: +SKIP
    """
    import xarray

    with ExitStack() as files:
        contents = open_file(Path(path), "the data set", files)
        with one_sentence(f"the data set in {path}"):
            check_dataset(contents)
            dataset = xarray.open_dataset(path, engine="h5netcdf", chunks=None, cache=False)
    for name in ("inputs", "targets"):
        dataset.attrs[name] = list(names_in(dataset.attrs[name]))
    return dataset


# --- writing ----------------------------------------------------------------------------------------------------------


@contextmanager
def writing_dataset(path: Path | str, header: DatasetHeader, samples: range) -> Iterator[DatasetWriter]:
    """Write a data set of any size sample by sample; the file is written atomically, with a checksum.

    Parameters
    ----------
    path : Path or str
        File to write, ending in .nc, .h5 or .hdf5; an existing file is replaced.
    header : DatasetHeader
        Metadata of the data set.
    samples : range
        Indices of the samples in the file.

    Raises
    ------
    InputError
        If the file cannot be written, for example because the disk is full.
    """
    check_target(path, SUFFIXES)
    with replacing(path) as part:
        writer = DatasetWriter(part, header, samples)
        try:
            yield writer
            writer.finish()
        finally:
            writer.close()


class DatasetWriter(CheckedFile):
    """A data set that is being written; created by `writing_dataset`."""

    def __init__(self, path: Path, header: DatasetHeader, samples: range) -> None:
        self.header, self.samples = header, samples
        self._missing = dict.fromkeys(header.variables, len(samples))
        super().__init__(path, lambda disk: _make_structure(disk, header, samples))

    def write(self, first: int, arrays: Mapping[str, Array]) -> None:
        """Write the samples from index `first` on, given an array (count, ...) for each variable."""
        for name in self.header.variables:
            values = arrays[name]
            with self._step() as file:
                start = first - self.samples.start
                file[name][start : start + len(values)] = values
            self._missing[name] -= len(values)

    def copy(self, source: h5py.File, first: int, last: int) -> None:
        """Copy the samples `first` to `last - 1` from another data set with the same variables.

        Compressed chunks are copied unchanged if both files store the variable in the same way.
        """
        start = int(source["sample"][0])
        for name in self.header.variables:
            for index in range(first, last) if self.header.variables[name].dims else ():
                with self._step() as file:
                    _copy_sample(source[name], index - start, file[name], index - self.samples.start)
            if not self.header.variables[name].dims:
                with self._step() as file:
                    place = slice(first - self.samples.start, last - self.samples.start)
                    file[name][place] = source[name][first - start : last - start]
            self._missing[name] -= last - first

    def finish(self) -> None:
        """Check that every sample was written, close the file, and store its checksum."""
        missing = {name: count for name, count in self._missing.items() if count}
        if missing:
            raise RuntimeError(f"samples are missing or were written twice: {missing}")
        super().finish()


def join(
    sources: Sequence[tuple[Path, range]],
    path: Path | str,
    header: DatasetHeader,
    samples: range,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> None:
    """Write one data set from files with its samples.

    Parameters
    ----------
    sources : sequence of (Path, range)
        Files with the indices of their samples, in ascending order without gaps; samples outside `samples` are skipped.
    path : Path or str
        File to write, as in `writing_dataset`.
    header : DatasetHeader
        Metadata of the data set.
    samples : range
        Indices of the samples in the file.
    on_progress : callable, optional
        Called after each file with the number of samples written.
    """
    import h5py

    with writing_dataset(path, header, samples) as writer:
        for source, indices in sources:
            first, last = max(indices.start, samples.start), min(indices.stop, samples.stop)
            with h5py.File(source, "r") as file:
                writer.copy(file, first, last)
            if on_progress is not None:
                on_progress(last - samples.start)


def is_whole(path: Path, samples: range) -> bool:
    """Return whether a file of this package is intact and has exactly these samples."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            same = np.array_equal(file["sample"][:], np.arange(samples.start, samples.stop))
            return same and bool(file.attrs[CHECKSUM] == stored_digest(file))
    except (OSError, KeyError, ValueError, RuntimeError):
        return False


def stored_lengths(path: Path, variables: Mapping[str, Variable]) -> dict[str, int]:
    """Return the lengths of all axes except that of the samples, in a file of this package."""
    import h5py

    with h5py.File(path, "r") as file:
        return {dim: n for name, v in variables.items() for dim, n in zip(v.dims, file[name].shape[1:])}


def stored_samples(contents: Contents) -> range:
    """Return the indices of the samples in an open data set or shard.

    Raises
    ------
    InputError
        If they are not consecutive.
    """
    indices = contents.read("sample")
    if not len(indices) or not np.array_equal(indices, np.arange(indices[0], indices[0] + len(indices))):
        raise InputError("its samples are not consecutive, so it is not a generated data set or shard; give one.")
    return range(int(indices[0]), int(indices[-1]) + 1)


def check_whole(contents: Contents) -> None:
    """Check the whole content of an open data set against its checksum; raise InputError if they differ."""
    check_dataset(contents)
    check_content(contents)


def _make_structure(disk: Disk, header: DatasetHeader, samples: range) -> None:
    """Write names, axes, units and attributes."""
    import h5netcdf

    count = len(samples)
    with h5netcdf.File(disk, "w") as file:
        file.dimensions = {"sample": count} | dict(header.lengths)
        indices = np.arange(samples.start, samples.stop, dtype=np.int64)
        _put(file, "sample", ("sample",), indices, {"long_name": "index in the whole data set", "units": "1"})
        meanings = {"flag_values": np.arange(len(SPLITS), dtype=np.int8), "flag_meanings": " ".join(SPLITS)}
        _put(
            file, "split", ("sample",), split_of(indices), {"long_name": "split that the sample belongs to"} | meanings
        )
        for name, (positions, units) in header.coordinates.items():
            _put(file, name, (name,), np.asarray(positions), {"long_name": f"position along {name}", "units": units})
        for name, variable in header.variables.items():
            shape = header.shape(name)
            stored = file.create_variable(
                name,
                ("sample", *variable.dims),
                np.dtype(variable.dtype),
                chunks=_chunk(variable.dims, shape, np.dtype(variable.dtype).itemsize, count),
                **FILTERS,
            )
            stored.attrs.update({"long_name": variable.long_name, "units": variable.units})
        file.attrs.update(header.attributes())


def _put(file: h5netcdf.File, name: str, dims: tuple[str, ...], values: Array, attributes: Mapping[str, Any]) -> None:
    file.create_variable(name, dims, values.dtype, data=values, chunks=values.shape, fletcher32=True)
    file[name].attrs.update(attributes)


def _chunk(dims: tuple[str, ...], shape: tuple[int, ...], itemsize: int, count: int) -> tuple[int, ...]:
    """Return the shape of a chunk: one sample, or as many frames of a time-dependent sample as fit."""
    if not shape:
        return (min(count, _CHUNK_NUMBERS),)
    row = math.prod(shape[1:]) * itemsize
    largest = _FRAME_CHUNK_BYTES if dims[0] == "time" else _MAX_CHUNK_BYTES
    return (1, max(1, min(shape[0], largest // max(row, 1))), *shape[1:])


def _copy_sample(source: h5py.Dataset, at: int, target: h5py.Dataset, to: int) -> None:
    if _storage(source) != _storage(target):
        target[to] = source[at]
        return
    steps = (range(0, length, step) for length, step in zip(source.shape[1:], source.chunks[1:]))
    for offset in itertools.product(*steps):
        mask, content = source.id.read_direct_chunk((at, *offset))
        target.id.write_direct_chunk((to, *offset), content, mask)


def _storage(dataset: h5py.Dataset) -> tuple[Any, ...]:
    """Return the properties that determine how the numbers of a chunk are encoded."""
    names = ("dtype", "chunks", "compression", "compression_opts", "shuffle", "fletcher32", "scaleoffset")
    return (dataset.shape[1:], *(getattr(dataset, name) for name in names))
