"""A data set of ours as what is exported: its header, and its samples one after the other."""

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
    """A data set that was checked as a whole.

    Attributes
    ----------
    path
        The file.
    header
        What it says about itself.
    samples
        The index of each sample in the whole data set.
    splits
        The place of each in `SPLITS`.
    """

    path: Path
    header: DatasetHeader
    samples: Array
    splits: Array

    @property
    def fields(self) -> tuple[str, ...]:
        """Inputs and targets, each once."""
        return tuple(dict.fromkeys((*self.header.inputs, *self.header.targets)))

    def dims(self, name: str) -> tuple[str, ...]:
        """Give the axes of one sample of a variable."""
        return self.header.variables[name].dims

    def space(self, name: str) -> tuple[str, ...]:
        """Give those of them that are not time."""
        return tuple(dim for dim in self.dims(name) if dim != "time")

    def positions(self, axis: str) -> Array:
        """Give the positions along an axis; where it has none, the places in it."""
        known = self.header.coordinates.get(axis)
        return np.arange(self.header.lengths[axis]) if known is None else known[0]

    def walk(self, names: tuple[str, ...]) -> Generator[tuple[int, int, dict[str, Array]]]:
        """Give index, split and the named variables of one sample after the other.

        Each variable is read once and from front to back, so memory does not grow with the file.
        """
        with ExitStack() as files:
            streams = {name: stream_samples(self.path, name, _WHAT) for name in names}
            for stream in streams.values():
                files.callback(stream.close)
            for sample, split in zip(self.samples.tolist(), self.splits.tolist()):
                yield sample, split, {name: next(stream) for name, stream in streams.items()}


def open_source(path: Path | str) -> DatasetSource:
    """Open a data set and compare its whole content with its checksum.

    Raises
    ------
    InputError
        If the file is no data set of this package, or is damaged.
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
        raise InputError(f"its variable 'split' is not one of 0 to {len(SPLITS) - 1} a sample; make it again.")
    return splits
