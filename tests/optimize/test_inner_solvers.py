"""Inner solvers: inertia, the requested accuracy, resuming, and factors of sparse symmetric matrices."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch

from sciml_bounds.operators._linear_operator import csr_tensor
from sciml_bounds.optimize._inner_solvers import DirectSolve, as_inner
from sciml_bounds.optimize._kkt import kkt_matrix
from sciml_bounds.optimize._sparse_factors import sparse_factors

CAP = 100_000


def sparse(matrix):
    return csr_tensor(scipy.sparse.csr_array(matrix))


def system(seed, n=6, m=3):
    """A KKT matrix with a Hessian of any sign, and a right-hand side."""
    generator = torch.Generator().manual_seed(seed)
    H = torch.randn((n, n), generator=generator, dtype=torch.float64)
    G = torch.randn((m, n), generator=generator, dtype=torch.float64)
    b = torch.randn(n + m, generator=generator, dtype=torch.float64)
    return kkt_matrix(H + H.T, G), b


@pytest.mark.parametrize("seed", range(20))
def test_negative_eigenvalues_are_counted(seed):
    A, b = system(seed)
    assert DirectSolve(A, b, 0).negative == int((torch.linalg.eigvalsh(A) < 0).sum())


@pytest.mark.parametrize("form", [torch.clone, sparse])
def test_direct_solves_are_exact(form):
    A, b = system(0)
    solve = DirectSolve(form(A), b, 0)
    torch.testing.assert_close(solve.z, torch.linalg.solve(A, b), rtol=1e-10, atol=1e-12)
    assert solve.residual_norm <= 1e-13 * float(A.norm() * solve.z.norm())
    assert (solve.steps, solve.capped) == (0, False)


@pytest.mark.parametrize("form", [torch.clone, sparse])
def test_singular_systems_are_solved_or_leave_a_residual(form):
    A = torch.ones((3, 3), dtype=torch.float64)
    norm = DirectSolve(form(A), A[0], 0).residual_norm
    assert not norm < torch.inf or norm < 1e-10  # b is in the range of A


@pytest.mark.parametrize("inner", ["minres", "kaczmarz", "gaussian"])
def test_iterative_solves_reach_the_tolerance_and_resume(inner):
    A, b = system(3, n=4, m=2)
    solve = as_inner(inner, seed=0)(A, b, CAP)
    steps = [solve.steps]
    for tolerance in (1e-1, 1e-4, 1e-4, 1e-8):
        solve.refine(tolerance)
        assert solve.residual_norm <= tolerance
        assert solve.residual_norm == pytest.approx(float((A @ solve.z - b).norm()), rel=1e-2)
        steps.append(solve.steps)
    assert steps == sorted(steps)
    assert steps[2] == steps[3]  # nothing was left to do
    assert not solve.capped


@pytest.mark.parametrize("inner", ["minres", "kaczmarz", "gaussian"])
def test_iterative_solves_stop_at_the_cap(inner):
    A, b = system(3)
    solve = as_inner(inner, seed=0)(A, b, 2)
    solve.refine(1e-12)
    assert solve.capped
    assert solve.steps == 2


def test_minres_stops_at_round_off():
    A, b = system(3)
    solve = as_inner("minres", seed=0)(A, b, CAP)
    solve.refine(0.0)
    assert not solve.capped
    assert solve.residual_norm <= 1e-10


@pytest.mark.parametrize("density", [0.02, 0.5])
def test_inertia_does_not_depend_on_the_fill(density):
    rng = np.random.default_rng(1)
    B = scipy.sparse.random_array((60, 60), density=density, rng=rng)
    A = (B + B.T + scipy.sparse.diags_array(np.where(np.arange(60) % 3 == 0, -40.0, 40.0))).tocsr()
    b = torch.from_numpy(rng.standard_normal(60))
    solve = DirectSolve(sparse(A), b, 0)
    assert solve.negative == 20  # the diagonal is dominant (rows of B + B^T sum to at most 2 * 30), so its signs decide
    np.testing.assert_allclose(A @ solve.z.numpy(), b.numpy(), atol=1e-12)


# --- factors of sparse matrices ---------------------------------------------------------------------------------------


def sparse_system(seed, n=60, m=25, definite=False):
    """A KKT matrix as sparse as those of discretised problems, with a Hessian of any sign, and a solution."""
    rng = np.random.default_rng(seed)
    H = scipy.sparse.random_array((n, n), density=0.05, rng=rng)
    H = H + H.T + scipy.sparse.diags_array(10.0 + rng.standard_normal(n) if definite else rng.standard_normal(n))
    G = scipy.sparse.random_array((m, n), density=0.1, rng=rng) + scipy.sparse.eye_array(m, n)
    return kkt_matrix(sparse(H), sparse(G)), torch.from_numpy(rng.standard_normal(n + m))


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


def test_factors_of_a_diagonal_with_zeros():
    """min x0 + x1^2 with x0 + x1 = 1: two zeros on the diagonal, eigenvalues of both signs."""
    dense = torch.tensor([[0.0, 0.0, 1.0], [0.0, 2.0, 1.0], [1.0, 1.0, 0.0]], dtype=torch.float64)
    factors = sparse_factors(sparse(dense))
    assert factors.negative == 1
    torch.testing.assert_close(factors(dense.sum(1)), torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-9)


def test_rows_are_exchanged_where_pivots_are_too_small():
    """Constraints of one tie half of the unknowns to the others, next to curvatures that cancel: no inertia."""
    n = 4
    A = kkt_matrix(sparse(1e-9 * scipy.sparse.eye_array(n)), sparse(1e4 * scipy.sparse.eye_array(n)))
    x = torch.arange(1.0, 2 * n + 1, dtype=torch.float64)
    factors = sparse_factors(A)
    assert factors.negative in (None, n)
    torch.testing.assert_close(factors(A @ x), x, rtol=1e-9, atol=1e-9)


def test_singular_matrices_have_no_factors_or_leave_a_residual():
    ones, b = sparse(np.ones((3, 3))), torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)  # not in the range
    factors = sparse_factors(ones)
    assert factors is None or not float((ones @ factors(b) - b).norm()) < 0.1
