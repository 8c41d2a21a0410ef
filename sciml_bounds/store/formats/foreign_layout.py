"""How the arrays of somebody else's file become the variables of a data set of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sciml_bounds.errors import InputError
from sciml_bounds.store.reading.contents import Array, Contents

__all__ = ["SPACE", "ForeignLayout", "ForeignVariable", "plain_dtype", "require_arrays", "same_samples"]

#: Names of the axes of space.
SPACE = ("x", "y", "z")


def _first(rows: Sequence[Array]) -> Array:
    return rows[0]


@dataclass(frozen=True)
class ForeignVariable:
    """One variable of ours, and where its samples come from.

    Attributes
    ----------
    arrays
        Names of arrays in the file, whose first axis counts the samples.
    dims, shape, dtype, long_name, units
        Of one sample of ours.
    make
        Makes it from one sample of each of `arrays`.
    """

    arrays: tuple[str, ...]
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    long_name: str
    units: str = "1"
    make: Callable[[Sequence[Array]], Array] = _first


@dataclass(frozen=True)
class ForeignLayout:
    """A file as it was recognised.

    Attributes
    ----------
    title, reference
        What it is, and who publishes such files.
    variables, coordinates, inputs, targets, layout
        As in our files.
    parameters
        What the file says about its numbers.
    """

    title: str
    reference: str
    variables: Mapping[str, ForeignVariable]
    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    layout: str
    coordinates: Mapping[str, tuple[Array, str]] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)


def require_arrays(contents: Contents, names: Sequence[str], dims: Mapping[str, tuple[int, ...]]) -> None:
    """Check that arrays of numbers are there, with one of the numbers of axes that `dims` allows each.

    Raises
    ------
    InputError
        If not.
    """
    for name in names:
        if name not in contents.arrays:
            raise InputError(f"it has no array {name!r}; the arrays in it are {', '.join(list(contents.arrays)[:20])}.")
        info = contents.arrays[name]
        if not info.is_numeric:
            raise InputError(f"{name!r} holds {info.dtype} values; an array of real numbers is needed.")
        if len(info.shape) not in dims[name] or 0 in info.shape:
            allowed = " or ".join(map(str, dims[name]))
            raise InputError(f"{name!r} has the shape {info.shape}; {allowed} axes are needed, the first for samples.")


def same_samples(contents: Contents, names: Sequence[str], *, same_shape: bool = False) -> int:
    """Check that arrays have as many samples, or all one shape, and return how many samples.

    Raises
    ------
    InputError
        If they disagree.
    """
    shapes = {name: contents.arrays[name].shape for name in names}
    compared = {shape if same_shape else shape[:1] for shape in shapes.values()}
    if len(compared) != 1:
        listing = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise InputError(f"the shapes of its arrays disagree: {listing}.")
    return next(iter(shapes.values()))[0]


def plain_dtype(contents: Contents, name: str) -> str:
    """Choose in which dtype an array is stored: double precision stays, all others become single precision."""
    return "float64" if np.dtype(contents.arrays[name].dtype) in (np.dtype("f8"), np.dtype("i8")) else "float32"
