"""A data set to export: its header, and its samples one by one."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sciml_bounds.errors import InputError
from sciml_bounds.store.datasets.dataset_files import DatasetHeader, check_whole
from sciml_bounds.store.datasets.splits import SPLITS
from sciml_bounds.store.reading.contents import Array, Contents
from sciml_bounds.store.reading.readers import one_sentence, open_file
from sciml_bounds.store.reading.sample_streams import stream_samples

__all__ = ["DatasetSource", "open_source"]

_WHAT = "the data set"


@dataclass(frozen=True)
class DatasetSource:
    """A data set file whose whole content has been checked.

    Attributes
    ----------
    path : Path
        The file.
    header : DatasetHeader
        Metadata of the data set.
    samples : ndarray (n,)
        Index of each sample in the whole data set.
    splits : ndarray (n,)
        Split of each sample, as index into `SPLITS`.
    """

    path: Path
    header: DatasetHeader
    samples: Array
    splits: Array

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of inputs and targets, without repetition."""
        return tuple(dict.fromkeys((*self.header.inputs, *self.header.targets)))

    def dims(self, name: str) -> tuple[str, ...]:
        """Return the axes of one sample of a variable."""
        return self.header.variables[name].dims

    def space(self, name: str) -> tuple[str, ...]:
        """Return the axes of one sample of a variable without time."""
        return tuple(dim for dim in self.dims(name) if dim != "time")

    def positions(self, axis: str) -> Array:
        """Return the positions along an axis, or 0, 1, ... if it has none."""
        coordinate = self.header.coordinates.get(axis)
        return np.arange(self.header.lengths[axis]) if coordinate is None else coordinate[0]

    def walk(self, names: tuple[str, ...]) -> Generator[tuple[int, int, dict[str, Array]]]:
        """Yield index, split and named variables of each sample.

        Each variable is read once, from front to back, so memory does not grow with the file.
        """
        with ExitStack() as files:
            streams = {name: stream_samples(self.path, name, _WHAT) for name in names}
            for stream in streams.values():
                files.callback(stream.close)
            for sample, split in zip(self.samples.tolist(), self.splits.tolist()):
                yield sample, split, {name: next(stream) for name, stream in streams.items()}


def open_source(path: Path | str) -> DatasetSource:
    """Open a data set, and check its whole content against its checksum.

    Raises
    ------
    InputError
        If the file is not a data set of this package, or is damaged.
    """
    path = Path(path)
    with ExitStack() as files:
        contents = open_file(path, _WHAT, files)
        with one_sentence(f"{_WHAT} {path}"):
            check_whole(contents)
            header = DatasetHeader.of(contents)
            samples, splits = contents.read("sample"), _splits(contents)
    return DatasetSource(path, header, samples, splits)


def _splits(contents: Contents) -> Array:
    count = contents.arrays["sample"].shape
    splits = contents.read("split") if "split" in contents.arrays else np.empty(0)
    if splits.shape != count or not np.isin(splits, range(len(SPLITS))).all():
        raise InputError(
            f"its variable 'split' must have one number from 0 to {len(SPLITS) - 1} per sample; generate it again."
        )
    return splits
