"""Public conjugate-gradient interface: forms of operators and right-hand sides, results, batches, and failures.

What all solvers share is tested in tests/contracts/test_solvers.py.
"""

from __future__ import annotations

import functools
import re

import numpy as np
import pyamg
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from refusals import refusals

import sciml_bounds as sb
from sciml_bounds.errors import ConvergenceError, ConvergenceWarning
from sciml_bounds.fem import require_dolfinx
from sciml_bounds.operators._lattice_operator import LatticeOperator
from sciml_bounds.operators._linear_operator import CallableOperator
from sciml_bounds.results import Reason

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
def test_operators_come_in_any_form(form):
    b = torch.as_tensor(np.stack([B, 2 * B]))
    s = sb.cg(FORMS[form](), b, rtol=1e-10)
    np.testing.assert_allclose(s.x, np.stack([EXACT, 2 * EXACT]), rtol=0, atol=1e-7)


@pytest.mark.parametrize("build", [pyamg.ruge_stuben_solver, pyamg.smoothed_aggregation_solver])
def test_hierarchies_of_pyamg_are_preconditioners(build):
    M = build(A, max_coarse=10).aspreconditioner()
    s = sb.cg(A, B, M=M, rtol=1e-10)
    assert int(s.iterations) <= 15 < int(sb.cg(A, B, rtol=1e-10).iterations)
    assert s.flexible
    assert s.dropped_directions is None  # scipy's operators are linear maps: nothing is searched beside them
    np.testing.assert_allclose(s.x, EXACT, rtol=0, atol=1e-7)


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 1e-20), (torch.float64, 1e-160)], ids=str)
def test_solutions_whose_squared_norm_overflows_are_not_round_off(dtype, size):
    T = torch.full((1, 1, 1, 1, 30), size, dtype=dtype)
    T[..., -1] = 0.0
    operator = LatticeOperator(((0, 0, 1),), T, T[0] / 100)
    b = torch.linspace(1.0, 2.0, 30, dtype=dtype)
    s = sb.cg(operator, b)
    assert bool(s.converged)
    torch.testing.assert_close(operator.matvec(s.x), b, rtol=0, atol=1e-4)  # ||b|| times rtol


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


def test_no_gradient_is_recorded_and_no_input_changes():
    b = torch.as_tensor(B).clone().requires_grad_()
    before = b.detach().clone()
    s = sb.cg(A, b)
    assert not s.x.requires_grad
    assert torch.equal(b.detach(), before)


# --- in each of its forms ---------------------------------------------------------------------------------------------

LOOPS = {
    "plain": sb.cg,
    "flexible": functools.partial(sb.cg, flexible=True),
    "memory 4": functools.partial(sb.cg, memory=4),
}


@pytest.fixture(params=LOOPS)
def solve(request):
    """One form of the loop."""
    return LOOPS[request.param]


def _random_spd(n, condition, seed):
    rng = np.random.default_rng(seed)
    Q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    A = (Q * np.geomspace(1, condition, n)) @ Q.T
    return scipy.sparse.csr_array((A + A.T) / 2)


MATRICES = {"poisson": scipy.sparse.csr_array(pyamg.gallery.poisson((8, 8))), "random": _random_spd(30, 1e2, 0)}


def _rhs(A, seed=0):
    return np.random.default_rng(seed).standard_normal(A.shape[0])


def _residual(A, x, b):
    return np.linalg.norm(b - A @ x.numpy())


def test_maxiter_warns_or_raises(solve):
    matrix, b = MATRICES["poisson"], _rhs(MATRICES["poisson"])
    with pytest.warns(ConvergenceWarning, match="maxiter"):
        s = solve(matrix, b, rtol=1e-12, maxiter=2)
    assert not bool(s.converged)
    assert s.reason is Reason.MAXITER
    assert int(s.iterations) == 2
    assert s.residual_norms.shape == (3,)
    assert float(s.residual_norm) == pytest.approx(_residual(matrix, s.x, b), rel=1e-10)
    assert float(s.tolerance) == pytest.approx(1e-12 * np.linalg.norm(b))
    with pytest.raises(ConvergenceError, match="maxiter"):
        solve(matrix, b, rtol=1e-12, maxiter=2, throw=True)


def test_the_callback_sees_every_iterate_and_can_stop(solve):
    A, b = MATRICES["poisson"], _rhs(MATRICES["poisson"])
    seen = []
    s = solve(A, b, callback=lambda x: seen.append(_residual(A, x, b)))
    assert len(seen) == int(s.iterations)
    np.testing.assert_allclose(seen, s.residual_norms[1:], rtol=1e-6)
    stopped = solve(A, b, callback=lambda x: True)
    assert (stopped.reason, int(stopped.iterations), bool(stopped.converged)) == (Reason.STOPPED, 1, False)


def test_rows_of_a_batch_are_solved_independently(solve):
    A = MATRICES["poisson"]
    rng = np.random.default_rng(0)
    easy = A @ np.ones(64)  # symmetric data: fewer iterations
    rows = np.stack([rng.standard_normal(64), np.zeros(64), 1e-9 * rng.standard_normal(64), easy])
    dense = torch.as_tensor(A.toarray())  # products of row by row are rounded the same for any number of rows
    A = CallableOperator(lambda x: torch.stack([dense @ row for row in x]), 64, symmetric=True, linear=True)
    together = solve(A, rows, rtol=1e-9)
    assert bool(together.converged.all())
    assert not together.x[1].any()
    assert len(set(together.iterations.tolist())) > 2  # rows end at different times
    for k, row in enumerate(rows):
        alone = solve(A, row[None], rtol=1e-9)
        assert int(alone.iterations[0]) == int(together.iterations[k])
        assert torch.equal(alone.x[0], together.x[k])  # bit for bit: a row that has ended is frozen
        last = int(alone.iterations[0]) + 1
        assert torch.equal(alone.residual_norms[:last, 0], together.residual_norms[:last, k])
        torch.testing.assert_close(alone.error_lower[:last, 0], together.error_lower[:last, k], rtol=1e-12, atol=0)


def test_batches_have_any_leading_axes(solve):
    A = MATRICES["random"]
    b = torch.randn(2, 3, 30, dtype=torch.float64)
    s = solve(A, b, rtol=1e-10)
    assert s.x.shape == b.shape
    assert s.converged.shape == s.iterations.shape == s.residual_norm.shape == s.tolerance.shape == (2, 3)
    assert s.residual_norms.shape == s.error_lower.shape == (int(s.iterations.max()) + 1, 2, 3)
    assert len(s.reason) == 6
    expected = scipy.sparse.linalg.spsolve(A.tocsc(), b.reshape(6, 30).numpy().T).T
    np.testing.assert_allclose(s.x.reshape(6, 30), expected, rtol=0, atol=1e-7)


def test_every_row_may_have_its_own_matrix(solve):
    matrices = torch.stack([torch.as_tensor(_random_spd(20, 50.0, k).toarray()) for k in range(3)])
    b = torch.randn(3, 20, dtype=torch.float64)
    s = solve(matrices, b, rtol=1e-10)
    torch.testing.assert_close(s.x, torch.linalg.solve(matrices, b), rtol=0, atol=1e-8)


def test_an_empty_batch_is_solved(solve):
    s = solve(MATRICES["random"], torch.zeros(0, 30, dtype=torch.float64))
    assert s.x.shape == (0, 30)
    assert bool(s.converged.all())


def test_a_row_that_fails_does_not_spoil_the_others(solve):
    good, bad = np.eye(4), np.diag([1.0, 2.0, -3.0, 4.0])
    with pytest.warns(ConvergenceWarning, match="positive definite"):
        s = solve(np.stack([good, bad]), np.ones((2, 4)), rtol=1e-12)
    assert s.converged.tolist() == [True, False]
    assert s.reason == (Reason.CONVERGED, Reason.INDEFINITE)
    assert s.x[0].tolist() == [1.0] * 4
    assert bool(torch.isfinite(s.x).all())


def test_an_inconsistent_singular_system_is_not_converged(solve):
    n = 20
    A = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    A[0, 0] = A[-1, -1] = 1
    with pytest.warns(ConvergenceWarning, match="converge"):
        s = solve(A, np.random.default_rng(0).standard_normal(n) + 1.0)
    assert not bool(s.converged)
    assert s.reason in (Reason.INDEFINITE, Reason.MAXITER)


def test_nan_in_operator_or_preconditioner_is_reported(solve):
    A = np.diag([1.0, np.nan])
    with pytest.warns(ConvergenceWarning, match="NaN"):
        assert solve(A, np.ones(2)).reason is Reason.NOT_FINITE
    for x0 in (None, np.ones(2)):
        with pytest.warns(ConvergenceWarning, match="NaN"):
            s = solve(2 * np.eye(2), np.ones(2), M=A, x0=x0)
        assert s.reason is Reason.NOT_FINITE
        assert bool(s.x.isfinite().all())  # the last iterate that is one


def test_right_hand_sides_and_tolerances_come_in_any_form():
    for b in ([1.0, 2.0], (1, 2), np.array([1.0, 2.0]), torch.tensor([1.0, 2.0])):
        assert sb.cg(np.diag([1.0, 2.0]), b).x.tolist() == pytest.approx([1.0, 1.0])
    for rtol in (1e-3, np.float32(1e-3), np.array(1e-3), torch.tensor(1e-3)):
        assert bool(sb.cg(np.diag([1.0, 3.0]), np.ones(2), rtol=rtol, atol=rtol).converged)


BAD = [
    ("A (3, 3) b 4", np.eye(3), np.ones(4), {}),
    ("right-hand side b () vector", np.eye(3), 1.0, {}),
    ("right-hand side b (0,) vector", np.eye(0), np.ones(0), {}),
    ("right-hand side b ()", lambda x: x, 1.0, {}),
    ("function (2,) (3,) vectors", lambda x: x[:2], np.ones(3), {}),
    ("function NoneType tensor", lambda x: None, np.ones(3), {}),
    ("function ndarray tensor", lambda x: x.numpy(), np.ones(3), {}),
    ("function (1, 2) (1, 3)", np.eye(3), np.ones(3), {"M": lambda x: x[:2]}),
    ("function NoneType", np.eye(3), np.ones(3), {"M": lambda x: None}),
    ("right-hand side b 1e-170", np.eye(3), np.full(3, 1e-170), {}),
    ("right-hand side b 1e+170", np.eye(3), np.full(3, 1e170), {}),
    ("right-hand side b 1e-170", np.eye(3), np.diag([1.0, 1e-170, 0.0]), {}),
    ("maxiter 1.5 integer", np.eye(3), np.ones(3), {"maxiter": 1.5}),
    ("memory 1.5 integer", np.eye(3), np.ones(3), {"memory": 1.5}),
    ("memory 0 positive", np.eye(3), np.ones(3), {"memory": 0}),
    ("rtol number", np.eye(3), np.ones(3), {"rtol": "1e-3"}),
    ("rtol number", np.eye(3), np.ones(3), {"rtol": [1e-3]}),
    ("rtol number", np.eye(3), np.ones(3), {"rtol": True}),
    ("atol number", np.eye(3), np.ones(3), {"atol": None}),
    ("atol number", np.eye(3), np.ones(3), {"atol": np.ones(3)}),
    ("flexible True False None", np.eye(3), np.ones(3), {"flexible": "no"}),
    ("callback function", np.eye(3), np.ones(3), {"callback": 3}),
    ("lambda_min 2 1", np.eye(3), np.ones(3), {"lambda_min": torch.ones(2)}),
    ("lambda_min complex128", np.eye(3), np.ones(3), {"lambda_min": 1j}),
    ("lambda_min array", np.eye(3), np.ones(3), {"lambda_min": "1"}),
    ("lambda_min finite", np.eye(3), np.ones(3), {"lambda_min": np.inf}),
    ("M (4, 4) b 3", np.eye(3), np.ones(3), {"M": np.eye(4)}),
    ("x0 (2,) (3,)", np.eye(3), np.ones(3), {"x0": np.ones(2)}),
    ("x0 (3,) (2, 3)", np.eye(3), np.ones((2, 3)), {"x0": np.ones(3)}),
    ("square", np.ones((3, 4)), np.ones(4), {}),
    ("A batch 2", np.stack([np.eye(3)] * 2), np.ones(3), {}),
    ("M batch 2", np.eye(3), np.ones((3, 3)), {"M": np.stack([np.eye(3)] * 2)}),
    ("right-hand side b int64", np.eye(3), np.ones(3, dtype=int), {}),
    ("matrix int64", np.eye(3, dtype=int), np.ones(3), {}),
    ("right-hand side b complex128", np.eye(3), np.ones(3, dtype=complex), {}),
    ("b 1 NaN (1,)", np.eye(3), np.array([1.0, np.nan, 1.0]), {}),
    ("guess x0 3", np.eye(3), np.ones(3), {"x0": np.full(3, np.inf)}),
    ("M float32 float64", np.eye(3), np.ones(3), {"M": np.eye(3, dtype=np.float32)}),
    ("A cpu b meta", np.eye(3), torch.ones(3, device="meta"), {}),
    ("lambda_min positive", np.eye(3), np.ones(3), {"lambda_min": 0.0}),
    ("lambda_min_preconditioned positive", np.eye(3), np.ones(3), {"lambda_min_preconditioned": -1.0}),
    ("str operator", "A", np.ones(3), {}),
    ("A symmetric method", np.array([[2.0, 1.0], [0.0, 3.0]]), np.ones(2), {}),
    ("round-off float64", np.eye(3), np.ones(3), {"rtol": 1e-16}),
    ("round-off float32", np.eye(3, dtype=np.float32), np.ones(3, dtype=np.float32), {"rtol": 1e-7}),
]

test_bad_input = refusals(
    *[(words, lambda A=A, b=b, options=options: sb.cg(A, b, **options)) for words, A, b, options in BAD],
    ("positional", lambda: sb.cg(np.eye(2), np.ones(2), np.eye(2)), TypeError),
)


@pytest.mark.parametrize(("size", "atol"), [(1.0, 1e-200), (1e-170, 1e-10), (0.0, 0.0)])
def test_residuals_below_the_squarable_range_converge(solve, size, atol):
    s = solve(np.eye(3), np.full(3, size), rtol=0.0 if atol else None, atol=atol)
    assert bool(s.converged)


def test_functions_receive_a_single_vector_unbatched(solve):
    A = torch.diag(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64))
    inverse = torch.linalg.inv(A)
    s = solve(lambda x: A @ x, torch.ones(3, dtype=torch.float64), M=lambda r: inverse @ r)
    torch.testing.assert_close(s.x, torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64))


def test_the_solution_has_the_precision_of_the_operator(solve):
    assert solve(np.eye(3), np.ones(3, dtype=np.float32)).x.dtype == torch.float64
    assert solve(np.eye(3, dtype=np.float32), np.ones(3)).x.dtype == torch.float32
    assert solve(lambda x: 2 * x, np.ones(3, dtype=np.float32)).x.dtype == torch.float32


def test_convergence_is_that_of_the_true_residual(solve):
    # condition 1e12: the recursive residual falls below the tolerance long before the true one
    A = _random_spd(40, 1e12, 3).toarray()
    b = A @ np.ones(40)
    with np.errstate(all="ignore"):
        try:
            s = solve(A, b, rtol=1e-14, maxiter=400)
        except ConvergenceWarning:  # an error in tests: the solver may as well say that it did not get there
            return
    assert _residual(A, s.x, b) <= 1e-14 * np.linalg.norm(b) * (1 + 1e-6)
