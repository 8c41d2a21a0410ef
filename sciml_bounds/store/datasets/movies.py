"""Fields that change with time: files that are written frame by frame, and appear whole or not at all.

They are netCDF-4 files as those of `results`, with the leading axis `time` (or another one that grows).
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
    """A variable of a movie: its axes, of which the first one is that of frames where it has one, and what it is."""

    dims: tuple[str, ...]
    dtype: str
    long_name: str
    units: str = "1"


@dataclass(frozen=True)
class MovieHeader:
    """What a movie says about itself.

    Attributes
    ----------
    title
        What it is, in words.
    lengths
        Of all axes.
    coordinates
        Positions along axes, by name.
    variables
        What changes, by name.
    asked
        What determines the numbers, in JSON's words.
    """

    title: str
    lengths: Mapping[str, int]
    coordinates: Mapping[str, Array]
    variables: Mapping[str, MovieVariable]
    asked: Mapping[str, Any]


@contextmanager
def writing_movie(path: Path | str, header: MovieHeader) -> Iterator[MovieWriter]:
    """Write a movie of any length frame by frame; the file appears whole and checked, or not at all.

    Parameters
    ----------
    path
        Where, ending in .nc, .h5 or .hdf5; an existing file is replaced.
    header
        What it says about itself.

    Raises
    ------
    InputError
        If it cannot be written there, for want of space, for example.
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
    """A movie that is being written; `writing_movie` makes it."""

    def __init__(self, path: Path, header: MovieHeader) -> None:
        super().__init__(path, lambda disk: _make_structure(disk, header))

    def write(self, name: str, index: int | slice, values: Array) -> None:
        """Write one frame of a variable, or several."""
        with self._step() as file:
            file[name][index] = values


def _make_structure(disk: Disk, header: MovieHeader) -> None:
    """Write names, axes, units and attributes; the numbers follow."""
    import h5netcdf

    with h5netcdf.File(disk, "w") as file:
        file.dimensions = dict(header.lengths)
        for name, positions in header.coordinates.items():
            made = file.create_variable(name, (name,), positions.dtype, data=positions)
            made.attrs.update({"long_name": f"position along {name}", "units": "1"})
        for name, variable in header.variables.items():
            shape = tuple(header.lengths[dim] for dim in variable.dims)
            one = len(shape) > 1  # a field: a frame a chunk, so that one can be read alone
            chunks = (1, *shape[1:]) if one else shape
            made = file.create_variable(name, variable.dims, np.dtype(variable.dtype), chunks=chunks, **FILTERS)
            made.attrs.update({"long_name": variable.long_name, "units": variable.units})
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
