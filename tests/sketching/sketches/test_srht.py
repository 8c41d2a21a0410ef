"""The subsampled Walsh-Hadamard transform: the transform, and rows that it mixes."""

from __future__ import annotations

import pytest
import scipy.linalg
import torch

from sciml_bounds.sketching._sketches import srht
from sciml_bounds.sketching._sketches.srht import SRHT, mixed_rows, walsh_hadamard


@pytest.mark.parametrize("rows", [1, 2, 8, 64])
def test_the_transform_is_that_of_the_matrix(rows):
    """Against scipy's matrix; log2(M) additions of numbers of size one leave a few round-offs."""
    x = torch.randn((3, rows, 5), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    H = torch.from_numpy(scipy.linalg.hadamard(rows)).double() / rows**0.5
    torch.testing.assert_close(walsh_hadamard(x), H @ x, rtol=0, atol=1e-14)


def test_mixed_rows_are_a_rotation_of_all_rows():
    A = torch.randn((11, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mixed = mixed_rows(A, 4, torch.Generator().manual_seed(1))
    assert mixed.shape == (4, 16, 3)
    torch.testing.assert_close(mixed.mT @ mixed, (A.T @ A).expand(4, 3, 3), rtol=0, atol=1e-13)


def test_sketches_that_do_not_fit_into_memory_at_once_are_drawn_in_parts(monkeypatch):
    A = torch.randn((8, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    monkeypatch.setattr(srht, "CHUNK_ENTRIES", 128)  # two of eight rows with four columns at a time
    rows, values = SRHT(2).draw(A, A[:, 0], 7, torch.Generator().manual_seed(0))
    assert (rows.shape, values.shape) == ((7, 2, 3), (7, 2))
    torch.testing.assert_close(rows[..., 0], values)
