"""Classes of networks by name: those of the package, and those that a user has registered.

A file of weights names a class, but a name never leads to the import of a module that the user did not choose: it is
looked up in a fixed table and among the registered classes.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, overload

from sciml_bounds.errors import InputError
from sciml_bounds.store.datasets.own_code import import_named
from sciml_bounds.store.reading.contents import printable

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "MODELS",
    "arguments_of",
    "class_name",
    "construct",
    "current_architecture",
    "import_class",
    "model_class",
    "register_model",
    "require_class",
]

#: Classes of networks of the package, and their locations.
MODELS = {
    "BarronNetwork": "sciml_bounds.barron._barron_network:BarronNetwork",
    "MgNO": "sciml_bounds.multigrid._mgno:MgNO",
    "PublishedMgNO": "sciml_bounds.multigrid._published_mgno:PublishedMgNO",
    "CertifiedMgNO": "sciml_bounds.multigrid._flux_head:CertifiedMgNO",
    "LearnedDirections": "sciml_bounds.krylov._learned_directions:LearnedDirections",
}
#: Arguments that `MgNO` had in files before version 0.2, with the values that are its only ones now; with other values
#: the network is a `PublishedMgNO`.
_MOVED_ARGUMENTS = {"norm": "none", "size": None, "head": "linear", "idle_operator": False}
#: Registered classes by name.
_REGISTERED: dict[str, type[nn.Module]] = {}


@overload
def register_model[Network: type[nn.Module]](network: Network, *, name: str | None = ...) -> Network: ...
@overload
def register_model[Network: type[nn.Module]](*, name: str | None = ...) -> Callable[[Network], Network]: ...
def register_model(network: Any = None, *, name: str | None = None) -> Any:
    """Register a class of networks, so that `load_model` can restore it from a file that names it.

    Use it as a decorator, or call it before loading. The constructor arguments of each new network are recorded in its
    attribute `arguments`, unless the class sets this attribute itself, and are written to the file.

    Parameters
    ----------
    network : type
        Subclass of `torch.nn.Module`, whose constructor arguments are JSON values.
    name : str, optional
        Name of the class in files; "package.module:Class" by default.

    Returns
    -------
    type
        The class.

    Raises
    ------
    InputError
        If it is not a class of networks, or another class has the name.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> import sciml_bounds as sb
    >>> @sb.data.register_model(name="narrow-cnn")
    ... class CNN(torch.nn.Module):
    ...     def __init__(self, width=8):
    ...         super().__init__()
    ...         self.layer = torch.nn.Conv2d(1, width, 3, padding=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sb.save_model(CNN(width=4), f"{folder}/cnn.safetensors")
    ...     sb.load_model(f"{folder}/cnn.safetensors").arguments
    {'width': 4}
    """
    if network is None:
        return functools.partial(register_model, name=name)
    require_class(network, "register_model")
    known = _location(network) if name is None else name
    if not isinstance(known, str) or known in MODELS or _REGISTERED.get(known, network) is not network:
        same = known in _REGISTERED and _location(_REGISTERED[known]) == _location(network)
        if not same:  # a cell of a notebook that is run again defines its classes again
            raise InputError(f"another class of networks is registered as {known!r}; give name=.")
    _REGISTERED[known] = network
    _record_arguments(network)
    return network


def _record_arguments(network: type[nn.Module]) -> None:
    """Make the constructor of a class record its arguments in the attribute `arguments`."""
    construct: Any = network.__init__
    if getattr(construct, "records_arguments", False):
        return
    signature = inspect.signature(construct)

    @functools.wraps(construct)
    def recording(self: nn.Module, *positional: Any, **named: Any) -> None:
        construct(self, *positional, **named)
        if type(self) is network and not hasattr(self, "arguments"):
            arguments: Any = _named_arguments(signature, self, positional, named)
            self.arguments = arguments

    recording.records_arguments = True  # type: ignore[attr-defined]
    network.__init__ = recording  # type: ignore[method-assign]


def _named_arguments(
    signature: inspect.Signature, self: Any, positional: tuple[Any, ...], named: dict[str, Any]
) -> dict[str, Any] | None:
    """Return the arguments of a call by name, including defaults; None if they cannot all be named."""
    bound = signature.bind(self, *positional, **named)
    bound.apply_defaults()
    found: dict[str, Any] = {}
    for name, value in list(bound.arguments.items())[1:]:
        kind = signature.parameters[name].kind
        if kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY) and value != ():
            return None
        if kind is inspect.Parameter.VAR_KEYWORD:
            found |= value
        elif kind is not inspect.Parameter.VAR_POSITIONAL:
            found[name] = value
    return found


def require_class(network: Any, what: str) -> None:
    """Raise unless an object is a subclass of `torch.nn.Module`.

    Raises
    ------
    InputError
        If it is anything else.
    """
    from torch import nn

    if not (isinstance(network, type) and issubclass(network, nn.Module)):
        given = network.__name__ if isinstance(network, type) else f"an object of type {type(network).__name__}"
        raise InputError(f"{what} must be a subclass of torch.nn.Module, not {given}; give the class itself.")


def class_name(network: type[nn.Module]) -> str:
    """Return the name of a class in files: in the table, as registered, or its location "package.module:Class"."""
    name = network.__name__
    if name in MODELS and model_class(name) is network:
        return name
    registered = (known for known, other in _REGISTERED.items() if other is network)
    return next(registered, _location(network))


def _location(network: type[nn.Module]) -> str:
    return f"{network.__module__}:{network.__qualname__}"


def arguments_of(model: nn.Module) -> dict[str, Any] | None:
    """Return the recorded constructor arguments of a network, or None if there are none."""
    found: Any = getattr(model, "arguments", None)
    return dict(found) if isinstance(found, Mapping) and all(isinstance(name, str) for name in found) else None


def model_class(name: str) -> type[nn.Module]:
    """Return the class of networks with a given name, in the table or registered; nothing else is imported.

    Raises
    ------
    InputError
        If there is none.
    """
    if name in _REGISTERED:
        return _REGISTERED[name]
    if name in MODELS:
        module, _, attribute = MODELS[name].partition(":")
        network: type[nn.Module] = getattr(importlib.import_module(module), attribute)
        return network
    if ":" in name:
        raise InputError(
            f"the network {printable(name)[:100]} is not registered, and a file never decides which module is "
            "imported; give its class (network=CNN, --class), or register it first: sb.data.register_model(CNN)."
        )
    choices = [*MODELS, *_REGISTERED]
    close = difflib.get_close_matches(name, choices, 1, 0.4)
    hint = f"did you mean {close[0]}?" if close else f"the choices are {', '.join(choices)}, or package.module:Class."
    raise InputError(f"unknown network {printable(name)[:60]!r}; {hint}")


def current_architecture(name: Any, arguments: Any) -> tuple[Any, Any]:
    """Return class and arguments of a network on a card in the words of this version; unknown ones are unchanged."""
    if name != "MgNO" or not isinstance(arguments, Mapping):
        return name, arguments
    kept = {key: value for key, value in arguments.items() if key not in _MOVED_ARGUMENTS}
    plain = all(arguments.get(key, value) == value for key, value in _MOVED_ARGUMENTS.items())
    return ("MgNO", kept) if plain else ("PublishedMgNO", arguments)


def import_class(location: str, what: str) -> type[nn.Module]:
    """Import a class of networks that the user has named as "package.module:Class".

    Raises
    ------
    InputError
        If it cannot be imported, or is not a class of networks.
    """
    network = import_named(location, what)
    require_class(network, f"{what} {location}")
    found: type[nn.Module] = network
    return found


def construct(network: type[nn.Module], arguments: object, where: str) -> nn.Module:
    """Construct a network from its class and arguments, and record the arguments in its attribute `arguments`.

    Raises
    ------
    InputError
        If the class rejects the arguments.
    """
    name = network.__name__
    if not isinstance(arguments, Mapping) or not all(isinstance(key, str) for key in arguments):
        raise InputError(
            f"{where} has no arguments for {name}, a mapping from names to values; give the network itself: "
            f"load_model(path, network={name}(...))."
        )
    try:
        model = network(**arguments)
    except (TypeError, ValueError, RuntimeError, OverflowError, MemoryError) as error:
        raise InputError(f"{where} has invalid arguments for {name}: {printable(str(error))[:300]}") from None
    if not hasattr(model, "arguments"):
        recorded: Any = dict(arguments)
        model.arguments = recorded
    return model
