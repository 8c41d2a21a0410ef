"""Weights of networks: one safetensors file with a card that describes them and their training.

Nothing is unpickled. The card is JSON in the metadata of the file. It has the class of the network, its constructor
arguments, and the digest of all numbers, so truncated or modified files are detected.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sciml_bounds import __version__
from sciml_bounds.errors import InputError
from sciml_bounds.memory import require_memory
from sciml_bounds.store.datasets.network_classes import (
    MODELS,
    arguments_of,
    class_name,
    construct,
    current_architecture,
    model_class,
    require_class,
)
from sciml_bounds.store.reading.contents import ArrayInfo, Contents, printable
from sciml_bounds.store.safety.writer import check_target, replacing

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "FORMAT_VERSION",
    "MODELS",
    "SUFFIX",
    "describe_weights",
    "fill_model",
    "find_weights",
    "load_model",
    "make_model",
    "model_class",
    "read_weights",
    "save_model",
    "shipped_weights",
    "state_of",
    "write_weights",
]

#: Version of the card: programs read files of their own major version; minor versions are additions.
FORMAT_VERSION = "0.1"
SUFFIX = ".safetensors"
#: Metadata key of the card. There is a single key because the order of keys in a file is not fixed.
_CARD = "sciml_bounds"
#: Folder of the weights that ship with the package.
_SHIPPED = Path(__file__).resolve().parents[2] / "weights"


# --- files ------------------------------------------------------------------------------------------------------------


def write_weights(path: Path | str, state: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """Write tensors and a card as one safetensors file; the file is written atomically.

    Parameters
    ----------
    path : Path or str
        File to write, ending in .safetensors; an existing file is replaced.
    state : mapping
        Tensors by name.
    card : mapping
        Description of the weights, as JSON values. Versions and the digest of the tensors are added.

    Raises
    ------
    InputError
        If the file cannot be written, a tensor has NaN or infinity, or the card cannot be represented in JSON.
    """
    import safetensors.torch

    target = check_target(path, (SUFFIX,))
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    _check_finite(path, tensors)
    versions = {"sciml_bounds": __version__, "torch": str(torch.__version__)}
    whole = {"format_version": FORMAT_VERSION, "versions": versions, **card, "sha256": _digest(tensors)}
    text = _canonical(path, whole)
    sealed = json.dumps({"card": json.loads(text), "sha256": hashlib.sha256(text.encode()).hexdigest()})
    content = safetensors.torch.save(tensors, {_CARD: sealed})
    with replacing(target) as part:
        part.write_bytes(content)


def read_weights(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors on the CPU, and their card, after checking both against the digests in the file.

    Raises
    ------
    InputError
        If the file does not exist, is truncated, was changed, or was not written by this package.
    """
    import safetensors

    file = Path(path)
    if not file.is_file():
        raise InputError(
            f"the file {path} does not exist; give the path of a {SUFFIX} file, or the name of shipped weights."
        )
    require_memory(file.stat().st_size, f"the content of {path}")
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            # Clones, so that later changes of the file do not change a network.
            tensors = {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118 - not a mapping
    except safetensors.SafetensorError as error:
        why = printable(str(error))[:120]
        raise InputError(
            f"{path} is not a complete safetensors file ({why}): it is truncated or has another format; get it again."
        ) from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    card = _card(path, metadata)
    if card["sha256"] != _digest(tensors):
        raise InputError(f"{path} was changed after it was written: its numbers do not match its digest; get it again.")
    _check_finite(path, tensors)
    return tensors, card


def describe_weights(path: Path | str) -> Contents:
    """Return the contents of a file of weights, with its card as attributes, after checking the digests.

    Raises
    ------
    InputError
        As in `read_weights`.
    """
    tensors, card = read_weights(path)
    arrays = {
        name: ArrayInfo(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for name, tensor in tensors.items()
    }
    return Contents("safetensors", arrays, lambda *_: iter(()), card)


def _card(path: Path | str, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the card in the metadata, checked against its own digest."""
    if _CARD not in metadata:
        raise InputError(
            f"{path} contains tensors but no card of this package; give a file of save_model or write_weights."
        )
    try:
        sealed = json.loads(metadata[_CARD])
        card, digest = sealed["card"], sealed["sha256"]
        version, named = card["format_version"], card["sha256"]
        text = _canonical(path, card)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"the card of {path} cannot be read; the file is damaged, get it again.") from None
    if digest != hashlib.sha256(text.encode()).hexdigest() or not isinstance(named, str):
        raise InputError(f"{path} was changed after it was written: its card does not match its digest; get it again.")
    if str(version).split(".")[0] != FORMAT_VERSION.split(".")[0]:
        raise InputError(
            f"{path} has format version {printable(str(version))[:20]}, but this version of sciml-bounds reads "
            f"{FORMAT_VERSION}; install a newer one."
        )
    return dict(card)


def _canonical(path: Path | str, card: Mapping[str, Any]) -> str:
    """Return a card as canonical JSON text."""
    try:
        return json.dumps(card, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the card for {path} cannot be written as JSON ({error}); use text, finite numbers, lists and mappings."
        ) from None


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """Compute the SHA-256 of names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _check_finite(path: Path | str, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"the tensor {printable(name)} of {path} has NaN or infinity; use an earlier checkpoint.")


# --- networks ---------------------------------------------------------------------------------------------------------


def save_model(model: nn.Module, path: Path | str, **card: Any) -> None:
    """Write a network, so that `load_model` restores it.

    Parameters
    ----------
    model : nn.Module
        Any network. Its attribute `arguments`, a mapping of JSON values, has the constructor arguments; networks of the
        package and of classes registered by `sb.data.register_model` have it.
    path : Path or str
        File to write, ending in .safetensors; an existing file is replaced.
    **card : JSON values
        Further entries of the card, such as recipe, seed or metrics.

    Raises
    ------
    InputError
        If the arguments or entries are not JSON values, a weight is not finite, or the file cannot be written.
    """
    description = {"class": class_name(type(model)), "arguments": arguments_of(model)}
    write_weights(path, state_of(model), {**card, **description})


def load_model(
    path_or_name: Path | str,
    *,
    device: torch.device | str = "cpu",
    network: type[nn.Module] | nn.Module | None = None,
) -> nn.Module:
    """Load a network in evaluation mode, from a file or from weights that ship with the package.

    Parameters
    ----------
    path_or_name : Path or str
        A file, or the name of shipped weights, such as "darcy-rough".
    device : torch.device or str, default "cpu"
        Device of the network.
    network : type or nn.Module, optional
        Class of the network, or a network to be filled with the weights. Needed if the class that the file names is
        neither one of this package nor registered by `sb.data.register_model`: a file never decides which module is
        imported.

    Raises
    ------
    InputError
        If the file or name does not exist, or the file does not describe a network, or one of another class.
    """
    path = find_weights(path_or_name)
    state, card = read_weights(path)
    if card.get("content") == "Checkpoint":
        raise InputError(
            f"{path} is a training checkpoint; load the network of the best epoch, best{SUFFIX} in the same folder."
        )
    where = f"the card of {path}"
    model = _described(card, state, where) if network is None else _given(network, card, where)
    fill_model(model, state, str(path))
    return model.to(device).eval()


def _given(network: type[nn.Module] | nn.Module, card: Mapping[str, Any], where: str) -> nn.Module:
    """Return the network that the user gives for a card: itself, or constructed from its class."""
    if not isinstance(network, type):
        return network
    require_class(network, "load_model(network=)")
    return construct(network, card.get("arguments"), where)


def _described(card: Mapping[str, Any], state: Mapping[str, Tensor], where: str) -> nn.Module:
    """Return the network that a card describes."""
    name, arguments = card.get("class"), card.get("arguments")
    if name in MODELS:  # a card may declare any size: compare it with the file before allocating memory
        with torch.device("meta"):
            _check_names(make_model(name, arguments, where), state, where.removeprefix("the card of "))
    return make_model(name, arguments, where)


def make_model(name: object, arguments: object, where: str) -> nn.Module:
    """Construct a network from the name of its class, in the table or registered, and its arguments.

    Raises
    ------
    InputError
        If the class does not exist, or rejects the arguments.
    """
    if not isinstance(name, str):
        raise InputError(f"{where} has no class of network; the choices are {', '.join(MODELS)}.")
    current, options = current_architecture(name, arguments)
    return construct(model_class(current), options, where)


def fill_model(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Load weights into a network, converting it to their precision.

    Raises
    ------
    InputError
        If names or shapes differ, since the weights belong to another architecture.
    """
    _check_names(model, state, where)
    precisions = {tensor.dtype for tensor in state.values() if tensor.is_floating_point()}
    if len(precisions) == 1:
        model.to(precisions.pop())
    model.load_state_dict(dict(state))


def _check_names(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Check that names and shapes of weights agree with those of a network."""
    own = state_of(model)
    missing, surplus = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    unequal = [name for name in own if name in state and own[name].shape != state[name].shape]
    if missing or surplus or unequal:
        raise InputError(
            f"the weights in {where} belong to another architecture: {_difference(own, state, missing, surplus)}; "
            "construct the network with the arguments on the card of the file."
        )


def _difference(own: Mapping[str, Tensor], state: Mapping[str, Tensor], missing: list[str], surplus: list[str]) -> str:
    """Return a description of the first difference."""
    if missing:
        return f"{missing[0]} is missing"
    if surplus:
        return f"the network has no {printable(surplus[0])[:80]}"
    name = next(name for name in own if own[name].shape != state[name].shape)
    return f"{name} has shape {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a network by name."""
    state: dict[str, Any] = model.state_dict()
    foreign = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if foreign:
        raise InputError(
            f"the state of {type(model).__name__} has the entry {foreign[0]}, which is not a tensor; make it a tensor."
        )
    return state


# --- weights that ship ------------------------------------------------------------------------------------------------


def shipped_weights() -> tuple[str, ...]:
    """Return the names of the weights that ship with the package."""
    return tuple(sorted(file.stem for file in _SHIPPED.glob(f"*{SUFFIX}")))


def find_weights(path_or_name: Path | str) -> Path:
    """Return the path of a file, or of shipped weights by their name.

    Raises
    ------
    InputError
        If there are no weights with this name.
    """
    text = str(path_or_name)
    if isinstance(path_or_name, Path) or "/" in text or "\\" in text or text.endswith(SUFFIX):
        return Path(path_or_name)
    names = shipped_weights()
    if text in names:
        return _SHIPPED / f"{text}{SUFFIX}"
    close = difflib.get_close_matches(text, names, 1, 0.4)
    choices = f"the names are {', '.join(names)}" if names else "no weights are installed"
    hint = f"did you mean {close[0]}?" if close else f"{choices}; or give the path of a {SUFFIX} file."
    raise InputError(f"no weights {printable(text)[:60]!r} ship with this package; {hint}")
