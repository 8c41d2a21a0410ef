"""Evaluation of networks: metrics per sample, and rollouts over time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sciml_bounds.arrays import check_device, require_count
from sciml_bounds.errors import InputError
from sciml_bounds.nn.evaluation_mode import evaluating, weights_like
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.reports import summary_table
from sciml_bounds.training._batches import Samples, batches, load, require_samples, size_of
from sciml_bounds.training._bound_metric import bound_metric
from sciml_bounds.training._settings import Loss, loss_for, loss_name

__all__ = [
    "Evaluation",
    "Rollout",
    "check_losses",
    "evaluate",
    "evaluate_rollout",
    "metrics_for",
    "require_fitting",
    "roll_out",
]


@dataclass(frozen=True, repr=False, eq=False)
class Evaluation:
    """Metrics of a network on a data set.

    Attributes
    ----------
    values : mapping
        For each metric, one value per sample, float64, in the order of the data.
    """

    values: Mapping[str, Tensor]

    def mean(self, name: str) -> float:
        """Return the mean of a metric over the samples."""
        return float(self.values[name].mean())

    def summary(self) -> dict[str, dict[str, float]]:
        """Return mean, median and maximum of each metric."""
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
    problem: Diffusion | None = None,
    batch_size: int = 16,
    device: torch.device | str = "cpu",
    workers: int = 0,
) -> Evaluation:
    """Compute metrics of a network on every sample of a data set.

    Parameters
    ----------
    model : torch.nn.Module
        Any network; it is moved to the device.
    samples : Samples
        Map-style data set of pairs (x, y).
    metrics : sequence of (str or callable) or None
        Names in `LOSSES`, or functions loss(prediction, target, inputs) that return one value per sample. By default
        "l2" and "h1"; "bound" for a network with a flux head, and "line-search" for learned directions. For any other
        network, "bound" certifies its predictions: the guaranteed bound of the energy error, relative to the energy
        norm of the target.
    problem : Diffusion, optional
        For "bound", the problem of one sample on the grid of the samples; the input channels replace its fields. By
        default the problem that the data set records.
    batch_size : int
        Number of samples per batch.
    device : torch.device or str
        Device of the computation.
    workers : int
        Number of processes that load data; 0 loads in this process.

    Returns
    -------
    Evaluation
        The metrics of all samples.

    Raises
    ------
    InputError
        If a metric is unknown or does not suit the network, the data do not fit the network, or a sample has NaN.
    """
    require_samples(samples, "data", "test")
    if size_of(samples) == 0:
        raise InputError("the data have no samples; give at least one.")
    require_count(batch_size, "batch_size", 1)
    require_count(workers, "workers", 0)
    check_device(device)
    if isinstance(metrics, str):
        raise InputError(f"metrics={metrics!r} is a single name; give a list: [{metrics!r}].")
    if metrics is None:
        metrics = _default_metrics(model)
    for metric in metrics:
        require_fitting(model, metric=metric)
    chosen = {loss_name(metric): _metric(model, samples, metric, problem) for metric in metrics}
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


def _metric(model: nn.Module, samples: Samples, metric: str | Loss, problem: Diffusion | None) -> Loss:
    """Return a metric for a network; "bound" certifies the predictions of networks without a flux head."""
    certifies = metric == "bound" and "bound" not in metrics_for(model)[:1]
    return bound_metric(samples, problem) if certifies else loss_for(model, metric, "metric")


def metrics_for(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the metrics for a network: those of fields, of a flux head, or of search directions."""
    from sciml_bounds.krylov._learned_directions import LearnedDirections
    from sciml_bounds.multigrid._flux_head import CertifiedNetwork
    from sciml_bounds.nn.losses import LOSSES

    if isinstance(model, CertifiedNetwork):
        return ("bound",)
    return ("line-search", "contraction") if isinstance(model, LearnedDirections) else (*LOSSES, "bound")


def require_fitting(model: nn.Module, **losses: str | Loss) -> None:
    """Check that named losses suit a direction network, whose targets are not fields to predict.

    Raises
    ------
    InputError
        If a loss of fields is named for a direction network; callables are not checked.
    """
    from sciml_bounds.krylov._learned_directions import LearnedDirections

    if not isinstance(model, LearnedDirections):
        return
    fitting = metrics_for(model)
    for word, loss in losses.items():
        if isinstance(loss, str) and loss not in fitting:
            raise InputError(
                f"{word}={loss!r} does not suit a direction network; use {' or '.join(map(repr, fitting))}."
            )


def _default_metrics(model: nn.Module) -> tuple[str, ...]:
    """Return the default metrics for a network."""
    fitting = metrics_for(model)
    return ("l2", "h1") if "l2" in fitting else fitting[:1]


def measure(model: nn.Module, x: Tensor, y: Tensor, metrics: Mapping[str, Loss]) -> dict[str, Tensor]:
    """Compute metrics of one batch, on the device and in the precision of the network."""
    like = weights_like(model, x)
    x, y = (part.to(like.device, like.dtype, non_blocking=True) for part in (x, y))
    prediction = model(x)
    return {name: check_losses(metric(prediction, y, x), y, name) for name, metric in metrics.items()}


def check_losses(losses: Tensor, target: Tensor, name: str) -> Tensor:
    """Check that a loss has one value per sample, and return it.

    Raises
    ------
    InputError
        If it has another shape.
    """
    if losses.shape != target.shape[:1]:
        raise InputError(
            f"the loss {name} returns shape {tuple(losses.shape)} for {len(target)} samples; it must return one value "
            "per sample."
        )
    return losses


# --- rollouts ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False, eq=False)
class Rollout:
    """Errors of a network in rollouts, where its predictions are its next inputs.

    Attributes
    ----------
    steps : Tensor
        Relative L2 error of each step, shape (trajectories, steps); infinite after a prediction that is not finite.
    whole : Tensor
        Relative L2 error of all steps as one field, shape (trajectories,).
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
    """Yield the fields of the next steps: the network is applied to its own predictions.

    After a prediction that is not finite, a sample stays infinite.

    Parameters
    ----------
    model : torch.nn.Module
        A network whose output is its next input.
    first : Tensor
        Initial fields, shape (b, channel, *space).
    steps : int
        Number of steps.

    Yields
    ------
    Tensor
        Fields of the next step, shape (b, channel, *space).

    Raises
    ------
    InputError
        If the network changes the shape.
    """
    field = first
    blown = torch.zeros_like(first, dtype=torch.bool)
    with evaluating(model):
        for _ in range(steps):
            answer = model(torch.where(blown, 0.0, field))
            if answer.shape != field.shape:
                raise InputError(
                    f"the network maps shape {tuple(field.shape)} to {tuple(answer.shape)}, which cannot be its next "
                    "input; use a network that keeps the shape."
                )
            lost = ~answer.isfinite().flatten(1).all(1)
            blown = blown | lost.view(-1, *(1,) * (answer.ndim - 1))
            field = torch.where(blown, torch.inf, answer)
            yield field


def evaluate_rollout(
    model: nn.Module, trajectories: Tensor, *, batch_size: int = 16, device: torch.device | str = "cpu"
) -> Rollout:
    """Roll a network out from the first frame of each trajectory, and compare with the other frames.

    Parameters
    ----------
    model : torch.nn.Module
        A network that predicts the next frame.
    trajectories : Tensor
        True frames, shape (trajectory, time, channel, *space), with at least two frames per trajectory.
    batch_size : int
        Number of trajectories per batch.
    device : torch.device or str
        Device of the computation.

    Returns
    -------
    Rollout
        Errors of each step and of whole trajectories.

    Raises
    ------
    InputError
        If there are fewer than two frames, or the network changes the shape.
    """
    if trajectories.dim() < 4 or trajectories.shape[1] < 2 or len(trajectories) == 0:
        raise InputError(
            f"trajectories have shape {tuple(trajectories.shape)}; give (trajectory, time, channel, *space) with at "
            "least two frames."
        )
    if not bool(torch.isfinite(trajectories).all()):
        raise InputError("trajectories have NaN or infinity; leave these trajectories out.")
    require_count(batch_size, "batch_size", 1)
    check_device(device)
    model.to(device)
    like = weights_like(model, trajectories.to(device))
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
