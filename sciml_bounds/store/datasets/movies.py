"""Files of time-dependent fields, written frame by frame, and atomically as a whole.

They are netCDF-4 files like those of `saved_results`, with leading axis `time` (or another axis of frames).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from sciml_bounds import __version__
from sciml_bounds.store.datasets.checked_file import CheckedFile
from sciml_bounds.store.datasets.saved_results import FORMAT_VERSION
from sciml_bounds.store.reading.contents import Array
from sciml_bounds.store.safety.stream import Disk
from sciml_bounds.store.safety.writer import FILTERS, SUFFIXES, check_target, replacing

__all__ = ["MovieHeader", "MovieVariable", "MovieWriter", "writing_movie"]


@dataclass(frozen=True)
class MovieVariable:
    """A variable of a movie: axes (that of the frames first, if any), dtype, description and units."""

    dims: tuple[str, ...]
    dtype: str
    long_name: str
    units: str = "1"


@dataclass(frozen=True)
class MovieHeader:
    """Metadata of a movie.

    Attributes
    ----------
    title : str
        Description of the movie.
    lengths : mapping
        Lengths of all axes, by name.
    coordinates : mapping
        Positions along axes, by name.
    variables : mapping
        Variables, by name.
    asked : mapping
        Parameters that determine the numbers, as JSON values.
    """

    title: str
    lengths: Mapping[str, int]
    coordinates: Mapping[str, Array]
    variables: Mapping[str, MovieVariable]
    asked: Mapping[str, Any]


@contextmanager
def writing_movie(path: Path | str, header: MovieHeader) -> Iterator[MovieWriter]:
    """Write a movie of any length frame by frame; the file is written atomically, with a checksum.

    Parameters
    ----------
    path : Path or str
        File to write, ending in .nc, .h5 or .hdf5; an existing file is replaced.
    header : MovieHeader
        Metadata of the movie.

    Raises
    ------
    InputError
        If the file cannot be written, for example because the disk is full.
    """
    check_target(path, SUFFIXES)
    with replacing(path) as part:
        writer = MovieWriter(part, header)
        try:
            yield writer
            writer.finish()
        finally:
            writer.close()


class MovieWriter(CheckedFile):
    """A movie that is being written; created by `writing_movie`."""

    def __init__(self, path: Path, header: MovieHeader) -> None:
        super().__init__(path, lambda disk: _make_structure(disk, header))

    def write(self, name: str, index: int | slice, values: Array) -> None:
        """Write one or several frames of a variable."""
        with self._step() as file:
            file[name][index] = values


def _make_structure(disk: Disk, header: MovieHeader) -> None:
    """Write names, axes, units and attributes."""
    import h5netcdf

    with h5netcdf.File(disk, "w") as file:
        file.dimensions = dict(header.lengths)
        for name, positions in header.coordinates.items():
            coordinate = file.create_variable(name, (name,), positions.dtype, data=positions)
            coordinate.attrs.update({"long_name": f"position along {name}", "units": "1"})
        for name, variable in header.variables.items():
            shape = tuple(header.lengths[dim] for dim in variable.dims)
            is_field = len(shape) > 1  # one frame per chunk, so that a frame can be read alone
            chunks = (1, *shape[1:]) if is_field else shape
            stored = file.create_variable(name, variable.dims, np.dtype(variable.dtype), chunks=chunks, **FILTERS)
            stored.attrs.update({"long_name": variable.long_name, "units": variable.units})
        file.attrs.update(
            {
                "Conventions": "CF-1.11",
                "title": header.title,
                "content": "Dataset",
                "format_version": FORMAT_VERSION,
                "sciml_bounds_version": __version__,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "asked": json.dumps(header.asked, sort_keys=True),
            }
        )
