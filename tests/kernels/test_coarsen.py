from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
import torch

from sciml_bounds.kernels import coarsen, transfer, use_backend
from sciml_bounds.kernels.survey import survey


def _interpolation(shape, axes, weights, sample):
    """Columns of the prolongation, by prolonging unit vectors with the reference (held to its definition elsewhere)."""
    coarse = transfer.coarse_shape(shape, axes)
    n = int(np.prod(coarse))
    columns = torch.zeros(n, *shape, dtype=weights.dtype)
    with use_backend("torch"):
        transfer.prolong_add(
            axes, weights[:, sample : sample + 1], torch.eye(n, dtype=weights.dtype).view(n, *coarse), columns
        )
    return columns.view(n, -1).T.double().numpy()


def _every_choice(shape):
    for axes in itertools.product((False, True), repeat=3):
        if any(axes) and all(n > 1 or not a for n, a in zip(shape, axes)):
            yield axes


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("stencil", ["cross", "box"])
def test_weights_and_coarse_operator_against_dense_matrices(lattice_case, oracle, backend, stencil):
    shape, periodic = lattice_case
    offsets = getattr(oracle, stencil)(shape)
    T, c = oracle.random_operator(shape, offsets, periodic)
    for axes in _every_choice(shape):
        with use_backend(backend):
            weights, defect = coarsen.interpolation_weights(offsets, T, c, axes)
            diagonal = survey(offsets, T, c).diagonal
            coarse_offsets, coarse_T, coarse_c, found = coarsen.galerkin(offsets, T, c, axes, weights, defect, diagonal)
            expected = survey(coarse_offsets, coarse_T, coarse_c)
        for ours, theirs in zip(found, expected):  # sums of at most 27 numbers of order one, in another order
            torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)
        for sample in range(2):
            A = oracle.dense(offsets, T[:, sample], c[sample])
            P = oracle.dense_interpolation(offsets, T[:, sample], c[sample], axes)
            found = _interpolation(shape, axes, weights, sample)
            # weights lie in [0, 1], computed in a handful of operations; entries of P^T A P are sums of at most
            # 27 * 27 products of numbers of order one
            np.testing.assert_allclose(found, P, rtol=0, atol=1e-13)
            np.testing.assert_allclose(defect[sample].reshape(-1), 1 - P.sum(1), rtol=0, atol=1e-13)
            coarse = oracle.dense(coarse_offsets, coarse_T[:, sample], coarse_c[sample])
            np.testing.assert_allclose(coarse, P.T @ A @ P, rtol=0, atol=1e-11)


@pytest.mark.parametrize("backend", ["torch", "numba"])
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
        weights, defect = coarsen.interpolation_weights(offsets, T, c, axes)
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
    np.testing.assert_allclose(_interpolation(shape, axes, weights, 0), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_constants_are_interpolated_exactly_on_every_level(oracle, backend):
    shape = (1, 9, 8)
    offsets = oracle.cross(shape)
    T, c = oracle.random_operator(shape, offsets, (False, True, False))
    T, c, axes = T**8, torch.zeros_like(c), (False, True, True)  # eight decades of coefficient
    for _ in range(3):
        with use_backend(backend):
            weights, defect = coarsen.interpolation_weights(offsets, T, c, axes)
            diagonal = survey(offsets, T, c).diagonal
            offsets, T, c, _ = coarsen.galerkin(offsets, T, c, axes, weights, defect, diagonal)
        ones = torch.ones_like(c)
        fine = transfer.prolong_add(axes, weights, ones, torch.zeros(2, *shape, dtype=torch.float64))
        torch.testing.assert_close(fine, torch.ones_like(fine), rtol=0, atol=1e-14)
        # the excess over the row sum is zero, and not round-off: no level becomes regular by chance
        assert torch.equal(c, torch.zeros_like(c))
        shape = tuple(c.shape[1:])


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("size", [1e-12, 1e-6, 1.0])
def test_single_precision_keeps_an_excess_that_is_far_below_its_round_off(oracle, backend, size):
    """Excesses are sums of positive numbers, so that even those of 1e-12 of the entries are right to some digits."""
    shape, axes = (9, 8, 7), (True, True, True)
    offsets = oracle.cross(shape)
    T, c = oracle.random_operator(shape, offsets, (False, True, False))
    found = {}
    for dtype in (torch.float32, torch.float64):
        data = offsets, T.to(dtype), (size * c).to(dtype)
        with use_backend(backend):
            for _ in range(2):  # the second level has negative conductances too
                weights, defect = coarsen.interpolation_weights(*data, axes)
                diagonal = survey(*data).diagonal
                *data, _ = coarsen.galerkin(*data, axes, weights, defect, diagonal)
        found[dtype] = data
    _, T, c = found[torch.float64]
    _, single_T, single_c = found[torch.float32]
    # some hundred operations of 6e-8 each, on numbers of like size within a level
    torch.testing.assert_close(single_T.double(), T, rtol=0, atol=2e-5 * float(T.abs().max()))
    torch.testing.assert_close(single_c.double(), c, rtol=0, atol=2e-5 * float(c.abs().max()))


@pytest.mark.parametrize("backend", ["torch", "numba"])
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
        weights, defect = coarsen.interpolation_weights(offsets, T, c, (False, True, True))
    assert bool(torch.isfinite(weights).all())
    P = _interpolation(shape, (False, True, True), weights, 0)
    odd_and_dead = [i for i, p in enumerate(np.ndindex(*shape)) if dead[p] and (p[1] % 2 or p[2] % 2)]
    assert not P[odd_and_dead].any()
    assert bool((defect.reshape(-1)[odd_and_dead] == 1).all())


def test_half_stencil_lists_each_pair_of_neighbours_once():
    for extent in itertools.product((False, True), repeat=3):
        offsets = coarsen.half_stencil(extent)
        both = set(offsets) | {tuple(-i for i in o) for o in offsets}
        assert len(both) == 2 * len(offsets) == 3 ** sum(extent) - 1
        assert (0, 0, 0) not in both
        assert all(extent[a] or o[a] == 0 for o in offsets for a in range(3))
