"""The loop against scipy's, and what it does beyond: flexible directions, memory, directions that fail."""

from __future__ import annotations

import numpy as np
import pyamg
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch

import sciml_bounds as sb
from sciml_bounds.errors import ConvergenceWarning
from sciml_bounds.operators.linear_operator import CallableOperator, MatrixOperator
from sciml_bounds.results import Reason

A = pyamg.gallery.poisson((12, 12), format="csr")
N = A.shape[0]
B = np.random.default_rng(0).standard_normal(N)
EXACT = scipy.sparse.linalg.spsolve(A.tocsc(), B)


def _symmetric(matrix):
    """An operator that says it is symmetric, so that the plain loop runs."""
    return MatrixOperator(torch.as_tensor(matrix.toarray()), symmetric=True)


def _scipy_iterates(A, b, M, count):
    iterates = []
    scipy.sparse.linalg.cg(A, b, M=M, rtol=1e-30, maxiter=count, callback=lambda x: iterates.append(x.copy()))
    return np.array(iterates)


# --- against scipy ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"flexible": True}], ids=["plain", "flexible"])
@pytest.mark.parametrize("preconditioned", [False, True])
def test_iterates_are_those_of_scipy(options, preconditioned):
    # Symmetric Gauss-Seidel. In exact arithmetic all forms give the same iterates; over the 20 first ones the
    # round-off that the directions collect stays below 1e-10 of the solution.
    lower, diagonal = scipy.sparse.tril(A).toarray(), A.diagonal()
    M = np.linalg.inv(lower @ np.diag(1 / diagonal) @ lower.T) if preconditioned else np.eye(N)
    M = scipy.sparse.csr_array((M + M.T) / 2)
    ours = []
    with pytest.warns(ConvergenceWarning):
        s = sb.cg(
            A, B, M=_symmetric(M), rtol=1e-14, maxiter=20, callback=lambda x: ours.append(x.numpy().copy()), **options
        )
    assert s.flexible is options.get("flexible", False)
    theirs = _scipy_iterates(A, B, M, 20)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10 * np.abs(EXACT).max())


@pytest.mark.parametrize("rtol", [1e-2, 1e-5, 1e-9])
def test_the_number_of_iterations_is_that_of_scipy(rtol):
    theirs = []
    scipy.sparse.linalg.cg(A, B, rtol=rtol, callback=theirs.append)
    assert int(sb.cg(A, B, rtol=rtol).iterations) == len(theirs)


# --- flexible directions ----------------------------------------------------------------------------------------------


def test_the_form_follows_from_what_is_known_about_the_preconditioner():
    known = _symmetric(scipy.sparse.eye_array(N))
    unknown = MatrixOperator(torch.eye(N, dtype=torch.float64))
    network = CallableOperator(lambda r: r, N, symmetric=True, linear=False)
    assert [sb.cg(A, B, M=M).flexible for M in (None, known, unknown, network)] == [False, False, True, True]
    assert sb.cg(A, B, M=unknown, flexible=False).flexible is False
    assert sb.cg(A, B, memory=2).flexible is True
    assert "flexible" in sb.cg(A, B, memory=2).method
    with pytest.raises(sb.InputError, match="memory is 0"):
        sb.cg(A, B, memory=0)


def test_a_longer_memory_helps_where_orthogonality_is_lost():
    # A preconditioner that changes with the residual: the more directions are kept, the nearer to full orthogonality.
    scale = torch.as_tensor(1 / A.diagonal())

    def wobbling(r):
        return scale * r * (1 + 0.5 * torch.sin(50 * r / r.norm(dim=-1, keepdim=True)))

    counts = [int(sb.cg(A, B, M=wobbling, memory=K, rtol=1e-10).iterations) for K in (1, 5, 40)]
    assert counts[0] > counts[1] > counts[2]


def test_a_learned_preconditioner_that_is_no_linear_map_converges():
    # A network with random weights around one Jacobi step, scaled by the size of the residual as learned ones are.
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(N, 32), torch.nn.Tanh(), torch.nn.Linear(32, N)).double()
    scale = torch.as_tensor(1 / A.diagonal())

    @torch.no_grad()
    def M(r):
        size = r.norm(dim=-1, keepdim=True)
        return scale * r + 0.1 * scale * size * network(r / size)

    b = torch.as_tensor(np.stack([B, np.zeros(N), 1e-7 * B]))
    s = sb.cg(A, b, M=M, memory=3, rtol=1e-9)
    assert s.flexible
    assert bool(s.converged.all())
    assert not s.x[1].any()  # where the network sees 0 / 0
    np.testing.assert_allclose(s.x[0], EXACT, rtol=0, atol=1e-6)
    np.testing.assert_allclose(1e7 * s.x[2], EXACT, rtol=0, atol=1e-6)


def test_directions_are_conjugate_to_those_in_memory():
    directions = []

    class Spy(MatrixOperator):
        def matvec(self, x):
            directions.append(x.clone().reshape(-1))
            return super().matvec(x)

    operator = Spy(torch.as_tensor(A.toarray()), symmetric=True)
    with pytest.warns(ConvergenceWarning):
        sb.cg(operator, B, M=lambda r: r * (1 + 0.3 * torch.sin(r)), memory=3, rtol=1e-12, maxiter=8)
    D = torch.stack(directions[:8])
    products = D @ torch.as_tensor(A.toarray()) @ D.T
    sizes = products.diagonal().sqrt()
    cosines = (products / sizes / sizes.unsqueeze(1)).abs()
    near = torch.tensor([[0 < i - j <= 3 for j in range(8)] for i in range(8)])
    assert float(cosines[near].max()) <= 1e-12  # modified Gram-Schmidt on well-conditioned directions
    far = torch.tensor([[i - j > 3 for j in range(8)] for i in range(8)])
    assert float(cosines[far].max()) > 1e-6


def test_a_preconditioner_that_repeats_itself_is_named():
    with pytest.warns(ConvergenceWarning, match=r"no new direction.*use another one"):
        s = sb.cg(A, B, M=lambda r: torch.ones_like(r))
    assert s.reason is Reason.NO_NEW_DIRECTION
    with pytest.warns(ConvergenceWarning, match="no new direction"):
        assert sb.cg(A, B, M=lambda r: torch.zeros_like(r)).reason is Reason.NO_NEW_DIRECTION


def test_an_indefinite_preconditioner_is_named_in_the_plain_form():
    signs = scipy.sparse.diags_array(np.where(np.arange(N) % 2, 1.0, -1.0))
    with pytest.warns(ConvergenceWarning, match=r"preconditioner not positive definite.*r\.Mr <= 0"):
        s = sb.cg(A, B, M=_symmetric(-signs @ signs))
    assert s.reason is Reason.INDEFINITE_PRECONDITIONER
    assert int(s.iterations) == 0
