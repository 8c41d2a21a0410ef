"""CountSketch: one sign a row."""

from __future__ import annotations

import torch
from refusals import refused

from sciml_bounds.sketching._sketches.count_sketch import CountSketch


def test_every_row_is_in_one_sum_with_a_sign():
    eye = torch.eye(9, dtype=torch.float64)
    drawn, _ = CountSketch(4).draw(eye, eye[0], 50, torch.Generator().manual_seed(0))
    assert torch.equal(drawn.abs().sum(1), torch.ones((50, 9), dtype=torch.float64))
    assert set(drawn.unique().tolist()) == {-1.0, 0.0, 1.0}


def test_columns_are_drawn_uniformly():
    """Of 9 * 2000 rows each of 4 sums has a quarter, with a standard deviation below sqrt(18000 * 3 / 16) = 59."""
    eye = torch.eye(9, dtype=torch.float64)
    drawn, _ = CountSketch(4).draw(eye, eye[0], 2000, torch.Generator().manual_seed(0))
    assert bool(((drawn.abs().sum((0, 2)) - 4500).abs() < 5 * 59).all())


def test_a_size_of_zero_is_refused():
    refused("size 0", CountSketch, 0)
