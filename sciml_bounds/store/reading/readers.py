"""Find and read one array in a file that somebody else made.

Foreign files are hostile: nothing in them is ever executed, nothing outside them is followed except virtual sources in
their own folder, and what they declare is checked against the memory before it is read. Every failure is one sentence.

A file is named by its path, followed by `:name` where it holds several arrays: `a.npy`, `fields.npz:a`,
`data.h5:group/a`, `u.nc:solution`, `results.mat:k`, `data.pt:x`.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sciml_bounds.errors import InputError
from sciml_bounds.store.reading.contents import Array, Contents, printable
from sciml_bounds.store.reading.isolation import open_isolated
from sciml_bounds.store.reading.numpy_files import open_npy, open_npz
from sciml_bounds.store.reading.torch_files import open_torch

__all__ = [
    "Array",
    "FoundArray",
    "find_field",
    "find_mask",
    "one_sentence",
    "open_file",
    "read_array",
    "read_field",
    "read_mask",
]

_OPENERS = {
    ".npy": open_npy,
    ".npz": open_npz,
    ".h5": open_isolated,
    ".hdf5": open_isolated,
    ".nc": open_isolated,
    ".mat": open_isolated,
    ".pt": open_torch,
    ".pth": open_torch,
}
_WITH_NAME = re.compile(rf"(?P<path>.+?(?:{'|'.join(map(re.escape, _OPENERS))})):(?P<name>.+)", re.DOTALL)


@dataclass(frozen=True)
class FoundArray:
    """An array in an open file, of which nothing is read yet.

    `read()` gives all of it, and `read(sample)` one index of its first axis, for which the others are not read. `close`
    when done, or give the finding function an `ExitStack` that closes it. `batch_axes` is how many of its first axes
    are a batch, where the names of the axes tell (`sample`, `batch1`, ..., as in files of this package), or None.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[int | None], Array]
    batch_axes: int | None = None


def find_field(text: str, what: str, files: ExitStack) -> float | FoundArray:
    """Find a field of floating-point numbers, or read a plain number such as `1.0`.

    Parameters
    ----------
    text
        A number, or a file as the head of this module says.
    what
        What it is meant to be, for messages: "the coefficient".
    files
        Closes the file in the end.

    Raises
    ------
    InputError
        If it cannot be read, or holds anything but float32 or float64.
    """
    try:
        number = float(text)
    except ValueError:
        pass
    else:
        if not math.isfinite(number):
            raise InputError(f"{what} is {text}; give a finite number or a file.")
        return number
    found = _find_array(text, what, files)
    if found.dtype.kind != "f" or found.dtype.itemsize not in (4, 8):
        raise InputError(f"{what} in {text} has dtype {found.dtype}; convert it to float32 or float64 first.")
    return found


def find_mask(text: str, what: str, files: ExitStack) -> FoundArray:
    """Find a boolean field, such as the solid cells.

    Raises
    ------
    InputError
        If it cannot be read, or is not boolean.
    """
    found = _find_array(text, what, files)
    if found.dtype != np.bool_:
        raise InputError(f"{what} in {text} has dtype {found.dtype}; convert it to bool first (True where it applies).")
    return found


def read_field(text: str, what: str) -> float | Array:
    """Read a whole field; as `find_field`."""
    with ExitStack() as files:
        found = find_field(text, what, files)
        return found if isinstance(found, float) else found.read(None)


def read_mask(text: str, what: str) -> Array:
    """Read a whole boolean field; as `find_mask`."""
    with ExitStack() as files:
        return find_mask(text, what, files).read(None)


def read_array(text: str, what: str) -> Array:
    """Read one numeric or boolean array.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    with ExitStack() as files:
        return _find_array(text, what, files).read(None)


def open_file(path: Path, what: str, files: ExitStack, otherwise: str = "") -> Contents:
    """Open a file of any format, to see what is in it; `otherwise` is what may be given in its place, for messages.

    Raises
    ------
    InputError
        If it cannot be opened.
    """
    if not os.path.exists(path):  # unlike Path.exists, no error for a name that no file can have
        raise InputError(f"{what}: there is no file {printable(str(path))}; give an existing file{otherwise}.")
    if not path.is_file():
        raise InputError(f"{what}: {printable(str(path))} is not a file; give a file{otherwise}.")
    opener = _OPENERS.get(path.suffix.lower())
    if opener is None:
        raise InputError(
            f"{what}: the format of {printable(str(path))} is not known by its ending; use one of "
            f"{', '.join(_OPENERS)}{otherwise}."
        )
    with one_sentence(f"{what} in {path}"):
        return files.enter_context(opener(path))


def _find_array(text: str, what: str, files: ExitStack) -> FoundArray:
    if not text:
        raise InputError(f"{what}: the name of the file is empty; give a file or a number.")
    path, name = _split(text)
    contents = open_file(path, what, files, " or a number")
    where = f"{what} in {path}"
    with one_sentence(where):
        chosen = contents.choose(name)
        info = contents.arrays[chosen]
        if not info.is_numeric:
            contents.read(chosen)  # refuses it

    def read(sample: int | None = None) -> Array:
        with one_sentence(where):
            return contents.read(chosen, sample)

    return FoundArray(info.shape, np.dtype(info.dtype), read, _batch_axes(info.dims))


def _batch_axes(dims: tuple[str, ...] | None) -> int | None:
    return sum(dim.startswith(("sample", "batch")) for dim in dims or ()) or None


def _split(text: str) -> tuple[Path, str | None]:
    match = _WITH_NAME.fullmatch(text)
    if match is None or os.path.exists(text):
        return Path(text), None
    return Path(match["path"]), match["name"]


@contextmanager
def one_sentence(where: str) -> Iterator[None]:
    """Say where a failure happened, in one line; a hostile file may fail anywhere in a parser, with any exception."""
    try:
        yield
    except InputError as error:
        raise InputError(printable(f"{where}: {error}")) from None
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise InputError(
            printable(f"{where} cannot be read ({lines[0].rstrip('.')}); the file is damaged or of another format.")
        ) from None
