"""The rules of moments by themselves: bounds without limit, the zero function, and what a band limit gives."""

from __future__ import annotations

import math

import pytest
import torch

from sciml_bounds.barron._moments import of_derivative, of_product, of_resolvent, of_sum, of_terms, within_band

F, NOTHING, ROUGH = (1.0, 2.0, 5.0, 14.0, 41.0), (0.0,) * 5, (1.0, 3.0, math.inf, math.inf, math.inf)


def test_moments_of_terms_are_sums_of_powers():
    """Of |w| = 5 with weight 2 and |w| = 0 with weight 1."""
    frequencies = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=torch.float64)
    assert of_terms(frequencies, torch.tensor([2.0, 1.0], dtype=torch.float64)) == (3, 10, 50, 250, 1250)


def test_products_follow_the_binomial_theorem():
    """Waves of |w| = 2 and 3 on one line have products up to |w| = 5: the bound of order k is 5^k."""
    two, three = tuple(2.0**k for k in range(5)), tuple(3.0**k for k in range(5))
    assert of_product(two, three) == tuple(5.0**k for k in range(5))


def test_nothing_times_what_has_no_bound_is_nothing():
    assert of_product(NOTHING, ROUGH) == NOTHING
    assert of_product(ROUGH, F)[:2] == (1, 2 + 3)
    assert of_sum(ROUGH, F)[2] == math.inf


def test_derivatives_take_the_better_of_band_and_moments():
    assert of_derivative(F, 2.5) == (2, 5, 12.5, 35, 102.5)
    assert of_derivative(F, math.inf) == (2, 5, 14, 41, math.inf)


def test_the_resolvent_gains_two_orders():
    assert of_resolvent(ROUGH) == (1, 0.5, 1, 3, math.inf)


@pytest.mark.parametrize(("band", "second"), [((0.6, 0.8), 3.0), ((6.0, 8.0), 30.0)])
def test_a_band_limit_bounds_all_moments(band, second):
    """m_2 <= |W| m_1, and m_1 <= |W| m_0."""
    found = within_band(ROUGH, band)
    assert found[1] == pytest.approx(min(3.0, math.hypot(*band)))
    assert found[2] == pytest.approx(min(second, math.hypot(*band) * found[1]))
    assert found[4] == pytest.approx(math.hypot(*band) ** 2 * found[2])
