import numpy as np

from sciml_bounds.store.physical_numbers import physical_numbers


def test_single_finite_numbers_with_names_are_taken():
    parameters = {"nu": 1e-3, "modes": 12, "periodic": True, "text": "1", "list": [1.0], "bad name": 1.0}
    parameters |= {"infinite": np.inf, "large": 1e39, "none": None, "nan": np.nan}
    assert physical_numbers(parameters) == {"nu": 1e-3, "modes": 12.0}


def test_names_that_mean_something_else_are_left_out():
    assert physical_numbers({"seed": 3, "resolution": 8, "rtol": 1e-8, "n_spatial_dims": 2}) == {}
