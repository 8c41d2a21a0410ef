"""Input checks shared by all networks, for inputs (b, channel, *space)."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml_bounds.errors import InputError

__all__ = ["check_axes", "check_values", "is_recorded"]


def check_axes(x: Tensor, channels: int, dim: int, meaning: str = "") -> None:
    """Check the type and the shape of a network input; `meaning` describes the channels in the error message.

    Raises
    ------
    InputError
        If x is not a tensor, has no points, or has the wrong number of axes or channels.
    """
    if not isinstance(x, Tensor):
        raise InputError(f"the input is a {type(x).__name__}; give a tensor (batch, {channels}, {dim} space axes).")
    if x.ndim != dim + 2:
        raise InputError(f"the input has {x.ndim} axes; give (batch, {channels}, {dim} space axes).")
    if x.shape[1] != channels:
        raise InputError(f"the input has {x.shape[1]} channels on axis 1; give the network {channels}{meaning}.")
    if 0 in x.shape[2:]:
        raise InputError(f"the input has shape {tuple(x.shape)}; give at least one point along each space axis.")


def check_values(x: Tensor, weight: Tensor, *, training: bool) -> None:
    """Check the device and dtype of an input, and (except in training) that the input is finite.

    Raises
    ------
    InputError
        If device or dtype differ from those of the weights, or the input has NaN or infinity.
    """
    if x.device != weight.device:
        raise InputError(
            f"the input is on {x.device}, but the weights are on {weight.device}; move the input with its method to()."
        )
    if x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
        raise InputError(
            f"the input is {x.dtype}, but the weights are {weight.dtype}; convert the input with its method to()."
        )
    if training or is_recorded(x):
        return
    if not bool(x.isfinite().all()):
        sample = int((~x.isfinite()).flatten(1).any(1).nonzero()[0])
        raise InputError(
            f"the input has NaN or infinity in sample {sample}, in the precision of the network; remove these values, "
            "or rescale values that overflow."
        )


def is_recorded(x: Tensor) -> bool:
    """Return whether operations on x are being compiled or captured; control flow must then not depend on values."""
    return torch.compiler.is_compiling() or (x.is_cuda and torch.cuda.is_current_stream_capturing())
