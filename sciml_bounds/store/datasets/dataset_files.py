"""Data sets: files of many samples that share their axes, written sample by sample and read the same way.

A data set is a netCDF-4 file as those of `results`. Every variable has the leading axis `sample`, whose coordinate is
the index of the sample in the whole data set, and the root attributes say what determines the numbers: `recipe`,
`parameters` (JSON), `seed`, `resolution`, `device`. `samples` is how many were asked for, of which a shard holds some;
`inputs`, `targets` and `layout` say how a network would use them.
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
#: What a network needs to know; data sets of others, once they are imported, have no more.
_NEEDED = ("recipe", "inputs", "targets", "layout")
#: What belongs to the samples and not to the recipe.
_OF_THE_SAMPLES = ("sample", "split")
#: Of time-dependent samples, a chunk holds as many frames as fit into this; one frame and the next are read alone.
_FRAMES = 2**20
#: Chunks of 4 GiB are more than older versions of HDF5 read.
_LARGEST_CHUNK = 2**28
#: How many samples of a variable with one number a sample share a chunk.
_NUMBERS = 4096


class Variable(Protocol):
    """One variable without its sample axis, as recipes describe it."""

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes of one sample."""

    @property
    def long_name(self) -> str:
        """What it is, in words."""

    @property
    def units(self) -> str:
        """Its units, "1" without any."""

    @property
    def dtype(self) -> Any:
        """Its dtype, by name."""


@dataclass(frozen=True)
class _StoredVariable:
    dims: tuple[str, ...]
    long_name: str
    units: str
    dtype: str


@dataclass(frozen=True)
class DatasetHeader:
    """What a data set says about itself.

    Attributes
    ----------
    recipe, title, description, reference
        What it is, in words.
    parameters, seed, resolution, device, version
        What determines the numbers; `version` is that of the package that generated them.
    samples
        How many the whole data set has, of which a file may hold some.
    inputs, targets, layout
        How a network would use the variables.
    coordinates
        Positions and units, by the name of the axis.
    variables
        By name, without the sample axis.
    lengths
        Of all axes but the samples'.
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
        """Give what must agree between files that are parts of one data set, in JSON's words."""
        names = ("recipe", "seed", "resolution", "device", "version")
        identity: dict[str, Any] = {name: getattr(self, name) for name in names}
        identity["variables"] = {name: f"{v.dtype} {' '.join(v.dims)}" for name, v in self.variables.items()}
        return identity | {"parameters": json.loads(json.dumps(self.parameters))}

    def shape(self, name: str) -> tuple[int, ...]:
        """Give the shape of one sample of a variable."""
        return tuple(self.lengths[dim] for dim in self.variables[name].dims)

    def attributes(self) -> dict[str, Any]:
        """Give the root attributes of a file."""
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
        """Read the header of an open file of a data set.

        Raises
        ------
        InputError
            If it is none that a recipe made.
        """
        check_dataset(contents)
        attributes = contents.attributes
        words = {name: str(attributes.get(name, "")) for name in ("title", "description", "reference", "device")}
        numbers = ("seed", "resolution", "samples", "parameters")
        missing = [name for name in numbers if name not in attributes]
        if missing:
            raise InputError(f"it does not say its {' and '.join(missing)}: no recipe of this package made it.")
        arrays = {name: info for name, info in contents.arrays.items() if name not in _OF_THE_SAMPLES}
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
    """Take the names from an attribute; netCDF writes a list of one as that one."""
    return (attribute,) if isinstance(attribute, str) else tuple(map(str, attribute))


def _units(info: ArrayInfo) -> str:
    return str(info.attributes.get("units", "1"))


def _has_samples(info: ArrayInfo) -> bool:
    return info.dims is not None and info.dims[:1] == ("sample",)


# --- reading ----------------------------------------------------------------------------------------------------------


def check_dataset(contents: Contents) -> None:
    """Check that an open file is a data set whose variables are there; nothing of them is read.

    Raises
    ------
    InputError
        If it is not.
    """
    if "format_version" not in contents.attributes or "sciml_bounds_version" not in contents.attributes:
        raise InputError("this package did not write it; make a data set of it with: sciml-bounds import.")
    check_format(contents)
    content = contents.attributes.get("content")
    if content != CONTENT or any(name not in contents.attributes for name in _NEEDED):
        what = "labelled fields without a recipe" if content == CONTENT else f"a {content}"
        raise InputError(f"it holds {what} and no data set; open it with sb.data.read.")
    if any(info.role == "link" for info in contents.arrays.values()):
        raise InputError("it holds a link, which data sets never do; it was changed after it was written.")
    for name in ("sample", *names_in(contents.attributes["inputs"]), *names_in(contents.attributes["targets"])):
        info = contents.arrays.get(name)
        if info is None:
            raise InputError(f"the variable {name!r} is missing; the file is damaged or was changed, make it again.")
        if not info.is_numeric or not _has_samples(info):
            raise InputError(f"the variable {name!r} has no axis of samples, or no numbers; make the file again.")


def open_dataset(path: Path | str) -> xarray.Dataset:
    """Open a data set; its numbers are read when they are used.

    Parameters
    ----------
    path
        A file that `make_dataset`, `sciml-bounds generate` or `sciml-bounds import` made.

    Returns
    -------
    xarray.Dataset
        With the leading axis `sample` and the variable `split` (0 train, 1 validation, 2 test). Its attributes say what
        determines the numbers; `parameters` is JSON, `inputs` and `targets` are lists.

    Raises
    ------
    InputError
        If it is no data set, or is written in a format that this version does not know. `sciml-bounds inspect` compares
        the whole content with its checksum; reading a part of it compares that part.

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
    """Write a data set of any size sample by sample; the file appears whole and checked, or not at all.

    Parameters
    ----------
    path
        Where, ending in .nc, .h5 or .hdf5; an existing file is replaced.
    header
        What it says about itself.
    samples
        The indices of the samples in it.

    Raises
    ------
    InputError
        If it cannot be written there, for want of space, for example.
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
    """A data set that is being written; `writing_dataset` makes it."""

    def __init__(self, path: Path, header: DatasetHeader, samples: range) -> None:
        self.header, self.samples = header, samples
        self._missing = dict.fromkeys(header.variables, len(samples))
        super().__init__(path, lambda disk: _make_structure(disk, header, samples))

    def write(self, first: int, arrays: Mapping[str, Array]) -> None:
        """Write the samples from index `first` on, an array of (count, ...) for each variable."""
        for name in self.header.variables:
            values = arrays[name]
            with self._step() as file:
                start = first - self.samples.start
                file[name][start : start + len(values)] = values
            self._missing[name] -= len(values)

    def copy(self, source: h5py.File, first: int, last: int) -> None:
        """Take the samples `first` to `last - 1` from another data set with the same variables.

        Where it stores them as this one does, the compressed chunks are taken as they are.
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
        """Close the file, in which every sample must be, and write down its checksum."""
        missing = {name: count for name, count in self._missing.items() if count}
        if missing:
            raise RuntimeError(f"samples were not written, or twice: {missing}")
        super().finish()


def join(
    sources: Sequence[tuple[Path, range]],
    path: Path | str,
    header: DatasetHeader,
    samples: range,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> None:
    """Write one data set from files that hold its samples, in their order.

    Parameters
    ----------
    sources
        Files with the indices of their samples, in ascending order without gaps; what is not in `samples` is left out.
    path, header, samples
        As in `writing_dataset`.
    on_progress
        Called with the number of samples after each file.
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
    """Tell whether a file that this package made is as it was written and holds just these samples."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            same = np.array_equal(file["sample"][:], np.arange(samples.start, samples.stop))
            return same and bool(file.attrs[CHECKSUM] == stored_digest(file))
    except (OSError, KeyError, ValueError, RuntimeError):
        return False


def stored_lengths(path: Path, variables: Mapping[str, Variable]) -> dict[str, int]:
    """Give the lengths of all axes but the samples' in a file that this package made."""
    import h5py

    with h5py.File(path, "r") as file:
        return {dim: n for name, v in variables.items() for dim, n in zip(v.dims, file[name].shape[1:])}


def stored_samples(contents: Contents) -> range:
    """Give the indices of the samples in an open data set of one piece.

    Raises
    ------
    InputError
        If they do not follow one another.
    """
    indices = contents.read("sample")
    if not len(indices) or not np.array_equal(indices, np.arange(indices[0], indices[0] + len(indices))):
        raise InputError("its samples do not follow one another; it is not a data set or shard that was generated.")
    return range(int(indices[0]), int(indices[-1]) + 1)


def check_whole(contents: Contents) -> None:
    """Check the whole content of an open data set against its checksum; raises InputError."""
    check_dataset(contents)
    check_content(contents)


def _make_structure(disk: Disk, header: DatasetHeader, samples: range) -> None:
    """Write names, axes, units and attributes; the numbers follow."""
    import h5netcdf

    count = len(samples)
    with h5netcdf.File(disk, "w") as file:
        file.dimensions = {"sample": count} | dict(header.lengths)
        indices = np.arange(samples.start, samples.stop, dtype=np.int64)
        _put(file, "sample", ("sample",), indices, {"long_name": "index in the whole data set", "units": "1"})
        meanings = {"flag_values": np.arange(len(SPLITS), dtype=np.int8), "flag_meanings": " ".join(SPLITS)}
        _put(file, "split", ("sample",), split_of(indices), {"long_name": "what the sample is for"} | meanings)
        for name, (positions, units) in header.coordinates.items():
            _put(file, name, (name,), np.asarray(positions), {"long_name": f"position along {name}", "units": units})
        for name, variable in header.variables.items():
            shape = header.shape(name)
            made = file.create_variable(
                name,
                ("sample", *variable.dims),
                np.dtype(variable.dtype),
                chunks=_chunk(variable.dims, shape, np.dtype(variable.dtype).itemsize, count),
                **FILTERS,
            )
            made.attrs.update({"long_name": variable.long_name, "units": variable.units})
        file.attrs.update(header.attributes())


def _put(file: h5netcdf.File, name: str, dims: tuple[str, ...], values: Array, attributes: Mapping[str, Any]) -> None:
    file.create_variable(name, dims, values.dtype, data=values, chunks=values.shape, fletcher32=True)
    file[name].attrs.update(attributes)


def _chunk(dims: tuple[str, ...], shape: tuple[int, ...], itemsize: int, count: int) -> tuple[int, ...]:
    """Give the shape of a chunk: one sample, or of a sample that changes with time, as many frames as fit."""
    if not shape:
        return (min(count, _NUMBERS),)
    row = math.prod(shape[1:]) * itemsize
    largest = _FRAMES if dims[0] == "time" else _LARGEST_CHUNK
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
    """Give all that decides how the numbers of a chunk become bytes."""
    names = ("dtype", "chunks", "compression", "compression_opts", "shuffle", "fletcher32", "scaleoffset")
    return (dataset.shape[1:], *(getattr(dataset, name) for name in names))
