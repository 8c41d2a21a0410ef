"""Functions of one variable: derivatives against differences, conjugates against their definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from refusals import refused
from scipy.optimize import minimize_scalar

from sciml_bounds.problems.scalar_functions import Area, Custom, DoubleWell, Power, Regularised, Stiffened

CONVEX = {
    "square": Power(2),
    "quartic": Power(4),
    "p = 1.5": Power(1.5),
    "area": Area(),
    "stiffened": Stiffened(3.0),
    "not at all stiffened": Stiffened(0.0),
    "firmer area": Regularised(Area(), 0.1),
    "log cosh": Custom(lambda r: torch.log(torch.cosh(r)), True),
    "exponential": Custom(lambda r: torch.exp(r) - r, True),
}
ALL = CONVEX | {"double well": DoubleWell()}


@pytest.mark.parametrize("name", ALL)
def test_derivatives_are_limits_of_differences(name):
    """Central differences are off by h^2 / 6 times a third derivative and by eps g / h: 1e-7 with h = 1e-5."""
    g, h = ALL[name], 1e-5
    r = torch.tensor([-2.5, -0.7, 0.3, 1.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(g.slope(r), (g.value(r + h) - g.value(r - h)) / (2 * h), rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(g.curvature(r), (g.slope(r + h) - g.slope(r - h)) / (2 * h), rtol=1e-7, atol=1e-8)
    if name != "exponential":
        torch.testing.assert_close(g.secant(r) * r, g.slope(r))


@pytest.mark.parametrize("name", ALL)
def test_second_derivatives_lie_between_what_is_said(name):
    g = ALL[name]
    r = torch.linspace(-20, 20, 1001, dtype=torch.float64)
    assert (g.curvature(r) >= g.lower * (1 - 1e-12)).all() or g.lower < 0
    assert (g.curvature(r) <= g.upper * (1 + 1e-12)).all()


@pytest.mark.parametrize("name", CONVEX)
def test_conjugates_are_the_supremum(name):
    """Compared with scipy: r s - g(r) <= g*(s) for all r, with equality at the best r up to its squared tolerance."""
    g = CONVEX[name]
    bounded = {"area": 1.0, "log cosh": 1.0}.get(name, 50.0)
    low = -0.9 if name == "exponential" else -0.9 * bounded
    for s in np.linspace(low, 0.9 * bounded, 11):

        def negative(r, s=s):
            return float(g.value(torch.tensor(r, dtype=torch.float64))) - r * s

        best = minimize_scalar(negative, bracket=(-1, 1), options={"xtol": 1e-10})
        found = float(g.conjugate(torch.tensor(s, dtype=torch.float64)))
        assert found >= -best.fun - 1e-15 * max(1.0, abs(s * best.x))
        assert found == pytest.approx(-best.fun, rel=1e-11, abs=1e-12)
        assert float(g.inverse(torch.tensor(s, dtype=torch.float64))) == pytest.approx(best.x, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("width", [1e-3, 0.1, 1.0])
def test_conjugates_are_no_smaller_whatever_the_bracket_is(width):
    """r^2 / 2 + r^4 / 4 at s = r + r^3, where g* = r s - g(r); brackets that end elsewhere raise it."""

    class Bracketed(Custom):
        def _bracket(self, s):
            return r - 0.3 * width, r + 0.7 * width

    g = Bracketed(lambda r: r.square() / 2 + r**4 / 4, True)
    r = torch.linspace(-2, 2, 9, dtype=torch.float64)
    exact = r * (r + r**3) - g.value(r)
    found = g.conjugate(r + r**3)
    assert (found > exact).all()
    assert (found <= exact + width**2 * 20).all()  # second derivatives are up to 1 + 3 r^2 = 23 in the bracket


@pytest.mark.parametrize("name", CONVEX)
def test_fenchels_inequality_is_never_violated(name):
    """g(r) + g*(s) >= r s, with equality for s = g'(r); round-off is relative to the terms."""
    g = CONVEX[name]
    generator = torch.Generator().manual_seed(0)
    r, t = (5 * torch.randn(4000, generator=generator, dtype=torch.float64) for _ in range(2))
    for s in (g.slope(t), g.slope(r)):
        terms = torch.stack([g.value(r), g.conjugate(s), -r * s])
        assert (terms.sum(0) >= -1e-14 * terms.abs().sum(0)).all()
    assert (terms.sum(0) <= 1e-13 * terms.abs().sum(0) + 1e-13).all()


@pytest.mark.parametrize("name", ["area", "log cosh"])
def test_slopes_out_of_reach_have_an_infinite_conjugate(name):
    s = torch.tensor([-1.5, 0.5, 1.001], dtype=torch.float64)
    assert CONVEX[name].conjugate(s).isfinite().tolist() == [False, True, False]
    assert CONVEX[name].inverse(s).isfinite().tolist() == [False, True, False]


def test_a_conjugate_at_a_slope_that_is_just_reached():
    assert float(Area().conjugate(torch.tensor(1.0))) == 0.0
    assert math.isinf(float(Area().inverse(torch.tensor(1.0))))


def test_what_is_no_function_of_each_entry_is_refused():
    refused("shape", lambda: Custom(lambda r: r.sum(), True).value(torch.ones(3)))
    refused("float", lambda: Custom(lambda r: 1.0, True).value(torch.ones(3)))


def test_a_linear_function_has_no_curvature():
    assert Custom(lambda r: 3 * r, True).curvature(torch.ones(2)).tolist() == [0.0, 0.0]
