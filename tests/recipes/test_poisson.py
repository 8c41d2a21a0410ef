from __future__ import annotations

import numpy as np
import pytest
import torch

from sciml_bounds.recipes._recipe import sample_rng
from sciml_bounds.recipes._registry import find_recipe


def test_sources_have_the_stated_standard_deviation():
    """4^2 times the sum of 9 (pi^2 |k|^2 + 9)^-2; five standard deviations of the mean over 200 fields."""
    k = np.arange(32)
    values = 16 * 9 * (np.pi**2 * (k[:, None] ** 2 + k**2) + 9) ** -2.0
    values[0, 0] = 0.0
    assert np.sqrt(values.sum()) == pytest.approx(1.17, abs=0.01)
    fields = find_recipe("poisson").draw([sample_rng(0, i) for i in range(200)], 32)
    assert np.mean(fields**2) == pytest.approx(values.sum(), abs=5 * np.sqrt(2 * (values**2).sum() / 200))


def test_the_map_from_source_to_solution_is_linear():
    """Sine modes are eigenvectors of the discrete equations; all samples share the inverse eigenvalues."""
    n = 12
    data = find_recipe("poisson").generate(0, 0, 2, n, torch.device("cpu"))
    sine = np.sin(np.pi * np.outer(np.arange(1, n), np.arange(1, n)) / n)
    line = 4 * n**2 * np.sin(np.pi * np.arange(1, n) / (2 * n)) ** 2
    for source, solution in zip(data["source"].astype(float), data["solution"].astype(float)):
        load = sum(source[a : n - 1 + a, b : n - 1 + b] for a in (0, 1) for b in (0, 1)) / 4
        left = (line[:, None] + line) * (sine @ solution[1:-1, 1:-1] @ sine)
        np.testing.assert_allclose(left, sine @ load @ sine, atol=1e-4)
