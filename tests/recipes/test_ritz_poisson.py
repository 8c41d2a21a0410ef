"""Mixtures of eigenvectors against the assembled matrix, and their choice against Lanczos."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.krylov._direction_loss import pressure_product
from sciml_bounds.krylov._ritz_vectors import low_count, ritz_pairs
from sciml_bounds.problems.discretization import cell_fluxes
from sciml_bounds.recipes import ritz_poisson
from sciml_bounds.recipes._registry import find_recipe
from sciml_bounds.recipes.ritz_poisson import spread_over

CPU = torch.device("cpu")


def _box(n, dim):
    problem = sb.Diffusion(sb.Grid((n,) * dim, lengths=(float(n),) * dim), 1.0, 0.0, boundary=sb.Neumann())
    return cell_fluxes(problem).system.operator


@pytest.mark.parametrize(("dim", "n"), [(2, 8), (3, 4)])
def test_right_hand_sides_are_the_stated_mixture(dim, n):
    """In the eigenvectors of the assembled matrix, grouped by eigenvalue, the low ones are nine times as strong."""
    recipe = find_recipe(f"ritz-poisson-{dim}d")
    data = recipe.generate(0, 0, 400, n, CPU)
    b = data["rhs"].reshape(400, -1).astype(float)
    np.testing.assert_allclose(np.linalg.norm(b, axis=1), 1.0, atol=1e-6)
    assert (data["geometry"] == 1).all()
    values, vectors = np.linalg.eigh(_box(n, dim).to_csr().toarray())
    power = np.square(b @ vectors).mean(0)
    assert power[0] < 1e-13  # constants are in the null space
    low = low_count(len(values) - 1)
    inner = slice(low // 2, low - 12), slice(low + 12, None)  # equal eigenvalues around the limit are left out
    ratio = power[inner[0]].mean() / power[inner[1]].mean()
    assert ratio == pytest.approx(81 * (low - 2) / low, rel=0.1)  # see tests/krylov/test_ritz.py; few are left here


def test_their_matrix_is_that_of_the_loss():
    data = find_recipe("ritz-poisson-2d").generate(1, 0, 3, 8, CPU)
    b, geometry = (torch.from_numpy(data[name]).double() for name in ("rhs", "geometry"))
    torch.testing.assert_close(pressure_product(b, geometry).flatten(1), _box(8, 2).matvec(b.flatten(1)))


def test_fewer_vectors_than_eigenvalues_are_spread_as_ritz_values(monkeypatch):
    """The distribution functions of 60 values of a box with 30 x 30 cells, and of 60 steps of Lanczos."""
    monkeypatch.setattr(ritz_poisson, "MAX_VECTORS", 60)
    recipe = find_recipe("ritz-poisson-2d")
    places = recipe.places(30)
    assert len(set(places.tolist())) == 60
    line = 4 * np.sin(np.pi * np.arange(30) / 60) ** 2
    chosen = (line[:, None] + line).reshape(-1)[places]
    assert (np.diff(chosen) >= -1e-12).all()
    ritz = ritz_pairs(_box(30, 2), 60)[0].numpy()
    grid = np.linspace(0, 8, 100)
    cumulative = [np.searchsorted(v, grid) / 60 for v in (chosen, ritz)]
    assert np.abs(cumulative[0] - cumulative[1]).max() < 0.05  # three of sixty
    all_of_them = np.searchsorted(np.sort((line[:, None] + line).reshape(-1)), grid) / 900
    assert np.abs(all_of_them - cumulative[1]).max() > 0.1  # that of all eigenvalues is another


@pytest.mark.parametrize("count", [1, 7, 50])
def test_no_eigenvalue_is_taken_twice(count):
    values = np.sort(np.random.default_rng(0).random(50))
    places = spread_over(values, count)
    assert (np.diff(places) > 0).all()
    assert places.min() >= 0
    assert places.max() < 50


def test_the_published_number_of_vectors_is_mixed_in_a_cube():
    mixture = find_recipe("ritz-poisson-3d").parameters(32)["mixture"]
    assert mixture == {"vectors": 10_000, "low": 5_500, "amplitude of low": 9.0}
