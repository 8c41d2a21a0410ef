"""Requests to stop from outside, which wait until the step at hand is done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["StopRequest", "listening"]


class StopRequest:
    """Whether SIGINT or SIGTERM has come, and which; zero before."""

    def __init__(self) -> None:
        self.number = 0

    def raise_again(self) -> None:
        """Do what the signal would have done, now that what it would have broken is safe."""
        if self.number:
            signal.raise_signal(self.number)


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Take note of the first signal in a `with` block; a second one acts at once.

    Outside the main thread, where Python allows no handlers, signals act as ever.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous: dict[int, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        request.number = number
        restore()

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        before = signal.getsignal(number)
        if before is not None and before is not signal.SIG_IGN:  # nohup has its reasons
            previous[number] = before
            signal.signal(number, note)
    try:
        yield request
    finally:
        restore()
