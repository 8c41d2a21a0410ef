"""`sciml-bounds train`: train a network from a training recipe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sciml_bounds.cli import _output as output
from sciml_bounds.errors import ConvergenceError, InputError

if TYPE_CHECKING:
    from sciml_bounds.training._training_recipes import TrainingRecipe
    from sciml_bounds.training._training_result import TrainingResult

__all__ = ["train"]


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE.toml", help="A file, or a name: darcy-rough.")],
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the checkpoint, if there is one.")] = False,
    folder: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder for checkpoints and logs. [default: as in the recipe]")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or cuda:1. [default: as in the recipe]", show_default=False)
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Replace a value of the recipe: training.epochs=2."),
    ] = None,
    as_json: output.JsonOption = False,
) -> None:
    """Train a network on a data set; after an interruption the same command with --resume continues.

    The folder receives best.safetensors (the network of the best epoch), last.safetensors (the checkpoint for --resume)
    and the log. Paths in a recipe are relative to the current folder. To train with several processes, use
    `torchrun --nproc_per_node=2 --no-python sciml-bounds train ...`.

    Example: sciml-bounds train darcy-rough --set training.epochs=2 --folder run
    """
    from sciml_bounds.training._training_recipes import read_training_recipe

    asked = read_training_recipe(recipe, changes or (), {} if device is None else {"device": device})
    target = folder if folder is not None else Path(asked.output.get("folder", "training"))
    try:
        result = _train(asked, target, resume=resume)
    except ConvergenceError as error:
        output.error_console().print(f"sciml-bounds: {error}", markup=False)
        raise typer.Exit(output.NOT_REACHED) from None
    if int(os.environ.get("RANK", "0")) == 0:  # with torchrun, only the first process prints
        _report(result, _finish(asked, result), as_json=as_json)


def _train(asked: TrainingRecipe, folder: Path, *, resume: bool) -> TrainingResult:
    from sciml_bounds.training._trainer import train as train_network

    train_set, validation_set = asked.samples("train"), asked.samples("validation")
    asked.check_samples()
    network = asked.make_model()
    started = asked.fill(network)
    asked.check_metrics(network)
    _require_new_weights(asked, folder)
    return train_network(
        network,
        train_set,
        validation_set,
        settings=asked.settings,
        folder=folder,
        resume=resume,
        progress=True,
        tensorboard=bool(asked.output.get("tensorboard", False)),
        card={"recipe": train_set.recipe, "seed": asked.settings.seed, "training_recipe": asked.card(), **started},
    )


def _require_new_weights(asked: TrainingRecipe, folder: Path) -> None:
    """Raise if the training would overwrite the weights of another one at its end."""
    from sciml_bounds.training._checkpoints import LAST

    weights = asked.output.get("weights")
    if weights is not None and Path(weights).exists() and not (folder / LAST).exists():
        raise InputError(f"{weights} already exists; move it, or choose another file with --set output.weights=FILE.")


def _finish(asked: TrainingRecipe, result: TrainingResult) -> dict[str, float]:
    """Evaluate the trained network on the test split and write its weights, if the recipe names a file for them."""
    if "weights" not in asked.output or len(result.history) == 0:
        return {}
    from sciml_bounds.store.datasets.weights import state_of, write_weights
    from sciml_bounds.training._evaluation import evaluate

    found = evaluate(result.model, asked.samples("test"), asked.metrics, device=asked.settings.device)
    metrics: dict[str, Any] = {f"test {name}": found.mean(name) for name in asked.metrics}
    metrics[f"validation {asked.settings.card()['select']}"] = result.best
    card = {**result.card, "content": "Weights", "epoch": result.best_epoch, "metrics": metrics}
    write_weights(asked.output["weights"], state_of(result.model), card)
    return {name: value for name, value in metrics.items() if name.startswith("test")}


def _report(result: TrainingResult, tested: dict[str, float], *, as_json: bool) -> None:
    import sciml_bounds

    settings = result.card["settings"]
    record: dict[str, Any] = {
        "command": "train",
        "version": sciml_bounds.__version__,
        "class": result.card["class"],
        "parameters": result.card["parameters"],
        "reason": result.reason,
        "epochs": len(result.history),
        "best_epoch": result.best_epoch,
        f"validation {settings['select']}": result.best,
        **tested,
        "seconds": result.seconds,
        "folder": str(result.folder),
    }
    if as_json:
        output.print_json(record)
        return
    rows = {
        "network": f"{result.card['class']}, {result.card['parameters']} parameters",
        "reason": result.reason,
        "epochs": f"{len(result.history)} of {settings['epochs']}",
        "best epoch": str(result.best_epoch),
        f"validation {settings['select']}": "none" if result.best is None else f"{result.best:.4g}",
        **{name: f"{value:.4g}" for name, value in tested.items()},
        "seconds": f"{result.seconds:.3g}",
        "folder": str(result.folder),
    }
    output.print_table("Training", rows)
