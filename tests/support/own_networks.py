"""Networks that know nothing of this package, in a module that recipes and commands can name."""

from __future__ import annotations

import torch
from torch import nn


class CNN(nn.Module):
    """A plain convolutional network from cells to nodes, without any method or attribute of this package."""

    def __init__(self, width: int = 4, channels: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 2, padding=1)
        self.last = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.first(x)))
