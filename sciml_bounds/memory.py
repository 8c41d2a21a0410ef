"""How much memory there is, asked before anything large is made."""

from __future__ import annotations

import os
from pathlib import Path

from sciml_bounds.errors import InputError

__all__ = ["available_memory", "require_memory"]


def available_memory() -> int | None:
    """Bytes that this process can still take without swapping; None where the system does not say."""
    limits = [limit for limit in (_free_memory(), _container_memory()) if limit is not None]
    return min(limits, default=None)


def require_memory(size: int, what: str) -> None:
    """Refuse what does not fit into memory, before it is made.

    Raises
    ------
    InputError
        If `size` bytes are more than there are.
    """
    available = available_memory()
    if available is not None and size > available:
        raise InputError(
            f"{what} needs {size / 2**30:.3g} GiB of memory, but {available / 2**30:.3g} GiB are available; "
            "use a smaller array or a machine with more memory."
        )


def _free_memory() -> int | None:
    try:
        rows = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        return int(rows["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux: what is installed is the best that is known
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _container_memory() -> int | None:
    """Ask the control group (version 2) of a container what it leaves; None outside of one."""
    group = Path("/sys/fs/cgroup")
    try:
        return int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    except (OSError, ValueError):  # no such group, or "max"
        return None
