from __future__ import annotations

import numpy as np
import pyamg
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from refusals import refusals, refused

from sciml_bounds.operators._linear_operator import (
    CallableOperator,
    Identity,
    LinearOperator,
    MatrixOperator,
    Stacked,
    aslinearoperator,
)

N = 6
RNG = np.random.default_rng(0)
DENSE = RNG.standard_normal((N, N))
VECTORS = torch.as_tensor(RNG.standard_normal((2, 3, N)))


def test_a_batch_of_matrices_meets_a_batch_of_vectors():
    matrices = torch.randn(3, 4, N, N, dtype=torch.float64)
    x = torch.randn(3, 4, N, dtype=torch.float64)
    product = aslinearoperator(matrices) @ x
    torch.testing.assert_close(product, torch.einsum("abij,abj->abi", matrices, x), rtol=0, atol=1e-13)


@pytest.mark.parametrize("layout", [torch.strided, torch.sparse_csr, torch.sparse_csc, torch.sparse_coo], ids=str)
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.filterwarnings("ignore:Sparse C")
def test_products_are_written_where_they_are_wanted(layout, count):
    matrix = torch.as_tensor(DENSE)
    x, out = torch.randn(count, N, dtype=torch.float64), torch.empty(count, N, dtype=torch.float64)
    operator = MatrixOperator(matrix if layout is torch.strided else matrix.to_sparse(layout=layout))
    assert operator.matvec_into(x, out) is out
    torch.testing.assert_close(out, x @ matrix.mT, rtol=0, atol=1e-13)


def test_the_preconditioners_of_pyamg_are_operators():
    A = pyamg.gallery.poisson((8, 8), format="csr")
    theirs = pyamg.smoothed_aggregation_solver(A, max_coarse=10).aspreconditioner()
    x = RNG.standard_normal(64)
    np.testing.assert_allclose(aslinearoperator(theirs) @ torch.as_tensor(x), theirs @ x, rtol=1e-12)


def test_the_identity_gives_its_vectors_back():
    assert Identity(N, torch.float64, torch.device("cpu")) @ VECTORS is VECTORS


@pytest.mark.parametrize("count", [1, 3])
def test_stacked_operators_take_a_vector_each(count):
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(count, N, N, generator=generator, dtype=torch.float64)
    stacked, x = Stacked([MatrixOperator(m, symmetric=False) for m in matrices]), VECTORS[0]
    assert stacked.batch == count
    assert stacked.symmetric is False
    for sample in range(3):  # the sums are those of one product, so they may differ in the last digits only
        torch.testing.assert_close((stacked @ x)[sample], matrices[sample % count] @ x[sample], rtol=1e-13, atol=1e-13)
    if count > 1:
        refused("batch 3 2", lambda: stacked @ x[:2])


INT64, COMPLEX = torch.zeros(3, 3, dtype=torch.int64), np.zeros((3, 3), dtype=complex)

test_bad_input = refusals(
    *[
        (words, lambda A=A: aslinearoperator(A))
        for words, A in [
            ("(3, 4) square", torch.zeros(3, 4)),
            ("(4,) square", torch.zeros(4)),
            ("int64 float", INT64),
            ("(3, 4) square", np.zeros((3, 4))),
            ("complex128 float", COMPLEX),
            ("int64 float", scipy.sparse.eye_array(3, dtype=np.int64)),
            ("(3, 4) square", scipy.sparse.eye_array(3, 4)),
            ("(3, 4) square", scipy.sparse.linalg.aslinearoperator(np.zeros((3, 4)))),
            ("complex128 float", scipy.sparse.linalg.aslinearoperator(COMPLEX)),
            ("callable CallableOperator", lambda x: x),
            ("str operator", "matrix"),
            ("NoneType operator", None),
        ]
    ],
    *[
        (f"vectors 6 {word}", lambda x=x: MatrixOperator(torch.as_tensor(DENSE)).matvec(x))
        for word, x in [
            ("ndarray", np.ones(N)),
            ("list", [1.0] * N),
            ("NoneType", None),
            ("float64 (5,)", torch.ones(N - 1, dtype=torch.float64)),
            ("float64 ()", torch.ones((), dtype=torch.float64)),
            ("int64 (6,)", torch.ones(N, dtype=torch.int64)),
        ]
    ],
    ("", lambda: LinearOperator().matvec(torch.zeros(1)), NotImplementedError),
)


def test_a_callable_carries_what_its_caller_knows():
    A = CallableOperator(lambda x: 2 * x, 3, symmetric=True, linear=True)
    assert (A.symmetric, A.linear, A.shape) == (True, True, (3, 3))
    unknown = aslinearoperator(lambda x: 2 * x, like=torch.zeros(3))
    assert (unknown.symmetric, unknown.linear, unknown.dtype) == (None, None, torch.float32)


def test_a_converted_matrix_does_not_follow_the_one_it_came_from():
    # scipy sorts rows in place when it likes; with shared entries and copied indices the tensor would be another matrix
    dense = np.arange(1.0, 10.0).reshape(3, 3)
    order = np.array([2, 0, 1])
    index = np.tile(order, 3).astype(np.int32), np.arange(0, 10, 3, dtype=np.int32)
    matrix = scipy.sparse.csr_array((dense[:, order].ravel(), *index), shape=(3, 3))
    operator = aslinearoperator(matrix)
    matrix.sort_indices()
    x = torch.randn(7, 3, dtype=torch.float64)
    torch.testing.assert_close(operator.matvec(x), x @ torch.as_tensor(dense).T)
