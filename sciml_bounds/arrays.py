"""Conversion at the public face: whatever a user holds becomes a `torch.Tensor`, once, with checks.

Accepted are tensors, numpy arrays, xarray objects, nested lists and plain numbers. Floating-point tensors and arrays
keep their dtype and tensors keep their device; plain numbers have none of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral, Real
from os import PathLike
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sciml_bounds.errors import InputError

__all__ = [
    "Field",
    "binary_scales",
    "check_device",
    "common_dtype_and_device",
    "convert",
    "require_callback",
    "require_choice",
    "require_count",
    "require_finite",
    "require_number",
    "require_seed",
    "to_mask",
    "to_tensor",
]

#: What a field may be given as; a callable takes the coordinates and is sampled.
Field = float | Tensor | np.ndarray[Any, Any] | Sequence[Any] | Callable[..., Any]

_FLOATS = (torch.float32, torch.float64)


def to_tensor(value: Any, name: str) -> Tensor:
    """Turn one array-like into a tensor without changing its dtype, except plain numbers and lists (float64).

    Raises
    ------
    InputError
        If the value is not numeric, is too large, is nested, or has an integer, complex or half-precision dtype.
    """
    if isinstance(value, bool | np.bool_):
        raise InputError(f"{name} is a truth value; give a floating-point number or array.")
    if isinstance(value, int | float):
        return torch.tensor(_plain_number(value, name), dtype=torch.float64)
    if not isinstance(value, Tensor):
        return _float_tensor(value, name)
    if value.dtype not in _FLOATS:
        raise InputError(_wrong_dtype(name, str(value.dtype).removeprefix("torch."), ".to(torch.float64)"))
    _require_one_shape(value, name)
    return value


def to_mask(value: Any, name: str) -> Tensor:
    """Turn one array-like of truth values into a dense boolean tensor.

    Raises
    ------
    InputError
        If the value cannot be read as an array, holds anything but truth values, or is a sparse, nested or meta tensor.
    """
    given = value if isinstance(value, Tensor) else _read_array(value, name)
    dtype = str(given.dtype).removeprefix("torch.")
    if dtype != "bool":
        raise InputError(f"{name} has dtype {dtype}; it must be boolean, for example {name} > 0.")
    tensor = given if isinstance(given, Tensor) else _as_torch(given)
    _require_one_shape(tensor, name)
    _require_dense(tensor, name)
    _require_entries(tensor, name)
    return tensor


def _plain_number(value: float, name: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise InputError(f"{name} is an integer beyond the range of double precision; choose other units.") from None


def _require_one_shape(tensor: Tensor, name: str) -> None:
    if tensor.is_nested:
        raise InputError(f"{name} is a nested tensor, whose samples differ in shape; give them one by one.")


def _require_dense(tensor: Tensor, name: str) -> None:
    if tensor.layout != torch.strided:
        raise InputError(f"{name} is a sparse tensor; give a dense one, for example with .to_dense().")


def _require_entries(tensor: Tensor, name: str) -> None:
    if tensor.is_meta:
        raise InputError(f"{name} is on device meta, which holds no numbers; give a tensor on the CPU or a GPU.")


def _read_array(value: Any, name: str) -> np.ndarray[Any, Any]:
    """Let numpy read an array-like, whatever its dtype."""
    kind = type(value).__name__
    if np.ma.is_masked(value):
        raise InputError(
            f"{name} has {np.ma.count_masked(value)} masked entries; fill them with .filled(number) first."
        )
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise InputError(f"{name} cannot be read as an array of numbers ({kind}): {reason}.") from None
    except RuntimeError:  # numpy may not look into tensors that require gradients
        raise InputError(f"{name} is a {kind} of tensors that require gradients; join them by torch.stack.") from None
    if array.dtype.kind not in "biufc":
        remedy = "load the file first" if isinstance(value, str | PathLike) else "give a number or an array"
        raise InputError(f"{name} cannot be read as an array of numbers ({kind}, dtype {array.dtype}); {remedy}.")
    return array


def _float_tensor(value: Any, name: str) -> Tensor:
    array = _read_array(value, name)
    if isinstance(value, list | tuple) and array.dtype.kind in "iuf":  # a list of ints is a list of numbers
        array = array.astype(np.float64)
    native = array.dtype.newbyteorder("=")
    if native not in (np.float32, np.float64):
        raise InputError(_wrong_dtype(name, native.name, ".astype('float64')"))
    return _as_torch(array)


def _as_torch(array: np.ndarray[Any, Any]) -> Tensor:
    """Share or copy what numpy holds: torch takes contiguous, writeable memory in the byte order of this machine."""
    # torch warns about read-only memory, and a solver never writes to its input
    native = array.astype(array.dtype.newbyteorder("="), order="C", copy=not array.flags.writeable)
    return torch.from_numpy(native)


def _wrong_dtype(name: str, dtype: str, remedy: str) -> str:
    if dtype.startswith("complex"):
        return f"{name} has dtype {dtype} and must be real; give its parts one by one, in float32 or float64."
    return f"{name} has dtype {dtype}; convert it to float32 or float64 first, for example with {remedy}."


def _is_weak(value: Any) -> bool:
    """Whether a value has no dtype of its own (plain numbers, lists, callables) and follows the others."""
    return value is None or isinstance(value, int | float | list | tuple) or (callable(value) and not _has_dtype(value))


def _has_dtype(value: Any) -> bool:
    return hasattr(value, "dtype")


def common_dtype_and_device(values: Iterable[tuple[str, Any]]) -> tuple[torch.dtype, torch.device]:
    """Find the dtype and device that a set of named inputs agree on.

    The widest floating-point dtype wins; without any array the dtype is float64. Tensors decide the device.

    Raises
    ------
    InputError
        If two tensors lie on different devices.
    """
    dtype: torch.dtype | None = None
    device: tuple[str, torch.device] | None = None
    for name, value in values:
        if _is_weak(value):
            continue
        tensor = to_tensor(value, name)
        dtype = tensor.dtype if dtype is None else torch.promote_types(dtype, tensor.dtype)
        if isinstance(value, Tensor):
            if device is not None and device[1] != value.device:
                raise InputError(
                    f"{device[0]} is on device {device[1]} and {name} on {value.device}; "
                    f"move one of them, for example with .to('{device[1]}')."
                )
            device = (name, value.device)
    return dtype or torch.float64, device[1] if device else torch.device("cpu")


def convert(value: Any, name: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Convert one array-like to a dense tensor of the given dtype and device; gradients flow through.

    Raises
    ------
    InputError
        If the value is not numeric, has a dtype that is not accepted, or is a sparse or meta tensor.
    """
    tensor = to_tensor(value, name)
    _require_dense(tensor, name)
    if device.type != "meta":
        _require_entries(tensor, name)
    return tensor.to(device=device, dtype=dtype)


def binary_scales(x: Tensor) -> Tensor:
    """Return powers of two that bring the largest entry of each row of real x (b, n) into [1, 2), shape (b, 1).

    Division by them and multiplication round nothing that stays in range, and squares of the quotients do. The scale is
    1 for a row of zeros and NaN for a row that is not finite.
    """
    size = x.detach().abs().amax(1, keepdim=True)
    one = torch.where((size > 0) & (size < torch.inf), size, 1.0)
    scales = (one / (2 * torch.frexp(one).mantissa)).clamp_min(torch.finfo(x.dtype).tiny)  # 1 / scale is finite too
    return torch.where(size < torch.inf, scales, torch.nan)


def require_count(value: Any, name: str, least: Literal[0, 1]) -> None:
    """Refuse what counts nothing: fractions, truth values, words and integers below the least.

    Raises
    ------
    InputError
        With the value.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise InputError(f"{name} is {value!r}; it must be {'a positive' if least else 'a non-negative'} integer.")


def require_seed(value: Any) -> int:
    """Read a seed that torch's generators take, which is no integer of numpy.

    Raises
    ------
    InputError
        With the value.
    """
    require_count(value, "seed", 0)
    if value >= 2**64:
        raise InputError(f"seed is {value}; it must be below 2**64.")
    return int(value)


def require_choice(value: Any, name: str, choices: Iterable[str]) -> str:
    """Return a word that is among the choices.

    Raises
    ------
    InputError
        With the value and the choices.
    """
    known = tuple(choices)
    if not isinstance(value, str) or value not in known:
        raise InputError(f"{name} is {value!r}; the choices are {', '.join(map(repr, known))}.")
    return value


def require_number(value: Any, name: str, *, positive: bool = False) -> float:
    """Read one number; truth values, words, NaN and infinity are none.

    Raises
    ------
    InputError
        With the value.
    """
    try:
        number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:  # an integer beyond double precision
        number = math.inf
    if not math.isfinite(number) or (positive and number <= 0):
        raise InputError(f"{name} is {value!r}; it must be a {'positive' if positive else 'finite'} number.")
    return number


def check_device(name: torch.device | str) -> torch.device:
    """Make a device of its name: the CPU, a CUDA device, or another accelerator with double precision.

    Raises
    ------
    InputError
        If there is none of that name, or it is not there.
    """
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise InputError(f"device={name!r} is no device; use 'cpu' or 'cuda'.") from None
    if device.type not in ("cpu", "cuda") and not _is_accelerator(device):
        raise InputError(f"device={str(name)!r} is of a kind that is not supported; use 'cpu' or 'cuda'.")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device={str(name)!r} is not there: torch finds no CUDA device; use device='cpu'.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device={str(name)!r} is not there: torch finds {torch.cuda.device_count()}, from cuda:0 on.")
    return device


def _is_accelerator(device: torch.device) -> bool:
    """Whether torch finds an accelerator of this kind; those of Apple have no double precision."""
    found = torch.accelerator.current_accelerator()
    return found is not None and found.type == device.type != "mps"


def require_callback(value: Any, name: str = "callback") -> None:
    """Refuse a callback that cannot be called.

    Raises
    ------
    InputError
        With the value.
    """
    if value is not None and not callable(value):
        raise InputError(f"{name} is {value!r}; give a function, or None.")


def require_finite(tensor: Tensor, name: str) -> None:
    """Refuse NaN and infinity, and say where the first one is.

    Raises
    ------
    InputError
        If any entry is not finite, or the device holds no entries at all.
    """
    _require_entries(tensor, name)
    if bool(torch.isfinite(tensor.detach().sum())):  # what is not finite stays so in sums
        return
    finite = torch.isfinite(tensor.detach())
    if not bool(finite.all()):
        if tensor.ndim == 0:
            raise InputError(f"{name} is {tensor.item()}; give a finite number.")
        where = tuple(int(i) for i in torch.nonzero(~finite)[0])
        count = int((~finite).sum())
        if count == 1:
            raise InputError(f"{name} has 1 entry that is NaN or infinite, at index {where}; remove or replace it.")
        raise InputError(
            f"{name} has {count} entries that are NaN or infinite, the first at index {where}; remove or replace them."
        )
