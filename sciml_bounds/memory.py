"""Available memory, and a check before large allocations."""

from __future__ import annotations

import os
from pathlib import Path

from sciml_bounds.errors import InputError

__all__ = ["available_memory", "require_memory"]


def available_memory() -> int | None:
    """Return the number of bytes that this process can allocate without swapping; None if unknown."""
    limits = [limit for limit in (_free_memory(), _container_memory()) if limit is not None]
    return min(limits, default=None)


def require_memory(size: int, what: str) -> None:
    """Raise if an allocation of `size` bytes would not fit into memory.

    Raises
    ------
    InputError
        If less memory is available.
    """
    available = available_memory()
    if available is not None and size > available:
        raise InputError(
            f"{what} needs {size / 2**30:.3g} GiB of memory, but only {available / 2**30:.3g} GiB are available; "
            "use a smaller array or a machine with more memory."
        )


# psutil could replace this function only: it does not know the limits of control groups.
def _free_memory() -> int | None:
    try:
        rows = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        return int(rows["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux: fall back to the installed memory
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _container_memory() -> int | None:
    """Return how many bytes the memory limit of the container (control group v2) leaves; None without a limit."""
    group = Path("/sys/fs/cgroup")
    try:
        return int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    except (OSError, ValueError):  # not in a control group, or its limit is "max"
        return None
