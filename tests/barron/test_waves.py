"""Waves drawn from series: their mean is the series, exactly where all signs can be written out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from refusals import refused

import sciml_bounds as sb
from sciml_bounds.barron._waves import waves_of

B = sb.barron.BarronFunction
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
