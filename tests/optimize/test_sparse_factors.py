"""Factors of sparse symmetric matrices: inertia, accuracy, and what is done where pivots from the diagonal fail."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch

from sciml_bounds.operators._linear_operator import csr_tensor
from sciml_bounds.optimize._kkt import kkt_matrix
from sciml_bounds.optimize._sparse_factors import sparse_factors


def sparse_system(seed, n=60, m=25, definite=False):
    """A KKT matrix as sparse as those of discretised problems, with a Hessian of any sign, and a solution."""
    rng = np.random.default_rng(seed)
    H = scipy.sparse.random_array((n, n), density=0.05, rng=rng)
    H = H + H.T + scipy.sparse.diags_array(10.0 + rng.standard_normal(n) if definite else rng.standard_normal(n))
    G = scipy.sparse.random_array((m, n), density=0.1, rng=rng) + scipy.sparse.eye_array(m, n)
    A = kkt_matrix(csr_tensor(scipy.sparse.csr_array(H)), csr_tensor(scipy.sparse.csr_array(G)))
    return A, torch.from_numpy(rng.standard_normal(n + m))


@pytest.mark.parametrize("definite", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_inertia_and_solutions_are_those_of_dense_factors(seed, definite):
    A, x = sparse_system(seed, definite=definite)
    factors = sparse_factors(A)
    assert factors.negative == int((torch.linalg.eigvalsh(A.to_dense()) < 0).sum())
    b = A @ x
    # residuals are at most 1e-10 of b, and errors larger by the condition number, which is below 1e4 here
    torch.testing.assert_close(factors(b), x, rtol=0, atol=1e-5)
    assert float((A @ factors(b) - b).norm()) <= 1e-10 * float(b.norm())


def test_a_minimum_of_a_convex_problem_has_one_negative_eigenvalue_a_constraint():
    A, _ = sparse_system(0, definite=True)
    assert sparse_factors(A).negative == 25


def test_linear_unknowns_have_no_curvature_and_no_pivot():
    """min x0 + x1^2 with x0 + x1 = 1: two zeros on the diagonal, eigenvalues of both signs."""
    dense = torch.tensor([[0.0, 0.0, 1.0], [0.0, 2.0, 1.0], [1.0, 1.0, 0.0]], dtype=torch.float64)
    factors = sparse_factors(csr_tensor(scipy.sparse.csr_array(dense.numpy())))
    assert factors.negative == 1
    torch.testing.assert_close(factors(dense.sum(1)), torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-9)


def test_where_pivots_are_too_small_rows_are_exchanged():
    """Half of the unknowns are bound to the others by constraints of one, beside curvatures that cancel: no inertia."""
    n = 4
    H = scipy.sparse.diags_array(np.full(n, 1e-9))
    G = 1e4 * scipy.sparse.eye_array(n)
    A = kkt_matrix(csr_tensor(scipy.sparse.csr_array(H)), csr_tensor(scipy.sparse.csr_array(G)))
    x = torch.arange(1.0, 2 * n + 1, dtype=torch.float64)
    factors = sparse_factors(A)
    assert factors.negative in (None, n)
    torch.testing.assert_close(factors(A @ x), x, rtol=1e-9, atol=1e-9)


def test_singular_matrices_have_no_factors_or_leave_a_residual():
    ones = csr_tensor(scipy.sparse.csr_array(np.ones((3, 3))))
    factors = sparse_factors(ones)
    b = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)  # not in the range
    assert factors is None or not float((ones @ factors(b) - b).norm()) < 0.1
