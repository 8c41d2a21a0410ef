"""Write files atomically."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sciml_bounds.errors import InputError

__all__ = ["FILTERS", "SUFFIXES", "check_new_file", "check_target", "remove_leftovers", "replacing", "sync"]

#: Endings of netCDF-4 files, which are HDF5 files too.
SUFFIXES = (".nc", ".h5", ".hdf5")
#: Compression and checksums of their arrays, which every HDF5 library can read.
FILTERS = {"compression": "gzip", "compression_opts": 1, "shuffle": True, "fletcher32": True}


def check_target(path: Path | str, suffixes: tuple[str, ...]) -> Path:
    """Check before the work that a file can be written, and return its path with links resolved.

    Raises
    ------
    InputError
        If the argument is not a path, its suffix is not one of `suffixes`, the folder does not exist or is not
        writable, or the name belongs to something that is not a file.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"the path of the output is {path!r}; give a string or a Path.")
    target = Path(path).resolve()
    if target.suffix.lower() not in suffixes:
        choices = ("one of " if len(suffixes) > 1 else "") + ", ".join(suffixes)
        raise InputError(f"the output {path} has an unknown file name extension; use {choices}.")
    if target.parent.exists() and not target.parent.is_dir():
        raise InputError(f"{path} cannot be written: {target.parent} is a file, not a folder; choose another name.")
    if not target.parent.is_dir():
        raise InputError(f"{path} cannot be written: the folder {target.parent} does not exist; create it first.")
    if target.exists() and not target.is_file():
        raise InputError(f"{path} cannot be written: it exists and is not a file; choose another name.")
    if not os.access(target.parent, os.W_OK):
        raise InputError(f"{path} cannot be written: the folder {target.parent} is read-only; choose another.")
    return target


def check_new_file(path: Path | str, suffixes: tuple[str, ...]) -> Path:
    """Check before the work that a new file can be written, and return its path with links resolved.

    Raises
    ------
    InputError
        If `check_target` fails, or the file exists.
    """
    target = check_target(path, suffixes)
    if target.exists():
        raise InputError(f"{path} already exists and is not overwritten; remove it or choose another name.")
    return target


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path whose file replaces the target at the end, or is removed after an error or signal.

    Leftovers of killed processes are removed first.

    Raises
    ------
    InputError
        If the file cannot be written, for example because the disk is full.
    """
    target = Path(path).resolve()
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    remove_leftovers(target)
    try:
        yield part
        sync(part)
        os.replace(part, target)
        sync(target.parent)
    except OSError as error:
        why = error.strerror or str(error)
        raise InputError(f"{path} cannot be written: {why}; free some space or choose another folder.") from error
    finally:
        part.unlink(missing_ok=True)


def remove_leftovers(target: Path) -> None:
    """Remove the temporary files and folders of processes that have died."""
    name = re.compile(rf"\.{re.escape(target.name)}\.(\d+)\.part")
    with suppress(OSError):  # the folder cannot be listed, or another process removes the file now
        for entry in target.parent.iterdir():
            match = name.fullmatch(entry.name)
            if not match or _is_running(int(match[1])):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # the process of another user
        return True
    return True


def sync(path: Path) -> None:
    """Flush a file or the entries of a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
