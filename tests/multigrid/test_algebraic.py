from __future__ import annotations

import numpy as np
import pyamg
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from refusals import refusals, refused

import sciml_bounds as sb
from sciml_bounds.multigrid._algebraic import algebraic_cycle

KINDS = ["ruge-stuben", "smoothed-aggregation"]


def _triangles():
    """Linear elements on the unstructured mesh of PyAMG, with some Dirichlet nodes."""
    A = scipy.sparse.csr_array(pyamg.gallery.load_example("unit_square")["A"])
    return A[10:, 10:].tocsr()


def _matrices():
    """Matrices without an underlying lattice."""
    jump = sb.Diffusion(sb.Grid((24, 22)), np.where(np.random.default_rng(0).random((24, 22)) < 0.5, 1e4, 1.0))
    return {
        "poisson": pyamg.gallery.poisson((20, 21), format="csr"),
        "triangles": _triangles(),
        "jumps": sb.prepare(jump, method="cg").operator.to_csr(),
    }


MATRICES = _matrices()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MATRICES)
def test_the_cycle_is_symmetric_positive_definite_and_contracts(kind, name):
    A = MATRICES[name]
    M = algebraic_cycle(A, kind=kind)
    assert len(M.levels) >= 1
    dense = (M @ torch.eye(A.shape[0], dtype=torch.float64)).numpy().T
    assert np.abs(dense - dense.T).max() <= 1e-12 * np.abs(dense).max()
    root = scipy.linalg.cholesky(A.toarray(), lower=True)
    eigenvalues = np.linalg.eigvalsh(root.T @ dense @ root)
    assert 0 < eigenvalues[0] <= eigenvalues[-1] <= 1 + 1e-9


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MATRICES)
def test_it_preconditions_our_loop(kind, name):
    A = MATRICES[name]
    b = np.random.default_rng(1).standard_normal(A.shape[0])
    s = sb.cg(A, b, M=algebraic_cycle(A, kind=kind), rtol=1e-10)
    assert not s.flexible
    assert int(s.iterations) <= 30
    expected = scipy.sparse.linalg.spsolve(A.tocsc(), b)
    np.testing.assert_allclose(s.x, expected, rtol=0, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("form", [scipy.sparse.csc_array, scipy.sparse.coo_array, scipy.sparse.csr_matrix])
def test_any_sparse_matrix_will_do(form):
    A = MATRICES["poisson"]
    x = torch.randn(A.shape[0], dtype=torch.float64)
    expected = algebraic_cycle(A) @ x
    wide = form(A)
    if hasattr(wide, "indices"):
        wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    torch.testing.assert_close(algebraic_cycle(wide) @ x, expected, rtol=1e-12, atol=1e-14)


def test_vectors_come_in_batches_and_single_precision():
    A = MATRICES["poisson"]
    x = torch.randn(3, A.shape[0], dtype=torch.float64)
    M = algebraic_cycle(A)
    for row, expected in zip(x, M @ x):
        torch.testing.assert_close(M @ row, expected, rtol=0, atol=1e-14)
    single = algebraic_cycle(A, dtype=torch.float32)
    assert (single @ x.float()).dtype == torch.float32
    torch.testing.assert_close((single @ x.float()).double(), M @ x, rtol=1e-3, atol=1e-4)


def test_a_small_matrix_is_inverted():
    A = pyamg.gallery.poisson((6, 6), format="csr")
    x = torch.randn(36, dtype=torch.float64)
    torch.testing.assert_close(algebraic_cycle(A) @ torch.as_tensor(A @ x.numpy()), x, rtol=0, atol=1e-12)


def test_an_unknown_hierarchy_is_refused():
    refused("'magic' 'ruge-stuben' 'smoothed-aggregation'", lambda: algebraic_cycle(MATRICES["poisson"], kind="magic"))


def _torch_csr(A):
    parts = (torch.as_tensor(getattr(A, name)).long() for name in ("indptr", "indices"))
    return torch.sparse_csr_tensor(*parts, torch.as_tensor(A.data), A.shape, check_invariants=True)


FORMS = {
    "csr": scipy.sparse.csr_array,
    "coo": scipy.sparse.coo_array,
    "torch csr": _torch_csr,
    "torch coo": lambda A: _torch_csr(A).to_sparse_coo(),
    "torch dense": lambda A: torch.as_tensor(A.toarray()),
    "numpy": lambda A: A.toarray(),
}


@pytest.mark.parametrize("M", ["algebraic", sb.Algebraic("smoothed-aggregation")], ids=str)
@pytest.mark.parametrize("solve", [sb.cg, sb.minres])
@pytest.mark.parametrize("form", FORMS)
def test_it_is_set_up_for_any_matrix_of_a_krylov_method(form, solve, M):
    A = MATRICES["triangles"]
    b = np.random.default_rng(2).standard_normal(A.shape[0])
    s = solve(FORMS[form](A), b, M=M, rtol=1e-10)
    assert 3 * int(s.iterations) < int(solve(A, b, rtol=1e-10).iterations)
    expected = scipy.sparse.linalg.spsolve(A.tocsc(), b)
    np.testing.assert_allclose(s.x, expected, rtol=0, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("solve", [sb.cg, sb.minres])
def test_it_is_set_up_for_a_singular_matrix(solve):
    A = sb.prepare(sb.Diffusion(sb.Grid((30, 30)), boundary=sb.Neumann(0.0)), method="cg").operator.to_csr()
    b = np.random.default_rng(3).standard_normal(A.shape[0])
    s = solve(A, b - b.mean(), M="algebraic")
    assert int(s.iterations) < 20
    np.testing.assert_allclose(A @ s.x.numpy(), b - b.mean(), rtol=0, atol=1e-6)


def test_each_operator_of_a_batch_gets_its_hierarchy():
    coefficients = np.exp(np.random.default_rng(4).standard_normal((3, 24, 24)))
    solver = sb.prepare(sb.Diffusion(sb.Grid((24, 24)), coefficients, 1.0))
    b = solver.rhs.expand(3, -1)
    s = sb.cg(solver.operator, b, M="algebraic", rtol=1e-10)
    assert s.iterations.max() < 20
    torch.testing.assert_close(s.x, sb.cg(solver.operator, b, rtol=1e-12).x, rtol=0, atol=1e-8)


def test_each_dense_matrix_of_a_batch_gets_its_hierarchy():
    A = torch.stack([torch.as_tensor(factor * MATRICES["poisson"].toarray()) for factor in (1.0, 2.0, 3.0, 4.0)])
    b = torch.ones(2, 2, A.shape[-1], dtype=torch.float64)
    x = sb.cg(A.view(2, 2, *A.shape[1:]), b, M="algebraic", rtol=1e-10).x.view(4, -1)
    for factor, row in zip((1.0, 2.0, 3.0, 4.0), x):
        torch.testing.assert_close(factor * row, x[0], rtol=1e-7, atol=1e-7)


def test_single_precision_is_kept():
    A = MATRICES["poisson"].astype(np.float32)
    s = sb.cg(A, np.ones(A.shape[0], np.float32), M="algebraic")
    assert s.x.dtype == torch.float32
    assert int(s.iterations) < 10


test_preconditioners_that_cannot_be_set_up = refusals(
    ("M 'algebra' 'algebraic'", lambda: sb.cg(MATRICES["poisson"], np.ones(420), M="algebra")),
    ("M entries products function", lambda: sb.cg(lambda x: x, np.ones(9), M="algebraic")),
    ("positive (1, 1) -1", lambda: sb.minres(np.diag([1.0, -1.0]), np.ones(2), M="algebraic")),
    ("positive (1, 1) 0", lambda: sb.minres(np.array([[1.0, 1.0], [1.0, 0.0]]), np.ones(2), M=sb.Algebraic())),
)
