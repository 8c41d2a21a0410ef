"""HDF5 files that are written piece by piece, safe against a full disk, with a checksum of their content."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciml_bounds.store.reading.hdf5_files import CHECKSUM, stored_digest
from sciml_bounds.store.safety.stream import Disk, signals_wait

if TYPE_CHECKING:
    import h5py

__all__ = ["CheckedFile"]


class CheckedFile:
    """A new file that is being written; use it inside `replacing`, which makes the write atomic.

    Parameters
    ----------
    path : Path
        File to write; an existing file is overwritten.
    make_structure : callable
        Function of a `Disk` that writes names, axes, units and attributes, before any numbers are written.
    """

    def __init__(self, path: Path, make_structure: Callable[[Disk], None]) -> None:
        self._path = path
        self._disk = Disk(path, new=True)
        self._file: h5py.File | None = None
        try:
            with self._step():
                make_structure(self._disk)
                self._file = self._open()
        except BaseException:
            self.close()  # the HDF5 library must not find the file open when Python exits
            raise

    def finish(self) -> None:
        """Close the file, and store the checksum of its content as read back."""
        import h5py

        with self._step() as file:
            file.close()
        with h5py.File(self._path, "r") as file:  # not through `Disk`, so signals are safe
            digest = stored_digest(file)
        with self._step():
            self._file = self._open()
            self._file.attrs[CHECKSUM] = digest
            self._file.close()

    def close(self) -> None:
        """Close the file, also after a failure."""
        with signals_wait():
            if self._file is not None:
                self._file.close()
            self._disk.close()

    def _open(self) -> h5py.File:
        import h5py

        return h5py.File(self._disk, "r+")

    @contextmanager
    def _step(self) -> Iterator[Any]:
        with signals_wait():
            yield self._file
            self._disk.check()
