"""A new HDF5 file of another format than ours, written step by step on a disk that may be full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sciml_bounds.store.safety.stream import Disk, signals_wait

if TYPE_CHECKING:
    import h5py

__all__ = ["Hdf5Output"]


class Hdf5Output:
    """A file that is being written; nothing makes it appear whole but `replacing` or `making_folder` around it."""

    def __init__(self, path: Path) -> None:
        import h5py

        self._disk = Disk(path, new=True)
        with signals_wait():
            self._file = h5py.File(self._disk, "w", track_order=True)

    @contextmanager
    def step(self) -> Iterator[h5py.File]:
        """Give the file for one step, during which no signal comes; raises OSError if it could not be written."""
        with signals_wait():
            yield self._file
            self._disk.check()

    def finish(self) -> None:
        """Write what is not yet on the disk."""
        with self.step() as file:
            file.close()

    def close(self) -> None:
        """Let go of the file, whatever has happened to it."""
        with signals_wait():
            self._file.close()
            self._disk.close()
