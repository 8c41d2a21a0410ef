"""Which implementation of a kernel runs, and how the compiled ones are compiled.

The plain torch version is the reference and runs anywhere, with gradients. On the CPU numba takes over, on CUDA triton;
`use_backend` forces one, which the tests do to hold the three against each other.

There is one thread setting, that of torch. A kernel that has threads takes all of them, so Python threads that solve at
the same time take turns: numba's own thread pool (its threading layer "workqueue") ends a process that enters it twice,
and OpenMP would start as many threads again for each. A child of `fork` has none of the threads of its parent, and both
OpenMP libraries fail there, torch's by waiting for them and numba's by ending the process; so it runs on one thread.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache, cached_property, lru_cache
from pathlib import Path
from types import FunctionType
from typing import Any, Literal

import numba
import torch
from numba.core.caching import FunctionCache
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:  # no CUDA build of torch: the reference serves every device but the CPU
    triton = None
    tl = None

__all__ = [
    "NumbaKernel",
    "backend_for",
    "constant_table",
    "launch",
    "needs_gradient",
    "require_batches",
    "tl",
    "triton_jit",
    "use_backend",
]

Backend = Literal["torch", "numba", "triton"]

#: Below this number of lattice points starting threads costs more than it saves.
SERIAL_BELOW = 32_768

_forced: ContextVar[Backend | None] = ContextVar("sciml_bounds_backend", default=None)
_in_forked_child = False
_turn = threading.RLock()  # a signal handler that solves may interrupt a solve


@contextmanager
def use_backend(name: Backend) -> Iterator[None]:
    """Force one implementation of every kernel inside a `with` block."""
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


def backend_for(tensor: Tensor) -> Backend:
    """Name the implementation that serves a tensor: the forced one, or the one of its device."""
    forced = _forced.get()
    if forced is not None:
        return forced
    if tensor.device.type == "cpu":
        return "numba"
    return "triton" if tensor.device.type == "cuda" and triton is not None else "torch"


def needs_gradient(*tensors: Tensor) -> bool:
    """Tell whether a gradient must flow through what is done with tensors, so that only the reference serves."""
    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


def require_batches(batch: int, *fields: Tensor) -> None:
    """Refuse fields whose batch is neither one nor the given one: a compiled loop would run off their ends.

    Raises
    ------
    ValueError
        That is a bug of ours; users' batches are checked before.
    """
    if any(len(field) not in (1, batch) for field in fields):
        raise ValueError(f"fields with batches of {[len(field) for field in fields]} do not fit a batch of {batch}.")


def _after_fork() -> None:
    global _in_forked_child
    _in_forked_child = True
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)


class NumbaKernel:
    """A loop that numba compiles on first use, once with threads and once without.

    The serial form serves small lattices, one-thread settings and forked children. Threads follow
    `torch.get_num_threads()`, and the settings of torch and numba are left as they were found. Arguments that are
    tensors are handed over as numpy views.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function

    @cached_property
    def serial(self) -> Callable[..., None]:
        """The form without threads."""
        return _compiled(self.function, parallel=False)

    @cached_property
    def parallel(self) -> Callable[..., None]:
        """The form with threads."""
        return _compiled(self.function, parallel=True)

    def __call__(self, size: int, *arguments: Any) -> None:
        views = [(a.detach() if a.requires_grad else a).numpy() if isinstance(a, Tensor) else a for a in arguments]
        threads = min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)
        if size < SERIAL_BELOW or threads == 1 or _in_forked_child:
            self.serial(*views)
            return
        _start_threads()
        found = numba.get_num_threads()
        try:
            numba.set_num_threads(threads)
            with _turn:
                self.parallel(*views)
        finally:
            numba.set_num_threads(found)


@cache
def _start_threads() -> None:
    """Start the threads of numba, which sets the count of OpenMP, and so that of torch where the two share it."""
    found = torch.get_num_threads()
    numba.get_num_threads()
    if torch.get_num_threads() != found:
        torch.set_num_threads(found)


@cache
def _digest() -> str:
    """Tell one state of all files of kernels from another: loops are made of functions of several of them.

    The cache of numba looks at the file of a loop only, and not at how it is compiled, which this file says.
    """
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def _compiled(function: Callable[..., None], *, parallel: bool) -> Callable[..., None]:
    # numba's cache on disk tells functions apart by their qualified names and not by their options, so that one of two
    # forms of the same name would be served for the other.
    form = FunctionType(function.__code__, function.__globals__, function.__name__)
    form.__qualname__ = f"{function.__qualname__}_{'parallel' if parallel else 'serial'}_{_digest()}"
    # Without the reference counts of arrays, which every slice and every array handed to an inlined function would
    # raise and lower: threads that count at the same place wait for each other, and took ten times as long as the
    # arithmetic of a row. The price is that a loop allocates nothing, and is handed its scratch.
    # Division by zero gives an infinity as in numpy: a loop that might raise an error is not vectorised.
    compiled: Any = numba.njit(parallel=parallel, _nrt=False, error_model="numpy")(form)
    try:
        compiled._cache = _Cache(form)  # what njit(cache=True) does, with a more careful cache
    except RuntimeError:
        _say("no folder can be written to keep compiled kernels in, so this process compiles them anew; "
             "NUMBA_CACHE_DIR can name a folder")  # fmt: skip
    return compiled


class _Cache(FunctionCache):  # type: ignore[misc]
    """The cache of numba on disk, which says when it lacks something, and whose failures only cost time."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            found = super().load_overload(sig, target_context)
        except Exception:  # whatever unpickling raises for a file that a crash cut short
            with suppress(OSError):
                self.flush()
            found = None
        if found is None:
            _say("compiling the kernels that are needed, which takes up to a minute; later runs find them on disk")
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        # The index is read, extended and written back, and the file of a kernel is named by its place in it: of two
        # processes doing so at the same time, one could store its kernel where the index has that of the other.
        import filelock

        with suppress(OSError), filelock.FileLock(os.path.join(self.cache_path, "sciml_bounds.lock"), timeout=10):
            super().save_overload(sig, data)


@cache
def _say(message: str) -> None:
    """Log a message, once in a process."""
    logging.getLogger("sciml_bounds").info(message)


def triton_jit(function: Callable[..., Any]) -> Any:
    """Compile a loop with triton, where triton is installed."""
    return triton.jit(function) if triton is not None else function


@lru_cache(maxsize=256)
def constant_table(values: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a small constant tensor, made once for each value and device."""
    return torch.tensor(values, dtype=dtype, device=device)


def launch(kernel: Any, points: int, batch: int, *arguments: Any, block: int = 256, **constants: Any) -> None:
    """Run a triton kernel with one program for each block of lattice points and each sample."""
    kernel[(triton.cdiv(points, block), batch)](*arguments, BLOCK=block, **constants)
