"""Optional progress display of a training on stderr, with the remaining time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["Display", "shown"]


class Display:
    """A display that shows nothing."""

    def step(self) -> None:
        """Count a step."""

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Show a completed epoch."""


class _Bar(Display):
    """A progress bar, on a terminal."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def step(self) -> None:
        self._progress.advance(self._task)

    def epoch(self, row: Mapping[str, Any]) -> None:
        self._progress.update(self._task, description=_words(row))


class _Lines(Display):
    """One line per epoch, if stderr is not a terminal."""

    def __init__(self, done: int, epochs: int, print_line: Any) -> None:
        self._start, self._done, self._epochs, self._print = time.monotonic(), done, epochs, print_line

    def epoch(self, row: Mapping[str, Any]) -> None:
        pace = (time.monotonic() - self._start) / max(1, row["epoch"] - self._done)
        left = pace * (self._epochs - row["epoch"])
        self._print(f"{_words(row)} of {self._epochs}, {_duration(left)} left")


def _words(row: Mapping[str, Any]) -> str:
    validation = "" if row["validation"] is None else f", validation {row['validation']:.4g}"
    return f"loss {row['loss']:.4g}{validation} in epoch {row['epoch']}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


@contextmanager
def shown(wanted: bool, *, done: int, steps: int, epochs: int) -> Iterator[Display]:
    """Show the progress of a training; `done` epochs of `steps` steps each are complete at the start."""
    if not wanted:
        yield Display()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        yield _Lines(done, epochs, console.print)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console) as progress:
        yield _Bar(progress, progress.add_task("training", total=steps * epochs, completed=steps * done))
