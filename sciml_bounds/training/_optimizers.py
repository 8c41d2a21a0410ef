"""Optimisers and learning rates; rates are functions of the step only, so that resumed trainings agree bit for bit."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch.nn import Parameter

from sciml_bounds.training._settings import TrainingSettings

__all__ = ["learning_rate", "make_optimizer", "onecycle", "set_rates"]

#: Momentum (beta_1) at the smallest and at the largest learning rate.
_MOMENTA = (0.95, 0.85)


def make_optimizer(settings: TrainingSettings, parameters: Iterable[Parameter]) -> torch.optim.Optimizer:
    """Return the optimiser: Adam with L2 regularisation (Kingma and Ba), or AdamW (Loshchilov and Hutter)."""
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
    optimizer: torch.optim.Optimizer = kind(parameters, lr=settings.lr, weight_decay=settings.weight_decay)
    return optimizer


def set_rates(optimizer: torch.optim.Optimizer, settings: TrainingSettings, step: int, steps: int) -> float:
    """Set the learning rate, and the momentum if it is cycled, for step `step` of `steps`; return the rate."""
    rate = learning_rate(settings, step, steps)
    for group in optimizer.param_groups:
        group["lr"] = rate
        if settings.cycle_momentum:
            low, high = _MOMENTA
            momentum = onecycle(step, steps, settings.pct_start, low, high, low)
            group["betas"] = (momentum, group["betas"][1])
    return rate


def learning_rate(settings: TrainingSettings, step: int, steps: int) -> float:
    """Return the learning rate of step `step` of `steps`, in units of `schedule_step`."""
    if settings.schedule == "constant":
        return settings.lr
    first = settings.lr / settings.div
    return onecycle(step, steps, settings.pct_start, first, settings.lr, first / settings.final_div)


# `OneCycleLR` gives the same bits, but cannot resume in the middle of a schedule that has become longer.
def onecycle(step: int, steps: int, pct_start: float, first: float, peak: float, last: float) -> float:
    """Return the value at `step` of the one-cycle schedule: from `first` to `peak` to `last` along two half cosines.

    The peak is at step pct_start * steps - 1, in general not an integer, and the end at steps - 1, as in
    `torch.optim.lr_scheduler.OneCycleLR`.
    """
    top, end = pct_start * steps - 1.0, steps - 1.0
    if step <= top:
        return _cosine(first, peak, step / top if top > 0 else 1.0)
    return _cosine(peak, last, (step - top) / (end - top))


def _cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) / 2.0 * (1.0 + math.cos(math.pi * part))
