"""Torch files with tensors, or nested containers of tensors."""

from __future__ import annotations

import math
import os
import pickle
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from sciml_bounds.errors import InputError
from sciml_bounds.memory import require_memory
from sciml_bounds.store.reading.contents import Array, ArrayInfo, Contents
from sciml_bounds.store.safety.quiet import no_warnings

if TYPE_CHECKING:
    import torch

__all__ = ["open_torch", "read_torch"]

#: Callables that a pickle of tensors needs. `torch.load(weights_only=True)` allows more, such as `bytearray(10**12)`.
_ALLOWED_CALLS = {
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_tensor_v3",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_sparse_tensor",
    "torch.serialization _get_layout",
    "torch Size",
    "collections OrderedDict",
}


@contextmanager
def open_torch(path: Path) -> Iterator[Contents]:
    """Open a file of tensors, which are read on demand."""
    loaded = read_torch(path)
    if not _is_tensor(loaded) and not isinstance(loaded, Mapping | list | tuple):
        raise InputError(
            f"it contains an object of type {type(loaded).__name__} and not a tensor; save the tensor alone."
        )
    tensors = {"": loaded} if _is_tensor(loaded) else _named_tensors(loaded, "", set())

    def blocks(name: str, sample: int | None) -> Iterator[Array]:
        tensor = tensors[name].detach()
        yield np.asarray((tensor if sample is None else tensor[sample]).numpy())

    yield Contents("torch", {name: _describe(tensor) for name, tensor in tensors.items()}, blocks)


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "untyped_storage")


def _named_tensors(
    container: Mapping[Any, Any] | list[Any] | tuple[Any, ...], prefix: str, seen: set[int]
) -> dict[str, Any]:
    """Return the tensors in nested dictionaries and lists by name: `model.weight`, `steps.0`.

    Each container is listed only where it occurs first, since it may contain itself or occur very often.
    """
    seen.add(id(container))
    items = container.items() if isinstance(container, Mapping) else enumerate(container)
    tensors, nested = {}, []
    for key, value in items:
        if _is_tensor(value):
            tensors[f"{prefix}{key}"] = value
        elif isinstance(value, Mapping | list | tuple):
            nested.append((key, value))
    for key, value in nested:
        if id(value) not in seen:
            tensors = _named_tensors(value, f"{prefix}{key}.", seen) | tensors
    return tensors


def read_torch(source: Path | IO[bytes]) -> Any:
    """Load a `torch.save` file of tensors and plain containers, without executing anything in it.

    Raises
    ------
    InputError
        If the file contains anything else, or is not in the zip format of torch >= 1.6 (sizes in the older format
        cannot be checked).
    """
    import torch

    if not zipfile.is_zipfile(source):
        raise InputError("it was not written by torch.save in zip format, or is damaged; save it again.")
    with zipfile.ZipFile(source) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise InputError("it is compressed, which torch.save never does; save it again.")
        declared = max((max(member.file_size, member.compress_size) for member in members), default=0)
        if declared > _size(source):  # Python allocates the declared size before it reads
            raise InputError("it is truncated: it contains less than it declares; save it again.")
        require_memory(sum(member.file_size for member in members), "its content")
        for member in members:
            if member.filename.rpartition("/")[2] == "data.pkl":
                _check_calls(archive.read(member))
    try:
        with no_warnings():
            if isinstance(source, Path):
                return torch.load(source, map_location="cpu", weights_only=True, mmap=True)
            source.seek(0)
            return torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(_OTHER_OBJECTS) from None


def _size(source: Path | IO[bytes]) -> int:
    return source.stat().st_size if isinstance(source, Path) else source.seek(0, os.SEEK_END)


_OTHER_OBJECTS = "it contains other objects than tensors, which are never loaded; save the tensors alone."


def _check_calls(content: bytes) -> None:
    """Scan a pickle without running it, and raise if it would call anything except constructors of tensors."""
    for operation, argument, _ in pickletools.genops(content):
        if operation.name in ("INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"):
            raise InputError(_OTHER_OBJECTS)
        if operation.name == "GLOBAL" and argument not in _ALLOWED_CALLS:
            module, _, name = str(argument).partition(" ")
            if module != "torch" or not (name.endswith("Storage") or name in _dtypes()):
                raise InputError(_OTHER_OBJECTS)


def _dtypes() -> frozenset[str]:
    import torch

    return frozenset(name for name, value in vars(torch).items() if isinstance(value, torch.dtype))


def _describe(tensor: torch.Tensor) -> ArrayInfo:
    import torch

    shape, kind = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        layout = str(tensor.layout).removeprefix("torch.") if tensor.layout != torch.strided else tensor.device.type
        return ArrayInfo(shape, f"{layout} {kind}")
    # Strides may repeat a small storage, so compute the size from the shape; numel() could overflow.
    return ArrayInfo(shape, kind, working=0 if tensor.is_contiguous() else math.prod(shape) * tensor.element_size())
