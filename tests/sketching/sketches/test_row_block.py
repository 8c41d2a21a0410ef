"""Blocks of rows: a partition, and the rate of its mean projection."""

from __future__ import annotations

import pytest
import torch

from sciml_bounds.sketching._sketches.row_block import RowBlock
from sciml_bounds.sketching._sketches.rows import Rows

#: Symmetric and indefinite, as a KKT matrix; condition number about 5.
A = torch.tensor([[2.0, 0.5, 1.0], [0.5, 1.0, -1.0], [1.0, -1.0, 0.0]], dtype=torch.float64)


def test_every_row_is_in_one_block():
    for n in (1, 5, 7, 16):
        for size in (1, 2, 3, 20):
            blocks = RowBlock(size)._blocks(n)
            assert blocks.shape[1] <= size
            assert sorted(set(blocks.reshape(-1).tolist())) == list(range(n))


def test_rates_of_blocks_of_one_row_and_of_all_rows_are_known():
    assert RowBlock(1).expected_rate(A).gamma == pytest.approx(Rows().expected_rate(A).gamma, rel=1e-12)
    assert RowBlock(3).expected_rate(A).gamma == pytest.approx(1.0, rel=1e-12)
