"""Find and read one array in a foreign file.

Foreign files are treated as hostile: nothing in them is executed, nothing outside them is read except virtual sources
in their own folder, and declared sizes are compared with the memory before reading. Every failure is one sentence.

An array is given by the path of the file, followed by `:name` if the file has several arrays: `a.npy`, `fields.npz:a`,
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
from sciml_bounds.store.reading.contents import Array, ArrayInfo, Contents, printable
from sciml_bounds.store.reading.isolation import open_isolated
from sciml_bounds.store.reading.numpy_files import open_npy, open_npz
from sciml_bounds.store.reading.torch_files import open_torch

__all__ = [
    "Array",
    "FoundArray",
    "find_field",
    "find_mask",
    "locate_array",
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
    """An array in an open file, which is read on demand.

    `read(None)` returns the whole array, `read(i)` only index i of its first axis. The `ExitStack` given to the finding
    function closes the file. `batch_axes` is the number of leading batch axes if the axes are named (`sample`,
    `batch1`, ..., as in files of this package), otherwise None.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[int | None], Array]
    batch_axes: int | None = None


def find_field(text: str, what: str, files: ExitStack) -> float | FoundArray:
    """Find a floating-point array in a file, or parse a number such as `1.0`.

    Parameters
    ----------
    text : str
        A number, or the array of a file as in `data.h5:group/a`.
    what : str
        Name of the field for messages, such as "the coefficient".
    files : ExitStack
        Closes the file at its end.

    Raises
    ------
    InputError
        If it cannot be read, or is not float32 or float64.
    """
    try:
        number = float(text)
    except ValueError:
        pass
    else:
        if not math.isfinite(number):
            raise InputError(f"{what} is {text}; it must be a finite number or a file.")
        return number
    found = _find_array(text, what, files)
    if found.dtype.kind != "f" or found.dtype.itemsize not in (4, 8):
        raise InputError(f"{what} in {text} has dtype {found.dtype}; convert it to float32 or float64 first.")
    return found


def find_mask(text: str, what: str, files: ExitStack) -> FoundArray:
    """Find a boolean array, such as the mask of solid cells.

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
    """Read a whole field, or parse a number; see `find_field`."""
    with ExitStack() as files:
        found = find_field(text, what, files)
        return found if isinstance(found, float) else found.read(None)


def read_mask(text: str, what: str) -> Array:
    """Read a whole boolean array; see `find_mask`."""
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


def locate_array(text: str, what: str) -> tuple[Path, str, ArrayInfo]:
    """Return the file of an array, its name in the file, and its metadata.

    Raises
    ------
    InputError
        If the file cannot be opened, or has no such array of real numbers.
    """
    with ExitStack() as files:
        path, contents, chosen = _choose_array(text, what, files)
        return path, chosen, contents.arrays[chosen]


def open_file(path: Path, what: str, files: ExitStack, otherwise: str = "") -> Contents:
    """Open a file of any known format; `otherwise` names alternatives to a file, for messages.

    Raises
    ------
    InputError
        If it cannot be opened.
    """
    if not os.path.exists(path):  # unlike Path.exists, no error for invalid names
        raise InputError(f"{what}: the file {printable(str(path))} does not exist; give an existing file{otherwise}.")
    if not path.is_file():
        raise InputError(f"{what}: {printable(str(path))} is not a file; give a file{otherwise}.")
    opener = _OPENERS.get(path.suffix.lower())
    if opener is None:
        raise InputError(
            f"{what}: {printable(str(path))} has an unknown file name extension; use one of "
            f"{', '.join(_OPENERS)}{otherwise}."
        )
    with one_sentence(f"{what} in {path}"):
        return files.enter_context(opener(path))


def _choose_array(text: str, what: str, files: ExitStack, otherwise: str = "") -> tuple[Path, Contents, str]:
    """Open the file of an array, and check that the array exists and is numeric."""
    if not text:
        raise InputError(f"{what}: the name of the file is empty; give a file{otherwise}.")
    path, name = _split(text)
    contents = open_file(path, what, files, otherwise)
    with one_sentence(f"{what} in {path}"):
        chosen = contents.choose(name)
        if not contents.arrays[chosen].is_numeric:
            contents.read(chosen)  # raises the error
    return path, contents, chosen


def _find_array(text: str, what: str, files: ExitStack) -> FoundArray:
    path, contents, chosen = _choose_array(text, what, files, " or a number")
    info, where = contents.arrays[chosen], f"{what} in {path}"

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
    """Turn any exception into a one-line `InputError` that begins with `where`, since hostile files can raise any."""
    try:
        yield
    except InputError as error:
        raise InputError(printable(f"{where}: {error}")) from None
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise InputError(
            printable(f"{where} cannot be read ({lines[0].rstrip('.')}); the file is damaged or has another format.")
        ) from None
