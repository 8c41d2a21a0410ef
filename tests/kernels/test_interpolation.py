from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from sciml_bounds.kernels import use_backend
from sciml_bounds.kernels.interpolation import interpolation_weights


@pytest.mark.parametrize("backend", ["torch", "compiled"])
@pytest.mark.parametrize("shape", [(1, 1, 8), (1, 6, 7), (4, 5, 6)], ids=str)
@pytest.mark.parametrize("periodic", [False, True])
def test_constant_coefficients_give_tensor_products_of_linear_interpolation(oracle, backend, shape, periodic):
    lengths = tuple(n for n in shape if n > 1)
    if periodic and any(n % 2 for n in lengths):
        shape = tuple(n + n % 2 if n > 1 else n for n in shape)
        lengths = tuple(n for n in shape if n > 1)
    offsets = oracle.cross(shape)
    T = torch.ones(len(offsets), 1, *shape, dtype=torch.float64)
    if not periodic:
        for k, offset in enumerate(offsets):
            T[k].select(1 + offset.index(1), -1).zero_()
    axes = tuple(n > 1 for n in shape)
    c = torch.zeros(1, *shape, dtype=torch.float64)
    with use_backend(backend):
        weights, defect = interpolation_weights(offsets, T, c, axes)
    assert not defect.any()
    lines = []
    for n in lengths:
        line = np.zeros((n, (n + 1) // 2))
        for i in range(n):
            right = i // 2 + 1 if i // 2 + 1 < line.shape[1] else (0 if periodic else i // 2)
            line[i, i // 2] += 1.0 if i % 2 == 0 else 0.5
            line[i, right] += 0.0 if i % 2 == 0 else 0.5
        lines.append(line)
    expected = functools.reduce(np.kron, lines)
    np.testing.assert_allclose(oracle.prolongation(shape, axes, weights, 0), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("backend", ["torch", "compiled"])
def test_points_without_any_coupling_get_no_weights(oracle, backend):
    shape = (1, 5, 6)
    offsets = oracle.cross(shape)
    T, c = oracle.random_operator(shape, offsets, (False, False, False), batch=1)
    dead = torch.zeros(shape, dtype=torch.bool)
    dead[0, 1:4, 1:4] = True
    for k, offset in enumerate(offsets):
        touching = dead | torch.roll(dead, tuple(-o for o in offset), (0, 1, 2))
        T[k].masked_fill_(touching, 0.0)
    c.masked_fill_(dead, 0.0)  # rows of zeros: nothing to solve for
    with use_backend(backend):
        weights, defect = interpolation_weights(offsets, T, c, (False, True, True))
    assert bool(torch.isfinite(weights).all())
    P = oracle.prolongation(shape, (False, True, True), weights, 0)
    odd_and_dead = [i for i, p in enumerate(np.ndindex(*shape)) if dead[p] and (p[1] % 2 or p[2] % 2)]
    assert not P[odd_and_dead].any()
    assert bool((defect.reshape(-1)[odd_and_dead] == 1).all())
