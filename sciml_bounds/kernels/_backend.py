"""Choice of the implementation of a kernel: plain torch, compiled C++ or triton.

The plain torch version is the reference; it runs on every device and is differentiable. On the CPU the compiled loops
replace it, and on CUDA the triton kernels. `use_backend` forces one implementation, as the tests do to compare the
three.

The compiled loops use as many threads as torch is set to, from one pool (`threads.cpp`). If two Python threads solve at
the same time, one uses the pool and the other runs on a single thread. A forked child does not inherit the threads of
its parent, so it uses one thread only. The same applies to the threads of torch: its OpenMP would wait for threads that
do not exist in the child.
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
        raise ImportError  # importing triton takes 0.1 s, and there is no device to run it on
    import triton
    import triton.language as tl
except ImportError:  # the reference runs on all devices other than the CPU
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

#: Number of lattice points below which one thread is faster than several.
SERIAL_BELOW = 32_768

_forced: ContextVar[Backend | None] = ContextVar("sciml_bounds_backend", default=None)
_in_forked_child = False


@contextmanager
def use_backend(name: Backend) -> Iterator[None]:
    """Use one implementation of every kernel inside a `with` block."""
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


def backend_for(tensor: Tensor) -> Backend:
    """Return the implementation to use for a tensor: the one that is forced, or the default of its device."""
    forced = _forced.get()
    if forced is not None:
        return forced
    if tensor.is_cpu:
        return "compiled" if _functions is not None else _without_compiler()
    return "triton" if tensor.device.type == "cuda" and triton is not None else "torch"


@cache
def _without_compiler() -> Backend:
    if os.environ.setdefault("SCIML_BOUNDS_PURE_SAID", pid := str(os.getpid())) != pid:
        return "torch"  # the parent process has warned
    logging.getLogger("sciml_bounds").warning(
        "this installation has no compiled kernels and uses slow plain torch operations; reinstall the package on a "
        "machine with a C++ compiler"
    )
    return "torch"


def needs_gradient(*tensors: Tensor) -> bool:
    """Return whether any tensor requires gradients, so that only the differentiable reference can be used."""
    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


def require_batches(batch: int, *fields: Tensor) -> None:
    """Raise unless every field has a batch of length 1 or `batch`; a compiled loop would read out of bounds.

    Raises
    ------
    ValueError
        If a batch has another length. This is an error in the package, as batches of users are checked earlier.
    """
    for field in fields:
        if field.shape[0] not in (1, batch):
            raise ValueError(f"fields with batch sizes {[len(f) for f in fields]} do not fit a batch of {batch}.")


# --- compiled ---------------------------------------------------------------------------------------------------------


def instruction_sets() -> dict[str, ModuleType]:
    """Return the compiled functions for each instruction set of the processor, from the least to the most capable."""
    return {name: getattr(_compiled, name) for name in ("baseline", "avx2", "avx512") if hasattr(_compiled, name)}


_functions: ModuleType | None = [*instruction_sets().values()][-1] if _compiled is not None else None


def run_compiled(name: str, size: int, *arguments: Any) -> None:
    """Run a compiled loop.

    Parameters
    ----------
    name : str
        Name of the loop in `kernels.hpp`.
    size : int
        Number of lattice points; below `SERIAL_BELOW` one thread is used.
    arguments
        Arguments of the loop. Contiguous tensors and numpy arrays are passed without copies.
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
    """Compile a loop with triton if triton is installed; otherwise return the function unchanged."""
    return triton.jit(function) if triton is not None else function


@lru_cache(maxsize=256)
def constant_table(values: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a small constant tensor, cached by value, dtype and device."""
    return torch.tensor(values, dtype=dtype, device=device)


def launch(kernel: Any, points: int, batch: int, *arguments: Any, block: int = 256, **constants: Any) -> None:
    """Run a triton kernel with one program per block of lattice points and sample."""
    kernel[(triton.cdiv(points, block), batch)](*arguments, BLOCK=block, **constants)
