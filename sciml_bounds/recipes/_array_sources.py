"""Sources of `sb.data.from_arrays`: arrays in memory or in files, which are walked sample by sample."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from sciml_bounds.errors import InputError
from sciml_bounds.grid import AXES
from sciml_bounds.recipes._recipe import Array
from sciml_bounds.store.reading.readers import locate_array
from sciml_bounds.store.reading.sample_streams import stream_samples

__all__ = ["ArraySource", "open_sources", "walk_together"]

#: Names with a meaning of their own in the files of data sets.
RESERVED_NAMES = {"sample", "split", "label_error", "time"}


def open_sources(arrays: Mapping[str, Any]) -> list[ArraySource]:
    """Return the sources of arrays by name, checked to have the same number of samples.

    Raises
    ------
    InputError
        If a name, an array or a file is not suitable, or the numbers of samples differ.
    """
    sources = [_open(name, value) for name, value in _checked_names(arrays).items()]
    counts = {source.name: source.shape[0] for source in sources}
    if len(set(counts.values())) != 1:
        listing = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InputError(f"the arrays have different numbers of samples: {listing}; their first axis is the sample.")
    return sources


@dataclass(frozen=True)
class ArraySource:
    """An array, in memory or in a file: name, shape with samples, stored dtype, and a function to walk its samples."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    samples: Callable[[], Iterator[Array]]
    file: Path | None = None

    @property
    def space(self) -> tuple[int, ...]:
        """Shape of a sample, without a channel axis of length one."""
        return self.shape[2:] if len(self.shape) > 2 and self.shape[1] == 1 else self.shape[1:]

    def walk(self) -> Iterator[Array]:
        """Yield the samples, checked to be finite."""
        for index, sample in enumerate(self.samples()):
            values = np.asarray(sample).reshape(self.space).astype(self.dtype)
            if not np.isfinite(values).all():
                raise InputError(
                    f"sample {index} of {self.name!r} has NaN or infinite values; leave the sample out of all arrays."
                )
            yield values


def _checked_names(arrays: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(arrays, Mapping) or not arrays:
        raise InputError('arrays must be a mapping from names to arrays, such as {"coefficient": a, "solution": u}.')
    axes = {axis + suffix for axis in AXES for suffix in ("", "_node", "_point")}
    for name in arrays:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z]\w*", name) or name in RESERVED_NAMES | axes:
            raise InputError(
                f"an array cannot be named {name!r}; use letters, digits and underscores, and none of the names of "
                f"axes (x, x_node, ...), {', '.join(sorted(RESERVED_NAMES))}."
            )
    return arrays


def _open(name: str, value: Any) -> ArraySource:
    if isinstance(value, str | os.PathLike):
        path, member, info = locate_array(os.fspath(value), f"the array {name!r}")
        source = ArraySource(
            name, info.shape, _stored_dtype(info.dtype), lambda: stream_samples(path, member, f"{name!r}"), path
        )
    else:
        array = _as_array(name, value)
        source = ArraySource(name, array.shape, _stored_dtype(str(array.dtype)), lambda: iter(array))
    if not 1 <= len(source.space) <= 3 or 0 in source.shape or len(source.shape) < 2:
        raise InputError(
            f"{name!r} has shape {source.shape}, but (samples, *space) with one to three axes of space is needed; give "
            "the components of a vector as separate arrays."
        )
    return source


def _as_array(name: str, value: Any) -> Array:
    try:
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name!r} is not an array of numbers ({str(error).splitlines()[0]}); convert it.") from None
    if array.dtype.kind not in "fiub":
        raise InputError(f"{name!r} has dtype {array.dtype}; convert it to float32 or float64.")
    return array


def _stored_dtype(dtype: str) -> str:
    return "float64" if np.dtype(dtype).itemsize >= 8 else "float32"


def walk_together(sources: Sequence[ArraySource]) -> Iterator[dict[str, Array]]:
    """Yield the samples of all arrays together; each array is read once, from front to back."""
    with ExitStack() as files:
        streams = [source.walk() for source in sources]
        for stream in streams:
            files.callback(stream.close)  # type: ignore[attr-defined]  # they are generators
        for rows in zip(*streams, strict=True):
            yield {source.name: row for source, row in zip(sources, rows)}
