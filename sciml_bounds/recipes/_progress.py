"""Progress of a generation: a bar on a terminal, otherwise a few lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["ReportProgress", "progress_display"]

#: Called with the number of finished samples.
type ReportProgress = Callable[[int], None]
#: Number of progress lines if stderr is not a terminal.
_PROGRESS_LINES = 10


@contextmanager
def progress_display(total: int, what: str, *, enabled: bool) -> Iterator[ReportProgress]:
    """Show progress on stderr inside a `with` block, if enabled."""
    if not enabled:
        yield lambda done: None
        return
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if console.is_terminal:
        with _bar(console, total, what) as update:
            yield update
    else:
        yield _lines(console, total, what)


@contextmanager
def _bar(console: Console, total: int, what: str) -> Iterator[ReportProgress]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)


def _lines(console: Console, total: int, what: str) -> ReportProgress:
    printed = 0

    def report(done: int) -> None:
        nonlocal printed
        if done * _PROGRESS_LINES // total > printed:
            printed = done * _PROGRESS_LINES // total
            console.print(f"{what}: {done} of {total} samples", markup=False)

    return report
