"""Show how far a generation is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Shown", "shown"]

#: Called with the number of samples that are done.
type Shown = Callable[[int], None]
#: In how many steps lines tell what a bar would show.
_LINES = 10


@contextmanager
def shown(total: int, what: str, *, wanted: bool) -> Iterator[Shown]:
    """Show the progress on stderr inside a `with` block, if that is wanted."""
    if not wanted:
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
def _bar(console: Console, total: int, what: str) -> Iterator[Shown]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)


def _lines(console: Console, total: int, what: str) -> Shown:
    told = 0

    def tell(done: int) -> None:
        nonlocal told
        if done * _LINES // total > told:
            told = done * _LINES // total
            console.print(f"{what}: {done} of {total} samples", markup=False)

    return tell
