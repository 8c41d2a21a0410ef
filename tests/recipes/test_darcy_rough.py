from __future__ import annotations

import numpy as np

from sciml_bounds.recipes._recipe import sample_rng
from sciml_bounds.recipes._registry import find_recipe


def test_the_cells_halve_to_the_grid_of_training():
    recipe = find_recipe("darcy-rough")
    assert (recipe.resolution, recipe.samples * 8 // 10) == (512, 1280)


def test_the_patches_are_smaller_than_those_of_the_smooth_set():
    """Counted by the faces between the two phases."""

    def borders(name):
        fields = find_recipe(name).draw([sample_rng(0, i) for i in range(20)], 64)
        return np.count_nonzero(np.diff(fields, axis=1)) + np.count_nonzero(np.diff(fields, axis=2))

    assert borders("darcy-rough") > 1.2 * borders("darcy-smooth")
