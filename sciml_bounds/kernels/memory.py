"""New memory for large fields.

A process gets memory page by page, each when it is first written to: of 4 KiB each, that takes about as long as a
solve writes to them later. Linux has pages of 2 MiB where it is asked for them, as NumPy does for its own arrays.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["new_field"]

LARGE_PAGE = 1 << 21
_MADV_HUGEPAGE = 14

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def new_field(like: Tensor, shape: Sequence[int] | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """Allocate an uninitialised contiguous tensor, of the shape and dtype of another one unless others are given."""
    shape = tuple(like.shape if shape is None else shape)
    dtype = dtype or like.dtype
    count = math.prod(shape)
    size = count * dtype.itemsize
    if _libc is None or like.device.type != "cpu" or size < LARGE_PAGE:
        return like.new_empty(shape, dtype=dtype)
    # It starts where a large page starts and is asked for to the end of its last one: what lies before and after would
    # come in small pages, half a thousand of them.
    whole = -(-size // LARGE_PAGE) * LARGE_PAGE
    memory = torch.empty(whole + LARGE_PAGE, dtype=torch.uint8, device="cpu")
    start = -memory.data_ptr() % LARGE_PAGE
    _libc.madvise(ctypes.c_void_p(memory.data_ptr() + start), ctypes.c_size_t(whole), _MADV_HUGEPAGE)  # it may fail
    # not a view of `memory`, with which a saved field would carry all of it
    return torch.frombuffer(memory.numpy(), dtype=dtype, count=count, offset=start).view(shape)
