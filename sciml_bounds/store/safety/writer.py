"""Write files whole or not at all."""

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
#: How their numbers are packed and guarded: by what every HDF5 library can read.
FILTERS = {"compression": "gzip", "compression_opts": 1, "shuffle": True, "fletcher32": True}


def check_target(path: Path | str, suffixes: tuple[str, ...]) -> Path:
    """Find out, before the work, whether a file can be written; returns its path with links resolved.

    Raises
    ------
    InputError
        If it is no path, the ending is not one of `suffixes`, the folder does not exist or cannot be written to, or
        something that is no file has this name.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"the path of the output is {path!r}; give a string or a Path.")
    target = Path(path).resolve()
    if target.suffix.lower() not in suffixes:
        choices = ("one of " if len(suffixes) > 1 else "") + ", ".join(suffixes)
        raise InputError(f"the format of the output {path} is not known by its ending; use {choices}.")
    if target.parent.exists() and not target.parent.is_dir():
        raise InputError(f"{path} cannot be written: {target.parent} is a file and no folder; choose another name.")
    if not target.parent.is_dir():
        raise InputError(f"{path} cannot be written: there is no folder {target.parent}; make it first.")
    if target.exists() and not target.is_file():
        raise InputError(f"{path} cannot be written: it is not a file; choose another name.")
    if not os.access(target.parent, os.W_OK):
        raise InputError(f"{path} cannot be written: the folder {target.parent} is read-only; choose another.")
    return target


def check_new_file(path: Path | str, suffixes: tuple[str, ...]) -> Path:
    """Find out, before the work, whether a file can be made; as `check_target`, and nothing may be there.

    Raises
    ------
    InputError
        If it cannot, or something is there.
    """
    target = check_target(path, suffixes)
    if target.exists():
        raise InputError(f"{path} exists already and is never overwritten; remove it or choose another name.")
    return target


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Give a temporary path beside the target that takes its place at the end, or is removed on any error or signal.

    What earlier processes left there because they were killed is removed first.

    Raises
    ------
    InputError
        If the system refuses to write, because the disk is full, for example.
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
    """Remove the temporary files and folders of processes that no longer live."""
    name = re.compile(rf"\.{re.escape(target.name)}\.(\d+)\.part")
    with suppress(OSError):  # a folder that cannot be listed, or a file that another process removes now
        for entry in target.parent.iterdir():
            match = name.fullmatch(entry.name)
            if not match or _lives(int(match[1])):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # of another user
        return True
    return True


def sync(path: Path) -> None:
    """Make the system write a file or the entries of a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
