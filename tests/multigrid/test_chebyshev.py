from __future__ import annotations

import numpy as np
import pytest

from sciml_bounds.multigrid._chebyshev import SMOOTHED_SPECTRUM_MIN, chebyshev_weights


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
@pytest.mark.parametrize(("lower", "upper"), [(SMOOTHED_SPECTRUM_MIN, 1.0), (0.1, 2.0)])
def test_the_polynomial_has_the_smallest_maximum_that_exists(steps, lower, upper):
    # Markov: among polynomials that are one at zero the smallest maximum over [l, u] is 1 / T_k((u + l) / (u - l))
    t = np.linspace(lower, upper, 20001)
    values = np.prod([1 - w * t for w in chebyshev_weights(steps, lower, upper)], axis=0)
    best = 1 / np.cosh(steps * np.arccosh((upper + lower) / (upper - lower)))
    assert np.abs(values).max() == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_no_mode_of_a_semidefinite_matrix_is_amplified(steps):
    t = np.linspace(0, 1, 10001)
    assert np.abs(np.prod([1 - w * t for w in chebyshev_weights(steps)], axis=0)).max() <= 1
