"""The network of the deep conjugate direction method: convolutions on two lattices, with residual connections.

Reference: Kaneda, Akar, Chen, Kala, Hyde, Teran, "A deep conjugate direction method for iteratively solving linear
systems", ICML 2023, arXiv:2205.10763, as the code of its authors makes it (commit 8cee1c5 of `ayano721/2023_DCDM`):
additions follow the activation, and nothing is normalised. Axes are (b, channel, *space).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["DirectionNetwork", "convolution"]

_KINDS: dict[int, Callable[..., nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
_POOLS: dict[int, Callable[..., Tensor]] = {2: functional.avg_pool2d, 3: functional.avg_pool3d}


def convolution(dim: int, channels: int, out: int, width: int) -> nn.Module:
    """Make a convolution that continues fields by zeros and keeps their shape."""
    return _KINDS[dim](channels, out, width, padding=width // 2)


def pooled(u: Tensor) -> Tensor:
    """Average (b, channel, *space) over blocks of two points along each axis."""
    return _POOLS[u.ndim - 2](u, 2)


class DirectionNetwork(nn.Module):
    """From a residual (b, 1, *space) to a direction of the same shape; the lattice has even lengths.

    Parameters
    ----------
    dim
        Number of space axes, 2 or 3.
    channels
        Channels of all layers.
    before
        Pairs of convolutions on the fine lattice before the coarse one.
    coarse, after
        Residual blocks of two convolutions on the coarse lattice, and on the fine one after it.
    """

    #: Lengths of the lattice are multiples of it.
    multiple = 2

    def __init__(self, dim: int, *, channels: int = 16, before: int = 2, coarse: int = 3, after: int = 2) -> None:
        super().__init__()
        self.lift = convolution(dim, 1, channels, 3)
        self.before = nn.ModuleList([_pair(dim, channels) for _ in range(before)])
        self.coarse = nn.ModuleList([_pair(dim, channels) for _ in range(coarse)])
        self.after = nn.ModuleList([_pair(dim, channels) for _ in range(after)])
        self.head = convolution(dim, channels, 1, 1)
        self.apply(_start)

    def forward(self, r: Tensor) -> Tensor:
        """Give the directions (b, 1, *space) of residuals of the same shape."""
        b = self.lift(r)
        a: Tensor | float = 0.0
        for pair in self.before:
            first, second = _two(pair)
            a = functional.relu(first(b)) + a
            b = functional.relu(second(a))
        u = pooled(b)
        for pair in self.coarse:
            u = _residual_block(pair, u)
        u = functional.interpolate(u, scale_factor=2, mode="nearest") + b
        for pair in self.after:
            u = _residual_block(pair, u)
        direction: Tensor = self.head(u)
        return direction


def _pair(dim: int, channels: int) -> nn.ModuleList:
    return nn.ModuleList([convolution(dim, channels, channels, 3) for _ in range(2)])


def _two(pair: Any) -> tuple[nn.Module, nn.Module]:
    first, second = pair
    return first, second


def _residual_block(pair: nn.Module, u: Tensor) -> Tensor:
    first, second = _two(pair)
    return functional.relu(second(functional.relu(first(u)))) + u


@torch.no_grad()
def _start(module: nn.Module) -> None:
    """Draw weights as the published code does, uniformly after Glorot, and start biases from zero."""
    if isinstance(module, nn.Conv2d | nn.Conv3d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
