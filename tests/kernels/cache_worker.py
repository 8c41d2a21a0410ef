"""Run by test_cache.py: `cache_worker.py TYPE...` runs one small kernel on each type of number, in both forms.

Prints one line of JSON: what was said meanwhile, and how many forms were found on disk.
"""

from __future__ import annotations

import json
import logging
import sys

import torch
from numba import prange

from sciml_bounds.kernels import _backend

_backend.SERIAL_BELOW = 4


@_backend.NumbaKernel
def _double(values):
    for i in prange(values.shape[0]):
        values[i] *= 2


if __name__ == "__main__":
    torch.set_num_threads(2)
    messages: list[str] = []
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: messages.append(record.getMessage())
    logging.getLogger("sciml_bounds").addHandler(handler)
    logging.getLogger("sciml_bounds").setLevel(logging.INFO)
    for dtype in sys.argv[1:]:
        for size in (2, 8):
            values = torch.arange(size, dtype=getattr(torch, dtype))
            expected = values * 2
            _double(size, values)
            assert torch.equal(values, expected)
    hits = sum(sum(form.stats.cache_hits.values()) for form in (_double.serial, _double.parallel))
    print(json.dumps({"said": messages, "hits": hits}))
