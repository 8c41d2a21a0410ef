"""What the HDF5 library is never shown: writes that fail, and signals."""

from __future__ import annotations

import errno
import os
import signal
import threading

import h5py
import numpy as np
import pytest

from sciml_bounds.store.safety.stream import Disk, signals_wait


def test_a_disk_is_a_file(tmp_path):
    disk = Disk(tmp_path / "a", new=True)
    assert disk.write(b"0123456789") == 10
    disk.seek(4)
    assert disk.read(3) == b"456"
    assert disk.tell() == 7
    assert disk.read(10) == b"789"  # the end comes sooner
    disk.seek(-1, os.SEEK_END)
    disk.write(b"abc")
    assert disk.seek(0, os.SEEK_END) == 12
    disk.truncate(11)
    disk.close()
    disk.close()
    assert (tmp_path / "a").read_bytes() == b"012345678ab"
    again = Disk(tmp_path / "a", new=False)
    assert again.read(20) == b"012345678ab"
    again.close()


def test_what_a_full_disk_loses_stays_readable_and_the_failure_is_kept(tmp_path, monkeypatch):
    disk = Disk(tmp_path / "a", new=True)
    disk.write(b"abcdef")

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    disk.seek(2)
    assert disk.write(b"XY") == 2
    disk.seek(8)
    assert disk.write(b"end") == 3
    monkeypatch.undo()
    disk.seek(3)
    assert disk.write(b"Z") == 1  # the disk is not asked again: what comes after a lost part would be without it
    disk.seek(0)
    assert disk.read(6) == b"abXZef"
    disk.seek(8)
    assert disk.read(5) == b"end"
    with pytest.raises(OSError, match="No space left"):
        disk.check()
    disk.close()
    assert (tmp_path / "a").read_bytes() == b"abcdef"


@pytest.mark.parametrize("allowed", range(0, 40, 3))
def test_the_library_survives_a_disk_that_is_full_at_any_write(tmp_path, monkeypatch, allowed):
    written, write = [0], os.pwrite

    def a_few(*arguments: object) -> int:
        written[0] += 1
        if written[0] > allowed:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(*arguments)

    monkeypatch.setattr(os, "pwrite", a_few)
    disk = Disk(tmp_path / "a", new=True)
    with h5py.File(disk, "w") as file:
        for i in range(30):
            array = file.create_dataset(f"a{i}", (3, 50), "f8", chunks=(1, 50), compression="gzip", fletcher32=True)
            array[:] = np.random.default_rng(i).standard_normal((3, 50))
            array.attrs["i"] = i
    disk.close()
    assert (disk.failure is not None) == (written[0] > allowed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_wait(number):
    came = []
    before = signal.signal(number, lambda number, frame: came.append(number))
    try:
        with signals_wait():
            os.kill(os.getpid(), number)
            assert came == []
        assert came == [number]
        os.kill(os.getpid(), number)
        assert came == [number, number]  # the handler is back
    finally:
        signal.signal(number, before)


def test_signals_that_raise_do_so_afterwards():
    reached = []

    def work() -> None:
        with signals_wait():
            os.kill(os.getpid(), signal.SIGINT)
            reached.append(1)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == [1]


def test_threads_have_no_signals_to_wait_for():
    reached = []

    def work() -> None:
        with signals_wait():
            reached.append(1)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert reached == [1]
