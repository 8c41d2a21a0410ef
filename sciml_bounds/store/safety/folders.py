"""Write folders atomically."""

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
    """Check before the work that a folder can be created, and return its path with links resolved.

    Raises
    ------
    InputError
        If the name exists, or its parent folder does not exist or is not writable.
    """
    target = Path(path).resolve()
    if target.exists():
        raise InputError(f"{path} already exists and is not overwritten; remove it or choose another name.")
    if not target.parent.is_dir():
        raise InputError(f"{path} cannot be created: the folder {target.parent} does not exist; create it first.")
    if not os.access(target.parent, os.W_OK):
        raise InputError(f"{path} cannot be created: the folder {target.parent} is read-only; choose another.")
    return target


@contextmanager
def making_folder(path: Path | str) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to the target at the end, or removed after an error or signal.

    Leftovers of killed processes are removed first.

    Raises
    ------
    InputError
        If the folder cannot be written, or the target has been created meanwhile.
    """
    target = check_new_folder(path)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    remove_leftovers(target)
    try:
        part.mkdir()
        yield part
        for entry in [*part.rglob("*"), part]:
            sync(entry)
        os.rename(part, target)  # fails if the target has content by now
        sync(target.parent)
    except OSError as error:
        why = error.strerror or str(error)
        raise InputError(f"{path} cannot be written: {why}; free some space or choose another folder.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
