"""What the commands that exchange data sets with other packages share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sciml_bounds.cli import _output as output

__all__ = ["shown_samples"]


@contextmanager
def shown_samples() -> Iterator[Callable[[int, int], None] | None]:
    """Show on a terminal how many samples are done; elsewhere nothing is said."""
    console = output.error_console()
    if not console.is_terminal:
        yield None
        return
    with console.status("opening") as status:
        yield lambda done, count: status.update(f"{done} of {count} samples")
