"""The contract that every recipe keeps, one test a clause; a new one is entered in RESOLUTIONS and inherits them."""

from __future__ import annotations

import functools
import json
import re

import numpy as np
import pytest
import torch
from refusals import refused

from sciml_bounds.errors import MissingExtraError
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
#: How inputs and targets may lie relative to each other.
LAYOUTS = {"cells->nodes", "cells->cells", "nodes->nodes", "time"}

#: Recipes that need an extra, or more than two seconds.
MARKS = {"pipe": [pytest.mark.fem, pytest.mark.slow], "helmholtz-converged": [pytest.mark.slow]}

CPU = torch.device("cpu")
EVERY = pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS.get(name, [])) for name in RESOLUTIONS])


def found(name: str) -> Recipe:
    try:
        return find_recipe(name)
    except MissingExtraError as error:
        pytest.skip(str(error))


@functools.cache
def generated(name: str, seed: int = 3, first: int = 0, count: int = 2) -> dict[str, np.ndarray]:
    before = global_random_state()
    data = found(name).generate(seed, first, count, RESOLUTIONS[name], CPU)
    assert global_random_state() == before, "a recipe draws from its own generators only"
    return data


def global_random_state() -> tuple[bytes, bytes]:
    return torch.get_rng_state().numpy().tobytes(), np.random.get_state()[1].tobytes()  # noqa: NPY002 - looked at only


def test_every_recipe_keeps_the_contract():
    assert tuple(RESOLUTIONS) == recipe_names()


@EVERY
def test_it_says_what_it_is(name):
    recipe = found(name)
    assert recipe.name == name
    assert all(len(words) > 3 for words in (recipe.title, recipe.description, recipe.reference))
    assert re.search("[Tt]he resolution (is|counts)|stored (one|grid)", recipe.description), (
        "says what the resolution counts"
    )
    assert recipe.samples >= 100
    assert recipe.layout in LAYOUTS
    recipe.check(recipe.resolution)
    recipe.check(RESOLUTIONS[name])


@EVERY
def test_inputs_and_targets_are_variables(name):
    recipe = found(name)
    variables = recipe.variables(recipe.resolution)
    assert recipe.inputs
    assert recipe.targets
    assert {*recipe.inputs, *recipe.targets} <= set(variables)
    assert all(variable.long_name and variable.units for variable in variables.values())


@EVERY
def test_coordinates_ascend_and_are_axes_of_variables(name):
    recipe = found(name)
    for resolution in (RESOLUTIONS[name], recipe.resolution):
        dims = {dim for variable in recipe.variables(resolution).values() for dim in variable.dims}
        for axis, (positions, units) in recipe.coordinates(resolution).items():
            assert axis in dims
            assert units
            assert positions.ndim == 1
            assert (np.diff(positions) > 0).all()


@EVERY
def test_arrays_are_what_the_variables_say(name):
    recipe, data = found(name), generated(name)
    variables = recipe.variables(RESOLUTIONS[name])
    lengths = {axis: len(positions) for axis, (positions, _) in recipe.coordinates(RESOLUTIONS[name]).items()}
    assert list(data) == list(variables)
    for key, variable in variables.items():
        assert data[key].dtype == np.dtype(variable.dtype)
        assert data[key].ndim == 1 + len(variable.dims)
        assert len(data[key]) == 2
        for dim, length in zip(variable.dims, data[key].shape[1:]):
            assert lengths.setdefault(dim, length) == length, (key, dim)
        assert np.isfinite(data[key]).all()


@EVERY
def test_parameters_survive_being_written_as_text(name):
    recipe = found(name)
    for resolution in (RESOLUTIONS[name], recipe.resolution):
        parameters = recipe.parameters(resolution)
        assert parameters
        assert json.loads(json.dumps(parameters)) == parameters


@EVERY
def test_chunks_have_a_size(name):
    recipe = found(name)
    for resolution in (RESOLUTIONS[name], recipe.resolution):
        assert recipe.chunk(resolution) == int(recipe.chunk(resolution)) >= 1


@EVERY
@pytest.mark.parametrize("sample", [0, 1])
def test_the_same_seed_and_index_give_the_same_bits_in_any_piece(name, sample):
    piece = generated(name, 3, sample, 1)
    for key, values in generated(name).items():
        assert piece[key].tobytes() == values[sample : sample + 1].tobytes(), key


@EVERY
def test_other_samples_and_other_seeds_are_different(name):
    here, there = generated(name), generated(name, 4, 0, 1)
    for names in (found(name).inputs, found(name).targets):
        assert any((here[key][0] != here[key][1]).any() for key in names)
        assert any((here[key][0] != there[key][0]).any() for key in names)


@pytest.mark.parametrize("name", ZERO_ON_THE_BOUNDARY)
def test_boundary_values_are_exact(name):
    values = generated(name)["solution"]
    inner = np.pad(np.ones_like(values[0, 1:-1, 1:-1], dtype=bool), 1)
    assert not values[:, ~inner].any()
    assert values[:, inner].all()


@EVERY
def test_what_is_no_resolution_is_refused_in_one_sentence(name):
    for resolution in (0, -4, 2.5, "64", True, None):
        refused(f"{name} resolution {resolution!r}", found(name).check, resolution)
