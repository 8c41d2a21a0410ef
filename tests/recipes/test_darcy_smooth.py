from __future__ import annotations

import numpy as np
import pytest

from sciml_bounds.recipes._recipe import sample_rng
from sciml_bounds.recipes._registry import find_recipe

#: Name, large and small coefficient, tau: mgno.md 4.1 in numbers.
TWO_PHASE = [("darcy-smooth", 12.0, 3.0, 3.0), ("darcy-rough", 12.0, 2.0, 5.0)]
SETS = pytest.mark.parametrize(("name", "high", "low", "tau"), TWO_PHASE, ids=[case[0] for case in TWO_PHASE])


def draw(name, resolution, count=1):
    return find_recipe(name).draw([sample_rng(0, i) for i in range(count)], resolution)


def test_the_published_nodes_are_those_of_420_cells():
    recipe = find_recipe("darcy-smooth")
    assert len(recipe.coordinates(recipe.resolution)["x_node"][0]) == 421
    assert recipe.samples * 8 // 10 == 1000


@SETS
def test_the_coefficient_has_the_two_published_values(name, high, low, tau):
    fields = draw(name, 32, 20)
    assert set(np.unique(fields)) == {low, high}
    # of 400 symmetric fields, with a standard deviation of at most a half each; five of that of their mean
    assert np.mean(draw(name, 8, 400) == high) == pytest.approx(0.5, abs=5 * 0.5 / 20)
    parameters = find_recipe(name).parameters(32)
    assert (parameters["tau"], parameters["alpha"], parameters["source"]) == (tau, 2.0, 1.0)


@SETS
def test_the_phases_are_the_signs_of_the_series(name, high, low, tau):
    """Summed mode by mode at one cell, from the random numbers in the order of their wavenumbers."""
    n, cell = 6, (1, 4)
    k = sorted(np.ndindex(n, n), key=lambda pair: (max(pair), pair))
    xi = sample_rng(0, 0).standard_normal(n * n)
    x, y = ((i + 0.5) / n for i in cell)
    terms = [
        number * tau * 2 ** ((p > 0) / 2 + (q > 0) / 2) * np.cos(np.pi * p * x) * np.cos(np.pi * q * y)
        / (np.pi**2 * (p**2 + q**2) + tau**2)
        for number, (p, q) in zip(xi, k) if (p, q) != (0, 0)
    ]  # fmt: skip
    assert draw(name, n)[0][cell] == (high if sum(terms) >= 0 else low)


@SETS
def test_a_finer_grid_shows_the_same_medium(name, high, low, tau):
    """The middle cell of three by three has the same centre; only modes that the coarse grid lacks move the border."""
    coarse, fine = draw(name, 48, 4), draw(name, 144, 4)
    assert np.mean(coarse != fine[:, 1::3, 1::3]) < 0.02
