"""Single rows: rates that are known, and one that is attained."""

from __future__ import annotations

import pytest
import torch

from sciml_bounds.sketching._sketches.rows import Rows

#: Symmetric and indefinite, as a KKT matrix; condition number about 5.
A = torch.tensor([[2.0, 0.5, 1.0], [0.5, 1.0, -1.0], [1.0, -1.0, 0.0]], dtype=torch.float64)


def test_the_bound_is_attained_by_the_slowest_direction_in_one_step():
    """E ||z_1 - z*||^2 = (1 - gamma) ||z_0 - z*||^2 where z_0 - z* is the eigenvector of the smallest eigenvalue.

    Over 4,000 draws of one row, whose mean has a standard deviation of at most 1 / sqrt(4 * 4000) = 0.008.
    """
    projections = torch.stack([torch.outer(row, row) / row.square().sum() for row in A])
    values, vectors = torch.linalg.eigh(projections.mean(0))
    rows, _ = Rows().draw(A, A[0], 4000, torch.Generator().manual_seed(0))
    left = 1 - (rows[:, 0] @ vectors[:, 0]).square() / rows[:, 0].square().sum(1)
    rate = Rows().expected_rate(A)
    assert rate.gamma == pytest.approx(float(values[0]), rel=1e-10)
    assert float(left.mean()) == pytest.approx(1 - rate.gamma, abs=0.03)


def test_rows_by_norms_have_the_rate_of_strohmer_and_vershynin():
    smallest = float(torch.linalg.svdvals(A)[-1])
    assert Rows("norms").expected_rate(A).gamma == pytest.approx(smallest**2 / float(A.square().sum()), rel=1e-10)


def test_rows_come_with_their_entries_as_often_as_they_should():
    """Of 4,000 draws each count has a standard deviation of at most sqrt(4000 / 4) = 32."""
    values = torch.arange(3.0, dtype=torch.float64)
    for weights, shares in (("uniform", torch.full((3,), 1 / 3)), ("norms", A.square().sum(1) / A.square().sum())):
        rows, entries = Rows(weights).draw(A, values, 4000, torch.Generator().manual_seed(0))
        assert torch.equal(rows[:, 0], A[entries[:, 0].long()])
        counts = entries.view(-1).long().bincount(minlength=3)
        assert bool(((counts - 4000 * shares).abs() < 160).all())
