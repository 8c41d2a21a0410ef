from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from sciml_bounds.kernels import use_backend
from sciml_bounds.kernels.majorant import majorant_terms, safe_sqrt

SHAPES = [(7,), (5, 4), (2, 3, 4)]


def _by_quadrature(a, c, f, fluid, v, y, spacing):
    """The three terms of one sample by Gauss points on each cell: three an axis integrate degree five exactly."""
    points, weights = np.polynomial.legendre.leggauss(3)
    points, weights = (points + 1) / 2, weights / 2
    shape, dim = c.shape, c.ndim
    out = np.zeros((3, *shape))
    for cell in np.ndindex(*shape):
        if not fluid[cell]:
            continue
        values = v[tuple(slice(i, i + 2) for i in cell)]
        ends = [(y[k][cell], y[k][tuple(i + (k == j) for j, i in enumerate(cell))]) for k in range(dim)]
        divergence = sum((high - low) / h for (low, high), h in zip(ends, spacing))
        flux, residuals = 0.0, []
        for index in itertools.product(range(3), repeat=dim):
            at = points[list(index)]
            weight = math.prod(weights[list(index)]) * math.prod(spacing)
            u, gradient = 0.0, np.zeros(dim)
            for corner in np.ndindex(*(2,) * dim):
                hats = [t if s else 1 - t for s, t in zip(corner, at)]
                u += values[corner] * math.prod(hats)
                for k in range(dim):
                    slope = (1 if corner[k] else -1) / spacing[k]
                    gradient[k] += values[corner] * slope * math.prod(hats[:k] + hats[k + 1 :])
            there = [low + (high - low) * t for (low, high), t in zip(ends, at)]
            flux += weight * sum((a[k][cell] * gradient[k] - there[k]) ** 2 / a[k][cell] for k in range(dim))
            residuals.append((weight, f[cell] + divergence - c[cell] * u))
        volume = math.prod(spacing)
        mean = sum(w * r for w, r in residuals) / volume
        rest = sum(w * (r - mean) ** 2 for w, r in residuals)
        constant = max(h / (math.pi * math.sqrt(a[k][cell])) for k, h in enumerate(spacing))
        oscillation = constant * math.sqrt(rest)
        reaction = volume * mean**2 / c[cell] if c[cell] > 0 else 0.0
        if c[cell] > 0 and (math.sqrt(flux) + oscillation) ** 2 > flux + rest / c[cell]:
            oscillation, reaction = 0.0, reaction + rest / c[cell]
        out[(slice(None), *cell)] = flux, oscillation, reaction
    return out


@pytest.mark.parametrize("backend", ["torch", "compiled"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_terms_are_the_integrals_they_stand_for(backend, shape):
    spacing = (0.3, 0.2, 0.5)[: len(shape)]
    chosen = set()
    for data, fields, match in ((1, 1, False), (1, 2, True), (2, 2, False)):
        a = tuple(0.1 + torch.rand(data, *shape, dtype=torch.float64) for _ in shape)
        # no reaction, weak, strong: every branch
        c = torch.rand(data, *shape, dtype=torch.float64) * 10.0 ** torch.randint(-2, 4, (data, *shape))
        c = c * (torch.rand(data, *shape) > 0.3)
        f = torch.randn(1, *shape, dtype=torch.float64)
        fluid = torch.rand(1, *shape) > 0.2
        v = torch.randn(fields, *(n + 1 for n in shape), dtype=torch.float64)
        y = tuple(
            torch.randn(data, *(n + (i == j) for j, n in enumerate(shape)), dtype=torch.float64)
            for i in range(len(shape))
        )
        if match:  # a flux almost that of a linear field, where the oscillation is best left on its own
            a = tuple(torch.ones_like(part) for part in a)
            line = sum(torch.meshgrid(*[h * torch.arange(n + 1) for h, n in zip(spacing, shape)], indexing="ij"))
            v, y = line + 1e-3 * v, tuple(1 + 1e-3 * part for part in y)
        with use_backend(backend):
            found = torch.stack(majorant_terms(a, c, f, fluid, v, y, spacing)[:3])
        for sample in range(fields):
            k = sample if data > 1 else 0
            expected = _by_quadrature(
                [q[k].numpy() for q in a], c[k].numpy(), f[0].numpy(), fluid[0].numpy(), v[sample].numpy(),
                [q[k].numpy() for q in y], spacing,
            )  # fmt: skip
            # quadrature is exact for these polynomials; the squares cancel to a few digits less
            np.testing.assert_allclose(found[:, sample], expected, rtol=1e-11, atol=1e-11)
            chosen |= set((expected[1] > 0)[(c[k] > 0).numpy() & fluid[0].numpy()].tolist())
    assert chosen == {True, False}  # the oscillation was put into either term


@pytest.mark.parametrize("backend", ["torch", "compiled"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_excess_is_what_the_worst_cell_lacks(backend, shape):
    spacing = (0.3, 0.2, 0.5)[: len(shape)]
    volume = np.prod(spacing)
    y = tuple(
        torch.randn(2, *(n + (i == j) for j, n in enumerate(shape)), dtype=torch.float64) for i in range(len(shape))
    )
    divergence = sum(torch.diff(part, dim=1 + axis) / h for axis, (part, h) in enumerate(zip(y, spacing)))
    f = -divergence.clone()
    f[1][(0,) * len(shape)] += 1e-3  # one cell of the second sample lacks so much
    a, c = torch.ones_like(f), torch.zeros_like(f)
    v, fluid = torch.zeros(2, *(n + 1 for n in shape), dtype=torch.float64), torch.ones_like(f, dtype=torch.bool)
    with use_backend(backend):
        excess = majorant_terms((a,) * len(shape), c, f, fluid, v, y, spacing).excess
        assert excess[0] <= 0
        assert excess[1].item() == pytest.approx(1e-3 * volume, rel=1e-9)
        c[1][(0,) * len(shape)] = 1.0  # where there is reaction, nothing has to be in balance
        assert (majorant_terms((a,) * len(shape), c, f, fluid, v, y, spacing).excess <= 0).all()
        c.zero_()
        fluid[1][(0,) * len(shape)] = False  # nor in solids
        assert (majorant_terms((a,) * len(shape), c, f, fluid, v, y, spacing).excess <= 0).all()


@pytest.mark.parametrize("backend", ["torch", "compiled"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_large_fluxes_that_balance_to_their_round_off_lack_nothing(backend, shape):
    """Each axis in turn has fluxes of 1e8, whose differences are known to 1e-8 where the source is of order one."""
    spacing = (0.3, 0.2, 0.5)[: len(shape)]
    c, ones = torch.zeros(1, *shape, dtype=torch.float64), torch.ones(1, *shape, dtype=torch.float64)
    v = torch.zeros(1, *(n + 1 for n in shape), dtype=torch.float64)
    for axis in range(len(shape)):
        f = torch.randn(1, *shape, dtype=torch.float64)
        y = [
            torch.zeros(1, *(n + (i == j) for j, n in enumerate(shape)), dtype=torch.float64) for i in range(len(shape))
        ]
        y[axis].narrow(1 + axis, 1, shape[axis]).copy_(-spacing[axis] * f.cumsum(1 + axis))
        y[axis] += 1e8
        with use_backend(backend):
            found = majorant_terms((ones,) * len(shape), c, f, ones.bool(), v, tuple(y), spacing)
        assert float(found.excess) <= 0


def test_gradients_pass_through_whatever_backend_is_chosen():
    shape = (2, 2)
    a, c = 0.5 + torch.rand(2, 1, *shape, dtype=torch.float64)
    f = torch.randn(1, *shape, dtype=torch.float64)
    v = torch.randn(1, 3, 3, dtype=torch.float64)
    y = (torch.randn(1, 3, 2, dtype=torch.float64), torch.randn(1, 2, 3, dtype=torch.float64))
    fluid = torch.ones(1, *shape, dtype=torch.bool)
    inputs = [t.requires_grad_() for t in (a, c, f, v, *y)]
    assert torch.autograd.gradcheck(
        lambda a, c, f, v, *y: majorant_terms((a, a), c, f, fluid, v, y, (0.5, 0.5))[:3], inputs
    )


def test_the_safe_square_root_hides_no_nan():
    assert torch.isnan(safe_sqrt(torch.tensor([torch.nan, 1.0]))).tolist() == [True, False]


@pytest.mark.parametrize("backend", ["torch", "compiled"])
def test_a_flux_that_is_not_a_number_gives_no_bound(backend):
    a = torch.ones(1, 2, 2, dtype=torch.float64)
    y = (torch.full((1, 3, 2), torch.nan, dtype=torch.float64), torch.zeros(1, 2, 3, dtype=torch.float64))
    fluid, v = torch.ones(1, 2, 2, dtype=torch.bool), torch.zeros(1, 3, 3, dtype=torch.float64)
    with use_backend(backend):
        assert bool(torch.isnan(majorant_terms((a, a), a, a, fluid, v, y, (0.5, 0.5))[0]).all())


def test_the_derivative_of_the_safe_square_root_is_zero_at_zero():
    x = torch.tensor([0.0, 4.0], requires_grad=True)
    root = safe_sqrt(x)
    root.sum().backward()
    assert root.tolist() == [0.0, 2.0]
    assert x.grad.tolist() == [0.0, 0.25]
