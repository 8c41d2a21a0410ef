"""Activations of two-layer networks, with four exact derivatives and bounds of the fourth derivative."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from sciml_bounds.arrays import require_choice, require_count
from sciml_bounds.errors import InputError

__all__ = ["Activation", "ActivationName", "checked_activation"]

ActivationName = Literal["cosine", "relu", "tanh", "sigmoid", "step"]

#: Values y = tanh t at which the fourth derivative y (16 - 40 y^2 + 24 y^4) is extremal: y^2 = 1/2 -+ sqrt(7/60).
_EXTREMAL_TANH = tuple(math.sqrt(0.5 + sign * math.sqrt(7 / 60)) for sign in (-1, 1))


@dataclass(frozen=True)
class Activation:
    """An activation s(t), or s(t)^power for the ReLU.

    Attributes
    ----------
    name : {"cosine", "relu", "tanh", "sigmoid", "step"}
        The function s; "step" is 1 for t > 0 and 0 otherwise.
    power : int
        Power of the ReLU; 1 for all other activations.
    """

    name: ActivationName
    power: int = 1

    @property
    def smoothness(self) -> int:
        """Highest order of a derivative that is a function, without point masses at t = 0; 4 stands for all orders."""
        return {"relu": min(self.power, 4), "step": 0}.get(self.name, 4)

    @property
    def is_piecewise(self) -> bool:
        """Whether the activation is a polynomial on each side of t = 0."""
        return self.name in ("relu", "step")

    def __call__(self, t: Tensor, order: int = 0) -> Tensor:
        """Evaluate the derivative of the given order, at most 4; at a jump it is set to zero."""
        if self.name == "cosine":
            wave = t.cos() if order % 2 == 0 else t.sin()
            return wave if order in (0, 3, 4) else -wave
        if self.name == "tanh":
            return _tanh(t, order)
        if self.name == "sigmoid":  # (1 + tanh(t / 2)) / 2
            return 0.5 ** (order + 1) * _tanh(t / 2, order) + (0.5 if order == 0 else 0.0)
        power = self.power if self.name == "relu" else 0
        return _truncated_power(t, power, order)

    def largest_fourth(self, t: Tensor, radius: Tensor) -> Tensor:
        """Bound |s''''| on [t - radius, t + radius]; for ReLUs the interval must not contain 0."""
        if self.name == "cosine":
            return _largest_cosine(t, radius)
        if self.name == "tanh":
            return _largest_tanh(t, radius)
        if self.name == "sigmoid":
            return _largest_tanh(t / 2, radius / 2) / 32
        return self(t + radius, 4)


def checked_activation(name: str, power: int) -> Activation:
    """Return the activation of a given name and power.

    Raises
    ------
    InputError
        If the name is unknown, or the power is not 1 for an activation other than the ReLU.
    """
    require_choice(name, "activation", get_args(ActivationName))
    require_count(power, "power", 1)
    if power > 1 and name != "relu":
        raise InputError(f"power is {power}, but only activation='relu' has powers; leave power out.")
    return Activation(name, int(power))  # type: ignore[arg-type]  # one of the names


def _tanh(t: Tensor, order: int) -> Tensor:
    """Differentiate tanh, up to order 4."""
    y = t.tanh()
    if order == 0:
        return y
    slope = 1 - y.square()
    factors = (1.0, -2 * y, 6 * y.square() - 2, y * (16 - 24 * y.square()))
    return slope * factors[order - 1]


def _truncated_power(t: Tensor, power: int, order: int) -> Tensor:
    """Differentiate max(t, 0)^power, where power 0 is the step function."""
    if order > power:
        return torch.zeros_like(t)
    factor, exponent = math.perm(power, order), power - order
    return factor * (t > 0).to(t) if exponent == 0 else factor * t.clamp_min(0) ** exponent


def _largest_cosine(t: Tensor, radius: Tensor) -> Tensor:
    """Return 1 if a multiple of pi lies within the radius, otherwise the larger |cos| of the two ends."""
    off = torch.remainder(t + math.pi / 2, math.pi) - math.pi / 2  # signed distance to the nearest multiple
    return torch.where(off.abs() <= radius, 1.0, (off.abs() - radius).cos().abs())


def _largest_tanh(t: Tensor, radius: Tensor) -> Tensor:
    """Return the largest |tanh''''| on the interval: at one of its ends, or at an extremum inside."""
    low, high = (t - radius).tanh(), (t + radius).tanh()
    largest = torch.maximum(_fourth(low).abs(), _fourth(high).abs())
    for y in _EXTREMAL_TANH:
        inside = ((low < y) & (y < high)) | ((low < -y) & (-y < high))
        peak = abs(y * (16 - 40 * y**2 + 24 * y**4))
        largest = torch.where(inside, largest.clamp_min(peak), largest)
    return largest


def _fourth(y: Tensor) -> Tensor:
    """Return the fourth derivative of tanh at t, as a function of y = tanh t."""
    return (1 - y.square()) * y * (16 - 24 * y.square())
