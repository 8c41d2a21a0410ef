"""Evaluation of networks without gradients, in their precision and on their device."""

from __future__ import annotations

from types import TracebackType

import torch
from torch import Tensor, nn

__all__ = ["evaluating", "weights_like"]


class evaluating:
    """Context manager: evaluation mode without gradients; restores the mode at the end."""

    def __init__(self, model: nn.Module) -> None:
        self._model, self._gradients = model, torch.no_grad()

    def __enter__(self) -> None:
        self._training = self._model.training
        self._model.eval()
        self._gradients.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gradients.__exit__(kind, error, trace)
        self._model.train(self._training)


def weights_like(model: nn.Module, default: Tensor) -> Tensor:
    """Return a tensor with dtype and device of the weights of a network, or `default` if it has none."""
    tensors = (tensor for tensor in (*model.parameters(), *model.buffers()) if tensor.is_floating_point())
    return next(tensors, default)
