"""The contract that every recipe keeps, one test a clause; a new one is entered in RESOLUTIONS and inherits them."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest
from refusals import refused

from sciml_bounds.errors import MissingExtraError
from sciml_bounds.recipes._contract import CLAUSES, RecipeTrial
from sciml_bounds.recipes._recipe import Recipe
from sciml_bounds.recipes._registry import find_recipe, recipe_names

#: A small resolution of each recipe, at which a sample takes no time worth speaking of.
RESOLUTIONS = {
    "darcy-smooth": 12,
    "darcy-rough": 12,
    "darcy-multiscale": 12,
    "poisson": 12,
    "ritz-poisson-2d": 8,
    "ritz-poisson-3d": 4,
    "pressure-2d": 12,
    "pressure-3d": 8,
    "helmholtz": 10,
    "helmholtz-converged": 10,
    "navier-stokes-1e-3": 8,
    "navier-stokes-1e-4": 8,
    "navier-stokes-1e-5": 8,
    "pipe": 32,
}
#: Recipes whose solution is zero on the boundary.
ZERO_ON_THE_BOUNDARY = ("darcy-smooth", "darcy-rough", "darcy-multiscale", "poisson")

#: Recipes that need an extra, or more than two seconds.
MARKS = {"pipe": [pytest.mark.fem, pytest.mark.slow], "helmholtz-converged": [pytest.mark.slow]}

EVERY = pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS.get(name, [])) for name in RESOLUTIONS])


def found(name: str) -> Recipe:
    try:
        return find_recipe(name)
    except MissingExtraError as error:
        pytest.skip(str(error))


@functools.cache
def trial(name: str) -> RecipeTrial:
    return RecipeTrial(found(name), RESOLUTIONS[name])


def test_every_recipe_keeps_the_contract():
    assert tuple(RESOLUTIONS) == recipe_names()


@EVERY
@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.__name__)
def test_the_contract(name, clause):
    clause(trial(name))


@EVERY
def test_it_says_what_its_resolution_counts(name):
    recipe = found(name)
    assert re.search("[Tt]he resolution (is|counts)|stored (one|grid)", recipe.description)
    assert recipe.samples >= 100
    for resolution in (0, -4, 2.5, "64", True, None):
        refused(f"{name} resolution {resolution!r}", recipe.check, resolution)


@pytest.mark.parametrize("name", ZERO_ON_THE_BOUNDARY)
def test_boundary_values_are_exact(name):
    values = trial(name).samples["solution"]
    inner = np.pad(np.ones_like(values[0, 1:-1, 1:-1], dtype=bool), 1)
    assert not values[:, ~inner].any()
    assert values[:, inner].all()
