"""How wrong a network is, sample by sample, and over time where it predicts its own input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sciml_bounds.arrays import check_device, require_count
from sciml_bounds.errors import InputError
from sciml_bounds.reports import summary_table
from sciml_bounds.training._batches import Samples, batches, load, require_samples, size_of
from sciml_bounds.training._settings import Loss, loss_for, loss_name

__all__ = [
    "Evaluation",
    "Rollout",
    "check_losses",
    "evaluate",
    "evaluate_rollout",
    "evaluating",
    "metrics_for",
    "require_fitting",
    "roll_out",
]


@dataclass(frozen=True, repr=False, eq=False)
class Evaluation:
    """Metrics of a network on a data set.

    Attributes
    ----------
    values
        For each metric one number a sample, float64, in the order of the data.
    """

    values: Mapping[str, Tensor]

    def mean(self, name: str) -> float:
        """Average a metric over the samples."""
        return float(self.values[name].mean())

    def summary(self) -> dict[str, dict[str, float]]:
        """Mean, median and largest value of each metric."""
        return {
            name: {"mean": float(v.mean()), "median": float(v.median()), "max": float(v.max())}
            for name, v in self.values.items()
        }

    def __repr__(self) -> str:
        rows = {
            name: f"mean {numbers['mean']:.4g}, median {numbers['median']:.4g}, largest {numbers['max']:.4g}"
            for name, numbers in self.summary().items()
        }
        count = len(next(iter(self.values.values())))
        return summary_table("Evaluation", {"samples": str(count)} | rows)


def evaluate(
    model: nn.Module,
    samples: Samples,
    metrics: Sequence[str | Loss] | None = None,
    *,
    batch_size: int = 16,
    device: torch.device | str = "cpu",
    workers: int = 0,
) -> Evaluation:
    """Compute metrics of a network on every sample of a data set.

    Parameters
    ----------
    model
        The network; it is moved to the device.
    samples
        Any map-style data set of pairs (x, y).
    metrics
        Names in `LOSSES`, or callables loss(prediction, target, inputs) that give one number a sample. None means "l2"
        and "h1", "bound" for a network with a flux head, or "line-search" for learned directions.
    batch_size, device, workers
        How many samples at a time, where, and with how many processes that load.

    Raises
    ------
    InputError
        If a metric is unknown or not for the network, the data are not the network's, or a sample holds NaN.
    """
    require_samples(samples, "data", "test")
    if size_of(samples) == 0:
        raise InputError("the data hold no samples; give at least one.")
    require_count(batch_size, "batch_size", 1)
    require_count(workers, "workers", 0)
    check_device(device)
    if isinstance(metrics, str):
        raise InputError(f"metrics={metrics!r} is one name; give a list of them: [{metrics!r}].")
    if metrics is None:
        metrics = _default_metrics(model)
    for metric in metrics:
        require_fitting(model, metric=metric)
    chosen = {loss_name(metric): loss_for(model, metric, "metric") for metric in metrics}
    if not chosen:
        raise InputError("there is no metric to evaluate; name one, such as 'l2'.")
    parts = batches(range(size_of(samples)), batch_size)
    found: dict[str, list[Tensor]] = {name: [] for name in chosen}
    model.to(device)
    with evaluating(model):
        for x, y in load(samples, parts, "data", workers=workers, pinned=torch.device(device).type == "cuda"):
            for name, values in measure(model, x, y, chosen).items():
                found[name].append(values.double().cpu())
    return Evaluation({name: torch.cat(values) for name, values in found.items()})


def metrics_for(model: nn.Module) -> tuple[str, ...]:
    """Name the metrics that fit a network of this package: those of fields, or of a flux head, or of directions."""
    from sciml_bounds.krylov._learned_directions import LearnedDirections
    from sciml_bounds.multigrid._flux_head import CertifiedNetwork
    from sciml_bounds.nn.losses import LOSSES

    if isinstance(model, CertifiedNetwork):
        return ("bound",)
    return ("line-search", "contraction") if isinstance(model, LearnedDirections) else tuple(LOSSES)


def require_fitting(model: nn.Module, **losses: str | Loss) -> None:
    """Refuse losses of fields for a network of directions, whose targets are no fields that it should give.

    Raises
    ------
    InputError
        If one of those names is given; what cannot be known is a callable's.
    """
    from sciml_bounds.krylov._learned_directions import LearnedDirections

    if not isinstance(model, LearnedDirections):
        return
    fitting = metrics_for(model)
    for word, loss in losses.items():
        if isinstance(loss, str) and loss not in fitting:
            raise InputError(
                f"{word}={loss!r} does not fit a network of directions; take {' or '.join(map(repr, fitting))}."
            )


def _default_metrics(model: nn.Module) -> tuple[str, ...]:
    """Name the metrics of fields, or what a network with a flux head or one of directions is judged by."""
    fitting = metrics_for(model)
    return ("l2", "h1") if "l2" in fitting else fitting[:1]


class evaluating:
    """Put a network into evaluation mode without gradients, and back at the end of a `with` block."""

    def __init__(self, model: nn.Module) -> None:
        self._model, self._gradients = model, torch.no_grad()

    def __enter__(self) -> None:
        self._training = self._model.training
        self._model.eval()
        self._gradients.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._gradients.__exit__(*error)
        self._model.train(self._training)


def measure(model: nn.Module, x: Tensor, y: Tensor, metrics: Mapping[str, Loss]) -> dict[str, Tensor]:
    """Compute metrics of one batch, where the network is and in its precision."""
    like = next(model.parameters())
    x, y = (part.to(like.device, like.dtype, non_blocking=True) for part in (x, y))
    prediction = model(x)
    return {name: check_losses(metric(prediction, y, x), y, name) for name, metric in metrics.items()}


def check_losses(losses: Tensor, target: Tensor, name: str) -> Tensor:
    """Hold a loss against its promise: one number a sample.

    Raises
    ------
    InputError
        If it gives anything else.
    """
    if losses.shape != target.shape[:1]:
        raise InputError(
            f"the loss {name} gives shape {tuple(losses.shape)} for {len(target)} samples, not one number each."
        )
    return losses


# --- rollouts ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False, eq=False)
class Rollout:
    """Errors of a network that is fed its own predictions.

    Attributes
    ----------
    steps
        Relative L2 error of each step, shape (trajectories, steps); infinite where a prediction is no longer finite.
    whole
        Relative L2 error of all steps taken as one field, shape (trajectories,).
    """

    steps: Tensor
    whole: Tensor

    def __repr__(self) -> str:
        rows = {
            "trajectories": str(len(self.whole)),
            "steps": str(self.steps.shape[1]),
            "first step": f"mean {float(self.steps[:, 0].mean()):.4g}",
            "last step": f"mean {float(self.steps[:, -1].mean()):.4g}",
            "all steps": f"mean {float(self.whole.mean()):.4g}, largest {float(self.whole.max()):.4g}",
        }
        return summary_table("Rollout", rows)


def roll_out(model: nn.Module, first: Tensor, steps: int) -> Iterator[Tensor]:
    """Give the fields of the next steps: each is the network's answer to the one before it.

    A sample whose field is no longer finite is infinite from there on; networks are asked for the others alone.

    Parameters
    ----------
    model
        A network whose output is its next input.
    first
        Where it starts, shape (b, channel, *space).
    steps
        How many.
    """
    field = first
    blown = torch.zeros_like(first, dtype=torch.bool)
    with evaluating(model):
        for _ in range(steps):
            answer = model(torch.where(blown, 0.0, field))
            if answer.shape != field.shape:
                raise InputError(
                    f"the network turns {tuple(field.shape)} into {tuple(answer.shape)}, which cannot be its next "
                    "input; only a network that keeps the shape can be rolled out."
                )
            lost = ~answer.isfinite().flatten(1).all(1)
            blown = blown | lost.view(-1, *(1,) * (answer.ndim - 1))
            field = torch.where(blown, torch.inf, answer)
            yield field


def evaluate_rollout(
    model: nn.Module, trajectories: Tensor, *, batch_size: int = 16, device: torch.device | str = "cpu"
) -> Rollout:
    """Start at the first frame of each trajectory and compare every further one with the network's own.

    Parameters
    ----------
    model
        A network that predicts the next frame.
    trajectories
        True frames, shape (trajectory, time, channel, *space), at least two of them in time.
    batch_size, device
        How many at a time, and where.

    Raises
    ------
    InputError
        If there are fewer than two frames, or the network does not keep the shape.
    """
    if trajectories.dim() < 4 or trajectories.shape[1] < 2 or len(trajectories) == 0:
        raise InputError(
            f"trajectories of shape {tuple(trajectories.shape)} are not (trajectory, time, channel, *space) with at "
            "least two frames."
        )
    if not bool(torch.isfinite(trajectories).all()):
        raise InputError("trajectories hold NaN or infinity; leave those out.")
    require_count(batch_size, "batch_size", 1)
    check_device(device)
    model.to(device)
    like = next(model.parameters())
    steps, whole = [], []
    for part in trajectories.split(batch_size):
        frames = part.to(like.device, like.dtype)
        wrong = torch.zeros(len(part), frames.shape[1] - 1, dtype=torch.float64, device=like.device)
        right = torch.zeros_like(wrong)
        for time, field in enumerate(roll_out(model, frames[:, 0], frames.shape[1] - 1)):
            truth = frames[:, time + 1]
            wrong[:, time] = (field - truth).double().flatten(1).square().sum(1)
            right[:, time] = truth.double().flatten(1).square().sum(1)
        steps.append((wrong / right).sqrt().cpu())
        whole.append((wrong.sum(1) / right.sum(1)).sqrt().cpu())
    return Rollout(torch.cat(steps), torch.cat(whole))
