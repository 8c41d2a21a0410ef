"""Contractions on finite elements in one dimension, growth of norms on exact iterates, published constants by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from refusals import refusals

import sciml_bounds as sb
from sciml_bounds.barron._norm_growth import (
    NormGrowth,
    corrected_growth,
    linear_growth,
    published_growth,
    published_iteration,
    standard_iteration,
)

B = sb.barron.BarronFunction
POINCARE = 1 / np.pi  # of the unit interval with u = 0 at both ends; of its finite elements it is smaller


class Line:
    """Linear elements on n cells of the unit interval, L = p^2 / 2 + c (sqrt(1 + p^2) - 1): D2L between 1 and 1 + c."""

    def __init__(self, c, n=48):
        self.c, self.n = c, n
        h = 1 / n
        self.stiffness = (2 * np.eye(n - 1) - np.eye(n - 1, k=1) - np.eye(n - 1, k=-1)) / h
        self.mass = h / 6 * (4 * np.eye(n - 1) + np.eye(n - 1, k=1) + np.eye(n - 1, k=-1))
        x = np.arange(1, n) * h
        self.load = 40 * np.sin(3 * x) * x * h

    def derivative(self, u):
        p = np.diff(u, prepend=0, append=0) * self.n
        return -np.diff(p + self.c * p / np.sqrt(1 + p**2)) - self.load

    def solution(self):
        u = np.zeros(self.n - 1)
        for _ in range(60):
            p = np.diff(u, prepend=0, append=0) * self.n
            bend = (1 + self.c / (1 + p**2) ** 1.5) * self.n
            hessian = np.diag(bend[:-1] + bend[1:]) - np.diag(bend[1:-1], 1) - np.diag(bend[1:-1], -1)
            u = u - np.linalg.solve(hessian, self.derivative(u))
        return u

    def errors(self, product, step, count):
        """Norms ||u_t - u*|| in an inner product."""
        u, exact, norms = np.zeros(self.n - 1), self.solution(), []
        for _ in range(count):
            e = u - exact
            norms.append(math.sqrt(e @ product @ e))
            u = u - step * np.linalg.solve(product, self.derivative(u))
        return np.array(norms)


@pytest.mark.parametrize("c", [1.0, 3.0, 15.0])
@pytest.mark.parametrize("with_mass", [False, True])
def test_every_step_contracts_as_proven(c, with_mass):
    line = Line(c)
    product = line.stiffness + with_mass * line.mass
    iteration = standard_iteration(1.0, 1.0 + c, POINCARE if with_mass else None)
    norms = line.errors(product, iteration.step, 25)
    kept = norms[:-1] > 1e-11 * norms[0]  # round-off of the solution
    assert (norms[1:][kept] <= iteration.factor * norms[:-1][kept] * (1 + 1e-6)).all()
    count = iteration.iterations(1e-3)
    assert count >= 25 or norms[count] <= 1e-3 * norms[0]


def test_the_linear_case_attains_the_factor():
    """Eigenvalues 1 and 4 of the preconditioned operator both occur: step 2 / 5, factor 3 / 5."""
    iteration = standard_iteration(1.0, 4.0)
    assert (iteration.step, iteration.factor) == (0.4, 0.6)
    values = np.array([1.0, 4.0])
    np.testing.assert_allclose(np.abs(1 - iteration.step * values), iteration.factor)


def test_published_iterations_to_a_millionth():
    """On the unit square, C = 1 / (pi sqrt 2): 528, 8,652 and 2,218,392 for upper / lower = 2, 4, 16."""
    poincare = 1 / (math.pi * math.sqrt(2))
    assert [published_iteration(1.0, u, poincare).iterations(1e-6) for u in (2.0, 4.0, 16.0)] == [528, 8652, 2218392]
    ours = [[standard_iteration(1.0, u, C).iterations(1e-6) for u in (2.0, 4.0, 16.0)] for C in (None, poincare)]
    assert ours == [[13, 28, 111], [14, 29, 116]]


@pytest.mark.parametrize("seed", range(15))
def test_norms_of_exact_iterates_obey_the_growth(seed):
    """u <- u - step (I - Laplace)^-1 (-div(a grad u) + c u - f) in waves, exactly."""
    rng = np.random.default_rng(seed)
    dim = int(rng.integers(1, 3))
    periods = float(10 ** rng.uniform(-0.5, 1))

    def series(terms):
        amplitudes = rng.standard_normal(terms) * np.exp(2j * np.pi * rng.random(terms))
        return B.fourier(rng.integers(-3, 4, (terms, dim)), amplitudes, periods)

    a, c, f = 2.0 + series(2), 1.0 + series(1), series(3)
    step = float(rng.uniform(0.05, 1.0))
    value, barron = linear_growth(a, f, step, c)
    u = series(2)
    for _ in range(3):
        norms = u.tightened().moments[0], u.tightened().norm
        divergence = sum(part.derivative(axis) for axis, part in enumerate(u.flux(a)))
        u = (u - step * (c * u - divergence - f).resolvent()).tightened()
        assert u.moments[0] <= value.after(1, norms[0]) * (1 + 1e-12)
        assert u.norm <= barron.after(1, norms[1]) * (1 + 1e-12)


def test_fast_coefficients_make_slow_waves_of_fast_ones():
    """a = 2 cos 20 x takes cos 19 x to cos x, with 19 / 2 of a possible 1 + 20 / 2 = 11 for every wave of a."""
    a, u = B.fourier([[20]], [2.0], 2 * np.pi), B.fourier([[19]], [1.0], 2 * np.pi)
    value, _ = linear_growth(a, 0.0 * u, 1.0)
    after = (u + u.flux(a)[0].derivative(0).resolvent()).tightened().moments[0]
    assert 0.45 * (value.factor - 1) <= after - 1 <= value.factor - 1


def test_growth_by_reactions_is_attained():
    """u = 1 and c = -2 cos w x, w = sqrt 2 - 1, where (1 + w) / (1 + w^2) is largest; and c = -3 at w = 0."""
    w, step = math.sqrt(2) - 1, 0.25
    c, one = B.fourier([[1]], [-2.0], 2 * np.pi / w), B.fourier([[0]], [1.0], 2 * np.pi / w)
    value, barron = linear_growth(0.0, 0.0 * one, step, c)
    after = (one - step * (c * one).resolvent()).tightened()
    assert barron.after(1, 1.0) == pytest.approx(after.norm, rel=1e-12)
    assert after.moments[0] == pytest.approx(1 + step * 2 / (1 + w**2), rel=1e-12)
    assert value.after(1, 1.0) == 1 + step * 2
    for growth in linear_growth(0.0, 0.0 * one, step, -3.0):
        assert growth.after(1, 1.0) >= 1 + 3 * step
    assert linear_growth(0.0, 0.0 * one, step, -3.0)[0].factor == 1.75


def test_factors_by_hand():
    """a = 3 + 4 cos 5 x and c = 2 - cos x: 1 + step (3 + 4 (1 + 5 / 2) + 2 + 1) and 1 + 1.2071 step (3 + 4 + 2 + 1)."""
    a, c = B.fourier([[0], [5]], [3.0, 4.0], 2 * np.pi), B.fourier([[0], [1]], [2.0, -1.0], 2 * np.pi)
    value, barron = linear_growth(a, B.fourier([[0], [2]], [7.0, 5.0], 2 * np.pi), 0.5, c)
    assert value.factor == pytest.approx(1 + 0.5 * (3 + 4 * 3.5 + 2 + 1))
    assert barron.factor == pytest.approx(1 + 0.5 * (1 + math.sqrt(2)) / 2 * 10)
    assert value.constant == pytest.approx(0.5 * (7 + 5 / 5))
    assert barron.constant == pytest.approx(0.5 * (7 + 5 * 3 / 5))


def test_growth_in_closed_form():
    growth = NormGrowth(1.5, 2.0)
    assert growth.after(4) == pytest.approx(2 * (1.5**4 - 1) / 0.5)
    assert growth.after(0, 3.0) == 3.0
    assert growth.after(10000) == math.inf


def test_published_and_corrected_growth_by_hand():
    options = {"start": 10.0, "band": 2.0, "widening": 3, "size": 0.5, "power": 2}
    assert published_growth(3, 0.1, 4, **options) == pytest.approx(7 * math.log10(1 + 0.1 * 4 * 36 * 0.5) + 6)
    C = [math.log10(1 + 0.1 * 4 * W * 0.5) for W in (6, 18, 54)]
    assert corrected_growth(3, 0.1, 4, **options) == pytest.approx(8 * 1 + 4 * C[0] + 2 * C[1] + C[2])


def test_a_short_table():
    assert repr(standard_iteration(1.0, 2.0)).splitlines() == [
        "GradientIteration",
        "  step                 0.6667",
        "  contraction (bound)  0.3334",
    ]


test_bad_input = refusals(
    ("upper 1 2", lambda: standard_iteration(2.0, 1.0)),
    ("lower 0", lambda: standard_iteration(0.0, 1.0)),
    ("poincare -1", lambda: standard_iteration(1.0, 2.0, -1.0)),
    ("<= 1 /", lambda: published_iteration(9.0, 9.0, 0.1)),
    ("reduction 2", lambda: standard_iteration(1.0, 2.0).iterations(2.0)),
    ("step 0", lambda: linear_growth(1.0, B.cosine([[1]], [1.0]), 0.0)),
    ("source series", lambda: linear_growth(1.0, B.gaussian([0.0], 1.0), 0.1)),
)
