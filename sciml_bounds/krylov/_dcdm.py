"""Network of the deep conjugate direction method: convolutions on two lattices, with residual connections.

Reference: Kaneda, Akar, Chen, Kala, Hyde, Teran, "A deep conjugate direction method for iteratively solving linear
systems", ICML 2023, arXiv:2205.10763. We follow the code of its authors (commit 8cee1c5 of `ayano721/2023_DCDM`):
additions follow the activation, and there are no normalisation layers. Tensors have the axes (b, channel, *space).
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
    """Return a convolution with zero padding that keeps the shape of fields."""
    return _KINDS[dim](channels, out, width, padding=width // 2)


def pooled(u: Tensor) -> Tensor:
    """Average (b, channel, *space) over blocks of two points along each axis."""
    return _POOLS[u.ndim - 2](u, 2)


class DirectionNetwork(nn.Module):
    """Network that maps a residual (b, 1, *space) to a search direction of the same shape; space lengths must be even.

    Parameters
    ----------
    dim : int
        Number of space axes, 2 or 3.
    channels : int
        Number of channels of all layers.
    before : int
        Number of pairs of convolutions on the fine lattice, before coarsening.
    coarse, after : int
        Numbers of residual blocks, each of two convolutions, on the coarse lattice and then on the fine lattice.
    """

    #: Lattice lengths must be multiples of this number.
    multiple = 2

    def __init__(self, dim: int, *, channels: int = 16, before: int = 2, coarse: int = 3, after: int = 2) -> None:
        super().__init__()
        self.lift = convolution(dim, 1, channels, 3)
        self.before = nn.ModuleList([_pair(dim, channels) for _ in range(before)])
        self.coarse = nn.ModuleList([_pair(dim, channels) for _ in range(coarse)])
        self.after = nn.ModuleList([_pair(dim, channels) for _ in range(after)])
        self.head = convolution(dim, channels, 1, 1)
        self.apply(_initialise)

    def forward(self, r: Tensor) -> Tensor:
        """Return directions (b, 1, *space) for residuals of the same shape."""
        b = self.lift(r)
        a: Tensor | float = 0.0
        for pair in self.before:
            first, second = _convolutions(pair)
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


def _convolutions(pair: Any) -> tuple[nn.Module, nn.Module]:
    first, second = pair
    return first, second


def _residual_block(pair: nn.Module, u: Tensor) -> Tensor:
    first, second = _convolutions(pair)
    return functional.relu(second(functional.relu(first(u)))) + u


@torch.no_grad()
def _initialise(module: nn.Module) -> None:
    """Initialise weights uniformly (Glorot), as the published code does, and biases to zero."""
    if isinstance(module, nn.Conv2d | nn.Conv3d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
