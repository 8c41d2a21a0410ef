from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from sciml_bounds.kernels import coarsen, transfer, use_backend
from sciml_bounds.kernels.interpolation import interpolation_weights
from sciml_bounds.kernels.survey import survey


def _every_choice(shape):
    for axes in itertools.product((False, True), repeat=3):
        if any(axes) and all(n > 1 or not a for n, a in zip(shape, axes)):
            yield axes


@pytest.mark.parametrize("backend", ["torch", "compiled"])
@pytest.mark.parametrize("stencil", ["cross", "box"])
def test_weights_and_coarse_operator_against_dense_matrices(lattice_case, oracle, backend, stencil):
    shape, periodic = lattice_case
    offsets = getattr(oracle, stencil)(shape)
    T, c = oracle.random_operator(shape, offsets, periodic)
    for axes in _every_choice(shape):
        with use_backend(backend):
            weights, defect = interpolation_weights(offsets, T, c, axes)
            diagonal = survey(offsets, T, c).diagonal
            coarse_offsets, coarse_T, coarse_c, found = coarsen.galerkin(offsets, T, c, axes, weights, defect, diagonal)
            expected = survey(coarse_offsets, coarse_T, coarse_c)
        for ours, theirs in zip(found, expected):  # sums of at most 27 numbers of order one, in another order
            torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)
        for sample in range(2):
            A = oracle.dense(offsets, T[:, sample], c[sample])
            P = oracle.dense_interpolation(offsets, T[:, sample], c[sample], axes)
            found = oracle.prolongation(shape, axes, weights, sample)
            # weights lie in [0, 1], computed in a handful of operations; entries of P^T A P are sums of at most
            # 27 * 27 products of numbers of order one
            np.testing.assert_allclose(found, P, rtol=0, atol=1e-13)
            np.testing.assert_allclose(defect[sample].reshape(-1), 1 - P.sum(1), rtol=0, atol=1e-13)
            coarse = oracle.dense(coarse_offsets, coarse_T[:, sample], coarse_c[sample])
            np.testing.assert_allclose(coarse, P.T @ A @ P, rtol=0, atol=1e-11)


@pytest.mark.parametrize("backend", ["torch", "compiled"])
def test_constants_are_interpolated_exactly_on_every_level(oracle, backend):
    shape = (1, 9, 8)
    offsets = oracle.cross(shape)
    T, c = oracle.random_operator(shape, offsets, (False, True, False))
    T, c, axes = T**8, torch.zeros_like(c), (False, True, True)  # eight decades of coefficient
    for _ in range(3):
        with use_backend(backend):
            weights, defect = interpolation_weights(offsets, T, c, axes)
            diagonal = survey(offsets, T, c).diagonal
            offsets, T, c, _ = coarsen.galerkin(offsets, T, c, axes, weights, defect, diagonal)
        ones = torch.ones_like(c)
        fine = transfer.prolong_add(axes, weights, ones, torch.zeros(2, *shape, dtype=torch.float64))
        torch.testing.assert_close(fine, torch.ones_like(fine), rtol=0, atol=1e-14)
        # the excess over the row sum is zero, and not round-off: no level becomes regular by chance
        assert torch.equal(c, torch.zeros_like(c))
        shape = tuple(c.shape[1:])


@pytest.mark.parametrize("backend", ["torch", "compiled"])
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
                weights, defect = interpolation_weights(*data, axes)
                diagonal = survey(*data).diagonal
                *data, _ = coarsen.galerkin(*data, axes, weights, defect, diagonal)
        found[dtype] = data
    _, T, c = found[torch.float64]
    _, single_T, single_c = found[torch.float32]
    # some hundred operations of 6e-8 each, on numbers of like size within a level
    torch.testing.assert_close(single_T.double(), T, rtol=0, atol=2e-5 * float(T.abs().max()))
    torch.testing.assert_close(single_c.double(), c, rtol=0, atol=2e-5 * float(c.abs().max()))


def test_half_stencil_lists_each_pair_of_neighbours_once():
    for extent in itertools.product((False, True), repeat=3):
        offsets = coarsen.half_stencil(extent)
        both = set(offsets) | {tuple(-i for i in o) for o in offsets}
        assert len(both) == 2 * len(offsets) == 3 ** sum(extent) - 1
        assert (0, 0, 0) not in both
        assert all(extent[a] or o[a] == 0 for o in offsets for a in range(3))
