"""Mapping from the arrays of a foreign file to the variables of a data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sciml_bounds.errors import InputError
from sciml_bounds.store.reading.contents import Array, Contents

__all__ = ["SPACE", "ForeignLayout", "ForeignVariable", "plain_dtype", "require_arrays", "same_samples"]

#: Names of the spatial axes.
SPACE = ("x", "y", "z")


def _first(rows: Sequence[Array]) -> Array:
    return rows[0]


@dataclass(frozen=True)
class ForeignVariable:
    """A variable of the data set, and the arrays of the file from which it is made.

    Attributes
    ----------
    arrays : tuple of str
        Names of arrays in the file, whose first axis is that of the samples.
    dims : tuple of str
        Names of the axes of one sample.
    shape : tuple of int
        Shape of one sample.
    dtype, long_name, units : str
        Precision, description and units of the variable.
    make : callable
        Function that returns one sample of the variable for a list with one sample of each of `arrays`.
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
    """Layout of a recognised foreign file.

    Attributes
    ----------
    title, reference : str
        Description and publication of the file.
    variables, coordinates : mapping
        Variables and coordinates of the data set, by name.
    inputs, targets : tuple of str
        Names of the variables that a network receives and predicts.
    layout : str
        Layout as in `Recipe.layout`.
    parameters : mapping
        Parameters in the file that determine its numbers.
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
    """Check that arrays exist, are numeric, and have one of the numbers of axes in `dims`.

    Raises
    ------
    InputError
        If one does not.
    """
    for name in names:
        if name not in contents.arrays:
            raise InputError(f"it has no array {name!r}; its arrays are {', '.join(list(contents.arrays)[:20])}.")
        info = contents.arrays[name]
        if not info.is_numeric:
            raise InputError(f"{name!r} has {info.dtype} values; it must be an array of real numbers.")
        if len(info.shape) not in dims[name] or 0 in info.shape:
            allowed = " or ".join(map(str, dims[name]))
            raise InputError(f"{name!r} has shape {info.shape}; it must have {allowed} axes, the first for samples.")


def same_samples(contents: Contents, names: Sequence[str], *, same_shape: bool = False) -> int:
    """Check that arrays have the same number of samples, or the same shape, and return the number of samples.

    Raises
    ------
    InputError
        If they disagree.
    """
    shapes = {name: contents.arrays[name].shape for name in names}
    compared = {shape if same_shape else shape[:1] for shape in shapes.values()}
    if len(compared) != 1:
        listing = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise InputError(f"the shapes of its arrays disagree: {listing}; correct them.")
    return next(iter(shapes.values()))[0]


def plain_dtype(contents: Contents, name: str) -> str:
    """Return the dtype in which an array is stored: float64 for 64-bit numbers, otherwise float32."""
    return "float64" if np.dtype(contents.arrays[name].dtype) in (np.dtype("f8"), np.dtype("i8")) else "float32"
