"""Functions of one variable that two-layer networks are built of, with four exact derivatives and what bounds them."""

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

#: Where y (16 - 40 y^2 + 24 y^4), the fourth derivative of y = tanh t, is largest: y^2 = 1/2 -+ sqrt(7/60).
_STEEPEST = tuple(math.sqrt(0.5 + sign * math.sqrt(7 / 60)) for sign in (-1, 1))


@dataclass(frozen=True)
class Activation:
    """s(t)^power for the ReLU, s(t) for all others.

    Attributes
    ----------
    name
        "cosine", "relu", "tanh", "sigmoid" or "step" (1 for t > 0, otherwise 0).
    power
        The power of the ReLU; 1 for all others.
    """

    name: ActivationName
    power: int = 1

    @property
    def smoothness(self) -> int:
        """How many derivatives there are almost everywhere, without masses where they jump; 4 stands for all."""
        return {"relu": min(self.power, 4), "step": 0}.get(self.name, 4)

    @property
    def is_piecewise(self) -> bool:
        """Whether it is a polynomial on either side of t = 0."""
        return self.name in ("relu", "step")

    def __call__(self, t: Tensor, order: int = 0) -> Tensor:
        """Evaluate the derivative of an order up to 4; that of a jump is taken as zero."""
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
        """Bound the magnitude of the fourth derivative on [t - radius, t + radius]; 0 does not lie inside for ReLUs."""
        if self.name == "cosine":
            return _largest_cosine(t, radius)
        if self.name == "tanh":
            return _largest_tanh(t, radius)
        if self.name == "sigmoid":
            return _largest_tanh(t / 2, radius / 2) / 32
        return self(t + radius, 4)


def checked_activation(name: str, power: int) -> Activation:
    """Make an activation of what a user gave.

    Raises
    ------
    InputError
        If there is none of that name, or a power other than 1 is no power of a ReLU.
    """
    require_choice(name, "activation", get_args(ActivationName))
    require_count(power, "power", 1)
    if power > 1 and name != "relu":
        raise InputError(f"power is {power}, and only activation='relu' has powers.")
    return Activation(name, int(power))  # type: ignore[arg-type]  # one of the names


def _tanh(t: Tensor, order: int) -> Tensor:
    y = t.tanh()
    if order == 0:
        return y
    slope = 1 - y.square()
    factors = (1.0, -2 * y, 6 * y.square() - 2, y * (16 - 24 * y.square()))
    return slope * factors[order - 1]


def _truncated_power(t: Tensor, power: int, order: int) -> Tensor:
    """Differentiate max(t, 0)^power, 0^0 being the step."""
    if order > power:
        return torch.zeros_like(t)
    factor, left = math.perm(power, order), power - order
    return factor * (t > 0).to(t) if left == 0 else factor * t.clamp_min(0) ** left


def _largest_cosine(t: Tensor, radius: Tensor) -> Tensor:
    """1 if a multiple of pi lies within the radius, otherwise what the ends have."""
    off = torch.remainder(t + math.pi / 2, math.pi) - math.pi / 2  # from the nearest multiple
    return torch.where(off.abs() <= radius, 1.0, (off.abs() - radius).cos().abs())


def _largest_tanh(t: Tensor, radius: Tensor) -> Tensor:
    low, high = (t - radius).tanh(), (t + radius).tanh()
    largest = torch.maximum(_fourth(low).abs(), _fourth(high).abs())
    for y in _STEEPEST:
        inside = ((low < y) & (y < high)) | ((low < -y) & (-y < high))
        peak = abs(y * (16 - 40 * y**2 + 24 * y**4))
        largest = torch.where(inside, largest.clamp_min(peak), largest)
    return largest


def _fourth(y: Tensor) -> Tensor:
    return (1 - y.square()) * y * (16 - 24 * y.square())
