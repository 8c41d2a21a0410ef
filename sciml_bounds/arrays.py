"""Validation of user input and its conversion to `torch.Tensor`.

Tensors, numpy arrays, xarray objects, nested lists and Python numbers are accepted. Floating-point tensors and arrays
keep their dtype, and tensors keep their device; Python numbers and lists get the dtype and device of the other inputs.
"""

from __future__ import annotations

import difflib
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
    "require_fraction",
    "require_instance",
    "require_number",
    "require_seed",
    "to_mask",
    "to_tensor",
]

#: Accepted types of a field; a callable takes the coordinates and is sampled.
Field = float | Tensor | np.ndarray[Any, Any] | Sequence[Any] | Callable[..., Any]

_FLOATS = (torch.float32, torch.float64)

#: Number of characters of an unknown choice that are shown.
MAX_SHOWN = 60


def to_tensor(value: Any, name: str) -> Tensor:
    """Convert an array-like to a tensor of the same dtype; Python numbers and lists become float64.

    Raises
    ------
    InputError
        If the value is not numeric, too large for double precision, a nested tensor, or has an integer, complex or
        half-precision dtype.
    """
    if isinstance(value, bool | np.bool_):
        raise InputError(f"{name} is {bool(value)}; give a number or an array of numbers.")
    if isinstance(value, int | float):
        return torch.tensor(_plain_number(value, name), dtype=torch.float64)
    if not isinstance(value, Tensor):
        return _float_tensor(value, name)
    if value.dtype not in _FLOATS:
        raise InputError(_wrong_dtype(name, str(value.dtype).removeprefix("torch."), ".to(torch.float64)"))
    _require_one_shape(value, name)
    return value


def to_mask(value: Any, name: str) -> Tensor:
    """Convert a boolean array-like to a dense boolean tensor.

    Raises
    ------
    InputError
        If the value cannot be read as an array, is not boolean, or is a sparse, nested or meta tensor.
    """
    given = value if isinstance(value, Tensor) else _read_array(value, name)
    dtype = str(given.dtype).removeprefix("torch.")
    if dtype != "bool":
        raise InputError(f"{name} has dtype {dtype}; give a boolean array, for example {name} > 0.")
    tensor = given if isinstance(given, Tensor) else _as_torch(given)
    _require_one_shape(tensor, name)
    _require_dense(tensor, name)
    _require_entries(tensor, name)
    return tensor


def _plain_number(value: float, name: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise InputError(f"{name} is too large for double precision; choose other units.") from None


def _require_one_shape(tensor: Tensor, name: str) -> None:
    if tensor.is_nested:
        raise InputError(
            f"{name} is a nested tensor, whose samples differ in shape; pass the samples one after the other."
        )


def _require_dense(tensor: Tensor, name: str) -> None:
    if tensor.layout != torch.strided:
        raise InputError(f"{name} is a sparse tensor; make it dense, for example with .to_dense().")


def _require_entries(tensor: Tensor, name: str) -> None:
    if tensor.is_meta:
        raise InputError(f"{name} is on device meta, which stores no values; pass a tensor on the CPU or a GPU.")


def _read_array(value: Any, name: str) -> np.ndarray[Any, Any]:
    """Convert an array-like of any numeric or boolean dtype to a numpy array."""
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
    except RuntimeError:  # numpy cannot read tensors that require gradients
        raise InputError(f"{name} is a {kind} of tensors that require gradients; use torch.stack first.") from None
    if array.dtype.kind not in "biufc":
        remedy = "load the file first" if isinstance(value, str | PathLike) else "pass a number or an array"
        raise InputError(f"{name} cannot be read as an array of numbers ({kind}, dtype {array.dtype}); {remedy}.")
    return array


def _float_tensor(value: Any, name: str) -> Tensor:
    array = _read_array(value, name)
    if isinstance(value, list | tuple) and array.dtype.kind in "iuf":  # lists of integers are accepted as numbers
        array = array.astype(np.float64)
    native = array.dtype.newbyteorder("=")
    if native not in (np.float32, np.float64):
        raise InputError(_wrong_dtype(name, native.name, ".astype('float64')"))
    return _as_torch(array)


def _as_torch(array: np.ndarray[Any, Any]) -> Tensor:
    """Convert a numpy array to a tensor, copying only if torch cannot share its memory.

    Torch shares contiguous, writeable memory in native byte order. Read-only memory is copied, as torch warns about it.
    """
    native = array.astype(array.dtype.newbyteorder("="), order="C", copy=not array.flags.writeable)
    return torch.from_numpy(native)


def _wrong_dtype(name: str, dtype: str, remedy: str) -> str:
    if dtype.startswith("complex"):
        return f"{name} has dtype {dtype}, but must be real; pass the real and imaginary parts as float32 or float64."
    return f"{name} has dtype {dtype}; convert it to float32 or float64, for example with {remedy}."


def _is_weak(value: Any) -> bool:
    """Return whether a value (Python number, list, callable) has no dtype of its own and gets the dtype of others."""
    return value is None or isinstance(value, int | float | list | tuple) or (callable(value) and not _has_dtype(value))


def _has_dtype(value: Any) -> bool:
    return hasattr(value, "dtype")


def common_dtype_and_device(values: Iterable[tuple[str, Any]]) -> tuple[torch.dtype, torch.device]:
    """Return the common dtype and device of named inputs.

    The dtype is the widest floating-point dtype of the arrays, or float64 if there are no arrays. The device is the
    device of the tensors, or the CPU if there are no tensors.

    Raises
    ------
    InputError
        If two tensors are on different devices.
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
                    f"{device[0]} is on device {device[1]}, but {name} is on {value.device}; move {name}, for example "
                    f"with .to('{device[1]}')."
                )
            device = (name, value.device)
    return dtype or torch.float64, device[1] if device else torch.device("cpu")


def convert(value: Any, name: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Convert an array-like to a dense tensor of the given dtype and device, differentiably.

    Raises
    ------
    InputError
        If the value is not numeric, is not of float32 or float64, or is a sparse or meta tensor.
    """
    tensor = to_tensor(value, name)
    _require_dense(tensor, name)
    if device.type != "meta":
        _require_entries(tensor, name)
    return tensor.to(device=device, dtype=dtype)


def binary_scales(x: Tensor) -> Tensor:
    """Return, for each row of a real x (b, n), the power of two not above its largest absolute entry, shape (b, 1).

    Dividing the row by it brings this entry into [1, 2) without rounding, so that squares neither overflow nor
    underflow. The scale is 1 for a row of zeros and NaN for a row that is not finite.
    """
    size = x.detach().abs().amax(1, keepdim=True)
    one = torch.where((size > 0) & (size < torch.inf), size, 1.0)
    scales = (one / (2 * torch.frexp(one).mantissa)).clamp_min(torch.finfo(x.dtype).tiny)  # keeps 1 / scale finite
    return torch.where(size < torch.inf, scales, torch.nan)


def require_count(value: Any, name: str, least: Literal[0, 1]) -> None:
    """Raise unless the value is an integer >= `least`.

    Raises
    ------
    InputError
        If the value is a bool, not an integer, or below `least`.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise InputError(f"{name} is {value!r}; give {'a positive' if least else 'a non-negative'} integer.")


def require_seed(value: Any) -> int:
    """Return a seed as a Python integer, because torch generators do not accept numpy integers.

    Raises
    ------
    InputError
        If the seed is not an integer from 0 to 2^64 - 1.
    """
    require_count(value, "seed", 0)
    if value >= 2**64:
        raise InputError(f"seed is {value}; give an integer below 2**64.")
    return int(value)


def require_choice(value: Any, name: str, choices: Iterable[str]) -> str:
    """Return the value if it is one of the choices.

    Raises
    ------
    InputError
        If it is not; the message lists the choices, similar ones first.
    """
    known = tuple(choices)
    if not isinstance(value, str) or value not in known:
        similar = difflib.get_close_matches(value, known) if isinstance(value, str) else []
        others = [choice for choice in known if choice not in similar]
        shown = repr(value) if len(repr(value)) <= MAX_SHOWN else f"{repr(value)[:MAX_SHOWN]}..."
        raise InputError(f"{name} is {shown}; the choices are {', '.join(map(repr, similar + others))}.")
    return value


def require_number(value: Any, name: str, *, positive: bool = False, least: float | None = None) -> float:
    """Return a finite real number as a float.

    Raises
    ------
    InputError
        If the value is a bool, not a real number, not finite, with `positive` not above zero, or below `least`.
    """
    try:
        number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:  # an integer beyond double precision
        number = math.inf
    if not math.isfinite(number) or (positive and number <= 0):
        raise InputError(f"{name} is {value!r}; give a {'positive' if positive else 'finite'} number.")
    if least is not None and number < least:
        bound = "not be negative" if least == 0 else f"be at least {least:g}"
        raise InputError(f"{name} is {value!r}; it must {bound}.")
    return number


def require_fraction(value: Any, name: str) -> float:
    """Return a number between 0 and 1, both excluded, as a float.

    Raises
    ------
    InputError
        If the value is not such a number.
    """
    number = require_number(value, name)
    if not 0 < number < 1:
        raise InputError(f"{name} is {value!r}; give a number between 0 and 1.")
    return number


def check_device(name: torch.device | str) -> torch.device:
    """Return the device with this name: the CPU, a CUDA device, or another accelerator with double precision.

    Raises
    ------
    InputError
        If the name is not a device, or the device is not supported or not available.
    """
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise InputError(f"device={name!r} is not a device; use 'cpu' or 'cuda'.") from None
    if device.type not in ("cpu", "cuda") and not _is_accelerator(device):
        raise InputError(f"device={str(name)!r} is not supported; use 'cpu' or 'cuda'.")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device={str(name)!r} is not available: torch finds no CUDA device; use device='cpu'.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise InputError(f"device={str(name)!r} is not available; the CUDA devices are cuda:0 to cuda:{last}.")
    return device


def _is_accelerator(device: torch.device) -> bool:
    """Return whether torch finds an accelerator of this type with double precision, which Apple's (mps) lack."""
    found = torch.accelerator.current_accelerator()
    return found is not None and found.type == device.type != "mps"


def require_instance(value: Any, name: str, kind: type, wanted: str) -> None:
    """Raise unless the value is an instance of a class.

    Raises
    ------
    InputError
        If it is not; the message says what is `wanted`.
    """
    if not isinstance(value, kind):
        raise InputError(f"{name} is of type {type(value).__name__}; give {wanted}.")


def require_callback(value: Any, name: str = "callback") -> None:
    """Raise unless the value is callable or None.

    Raises
    ------
    InputError
        If the value is neither callable nor None.
    """
    if value is not None and not callable(value):
        raise InputError(f"{name} is {value!r}; give a function or None.")


def require_finite(tensor: Tensor, name: str) -> None:
    """Raise unless every entry is finite; the message gives the index of the first entry that is not finite.

    Raises
    ------
    InputError
        If an entry is NaN or infinite, or the tensor is on device meta.
    """
    _require_entries(tensor, name)
    if bool(torch.isfinite(tensor.detach().sum())):  # a NaN or an infinity makes the sum not finite
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
