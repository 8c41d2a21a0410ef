"""Iterate over the samples of an array in a foreign file, in memory that does not grow with the file.

Each array is read once, from front to back, by its own stream, so several streams can advance together. MATLAB scatters
a sample over its file, so an array of a `.mat` file is read whole if it fits into memory.
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
    """Yield the samples of an array, the entries along its first axis.

    Parameters
    ----------
    path : Path
        A file of any format that `readers` supports.
    name : str
        Name of the array in the file.
    what : str
        Description of the file for messages.

    Raises
    ------
    InputError
        If the array is not numeric, is truncated, or must be read whole and does not fit into memory.
    """
    with ExitStack() as files:
        contents = open_file(path, what, files)
        with one_sentence(f"{what} in {path}"):
            yield from _samples(contents, name)


def _samples(contents: Contents, name: str) -> Iterator[Array]:
    info = contents.arrays[name]
    if not info.is_numeric or not info.shape or 0 in info.shape:
        raise InputError(f"{name!r} has {info.dtype} values of shape {info.shape}; give samples of real numbers.")
    if contents.format == "torch":  # tensors are memory-mapped and may have any strides
        for sample in range(info.shape[0]):
            yield from map(_normalise_booleans, contents.blocks(name, sample))
        return
    if contents.format.startswith("MATLAB"):
        yield from _samples_of_matlab(contents, name)
        return
    shape, dtype, count = info.shape[1:], np.dtype(info.dtype), 0
    for row in _regroup(contents.blocks(name, None), math.prod(shape)):
        yield _normalise_booleans(row.reshape(shape).astype(dtype, copy=False))
        count += 1
    if count != info.shape[0]:
        raise InputError(f"{name!r} is truncated: it has {count} of {info.shape[0]} samples; create the file again.")


def _samples_of_matlab(contents: Contents, name: str) -> Iterator[Array]:
    info = contents.arrays[name]
    needed = math.prod(info.shape) * np.dtype(info.dtype).itemsize + info.working
    available = available_memory()
    if contents.format == "MATLAB" or available is None or needed < available / 2:
        yield from contents.read(name)
        return
    for sample in range(info.shape[0]):  # slower: the library unpacks most of the file for each sample
        yield contents.read(name, sample)


def _regroup(blocks: Iterator[Array], size: int) -> Iterator[Array]:
    """Regroup blocks of any size into blocks of `size` numbers, dropping an incomplete last one."""
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
        rest = flat[whole:].copy()  # a copy, so that the block can be freed


def _normalise_booleans(array: Array) -> Array:
    """Replace boolean bytes other than 0 and 1 by True."""
    return np.asarray(array.view(np.uint8) != 0) if array.dtype == np.bool_ else array
