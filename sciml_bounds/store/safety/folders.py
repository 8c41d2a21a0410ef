"""Write a folder whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sciml_bounds.errors import InputError
from sciml_bounds.store.safety.writer import remove_leftovers, sync

__all__ = ["check_new_folder", "making_folder"]


def check_new_folder(path: Path | str) -> Path:
    """Find out, before the work, whether a folder can be made; returns its path with links resolved.

    Raises
    ------
    InputError
        If something has this name already, or the folder around it does not exist or cannot be written to.
    """
    target = Path(path).resolve()
    if target.exists():
        raise InputError(f"{path} exists already and is never overwritten; remove it or choose another name.")
    if not target.parent.is_dir():
        raise InputError(f"{path} cannot be made: there is no folder {target.parent}; make it first.")
    if not os.access(target.parent, os.W_OK):
        raise InputError(f"{path} cannot be made: the folder {target.parent} is read-only; choose another.")
    return target


@contextmanager
def making_folder(path: Path | str) -> Iterator[Path]:
    """Give a temporary folder beside the target that takes its name at the end, or is removed on any error or signal.

    What earlier processes left there because they were killed is removed first.

    Raises
    ------
    InputError
        If the system refuses to write, or the target has appeared meanwhile.
    """
    target = check_new_folder(path)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    remove_leftovers(target)
    try:
        part.mkdir()
        yield part
        for entry in [*part.rglob("*"), part]:
            sync(entry)
        os.rename(part, target)  # fails where the target has content by now
        sync(target.parent)
    except OSError as error:
        why = error.strerror or str(error)
        raise InputError(f"{path} cannot be written: {why}; free some space or choose another folder.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
