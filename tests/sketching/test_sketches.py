"""Sketches: E[S S^T] = I, the results for A and b, known rates, and the structure of each kind."""

from __future__ import annotations

import itertools

import pytest
import scipy.linalg
import torch
from refusals import refusals

from sciml_bounds.sketching._sketches import srht
from sciml_bounds.sketching._sketches.count_sketch import CountSketch
from sciml_bounds.sketching._sketches.gaussian_block import GaussianBlock
from sciml_bounds.sketching._sketches.gaussian_vector import GaussianVector
from sciml_bounds.sketching._sketches.row_block import RowBlock
from sciml_bounds.sketching._sketches.rows import Rows
from sciml_bounds.sketching._sketches.sparse_sign import SparseSign
from sciml_bounds.sketching._sketches.srht import SRHT, mixed_rows, walsh_hadamard

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


def test_columns_are_drawn_uniformly():
    """Of 9 * 2000 rows each of 4 sums has a quarter, with a standard deviation below sqrt(18000 * 3 / 16) = 59."""
    eye = torch.eye(9, dtype=torch.float64)
    drawn, _ = CountSketch(4).draw(eye, eye[0], 2000, torch.Generator().manual_seed(0))
    assert bool(((drawn.abs().sum((0, 2)) - 4500).abs() < 5 * 59).all())


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


def test_every_row_is_in_one_block():
    for n in (1, 5, 7, 16):
        for size in (1, 2, 3, 20):
            blocks = RowBlock(size)._blocks(n)
            assert blocks.shape[1] <= size
            assert sorted(set(blocks.reshape(-1).tolist())) == list(range(n))


def test_rates_of_blocks_of_one_row_and_of_all_rows_are_known():
    assert RowBlock(1).expected_rate(A).gamma == pytest.approx(Rows().expected_rate(A).gamma, rel=1e-12)
    assert RowBlock(3).expected_rate(A).gamma == pytest.approx(1.0, rel=1e-12)


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
