"""Progress display of the commands `import` and `export`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sciml_bounds.cli import _output as output

__all__ = ["sample_progress"]


@contextmanager
def sample_progress() -> Iterator[Callable[[int, int], None] | None]:
    """Show the number of finished samples if stderr is a terminal, and nothing otherwise."""
    console = output.error_console()
    if not console.is_terminal:
        yield None
        return
    with console.status("opening") as status:
        yield lambda done, count: status.update(f"{done} of {count} samples")
