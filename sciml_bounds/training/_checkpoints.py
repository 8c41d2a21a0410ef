"""Checkpoints of a training in one safetensors file: weights, best weights, optimiser state and random state."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sciml_bounds.errors import InputError
from sciml_bounds.store.datasets.network_classes import current_architecture
from sciml_bounds.store.datasets.weights import SUFFIX, fill_model, read_weights, state_of, write_weights

__all__ = ["BEST", "LAST", "State", "load_checkpoint", "save_checkpoint"]

#: Files of a training in its folder.
LAST, BEST = f"last{SUFFIX}", f"best{SUFFIX}"
#: Settings that may differ when a training is resumed, since they do not change the result.
_CHANGEABLE_SETTINGS = ("device", "workers", "checkpoint_every", "patience", "graphs")


@dataclass
class State:
    """The state of a training.

    Attributes
    ----------
    epoch, step : int
        Number of completed epochs, and of completed steps in the current epoch.
    losses, norms : float
        Sums over the current epoch: of the losses of its samples, and of the gradient norms of its steps.
    seconds : float
        Time spent in the current epoch.
    history : list of dict
        One row per completed epoch.
    best_epoch : int
        Epoch with the best weights, counted from one; zero if there is none.
    best : float or None
        Its metric on the validation data.
    best_state : dict
        Its weights, on the CPU.
    """

    epoch: int = 0
    step: int = 0
    losses: float = 0.0
    norms: float = 0.0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best: float | None = None
    best_state: dict[str, Tensor] = field(default_factory=dict)

    def numbers(self) -> dict[str, Any]:
        """Return everything except the weights, in JSON types."""
        return {name: getattr(self, name) for name in _NUMBERS}


_NUMBERS = tuple(entry.name for entry in dataclasses.fields(State) if entry.name != "best_state")


def save_checkpoint(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: State, card: Mapping[str, Any]
) -> None:
    """Write a checkpoint; the previous file is replaced only when the new one is complete.

    Raises
    ------
    InputError
        If the file cannot be written, or a weight is not finite.
    """
    tensors = {f"model/{name}": tensor for name, tensor in state_of(model).items()}
    tensors |= {f"best/{name}": tensor for name, tensor in state.best_state.items()}
    for index, entries in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": torch.as_tensor(value) for name, value in entries.items()}
    tensors["random/cpu"] = torch.get_rng_state()
    device = next(model.parameters()).device
    if device.type == "cuda":
        tensors["random/cuda"] = torch.cuda.get_rng_state(device)
    write_weights(folder / LAST, tensors, {**card, "content": "Checkpoint", "state": state.numbers()})


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, card: Mapping[str, Any]) -> State:
    """Restore network, optimiser and random state from a checkpoint, and return the state of the training.

    Raises
    ------
    InputError
        If the file is damaged, or belongs to another network, other settings or other data.
    """
    tensors, found = read_weights(path)
    if found.get("content") != "Checkpoint":
        raise InputError(f"{path} is not a checkpoint of a training; give the folder of a training.")
    _check_same(path, found, card)
    fill_model(model, _part(tensors, "model/"), str(path))
    _fill_optimizer(optimizer, _part(tensors, "optimizer/"), path)
    torch.set_rng_state(tensors["random/cpu"])
    device = next(model.parameters()).device
    if device.type == "cuda" and "random/cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random/cuda"], device)
    return State(**found["state"], best_state=_part(tensors, "best/"))


def _check_same(path: Path, found: Mapping[str, Any], card: Mapping[str, Any]) -> None:
    """Check that network, settings and data are those of the checkpoint."""
    architecture = current_architecture(found.get("class"), found.get("arguments"))
    for what, there in zip(("class", "arguments"), architecture):
        if there != card[what]:
            raise InputError(
                f"{path} is the checkpoint of a network of another architecture: {what} {there} in the file, but "
                f"{card[what]} here; choose another folder, or build the same network."
            )
    before, now = found["settings"], card["settings"]
    longer = now["schedule"] == "constant" or now["epochs"] > before.get("epochs", now["epochs"])
    changeable = (*_CHANGEABLE_SETTINGS, "epochs") if longer else _CHANGEABLE_SETTINGS
    for name in now:
        if name not in changeable and before.get(name) != now[name]:
            raise InputError(
                f"{path} was trained with {name}={before.get(name)!r}, but here it is {now[name]!r}; use the same "
                "value, or choose another folder."
            )
    if found["data"] != card["data"]:
        raise InputError(f"{path} was trained with other data; use the same data, or choose another folder.")


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _fill_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], path: Path) -> None:
    entries: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition("/")
        entries.setdefault(int(index), {})[key] = tensor
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    # empty before the first step; afterwards one entry per parameter, with tensors of its shape
    whole = not entries or entries.keys() == set(range(len(parameters)))
    if not whole or any(t.dim() and t.shape != parameters[i].shape for i, e in entries.items() for t in e.values()):
        raise InputError(f"the optimiser state in {path} does not fit the network; choose another folder.")
    optimizer.load_state_dict({"state": entries, "param_groups": optimizer.state_dict()["param_groups"]})
