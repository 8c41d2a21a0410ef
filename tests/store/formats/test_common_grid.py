from __future__ import annotations

import numpy as np
import pytest
from refusals import refused

from sciml_bounds.store.formats.common_grid import as_float32, average_to_cells


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_multilinear_functions_are_met_exactly_at_the_centres(dim):
    rng = np.random.default_rng(dim)
    nodes = [np.sort(rng.random(n)) for n in (4, 5, 3)[:dim]]
    factors = rng.standard_normal((2, dim))

    def function(positions: list[np.ndarray]) -> np.ndarray:
        mesh = np.meshgrid(*positions, indexing="ij")
        return np.prod([a + b * x for a, b, x in zip(*factors, mesh)], axis=0)

    centres = [(points[1:] + points[:-1]) / 2 for points in nodes]
    batch = np.stack([function(nodes), 2 * function(nodes)])
    averaged = average_to_cells(batch, dim)
    np.testing.assert_allclose(averaged, np.stack([function(centres), 2 * function(centres)]), rtol=1e-12)


def test_what_single_precision_has_no_number_for():
    np.testing.assert_array_equal(as_float32(np.array([1 / 3]), "a"), np.float32([1 / 3]))
    for value in (np.nan, -np.inf, 1e39):
        refused("'a' values finite float32", as_float32, np.array([1.0, value]), "a")
