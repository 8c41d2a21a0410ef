from __future__ import annotations

import math

import numpy as np
import pytest

from sciml_bounds.recipes._recipe import sample_rng
from sciml_bounds.recipes._registry import find_recipe
from sciml_bounds.recipes.darcy_multiscale import trigonometric_coefficient


def draw(resolution, count=1):
    return find_recipe("darcy-multiscale").draw([sample_rng(0, i) for i in range(count)], resolution)


def test_the_interior_nodes_are_the_published_1023():
    recipe = find_recipe("darcy-multiscale")
    assert len(recipe.coordinates(recipe.resolution)["x_node"][0]) - 2 == 1023


@pytest.mark.parametrize("cell", [(0, 0), (3, 7), (9, 2)])
def test_cells_have_the_value_of_the_formula_at_their_centre(cell):
    scales = sample_rng(0, 0).uniform(1.0, 1.5, 6)
    x, y = ((i + 0.5) / 10 for i in cell)
    expected = 1.0
    for k in range(1, 7):
        a = scales[k - 1] * 2 ** (k - 1)
        expected *= (1 + 0.5 * math.cos(a * math.pi * (x + y))) * (1 + 0.5 * math.sin(a * math.pi * (y - 3 * x)))
    assert draw(10)[0][cell] == pytest.approx(expected, rel=1e-13)


def test_every_scale_doubles_the_frequency():
    """One scale alone: the frequency of the first is between 1 and 1.5, and shows along the line y = 3 x."""
    x = np.linspace(0, 1, 2001)
    for a in (1.0, 2.0, 48.0):
        along = trigonometric_coefficient(np.array([[a]]), x / 4, 3 * x / 4)[0]  # x + y runs from 0 to 1
        np.testing.assert_allclose(along, 1 + 0.5 * np.cos(a * np.pi * x), rtol=1e-12)


def test_the_coefficient_stays_between_its_bounds():
    fields = draw(64, 4)
    assert fields.min() > 0.5**12
    assert fields.max() < 1.5**12
    assert fields.max() / fields.min() > 50


def test_a_finer_grid_shows_the_same_medium():
    np.testing.assert_allclose(draw(8), draw(24)[:, 1::3, 1::3], rtol=1e-12)
