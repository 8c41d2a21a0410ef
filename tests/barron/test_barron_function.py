"""Functions with Barron norms: every rule as an inequality on thousands of random functions, closed forms, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.integrate
import torch
from random_series import RandomSeries, frequencies, lattice, moments, random_periods, slack
from refusals import refusals

import sciml_bounds as sb

B = sb.barron.BarronFunction


def spectral(values, periods, multiplier):
    """Apply a Fourier multiplier to values on the lattice."""
    return np.fft.ifftn(np.fft.fftn(values) * multiplier(frequencies(periods))).real


#: What each rule makes of functions f, g, h, and the same of their values by numpy; p are the periods.
RULES = {
    "sum": (lambda f, g, h: f + g, lambda f, g, h, p: f + g),
    "difference": (lambda f, g, h: 2.5 - f, lambda f, g, h, p: 2.5 - f),
    "product": (lambda f, g, h: f * g, lambda f, g, h, p: f * g),
    "power": (lambda f, g, h: f**3, lambda f, g, h, p: f**3),
    "polynomial": (
        lambda f, g, h: f.polynomial([0.5, -1.0, 0.0, 2.0, 1.0]),
        lambda f, g, h, p: 0.5 - f + 2 * f**3 + f**4,
    ),
    "derivative": (
        lambda f, g, h: f.derivative(0),
        lambda f, g, h, p: spectral(f, p, lambda w: 1j * w[..., 0]),
    ),
    "second derivative of a product": (
        lambda f, g, h: (f * g).derivative(0).derivative(f.dimension - 1),
        lambda f, g, h, p: spectral(f * g, p, lambda w: -w[..., 0] * w[..., -1]),
    ),
    "resolvent": (
        lambda f, g, h: f.resolvent(),
        lambda f, g, h, p: spectral(f, p, lambda w: 1 / (1 + (w**2).sum(-1))),
    ),
    "flux": (
        lambda f, g, h: f.flux(g)[0],
        lambda f, g, h, p: g * spectral(f, p, lambda w: 1j * w[..., 0]),
    ),
    "flux of a matrix": (
        lambda f, g, h: f.flux([[g, h], [h, 1.0]])[0] if f.dimension == 2 else f.flux([[g]])[0],
        lambda f, g, h, p: sum(
            a * spectral(f, p, lambda w, i=i: 1j * w[..., i]) for i, a in enumerate([g, h][: len(p)])
        ),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_rules_hold_for_random_functions(rule):
    """300 for each rule: moments of any order are bounds, bands are limits, and values are those of dense sums."""
    rng = np.random.default_rng(0)
    carried, dense = RULES[rule]
    for _ in range(300):
        periods = random_periods(rng)
        drawn, x = [RandomSeries(rng, periods) for _ in range(3)], lattice(periods)
        function = carried(*(one.function for one in drawn))
        values = dense(*(one.values(x) for one in drawn), periods)
        scale, allowed = np.abs(values).max(), slack(values, periods)
        np.testing.assert_allclose(function(x).numpy(), values, rtol=0, atol=1e-11 * (1 + scale) * 10)
        exact = moments(values, periods)
        tight = np.array(function.tightened().moments)
        np.testing.assert_allclose(tight[:2], exact[:2], rtol=1e-9, atol=20 * allowed[1])
        assert (exact <= np.array(function.moments) * (1 + 1e-12) + 10 * allowed).all()
        beyond = (np.abs(frequencies(periods)) > np.array(function.band) * (1 + 1e-12) + 1e-12).any(-1)
        assert np.abs(np.fft.fftn(values, norm="forward"))[beyond].max(initial=0) <= 1e-13 * (1 + scale) * 10


def test_rules_are_never_weaker_than_those_of_norms_alone():
    """||f g|| <= ||f|| ||g||, ||f^k|| <= ||f||^k, ||d_i f|| <= W_i ||f||, ||(I - Laplace)^-1 f|| <= ||f||."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        periods = random_periods(rng)
        f, g = (RandomSeries(rng, periods).function for _ in range(2))
        assert (f * g).norm <= f.norm * g.norm * (1 + 1e-12)
        assert (f**4).norm <= f.norm**4 * (1 + 1e-12)
        assert f.derivative(0).norm <= f.band[0] * f.norm * (1 + 1e-12)
        assert f.resolvent().norm <= f.norm * (1 + 1e-12)


def test_rules_are_attained():
    """Sums of different waves, products with constants, derivatives of one wave, the resolvent at |w| = 1."""
    f, g = B.fourier([[1]], [2.0], 2 * math.pi), B.fourier([[3]], [1j], 2 * math.pi)
    for carried in (f + g, f * 3.0, g.derivative(0), g.derivative(0).derivative(0)):
        np.testing.assert_allclose(carried.moments, carried.tightened().moments, rtol=1e-13)
    np.testing.assert_allclose(f.resolvent().moments[0], 2.0)  # the order 0 gains nothing for waves of any length
    np.testing.assert_allclose(f.resolvent().moments[1:3], f.resolvent().tightened().moments[1:3], rtol=1e-13)


def test_the_resolvent_of_a_constant_keeps_its_norm():
    """A factor 1/d (lemma 3.4 of Chen, Lu and Lu, arXiv:2106.07539) would be too small."""
    one = B.fourier([[0, 0, 0]], [1.0])
    assert one.resolvent().norm == one.norm == 1
    assert float(one.resolvent()(torch.zeros(3))) == 1


def test_polynomials_of_small_functions_are_not_bounded_by_the_highest_power():
    """1 + f with ||f|| small has a norm near 1, and not of the order of ||f||."""
    f = B.fourier([[1]], [0.01], 2 * math.pi)
    assert f.polynomial([1.0, 1.0]).norm == pytest.approx(1.02)


@pytest.mark.parametrize("kind", ["fourier", "cosine"])
def test_a_number_joins_the_constant_of_a_series(kind):
    """1 + f has the norm that its waves have, also where it takes a constant away, and stays a series."""
    rng = np.random.default_rng(3)
    for _ in range(200):
        modes = np.vstack([np.zeros((1, 2), dtype=int), rng.integers(0, 4, (3, 2))])
        coefficients, number = rng.standard_normal(4), rng.standard_normal()
        f = getattr(B, kind)(modes, coefficients, [1.0, 2.0])
        expected = getattr(B, kind)(modes, coefficients + np.array([number, 0, 0, 0]), [1.0, 2.0])
        x = rng.uniform(-1, 2, (5, 2))
        for total in (f + number, number + f, f - -number, -(-number - f)):
            assert total.norm == pytest.approx(expected.norm, rel=1e-13)
            assert total.norm == pytest.approx(total.tightened().norm, rel=1e-13)
            np.testing.assert_allclose(total(x), expected(x), rtol=0, atol=1e-13)
            np.testing.assert_allclose(total.waves()(x), expected(x), rtol=0, atol=1e-13)


def test_a_number_beside_waves_that_are_not_a_series_of_cosines():
    """1 + sin is not a sine series, and its norm is the sum of both; unresolved parts of samples remain counted."""
    f = 1.0 + B.sine([[1, 1]], [2.0])
    assert f.norm == 3 + 2 * math.pi * math.sqrt(2)
    assert float(f([0.5, 0.5])) == 3
    samples = [3.0, 1.0, -1.0, 1.0]  # 1 + 2 cos(2 pi x)
    known = B.sampled(samples, decay=(2, 500.0))
    assert (known - 1.0).moments[0] == pytest.approx(known.moments[0] - 1)
    assert (known - 1.0).moments[1:] == known.moments[1:]
    assert (B.gaussian([0.0], 1.0) + 2.0).moments[0] == 3


@pytest.mark.parametrize(
    "f",
    [B.fourier([[1], [2]], [1.0, 2j]), B.cosine([[0], [2]], [1.0, 2.0]), B.sine([[1]], [3.0]), B.gaussian([0.0], 1.0)],
)
def test_functions_are_divided_by_numbers(f):
    half, x = f / 2, np.linspace(0, 1, 9)[:, None]
    np.testing.assert_allclose(half(x), f(x).numpy() / 2, rtol=1e-15)
    assert half.norm == f.norm / 2
    assert type(half.value) is type(f.value)
    assert (f / np.float64(-0.5)).norm == 2 * f.norm
    assert (-f / 4).kind == f.kind


def test_functions_without_series_follow_the_same_rules():
    """A Gaussian times a ridge in d = 3, and its slope by differences of order two (h = 1e-4: 1e-8 and more)."""
    profile = B.gaussian([0.3], 0.7)
    a = [1.0, -2.0, 0.0]
    f = B.gaussian([0.0, 0.1, 0.2], 1.0) * B.ridge(profile, a, 0.5) ** 2 + 1.0
    x = torch.randn((50, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = x @ torch.tensor(a, dtype=torch.float64) + 0.5 - 0.3
    centred = x - torch.tensor([0.0, 0.1, 0.2], dtype=torch.float64)
    expected = 1 + (-centred.square().sum(-1) / 2 - t.square() / 0.7**2).exp()
    torch.testing.assert_close(f(x), expected, rtol=1e-13, atol=0)
    h = torch.tensor([0.0, 1e-4, 0.0], dtype=torch.float64)
    slope = f.derivative(1)
    torch.testing.assert_close(slope(x), (f(x + h) - f(x - h)) / 2e-4, rtol=0, atol=1e-6)
    twice = slope.derivative(0)(x)
    step = torch.tensor([1e-4, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(twice, (slope(x + step) - slope(x - step)) / 2e-4, rtol=0, atol=1e-5)
    assert f.kind == slope.kind == "bound"
    assert math.isfinite(slope.norm)
    assert slope(x).abs().max() <= slope.moments[0]


@pytest.mark.parametrize("dim", [1, 2, 5, 10])
@pytest.mark.parametrize("width", [0.3, 2.0])
def test_moments_of_gaussians_are_integrals_of_their_transforms(dim, width):
    """Of the radial density r^(d-1) exp(-r^2 s^2 / 2), by quadrature."""
    f = B.gaussian([0.5] * dim, width)
    density = lambda r, k: r ** (dim - 1 + k) * math.exp(-((r * width) ** 2) / 2)  # noqa: E731
    reach = 15 / width  # beyond it exp(-112) is left
    total = scipy.integrate.quad(density, 0, reach, (0,))[0]
    for k, moment in enumerate(f.moments):
        assert moment == pytest.approx(scipy.integrate.quad(density, 0, reach, (k,))[0] / total, rel=1e-8)
    assert float(f(torch.full((dim,), 0.5))) == 1


def test_what_is_printed_is_a_bound():
    shown = repr(B.cosine([[1]], [1.0]))
    assert shown.splitlines()[2].split() == ["Barron", "norm", "(bound)", "4.142"]  # 1 + pi = 4.14159


ONE = B.cosine([[1, 1]], [1.0])


test_bad_input = refusals(
    ("modes dtype float64", lambda: B.fourier(np.array([[1.0]]), [1.0])),
    ("modes shape", lambda: B.fourier([1, 2], [1.0, 2.0])),
    ("coefficients shape (2,) 1 modes (1,)", lambda: B.fourier([[1]], [1.0, 2.0])),
    ("NaN", lambda: B.cosine([[1]], [math.nan])),
    ("modes 0 series 1", lambda: B.sine([[1, 0]], [1.0])),
    ("periods 0.0 positive", lambda: B.fourier([[1]], [1.0], 0.0)),
    ("lengths 2 entries 1 axis", lambda: B.cosine([[1]], [1.0], (1.0, 2.0))),
    ("width -1.0", lambda: B.gaussian([0.0], -1.0)),
    ("variable", lambda: B.ridge(ONE, [1.0])),
    ("direction zero", lambda: B.ridge(B.gaussian([0.0], 1.0), [0.0, 0.0])),
    ("2 1 variables", lambda: ONE + B.gaussian([0.0], 1.0)),
    ("x shape", lambda: ONE(torch.zeros(3))),
    ("axis 2", lambda: ONE.derivative(2)),
    ("power -1", lambda: ONE ** (-1)),
    ("coefficients", lambda: ONE.polynomial([])),
    ("coefficient 2", lambda: ONE.flux([[1.0]])),
    ("series", lambda: B.gaussian([0.0], 1.0).resolvent()),
    ("waves function", lambda: B.gaussian([0.0], 1.0).tightened()),
    ("waves function", lambda: B.sampled([0.0, 1.0]).tightened()),
    ("65536 waves", lambda: B.sine(np.ones((1, 20), dtype=int), [1.0]).waves()),
    ("values shape", lambda: B.sampled(np.zeros((2, 2, 2, 2)))),
    ("values 1 NaN", lambda: B.sampled([0.0, math.nan])),
    ("order decay 0", lambda: B.sampled([0.0, 1.0], decay=(0, 1.0))),
    ("negative", lambda: B.sampled([0.0, 1.0], decay=(2, -1.0))),
    ("decay 2 order number", lambda: B.sampled([0.0, 1.0], decay=2)),
    ("lengths number axis 'ab'", lambda: B.cosine([[1, 1]], [1.0], "ab")),
    ("lengths number axis None", lambda: B.sine([[1, 1]], [1.0], None)),
    ("periods finite", lambda: B.fourier([[1]], [1.0], math.inf)),
    ("modes", lambda: B.cosine("ab", [1.0])),
    ("modes list", lambda: B.fourier([[1], [1, 2]], [1.0, 2.0])),
    ("coefficients", lambda: B.fourier([[1]], "a")),
    ("centre shape vector", lambda: B.gaussian(0.5, 1.0)),
    ("centre 1 NaN", lambda: B.gaussian([math.nan], 1.0)),
    ("profile float BarronFunction", lambda: B.ridge(1.0, [1.0])),
    ("number 'a'", lambda: ONE + "a"),
    ("number None", lambda: ONE * None),
    ("number [1.0]", lambda: ONE - [1.0]),
    ("divisor 0 number finite", lambda: ONE / 0),
    ("divisor 5e-324", lambda: ONE / 5e-324),
    ("divisor 'a' finite number", lambda: ONE / "a"),
    ("divided number norm", lambda: ONE / ONE),
    ("function", lambda: 1.0 / ONE),
    ("coefficients 1.0 list", lambda: ONE.polynomial(1.0)),
    ("coefficient NoneType number", lambda: ONE.flux(None)),
)
