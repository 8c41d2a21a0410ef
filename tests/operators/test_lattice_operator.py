from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st

from sciml_bounds.operators._lattice_operator import LatticeOperator, to_lattice

CROSS = ((1, 0, 0), (0, 1, 0), (0, 0, 1))


def _operator(shape, batch=1, seed=0, dtype=torch.float64, ends=True):
    """Random conductances of both signs along the axes that have an extent, and a dominant absorption."""
    generator = torch.Generator().manual_seed(seed)
    offsets = tuple(o for o, n in zip(CROSS, shape) if n > 1)
    T = torch.rand((len(offsets), batch, *shape), generator=generator, dtype=torch.float64) - 0.2
    if ends:
        for k, offset in enumerate(offsets):
            T[k].select(1 + offset.index(1), -1).zero_()
    c = 2 + torch.rand((batch, *shape), generator=generator, dtype=torch.float64)
    return LatticeOperator(offsets, T.to(dtype), c.to(dtype))


def _dense(A, sample=0):
    columns = A.matvec(torch.eye(A.shape[0], dtype=A.dtype).expand(1, -1, -1)[0]) if A.batch == 1 else None
    if columns is None:
        part = slice(sample, sample + 1)
        return _dense(LatticeOperator(A.offsets, A.conductance[:, part], A.absorption[part]))
    return columns.numpy().T


shapes = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(2, 5))


@given(shapes, st.booleans(), st.integers(0, 2**31))
def test_the_facts_about_an_operator_are_those_of_its_matrix(shape, ends, seed):
    A = _operator(shape, seed=seed, ends=ends)
    dense = _dense(A)
    # every entry is a sum of at most seven conductances
    np.testing.assert_allclose(dense, dense.T, rtol=0, atol=1e-14)
    np.testing.assert_allclose(A.to_csr().toarray(), dense, rtol=0, atol=1e-14)
    own = A.diagonal().reshape(-1).numpy()
    if min(n for n in shape if n > 1) > 2 or ends:  # with two periodic points a neighbour is met twice, on both sides
        sums = A.absolute_row_sums().reshape(-1).numpy()
        np.testing.assert_allclose(own, np.diag(dense), rtol=1e-14)
        np.testing.assert_allclose(sums, np.abs(dense).sum(1), rtol=1e-14)
    eigenvalues = np.linalg.eigvalsh(dense)
    assert np.abs(eigenvalues).max() <= float(A.norm_upper[0]) * (1 + 1e-14)


def test_vectors_may_have_any_leading_axes():
    A = _operator((2, 3, 4))
    x = torch.randn(2, 3, 24, dtype=torch.float64)
    product = A @ x
    assert product.shape == x.shape
    np.testing.assert_allclose(product.reshape(-1, 24), x.reshape(-1, 24).numpy() @ _dense(A).T, rtol=0, atol=1e-13)
    transposed = torch.randn(24, 5, dtype=torch.float64).T  # not contiguous
    np.testing.assert_allclose(A @ transposed, transposed.numpy() @ _dense(A).T, rtol=0, atol=1e-13)


def test_each_sample_of_a_batch_has_its_own_matrix():
    A = _operator((1, 3, 4), batch=3)
    x = torch.randn(3, 12, dtype=torch.float64)
    for sample in range(3):
        expected = A.to_csr(sample) @ x[sample].numpy()
        np.testing.assert_allclose((A @ x)[sample], expected, rtol=0, atol=1e-13)
    assert A.norm_upper.shape == (3,)


def test_residual_and_product_go_into_the_given_buffers():
    A = _operator((2, 3, 4))
    x, b = torch.randn(2, 2, 24, dtype=torch.float64)
    out = torch.full_like(x, torch.nan)
    assert A.matvec_into(x, out) is out
    torch.testing.assert_close(out, A @ x, rtol=0, atol=0)
    assert A.residual_into(x, b, out) is out
    torch.testing.assert_close(out, b - A @ x, rtol=0, atol=1e-14)


def test_indices_are_those_that_petsc_and_pyamg_take():
    matrix = _operator((1, 3, 4)).to_csr()
    assert matrix.indices.dtype == matrix.indptr.dtype == np.int32


def test_scipy_solves_with_it_as_an_operator():
    A = _operator((3, 4, 5))
    b = np.random.default_rng(0).standard_normal(60)
    x, status = scipy.sparse.linalg.cg(A.to_scipy(), b, rtol=1e-12)
    assert status == 0
    np.testing.assert_allclose(A.to_csr() @ x, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_scipy_form_keeps_the_dtype(dtype):
    wrapped = _operator((1, 3, 4), dtype=dtype).to_scipy()
    assert wrapped.dtype == str(dtype).removeprefix("torch.")
    assert wrapped.matvec(np.ones(12, dtype=wrapped.dtype)).dtype == wrapped.dtype


def test_detaching_cuts_the_history_and_keeps_the_numbers():
    A = _operator((1, 3, 4))
    T = A.conductance.clone().requires_grad_()
    B = LatticeOperator(A.offsets, T, A.absorption)
    assert B.conductance.requires_grad
    cut = B.detach()
    assert not cut.conductance.requires_grad
    torch.testing.assert_close(cut.conductance, A.conductance, rtol=0, atol=0)


def test_fields_are_padded_in_front_to_three_axes():
    field = torch.arange(2 * 3 * 4.0).view(2, 3, 4)
    assert to_lattice(field, 1).shape == (6, 1, 1, 4)
    assert to_lattice(field, 2).shape == (2, 1, 3, 4)
    assert to_lattice(field, 3).shape == (1, 2, 3, 4)
    assert torch.equal(to_lattice(field, 2).reshape(-1), field.reshape(-1))


@given(shapes, st.integers(1, 2), st.booleans(), st.integers(0, 2**31))
def test_constants_on_what_floats_span_the_null_space(shape, batch, ends, seed):
    """Conductances and absorption with many zeros, also on periodic lattices and with diagonal neighbours."""
    whole = _operator(shape, batch, seed, ends=ends)
    random = np.random.default_rng(seed)
    T = np.abs(whole.conductance.numpy()) * (random.random(whole.conductance.shape) < 0.6)
    c = whole.absorption.numpy() * (random.random(whole.absorption.shape) < 0.05)
    A = LatticeOperator(whole.offsets, torch.as_tensor(T), torch.as_tensor(c))
    numbers = A.floating()
    numbers = torch.full_like(A.absorption, -1) if numbers is None else numbers
    assert sorted(set(numbers[numbers >= 0].tolist())) == list(range(int(numbers.max()) + 1))
    for sample in range(batch):
        matrix, parts = _dense(A, sample), numbers[sample].reshape(-1).numpy()
        for part in set(parts[parts >= 0]):
            assert np.abs(matrix @ (parts == part)).max() < 1e-13
        rank = np.linalg.matrix_rank(matrix, tol=1e-9)  # entries are above 1e-3 but for one in a thousand
        assert matrix.shape[0] - rank == len(set(parts[parts >= 0]))


def test_corners_connect_where_they_are_neighbours():
    T = torch.zeros(1, 1, 1, 3, 3, dtype=torch.float64)
    T[..., :-1, :-1] = 1.0
    A = LatticeOperator(((0, 1, 1),), T, torch.zeros(1, 1, 3, 3, dtype=torch.float64))
    assert A.floating()[0, 0].tolist() == [[0, 1, 2], [3, 0, 1], [4, 3, 0]]
