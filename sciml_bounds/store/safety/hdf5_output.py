"""HDF5 files in other formats than ours, written step by step, safe against a full disk."""

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
    """A file that is being written; use it inside `replacing` or `making_folder`, which make the write atomic."""

    def __init__(self, path: Path) -> None:
        import h5py

        self._disk = Disk(path, new=True)
        with signals_wait():
            self._file = h5py.File(self._disk, "w", track_order=True)

    @contextmanager
    def step(self) -> Iterator[h5py.File]:
        """Yield the file for one step with signals deferred; raise OSError if writing fails."""
        with signals_wait():
            yield self._file
            self._disk.check()

    def finish(self) -> None:
        """Write everything to the disk."""
        with self.step() as file:
            file.close()

    def close(self) -> None:
        """Close the file, also after a failure."""
        with signals_wait():
            self._file.close()
            self._disk.close()
