"""HDF5 and netCDF-4 files, including ours; foreign ones must be opened in a child process (see `isolation`).

Links are not followed, and data outside the file are not read, except virtual sources in its own folder.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sciml_bounds.errors import InputError
from sciml_bounds.store.reading.contents import Array, ArrayInfo, Contents

if TYPE_CHECKING:
    import h5py

__all__ = ["CHECKSUM", "open_hdf5", "stored_digest"]

#: Root attribute of our files with the value of `stored_digest`.
CHECKSUM = "checksum"
_BLOCK = 2**26
#: Attributes that the formats HDF5 and netCDF-4 use internally.
_INTERNAL = {"CLASS", "NAME", "REFERENCE_LIST", "DIMENSION_LIST", "DIMENSION_LABELS"}
#: Start of the title of a dimension that has a length but no coordinates.
_NO_VARIABLE = b"This is a netCDF dimension but not a netCDF variable"


@contextmanager
def open_hdf5(path: Path, *, matlab: Mapping[str, str] | None = None) -> Iterator[Contents]:
    """Open a file; given the classes of MATLAB, show the arrays of MATLAB 7.3 as MATLAB does."""
    import h5py

    path = path.resolve()  # HDF5 looks for virtual sources there
    with path.open("rb") as raw:
        if raw.read(3) == b"CDF":
            raise InputError("it has the format netCDF-3; convert it to netCDF-4, such as by nccopy -k nc4 OLD NEW.")
    with h5py.File(path, "r") as file:
        links = _links(file)
        arrays = {name: ArrayInfo((), "link", role="link") for name, link in links.items() if _is_indirect(link)}
        datasets = _datasets(file, links)
        if matlab is not None:
            datasets = {name: item for name, item in datasets.items() if "/" not in name}  # others are parts of structs
        for name, item in datasets.items():
            arrays[name] = _describe(item) if matlab is None else _describe_matlab(item, matlab)

        def blocks(name: str, sample: int | None) -> Iterator[Array]:
            _check_storage(datasets[name], path)
            if matlab is None:
                yield from _blocks(datasets[name], sample)
                return
            index = (...,) if sample is None else (..., sample)
            yield datasets[name][index].T.astype(arrays[name].dtype)

        format = "MATLAB 7.3 (HDF5)" if matlab is not None else "HDF5"
        yield Contents(format, arrays, blocks, _attributes(file), lambda: stored_digest(file))


def stored_digest(file: h5py.File) -> str:
    """Compute the SHA-256 of the whole content of one of our files: names, attributes, axes, dtypes and numbers.

    The checksums of HDF5 (fletcher32) cover only the bytes of chunks, not scalars, attributes or metadata.
    """
    links = _links(file)
    if any(map(_is_indirect, links.values())):
        raise InputError("it has a link, unlike all files of this package; it was changed after it was written.")
    digest = hashlib.sha256(_line({k: v for k, v in _attributes(file).items() if k != CHECKSUM}))
    for name, item in sorted(_datasets(file, links).items()):
        info = _describe(item)
        if item.size * item.dtype.itemsize > 1100 * (file.id.get_filesize() + 1000):  # gzip compresses by at most 1030
            raise InputError(f"{name!r} declares more numbers than the file can contain; the file is damaged.")
        _check_storage(item, Path(file.filename), virtual=False)
        digest.update(_line([name, info.shape, item.dtype.str, info.dims, info.attributes]))
        for block in _blocks(item, None):
            digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()


def _line(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode() + b"\n"


def _links(file: h5py.File) -> dict[str, Any]:
    links: dict[str, Any] = {}
    try:
        file.visititems_links(links.__setitem__)  # setitem returns None, so the visit continues
    except (SystemError, UnicodeError):
        raise InputError("it has a name that is not valid UTF-8; rename the group or data set.") from None
    return links


def _is_indirect(link: Any) -> bool:
    import h5py

    return isinstance(link, h5py.SoftLink | h5py.ExternalLink)


def _datasets(file: h5py.File, links: Mapping[str, Any]) -> dict[str, h5py.Dataset]:
    import h5py

    hard = {name: file[name] for name, link in links.items() if isinstance(link, h5py.HardLink)}
    arrays = {name: item for name, item in hard.items() if isinstance(item, h5py.Dataset)}
    return {name: item for name, item in arrays.items() if not _title(item).startswith(_NO_VARIABLE)}


def _title(dataset: h5py.Dataset) -> bytes:
    title = dataset.attrs.get("NAME", b"") if dataset.is_scale else b""
    return bytes(title) if isinstance(title, bytes) else str(title).encode()


def _describe(dataset: h5py.Dataset) -> ArrayInfo:
    if dataset.shape is None:
        return ArrayInfo((), "empty")
    return ArrayInfo(
        dataset.shape,
        str(dataset.dtype),
        _dims(dataset),
        _attributes(dataset),
        "coordinate" if dataset.is_scale else "array",
        _working(dataset),
    )


def _describe_matlab(dataset: h5py.Dataset, classes: Mapping[str, str]) -> ArrayInfo:
    info = _describe(dataset)
    kind = dataset.attrs.get("MATLAB_class", b"unknown")
    kind = kind.decode(errors="replace") if isinstance(kind, bytes) else str(kind)
    if "MATLAB_empty" in dataset.attrs:  # the stored values are the shape
        return ArrayInfo((), "empty")
    plain = kind in classes and info.is_numeric
    dtype = classes[kind] if plain else kind if info.is_numeric else info.dtype
    working = info.working + 3 * math.prod(info.shape) * dataset.dtype.itemsize
    return ArrayInfo(info.shape[::-1], dtype, working=working)


def _dims(dataset: h5py.Dataset) -> tuple[str, ...] | None:
    if dataset.is_scale:
        return (dataset.name.rpartition("/")[2],)
    scales = [dim[0].name for dim in dataset.dims if len(dim)]
    return tuple(name.rpartition("/")[2] for name in scales) if len(scales) == dataset.ndim else None


def _working(dataset: h5py.Dataset) -> int:
    """Return the memory in bytes for reading an array: some copies of a chunk, and of a block."""
    row: int = math.prod(dataset.shape[1:]) * dataset.dtype.itemsize
    chunk: int = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
    return 4 * chunk + 2 * max(_BLOCK, _rows(dataset) * row)


def _rows(dataset: h5py.Dataset) -> int:
    """Return the number of rows of a block, a multiple of the chunk size so that no chunk is unpacked twice."""
    row = max(math.prod(dataset.shape[1:]) * dataset.dtype.itemsize, 1)
    chunk: int = dataset.chunks[0] if dataset.chunks else 1
    rows = max(_BLOCK // row // chunk, 1) * chunk
    return min(rows, int(dataset.shape[0])) if dataset.shape else 1


def _blocks(dataset: h5py.Dataset, sample: int | None) -> Iterator[Array]:
    if dataset.ndim == 0 or sample is not None:
        yield np.asarray(dataset[() if sample is None else sample])
        return
    rows = max(_rows(dataset), 1)
    for start in range(0, dataset.shape[0], rows):
        yield dataset[start : start + rows]


def _attributes(item: h5py.File | h5py.Dataset) -> dict[str, Any]:
    """Return the attributes that JSON can represent, without internal ones of the format."""
    attributes = {}
    for name in item.attrs:
        if name in _INTERNAL or name.startswith(("_Netcdf4", "_NCProperties", "_nc3")):
            continue
        try:
            value = item.attrs[name]
        except (OSError, TypeError, ValueError, KeyError):  # a type that h5py does not support
            continue
        value = value.decode(errors="surrogateescape") if isinstance(value, bytes) else value
        if isinstance(value, np.ndarray | np.generic):
            value = (
                value.item() if value.size == 1 else value.tolist()
            )  # netCDF writes a number as a list of length one
        attributes[name] = value if isinstance(value, str | int | float | list) else str(value)
    return attributes


def _check_storage(dataset: h5py.Dataset, path: Path, *, virtual: bool = True) -> None:
    """Raise if data are stored outside the file, except in virtual sources that are plain data sets in its folder."""
    import h5py

    if dataset.external:
        raise InputError(
            f"{dataset.name!r} stores its data in another file ({dataset.external[0][0]}), which is not read; "
            "copy the data into this file."
        )
    if not dataset.is_virtual:
        return
    for source in dataset.virtual_sources():
        place = path if source.file_name == "." else (path.parent / source.file_name).resolve()
        pattern = "%" in source.file_name + source.dset_name  # a pattern for many names
        if not virtual or pattern or place.parent != path.parent or not place.is_file():
            raise InputError(
                f"{dataset.name!r} is virtual with data in {source.file_name}, which is not read; "
                "copy the data into this file."
            )
        with h5py.File(place, "r") as file:
            _check_storage(_source(file, source.dset_name), place, virtual=False)


def _source(file: h5py.File, name: str) -> h5py.Dataset:
    datasets = _datasets(file, _links(file))
    if name.strip("/") not in datasets:
        raise InputError(f"the virtual source {name!r} is a link or missing; copy the data into this file.")
    return datasets[name.strip("/")]
