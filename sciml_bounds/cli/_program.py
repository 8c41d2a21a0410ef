"""Run a command-line program: one-line messages, exit codes, and no partial files after an interruption."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, NoReturn

import typer

from sciml_bounds.errors import ConvergenceWarning, InputError, InputWarning, MissingExtraError

__all__ = ["interrupt", "run_program"]

BAD_INPUT = 2


def run_program(app: typer.Typer, name: str, arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    previous = {number: signal.signal(number, partial(interrupt, name)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with _printed_messages(name), _repeated_interrupts():
            app(arguments, prog_name=name)
    except (InputError, MissingExtraError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return BAD_INPUT
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        print(f"{name}: out of memory; use fewer samples at a time, a smaller grid, or another --device.",
              file=sys.stderr)  # fmt: skip
        return BAD_INPUT
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 0


def interrupt(name: str, number: int, frame: FrameType | None) -> NoReturn:
    """Exit through every `finally`, which removes partial files."""
    print(f"{name}: stopped by {signal.Signals(number).name}; no partial file is left.", file=sys.stderr)
    raise SystemExit(128 + number)


@contextmanager
def _repeated_interrupts() -> Iterator[None]:
    """Interrupt again if Python drops the exception of `interrupt`, as it does in garbage-collection callbacks."""
    shown = sys.unraisablehook
    timers: list[threading.Timer] = []

    def repeat(dropped: Any) -> None:
        if isinstance(dropped.exc_value, SystemExit) and dropped.exc_value.code in (130, 143):
            # with a delay, since an exception raised within this hook would be dropped as well
            timers.append(threading.Timer(0.05, os.kill, (os.getpid(), dropped.exc_value.code - 128)))
            timers[-1].start()
        else:
            shown(dropped)

    sys.unraisablehook = repeat
    try:
        yield
        for timer in timers:
            timer.join()
    finally:
        sys.unraisablehook = shown


def _is_out_of_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    return "can't allocate memory" in str(error)  # torch has no exception class for this on the CPU


@contextmanager
def _printed_messages(name: str) -> Iterator[None]:
    """Print log messages and warnings of the library, one line per message."""
    logger = logging.getLogger("sciml_bounds")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"{name}: %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)

    def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
        if issubclass(category, ConvergenceWarning | InputWarning):
            print(f"{name}: {message}", file=sys.stderr)  # without the source line
        else:
            shown(message, category, *where)

    try:
        with warnings.catch_warnings():
            shown, warnings.showwarning = warnings.showwarning, show  # type: ignore[assignment]  # accepts more arguments
            yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
