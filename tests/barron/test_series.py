"""Sparse series: products of sines and cosines against their waves, and dimensions where no lattice exists."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import sciml_bounds as sb

B = sb.barron.BarronFunction


@pytest.mark.parametrize("symmetry", ["cosine", "sine"])
def test_products_of_sines_and_cosines_have_the_norms_of_their_waves(symmetry):
    rng = np.random.default_rng(2)
    for _ in range(100):
        modes = rng.integers(1 if symmetry == "sine" else 0, 4, (4, 3))
        f = getattr(B, symmetry)(modes, rng.standard_normal(4), [1.0, 2.0, 0.5])
        g, x = f.waves(), rng.uniform(-1, 2, (20, 3))
        np.testing.assert_allclose(g.tightened().moments, f.moments, rtol=1e-12)
        np.testing.assert_allclose(g(x), f(x), rtol=0, atol=1e-12)
        np.testing.assert_allclose((f * g).derivative(1)(x), (g * g).derivative(1)(x), rtol=0, atol=1e-9)
        np.testing.assert_allclose(f.resolvent()(x), g.resolvent()(x), rtol=0, atol=1e-12)


def test_hundred_dimensions_cost_no_more_than_their_terms():
    """sum_i cos(pi x_i) / 100: m_1 = pi; and one sine in every axis, which has 2^100 waves."""
    f = B.cosine(torch.eye(100, dtype=torch.int64), torch.full((100,), 0.01, dtype=torch.float64))
    assert f.moments[:2] == pytest.approx((1, math.pi))
    assert float(f(torch.zeros(100, dtype=torch.float64))) == pytest.approx(1)
    square = f.waves() ** 2
    assert square.norm == pytest.approx(1 + 2 * math.pi)
    x = torch.rand((5, 100), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(square(x), f(x).square(), rtol=0, atol=1e-13)
    g = B.sine(torch.ones((1, 100), dtype=torch.int64), [3.0])
    assert g.norm == pytest.approx(3 * (1 + 10 * math.pi))
    assert float(g(torch.full((100,), 0.5, dtype=torch.float64))) == pytest.approx(3)


def test_repeated_modes_are_added_up():
    """cos(t) - cos(t) is nothing, and cos(-t) is cos(t)."""
    assert B.fourier([[1], [-1], [2]], [1.0, -1.0, 3.0], 2 * math.pi).norm == pytest.approx(9)
    assert B.cosine([[1], [1]], [1.0, -1.0]).norm == 0


def test_lists_of_numbers_are_read_in_double_precision():
    series = sb.barron.BarronFunction.fourier([[1]], [0.1 + 0.3j]).value
    assert series.coefficients.tolist() == [0.05 - 0.15j, 0.05 + 0.15j]
