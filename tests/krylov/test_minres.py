"""MINRES: residuals that are minimal in the norm of the preconditioner, for operators of any sign.

What all solvers share is tested in tests/contracts/test_solvers.py.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from refusals import refusals, refused

import sciml_bounds as sb
from sciml_bounds.krylov._minres import MAX_GROWTH, MinresLoop
from sciml_bounds.krylov._system import require_symmetric
from sciml_bounds.operators._linear_operator import (
    CallableOperator,
    Diagonal,
    Identity,
    MatrixOperator,
    aslinearoperator,
)
from sciml_bounds.reports import Reason

EPS = torch.finfo(torch.float64).eps


def saddle(seed=0, n=12, m=5, dtype=torch.float64):
    """A KKT matrix, a right-hand side, and a positive definite matrix of that size."""
    generator = torch.Generator().manual_seed(seed)
    H, G, P, b = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((n, n), (m, n), (n + m,) * 2, n + m)
    )
    A = torch.cat([torch.cat([H @ H.T + torch.eye(n), G.T], 1), torch.cat([G, torch.zeros(m, m)], 1)])
    return A.to(dtype), b.to(dtype), (P @ P.T + torch.eye(n + m)).to(dtype)


def size(M, r):
    return float((r @ M @ r).sqrt())


# --- what is minimal --------------------------------------------------------------------------------------------------


def test_every_iterate_is_optimal_in_its_krylov_space():
    """The one of least ||b - A x||_M in span(M b, M A M b, ...), by dense least squares."""
    A, b, M = saddle()
    iterates = []
    s = sb.minres(A, b, M=M, rtol=1e-6, callback=lambda x: iterates.append(x.clone()))
    root = torch.linalg.cholesky(M).mT
    basis = torch.empty(len(b), 0, dtype=torch.float64)
    new = M @ b
    for x, norm in list(zip(iterates, s.residual_norms[1:]))[:8]:
        basis, _ = torch.linalg.qr(torch.cat([basis, new.unsqueeze(1)], 1))
        new = M @ A @ basis[:, -1]
        best = torch.linalg.lstsq(root @ A @ basis, (root @ b).unsqueeze(1)).solution.squeeze(1)
        expected = size(M, b - A @ basis @ best)
        assert size(M, b - A @ x) == pytest.approx(expected, rel=1e-8)
        assert float(norm) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_residual_norms_never_grow_and_the_last_one_is_true(seed):
    A, b, M = saddle(seed)
    for P in (None, M):
        s = sb.minres(A, b, M=P, rtol=1e-10)
        assert bool(s.converged)
        assert (s.residual_norms[1:] <= s.residual_norms[:-1]).all()
        metric = torch.eye(len(b), dtype=torch.float64) if P is None else P
        # computed twice, with an error of some round-offs of ||A|| ||x||
        assert float(s.residual_norm) == pytest.approx(size(metric, b - A @ s.x), abs=100 * EPS * float(A.norm()))
        assert float(s.tolerance) == pytest.approx(1e-10 * size(metric, b))
        torch.testing.assert_close(s.x, torch.linalg.solve(A, b), rtol=0, atol=1e-7)


def test_as_many_iterations_are_taken_as_there_are_eigenvalues():
    A = np.diag(np.resize([1.0, -2.0, 3.0, 0.5], 40))
    assert int(sb.minres(A, np.linspace(1, 2, 40), rtol=1e-10).iterations) == 4


@pytest.mark.parametrize("preconditioned", [False, True])
def test_iterates_are_those_of_scipy(preconditioned):
    """Which stops by another rule, so that the iterates are compared one by one."""
    A, b, M = saddle(1)
    ours, theirs = [], []
    P = M if preconditioned else None
    sb.minres(A, b, M=P, rtol=1e-8, callback=lambda x: ours.append(x.numpy().copy()))
    scipy.sparse.linalg.minres(
        A.numpy(), b.numpy(), M=None if P is None else P.numpy(), rtol=1e-12, callback=lambda x: theirs.append(x.copy())
    )
    for k in range(10):
        np.testing.assert_allclose(ours[k], theirs[k], rtol=0, atol=1e-8)


def test_a_preconditioner_with_the_schur_complement_takes_three_iterations():
    """Murphy, Golub, Wathen (2000): diag(H, G H^-1 G^T)^-1 K has three eigenvalues."""
    A, b, _ = saddle()
    H, G = A[:12, :12], A[12:, :12]
    M = torch.block_diag(torch.linalg.inv(H), torch.linalg.inv(G @ torch.linalg.inv(H) @ G.T))
    s = sb.minres(A, b, M=(M + M.T) / 2, rtol=1e-8)
    assert bool(s.converged)
    assert int(s.iterations) <= 3


# --- forms, batches, precision ----------------------------------------------------------------------------------------

FORMS = {
    "torch": lambda A: A,
    "numpy": lambda A: A.numpy(),
    "sparse": lambda A: scipy.sparse.csr_array(A.numpy()),
    "scipy operator": lambda A: scipy.sparse.linalg.aslinearoperator(A.numpy()),
    "function": lambda A: lambda x: x @ A,
}


@pytest.mark.parametrize("form", FORMS)
def test_operators_and_preconditioners_come_in_any_form(form):
    A, b, M = saddle()
    s = sb.minres(FORMS[form](A), b, M=FORMS[form](M), rtol=1e-10)
    torch.testing.assert_close(s.x, torch.linalg.solve(A, b), rtol=0, atol=1e-8)
    assert "MINRES" in repr(s)


def test_every_row_may_have_its_own_matrix_and_any_leading_axes():
    systems = [saddle(k) for k in range(6)]
    A, b = torch.stack([A for A, _, _ in systems]), torch.stack([b for _, b, _ in systems])
    s = sb.minres(A, b.view(2, 3, -1), rtol=1e-10)
    assert s.converged.shape == s.iterations.shape == s.residual_norm.shape == (2, 3)
    assert len(s.reason) == 6
    for k in range(6):
        alone = sb.minres(A[k], b[k], rtol=1e-10)
        assert abs(int(alone.iterations) - int(s.iterations.view(-1)[k])) <= 1
        torch.testing.assert_close(s.x.view(6, -1)[k], alone.x, rtol=0, atol=1e-8)


def test_single_precision_restarts():
    """With cond(A) = 1e3 the recurrence believes in a residual that is not there, at 11 round-offs."""
    rng = np.random.default_rng(0)
    Q, _ = np.linalg.qr(rng.standard_normal((40, 40)))
    A = ((Q * np.geomspace(1e-3, 1, 40) * np.resize([1, -1], 40)) @ Q.T).astype(np.float32)
    A = (A + A.T) / 2
    b = (A @ rng.standard_normal(40).astype(np.float32)).astype(np.float32)
    s = sb.minres(A, b, rtol=1.3e-6, maxiter=2000)
    assert bool(s.converged)
    assert float((torch.as_tensor(b) - torch.as_tensor(A) @ s.x).norm()) <= 1.4e-6 * np.linalg.norm(b)


def test_the_loop_resumes_to_a_smaller_tolerance():
    A, b, M = saddle(2)
    loop = MinresLoop(MatrixOperator(A), b[None].clone(), MatrixOperator(M))
    counts = []
    for rtol in (0.5, 1e-3, 1e-3, 1e-10):
        loop.seek(rtol * loop.rhs_norm)
        loop.run(100)
        assert bool(loop.norm <= rtol * loop.rhs_norm)
        counts.append(int(loop.iterations))
    assert counts[0] < counts[1] == counts[2] < counts[3]
    assert counts[3] == int(sb.minres(A, b, M=M, rtol=1e-10).iterations)


@pytest.mark.parametrize(("rtol", "more"), [(1e-2, 1), (1e-9, 2)])
def test_trusted_recurrences_save_products(rtol, more):
    """One product with M for b, one per iteration, and one at the end if needed."""
    A, b, M = saddle(2)
    products = []

    def apply(x):
        products.append(1)
        return x @ M

    loop = MinresLoop(MatrixOperator(A), b[None], CallableOperator(apply, len(b), symmetric=True), recompute_below=1e-6)
    loop.seek(rtol * loop.rhs_norm)
    loop.run(100)
    assert len(products) == int(loop.iterations) + more
    r = b - A @ loop.x[0]
    assert float(loop.norm) == pytest.approx(size(M, r), rel=1e-6)
    assert float(loop.euclidean) == pytest.approx(float(r.norm()))


# --- what cannot be solved --------------------------------------------------------------------------------------------


def test_inconsistent_systems_end_at_least_squares():
    A = torch.diag(torch.tensor([2.0, -1.0, 3.0, 0.0], dtype=torch.float64))
    with pytest.warns(sb.ConvergenceWarning, match="outside the range of A"):
        s = sb.minres(A, [2.0, 1.0, 3.0, 5.0])
    assert s.reason is Reason.STAGNATED
    torch.testing.assert_close(s.x[:3], torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64), rtol=0, atol=1e-10)
    assert float(s.residual_norm) == pytest.approx(5.0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("seed", range(15))
def test_least_squares_of_a_singular_operator_are_found_where_its_null_space_is_hidden(seed, dtype):
    """Round-off has a part in the null space: a step along it would have length 1 / eps and spoil the solution."""
    generator = torch.Generator().manual_seed(seed)
    Q, _ = torch.linalg.qr(torch.randn((7, 7), generator=generator, dtype=torch.float64))
    b = torch.randn(7, generator=generator, dtype=torch.float64)
    A = (Q * torch.tensor([0.0, 0.0, 0.0, -0.9, 1.8, -1.7, 2.4], dtype=torch.float64)) @ Q.T
    with pytest.warns(sb.ConvergenceWarning, match="stagnated"):
        s = sb.minres(((A + A.T) / 2).to(dtype), b.to(dtype))
    best = float((Q[:, :3].T @ b).norm())  # the part of b outside the range
    # vectors of the null space that are taken for solutions would change either by a part of order one
    assert float(s.residual_norm) == pytest.approx(best, rel=1e-6 if dtype == torch.float64 else 1e-2)
    assert float((A @ (b - A @ s.x.double())).norm()) <= (1e-6 if dtype == torch.float64 else 1e-1) * best


@pytest.mark.parametrize(("scale", "dtype"), [(1e-170, torch.float64), (1e150, torch.float64), (1e-30, torch.float32)])
def test_symmetry_is_checked_at_any_scale(scale, dtype):
    A, b, P = saddle()
    A, b = (A + A.T) / 2 * scale, b.to(dtype)
    require_symmetric(aslinearoperator(A.to(dtype), b), b)
    refused("symmetric", lambda: require_symmetric(aslinearoperator((A @ P).to(dtype), b), b, name="the operator"))


def test_an_operator_of_zeros_stagnates():
    with pytest.warns(sb.ConvergenceWarning, match="stagnated"):
        assert not sb.minres(np.zeros((3, 3)), np.ones(3)).x.any()
    with pytest.raises(sb.ConvergenceError, match="stagnated"):
        sb.minres(np.zeros((3, 3)), np.ones(3), throw=True)


def dependent_constraints(seeds, condition=None):
    """KKT systems (k, 40, 40) whose ten constraints are one, or are so nearly one that the condition is that given."""
    matrices, vectors = [], []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        Q, _ = np.linalg.qr(rng.standard_normal((30, 30)))
        H, G, N = (Q * np.geomspace(1, 20, 30)) @ Q.T, rng.standard_normal((10, 30)), rng.standard_normal((10, 30))
        G[1:] = rng.standard_normal((9, 1)) @ G[:1]

        def matrix(distance, H=H, G=G, N=N):
            A = np.block([[H, (G + distance * N).T], [G + distance * N, np.zeros((10, 10))]])
            return (A + A.T) / 2

        distance = 0.0 if condition is None else 1e-6 * (np.linalg.cond(matrix(1e-6)) / condition) ** 0.5
        matrices.append(matrix(distance))
        vectors.append(rng.standard_normal(40))
    return torch.from_numpy(np.stack(matrices)), torch.from_numpy(np.stack(vectors))


def root_of_preconditioner(preconditioned):
    """A symmetric matrix: the identity, or one of condition ten."""
    Q, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 40)))
    return torch.from_numpy((Q * np.geomspace(1, 10, 40)) @ Q.T if preconditioned else np.eye(40))


def run(A, b, L, tolerance):
    """Run the loop with M = L^2, and return it with the true residual norms ||L (b - A x)||."""
    plain = torch.equal(L, torch.eye(40, dtype=L.dtype))
    M = Identity(40, b.dtype, b.device) if plain else MatrixOperator(L @ L)
    loop = MinresLoop(MatrixOperator(A), b, M, recompute_below=1e-6)
    loop.seek(tolerance)
    loop.run(2000)
    return loop, ((b.unsqueeze(1) - loop.x.unsqueeze(1) @ A) @ L).norm(dim=(1, 2))


@pytest.mark.parametrize("preconditioned", [False, True])
def test_systems_whose_solution_explodes_end_at_least_squares(preconditioned):
    """Outside the range of A the recurrence falls below what is there, along steps as long as 1 / eps.

    A step is not taken if round-off of x would then be a thousandth of the residual (`EXPLOSION_SHARE`).
    """
    (A, b), L = dependent_constraints(range(30)), root_of_preconditioner(preconditioned)
    best = torch.linalg.lstsq(L @ A, (b @ L).unsqueeze(2), driver="gelsd").solution
    best = ((b.unsqueeze(2) - A @ best).mT @ L).norm(dim=(1, 2))
    loop, norms = run(A, b, L, 0.3 * best)
    assert loop.reasons == [Reason.STAGNATED] * 30
    assert int(loop.iterations.max()) < 100
    assert (norms <= 1.001 * best).all()


@pytest.mark.parametrize("preconditioned", [False, True])
def test_a_recurrence_that_loses_the_residual_is_noticed(preconditioned):
    """Of condition 1e11 to 2e12: the second time that a small eigenvalue is found, x gains eps ||A||^2 ||w||^2."""
    L = root_of_preconditioner(preconditioned)
    systems = [dependent_constraints(range(10 * k, 10 * k + 10), c) for k, c in enumerate((1e11, 4e11, 1e12, 2e12))]
    A, b = (torch.cat(parts) for parts in zip(*systems))
    loop, norms = run(A, b, L, 0.3 * (b @ L).norm(dim=1))
    parts = norms / loop.rhs_norm
    converged = torch.tensor([reason is Reason.CONVERGED for reason in loop.reasons])
    assert converged.any()
    assert (parts[converged] <= 1.1 * 0.3).all()  # the recurrence may drift by `DRIFT_SHARE`
    for k in range(len(b)):
        x, _ = scipy.sparse.linalg.minres(A[k].numpy(), b[k].numpy(), M=(L @ L).numpy(), rtol=3e-7, maxiter=2000)
        theirs = float((L @ (b[k] - A[k] @ torch.from_numpy(x))).norm() / loop.rhs_norm[k])
        assert float(parts[k]) <= max(1.1 * 0.3, MAX_GROWTH * theirs)


def test_a_row_with_an_indefinite_preconditioner_does_not_spoil_the_others():
    A, b, _ = saddle()
    M = Diagonal(torch.stack([torch.ones(17), torch.linspace(-1, 1, 17)]).double())
    with pytest.warns(sb.ConvergenceWarning, match="v.Mv < 0; use a symmetric positive definite one"):
        s = sb.minres(A, torch.stack([b, b]), M=M, rtol=1e-10)
    assert s.reason == (Reason.CONVERGED, Reason.INDEFINITE_PRECONDITIONER)
    assert s.converged.tolist() == [True, False]
    torch.testing.assert_close(s.x[0], torch.linalg.solve(A, b), rtol=0, atol=1e-8)
    assert bool(torch.isfinite(s.x).all())


class Absolute(sb.operators.LinearOperator):
    """A map that is not linear."""

    shape, dtype, device, linear = (17, 17), torch.float64, torch.device("cpu"), False

    def matvec(self, x):
        return x.abs()


SADDLE = dict(zip("Ab", saddle()))

test_bad_input = refusals(
    *[
        (words, lambda options=options: sb.minres(**SADDLE | options))
        for words, options in [
            ("M Absolute linear MINRES", {"M": Absolute()}),
            ("M symmetric MINRES", {"M": np.triu(np.ones((17, 17)))}),
            ("M (16, 16) b 17", {"M": np.eye(16)}),
            ("A symmetric MINRES", {"A": np.triu(np.ones((17, 17)))}),
            ("right-hand side b 17 NaN", {"b": np.full(17, np.nan)}),
            ("x0 (16,)", {"x0": np.ones(16)}),
            ("round-off float64", {"rtol": 1e-17}),
            ("maxiter -1", {"maxiter": -1}),
        ]
    ]
)


def test_values_that_are_not_finite_are_reported():
    A = CallableOperator(lambda x: torch.full_like(x, torch.nan), 3, symmetric=True)
    with pytest.warns(sb.ConvergenceWarning, match="not finite"):
        s = sb.minres(A, [1.0, 2.0, 3.0])
    assert s.reason is Reason.NOT_FINITE
    loop = MinresLoop(Identity(3, torch.float64, torch.device("cpu")), torch.ones(1, 3).double(), A)
    assert loop.reasons == [Reason.NOT_FINITE]


@pytest.mark.parametrize("maxiter", [1, 5])
@pytest.mark.filterwarnings("ignore::sciml_bounds.ConvergenceWarning")
def test_residuals_of_zero_are_converged_where_maxiter_ends(maxiter):
    """The recurrence knows of no zero: it leaves a round-off in each iteration."""
    rng = np.random.default_rng(0)
    A, b = torch.from_numpy(rng.integers(1, 9, (300, 1, 1)) * 1.0), torch.from_numpy(rng.standard_normal((300, 1)))
    s = sb.minres(A, b, rtol=0, atol=1e-300, maxiter=maxiter)
    solved = s.residual_norm == 0
    assert solved.any()
    assert s.converged.equal(solved)
    assert {reason for reason, zero in zip(s.reason, solved) if zero} == {Reason.CONVERGED}


EXPONENTS = [(torch.float64, 531), (torch.float64, 830), (torch.float32, 70), (torch.float32, 100)]


@pytest.mark.parametrize(("dtype", "exponent"), EXPONENTS)
@pytest.mark.parametrize("preconditioned", [False, True])
def test_operators_whose_squares_leave_the_range_are_solved(dtype, exponent, preconditioned):
    """Of 1e160 and 1e250 in double precision, 1e21 and 1e30 in single, and of the inverse of that.

    Powers of two round nothing; ten round-offs are for sums whose order depends on where arrays begin.
    """
    A, b, M = saddle(dtype=dtype)
    options = {"M": M if preconditioned else None, "rtol": 1e-4}
    plain = sb.minres(A, b, **options)
    for scale in (2.0**exponent, 2.0**-exponent):
        s = sb.minres(scale * A, b, **options)
        assert bool(s.converged)
        assert int(s.iterations) == int(plain.iterations)
        slack = 10 * torch.finfo(dtype).eps * float(plain.x.abs().max())
        torch.testing.assert_close(s.x * scale, plain.x, rtol=0, atol=slack)


def test_each_row_of_a_batch_has_its_own_scale():
    A, b, _ = saddle()
    scales = torch.tensor([2.0**-600, 1.0, 2.0**600], dtype=torch.float64)
    s = sb.minres(scales.view(3, 1, 1) * A, b.expand(3, -1), rtol=1e-10)
    assert bool(s.converged.all())
    expected = torch.linalg.solve(A, b).expand(3, -1)
    torch.testing.assert_close(s.x * scales.unsqueeze(1), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("decades", [8, 12])
@pytest.mark.filterwarnings("ignore::sciml_bounds.ConvergenceWarning")
def test_stagnation_above_the_round_off_of_the_rows_is_not_convergence(decades):
    """10 eps ||A|| ||x|| is as large as b here; a hundred round-offs of the rows are far below it."""
    ramp = np.logspace(-decades, decades, 9)[:, None] * np.ones((9, 9))
    sides = dict(zip(("x0", "x1", "y0", "y1"), (sb.Dirichlet(1.0), sb.Dirichlet(0.0), sb.Neumann(), sb.Neumann())))
    solver = sb.prepare(sb.Diffusion(sb.Grid((9, 9)), ramp, boundary=sides), method="multigrid")
    s = sb.minres(solver.operator, solver.rhs)
    level = 100 * torch.finfo(torch.float64).eps * (solver.operator.product_sizes(s.x) + solver.rhs.abs()).norm()
    assert bool(s.converged) == bool(s.residual_norm <= torch.maximum(s.tolerance, level))
