"""Processes that interrupt themselves at a point of their output, so that no load of the machine decides which."""

from __future__ import annotations

import textwrap

_CODE = """
import os, signal, sys, threading, time

class _Interrupting:
    def __init__(self, stream):
        self.stream, self.line = stream, ""

    def write(self, text):
        count = self.stream.write(text)
        self.line = (self.line + text)[-1000:]
        if {words!r} in self.line:
            self.line = ""
            self.stream.flush()
            sys.stderr = _Waiting(self.stream) if {delay} else self.stream
            threading.Timer({delay}, {send}).start() if {delay} else {send}()
        return count

    def __getattr__(self, name):
        return getattr(self.stream, name)

class _Waiting(_Interrupting):
    def write(self, text):
        if {wait_at!r} in text:
            time.sleep(3600)  # until the signal comes
        return self.stream.write(text)

sys.stderr = _Interrupting(sys.stderr)
"""


def interrupting(number: int, words: str, *, delay: float = 0.0, wait_at: str = "", group: bool = False) -> str:
    """Return code that sends its process (or its group) a signal once stderr contains the words.

    With a delay in seconds the signal comes that much later, and output that contains `wait_at` waits for it: the
    process cannot end before, however slow the one that delays.
    """
    send = f"lambda: os.{'killpg(0' if group else 'kill(os.getpid()'}, {int(number)})"
    return textwrap.dedent(_CODE).format(words=words, delay=delay, wait_at=wait_at, send=f"({send})")
