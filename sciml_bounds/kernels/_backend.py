"""Which implementation of a kernel runs: plain torch, compiled C++ or triton.

The plain torch version is the reference and runs anywhere, with gradients. On the CPU the compiled loops take over, on
CUDA triton; `use_backend` forces one, which the tests do to compare the three.

The compiled loops follow the thread setting of torch. Their threads are those of one pool (`threads.cpp`); of two
Python threads that solve at the same time, one has the pool and the other runs alone. A child of `fork` has none of the
threads of its parent, so it runs on one thread, and torch, whose OpenMP would wait for the missing ones, is told so.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor

_compiled: ModuleType | None
try:
    _compiled = import_module("sciml_bounds.kernels._compiled")
except ImportError:  # a pure installation
    _compiled = None

try:
    if not (torch.cuda.device_count() or os.environ.get("TRITON_INTERPRET")):
        raise ImportError  # loading it takes a tenth of a second, and there is no device to run it on
    import triton
    import triton.language as tl
except ImportError:  # the reference serves every device but the CPU
    triton = None
    tl = None

__all__ = [
    "backend_for",
    "constant_table",
    "instruction_sets",
    "launch",
    "needs_gradient",
    "require_batches",
    "run_compiled",
    "tl",
    "triton_jit",
    "use_backend",
]

Backend = Literal["torch", "compiled", "triton"]

#: Below this number of lattice points threads cost more than they save.
SERIAL_BELOW = 32_768

_forced: ContextVar[Backend | None] = ContextVar("sciml_bounds_backend", default=None)
_in_forked_child = False


@contextmanager
def use_backend(name: Backend) -> Iterator[None]:
    """Force one implementation of every kernel inside a `with` block."""
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


def backend_for(tensor: Tensor) -> Backend:
    """Return the implementation that serves a tensor: the forced one, or the one of its device."""
    forced = _forced.get()
    if forced is not None:
        return forced
    if tensor.is_cpu:
        return "compiled" if _functions is not None else _without_compiler()
    return "triton" if tensor.device.type == "cuda" and triton is not None else "torch"


@cache
def _without_compiler() -> Backend:
    if os.environ.setdefault("SCIML_BOUNDS_PURE_SAID", pid := str(os.getpid())) != pid:
        return "torch"  # the process that started this one has said it
    logging.getLogger("sciml_bounds").warning(
        "this installation has no compiled kernels, so everything runs in plain torch operations, which is slow; "
        "install the package where a C++ compiler is at hand to have them"
    )
    return "torch"


def needs_gradient(*tensors: Tensor) -> bool:
    """Return whether a gradient must flow through what is done with tensors, so that only the reference serves."""
    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


def require_batches(batch: int, *fields: Tensor) -> None:
    """Raise unless the batch of every field is one or the given one: a compiled loop would run off its end.

    Raises
    ------
    ValueError
        This is a bug of the package; users' batches are checked before.
    """
    for field in fields:
        if field.shape[0] not in (1, batch):
            raise ValueError(f"fields with batches of {[len(f) for f in fields]} do not fit a batch of {batch}.")


# --- compiled ---------------------------------------------------------------------------------------------------------


def instruction_sets() -> dict[str, ModuleType]:
    """Return the compiled functions for each instruction set that the processor has, the best set last."""
    return {name: getattr(_compiled, name) for name in ("baseline", "avx2", "avx512") if hasattr(_compiled, name)}


_functions: ModuleType | None = [*instruction_sets().values()][-1] if _compiled is not None else None


def run_compiled(name: str, size: int, *arguments: Any) -> None:
    """Run a compiled loop.

    Parameters
    ----------
    name
        Its name in `kernels.hpp`.
    size
        Number of lattice points; small loops run on one thread.
    arguments
        Contiguous tensors and numpy arrays are handed over without copies.
    """
    views = [(a.detach() if a.requires_grad else a).numpy() if isinstance(a, Tensor) else a for a in arguments]
    threads = 1 if size < SERIAL_BELOW or _in_forked_child else torch.get_num_threads()
    getattr(_functions, name)(threads, *views)


def _after_fork() -> None:
    global _in_forked_child
    _in_forked_child = True
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)


# --- triton -----------------------------------------------------------------------------------------------------------


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
