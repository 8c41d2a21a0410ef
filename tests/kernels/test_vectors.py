from __future__ import annotations

import pytest
import torch

from sciml_bounds.kernels import use_backend, vectors


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("n", [1, 31, 32, 33, 4095, 4096, 4097, 50_000])
def test_a_step_moves_iterate_and_residual_and_returns_their_norms(n, backend):
    torch.manual_seed(n)
    alpha = torch.tensor([0.7, 0.0, -1.3], dtype=torch.float64)
    d, q, x, r = torch.randn(4, 3, n, dtype=torch.float64)
    iterate, residual = x.clone(), r.clone()
    with use_backend(backend):
        size, norm = vectors.advance(alpha, d, q, iterate, residual)
    expected, remaining = x + alpha[:, None] * d, r - alpha[:, None] * q
    # one product and one sum an entry; n squares, summed up in blocks
    torch.testing.assert_close(iterate, expected, rtol=0, atol=1e-15)
    torch.testing.assert_close(residual, remaining, rtol=0, atol=1e-15)
    torch.testing.assert_close(size, expected.norm(dim=1), rtol=1e-13, atol=0)
    torch.testing.assert_close(norm, remaining.norm(dim=1), rtol=1e-13, atol=0)


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_vectors_may_be_complex_and_in_single_precision(backend):
    for dtype in (torch.complex128, torch.float32):
        alpha = torch.tensor([0.5, 2.0], dtype=dtype)
        d, q, x, r = torch.randn(4, 2, 100, dtype=dtype)
        iterate, residual = x.clone(), r.clone()
        with use_backend(backend):
            size, norm = vectors.advance(alpha, d, q, iterate, residual)
        torch.testing.assert_close(iterate, x + alpha[:, None] * d)
        torch.testing.assert_close(size, iterate.norm(dim=1))
        torch.testing.assert_close(norm, residual.norm(dim=1))


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_copies_are_scaled_from_one_precision_to_the_other(backend):
    u = torch.tensor([[3.0, -5.0], [1e200, 1e-200]], dtype=torch.float64)
    with use_backend(backend):
        found = vectors.scaled_copy(u, torch.tensor([0.5, 1e-200], dtype=torch.float64), torch.empty(2, 2))
    assert found.tolist() == [[1.5, -2.5], [1.0, 0.0]]
