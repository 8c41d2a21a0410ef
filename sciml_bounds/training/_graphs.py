"""Training steps as CUDA graphs, which avoid the launch overhead that dominates for small networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

__all__ = ["GraphedStep"]

#: Number of steps before the capture, in which libraries select their kernels.
_WARM_UP_STEPS = 3


class GraphedStep:
    """Forward and backward pass as a CUDA graph, captured for the shape of the first batch.

    Parameters
    ----------
    step : callable
        step(x, y) computes the loss of a batch and its gradients, and returns the sum of the losses.
    parameters : sequence of nn.Parameter
        Parameters that get gradients.
    """

    def __init__(self, step: Callable[[Tensor, Tensor], Tensor], parameters: Sequence[nn.Parameter]) -> None:
        self._step = step
        self._parameters = parameters
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Compute loss and gradients; batches of another shape (usually the last one) do not use the graph."""
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
            for _ in range(_WARM_UP_STEPS):
                self._clear()
                self._step(self._x, self._y)
        torch.cuda.current_stream().wait_stream(stream)
        self._clear()  # gradients allocated in the graph are overwritten by each replay, not accumulated
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._loss = self._step(self._x, self._y).detach()
        self._gradients = [parameter.grad for parameter in self._parameters]

    def _clear(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None
