"""Delayed handling of SIGINT and SIGTERM, so that a training can finish its step first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["StopRequest", "listening"]


class StopRequest:
    """The number of the signal that was received; zero before."""

    def __init__(self) -> None:
        self.number = 0

    def raise_again(self) -> None:
        """Raise the received signal again, now with its usual effect."""
        if self.number:
            signal.raise_signal(self.number)


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Context manager: record the first SIGINT or SIGTERM; a second one has its usual effect at once.

    Outside the main thread, where Python does not allow handlers, signals have their usual effect.
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
        if before is not None and before is not signal.SIG_IGN:  # respect nohup
            previous[number] = before
            signal.signal(number, note)
    try:
        yield request
    finally:
        restore()
