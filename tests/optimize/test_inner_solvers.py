"""Inner solvers: inertia, accuracy as asked, and going on from where they are."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch

from sciml_bounds.operators._linear_operator import csr_tensor
from sciml_bounds.optimize._inner_solvers import DirectSolve, as_inner
from sciml_bounds.optimize._kkt import kkt_matrix

CAP = 100_000


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


@pytest.mark.parametrize("sparse", [False, True])
def test_direct_solves_are_exact(sparse):
    A, b = system(0)
    solve = DirectSolve(csr_tensor(scipy.sparse.csr_array(A.numpy())) if sparse else A, b, 0)
    torch.testing.assert_close(solve.z, torch.linalg.solve(A, b), rtol=1e-10, atol=1e-12)
    assert solve.residual_norm <= 1e-13 * float(A.norm() * solve.z.norm())
    assert (solve.steps, solve.capped) == (0, False)


@pytest.mark.parametrize("sparse", [False, True])
def test_singular_systems_are_found_out(sparse):
    A = torch.ones((3, 3), dtype=torch.float64)
    solve = DirectSolve(csr_tensor(scipy.sparse.csr_array(A.numpy())) if sparse else A, A[0], 0)
    assert not solve.residual_norm < torch.inf or solve.residual_norm < 1e-10  # b is in the range of A


@pytest.mark.parametrize("inner", ["minres", "kaczmarz", "gaussian"])
def test_iterative_solves_reach_the_tolerance_and_go_on_from_there(inner):
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
def test_a_cap_ends_them(inner):
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
def test_sparse_matrices_are_solved_with_the_same_inertia_whatever_their_fill(density):
    rng = np.random.default_rng(1)
    B = scipy.sparse.random_array((60, 60), density=density, rng=rng)
    A = (B + B.T + scipy.sparse.diags_array(np.where(np.arange(60) % 3 == 0, -40.0, 40.0))).tocsr()
    b = torch.from_numpy(rng.standard_normal(60))
    solve = DirectSolve(csr_tensor(A), b, 0)
    assert solve.negative == 20  # the diagonal is dominant (rows of B + B^T sum to at most 2 * 30), so its signs decide
    np.testing.assert_allclose(A @ solve.z.numpy(), b.numpy(), atol=1e-12)
