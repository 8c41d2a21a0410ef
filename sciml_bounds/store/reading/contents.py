"""What a file holds, before any of it is read: the one face that all formats show."""

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

#: Kinds of dtypes that are numbers: floating-point, integer, unsigned, boolean.
_KINDS = "fiub"


class ArrayInfo(NamedTuple):
    """What a file says about one of its arrays.

    `dtype` is that of numpy, or a word where it has none for it ("cell"); `dims` are the names of its axes; `role` is
    "array", "coordinate" or "link"; `working` is how many bytes a reader holds beside the array itself.
    """

    shape: tuple[int, ...]
    dtype: str
    dims: tuple[str, ...] | None = None
    attributes: Mapping[str, Any] = {}
    role: str = "array"
    working: int = 0

    @property
    def is_numeric(self) -> bool:
        """Whether it holds real numbers or booleans."""
        try:
            return np.dtype(self.dtype).kind in _KINDS
        except TypeError:
            return False


@dataclass(frozen=True)
class Contents:
    """An open file.

    Attributes
    ----------
    format
        Its name, for people.
    arrays
        What is in it, by name; a file that holds one array without a name has it under "".
    blocks
        Reads an array, or one index of its first axis, in pieces that follow one another in C order.
    attributes
        What the file says about itself.
    digest
        Computes the checksum of the whole content, for the formats that carry one.
    """

    format: str
    arrays: Mapping[str, ArrayInfo]
    blocks: Callable[[str, int | None], Iterator[Array]]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    digest: Callable[[], str] | None = None

    def choose(self, name: str | None) -> str:
        """Choose the array that is meant: the named one, or the only one that is neither link nor coordinate.

        Raises
        ------
        InputError
            If there is none, or it is not one of numbers.
        """
        plain = [key for key, info in self.arrays.items() if info.role == "array"]
        names = plain if name is None else list(self.arrays)
        listing = printable(", ".join(plain[:20])) + (", ..." if len(plain) > 20 else "")
        if name is not None and names == [""]:
            raise InputError(f"it holds one array without a name; leave out ':{name}'.")
        if not names:
            raise InputError("it holds no array; give another file.")
        if name is None and len(names) > 1:
            raise InputError(f"it holds several arrays; name one after a colon ({listing}).")
        chosen = names[0] if name is None else name.strip("/") if name not in names else name
        if chosen not in names:
            raise InputError(f"it has no array {chosen!r}; the arrays in it are {listing}.")
        if self.arrays[chosen].role == "link":
            raise InputError(f"{chosen!r} is a link, and links are not followed; name the array that it points to.")
        return chosen

    def read(self, name: str, sample: int | None = None) -> Array:
        """Read an array, or one index of its first axis, after comparing its declared size with the memory.

        Raises
        ------
        InputError
            If it does not hold real numbers, or does not fit into memory.
        """
        info = self.arrays[name]
        if not info.is_numeric:
            raise InputError(f"it holds {info.dtype} values, which are never loaded; give an array of real numbers.")
        shape, dtype = info.shape if sample is None else info.shape[1:], np.dtype(info.dtype)
        require_memory(math.prod(shape) * dtype.itemsize + info.working, "the array")
        array = np.empty(shape, dtype)
        flat, filled = array.reshape(-1), 0
        for block in self.blocks(name, sample):
            flat[filled : filled + block.size] = block.reshape(-1)
            filled += block.size
        if filled != flat.size:
            raise InputError("it is truncated: it holds fewer numbers than it declares; make it again.")
        # A byte other than 0 and 1 would be a boolean that is neither.
        return np.asarray(array.view(np.uint8) != 0) if dtype.kind == "b" else array


def printable(text: str) -> str:
    """Escape what could break a line or command a terminal: names in a file may hold anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
