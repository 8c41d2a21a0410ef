"""Suppress warnings while a file is parsed, so that readers either return an array or raise one clear error.

Python warns about odd escapes and numbers in headers, numpy about headers written by Python 2, torch about its checks.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["no_warnings"]

_turn = threading.RLock()  # warning filters are global: two threads would restore each other's


def _after_fork() -> None:
    global _turn
    _turn = threading.RLock()  # the thread that held the lock does not exist in the child


os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def no_warnings() -> Iterator[None]:
    """Suppress all warnings inside a `with` block, which one thread at a time can enter."""
    with _turn, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
