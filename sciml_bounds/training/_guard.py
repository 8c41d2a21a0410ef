"""Stop training when the loss or a gradient is not finite."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml_bounds.errors import TrainingError

__all__ = ["Guard"]

_NO_BAD_STEP = 2**62


class Guard:
    """Checks loss and gradient of every step for NaN and infinity, without synchronising with the device.

    Parameters
    ----------
    device : torch.device
        Device of the training. On the CPU a bad step raises at once; on other devices at the next `check`.
    kept : str
        Sentence about the checkpoint, for the error message.
    """

    def __init__(self, device: torch.device, kept: str) -> None:
        self.kept = kept
        self._at_once = device.type == "cpu"
        self._first = torch.full((), _NO_BAD_STEP, dtype=torch.int64, device=device)

    def watch(self, epoch: int, step: int, loss: Tensor, norm: Tensor) -> None:
        """Check one step before it changes the weights; steps and epochs count from zero."""
        bad = ~(torch.isfinite(loss) & torch.isfinite(norm))
        self._first = torch.where(bad, self._first.clamp(max=step), self._first)
        if self._at_once:
            self.check(epoch)

    def check(self, epoch: int) -> None:
        """Raise an error if loss or gradient of a step was not finite.

        Raises
        ------
        TrainingError
            If there was such a step; the message has the first one.
        """
        first = int(self._first)
        if first != _NO_BAD_STEP:
            raise self.error(f"epoch {epoch + 1}, step {first + 1}: loss or gradient is NaN or infinite")

    def error(self, where: str) -> TrainingError:
        """Return the error for a location such as "epoch 2, step 5: ..."."""
        return TrainingError(
            f"training stopped in {where}. {self.kept} Use a smaller lr, clip=1.0 or precision='full'."
        )
