"""Sparse signs: as many a row as asked, one in each band, and lengths of a subspace that are kept."""

from __future__ import annotations

import itertools

import pytest
import torch

from sciml_bounds.sketching._sketches.sparse_sign import SparseSign


@pytest.mark.parametrize(("size", "nonzeros"), [(8, 4), (7, 3), (5, 5), (6, 1)])
def test_every_row_has_one_sign_in_each_band(size, nonzeros):
    eye = torch.eye(11, dtype=torch.float64)
    drawn, _ = SparseSign(size, nonzeros).draw(eye, eye[0], 40, torch.Generator().manual_seed(0))
    edges = [k * size // nonzeros for k in range(nonzeros + 1)]
    for low, high in itertools.pairwise(edges):
        band = drawn[:, low:high].abs()
        assert float((band.amax(1) - nonzeros**-0.5).abs().max()) < 1e-15
        assert bool(((band != 0).sum(1) == 1).all())


def test_lengths_in_a_subspace_are_kept():
    """For a basis that lives on a few rows too, where samples of rows fail.

    With q = 8 N columns singular values of S^T U lie between 1 - e and 1 + e, e about sqrt(N / q) = 0.35 (Martinsson
    and Tropp, 2020, section 9.2); half as much again is allowed for.
    """
    generator = torch.Generator().manual_seed(0)
    spread, _ = torch.linalg.qr(torch.randn((2000, 20), generator=generator, dtype=torch.float64))
    narrow = torch.zeros_like(spread)
    narrow[torch.arange(20) * 7, torch.arange(20)] = 1.0
    for basis in (spread, narrow):
        drawn, _ = SparseSign(160, 8).draw(basis, basis[:, 0], 5, generator)
        sizes = torch.linalg.svdvals(drawn)
        assert float(sizes.min()) > 1 - 0.53
        assert float(sizes.max()) < 1 + 0.53
