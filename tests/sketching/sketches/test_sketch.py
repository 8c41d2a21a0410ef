"""Properties of all sketches: E[S S^T] = I, and the results for A and b."""

from __future__ import annotations

import pytest
import torch
from refusals import refusals

from sciml_bounds.sketching._sketches.count_sketch import CountSketch
from sciml_bounds.sketching._sketches.gaussian_block import GaussianBlock
from sciml_bounds.sketching._sketches.row_block import RowBlock
from sciml_bounds.sketching._sketches.rows import Rows
from sciml_bounds.sketching._sketches.sparse_sign import SparseSign
from sciml_bounds.sketching._sketches.srht import SRHT

DRAWS = 20_000

#: Every sketch whose lengths are right on average; one with as many columns as there are rows too.
ISOTROPIC = {
    "count sketch": CountSketch(3),
    "sparse sign": SparseSign(4, 3),
    "dense sign": SparseSign(7, 7),
    "srht": SRHT(3),
    "srht of all rows": SRHT(7),
}


@pytest.mark.parametrize("name", ISOTROPIC)
def test_sketches_are_isotropic(name):
    """E[S S^T] = I, by a mean over draws of S^T I.

    On its diagonal S S^T is one, and elsewhere the mean square of an entry is at most one, so that the mean has a
    standard deviation of at most 1 / sqrt(20,000) = 0.0071.
    """
    eye = torch.eye(7, dtype=torch.float64)
    drawn, _ = ISOTROPIC[name].draw(eye, eye[0], DRAWS, torch.Generator().manual_seed(0))
    assert drawn.shape == (DRAWS, ISOTROPIC[name].size, 7)
    torch.testing.assert_close((drawn.mT @ drawn).mean(0), eye, rtol=0, atol=5 * 0.0071)


@pytest.mark.parametrize("name", ISOTROPIC)
def test_right_hand_sides_are_sketched_with_their_matrix(name):
    """By the column of A that b is."""
    A = torch.randn((7, 5), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    rows, values = ISOTROPIC[name].draw(A, A[:, 2], 11, torch.Generator().manual_seed(0))
    torch.testing.assert_close(values, rows[..., 2], rtol=0, atol=1e-14)
    rows, values = ISOTROPIC[name].draw(A[:2].float(), A[:2, 0].float(), 3, torch.Generator().manual_seed(0))
    assert (rows.shape, values.shape, rows.dtype) == ((3, 2, 5), (3, 2), torch.float32)  # no larger than the system


@pytest.mark.parametrize("kind", [CountSketch, SparseSign, SRHT])
def test_one_column_makes_a_rate_of_one_dimension(kind):
    """A projection on one row has trace one, and so has the mean: gamma is at most 1 / N."""
    eye = torch.eye(3, dtype=torch.float64)
    sketch = kind(1, 1) if kind is SparseSign else kind(1)
    rate = sketch.expected_rate(eye)
    assert rate.kind == "estimate"
    assert 0.3 < rate.gamma <= 1 / 3 + 1e-12


test_sizes_and_weights_that_do_not_fit_are_refused = refusals(
    ("size 0", lambda: CountSketch(0)),
    ("size 0", lambda: GaussianBlock(0)),
    ("size 0", lambda: RowBlock(0)),
    ("size 0", lambda: SRHT(0)),
    ("nonzeros=9 row size=8", lambda: SparseSign(8, 9)),
    ("nonzeros 0", lambda: SparseSign(8, 0)),
    ("weights 'squares'", lambda: Rows("squares")),
)
