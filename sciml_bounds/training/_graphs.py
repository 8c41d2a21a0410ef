"""Steps of a training as one CUDA graph: a small network spends its time launching kernels, a graph launches once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

__all__ = ["GraphedStep"]

#: Steps before the capture, in which libraries choose their kernels.
_WARM_UP = 3


class GraphedStep:
    """Forward and backward pass, captured for the shape of the first batch and replayed for all others of it.

    Parameters
    ----------
    step
        step(x, y) computes the loss of a batch and its gradients, and returns the sum of the losses.
    parameters
        What gets gradients.
    """

    def __init__(self, step: Callable[[Tensor, Tensor], Tensor], parameters: Sequence[nn.Parameter]) -> None:
        self._step = step
        self._parameters = parameters
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Compute loss and gradients; a batch of another shape, the last one mostly, goes without the graph."""
        if self._graph is None:
            self._capture(x, y)
        if x.shape != self._x.shape or y.shape != self._y.shape:
            self._clear()
            return self._step(x, y)
        assert self._graph is not None
        self._x.copy_(x)
        self._y.copy_(y)
        for parameter, gradient in zip(self._parameters, self._gradients):
            parameter.grad = gradient
        self._graph.replay()
        return self._loss.clone()

    def _capture(self, x: Tensor, y: Tensor) -> None:
        self._x, self._y = x.clone(), y.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                self._clear()
                self._step(self._x, self._y)
        torch.cuda.current_stream().wait_stream(stream)
        self._clear()  # gradients that are made within the graph are overwritten by each replay, not added to
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._loss = self._step(self._x, self._y).detach()
        self._gradients = [parameter.grad for parameter in self._parameters]

    def _clear(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None
