from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from sciml_bounds.kernels import transfer, use_backend


def _every_choice(shape):
    """All ways to coarsen at least one axis that has an extent."""
    for axes in itertools.product((False, True), repeat=3):
        if any(axes) and all(n > 1 or not a for n, a in zip(shape, axes)):
            yield axes


def _matrix(shape, axes, weights):
    """The prolongation of one sample as its definition says: fine point 2 I + S from the coarse points I + C."""
    coarse = transfer.coarse_shape(shape, axes)
    P = np.zeros((int(np.prod(shape)), int(np.prod(coarse))))
    for I in np.ndindex(*coarse):
        even = tuple(2 * i if a else i for i, a in zip(I, axes))
        P[np.ravel_multi_index(even, shape), np.ravel_multi_index(I, coarse)] += 1.0
        for k, (S, C) in enumerate(transfer.pairs(axes)):
            fine = tuple(e + s for e, s in zip(even, S))
            if any(f >= n for f, n in zip(fine, shape)):
                continue
            source = tuple((i + c) % n for i, c, n in zip(I, C, coarse))
            P[np.ravel_multi_index(fine, shape), np.ravel_multi_index(source, coarse)] += float(weights[(k, *I)])
    return P


@pytest.mark.parametrize("backend", ["torch", "compiled"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
def test_prolongation_and_restriction_are_products_with_one_matrix_and_its_transpose(lattice_case, backend, dtype):
    shape, _ = lattice_case
    tolerance = 1e-13 if dtype == torch.float64 else 1e-5  # at most 27 products of random numbers
    for axes, (coefficients, vectors) in itertools.product(_every_choice(shape), ((1, 2), (2, 2))):
        coarse = transfer.coarse_shape(shape, axes)
        weights = torch.rand(len(transfer.pairs(axes)), coefficients, *coarse, dtype=dtype)
        e = torch.randn(vectors, *coarse, dtype=dtype)
        r = torch.randn(vectors, *shape, dtype=dtype)
        with use_backend(backend):
            added = transfer.prolong_add(axes, weights, e, r.clone())
            restricted = transfer.restrict(axes, weights, r, torch.full_like(e, torch.nan))
        for sample in range(vectors):
            P = _matrix(shape, axes, weights[:, sample if coefficients > 1 else 0])
            fine, low = (q[sample].double().numpy().reshape(-1) for q in (r, e))
            np.testing.assert_allclose(added[sample].reshape(-1), fine + P @ low, rtol=0, atol=tolerance)
            np.testing.assert_allclose(restricted[sample].reshape(-1), P.T @ fine, rtol=0, atol=tolerance)


def test_every_pair_has_its_corner_within_its_class_and_smaller_classes_come_first():
    for axes in itertools.product((False, True), repeat=3):
        pairs = transfer.pairs(axes)
        d = sum(axes)
        # a class with m odd axes has 2^m corners: sum over classes of 2^|S| is 3^d, less the even class
        assert len(pairs) == len(set(pairs)) == 3**d - 1
        assert all(c <= s <= a for S, C in pairs for c, s, a in zip(C, S, axes))
        sizes = [sum(S) for S, _ in pairs]
        assert sizes == sorted(sizes)


@pytest.mark.parametrize("backend", ["torch", "compiled"])
def test_what_is_restricted_across_an_axis_stays_in_its_plane(lattice_case, backend):
    """A field that lives on the even planes of an axis is restricted within them, as by the whole restriction."""
    shape, _ = lattice_case
    for axes, batch in itertools.product(_every_choice(shape), (1, 2)):
        coarse = transfer.coarse_shape(shape, axes)
        weights = torch.rand(len(transfer.pairs(axes)), batch, *coarse, dtype=torch.float64)
        for axis in range(3):
            planes = tuple(c if k == axis else n for k, (n, c) in enumerate(zip(shape, coarse)))
            field = torch.randn(2, *planes, dtype=torch.float64)
            spread = torch.zeros(2, *shape, dtype=torch.float64)
            spread[(slice(None),) * (1 + axis) + (slice(None, None, 1 + axes[axis]),)] = field
            expected = transfer.restrict(axes, weights, spread, torch.empty(2, *coarse, dtype=torch.float64))
            with use_backend(backend):
                found = transfer.restrict_across(axis, axes, weights, field)
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)  # sums of nine products


def test_gradients_flow_through_what_is_made_of_torch_operations():
    axes, shape = (False, True, True), (1, 7, 6)
    weights = torch.rand(len(transfer.pairs(axes)), 1, *transfer.coarse_shape(shape, axes), dtype=torch.float64)
    coarse = torch.randn(2, *weights.shape[2:], dtype=torch.float64, requires_grad=True)
    fine = torch.randn(2, *shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda e: transfer.prolonged(axes, weights, e, (2, *shape)), coarse)
    assert torch.autograd.gradcheck(lambda r: transfer.restricted(axes, weights, r), fine)
    assert torch.autograd.gradcheck(lambda r: transfer.restrict_across(0, axes, weights, r), fine)
    prolonged = transfer.prolonged(axes, weights, coarse, (2, *shape))
    adjoint = transfer.restricted(axes, weights, fine)
    assert float((prolonged * fine).sum()) == pytest.approx(float((coarse * adjoint).sum()), abs=1e-12)
