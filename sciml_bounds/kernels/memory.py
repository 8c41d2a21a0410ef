"""New memory for large fields.

A process gets memory page by page, each when it is first written to: of 4 KiB each, that takes about as long as a
solve writes to them later. Linux has pages of 2 MiB where it is asked for them, as NumPy does for its own arrays.
"""

from __future__ import annotations

import ctypes
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
    out = like.new_empty(tuple(like.shape if shape is None else shape), dtype=dtype or like.dtype)
    start = -(-out.data_ptr() // LARGE_PAGE) * LARGE_PAGE
    size = (out.data_ptr() + out.nbytes - start) // LARGE_PAGE * LARGE_PAGE
    if _libc is not None and out.device.type == "cpu" and size > 0:
        _libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), _MADV_HUGEPAGE)  # advice: it may fail
    return out
