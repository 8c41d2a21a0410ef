"""Write results: whole files or none."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciml_bounds import __version__
from sciml_bounds.errors import InputError

if TYPE_CHECKING:
    import xarray

__all__ = ["FORMAT_VERSION", "SUFFIXES", "check_target", "replacing", "write_dataset"]

#: Endings of netCDF-4 files, which are HDF5 files too.
SUFFIXES = (".nc", ".h5", ".hdf5")
#: Version of the layout of our files.
FORMAT_VERSION = "0.1"


def write_dataset(dataset: xarray.Dataset, path: Path | str, *, asked: Mapping[str, Any]) -> None:
    """Write a data set as netCDF-4, chunked per sample and compressed; the file appears whole or not at all.

    Parameters
    ----------
    dataset
        What to write, such as `solution.to_xarray()`.
    path
        Where; an existing file is replaced.
    asked
        What was asked for, kept in the root attribute `asked` as JSON.

    Raises
    ------
    InputError
        If it cannot be written there.
    """
    target = check_target(path, SUFFIXES)
    dataset = dataset.assign_attrs(
        format_version=FORMAT_VERSION,
        sciml_bounds_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        asked=json.dumps(asked, default=str),
    )
    with replacing(target) as part:
        dataset.to_netcdf(
            part, engine="h5netcdf", encoding={str(n): _encoding(v) for n, v in dataset.data_vars.items()}
        )


def _encoding(variable: xarray.DataArray) -> dict[str, Any]:
    if not variable.ndim:
        return {}
    chunks = tuple(1 if str(dim) == "sample" else size for dim, size in zip(variable.dims, variable.shape))
    return {"chunksizes": chunks, "compression": "gzip", "shuffle": True, "fletcher32": True}


def check_target(path: Path | str, suffixes: tuple[str, ...]) -> Path:
    """Find out, before the work, whether a file can be written; returns its path with links resolved.

    Raises
    ------
    InputError
        If the ending is not one of `suffixes`, the folder does not exist or cannot be written to, or something that is
        no file has this name.
    """
    target = Path(path).resolve()
    if target.suffix.lower() not in suffixes:
        raise InputError(
            f"the format of the output {path} is not known by its ending; use one of {', '.join(suffixes)}."
        )
    if not target.parent.is_dir():
        raise InputError(f"{path} cannot be written: there is no folder {target.parent}; make it first.")
    if target.exists() and not target.is_file():
        raise InputError(f"{path} cannot be written: it is not a file; choose another name.")
    if not os.access(target.parent, os.W_OK):
        raise InputError(f"{path} cannot be written: the folder {target.parent} is read-only; choose another.")
    return target


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Give a temporary path beside the target that takes its place at the end, or is removed on any error or signal."""
    target = Path(path).resolve()
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield part
        _sync(part)
        os.replace(part, target)
        _sync(target.parent)
    finally:
        part.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Make the system write a file or the entries of a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
