"""Contents of an open file before anything is read: the common interface of all formats."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from sciml_bounds.errors import InputError
from sciml_bounds.memory import require_memory

__all__ = ["Array", "ArrayInfo", "Contents", "printable"]

type Array = np.ndarray[Any, np.dtype[Any]]

#: Numeric kinds of dtypes: floating-point, integer, unsigned, boolean.
_KINDS = "fiub"


class ArrayInfo(NamedTuple):
    """Metadata of one array in a file.

    `dtype` is a numpy dtype, or a description if there is none ("cell"); `dims` are the names of the axes; `role` is
    "array", "coordinate" or "link"; `working` is the memory in bytes that a reader needs in addition to the array.
    """

    shape: tuple[int, ...]
    dtype: str
    dims: tuple[str, ...] | None = None
    attributes: Mapping[str, Any] = {}
    role: str = "array"
    working: int = 0

    @property
    def is_numeric(self) -> bool:
        """Whether the array has real numbers or booleans."""
        try:
            return np.dtype(self.dtype).kind in _KINDS
        except TypeError:
            return False


@dataclass(frozen=True)
class Contents:
    """An open file.

    Attributes
    ----------
    format : str
        Name of the format, for display.
    arrays : mapping
        Metadata of the arrays by name; a single array without a name has the name "".
    blocks : callable
        Function that reads an array, or one index of its first axis, in consecutive blocks in C order.
    attributes : mapping
        Attributes of the file.
    digest : callable, optional
        Function that computes the checksum of the whole content, for formats with a checksum.
    """

    format: str
    arrays: Mapping[str, ArrayInfo]
    blocks: Callable[[str, int | None], Iterator[Array]]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    digest: Callable[[], str] | None = None

    def choose(self, name: str | None) -> str:
        """Return the name of an array: the given one, or the only array that is not a link or coordinate.

        Raises
        ------
        InputError
            If there is no such array, or several.
        """
        plain = [key for key, info in self.arrays.items() if info.role == "array"]
        names = plain if name is None else list(self.arrays)
        listing = printable(", ".join(plain[:20])) + (", ..." if len(plain) > 20 else "")
        if name is not None and names == [""]:
            raise InputError(f"it has a single array without a name; leave out ':{name}'.")
        if not names:
            raise InputError("it has no arrays; give another file.")
        if name is None and len(names) > 1:
            raise InputError(f"it has several arrays; name one after a colon ({listing}).")
        chosen = names[0] if name is None else name.strip("/") if name not in names else name
        if chosen not in names:
            raise InputError(f"it has no array {chosen!r}; its arrays are {listing}.")
        if self.arrays[chosen].role == "link":
            raise InputError(f"{chosen!r} is a link, which is not followed; name the array that it points to.")
        return chosen

    def read(self, name: str, sample: int | None = None) -> Array:
        """Read an array, or one index of its first axis, after checking that it fits into memory.

        Raises
        ------
        InputError
            If it is not numeric, or does not fit into memory.
        """
        info = self.arrays[name]
        if not info.is_numeric:
            raise InputError(f"it has {info.dtype} values, which are never loaded; give an array of real numbers.")
        shape, dtype = info.shape if sample is None else info.shape[1:], np.dtype(info.dtype)
        require_memory(math.prod(shape) * dtype.itemsize + info.working, "the array")
        array = np.empty(shape, dtype)
        flat, filled = array.reshape(-1), 0
        for block in self.blocks(name, sample):
            flat[filled : filled + block.size] = block.reshape(-1)
            filled += block.size
        if filled != flat.size:
            raise InputError("it is truncated: it contains fewer numbers than it declares; create it again.")
        # Bytes other than 0 and 1 are not valid booleans.
        return np.asarray(array.view(np.uint8) != 0) if dtype.kind == "b" else array


def printable(text: str) -> str:
    """Escape line breaks and control characters, since names in a file may contain anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
