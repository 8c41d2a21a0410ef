"""A device that is pretended: its data lie on the CPU, and it refuses to mix with CPU tensors, as a GPU does.

No kernel is compiled for it, so that everything runs the torch reference. It finds tensors on the wrong device,
`numpy()` of a device tensor, and the places where the host would wait for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

NAME = "pretend"

#: Operations whose result the host reads, or whose shape it must know. Copies between devices and masks count too.
READS = (
    "_local_scalar_dense", "equal", "nonzero", "masked_select", "_unique", "unique", "bincount", "repeat_interleave",
    "_linalg_check_errors", "histc",
)  # fmt: skip

#: Functions that copy what the host holds.
READ_FROM_THE_HOST = torch.tensor, torch.as_tensor

#: Operations that may take a tensor of another device: copies, and indices, which are copied.
CROSSINGS = ("copy_", "_copy_from", "_to_copy", "index", "index_put", "index_put_", "_index_put_impl_")

#: Names of the operations that made the host wait.
waits: list[str] = []


class Pretended(torch.Tensor):
    """A tensor on the pretended device around one on the CPU. Sparse ones say so, though the wrapper has strides."""

    @staticmethod
    def __new__(cls, data: Tensor) -> Pretended:
        strided = data if data.layout == torch.strided else torch.empty(data.shape, device="meta")
        return torch.Tensor._make_wrapper_subclass(
            cls, data.shape, strides=strided.stride(), storage_offset=strided.storage_offset(), dtype=data.dtype,
            device=torch.device(NAME, 0), requires_grad=False,
        )  # fmt: skip

    def __init__(self, data: Tensor) -> None:
        self.on_cpu = data

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(operation, args, kwargs or {})

    @property
    def layout(self) -> torch.layout:
        return self.on_cpu.layout

    def __repr__(self) -> str:
        return f"Pretended({self.on_cpu})"

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"can't convert {NAME}:0 device type tensor to numpy. Use Tensor.cpu() first.")

    __array__ = numpy

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def new_tensor(self, data: Any, *, dtype: torch.dtype | None = None) -> Tensor:
        return torch.tensor(data, dtype=dtype or self.dtype).to(NAME)

    def __getitem__(self, index: Any) -> Tensor:
        return torch.Tensor.__getitem__(self, _without_lists(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        torch.Tensor.__setitem__(self, _without_lists(index), value)


def _without_lists(index: Any) -> Any:
    """Make tensors of lists in an index, which torch would read through a pointer."""
    if isinstance(index, tuple):
        return tuple(map(_without_lists, index))
    return torch.tensor(index, dtype=None if index else torch.int64) if isinstance(index, list) else index


def run(operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation on the CPU data of its arguments, unless a device would refuse it."""
    name = operation.__name__.split(".")[0]
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    ours = [t for t in tensors if isinstance(t, Pretended)]
    others = [t for t in tensors if not isinstance(t, Pretended) and t.dim()]
    indexes_the_cpu = name.startswith(("index", "_index")) and ours and not isinstance(tensors[0], Pretended)
    if indexes_the_cpu or (ours and others and name not in CROSSINGS):
        raise RuntimeError(f"Expected all tensors on the same device, but found {NAME}:0 and cpu in {name}.")
    if any(isinstance(t, torch.Generator) for t in tree_leaves((args, kwargs))) and (ours or _asks(kwargs)):
        raise RuntimeError(f"Expected a {NAME!r} device type for generator but found 'cpu'")
    target = kwargs.get("device")
    stays = bool(ours) if target is None else _asks(kwargs)
    if name.startswith(READS) or _crosses(name, args, ours, others, stays) or _needs_shape(name, args):
        waits.append(name)
    on_cpu = tree_map(lambda t: t.on_cpu if isinstance(t, Pretended) else t, (args, kwargs))
    if target is not None:
        on_cpu[1]["device"] = torch.device("cpu")
    found = operation(*on_cpu[0], **on_cpu[1])
    if name == "copy_":
        return args[0]
    if not stays:
        return found
    known = {id(t.on_cpu): t for t in ours}

    def wrapped(t: Any) -> Any:
        return t if not isinstance(t, Tensor) else known[id(t)] if id(t) in known else Pretended(t)

    return tree_map(wrapped, found)


def _asks(kwargs: dict[str, Any]) -> bool:
    """Whether a result on the pretended device is asked for."""
    return kwargs.get("device") is not None and torch.device(kwargs["device"]).type == NAME


def _crosses(name: str, args: Any, ours: list[Any], others: list[Any], stays: bool) -> bool:
    """Whether data move from one device to the other; a number that is written to the device travels with the call."""
    if name == "_to_copy":
        return isinstance(args[0], Pretended) != stays
    if name in ("copy_", "_copy_from"):
        return bool(ours) and (bool(others) or not isinstance(args[0], Pretended))
    return name in CROSSINGS and bool(ours) and bool(others)


def _needs_shape(name: str, args: Any) -> bool:
    """Whether an index holds a mask whose entries are counted; one number is written everywhere without counting."""
    if not name.startswith(("index", "_index_put")) or not isinstance(args[1], list | tuple):
        return False
    masked = any(t is not None and t.dtype == torch.bool for t in args[1])
    filled = len(args) > 2 and args[2].numel() == 1 and sum(t is not None for t in args[1]) == 1
    return masked and not filled


@cache
def register() -> torch.library.Library:
    """Make the device known to torch, once in a process and before its first gradient."""
    from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

    module = _DummyBackendModule()
    module.get_amp_supported_dtype = lambda: [torch.float16, torch.bfloat16]
    _setup_privateuseone_for_python_backend(NAME, backend_module=module)
    library = torch.library.Library("_", "IMPL")
    library.fallback(lambda operation, *args, **kwargs: run(operation, args, kwargs), "PrivateUse1")
    return library


def _made(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Let a function that writes through pointers, or resizes what it writes to, make tensors on the device."""

    def make(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        if isinstance(data, Pretended):
            copied = original is not torch.as_tensor
            return data.to(device=device or data.device, dtype=kwargs.get("dtype") or data.dtype, copy=copied)
        if device is not None and torch.device(device).type == NAME:
            made = original(data, *args, **kwargs)
            return made.to(NAME) if original in READ_FROM_THE_HOST else Pretended(made)
        return original(data, *args, device=device, **kwargs)

    return make


@contextmanager
def present() -> Iterator[torch.device]:
    """Provide the device inside a `with` block, and count from zero how often the host waits for it."""
    register()
    waits.clear()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("tensor", "as_tensor", "arange", "eye", "linspace", "logspace"):
            patch.setattr(torch, name, _made(getattr(torch, name)))
        yield torch.device(NAME, 0)
