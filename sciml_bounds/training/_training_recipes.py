"""Training recipes: TOML files with data, network, settings and output of a training."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Subset

from sciml_bounds.errors import InputError
from sciml_bounds.store.datasets.network_classes import construct, current_architecture, import_class, model_class
from sciml_bounds.store.datasets.torch_dataset import TorchDataset
from sciml_bounds.store.datasets.weights import SUFFIX, fill_model, find_weights, read_weights
from sciml_bounds.store.safety.writer import check_target
from sciml_bounds.training._evaluation import evaluate, require_fitting
from sciml_bounds.training._settings import TrainingSettings, check_names, find_loss, loss_name

__all__ = ["TrainingRecipe", "find_training_recipe", "read_training_recipe", "shipped_recipes"]

#: Allowed entries of each table of a recipe.
_TABLES = {
    "data": ("file", "recipe", "samples", "seed", "resolution", "inputs", "targets", "subsample", "limit", "in_memory"),
    "model": ("class", "arguments", "start"),
    "training": tuple(field.name for field in dataclasses.fields(TrainingSettings)),
    "output": ("folder", "weights", "metrics", "tensorboard"),
}
#: Entries of [data] that are arguments of `TorchDataset`.
_DATASET_ARGUMENTS = ("inputs", "targets", "subsample", "in_memory")
#: Entries of [data] that the file must agree with.
_REQUIRED_ATTRIBUTES = ("seed", "resolution")
_SHIPPED = Path(__file__).resolve().parent.parent / "weights"


@dataclass(frozen=True)
class TrainingRecipe:
    """The content of a training recipe.

    Attributes
    ----------
    data : mapping
        file: the data set. recipe, samples, seed, resolution: required properties of it. inputs, targets, subsample,
        in_memory: arguments of `TorchDataset`. limit: maximum number of training samples.
    model : mapping
        class: the name of a network of the package, or "package.module:Class" for any other torch.nn.Module. arguments:
        its arguments. start: a file of weights, or the name of
        weights that ship with the package, from which the training starts; normalisers are fitted again.
    settings : TrainingSettings
        Settings of the training.
    output : mapping
        folder: for checkpoints and logs. weights: file for the trained network, with its metrics on the test split.
        metrics: their names. tensorboard: whether to write curves.
    where : str
        Name of the recipe file, for messages.
    """

    data: Mapping[str, Any]
    model: Mapping[str, Any]
    settings: TrainingSettings
    output: Mapping[str, Any]
    where: str

    def card(self) -> dict[str, Any]:
        """Return the content of the recipe in JSON types."""
        return {
            "data": dict(self.data),
            "model": dict(self.model),
            "training": self.settings.card(),
            "output": dict(self.output),
        }

    def samples(self, split: str) -> TorchDataset:
        """Open the data set.

        Raises
        ------
        InputError
            If the file does not exist, or does not agree with the recipe; the message has the command that generates
            it, if known.
        """
        file = Path(self.data["file"])
        if not file.exists():
            raise InputError(f"there is no data set {file}; generate it first{self._command()}.")
        view = {name: self.data[name] for name in _DATASET_ARGUMENTS if name in self.data}
        limit = self.data.get("limit") if split == "train" else None
        found = TorchDataset(file, split, limit=limit, recipe=self.data.get("recipe"), **view)  # type: ignore[arg-type]
        for name in _REQUIRED_ATTRIBUTES:
            if name in self.data and self.data[name] != getattr(found, name):
                raise InputError(
                    f"{file} has {name} {getattr(found, name)}, but {self.where} requires {self.data[name]}; use the "
                    f"data set of the recipe{self._command()}."
                )
        return found

    def check_samples(self) -> None:
        """Check that the number of samples in the file agrees with the recipe.

        Raises
        ------
        InputError
            If it does not.
        """
        wanted = self.data.get("samples")
        count = len(TorchDataset(self.data["file"], "all", pairs=False).samples) if wanted is not None else None
        if count != wanted:
            raise InputError(
                f"{self.data['file']} has {count} samples, but {self.where} requires {wanted}; use the data set of the "
                f"recipe{self._command()}."
            )

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics on the test split; by default the metric of `select`."""
        return list(self.output.get("metrics", [loss_name(self.settings.select)]))

    def check_metrics(self, model: nn.Module) -> None:
        """Evaluate the test metrics on one sample, so that errors are reported before the training.

        Raises
        ------
        InputError
            If the split is empty, or a metric or the loss does not suit the network.
        """
        require_fitting(model, loss=self.settings.loss, select=self.settings.select)
        if "weights" in self.output:
            evaluate(model, Subset(self.samples("test"), [0]), self.metrics)

    def make_model(self) -> nn.Module:
        """Build the network, with the seed of the recipe.

        Raises
        ------
        InputError
            If the class is unknown, or does not accept the arguments.
        """
        with torch.random.fork_rng([]):
            torch.manual_seed(self.settings.seed)
            network, arguments = self._architecture()
            return construct(network, arguments, f"[model] of {self.where}")

    def _architecture(self) -> tuple[type[nn.Module], Any]:
        """Return class and arguments of the network; a recipe is written by its user, so it may name any module."""
        name, arguments = self.model["class"], self.model.get("arguments", {})
        if not isinstance(name, str):
            raise InputError(f"[model] of {self.where}: class = {name!r} must be text, the name of a network.")
        if ":" in name:
            return import_class(name, f"[model] of {self.where}: class"), arguments
        current, options = current_architecture(name, arguments)
        return model_class(current), options

    def fill(self, model: nn.Module) -> dict[str, str]:
        """Load the initial weights of the recipe, if any, into a network; return their entry for the card.

        Raises
        ------
        InputError
            If the weights do not exist, or belong to another network.
        """
        if "start" not in self.model:
            return {}
        path = find_weights(self.model["start"])
        state, card = read_weights(path)
        fill_model(model, state, str(path))
        return {"start": str(card["sha256"])}

    def _command(self) -> str:
        if "recipe" not in self.data:
            return ""
        options = "".join(
            f" --{name} {self.data[name]}" for name in ("samples", "seed", "resolution") if name in self.data
        )
        return f": sciml-bounds generate {self.data['recipe']}{options} --out {self.data['file']}"


def shipped_recipes() -> tuple[str, ...]:
    """Return the names of the recipes that ship with the package."""
    return tuple(sorted(file.stem for file in _SHIPPED.glob("*.toml")))


def find_training_recipe(path_or_name: Path | str) -> Path:
    """Return the path of a recipe, given its path or the name of one that ships with the package.

    Raises
    ------
    InputError
        If there is no such recipe.
    """
    path, names = Path(path_or_name), shipped_recipes()
    if path.is_file():
        return path
    if str(path_or_name) in names:
        return _SHIPPED / f"{path_or_name}.toml"
    raise InputError(f"there is no recipe {path_or_name}; give a TOML file, or one of {', '.join(names)}.")


def read_training_recipe(
    path_or_name: Path | str, changes: Sequence[str] = (), settings: Mapping[str, Any] | None = None
) -> TrainingRecipe:
    """Read a recipe.

    Parameters
    ----------
    path_or_name : Path or str
        A TOML file, or the name of a recipe that ships with the package.
    changes : sequence of str
        Replacements such as "training.epochs=2", with values in TOML syntax.
    settings : mapping or None
        Settings of the training that replace those of the file.

    Returns
    -------
    TrainingRecipe
        The recipe.

    Raises
    ------
    InputError
        If the file is not valid TOML, or an entry is missing, unknown (the closest name is suggested) or invalid.
    """
    path = find_training_recipe(path_or_name)
    where = path.name
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a TOML file; give a training recipe.") from None
    except tomllib.TOMLDecodeError as error:
        if path.suffix != ".toml":
            raise InputError(f"{path} is not a TOML file; give a training recipe.") from None
        raise InputError(f"{path} is not TOML: {error}.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    for change in changes:
        _change(content, change)
    _check(content, where)
    training = {**content.get("training", {}), **(settings or {})}
    _check_output(content.get("output", {}), where)
    return TrainingRecipe(
        data=content["data"],
        model=content["model"],
        settings=TrainingSettings.of(training, f"[training] of {where}"),
        output=content.get("output", {}),
        where=where,
    )


def _change(content: dict[str, Any], change: str) -> None:
    """Replace one value in a recipe."""
    name, equals, text = change.partition("=")
    *tables, key = name.strip().split(".")
    if not equals or not tables:
        raise InputError(f"--set {change} must have the form TABLE.NAME=VALUE, such as training.epochs=2.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # text without quotes
    table = content
    for part in tables:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise InputError(f"--set {change}: {part} is a value, not a table; give TABLE.NAME=VALUE.")
    table[key] = value


def _check(content: Mapping[str, Any], where: str) -> None:
    """Check that all entries are known, required ones are present, and types are right."""
    check_names(content, _TABLES, where)
    for table, names in _TABLES.items():
        entries = content.get(table, {})
        if not isinstance(entries, dict):
            raise InputError(f"{table} in {where} is a single value; write a table [{table}].")
        check_names(entries, names, f"[{table}] of {where}")
    for table, name, example in (("data", "file", '"darcy.nc"'), ("model", "class", '"MgNO"')):
        if name not in content.get(table, {}):
            raise InputError(f"[{table}] of {where} has no {name}; write {name} = {example}.")
    start = content["model"].get("start", "")
    if not isinstance(start, str):
        raise InputError(f"[model] of {where}: start = {start!r} must be text, the name of a file of weights.")
    data = content["data"]
    for name, kind in (("file", str), ("recipe", str), ("samples", int), ("seed", int), ("resolution", int)):
        if name in data and (not isinstance(data[name], kind) or isinstance(data[name], bool)):
            raise InputError(
                f"[data] of {where}: {name} = {data[name]!r} must be {'text' if kind is str else 'a whole number'}."
            )
    for name in ("inputs", "targets"):
        if name in data and not isinstance(data[name], str) and not _are_names(data[name]):
            raise InputError(
                f'[data] of {where}: {name} = {data[name]!r} must be a list of names such as ["coefficient"].'
            )
    if not isinstance(data.get("in_memory", False), bool):
        raise InputError(f"[data] of {where}: in_memory = {data['in_memory']!r} must be true or false.")


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _check_output(output: Mapping[str, Any], where: str) -> None:
    for name in ("folder", "weights"):
        if name in output and not isinstance(output[name], str):
            raise InputError(f"[output] of {where}: {name} = {output[name]!r} must be text.")
    if not isinstance(output.get("tensorboard", False), bool):
        raise InputError(f"[output] of {where}: tensorboard = {output['tensorboard']!r} must be true or false.")
    metrics = output.get("metrics", [])
    if not _are_names(metrics):
        raise InputError(f'[output] of {where}: metrics = {metrics!r} must be a list of names such as ["l2", "h1"].')
    for metric in metrics:
        find_loss(metric, "metric")
    if "weights" in output:
        check_target(output["weights"], (SUFFIX,))
    elif metrics:
        raise InputError(f"[output] of {where}: metrics are saved with the weights; add weights = FILE.")
