"""Settings of a training: a frozen record, validated when it is created."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sciml_bounds.arrays import check_device, require_choice
from sciml_bounds.errors import InputError

__all__ = ["Loss", "TrainingSettings", "check_names", "find_loss", "loss_for", "loss_name"]

#: loss(prediction, target, inputs) returns one value per sample, shape (b,).
type Loss = Callable[[Any, Tensor, Tensor], Tensor]

OPTIMIZERS = ("adam", "adamw")
SCHEDULES = ("onecycle", "constant")
_ONECYCLE_SETTINGS = ("schedule_step", "pct_start", "div", "final_div", "cycle_momentum")
SCHEDULE_STEPS = ("epoch", "step")
PRECISIONS = ("full", "bf16")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Settings of a training.

    Attributes
    ----------
    loss : str or Loss
        "l2", "h1" or another name in `sciml_bounds.nn.losses.LOSSES`; "bound" for networks with a flux head;
        "line-search" or "contraction" for learned directions (or a `LineSearchLoss` of one operator); or a function
        loss(prediction, target, inputs) that returns one value per sample.
    epochs : int
        Number of passes over the training samples.
    batch_size : int
        Number of samples per step, over all processes together.
    lr : float
        Learning rate; with "onecycle" the largest one.
    weight_decay : float
        For "adam", L2 regularisation: it is added to the gradient, as in the published trainings. For "adamw",
        decoupled weight decay. The loss of a batch is the mean over its samples; the published trainings use the sum,
        so their decay d corresponds to d / batch_size here.
    optimizer : str
        "adam" or "adamw".
    schedule : str
        "onecycle" (cosine from lr / div up to lr and down to lr / (div final_div)) or "constant".
    schedule_step : str
        When the rate changes: after every "epoch", as published, or after every "step".
    pct_start : float
        Fraction of the cycle in which the rate rises.
    div, final_div : float
        Quotients of the rates of the cycle, see `schedule`.
    cycle_momentum : bool
        Whether the momentum (beta_1) moves opposite to the learning rate, from 0.95 to 0.85 and back.
    clip : float or None
        Maximum norm of the gradient; None does not clip.
    precision : str
        "full" is the precision of the network. "bf16" runs the network under autocast, and the loss in full precision.
    select : str or Loss
        Metric on the validation data by which the best weights are chosen, a name or a function. By default "l2", or
        the loss if that is "bound", "line-search" or "contraction".
    patience : int or None
        Stop after this number of epochs without improvement; None never stops early.
    seed : int
        Random seed of the order of samples and of the training.
    device : str
        "cpu", "cuda" or "cuda:1"; under torchrun, each process uses the device of its rank.
    workers : int
        Number of processes that load data; 0 loads in the training process.
    graphs : bool
        Replay each step as one CUDA graph, which is faster for small networks.
    checkpoint_every : int
        Number of epochs between checkpoints; one is also written at the end.
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
    select: str | Loss = None  # type: ignore[assignment]  # never None after creation
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
            raise InputError(f"seed={self.seed} is too large; use a seed below 2**63.")
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
            raise InputError(f"pct_start={self.pct_start} must be less than 1, since the rate falls after that.")
        require_choice(self.optimizer, "optimizer", OPTIMIZERS)
        require_choice(self.schedule, "schedule", SCHEDULES)
        require_choice(self.schedule_step, "schedule_step", SCHEDULE_STEPS)
        require_choice(self.precision, "precision", PRECISIONS)
        for name in ("cycle_momentum", "graphs"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name}={getattr(self, name)!r} must be True or False.")
        if self.schedule == "constant":
            for field in dataclasses.fields(self):
                if field.name in _ONECYCLE_SETTINGS and getattr(self, field.name) != field.default:
                    raise InputError(f"{field.name} is for schedule='onecycle' only; leave it out for a constant rate.")
        loss = find_loss(self.loss)
        if self.select is None:
            object.__setattr__(self, "select", self.loss if _is_special_loss(loss) else "l2")
        find_loss(self.select, "select")
        device = check_device(self.device)
        object.__setattr__(self, "device", str(self.device))  # as text, for the card
        if self.graphs and device.type != "cuda":
            raise InputError(f"graphs=True needs device='cuda', but the device is {self.device!r}; leave graphs out.")

    @classmethod
    def of(cls, options: Mapping[str, Any], where: str = "train()") -> TrainingSettings:
        """Return settings from names and values; `where` is the source of the names, for messages.

        Raises
        ------
        InputError
            If a name is unknown (the closest one is suggested), or a value is invalid.
        """
        check_names(options, [field.name for field in dataclasses.fields(cls)], where)
        return cls(**options)

    def card(self) -> dict[str, Any]:
        """Return all settings in JSON types."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return values | {"loss": loss_name(self.loss), "select": loss_name(self.select)}


def check_names(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Check that all names are known.

    Raises
    ------
    InputError
        If a name is unknown.
    """
    names = tuple(known)
    for name in given:
        require_choice(name, f"an option of {where}", names)


def find_loss(loss: str | Loss, name: str = "loss") -> Loss:
    """Return the loss with this name; functions are returned unchanged.

    Raises
    ------
    InputError
        If the name is unknown.
    """
    if callable(loss):
        return loss
    known = loss_table()
    require_choice(loss, name, tuple(known))
    return known[loss]


def loss_for(model: nn.Module, loss: str | Loss, name: str = "loss") -> Loss:
    """Return a loss for a network; "bound" interprets input channels as the flux head of the network does.

    Raises
    ------
    InputError
        If the name is unknown.
    """
    from sciml_bounds.multigrid._flux_head import BoundLoss, CertifiedNetwork

    if loss == "bound" and isinstance(model, CertifiedNetwork):
        return BoundLoss(model.fields, source=model.source)
    return find_loss(loss, name)


def loss_table() -> dict[str, Loss]:
    """Return all losses by name: of fields, of networks with a flux head, and of search directions."""
    from sciml_bounds.krylov._direction_loss import contraction_loss, line_search_loss
    from sciml_bounds.multigrid._flux_head import bound_loss
    from sciml_bounds.nn.losses import LOSSES

    return {**LOSSES, "bound": bound_loss, "line-search": line_search_loss, "contraction": contraction_loss}


def _is_special_loss(loss: Loss) -> bool:
    """Whether a loss is for networks with a flux head or of directions, for which metrics of fields are unsuitable."""
    from sciml_bounds.krylov._direction_loss import LineSearchLoss, contraction_loss, line_search_loss
    from sciml_bounds.multigrid._flux_head import BoundLoss

    return isinstance(loss, BoundLoss | LineSearchLoss) or loss in (line_search_loss, contraction_loss)


def loss_name(loss: str | Loss) -> str:
    """Return the name of a loss."""
    return loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)


def _whole(name: str, value: object, smallest: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < smallest:
        raise InputError(f"{name}={value!r} must be a whole number, at least {smallest}.")


def _number(name: str, value: object, smallest: float, *, closed: bool = False) -> None:
    right = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not right or float(value) < smallest or (float(value) == smallest and not closed):  # type: ignore[arg-type]
        raise InputError(f"{name}={value!r} must be a finite number, {'at least' if closed else 'above'} {smallest:g}.")
