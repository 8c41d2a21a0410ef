import numpy as np
import pytest

from sciml_bounds.recipes._registry import find_recipe, recipe_names
from sciml_bounds.store.formats.physical_numbers import physical_numbers


def test_single_finite_numbers_with_names_are_taken():
    parameters = {"nu": 1e-3, "modes": 12, "periodic": True, "text": "1", "list": [1.0], "bad name": 1.0}
    parameters |= {"infinite": np.inf, "large": 1e39, "none": None, "nan": np.nan}
    assert physical_numbers(parameters) == {"nu": 1e-3, "modes": 12.0}


@pytest.mark.parametrize("name", [name for name in recipe_names() if name != "pipe"])
def test_no_number_of_a_recipe_that_says_how_it_was_computed_is_taken(name):
    recipe = find_recipe(name)
    physical = {"source", "coefficient", "tau", "alpha", "amplitude", "scales", "frequency", "viscosity"}
    assert physical_numbers(recipe.parameters(recipe.resolution)).keys() <= physical


def test_names_that_mean_something_else_are_left_out():
    assert (
        physical_numbers(
            {"seed": 3, "resolution": 8, "rtol": 1e-8, "cfl": 1.2, "tolerance": 1e-10, "n_spatial_dims": 2}
        )
        == {}
    )
