"""Gaussian blocks: the estimate of their rate between what is known."""

from __future__ import annotations

import pytest
import torch

from sciml_bounds.sketching._sketches.gaussian_block import GaussianBlock
from sciml_bounds.sketching._sketches.gaussian_vector import GaussianVector

#: Symmetric and indefinite, as a KKT matrix; condition number about 5.
A = torch.tensor([[2.0, 0.5, 1.0], [0.5, 1.0, -1.0], [1.0, -1.0, 0.0]], dtype=torch.float64)


def test_blocks_of_one_vector_are_vectors():
    """Over 4,000 draws, whose mean has a standard deviation of at most 1 / sqrt(4 * 4000) = 0.008."""
    exact = GaussianVector().expected_rate(A)
    estimate = GaussianBlock(1).expected_rate(A)
    assert (exact.kind, estimate.kind) == ("bound", "estimate")
    assert estimate.gamma == pytest.approx(exact.gamma, abs=0.03)


def test_larger_blocks_are_faster_up_to_a_solve_in_one_step():
    rates = [GaussianBlock(size).expected_rate(A).gamma for size in (1, 2, 3, 8)]
    assert rates == sorted(rates)
    assert rates[2:] == [pytest.approx(1.0, rel=1e-9)] * 2
