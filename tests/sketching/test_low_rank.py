"""Eigenpairs from random vectors: exact for low rank, accurate where eigenvalues fall, and counted products."""

from __future__ import annotations

import pytest
import torch
from refusals import refusals

from sciml_bounds.sketching._low_rank import randomised_eigenpairs

ROTATION, _ = torch.linalg.qr(torch.randn((80, 80), generator=torch.Generator().manual_seed(0), dtype=torch.float64))


def operator(values):
    return (ROTATION * values) @ ROTATION.T


def test_operators_of_low_rank_are_found_exactly():
    values = torch.zeros(80, dtype=torch.float64)
    values[:4] = torch.tensor([3.0, -2.0, 1.0, -0.5])
    found, vectors = randomised_eigenpairs(operator(values), 4)
    torch.testing.assert_close(found, values[:4], rtol=0, atol=1e-12)
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close((vectors.T * found) @ vectors, operator(values), rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_values_that_fall_are_approximated_from_below(seed):
    """Ten times the first eigenvalue beyond r + p is allowed.

    By corollary 10.9 of Halko et al. it is at most 1 + 11 sqrt(r + p) sqrt(n) times that, but this is far
    from attained.
    """
    values = 0.5 ** torch.arange(80, dtype=torch.float64)
    found, _ = randomised_eigenpairs(operator(values), 10, seed=seed)
    assert bool((found <= values[:10] + 1e-14).all())
    torch.testing.assert_close(found, values[:10], rtol=0, atol=10 * float(values[20]))


def test_products_are_counted():
    seen = []

    def product(x):
        seen.append(len(x))
        return 2 * x

    randomised_eigenpairs(product, 3, oversampling=4, like=torch.zeros(20, dtype=torch.float64))
    assert sum(seen) == 2 * (3 + 4)


def test_all_eigenpairs_may_be_asked_for():
    values = torch.linspace(1, 2, 80).double()
    found, _ = randomised_eigenpairs(operator(values), 80)
    torch.testing.assert_close(found, values.flip(0), rtol=0, atol=1e-12)


EYE = torch.eye(2, dtype=torch.float64)

test_bad_input_is_refused = refusals(
    ("count=3 eigenpairs 2", lambda: randomised_eigenpairs(EYE, 3)),
    ("oversampling -1", lambda: randomised_eigenpairs(EYE, 1, oversampling=-1)),
    ("symmetric", lambda: randomised_eigenpairs(torch.ones(3, 3, dtype=torch.float64).triu(), 2)),
    ("product random vectors", lambda: randomised_eigenpairs(lambda x: x * torch.nan, 1, like=EYE[0])),
)
