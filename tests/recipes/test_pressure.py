"""Right-hand sides of the pressure among random bodies: balanced, of norm one, and on fluid only."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from sciml_bounds.krylov._multigrid_shaped import AIR, FLUID, SOLID
from sciml_bounds.recipes._registry import find_recipe

CPU = torch.device("cpu")


@pytest.mark.parametrize(("dim", "n"), [(2, 16), (3, 12)])
def test_samples_are_what_the_description_says(dim, n):
    data = find_recipe(f"pressure-{dim}d").generate(0, 0, 60, n, CPU)
    open_sides = sparse = 0
    for rhs, geometry in zip(data["rhs"].astype(float), data["geometry"]):
        fluid = geometry == FLUID
        assert set(np.unique(geometry)) <= {SOLID, FLUID, AIR}
        assert fluid.mean() >= 0.2
        assert not rhs[~fluid].any()
        assert np.linalg.norm(rhs) == pytest.approx(1.0, abs=1e-6)  # kept in single precision
        parts, count = ndimage.label(fluid)
        beside = ndimage.binary_dilation(geometry == AIR)
        for part in range(1, count + 1):
            inside = parts == part
            assert (beside & inside).any() or abs(rhs[inside].sum()) < 1e-6 * inside.sum() ** 0.5
        open_sides += sum((geometry.take(end, axis) == AIR).all() for axis in range(dim) for end in (0, -1))
        sparse += np.unique(rhs[fluid]).size < 0.3 * fluid.sum()
    # binomial: 60 * 2 dim sides with probability 1/4, and 60 samples with 2/5, each within four deviations
    assert abs(open_sides - 30 * dim) < 4 * (60 * 2 * dim * 3 / 16) ** 0.5
    assert abs(sparse - 24) < 4 * (60 * 0.24) ** 0.5


def test_a_sample_does_not_depend_on_those_beside_it():
    recipe = find_recipe("pressure-2d")
    some, one = recipe.generate(3, 0, 6, 16, CPU), recipe.generate(3, 4, 1, 16, CPU)
    for name in ("rhs", "geometry"):
        assert (some[name][4] == one[name][0]).all()
