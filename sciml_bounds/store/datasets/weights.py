"""Weights of networks: one safetensors file, whose card says what they are and how they came about.

Nothing is ever unpickled. The card is JSON in the metadata of the file; it names the class of the network, what it was
made with, and the digest of all numbers, so that a file which was cut or changed is refused.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sciml_bounds import __version__
from sciml_bounds.errors import InputError
from sciml_bounds.memory import require_memory
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

#: Version of the card: a major one that no older program can read, and what was added since.
FORMAT_VERSION = "0.1"
SUFFIX = ".safetensors"
#: The networks that a file may ask for, and where they are; no other class is ever made.
MODELS = {
    "BarronNetwork": "sciml_bounds.barron._barron_network:BarronNetwork",
    "MgNO": "sciml_bounds.multigrid._mgno:MgNO",
    "CertifiedMgNO": "sciml_bounds.multigrid._flux_head:CertifiedMgNO",
    "LearnedDirections": "sciml_bounds.krylov._learned_directions:LearnedDirections",
}
#: The key of the metadata under which the card stands. One key only: their order in a file is not fixed.
_CARD = "sciml_bounds"
#: Weights that ship with the package.
_SHIPPED = Path(__file__).resolve().parents[2] / "weights"


# --- files ------------------------------------------------------------------------------------------------------------


def write_weights(path: Path | str, state: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """Write tensors and a card as one safetensors file, which appears whole or not at all.

    Parameters
    ----------
    path
        Where, ending in .safetensors; an existing file is replaced.
    state
        The tensors by name.
    card
        What is known about them, in JSON's words. The versions, and the digest of the tensors, are added.

    Raises
    ------
    InputError
        If it cannot be written there, a tensor holds NaN or infinity, or the card is not JSON.
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
    """Read tensors and their card, on the CPU, after holding both against the digests in the file.

    Raises
    ------
    InputError
        If there is no such file, or it is truncated, was changed, or is not one of ours.
    """
    import safetensors

    file = Path(path)
    if not file.is_file():
        raise InputError(f"there is no file {path}; give the path of a {SUFFIX} file, or the name of shipped weights.")
    require_memory(file.stat().st_size, f"the content of {path}")
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            # Clones, so that nobody who writes into the file later changes a network.
            tensors = {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118 - not a mapping
    except safetensors.SafetensorError as error:
        why = printable(str(error))[:120]
        raise InputError(
            f"{path} is not a whole safetensors file ({why}): it is truncated or something else; get it again."
        ) from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    card = _card(path, metadata)
    if card["sha256"] != _digest(tensors):
        raise InputError(f"{path} was changed after it was written: its numbers do not fit its digest; get it again.")
    _check_finite(path, tensors)
    return tensors, card


def describe_weights(path: Path | str) -> Contents:
    """Say what a file of weights holds, with its card as attributes, after holding both against the digests.

    Raises
    ------
    InputError
        As `read_weights` does.
    """
    tensors, card = read_weights(path)
    arrays = {
        name: ArrayInfo(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for name, tensor in tensors.items()
    }
    return Contents("safetensors", arrays, lambda *_: iter(()), card)


def _card(path: Path | str, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Take the card out of the metadata and hold it against its own digest."""
    if _CARD not in metadata:
        raise InputError(
            f"{path} holds tensors but no card of this package; give a file that save_model or write_weights wrote."
        )
    try:
        sealed = json.loads(metadata[_CARD])
        card, digest = sealed["card"], sealed["sha256"]
        version, named = card["format_version"], card["sha256"]
        text = _canonical(path, card)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"the card of {path} cannot be read; the file is damaged, get it again.") from None
    if digest != hashlib.sha256(text.encode()).hexdigest() or not isinstance(named, str):
        raise InputError(f"{path} was changed after it was written: its card does not fit its digest; get it again.")
    if str(version).split(".")[0] != FORMAT_VERSION.split(".")[0]:
        raise InputError(
            f"{path} has format version {printable(str(version))[:20]}, and this program reads {FORMAT_VERSION}; "
            "install a newer version of sciml-bounds."
        )
    return dict(card)


def _canonical(path: Path | str, card: Mapping[str, Any]) -> str:
    """Write a card so that the same content is always the same text."""
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
            raise InputError(
                f"the tensor {printable(name)} of {path} holds NaN or infinity; use the last checkpoint before that."
            )


# --- networks ---------------------------------------------------------------------------------------------------------


def save_model(model: nn.Module, path: Path | str, **card: Any) -> None:
    """Write a network, so that `load_model` makes the same one again.

    Parameters
    ----------
    model
        One of the classes in `MODELS`, whose `arguments` are what it was made with.
    path
        Where, ending in .safetensors; an existing file is replaced.
    **card
        What else to say about it, in JSON's words: recipe, seed, metrics, ...

    Raises
    ------
    InputError
        If it is another class, or cannot be written.
    """
    name = type(model).__name__
    if name not in MODELS or model_class(name) is not type(model):
        raise InputError(f"a {name} cannot be saved as a model; the classes that can are {', '.join(MODELS)}.")
    arguments: Any = model.arguments
    write_weights(path, state_of(model), {**card, "class": name, "arguments": dict(arguments)})


def load_model(path_or_name: Path | str, *, device: torch.device | str = "cpu") -> nn.Module:
    """Make a network from a file, or from weights that ship with the package, in evaluation mode.

    Parameters
    ----------
    path_or_name
        A file, or a name without folder and ending, such as "darcy-rough".
    device
        Where to put it.

    Raises
    ------
    InputError
        If there is no such file or name, or the file does not describe a network.
    """
    path = find_weights(path_or_name)
    state, card = read_weights(path)
    if card.get("content") == "Checkpoint":
        raise InputError(
            f"{path} is the checkpoint of a training; the network of its best epoch is best{SUFFIX} beside it."
        )
    made = (card.get("class"), card.get("arguments"), f"the card of {path}")
    with torch.device("meta"):  # a card may ask for any size: it is held against the file before that takes memory
        _check_names(make_model(*made), state, str(path))
    model = make_model(*made)
    fill_model(model, state, str(path))
    return model.to(device).eval()


def make_model(name: object, arguments: object, where: str) -> nn.Module:
    """Make a network of the table from what it was made with.

    Raises
    ------
    InputError
        If there is no such class, or it refuses the arguments.
    """
    if not isinstance(name, str):
        raise InputError(f"{where} names no class of network; the choices are {', '.join(MODELS)}.")
    kind = model_class(name)
    if not isinstance(arguments, Mapping) or not all(isinstance(key, str) for key in arguments):
        raise InputError(f"{where} has no arguments for {name}; they are a mapping of names to values.")
    try:
        return kind(**arguments)
    except (TypeError, ValueError, RuntimeError, OverflowError, MemoryError) as error:
        raise InputError(f"{where} has arguments that {name} does not take: {printable(str(error))[:300]}") from None


def model_class(name: str) -> type[nn.Module]:
    """Find a class of networks by its name in `MODELS`.

    Raises
    ------
    InputError
        If it is not there.
    """
    if name not in MODELS:
        close = difflib.get_close_matches(name, MODELS, 1, 0.4)
        hint = f"did you mean {close[0]}?" if close else f"the choices are {', '.join(MODELS)}."
        raise InputError(f"there is no network {printable(name)[:60]!r}; {hint}")
    module, _, attribute = MODELS[name].partition(":")
    found: type[nn.Module] = getattr(importlib.import_module(module), attribute)
    return found


def fill_model(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Give a network its weights, in the precision that they have.

    Raises
    ------
    InputError
        If names or shapes differ: the weights are those of another architecture.
    """
    _check_names(model, state, where)
    precisions = {tensor.dtype for tensor in state.values() if tensor.is_floating_point()}
    if len(precisions) == 1:
        model.to(precisions.pop())
    model.load_state_dict(dict(state))


def _check_names(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Hold names and shapes of weights against those of a network, whose numbers are not looked at."""
    own = state_of(model)
    missing, surplus = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    unequal = [name for name in own if name in state and own[name].shape != state[name].shape]
    if missing or surplus or unequal:
        raise InputError(
            f"the weights in {where} are those of another architecture: {_difference(own, state, missing, surplus)}; "
            "make the network with the arguments on the card of the file."
        )


def _difference(own: Mapping[str, Tensor], state: Mapping[str, Tensor], missing: list[str], surplus: list[str]) -> str:
    """Say one thing that differs."""
    if missing:
        return f"{missing[0]} is missing"
    if surplus:
        return f"the network has no {printable(surplus[0])[:80]}"
    name = next(name for name in own if own[name].shape != state[name].shape)
    return f"{name} has shape {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Collect the tensors of a network, without what wrappers put before their names."""
    state: dict[str, Any] = model.state_dict()
    foreign = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if foreign:
        raise InputError(f"{type(model).__name__} keeps {foreign[0]}, which is not a tensor; make it one.")
    return state


# --- weights that ship ------------------------------------------------------------------------------------------------


def shipped_weights() -> tuple[str, ...]:
    """Give the names of the weights that ship with the package."""
    return tuple(sorted(file.stem for file in _SHIPPED.glob(f"*{SUFFIX}")))


def find_weights(path_or_name: Path | str) -> Path:
    """Give the path of a file, or of shipped weights by their name.

    Raises
    ------
    InputError
        If there is none.
    """
    text = str(path_or_name)
    if isinstance(path_or_name, Path) or "/" in text or "\\" in text or text.endswith(SUFFIX):
        return Path(path_or_name)
    names = shipped_weights()
    if text in names:
        return _SHIPPED / f"{text}{SUFFIX}"
    close = difflib.get_close_matches(text, names, 1, 0.4)
    known = f"the names are {', '.join(names)}" if names else "none are installed"
    hint = f"did you mean {close[0]}?" if close else f"{known}; or give the path of a {SUFFIX} file."
    raise InputError(f"no weights {printable(text)[:60]!r} ship with this package; {hint}")
