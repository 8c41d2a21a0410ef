"""A small network that may be saved, and data it can learn."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from sciml_bounds.store.datasets import weights


class Smoother(nn.Module):
    """One convolution, with dropout where random numbers are to matter."""

    def __init__(self, in_channels=1, width=3, *, dropout=0.0):
        super().__init__()
        self.arguments = {"in_channels": in_channels, "width": width, "dropout": dropout}
        self.first = nn.Conv1d(in_channels, width, 3, padding=1)
        self.drop = nn.Dropout(dropout)
        self.last = nn.Conv1d(width, 1, 3, padding=1)
        self.register_buffer("mean", torch.zeros(()))
        self.fits = 0

    def fit_normalizer(self, x, y):
        self.fits += 1
        self.mean.fill_(x.mean())

    def forward(self, x):
        return self.last(self.drop(torch.tanh(self.first(x - self.mean))))


@pytest.fixture(autouse=True)
def _smoother_is_a_network(monkeypatch):
    module = types.ModuleType("networks_of_these_tests")
    module.Smoother = Smoother
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(weights.MODELS, "Smoother", f"{module.__name__}:Smoother")


@pytest.fixture
def make():
    """Make the same network at each call."""

    def network(seed=0, **arguments):
        torch.manual_seed(seed)
        return Smoother(**arguments)

    return network


@pytest.fixture
def data():
    """Training and validation data: ten and four fields on 16 points, and running means of them."""
    torch.manual_seed(1)
    x = torch.randn(14, 1, 16)
    y = nn.functional.avg_pool1d(x, 3, 1, 1) + 0.5
    return TensorDataset(x[:10], y[:10]), TensorDataset(x[10:], y[10:])
