"""Gaussian vectors: their rate against what is known, and against a mean over draws."""

from __future__ import annotations

import pytest
import torch

from sciml_bounds.sketching._sketches.gaussian_vector import GaussianVector

#: Symmetric and indefinite, as a KKT matrix; condition number about 5.
A = torch.tensor([[2.0, 0.5, 1.0], [0.5, 1.0, -1.0], [1.0, -1.0, 0.0]], dtype=torch.float64)


def test_gaussian_rates_are_those_of_a_mean_over_draws():
    """Against 200,000 draws of w g^2 / sum w g^2, with a standard deviation of the mean below 1 / sqrt(4 * 200,000)."""
    squares = torch.linalg.svdvals(A).square()
    draws = torch.randn((200_000, 3), dtype=torch.float64).square() * squares
    mean = float((draws[:, -1] / draws.sum(1)).mean())
    assert GaussianVector().expected_rate(A).gamma == pytest.approx(mean, abs=5.6e-3, rel=0.02)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_gaussian_rates_of_multiples_of_the_identity_are_known(n):
    """All directions are alike, and the entries of the mean projection add up to one."""
    matrix = 3 * torch.eye(n, dtype=torch.float64)
    assert GaussianVector().expected_rate(matrix).gamma == pytest.approx(1 / n, rel=1e-8)


@pytest.mark.parametrize(("ratio", "gamma"), [(1.0, 0.5), (2.0, 1 / 3), (1e6, 1 / (1 + 1e6))], ids=str)
def test_gaussian_rates_in_two_dimensions_are_known(ratio, gamma):
    """E[w2 g2^2 / (w1 g1^2 + w2 g2^2)] = s2 / (s1 + s2), by the mean over the angle of g; s are the singular values."""
    matrix = torch.diag(torch.tensor([ratio, 1.0], dtype=torch.float64))
    assert GaussianVector().expected_rate(matrix).gamma == pytest.approx(gamma, rel=1e-8)
