from __future__ import annotations

import pytest
import torch

from sciml_bounds.kernels import use_backend, vectors


@pytest.mark.parametrize("backend", ["torch", "compiled"])
@pytest.mark.parametrize("n", [1, 31, 32, 33, 4095, 4096, 4097, 50_000])
def test_vectors_are_combined_and_their_norms_returned(n, backend):
    torch.manual_seed(n)
    alpha, beta = torch.tensor([[0.7, 0.0, -1.3], [1.0, 0.4, 0.0]], dtype=torch.float64)
    u, out = torch.randn(2, 3, n, dtype=torch.float64)
    expected = alpha[:, None] * u + beta[:, None] * out
    out[2] = torch.nan  # whatever stands where nothing is kept
    expected[2] = alpha[2] * u[2]
    with use_backend(backend):
        norms = vectors.combine(alpha, u, beta, out)
    # Two products and one sum per entry, all below 8: in each form three roundings of at most 8 / 2^53, and fewer where
    # torch multiplies and adds in one instruction. The norms sum n squares in blocks.
    torch.testing.assert_close(out, expected, rtol=0, atol=6 * 8 / 2**53)
    torch.testing.assert_close(norms, expected.norm(dim=1), rtol=1e-13, atol=0)


@pytest.mark.parametrize("backend", ["torch", "compiled"])
def test_vectors_may_be_complex_and_in_single_precision(backend):
    for dtype in (torch.complex128, torch.float32):
        alpha, beta = torch.tensor([[0.5, 2.0], [1.0, -0.3]], dtype=dtype)
        u, out = torch.randn(2, 2, 100, dtype=dtype)
        expected = alpha[:, None] * u + beta[:, None] * out
        with use_backend(backend):
            norms = vectors.combine(alpha, u, beta, out)
        torch.testing.assert_close(out, expected)
        torch.testing.assert_close(norms, expected.norm(dim=1))


@pytest.mark.parametrize("backend", ["torch", "compiled"])
def test_copies_are_scaled_from_one_precision_to_the_other(backend):
    u = torch.tensor([[3.0, -5.0], [1e200, 1e-200]], dtype=torch.float64)
    with use_backend(backend):
        found = vectors.scaled_copy(u, torch.tensor([0.5, 1e-200], dtype=torch.float64), torch.empty(2, 2))
    assert found.tolist() == [[1.5, -2.5], [1.0, 0.0]]
