"""The face of the loop: every form of operator and right-hand side, and what the result says."""

from __future__ import annotations

import re

import numpy as np
import pyamg
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch

import sciml_bounds as sb
from sciml_bounds.errors import ConvergenceWarning
from sciml_bounds.fem import require_dolfinx

A = pyamg.gallery.poisson((12, 12), format="csr")
N = A.shape[0]
B = np.random.default_rng(0).standard_normal(N)
EXACT = scipy.sparse.linalg.spsolve(A.tocsc(), B)


# --- operators in every form ------------------------------------------------------------------------------------------


def _petsc():
    require_dolfinx()
    from petsc4py import PETSc

    matrix = PETSc.Mat().createAIJ(size=A.shape, csr=(A.indptr, A.indices, A.data), comm=PETSc.COMM_SELF)
    matrix.assemble()
    return matrix


FORMS = {
    "dense": lambda: torch.as_tensor(A.toarray()),
    "batched dense": lambda: torch.as_tensor(A.toarray()).expand(2, N, N),
    "torch sparse": lambda: torch.as_tensor(A.toarray()).to_sparse_coo(),
    "numpy": A.toarray,
    "scipy sparse": lambda: A,
    "scipy operator": lambda: scipy.sparse.linalg.aslinearoperator(A),
    "callable": lambda: lambda x: torch.as_tensor((A @ x.reshape(-1, N).numpy().T).T).reshape(x.shape),
    "petsc": _petsc,
}


@pytest.mark.parametrize("form", [pytest.param(name, marks=[pytest.mark.fem] * (name == "petsc")) for name in FORMS])
def test_the_operator_may_come_in_any_form(form):
    b = torch.as_tensor(np.stack([B, 2 * B]))
    s = sb.cg(FORMS[form](), b, rtol=1e-10)
    np.testing.assert_allclose(s.x, np.stack([EXACT, 2 * EXACT]), rtol=0, atol=1e-7)


@pytest.mark.parametrize("build", [pyamg.ruge_stuben_solver, pyamg.smoothed_aggregation_solver])
def test_hierarchies_of_pyamg_are_preconditioners(build):
    M = build(A, max_coarse=10).aspreconditioner()
    s = sb.cg(A, B, M=M, rtol=1e-10)
    assert int(s.iterations) <= 15 < int(sb.cg(A, B, rtol=1e-10).iterations)
    np.testing.assert_allclose(s.x, EXACT, rtol=0, atol=1e-7)


def test_the_right_hand_side_may_be_a_list_or_any_array():
    for b in ([1.0, 2.0], (1, 2), np.array([1.0, 2.0]), torch.tensor([1.0, 2.0])):
        assert sb.cg(np.diag([1.0, 2.0]), b).x.tolist() == pytest.approx([1.0, 1.0])


# --- what it says -----------------------------------------------------------------------------------------------------


def test_the_result_prints_as_a_short_table():
    s = sb.cg(A, B, rtol=1e-6)
    text = repr(s)
    assert text.startswith("LinearSolution\n")
    assert "conjugate gradients" in text
    assert re.search(rf"^  iterations +{int(s.iterations)}$", text, re.MULTILINE)
    assert "A-norm error (estimate)" in text
    assert s.seconds > 0


def test_the_warning_points_at_the_line_of_the_caller():
    with pytest.warns(ConvergenceWarning) as caught:
        sb.cg(A, B, maxiter=1)
    assert caught[0].filename == __file__


def test_nothing_is_differentiated_and_no_input_is_written_to():
    b = torch.as_tensor(B).clone().requires_grad_()
    before = b.detach().clone()
    s = sb.cg(A, b)
    assert not s.x.requires_grad
    assert torch.equal(b.detach(), before)
