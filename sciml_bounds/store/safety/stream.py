"""A file object for the HDF5 library, which crashes if a write fails or a signal interrupts it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

__all__ = ["Disk", "signals_wait"]

type _Buffer = bytes | bytearray | memoryview


class Disk:
    """A file object for h5py whose writes never fail: errors are recorded, and lost data are kept in memory.

    The HDF5 library crashes if it cannot write its own tables, at the latest when it closes the file. Writes therefore
    always appear to succeed, and the caller calls `check` after each step and stops after a failure.
    """

    def __init__(self, path: Path, *, new: bool) -> None:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_TRUNC if new else 0)
        self._descriptor = os.open(path, flags, 0o666)
        self._size = os.fstat(self._descriptor).st_size
        self._position = 0
        self._lost: list[tuple[int, bytes]] = []
        self.failure: OSError | None = None

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def check(self) -> None:
        """Raise the first error, if there was one.

        Raises
        ------
        OSError
            The first failure of a read or write.
        """
        if self.failure is not None:
            raise self.failure

    # methods that h5py calls

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def read(self, size: int) -> bytes:
        """Read at most `size` bytes."""
        content = bytearray(size)
        return bytes(content[: self.readinto(content)])

    def readinto(self, buffer: _Buffer) -> int:
        """Fill a buffer from the current position, and return the number of bytes read."""
        view = memoryview(buffer).cast("B")
        start, filled = self._position, 0
        try:
            while filled < len(view) and (count := os.preadv(self._descriptor, [view[filled:]], start + filled)):
                filled += count
        except OSError as error:
            self.failure = self.failure or error
        for position, content in self._lost:
            first, last = max(position, start), min(position + len(content), start + len(view))
            if first < last:
                view[first - start : last - start] = content[first - position : last - position]
                filled = max(filled, last - start)
        self._position += filled
        return filled

    def write(self, buffer: _Buffer) -> int:
        """Write a buffer at the current position, to the disk or, after a failure, to memory."""
        view = memoryview(buffer).cast("B")
        try:
            if self.failure is None:
                self._write(view)
        except OSError as error:
            self.failure = error
        if self.failure is not None:
            self._lost.append((self._position, bytes(view)))
        self._position += len(view)
        self._size = max(self._size, self._position)
        return len(view)

    def _write(self, view: memoryview) -> None:
        written = 0
        while written < len(view):
            written += os.pwrite(self._descriptor, view[written:], self._position + written)

    def truncate(self, size: int) -> int:
        """Set the size of the file."""
        try:
            if self.failure is None:
                os.ftruncate(self._descriptor, size)
        except OSError as error:
            self.failure = error
        self._size = size
        return size

    def flush(self) -> None:
        """Do nothing: there is no buffer."""


@contextmanager
def signals_wait() -> Iterator[None]:
    """Defer SIGINT and SIGTERM until the end of a `with` block.

    Their handlers would raise exceptions in the Python methods that the HDF5 library calls. Handlers run in the main
    thread only, so other threads are not affected.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    deferred: list[tuple[int, FrameType | None]] = []
    before = {
        number: signal.signal(number, lambda number, frame: deferred.append((number, frame)))
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) is not None  # handlers that were not set by Python are kept
    }
    try:
        yield
    finally:
        for replaced, handler in before.items():
            signal.signal(replaced, handler)
        for number, frame in deferred:
            again = before[signal.Signals(number)]
            if callable(again):
                again(number, frame)
            elif again == signal.SIG_DFL:
                os.kill(os.getpid(), number)
