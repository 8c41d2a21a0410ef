"""Norms of solutions before they are solved for: against dense Galerkin systems, quadrature, and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from refusals import refusals

import sciml_bounds as sb

B = sb.barron.BarronFunction
LARGEST = 7  # modes of the Galerkin systems along each axis


def galerkin(a, f, c):
    """Solve for waves with |k_i| <= 7 on the torus of period 2 pi: {mode: coefficient} of a, f and c, as numpy sums."""
    axis = range(-LARGEST, LARGEST + 1)
    modes = [(k, l) for k in axis for l in axis]
    place = {k: i for i, k in enumerate(modes)}
    matrix, right = np.zeros((len(modes),) * 2, complex), np.array([f.get(k, 0) for k in modes], complex)
    for (k, l), i in place.items():
        for shifts, weight in ((a, lambda p, q: p[0] * q[0] + p[1] * q[1]), (c, lambda p, q: 1)):
            for (s, t), value in shifts.items():
                if (j := place.get((k - s, l - t))) is not None:
                    matrix[i, j] += value * weight((k, l), modes[j])
    if not any(c.values()):  # the mean is not determined
        matrix[place[0, 0], place[0, 0]] = 1
    found = np.abs(np.linalg.solve(matrix, right))
    size = np.hypot(*np.array(modes).T)
    return found.sum(), (size * found).sum()


def waves(rng, count, mean, variation):
    """Draw a real function whose waves besides the mean have magnitudes that sum up to the variation."""
    drawn = {}
    weights = rng.dirichlet(np.ones(count)) * variation / 2
    for weight in weights:
        k, l = rng.integers(1, 3), rng.integers(-2, 3)
        value = weight * np.exp(2j * np.pi * rng.uniform())
        drawn[k, l] = drawn.get((k, l), 0) + value
        drawn[-k, -l] = np.conj(drawn[k, l])
    return {**drawn, (0, 0): mean}


def function(drawn):
    return B.fourier(list(drawn), list(drawn.values()), 2 * np.pi)


@pytest.mark.parametrize("seed", range(12))
def test_bounds_hold_on_the_torus(seed):
    """Galerkin solutions obey the same bounds as the solution: projection enlarges no magnitude of a wave."""
    rng = np.random.default_rng(seed)
    a, f = waves(rng, 3, 1.5, 1.5 * rng.uniform(0.05, 0.8)), waves(rng, 4, 0.0, 1.0)
    c = waves(rng, 2, 2.0, 0.3) if seed % 2 else {(0, 0): 0.0}
    bounds = sb.barron.solution_norms(function(a), function(f), function(c) if seed % 2 else 0.0)
    value, gradient = galerkin(a, f, c)
    assert value <= bounds.value * (1 + 1e-12)
    assert gradient <= bounds.gradient * (1 + 1e-12)
    assert bounds.gradient <= gradient / (1 - bounds.variation) * 2.5  # the rule's own factor, and a little


@pytest.mark.parametrize("seed", range(8))
def test_bounds_hold_for_matrices_on_the_torus(seed):
    """Galerkin systems with a matrix whose entries share some waves; the mean is not symmetric for odd seeds."""
    rng = np.random.default_rng([1, seed])
    mean = np.array([[2.0, 0.4], [0.4 + 0.5 * (seed % 2), 1.0]])
    lowest = np.linalg.eigvalsh((mean + mean.T) / 2)[0]
    size = 0.2 * lowest * rng.uniform(0.2, 0.95)
    entries = [[waves(rng, 2, mean[i, j], size) for j in range(2)] for i in range(2)]
    f, c = waves(rng, 4, 0.0, 1.0), {(0, 0): 0.7 * (seed % 3)}
    bounds = sb.barron.solution_norms([[function(e) for e in row] for row in entries], function(f), c[0, 0])
    modes = [(k, l) for k in range(-LARGEST, LARGEST + 1) for l in range(-LARGEST, LARGEST + 1)]
    place = {k: i for i, k in enumerate(modes)}
    matrix = np.diag(np.full(len(modes), c[0, 0], dtype=complex))
    for p, i in place.items():
        for r in range(2):
            for s in range(2):
                for shift, value in entries[r][s].items():
                    if (j := place.get((p[0] - shift[0], p[1] - shift[1]))) is not None:
                        matrix[i, j] += p[r] * value * modes[j][s]
    if not c[0, 0]:
        matrix[place[0, 0], place[0, 0]] = 1
    found = np.abs(np.linalg.solve(matrix, np.array([f.get(k, 0) for k in modes])))
    assert found.sum() <= bounds.value * (1 + 1e-12)
    assert (np.hypot(*np.array(modes).T) * found).sum() <= bounds.gradient * (1 + 1e-12)
    assert bounds.variation < 0.8


def test_multiples_of_the_identity_are_scalars():
    a = B.cosine([[0, 0], [1, 2]], [1.0, 0.5])
    f = B.sine([[1, 1], [2, 3]], [1.0, -0.3])
    for given in ([[a, 0.0], [0.0, a]], ((a, 0), (0.0, a))):
        assert sb.barron.solution_norms(given, f, 2.0) == sb.barron.solution_norms(a, f, 2.0)


def test_constant_matrices_attain_the_bound():
    """f = 2 cos(2 pi (x + y)) on the unit torus with A = [[2, 1], [1, 3]]: w . A w = 7 (2 pi)^2."""
    bounds = sb.barron.solution_norms([[2.0, 1.0], [1.0, 3.0]], B.fourier([[1, 1]], [2.0]))
    assert bounds.value == pytest.approx(2 / (7 * 4 * np.pi**2))
    assert bounds.variation == 0.0


@pytest.mark.parametrize("mean", [0.0, 3.0])
def test_constant_coefficients_attain_the_bound(mean):
    """U = F / (A |w|^2 + C): f = 3 sin(2 pi x) sin(pi y) on the unit square has |w|^2 = 5 pi^2."""
    bounds = sb.barron.solution_norms(2.0, B.sine([[2, 1]], [3.0]), mean)
    exact = 3 / (2 * 5 * np.pi**2 + mean)
    assert bounds.value == pytest.approx(exact)
    assert bounds.gradient == pytest.approx(np.sqrt(5) * np.pi * exact)
    assert bounds.kind == "bound"


@pytest.mark.parametrize("variation", [0.1, 0.5, 0.9])
def test_bounds_hold_with_values_on_the_sides(variation):
    """(1 + q cos(pi x)) u' = cos(pi x) / pi + C in one dimension; 4,096 samples of the even continuation of u'."""
    x = np.arange(4096) / 2048
    a = 1 + variation * np.cos(np.pi * x)
    free, per_constant = np.cos(np.pi * x) / np.pi / a, 1 / a
    slope = free - free.mean() / per_constant.mean() * per_constant  # u(1) = u(0), and the continuation is even
    exact = np.abs(np.fft.fft(slope, norm="forward"))
    bounds = sb.barron.solution_norms(B.cosine([[0], [1]], [1.0, variation]), B.sine([[1]], [1.0]))
    assert exact.sum() <= bounds.gradient * (1 + 1e-12)
    size = np.pi * np.abs(np.fft.fftfreq(4096, 1 / 4096))
    assert (exact[1:] / size[1:]).sum() <= bounds.value * (1 + 1e-12)
    assert bounds.gradient == pytest.approx(1 / np.pi / (1 - variation))


def test_hundred_dimensions():
    """a = 1 + 0.5 cos(pi x_1), f = cos(pi x_2), zero normal derivatives, c = 1: |w| = pi."""
    modes = np.zeros((2, 100), dtype=int)
    modes[1, 0] = 1
    f = np.zeros((1, 100), dtype=int)
    f[0, 1] = 1
    bounds = sb.barron.solution_norms(B.cosine(modes, [1.0, 0.5]), B.cosine(f, [1.0]), 1.0)
    assert bounds.gradient == pytest.approx(2 * np.pi / (np.pi**2 + 1))


def test_samples_make_estimates():
    x = np.arange(16) / 16
    f = B.sampled(np.sin(2 * np.pi * x))
    assert sb.barron.solution_norms(B.fourier([[0], [1]], [1.0, 0.2]), f).kind == "estimate"
    assert "Barron norm (estimate)" in repr(sb.barron.solution_norms(1.0, f))


def on_the_circle(a, c, f, largest=60):
    """Sums of |U| and |w| |U| of -(a u')' + c u = f of period 2 pi, by waves up to a mode; {k: coefficient} each."""
    k = np.arange(-largest, largest + 1)
    matrix = np.zeros((len(k),) * 2)
    for terms, weight in ((a, np.outer(k, k)), (c, np.ones((len(k),) * 2))):
        for mode, value in terms.items():
            matrix += np.where(k[:, None] - k == mode, value * weight, 0.0)
    found = np.abs(np.linalg.solve(matrix, [f.get(mode, 0.0) for mode in k]))
    return found.sum(), np.abs(k) @ found


def even(mean, mode, amplitude):
    """mean + amplitude cos(mode x), as waves."""
    return {0: mean, mode: amplitude / 2, -mode: amplitude / 2}


@pytest.mark.parametrize(
    ("a", "c", "f", "value", "gradient"),
    [
        # a tiny: u = 1 / (2 - 1.5 cos x), of which all waves are positive and add up to u(0)
        ({0: 1e-8}, even(2.0, 1, -1.5), {0: 1.0}, 0.99, 0.0),
        # |w| = 10 = sqrt(C / A), where |w| M is largest, and not at the lowest frequency
        ({0: 0.01}, even(1.0, 10, -0.01), {0: 1.0}, 0.99, 0.99),
        # the mean of u comes from the waves, through M = 1 / C at w = 0
        ({0: 1.0}, even(0.1, 1, -0.02), even(0.0, 1, 1.0), 0.88, 0.98),
        # fast waves of u, which a slow one of a moves by little: a |w| |U| adds up again, and |U| does not
        (even(1.0, 1, -0.1), {}, even(0.0, 40, 1.0), 0.2, 0.999),
    ],
)
def test_bounds_are_nearly_attained_where_waves_add_up(a, c, f, value, gradient):
    def series(terms):
        return B.fourier([[mode] for mode in terms], list(terms.values()), 2 * np.pi)

    sums = on_the_circle(a, c or {0: 1e-12}, f)  # without a reaction the mean is not determined
    bounds = sb.barron.solution_norms(series(a), series(f), series(c) if c else 0.0)
    assert value * bounds.value <= sums[0] <= bounds.value * (1 + 1e-9)
    assert gradient * bounds.gradient <= sums[1] <= bounds.gradient * (1 + 1e-9)


@pytest.mark.parametrize("mean", [[[1.0, 0.8], [0.0, 1.0]], [[1.0, 0.0], [0.8, 1.0]], [[2.0, 1.5], [-0.5, 1.0]]])
def test_means_that_are_not_symmetric_count_by_their_least_quotient(mean):
    """A = min w . mean w over unit vectors; the variation is a wave of the spectral norm 0.1 in two terms."""
    angle = np.linspace(0, np.pi, 100001)
    w = np.stack([np.cos(angle), np.sin(angle)], 1)
    least = np.einsum("ni,ij,nj->n", w, np.array(mean), w).min()
    wave = B.fourier([[1, 0]], [0.1])
    entries = [[mean[0][0] + wave, mean[0][1]], [mean[1][0], mean[1][1]]]
    found = sb.barron.solution_norms(entries, B.fourier([[1, 1]], [1.0])).variation
    assert found == pytest.approx(0.1 / least, rel=1e-8)


def test_tails_and_sampled_reactions_make_estimates():
    """What samples miss of a function is not in its series, though its norm may be bounded."""
    x = np.arange(16) / 16
    f = B.sampled(np.sin(2 * np.pi * x), decay=(3, (2 * np.pi) ** 3))
    assert f.kind == "bound"
    assert sb.barron.solution_norms(1.0, f).kind == "estimate"
    known = B.fourier([[1]], [1.0])
    sampled = B.sampled(2 + np.cos(2 * np.pi * x))
    assert sb.barron.solution_norms(1.0, known, 2.0).kind == "bound"
    assert sb.barron.solution_norms(1.0, known, sampled).kind == "estimate"
    assert sb.barron.solution_norms(sampled, known, 2.0).kind == "estimate"


SINE, COSINE = B.sine([[1]], [1.0]), B.cosine([[1]], [1.0])


test_bad_input = refusals(
    ("1 mean", lambda: sb.barron.solution_norms(1.0 + B.fourier([[1]], [1.0]), B.fourier([[1]], [1.0]))),
    (
        "together",
        lambda: sb.barron.solution_norms(B.cosine([[0], [1]], [1.0, 0.9]), SINE, B.cosine([[0], [1]], [5.0, 4.9])),
    ),
    ("mean -1", lambda: sb.barron.solution_norms(-1.0, SINE)),
    ("reaction mean 0", lambda: sb.barron.solution_norms(1.0, SINE, COSINE)),
    ("source mean reaction", lambda: sb.barron.solution_norms(1.0, B.cosine([[0]], [1.0]))),
    ("boundary conditions lengths", lambda: sb.barron.solution_norms(SINE, COSINE)),
    ("boundary conditions lengths", lambda: sb.barron.solution_norms(B.fourier([[0]], [1.0]), COSINE)),
    ("boundary conditions lengths", lambda: sb.barron.solution_norms(B.cosine([[0]], [1.0], 2.0), COSINE)),
    ("source series", lambda: sb.barron.solution_norms(1.0, B.gaussian([0.0], 1.0))),
    ("reaction nan", lambda: sb.barron.solution_norms(1.0, SINE, float("nan"))),
    ("coefficient 1 row", lambda: sb.barron.solution_norms([[1.0, 0.0]], SINE)),
    ("mean -1", lambda: sb.barron.solution_norms([[1.0, 2.0], [2.0, 1.0]], B.fourier([[1, 1]], [2.0]))),
    ("matrix Fourier", lambda: sb.barron.solution_norms([[1.0, 0.1], [0.1, 1.0]], B.sine([[1, 1]], [1.0]))),
)
