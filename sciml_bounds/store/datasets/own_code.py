"""Objects of a user's own modules, named on the command line or in a training recipe as `package.module:Name`.

Importing a module runs its code, so only the user may name one: never a file of data or weights.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from sciml_bounds.errors import InputError

__all__ = ["import_named"]


def import_named(location: str, what: str) -> Any:
    """Import an object given as `package.module:Name`.

    Modules in the current folder are found too, after all installed ones.

    Parameters
    ----------
    location : str
        Module and name, separated by a colon.
    what : str
        What the object is for, for messages.

    Raises
    ------
    InputError
        If the module cannot be imported, or does not have the name.
    """
    module, colon, name = location.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise InputError(f"{what} {location!r} must have the form package.module:Name.")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # last, so that it hides no installed module
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        why = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"{what} {location}: the module {module} cannot be imported ({type(error).__name__}: {why.rstrip('.')}); "
            "install it, or run the command in its folder."
        ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise InputError(f"{what} {location}: {module} has no {name}; give a name that it defines.")
        found = getattr(found, part)
    return found
