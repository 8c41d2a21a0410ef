"""Recipes by name; a recipe is imported when it is first used."""

from __future__ import annotations

import importlib
from typing import cast

from sciml_bounds.recipes._recipe import Recipe

__all__ = ["find_recipe", "recipe_names"]

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


def recipe_names() -> tuple[str, ...]:
    """Return the names of all recipes.

    Examples
    --------
    >>> "darcy-rough" in recipe_names()
    True
    """
    return tuple(_LOCATIONS)


def find_recipe(name: str) -> Recipe:
    """Return the recipe with a given name.

    Raises
    ------
    InputError
        If it does not exist; the message lists the names.
    MissingExtraError
        If the recipe needs a package that is not installed.
    """
    from sciml_bounds.arrays import require_choice  # loads torch, which the list of names does without

    module, attribute = _LOCATIONS[require_choice(name, "recipe", _LOCATIONS)].split(":")
    return cast(Recipe, getattr(importlib.import_module(f"sciml_bounds.{module}"), attribute))
