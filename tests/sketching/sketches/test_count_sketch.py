"""CountSketch: one sign a row."""

from __future__ import annotations

import torch

from sciml_bounds.sketching._sketches.count_sketch import CountSketch


def test_columns_are_drawn_uniformly():
    """Of 9 * 2000 rows each of 4 sums has a quarter, with a standard deviation below sqrt(18000 * 3 / 16) = 59."""
    eye = torch.eye(9, dtype=torch.float64)
    drawn, _ = CountSketch(4).draw(eye, eye[0], 2000, torch.Generator().manual_seed(0))
    assert bool(((drawn.abs().sum((0, 2)) - 4500).abs() < 5 * 59).all())
