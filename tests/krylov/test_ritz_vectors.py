"""Lanczos against dense eigenvalues, and the mixtures of its vectors against their distribution."""

from __future__ import annotations

import numpy as np
import pyamg
import pytest
import scipy.sparse
import torch
from refusals import refusals

from sciml_bounds.krylov._ritz_vectors import lanczos, low_count, mixed_right_hand_sides, mixing_weights, ritz_pairs
from sciml_bounds.operators._linear_operator import aslinearoperator

A = pyamg.gallery.poisson((10, 11), format="csr")
N = A.shape[0]


def _start(seed=0):
    return torch.as_tensor(np.random.default_rng(seed).standard_normal(N))


def test_the_basis_is_orthonormal_and_makes_the_operator_tridiagonal():
    basis, diagonal, off = lanczos(aslinearoperator(A), _start(), 60)
    assert basis.shape == (60, N)
    T = torch.diag(diagonal) + torch.diag(off, 1) + torch.diag(off, -1)
    # by full re-orthogonalisation to round-off, also behind the steps where Ritz values have converged
    torch.testing.assert_close(basis @ basis.mT, torch.eye(60, dtype=torch.float64), rtol=0, atol=1e-13)
    torch.testing.assert_close(basis @ torch.as_tensor(A.toarray()) @ basis.mT, T, rtol=0, atol=1e-12)


def test_an_exhausted_space_ends_it():
    start = torch.zeros(9, dtype=torch.float64)
    start[[0, 4, 7]] = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    basis, diagonal, off = lanczos(aslinearoperator(np.diag(np.arange(1.0, 10.0))), start, 9)
    assert len(basis) == 3
    T = torch.diag(diagonal) + torch.diag(off, 1) + torch.diag(off, -1)
    np.testing.assert_allclose(torch.linalg.eigvalsh(T), [1.0, 5.0, 8.0], rtol=1e-12)


def test_as_many_steps_as_there_are_eigenvalues_find_all_of_them():
    expected = np.linalg.eigvalsh(A.toarray())
    values, vectors = ritz_pairs(A, N)
    distinct = expected[np.append(True, np.diff(expected) > 1e-9)]  # of equal ones a Krylov space holds one vector
    np.testing.assert_allclose(values[: len(distinct)], distinct, rtol=1e-9)
    residual = torch.as_tensor(A @ vectors.mT.numpy()) - vectors.mT * values
    assert float(residual[:, : len(distinct)].norm(dim=0).max()) < 1e-9
    torch.testing.assert_close(vectors @ vectors.mT, torch.eye(len(values), dtype=torch.float64), rtol=0, atol=1e-11)


def test_few_steps_give_the_ends_of_the_spectrum():
    exact = np.linalg.eigvalsh(A.toarray())
    values, _ = ritz_pairs(A, 40)
    assert len(values) == 40
    assert bool((values.diff() > 0).all())
    np.testing.assert_allclose(values[[0, -1]], exact[[0, -1]], rtol=1e-6)
    assert exact[0] * (1 - 1e-12) <= float(values[0])


def test_the_null_space_is_left_out():
    L = scipy.sparse.csgraph.laplacian(scipy.sparse.csr_array(-(A - scipy.sparse.diags_array(A.diagonal()))))
    values, vectors = ritz_pairs(scipy.sparse.csr_array(L), N)
    assert float(values[0]) > 1e-3
    assert float(vectors.sum(1).abs().max()) < 1e-6  # orthogonal to constants


def test_functions_are_operators_too():
    dense = torch.as_tensor(A.toarray())
    values, _ = ritz_pairs(lambda x: x @ dense, 30, like=_start())
    np.testing.assert_allclose(values, ritz_pairs(A, 30)[0], rtol=1e-9)


def test_the_mixture_is_the_published_one():
    """Of 10,000 vectors 5,500 are low and nine times as strong."""
    assert low_count(10_000) == 5_500
    weights = mixing_weights(10_000)
    assert weights.unique().tolist() == [1.0, 9.0]
    assert int((weights == 9).sum()) == 5_500
    assert bool((weights.diff() <= 0).all())


def test_right_hand_sides_have_norm_one_and_the_stated_spectrum():
    _, vectors = ritz_pairs(A, 60)
    b = mixed_right_hand_sides(vectors, 4000)
    assert b.shape == (4000, N)
    torch.testing.assert_close(b.norm(dim=1), torch.ones(4000, dtype=torch.float64))
    parts = (b @ vectors.mT).square().mean(0)
    low = low_count(60)
    ratio = parts[:low].mean() / parts[low:].mean()
    # The norm is nearly that of the low part, and the mean of 1 / chi^2 with k degrees of freedom is 1 / (k - 2). Of
    # 27 x 4000 squares the mean has a standard deviation of half a percent.
    assert float(ratio) == pytest.approx(81 * (low - 2) / low, rel=0.02)
    torch.testing.assert_close(mixed_right_hand_sides(vectors, 10), b[:10], rtol=0, atol=1e-14)
    assert not torch.allclose(mixed_right_hand_sides(vectors, 10, seed=1), b[:10])


test_bad_input = refusals(
    ("A symmetric", lambda: ritz_pairs(np.triu(np.ones((4, 4))), 4)),
    ("A indefinite -3", lambda: ritz_pairs(np.diag([1.0, 2.0, -3.0, 4.0]), 4)),
    ("A zero finite", lambda: ritz_pairs(torch.zeros(4, 4), 3)),
    ("A zero NaN", lambda: ritz_pairs(torch.full((4, 4), float("nan")), 3)),
    ("count 0", lambda: ritz_pairs(torch.eye(4), 0)),
    *[
        (f"seed {seed!r} integer", lambda make=make, seed=seed: make(torch.eye(4), 3, seed=seed))
        for seed in (None, "seed", 1.5, True, -1)
        for make in (ritz_pairs, mixed_right_hand_sides)
    ],
    *[
        ("vectors tensor", lambda vectors=vectors: mixed_right_hand_sides(vectors, 3))
        for vectors in (None, torch.ones(3), torch.ones(3, 3).long(), np.eye(3))
    ],
    *[
        (f"count {count} integer", lambda tell=tell, count=count: tell(count))
        for count in (None, -1, 2.5)
        for tell in (low_count, mixing_weights)
    ],
)
