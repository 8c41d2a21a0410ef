"""A training whose numbers are no longer numbers ends there, and says where."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml_bounds.errors import TrainingError

__all__ = ["Guard"]

_NEVER = 2**62


class Guard:
    """Watches loss and gradient of every step, on a device without making it wait.

    Parameters
    ----------
    device
        Where the training runs. On the CPU a bad step raises at once; elsewhere at the next `check`.
    kept
        What to say about the checkpoint.
    """

    def __init__(self, device: torch.device, kept: str) -> None:
        self.kept = kept
        self._at_once = device.type == "cpu"
        self._first = torch.full((), _NEVER, dtype=torch.int64, device=device)

    def watch(self, epoch: int, step: int, loss: Tensor, norm: Tensor) -> None:
        """Look at one step, before it changes the weights; steps and epochs count from zero."""
        bad = ~(torch.isfinite(loss) & torch.isfinite(norm))
        self._first = torch.where(bad, self._first.clamp(max=step), self._first)
        if self._at_once:
            self.check(epoch)

    def check(self, epoch: int) -> None:
        """Raise if there was a bad step.

        Raises
        ------
        TrainingError
            Naming the first one.
        """
        first = int(self._first)
        if first != _NEVER:
            raise self.error(f"epoch {epoch + 1}, step {first + 1}: loss or gradient is NaN or infinite")

    def error(self, where: str) -> TrainingError:
        """Make the error for a place."""
        return TrainingError(
            f"training stopped in {where}. {self.kept} Use a smaller lr, clip=1.0 or precision='full'."
        )
