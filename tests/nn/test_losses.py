"""Losses against closed forms, quadrature and sums over wavenumbers written here."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from refusals import refused

from sciml_bounds.nn.losses import LOSSES, relative_h1, relative_h1_spectral, relative_l2


def nodes(n, dim):
    x = torch.linspace(0, 1, n, dtype=torch.float64)
    return torch.meshgrid(*[x] * dim, indexing="ij")


def one(field):
    return field[None, None]


def test_l2_is_the_ratio_of_norms():
    p, t = torch.randn(2, 3, 2, 5, 4, dtype=torch.float64)
    expected = np.linalg.norm((p - t).numpy().reshape(3, -1), axis=1) / np.linalg.norm(t.numpy().reshape(3, -1), axis=1)
    np.testing.assert_allclose(relative_l2(p, t).numpy(), expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("dim", "function", "square"),
    [  # multilinear functions are their own interpolants: the integrals of u^2 + |grad u|^2 are exact
        (1, lambda x: x, 1 / 3 + 1),
        (1, lambda x: 1 - 2 * x, 1 / 3 + 4),
        (2, lambda x, y: x * y, 1 / 9 + 2 / 3),
        (2, lambda x, y: 3 + 0 * x, 9.0),
        (2, lambda x, y: x + 2 * y, 1 / 3 + 4 / 3 + 1 + 5),
        (3, lambda x, y, z: x * y * z, 1 / 27 + 3 / 9),
    ],
    ids=["x", "1-2x", "xy", "3", "x+2y", "xyz"],
)
def test_h1_is_exact_for_multilinear_polynomials(dim, function, square):
    t = one(torch.ones((6,) * dim, dtype=torch.float64))  # of norm 1
    u = one(function(*nodes(6, dim)))
    assert float(relative_h1(t + u, t)) == pytest.approx(square**0.5, rel=1e-14)


def test_h1_reaches_up_to_the_boundary():
    """A hat at a node next to the boundary has slopes on both of its sides: h 2/3 + 2 / h in one dimension."""
    t, hat = torch.ones(1, 1, 9, dtype=torch.float64), torch.zeros(1, 1, 9, dtype=torch.float64)
    hat[..., 1] = 1.0
    assert float(relative_h1(t + hat, t)) == pytest.approx((2 / 24 + 2 * 8) ** 0.5, rel=1e-14)
    edge = torch.zeros_like(hat)
    edge[..., 0] = 1.0
    assert float(relative_h1(t + edge, t)) == pytest.approx((1 / 24 + 8) ** 0.5, rel=1e-14)


def test_h1_converges_to_the_continuous_norm():
    """sin(pi x) sin(2 pi y): u^2 integrates to 1/4 and |grad u|^2 to 5 pi^2 / 4; the interpolant is h^2 away."""
    errors = []
    for n in (33, 65):
        x, y = nodes(n, 2)
        u = one(torch.sin(np.pi * x) * torch.sin(2 * np.pi * y))
        errors.append(abs(float(relative_h1(u + 1, torch.ones_like(u))) / (0.25 + 1.25 * np.pi**2) ** 0.5 - 1))
    assert errors[1] < 3e-3
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)


def test_h1_around_a_torus_is_the_one_with_the_first_node_repeated():
    u, t = torch.randn(2, 2, 1, 6, 8, dtype=torch.float64)

    def closed(field):
        field = torch.cat([field, field[..., :1, :]], -2)
        return torch.cat([field, field[..., :1]], -1)

    torch.testing.assert_close(LOSSES["h1-periodic"](u, t, None), relative_h1(closed(u), closed(t)))


def spectral_square(field, truncation):
    """The sum over all wavenumbers, written out."""
    spectrum = np.fft.fftn(field, norm="ortho")
    total = 0.0
    for index in itertools.product(*map(range, field.shape)):
        ks = [i if i <= n // 2 else i - n for i, n in zip(index, field.shape)]
        total += abs(spectrum[index]) ** 2 * (1 + sum(k * k for k in ks if abs(k) < truncation))
    return total


@pytest.mark.parametrize("shape", [(12,), (13,), (8, 9), (9, 8), (4, 5, 6)], ids=str)
@pytest.mark.parametrize("truncation", [3, 20])
def test_spectral_h1_is_the_sum_over_wavenumbers(shape, truncation):
    p, t = np.random.default_rng(0).standard_normal((2, *shape))
    expected = (spectral_square(p - t, truncation) / spectral_square(t, truncation)) ** 0.5
    found = relative_h1_spectral(one(torch.from_numpy(p)), one(torch.from_numpy(t)), truncation=truncation)
    assert float(found) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("kx", "ky", "weight"),
    [(0, 0, 1), (3, 4, 26), (19, 1, 363), (20, 1, 2), (25, 30, 1), (2, 20, 5)],
    ids=str,
)
def test_spectral_h1_takes_no_derivatives_from_wavenumber_twenty_on(kx, ky, weight):
    x, y = torch.meshgrid(*[torch.arange(64, dtype=torch.float64) / 64] * 2, indexing="ij")
    mode = torch.cos(2 * np.pi * (kx * x + ky * y))
    t = torch.ones(1, 1, 64, 64, dtype=torch.float64)
    size = 1.0 if kx == ky == 0 else 0.5  # the mean of the square
    assert float(relative_h1_spectral(t + mode, t)) == pytest.approx((size * weight) ** 0.5, rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_relative_and_have_gradients(name):
    loss = LOSSES[name]
    t = torch.randn(3, 2, 9, 8)
    p = torch.randn(3, 2, 9, 8, requires_grad=True)
    values = loss(p, t, None)
    assert values.shape == (3,)
    torch.testing.assert_close(loss(7 * p, 7 * t, None), values)
    torch.testing.assert_close(loss(torch.zeros_like(t), t, None), torch.ones(3))
    loss(p, t, None).sum().backward()
    assert bool(p.grad.isfinite().all())
    # a perfect prediction and a zero target give numbers, and gradients that are numbers
    q = t.clone().requires_grad_()
    loss(q, t, None).sum().backward()
    assert bool(q.grad.isfinite().all())
    assert bool((loss(t, t, None) < 1e-15).all())
    assert bool(loss(t, torch.zeros_like(t), None).isfinite().all())


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_predictions_are_summed_in_single(name):
    t = 1e-3 * torch.randn(2, 1, 32, 32)
    p = (t + 1e-4 * torch.randn_like(t)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = LOSSES[name](p, t, None)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, LOSSES[name](p.float(), t, None))


def test_bad_input_is_one_sentence():
    refused("shapes same", lambda: relative_l2(torch.zeros(1, 1, 4), torch.zeros(1, 1, 5)))
    refused("points", lambda: relative_h1(torch.zeros(1, 1, 1), torch.ones(1, 1, 1)))
