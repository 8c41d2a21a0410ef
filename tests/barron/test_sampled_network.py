"""Sampled networks: mean errors over many draws against the bound, exact errors by closed forms and quadrature."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from refusals import refusals

import sciml_bounds as sb
from sciml_bounds.barron._sampled_network import _STEEPNESS_PER_NEURON

B = sb.barron.BarronFunction


def squares(f, network, points, slopes):
    """Mean of (f - network)^2 over points, and of the squared difference of the gradients where `slopes` are given."""
    difference = (f(points) - network(points).detach()).square()
    if slopes is not None:
        difference = difference + (slopes - network.gradient(points).detach()).square().sum(-1)
    return float(difference.mean())


def gradient(f, points):
    x = points.clone().requires_grad_()
    return torch.autograd.grad(f(x).sum(), x)[0]


def measured(f, volume, width, norm, activation, draws):
    """Mean square errors of many draws; the points of each are drawn too, so that its square has the right mean."""
    errors = []
    lengths = torch.tensor(f.value.lengths if hasattr(f.value, "lengths") else f.value.periods, dtype=torch.float64)
    for seed in range(draws):
        sampled = sb.barron.sample_network(f, width, norm, activation, seed=seed)
        generator = torch.Generator().manual_seed(10**6 + seed)
        points = torch.rand((200, f.dimension), generator=generator, dtype=torch.float64) * lengths
        slopes = gradient(f, points) if norm == "H1" else None
        errors.append(volume * squares(f, sampled.network, points, slopes))
    return np.array(errors), sampled.error_bound


FUNCTIONS = {
    "fourier": (B.fourier([[1, -2], [0, 3], [2, 2], [0, 0]], [1 + 1j, -0.5, 0.3j, 2.0], periods=(1.5, 0.7)), 1.05),
    "cosine": (B.cosine([[1, 2, 0], [0, 3, 1], [0, 0, 0]], [1.0, -0.5, 2.0], lengths=(1.5, 0.7, 1.0)), 1.05),
    "sine": (B.sine([[1, 2], [2, 1]], [1.0, -0.5], lengths=(1.5, 0.7)), 1.05),
    "large box": (B.fourier([[1, -1], [0, 1]], [1 + 1j, -0.5], periods=(9.0, 11.0)), 99.0),
    "small box": (B.cosine([[1, 0], [2, 1]], [1.0, 0.4], lengths=(0.1, 0.2)), 0.02),
}
METHODS = [("L2", "cosine"), ("H1", "cosine"), ("L2", "step"), ("L2", "sigmoid"), ("L2", "relu"), ("H1", "relu")]


@pytest.mark.slow
@pytest.mark.parametrize(("f", "volume"), FUNCTIONS.values(), ids=FUNCTIONS.keys())
@pytest.mark.parametrize(("norm", "activation"), METHODS)
def test_the_mean_error_obeys_the_bound(f, volume, norm, activation):
    """Over 100 draws, up to 4 standard errors of the mean; and the bound is no more than 4 times too large."""
    errors, bound = measured(f, volume, 20, norm, activation, 100)
    margin = 4 * errors.std(ddof=1) / np.sqrt(len(errors))
    assert errors.mean() <= bound**2 + margin
    assert errors.mean() >= bound**2 / 16


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "activation"), METHODS)
def test_draws_have_no_bias(norm, activation):
    """The mean of 10,000 networks of 20 neurons is one of 200,000, whose error is 1 / 100 of that of one."""
    f = B.fourier([[1, -1], [0, 1]], [1 + 1j, -0.5], periods=(4.5, 5.7))  # with values and slopes at the centre
    x = torch.rand((40, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x * torch.tensor([4.5, 5.7])
    large = sb.barron.sample_network(f, 200000, norm, activation, seed=7)
    error = squares(f, large.network, x, gradient(f, x) if norm == "H1" else None) ** 0.5
    # the mean of a squared norm over 40 points; 2 for what one draw may be above its mean
    assert error * (4.5 * 5.7) ** 0.5 <= 2 * large.error_bound


def test_the_figures_of_six_dimensions():
    """400 random modes in d = 6: E err^2 k is constant, half of B^2 (L2) and B_H^2 (H1), and as the sharp form says.

    Errors are exact: waves of whole periods are orthogonal, so that the error is a sum over modes of c_j - its draw.
    """
    rng = np.random.default_rng(0)
    modes = rng.integers(-4, 5, (400, 6))
    c = rng.standard_normal(400) / (1 + (modes**2).sum(1)) * np.exp(2j * np.pi * rng.random(400))
    f = B.fourier(modes, c)
    w, _, a = (part.numpy() for part in f.value.cosines())
    squared = (w**2).sum(1)
    for norm, sizes in (("L2", np.ones_like(a)), ("H1", np.sqrt(1 + squared))):
        B0, exact = (a * sizes).sum(), (a**2 * sizes**2).sum() / 2
        for width in (16, 128, 1024):
            errors = []
            for seed in range(60):
                network = sb.barron.sample_network(f, width, norm, seed=seed).network
                place = {tuple(np.round(row, 6)): i for i, row in enumerate(w)}
                rows = [place[tuple(np.round(row, 6))] for row in network.weights.detach().numpy()]
                drawn = np.zeros(len(a))
                np.add.at(drawn, rows, network.outer.detach().numpy())
                errors.append(((drawn - a) ** 2 * sizes**2).sum() / 2)
            mean, margin = np.mean(errors), 4 * np.std(errors, ddof=1) / 60**0.5
            sharp = (B0**2 / 2 - exact) / width
            assert abs(mean - sharp) <= margin
            assert margin < 0.1 * sharp
            assert 0.4 < mean / (B0**2 / width) < 0.51
            assert sb.barron.sample_network(f, width, norm).error_bound == pytest.approx(B0 / np.sqrt(2 * width))


@pytest.mark.parametrize(("norm", "activation"), METHODS)
def test_widths_are_those_of_the_bound(norm, activation):
    f, _ = FUNCTIONS["cosine"]
    width = sb.barron.width_for(f, 0.5, norm, activation)
    assert sb.barron.sample_network(f, width, norm, activation).error_bound <= 0.5
    assert width == 1 or sb.barron.sample_network(f, width - 1, norm, activation).error_bound > 0.5


@pytest.mark.parametrize("symmetry", ["fourier", "cosine", "sine"])
def test_bounds_by_hand(symmetry):
    """Of whole and half periods S = 0 and K = 1 / 2; w l / 2 = pi / 2 for three halves, on a cube of sides 4."""
    f = B.fourier([[1, 1, 1]], [3.0], 4.0) if symmetry == "fourier" else getattr(B, symmetry)([[1, 1, 1]], [3.0], 4.0)
    w, r = (np.pi / 2, 3 * np.pi) if symmetry == "fourier" else (np.pi / 4, 1.5 * np.pi)
    w, root = w * np.sqrt(3), 3 * np.sqrt(64 / (7 * 2))
    expected = {
        ("L2", "cosine"): root, ("H1", "cosine"): root * np.hypot(1, w), ("L2", "step"): root * r,
        ("L2", "sigmoid"): 1.05 * root * r, ("L2", "relu"): root * r**2, ("H1", "relu"): root * r * np.hypot(r, w),
    }  # fmt: skip
    for (norm, activation), bound in expected.items():
        assert sb.barron.sample_network(f, 7, norm, activation).error_bound == pytest.approx(bound, rel=1e-12)


def test_steep_sigmoids_are_nearly_steps():
    """int (1[t > 0] - s(z t))^2 dt = (2 log 2 - 1) / z."""
    t = torch.linspace(-40, 40, 800001, dtype=torch.float64)
    square = float(((t > 0).double() - t.sigmoid()).square().sum() * 1e-4)
    assert square * 4 / 0.05**2 == pytest.approx(_STEEPNESS_PER_NEURON, rel=1e-4)


def test_constants_need_no_neurons():
    sampled = sb.barron.sample_network(B.cosine([[0, 0]], [3.0]), 5)
    assert sampled.network.width == 0
    assert sampled.error_bound == 0.0
    assert sampled.network([0.2, 0.3]).item() == 3.0


def test_small_errors_of_small_functions_have_widths():
    """Only their ratio counts: squares of either would underflow."""
    f, small = B.cosine([[1]], [1.0]), B.cosine([[1]], [1e-170])
    assert sb.barron.width_for(small, 1e-172) == pytest.approx(sb.barron.width_for(f, 1e-2), abs=1)
    assert sb.barron.width_for(f, 1e-150) == pytest.approx(5e299)


@pytest.mark.parametrize(("period", "printed"), [(1.0, "0.5346"), (4.0, "1.07")])
def test_the_table_prints_the_norm_over_the_box(period, printed):
    """sqrt(2 / 7) times the root of the volume, rounded upwards: an integral over the box, not a mean."""
    sampled = sb.barron.sample_network(B.fourier([[1]], [2.0], period), 7)
    assert sampled.error_bound == pytest.approx(np.sqrt(period * 2 / 7))
    assert repr(sampled).splitlines() == [
        "SampledNetwork",
        "  width                         7",
        "  activation                    cosine",
        f"  L2 norm of the error (bound)  {printed}",
    ]


def test_waves_that_are_estimates_make_estimates():
    """16 points see cos 32 pi x as a constant, so that the waves are not those of the function."""
    x = np.arange(16) / 16
    sampled = sb.barron.sample_network(B.sampled(np.cos(2 * np.pi * x) + np.cos(32 * np.pi * x)), 10)
    assert sampled.kind == "estimate"
    assert "(estimate)" in repr(sampled)
    assert "bound)" not in repr(sampled)
    assert sb.barron.sample_network(B.sampled(np.ones(16)), 10).kind == "estimate"
    assert sb.barron.sample_network(B.sampled(np.cos(2 * np.pi * x), decay=(2, 40.0)), 10).kind == "bound"


test_bad_input = refusals(
    ("series", lambda: sb.barron.width_for(B.gaussian([0.0], 1.0), 0.1)),
    ("error 0", lambda: sb.barron.width_for(B.cosine([[1]], [1.0]), 0.0)),
    ("norm 'H2'", lambda: sb.barron.width_for(B.cosine([[1]], [1.0]), 0.1, "H2")),
    (
        "activation 'tanh' 'cosine' 'relu' 'sigmoid' 'step'",
        lambda: sb.barron.width_for(B.cosine([[1]], [1.0]), 0.1, "L2", "tanh"),
    ),
    ("activation='step' L2", lambda: sb.barron.width_for(B.cosine([[1]], [1.0]), 0.1, "H1", "step")),
    ("width 0", lambda: sb.barron.sample_network(B.cosine([[1]], [1.0]), 0)),
    ("error 1e-200 function", lambda: sb.barron.width_for(B.cosine([[1]], [1.0]), 1e-200)),
    ("error 5e-324", lambda: sb.barron.width_for(B.cosine([[1]], [1.0]), 5e-324)),
    ("error 'a'", lambda: sb.barron.width_for(B.cosine([[1]], [1.0]), "a")),
    ("activation", lambda: sb.barron.width_for(B.cosine([[1]], [1.0]), 0.1, "L2", [])),
    ("seed 'a'", lambda: sb.barron.sample_network(B.cosine([[1]], [1.0]), 2, seed="a")),
    ("seed -1", lambda: sb.barron.sample_network(B.cosine([[1]], [1.0]), 2, seed=-1)),
    ("seed 1.5", lambda: sb.barron.sample_network(B.cosine([[1]], [1.0]), 2, seed=1.5)),
)
