"""Silence what parses a file: a reader gives an array or its one sentence, and no warnings of other packages beside it.

Python warns of escapes and numbers in a header that look wrong, numpy of headers that Python 2 wrote, torch of checks
that it makes.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["no_warnings"]

_turn = threading.RLock()  # the filters belong to the process: of two threads, the last would restore the other's


def _after_fork() -> None:
    global _turn
    _turn = threading.RLock()  # a thread that had its turn is not in the child, and would never end it


os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def no_warnings() -> Iterator[None]:
    """Show no warnings inside a `with` block, which one thread at a time can be in."""
    with _turn, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
