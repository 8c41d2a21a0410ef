"""Allocation of large fields in huge pages, with reuse of freed memory.

The operating system maps a page when it is first written to. With pages of 4 KiB, mapping takes about as long as all
later writes of a solve. Linux provides pages of 2 MiB on request, as NumPy does for its own arrays. These huge pages
are also cleared on first use, and in virtual machines often have to be fetched from the host, so the memory of freed
fields is kept for new fields.
"""

from __future__ import annotations

import ctypes
import math
import sys
import weakref
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from sciml_bounds.kernels._backend import needs_gradient

__all__ = ["elementwise", "new_field"]

LARGE_PAGE = 1 << 21
_MADV_HUGEPAGE = 14

#: Largest number of bytes of freed fields that are kept. On 128^3 points, a set-up and a solve use about 300 MiB, and a
#: certificate uses 550 MiB.
MAX_POOLED_BYTES = 1 << 30

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class _Pool:
    """The most recently freed blocks of memory.

    Garbage collection runs at any time and on any thread, so a block may be returned while another is taken. Therefore
    loops iterate over a copy of the dictionary, and a block belongs to the caller whose `pop` removed it. A lock would
    not be safe: if another thread holds it during a fork, it is never released in the child.
    """

    def __init__(self) -> None:
        self._blocks: dict[int, Tensor] = {}

    def take(self, size: int) -> Tensor | None:
        """Remove and return the block of this size that was returned last; None if no block has this size."""
        for place, block in reversed(self._blocks.copy().items()):
            if len(block) == size and self._blocks.pop(place, None) is not None:
                return block
        return None

    def give_back(self, block: Tensor) -> None:
        """Keep a block, and drop the oldest ones beyond `MAX_POOLED_BYTES`."""
        self._blocks[block.data_ptr()] = block
        for place in self._blocks.copy():
            if sum(map(len, self._blocks.copy().values())) <= MAX_POOLED_BYTES:
                break
            self._blocks.pop(place, None)


_pool = _Pool()


def new_field(like: Tensor, shape: Sequence[int] | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """Allocate an uninitialised contiguous tensor on the device of `like`, by default of its shape and dtype."""
    shape = tuple(like.shape if shape is None else shape)
    dtype = dtype or like.dtype
    count = math.prod(shape)
    size = count * dtype.itemsize
    if _libc is None or like.device.type != "cpu" or size < LARGE_PAGE:
        return like.new_empty(shape, dtype=dtype)
    # The field starts at a page boundary, and whole pages are requested: an incomplete page would be mapped as up to
    # 512 small ones.
    whole = -(-size // LARGE_PAGE) * LARGE_PAGE
    memory = _pool.take(whole + LARGE_PAGE)
    if memory is None:
        memory = torch.empty(whole + LARGE_PAGE, dtype=torch.uint8, device="cpu")
        start = -memory.data_ptr() % LARGE_PAGE
        _libc.madvise(
            ctypes.c_void_p(memory.data_ptr() + start), ctypes.c_size_t(whole), _MADV_HUGEPAGE
        )  # a failure does no harm
    start = -memory.data_ptr() % LARGE_PAGE
    owner = memory.numpy()  # kept alive by the storage of the field
    weakref.finalize(owner, _pool.give_back, memory).atexit = False
    # not a view of `memory`: saving the field would write the whole block
    return torch.frombuffer(owner, dtype=dtype, count=count, offset=start).view(shape)


def elementwise(operation: Callable[..., Tensor], *operands: Tensor | float) -> Tensor:
    """Apply an elementwise torch operation that accepts `out`, writing into a `new_field` unless gradients are needed.

    The result has the broadcast shape of the operands and the dtype of the first field.
    """
    fields = [operand for operand in operands if isinstance(operand, Tensor)]
    if needs_gradient(*fields):
        return operation(*operands)
    return operation(*operands, out=new_field(fields[0], np.broadcast_shapes(*[field.shape for field in fields])))
