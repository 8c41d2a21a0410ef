"""Walk through an array of a foreign file sample by sample, in memory that does not grow with the file.

The array is read once, from front to back, so every array needs its own stream: two of them may then advance side by
side. MATLAB scatters a sample over its file, so an array of a `.mat` file is read whole where it fits.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from sciml_bounds.errors import InputError
from sciml_bounds.memory import available_memory
from sciml_bounds.store.reading.contents import Array, Contents
from sciml_bounds.store.reading.readers import one_sentence, open_file

__all__ = ["stream_samples"]


def stream_samples(path: Path, name: str, what: str) -> Generator[Array]:
    """Give the samples of an array, which lie along its first axis, one after the other.

    Parameters
    ----------
    path, name
        The file, of any format that `readers` knows, and the array in it.
    what
        What it is meant to be, for messages.

    Raises
    ------
    InputError
        If it holds anything but real numbers, ends early, or has to be read whole and is larger than the memory.
    """
    with ExitStack() as files:
        contents = open_file(path, what, files)
        with one_sentence(f"{what} in {path}"):
            yield from _samples(contents, name)


def _samples(contents: Contents, name: str) -> Iterator[Array]:
    info = contents.arrays[name]
    if not info.is_numeric or not info.shape or 0 in info.shape:
        raise InputError(f"{name!r} holds {info.dtype} values of shape {info.shape}; give samples of real numbers.")
    if contents.format == "torch":  # its numbers stay in the file until they are used, and may lie in any order
        for sample in range(info.shape[0]):
            yield from map(_no_odd_booleans, contents.blocks(name, sample))
        return
    if contents.format.startswith("MATLAB"):
        yield from _samples_of_matlab(contents, name)
        return
    shape, dtype, count = info.shape[1:], np.dtype(info.dtype), 0
    for row in _regroup(contents.blocks(name, None), math.prod(shape)):
        yield _no_odd_booleans(row.reshape(shape).astype(dtype, copy=False))
        count += 1
    if count != info.shape[0]:
        raise InputError(f"{name!r} is truncated: it has {count} of {info.shape[0]} samples; make the file again.")


def _samples_of_matlab(contents: Contents, name: str) -> Iterator[Array]:
    info = contents.arrays[name]
    needed = math.prod(info.shape) * np.dtype(info.dtype).itemsize + info.working
    available = available_memory()
    if contents.format == "MATLAB" or available is None or needed < available / 2:
        yield from contents.read(name)
        return
    for sample in range(info.shape[0]):  # slower: the library unpacks most of the file for each
        yield contents.read(name, sample)


def _regroup(blocks: Iterator[Array], size: int) -> Iterator[Array]:
    """Cut what comes in pieces of any size into pieces of `size` numbers; an incomplete end is dropped."""
    rest: Array = np.empty(0)
    for block in blocks:
        flat = block.reshape(-1)
        if rest.size:
            missing = size - rest.size
            rest, flat = np.concatenate([rest, flat[:missing]]), flat[missing:]
            if rest.size < size:
                continue
            yield rest
        whole = flat.size // size * size
        yield from flat[:whole].reshape(-1, size)
        rest = flat[whole:].copy()  # does not keep the block alive


def _no_odd_booleans(array: Array) -> Array:
    """Turn bytes other than 0 and 1, which are neither true nor false, into true."""
    return np.asarray(array.view(np.uint8) != 0) if array.dtype == np.bool_ else array
