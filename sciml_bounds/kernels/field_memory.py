"""New memory for large fields.

A process gets memory page by page, each when it is first written to: of 4 KiB each, that takes about as long as a
solve writes to them later. Linux has pages of 2 MiB where it is asked for them, as NumPy does for its own arrays. They
too are cleared first, and in virtual machines often have to be fetched from the host, so fields that are given up leave
theirs to the next ones.
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

#: So many bytes of fields that were given up are kept at most. Set-up and solve take about 300 MiB on 128^3 points, and
#: a certificate 550.
KEPT = 1 << 30

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class _Pool:
    """Blocks of memory that nothing uses at the moment, the last ones that were given up.

    Garbage is collected at any moment and on any thread, so that a block may come back while another one is taken: what
    is walked through is a copy, and a block is of whoever removes it. There is no lock: one that another thread holds
    during a fork would never be released in the child.
    """

    def __init__(self) -> None:
        self._blocks: dict[int, Tensor] = {}

    def take(self, size: int) -> Tensor | None:
        """Take the block of this size that came back last, or None."""
        for place, block in reversed(self._blocks.copy().items()):
            if len(block) == size and self._blocks.pop(place, None) is not None:
                return block
        return None

    def give_back(self, block: Tensor) -> None:
        """Keep a block, at the cost of those that came back first."""
        self._blocks[block.data_ptr()] = block
        for place in self._blocks.copy():
            if sum(map(len, self._blocks.copy().values())) <= KEPT:
                break
            self._blocks.pop(place, None)


_pool = _Pool()


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
    memory = _pool.take(whole + LARGE_PAGE)
    if memory is None:
        memory = torch.empty(whole + LARGE_PAGE, dtype=torch.uint8, device="cpu")
        start = -memory.data_ptr() % LARGE_PAGE
        _libc.madvise(ctypes.c_void_p(memory.data_ptr() + start), ctypes.c_size_t(whole), _MADV_HUGEPAGE)  # it may fail
    start = -memory.data_ptr() % LARGE_PAGE
    owner = memory.numpy()  # which the storage of the field keeps alive
    weakref.finalize(owner, _pool.give_back, memory).atexit = False
    # not a view of `memory`, with which a saved field would carry all of it
    return torch.frombuffer(owner, dtype=dtype, count=count, offset=start).view(shape)


def elementwise(operation: Callable[..., Tensor], *operands: Tensor | float) -> Tensor:
    """Apply an operation of torch that takes `out` to fields, in memory as of `new_field` unless a gradient flows.

    What it gives has the shape that they broadcast to, and the dtype of the first.
    """
    fields = [operand for operand in operands if isinstance(operand, Tensor)]
    if needs_gradient(*fields):
        return operation(*operands)
    return operation(*operands, out=new_field(fields[0], np.broadcast_shapes(*[field.shape for field in fields])))
