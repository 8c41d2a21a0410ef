"""Sparse series: products of sines and cosines against their waves, and waves drawn from them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from refusals import refused

import sciml_bounds as sb
from sciml_bounds.barron._waves import waves_of

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


FUNCTIONS = {
    "fourier": B.fourier([[1, -2], [0, 3], [0, 0]], [1 + 1j, -0.5, 2.0], periods=(1.5, 0.7)),
    "cosine": B.cosine([[1, 2], [0, 3], [0, 0]], [1.0, -0.5, 2.0], lengths=(1.5, 0.7)),
    "sine": B.sine([[1, 2], [2, 3]], [1.0, -0.5], lengths=(1.5, 0.7)),
}
each = pytest.mark.parametrize("f", FUNCTIONS.values(), ids=FUNCTIONS.keys())


@each
def test_waves_add_up_to_the_series(f):
    """Each drawn wave is one of the few of its term; the mean over those is the term."""
    waves = waves_of(f)
    x = torch.rand((9, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    total = torch.full((9,), waves.mean, dtype=torch.float64)
    for term, c in enumerate(waves.coefficients.tolist()):
        only = torch.zeros(len(waves.coefficients), dtype=torch.float64)
        only[term] = 1.0
        drawn = waves.draw(only, 200, torch.Generator().manual_seed(1))
        kinds = {tuple(w): i for i, w in enumerate(drawn.frequencies.tolist())}
        rows = list(kinds.values())
        values = drawn.signs[rows] * torch.cos((x - waves.centre) @ drawn.frequencies[rows].T + drawn.phases[rows])
        moving = int((waves.frequencies[term] != 0).sum())
        assert len(kinds) == (1 if waves.symmetry is None else 2**moving)
        total += abs(c) * values.mean(1)
    torch.testing.assert_close(total, f(x), rtol=0, atol=1e-13)


@each
def test_values_and_gradients_at_the_centre(f):
    waves = waves_of(f)
    values, gradients = waves.at_centre()
    x = waves.centre.clone().requires_grad_()
    (expected,) = torch.autograd.grad(f(x), x)
    assert float(values.sum()) + waves.mean == pytest.approx(float(f(waves.centre)), abs=1e-14)
    torch.testing.assert_close(gradients.sum(0), expected, rtol=0, atol=1e-12)


def test_the_reach_is_the_largest_argument():
    waves = waves_of(FUNCTIONS["cosine"])
    corners = torch.tensor(list(itertools.product((0, 1.5), (0, 0.7))), dtype=torch.float64)
    largest = ((corners - waves.centre) @ waves.frequencies.T).abs().amax(0)
    torch.testing.assert_close(waves.reach, largest)


def test_hundred_dimensions_are_no_effort():
    waves = waves_of(B.sine([[1] * 100], [2.0]))
    drawn = waves.draw(torch.ones(1, dtype=torch.float64), 5, torch.Generator().manual_seed(0))
    assert drawn.frequencies.shape == (5, 100)
    assert set(drawn.signs.tolist()) == {-1.0, 1.0}


def test_functions_without_series_are_refused():
    refused("series", lambda: waves_of(B.gaussian([0.0], 1.0)))
    refused("series", waves_of, np.sin)
