"""What every network asks of its input, (b, channel, *space)."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml_bounds.errors import InputError

__all__ = ["check_axes", "check_values", "is_recorded"]


def check_axes(x: Tensor, channels: int, dim: int, meaning: str = "") -> None:
    """Refuse what is no tensor, has no points, or another number of axes or channels, of which `meaning` may tell.

    Raises
    ------
    InputError
        With what it is, or both numbers.
    """
    if not isinstance(x, Tensor):
        raise InputError(f"the input is a {type(x).__name__}; give a tensor (batch, {channels}, {dim} space axes).")
    if x.ndim != dim + 2:
        raise InputError(f"the input has {x.ndim} axes; give (batch, {channels}, {dim} space axes).")
    if x.shape[1] != channels:
        raise InputError(f"the input has {x.shape[1]} channels on axis 1, and the network takes {channels}{meaning}.")
    if 0 in x.shape[2:]:
        raise InputError(f"the input has shape {tuple(x.shape)}, without a point along an axis; give a lattice.")


def check_values(x: Tensor, weight: Tensor, *, training: bool) -> None:
    """Refuse another device or dtype than that of the weights, and outside of training NaN and infinity.

    Raises
    ------
    InputError
        With what differs, or the sample.
    """
    if x.device != weight.device:
        raise InputError(f"the input is on {x.device} and the weights are on {weight.device}; move one of them.")
    if x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
        raise InputError(f"the input is {x.dtype} and the weights are {weight.dtype}; convert one of them.")
    if training or is_recorded(x):
        return
    if not bool(x.isfinite().all()):
        sample = int((~x.isfinite()).flatten(1).any(1).nonzero()[0])
        raise InputError(f"the input has NaN or infinity in sample {sample}, in the precision of the network.")


def is_recorded(x: Tensor) -> bool:
    """Whether what is done with x is compiled or captured, so that nothing may depend on its values."""
    return torch.compiler.is_compiling() or (x.is_cuda and torch.cuda.is_current_stream_capturing())
