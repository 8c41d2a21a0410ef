"""Recipes by name; a recipe is imported when it is first used."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import cast

from sciml_bounds.errors import InputError
from sciml_bounds.recipes._recipe import Recipe
from sciml_bounds.store.datasets.own_code import import_named

__all__ = ["as_recipe", "find_recipe", "is_known_everywhere", "recipe_names", "register_recipe"]

#: Location of each recipe. Strings, not imports, because some recipes depend on packages that import this one.
_LOCATIONS = {
    "darcy-smooth": "recipes.darcy_smooth:DARCY_SMOOTH",
    "darcy-rough": "recipes.darcy_rough:DARCY_ROUGH",
    "darcy-multiscale": "recipes.darcy_multiscale:DARCY_MULTISCALE",
    "poisson": "recipes.poisson:POISSON",
    "ritz-poisson-2d": "recipes.ritz_poisson:RITZ_POISSON_2D",
    "ritz-poisson-3d": "recipes.ritz_poisson:RITZ_POISSON_3D",
    "pressure-2d": "recipes.pressure:PRESSURE_2D",
    "pressure-3d": "recipes.pressure:PRESSURE_3D",
    "helmholtz": "recipes.helmholtz:HELMHOLTZ",
    "helmholtz-converged": "recipes.helmholtz:HELMHOLTZ_CONVERGED",
    "navier-stokes-1e-3": "recipes.navier_stokes:NAVIER_STOKES_1E3",
    "navier-stokes-1e-4": "recipes.navier_stokes:NAVIER_STOKES_1E4",
    "navier-stokes-1e-5": "recipes.navier_stokes:NAVIER_STOKES_1E5",
    "pipe": "fem._pipe_flow:PIPE",
}


#: Recipes that this process has registered, by name.
_REGISTERED: dict[str, Recipe] = {}
#: Group of entry points by which an installed package offers recipes.
ENTRY_POINTS = "sciml_bounds.recipes"


def register_recipe[Registered: Recipe | type[Recipe]](recipe: Registered) -> Registered:
    """Register a recipe, so that `make_dataset` finds it by its name in this process.

    Use it as a decorator of a class that is constructed without arguments, or call it with a recipe. An installed
    package offers its recipes to every process by entry points of the group "sciml_bounds.recipes", and
    `make_dataset` and the command line also take `package.module:NAME`.

    Parameters
    ----------
    recipe : Recipe or type
        The recipe, or its class.

    Returns
    -------
    Recipe or type
        The argument.

    Raises
    ------
    InputError
        If it is not a recipe, or a recipe of this package has its name.

    Examples
    --------
    >>> import numpy as np
    >>> import sciml_bounds as sb
    >>> @sb.data.register_recipe
    ... class Uniform(sb.data.DiffusionRecipe):
    ...     name, title, reference = "uniform", "Darcy flow, independent cells", "this page"
    ...     description = "The resolution is the number of cells per axis."
    ...     resolution, samples, inputs = 16, 100, ("coefficient",)
    ...
    ...     def draw(self, sources, resolution):
    ...         return np.stack([rng.uniform(1.0, 2.0, (resolution, resolution)) for rng in sources])
    ...
    ...     def drawing(self):
    ...         return {"uniform in": [1.0, 2.0]}
    >>> "uniform" in sb.data.recipe_names()
    True
    """
    found = as_recipe(recipe, "register_recipe")
    if found.name in _LOCATIONS:
        raise InputError(f"a recipe of this package is named {found.name!r}; choose another name.")
    _REGISTERED[found.name] = found
    return recipe


def recipe_names() -> tuple[str, ...]:
    """Return the names of all recipes: of this package, of installed packages, and registered ones.

    Examples
    --------
    >>> "darcy-rough" in recipe_names()
    True
    """
    return tuple(dict.fromkeys((*_LOCATIONS, *_offered(), *_REGISTERED)))


def is_known_everywhere(name: str) -> bool:
    """Return whether a new process finds a recipe by this name."""
    return name not in _REGISTERED


def find_recipe(name: str) -> Recipe:
    """Return the recipe with a given name or location "package.module:NAME".

    Raises
    ------
    InputError
        If it does not exist; the message lists the names.
    MissingExtraError
        If the recipe needs a package that is not installed.
    """
    from sciml_bounds.arrays import require_choice  # loads torch, which the list of names does without

    if isinstance(name, str) and ":" in name:
        return as_recipe(import_named(name, "the recipe"), name)
    require_choice(name, "recipe", recipe_names())
    if name in _REGISTERED:
        return _REGISTERED[name]
    if name in _LOCATIONS:
        module, attribute = _LOCATIONS[name].split(":")
        return cast(Recipe, getattr(importlib.import_module(f"sciml_bounds.{module}"), attribute))
    return as_recipe(import_named(_offered()[name], f"the recipe {name!r} of an installed package,"), name)


def as_recipe(found: object, what: str) -> Recipe:
    """Return a recipe, given itself or its class.

    Raises
    ------
    InputError
        If it is anything else, or the class needs arguments.
    """
    if isinstance(found, type) and issubclass(found, Recipe):
        try:
            return found()
        except TypeError as error:
            raise InputError(f"{what}: {found.__name__} cannot be constructed without arguments ({error}).") from None
    if not isinstance(found, Recipe):
        raise InputError(f"{what} must be an sb.data.Recipe or a subclass of it, not a {type(found).__name__}.")
    return found


def _offered() -> dict[str, str]:
    """Return the locations of the recipes of installed packages, by name."""
    return {point.name: point.value for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}
