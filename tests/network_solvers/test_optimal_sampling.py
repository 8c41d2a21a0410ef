"""Points for least squares: densities, unbiased sums, and errors against the best ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from refusals import refusals

from sciml_bounds.network_solvers import optimal_sample
from sciml_bounds.network_solvers._optimal_sampling import orthonormal

#: Gauss-Legendre points: with them the measure of the pool integrates products of the polynomials exactly.
X, W = np.polynomial.legendre.leggauss(400)
W = W / 2


def legendre(m):
    return np.polynomial.legendre.legvander(X, m - 1) * np.sqrt(2 * np.arange(m) + 1)


def ratios(m, n, values, method, draws):
    """Squared errors of weighted least squares over that of the best polynomial."""
    V = legendre(m)
    best = values - V @ (V.T @ (W * values))
    found = []
    for seed in range(draws):
        sample = optimal_sample(V, n, weights=W, method=method, seed=seed)
        i, root = sample.indices.numpy(), np.sqrt(sample.weights.numpy())
        c = np.linalg.lstsq(root[:, None] * V[i], root * values[i], rcond=None)[0]
        found.append(float(W @ (values - V @ c) ** 2) / float(W @ best**2))
    return np.array(found)


@pytest.mark.parametrize("name", ["Runge", "kink"])
def test_mean_errors_with_twice_as_many_points(name):
    """The bar of the reference: at most 2.2 in the mean of 200 draws; independent points have means of 64 and more."""
    values = {"Runge": 1 / (1 + 25 * X**2), "kink": abs(X - 0.1)}[name]
    repelled, independent = (ratios(10, 20, values, method, 200) for method in ("dpp", "iid"))
    assert repelled.mean() < 2.2
    assert repelled.min() >= 1 - 1e-12
    assert independent.mean() > 10
    assert np.median(independent) > np.median(repelled)


@pytest.mark.parametrize(("method", "count"), [("dpp", 8), ("dpp", 11), ("iid", 11)])
def test_sums_are_unbiased(method, count):
    """E G = I: each entry of G - I, of variance below m^2 / n, averages out over 400 draws to 3 standard deviations."""
    V = torch.from_numpy(legendre(4))
    total = torch.zeros(4, 4, dtype=torch.float64)
    for seed in range(400):
        sample = optimal_sample(V, count, weights=W, method=method, seed=seed)
        rows = V[sample.indices]
        gram = rows.T @ (sample.weights[:, None] * rows)
        assert float(torch.linalg.matrix_norm(gram - torch.eye(4), 2)) == pytest.approx(sample.stability, abs=1e-9)
        total += gram / 400
    assert float((total - torch.eye(4)).abs().max()) < 3 * 4 / (count * 400) ** 0.5


def test_the_measure_of_a_pool_is_one_by_default():
    """Sums are means over the pool: as with equal weights of sum 1, and not those of the points."""
    V = legendre(3)[::40]
    mine, given = (optimal_sample(V, 6, weights=w) for w in (None, np.full(len(V), 1 / len(V))))
    assert mine.indices.tolist() == given.indices.tolist()
    np.testing.assert_allclose(mine.weights, given.weights)
    one = optimal_sample(np.ones((10, 1)), 5)  # K = 1, so that all weights are 1 / 5
    np.testing.assert_allclose(one.weights, 1 / 5)


def test_a_process_has_the_density_of_squared_determinants():
    """Pairs of 4 points by enumeration: probability det^2, whose sum over pairs is 1."""
    basis, _ = orthonormal(torch.tensor([[1.0, 2.0], [0.5, -1.0], [2.0, 0.3], [-1.0, 1.0]], dtype=torch.float64))
    pairs = {(i, j): float(torch.linalg.det(basis[[i, j]])) ** 2 for i in range(4) for j in range(i + 1, 4)}
    assert sum(pairs.values()) == pytest.approx(1, rel=1e-12)
    draws = 1500
    seen = dict.fromkeys(pairs, 0)
    for seed in range(draws):
        seen[tuple(sorted(optimal_sample(basis, 2, seed=seed).indices.tolist()))] += 1
    for pair, p in pairs.items():
        assert abs(seen[pair] / draws - p) < 4 * (p * (1 - p) / draws) ** 0.5  # four standard deviations


def test_dependent_features_span_less():
    V = legendre(5)
    sample = optimal_sample(np.concatenate([V, V @ np.ones((5, 3))], 1), 10, weights=W)
    assert sample.rank == 5
    density = (legendre(5) ** 2).sum(1)[sample.indices] / 5
    np.testing.assert_allclose(sample.weights, 1 / (10 * density), rtol=1e-10)
    assert len(set(sample.indices.tolist())) >= 5
    assert "determinantal" in repr(sample)


test_bad_input = refusals(
    ("features shape (400,)", lambda: optimal_sample(X, 10)),
    ("features", lambda: optimal_sample(legendre(3) * np.nan, 10)),
    ("5 dimensions", lambda: optimal_sample(legendre(5), 4)),
    ("weights 400 positive numbers", lambda: optimal_sample(legendre(5), 10, weights=-W)),
    ("choices 'dpp' 'iid'", lambda: optimal_sample(legendre(5), 10, method="volume")),
    ("zero points", lambda: optimal_sample(legendre(3) * 0, 10)),
)
