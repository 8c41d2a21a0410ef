"""`sciml-bounds evaluate`: compute the errors of a network on a data set."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sciml_bounds.cli import _output as output
from sciml_bounds.cli._trained_at import warn_about_resolution
from sciml_bounds.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from sciml_bounds.store.datasets.torch_dataset import TorchDataset
    from sciml_bounds.training._evaluation import Evaluation, Rollout

__all__ = ["evaluate"]

#: Metrics that are relative to the norm of the target.
RELATIVE = ("l2", "h1", "h1-periodic", "h1-spectral", "bound")


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A .safetensors file, or a name: darcy-rough.")],
    data: Annotated[Path, typer.Argument(metavar="DATA.nc", help="A data set.")],
    split: Annotated[str, typer.Option(metavar="NAME", help="train, validation, test or all.")] = "test",
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME",
            help="For fields: l2, h1, h1-periodic, h1-spectral, all relative. For networks with a flux head: bound. "
            "For learned directions: line-search, contraction. For other networks, bound certifies every prediction. "
            "[default: l2,h1 or bound or line-search]",
            show_default=False,
        ),
    ] = None,
    subsample: Annotated[int, typer.Option(min=1, help="Coarsening factor of the grid.")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum number of samples.", show_default=False)] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Number of samples per batch.")] = 16,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:1.")] = "cpu",
    network_class: output.ClassOption = None,
    any_recipe: Annotated[
        bool, typer.Option("--any-recipe", help="Accept data of another recipe than the training data.")
    ] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Write the metrics of each sample.")] = None,
    as_json: output.JsonOption = False,
) -> None:
    """Compute the errors of a network on a data set; for frames in time also the errors of its rollout.

    Example: sciml-bounds evaluate darcy-rough darcy.nc --split test --metrics l2,h1
    """
    from sciml_bounds.store.datasets.torch_dataset import TorchDataset
    from sciml_bounds.store.datasets.weights import find_weights, load_model, read_weights
    from sciml_bounds.store.safety.writer import check_target
    from sciml_bounds.training._evaluation import evaluate as evaluate_network

    if out is not None:
        check_target(out, (".csv",))
    card = read_weights(find_weights(model))[1]
    trained_on = _trained_on(card)
    trained, present = trained_on.get("recipe", card.get("recipe")), TorchDataset(data, "all").recipe
    if trained not in (None, present) and not any_recipe:
        raise InputError(
            f"{model} was trained on the recipe {trained!r}, but {data} has the recipe {present!r}; add --any-recipe "
            "to evaluate it anyway."
        )
    channels = {name: trained_on.get(name) for name in ("inputs", "targets")}
    samples = TorchDataset(data, split, subsample=subsample, limit=limit, **channels)  # type: ignore[arg-type]
    if samples.resolution is not None:
        warn_about_resolution(model, card, [samples.resolution // subsample])
    network = load_model(model, device=_device(device), network=output.named_class(network_class))
    names = None if metrics is None else [name.strip() for name in metrics.split(",") if name.strip()]
    _check_metrics(model, network, names or [])
    found = evaluate_network(network, samples, names, batch_size=batch_size, device=device)
    rollout = _roll_out(network, samples, batch_size, device) if samples.pairs else None
    if out is not None:
        _write_samples(out, samples, found)
    _report(model, samples, found, rollout, out, as_json=as_json)


def _trained_on(card: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of the card about the training data."""
    data = card.get("data", {})
    train: dict[str, Any] = data.get("train", {}) if isinstance(data, dict) else {}
    return train


def _device(name: str) -> str:
    """Return the device, checked to be available."""
    from sciml_bounds.training._settings import TrainingSettings

    return TrainingSettings(device=name).device


def _check_metrics(model: str, network: nn.Module, names: list[str]) -> None:
    """Raise if a metric is for networks of another kind."""
    from sciml_bounds.training._evaluation import metrics_for
    from sciml_bounds.training._settings import loss_table

    fitting = metrics_for(network)
    for name in names:
        if name in loss_table() and name not in fitting:
            raise InputError(
                f"the metric {name} does not apply to {model}, a network of class {type(network).__name__}; use "
                f"{' or '.join(fitting)}."
            )


def _roll_out(network: nn.Module, samples: TorchDataset, batch_size: int, device: str) -> Rollout | None:
    """Roll out each trajectory from its first frame; None unless input and target are the same variable."""
    import torch

    from sciml_bounds.store.datasets.torch_dataset import TorchDataset
    from sciml_bounds.training._batches import stack_all
    from sciml_bounds.training._evaluation import evaluate_rollout

    if samples.inputs != samples.targets or len(samples.inputs) != 1:
        return None
    options: dict[str, Any] = {"subsample": samples.subsample, "limit": len(samples.samples), "pairs": False}
    whole = TorchDataset(samples.path, samples.split, inputs=samples.inputs, targets=samples.targets, **options)
    frames = stack_all(whole, "trajectories")[0]
    return evaluate_rollout(network, torch.unsqueeze(frames, 2), batch_size=batch_size, device=device)


def _write_samples(out: Path, samples: TorchDataset, found: Evaluation) -> None:
    from sciml_bounds.store.safety.writer import replacing

    with replacing(out) as part, part.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["sample", *found.values])
        rows.writerows(zip(samples.trajectories.tolist(), *(values.tolist() for values in found.values.values())))


def _report(
    model: str,
    samples: TorchDataset,
    found: Evaluation,
    rollout: Rollout | None,
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    import sciml_bounds

    summary = found.summary()
    record: dict[str, Any] = {
        "command": "evaluate",
        "version": sciml_bounds.__version__,
        "model": model,
        "data": str(samples.path),
        "recipe": samples.recipe,
        "split": samples.split,
        "samples": len(samples),
        "metrics": summary,
    }
    rows = {"data": samples.recipe, "samples": f"{len(samples)} (split: {samples.split})"}
    for name, numbers in summary.items():
        label = f"{name} (relative)" if name in RELATIVE else name
        rows[label] = f"mean {numbers['mean']:.4g}, median {numbers['median']:.4g}, largest {numbers['max']:.4g}"
    if rollout is not None:
        record["rollout"] = {"l2": float(rollout.whole.mean()), "steps": rollout.steps.mean(0).tolist()}
        rows["rollout, all steps (l2, relative)"] = f"mean {float(rollout.whole.mean()):.4g}"
        rows["rollout, last step (l2, relative)"] = f"mean {float(rollout.steps[:, -1].mean()):.4g}"
    files = {} if out is None else {"out": str(out)}
    if as_json:
        output.print_json(record | files)
    else:
        output.print_table(f"Evaluation of {model}", rows | files)
