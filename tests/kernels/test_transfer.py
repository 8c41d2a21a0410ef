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


@pytest.mark.parametrize("backend", ["torch", "numba"])
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
