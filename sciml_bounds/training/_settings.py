"""What a training is asked to do: one frozen record, checked when it is made."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sciml_bounds.arrays import check_device, require_choice
from sciml_bounds.errors import InputError

__all__ = ["Loss", "TrainingSettings", "check_names", "find_loss", "loss_for", "loss_name"]

#: loss(prediction, target, inputs) gives one number a sample, shape (b,).
type Loss = Callable[[Any, Tensor, Tensor], Tensor]

OPTIMIZERS = ("adam", "adamw")
SCHEDULES = ("onecycle", "constant")
_OF_THE_CYCLE = ("schedule_step", "pct_start", "div", "final_div", "cycle_momentum")
SCHEDULE_STEPS = ("epoch", "step")
PRECISIONS = ("full", "bf16")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a network is trained.

    Attributes
    ----------
    loss
        "l2", "h1" or another name in `sciml_bounds.nn.losses.LOSSES`, "bound" for networks with a flux head,
        "line-search" or "contraction" for learned directions (or a `LineSearchLoss` of one operator), or a callable
        loss(prediction, target, inputs) that gives one number a sample.
    epochs, batch_size
        How often all samples are seen, and how many make one step (over all processes together).
    lr
        Learning rate; with "onecycle" the largest one.
    weight_decay
        Of "adam" it is added to the gradient (L2, coupled, as the published trainings have it), of "adamw" it shrinks
        the weights by themselves. The loss of a batch is the mean over its samples; the published trainings take the
        sum, so that their decay d is d / batch_size here.
    optimizer
        "adam" or "adamw".
    schedule
        "onecycle" (cosine from lr / div up to lr and down to lr / (div final_div)) or "constant".
    schedule_step
        Whether the rate changes after every "epoch", as published, or after every "step".
    pct_start, div, final_div
        Of the cycle: which part of it rises, and the quotients above.
    cycle_momentum
        Whether the first moment's rate moves against the learning rate, 0.95 to 0.85 and back.
    clip
        Largest norm of the gradient; None leaves it as it is.
    precision
        "full" is the precision of the network; "bf16" runs it under autocast, and the loss still in full.
    select
        Name or callable of the metric on validation data by which the best weights are chosen; None means "l2", or the
        loss where that is "bound", "line-search" or "contraction".
    patience
        Stop after so many epochs without a better one; None never does.
    seed
        Of the order of samples and everything drawn while training.
    device
        "cpu", "cuda" or "cuda:1"; under torchrun each process takes the device of its own rank.
    workers
        Processes that load data; 0 loads between steps.
    graphs
        Replay each step as one CUDA graph, for networks so small that launching kernels takes longest.
    checkpoint_every
        Write a checkpoint after so many epochs, and at the end.
    """

    loss: str | Loss = "h1"
    epochs: int = 100
    batch_size: int = 8
    lr: float = 5e-4
    weight_decay: float = 1e-4
    optimizer: str = "adam"
    schedule: str = "onecycle"
    schedule_step: str = "epoch"
    pct_start: float = 0.2
    div: float = 2.0
    final_div: float = 100.0
    cycle_momentum: bool = False
    clip: float | None = None
    precision: str = "full"
    select: str | Loss = None  # type: ignore[assignment]  # never None once made
    patience: int | None = None
    seed: int = 0
    device: str = "cpu"
    workers: int = 0
    graphs: bool = False
    checkpoint_every: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "checkpoint_every"):
            _whole(name, getattr(self, name), 1)
        _whole("seed", self.seed, 0)
        if self.seed >= 2**63:
            raise InputError(f"seed={self.seed} is more than random numbers take; use less than 2**63.")
        _whole("workers", self.workers, 0)
        if self.patience is not None:
            _whole("patience", self.patience, 1)
        _number("lr", self.lr, 0.0)
        _number("weight_decay", self.weight_decay, 0.0, closed=True)
        _number("div", self.div, 0.0)
        _number("final_div", self.final_div, 0.0)
        if self.clip is not None:
            _number("clip", self.clip, 0.0)
        _number("pct_start", self.pct_start, 0.0)
        if self.pct_start >= 1.0:
            raise InputError(f"pct_start={self.pct_start} leaves nothing of the cycle to fall; use less than 1.")
        require_choice(self.optimizer, "optimizer", OPTIMIZERS)
        require_choice(self.schedule, "schedule", SCHEDULES)
        require_choice(self.schedule_step, "schedule_step", SCHEDULE_STEPS)
        require_choice(self.precision, "precision", PRECISIONS)
        for name in ("cycle_momentum", "graphs"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name}={getattr(self, name)!r} is neither True nor False.")
        if self.schedule == "constant":
            for field in dataclasses.fields(self):
                if field.name in _OF_THE_CYCLE and getattr(self, field.name) != field.default:
                    raise InputError(f"{field.name} needs schedule='onecycle'; a constant rate has no cycle.")
        loss = find_loss(self.loss)
        if self.select is None:
            object.__setattr__(self, "select", self.loss if _measures_alone(loss) else "l2")
        find_loss(self.select, "select")
        device = check_device(self.device)
        object.__setattr__(self, "device", str(self.device))  # as it is written to the card
        if self.graphs and device.type != "cuda":
            raise InputError(f"graphs=True needs device='cuda', and the device is {self.device!r}; leave it out.")

    @classmethod
    def of(cls, options: Mapping[str, Any], where: str = "train()") -> TrainingSettings:
        """Make settings from names and values.

        Raises
        ------
        InputError
            If a name is unknown (the closest one is named), or a value cannot be.
        """
        check_names(options, [field.name for field in dataclasses.fields(cls)], where)
        return cls(**options)

    def card(self) -> dict[str, Any]:
        """Say all of it in JSON's words."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return values | {"loss": loss_name(self.loss), "select": loss_name(self.select)}


def check_names(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Refuse names that mean nothing.

    Raises
    ------
    InputError
        If there is one; the closest known one is named.
    """
    names = list(known)
    for name in given:
        if name not in names:
            close = difflib.get_close_matches(name, names, 1, 0.5)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}."
            raise InputError(f"{where} has no option {name!r}; {hint}")


def find_loss(loss: str | Loss, name: str = "loss") -> Loss:
    """Find a loss by its name; a callable is one already.

    Raises
    ------
    InputError
        If there is no such loss.
    """
    if callable(loss):
        return loss
    known = loss_table()
    require_choice(loss, name, tuple(known))
    return known[loss]


def loss_for(model: nn.Module, loss: str | Loss, name: str = "loss") -> Loss:
    """Find a loss for a network: "bound" takes the channels of its inputs for what its flux head takes them for.

    Raises
    ------
    InputError
        As from `find_loss`.
    """
    from sciml_bounds.multigrid._flux_head import BoundLoss, CertifiedNetwork

    if loss == "bound" and isinstance(model, CertifiedNetwork):
        return BoundLoss(model.fields, source=model.source)
    return find_loss(loss, name)


def loss_table() -> dict[str, Loss]:
    """Give the losses by name: those of fields, the bound of networks with a flux head, and that of directions."""
    from sciml_bounds.krylov._direction_loss import contraction_loss, line_search_loss
    from sciml_bounds.multigrid._flux_head import bound_loss
    from sciml_bounds.nn.losses import LOSSES

    return {**LOSSES, "bound": bound_loss, "line-search": line_search_loss, "contraction": contraction_loss}


def _measures_alone(loss: Loss) -> bool:
    """Whether a loss is for networks that no metric of fields is for: with a flux head, or of directions."""
    from sciml_bounds.krylov._direction_loss import LineSearchLoss, contraction_loss, line_search_loss
    from sciml_bounds.multigrid._flux_head import BoundLoss

    return isinstance(loss, BoundLoss | LineSearchLoss) or loss in (line_search_loss, contraction_loss)


def loss_name(loss: str | Loss) -> str:
    """Name a loss for a card."""
    return loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)


def _whole(name: str, value: object, smallest: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < smallest:
        raise InputError(f"{name}={value!r} is not a whole number of at least {smallest}.")


def _number(name: str, value: object, smallest: float, *, closed: bool = False) -> None:
    right = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not right or float(value) < smallest or (float(value) == smallest and not closed):  # type: ignore[arg-type]
        raise InputError(
            f"{name}={value!r} is not a finite number {'of at least' if closed else 'above'} {smallest:g}."
        )
