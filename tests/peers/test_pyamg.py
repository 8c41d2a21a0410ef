"""Our multigrid inside PyAMG's solvers, PyAMG's hierarchies inside our conjugate gradients, on one matrix."""

from __future__ import annotations

import numpy as np
import pyamg
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch

import sciml_bounds as sb

#: Relative residual, in the 2-norm on both sides.
RTOL = 1e-10


@pytest.fixture(scope="module")
def problem() -> sb.Diffusion:
    """A log-normal coefficient on an odd grid with mixed sides."""
    rng = np.random.default_rng(0)
    boundary = {"x0": sb.Dirichlet(0.0), "x1": sb.Robin(1.0, 0.5), "y0": sb.Neumann(0.0), "y1": sb.Dirichlet(0.0)}
    return sb.Diffusion(sb.Grid((45, 38)), rng.lognormal(sigma=1.5, size=(45, 38)), 1.0, boundary=boundary)


@pytest.fixture(scope="module")
def system(problem):
    """The matrix as scipy's, the right-hand side, and the solution by a sparse factorisation."""
    solver = sb.prepare(problem)
    A = scipy.sparse.csr_matrix(solver.operator.to_csr())
    b = solver.rhs[0].numpy()
    return A, b, scipy.sparse.linalg.spsolve(A.tocsc(), b)


def relative_residual(A, b, x) -> float:
    return float(np.linalg.norm(b - A @ x) / np.linalg.norm(b))


def test_our_cycle_preconditions_scipy(problem, system):
    A, b, exact = system
    M = sb.prepare(problem, method="multigrid").as_preconditioner().to_scipy()
    x, info = scipy.sparse.linalg.cg(A, b, M=M, rtol=RTOL, maxiter=20)
    assert info == 0
    np.testing.assert_allclose(x, exact, atol=1e-8 * np.abs(exact).max())


@pytest.mark.parametrize("loop", ["cg", "bicgstab"])
def test_our_cycle_preconditions_the_krylov_loops_of_pyamg(problem, system, loop):
    A, b, exact = system
    residuals: list[float] = []
    M = sb.prepare(problem, method="multigrid").as_preconditioner().to_scipy()
    x, info = getattr(pyamg.krylov, loop)(A, b, tol=RTOL, M=M, maxiter=20, residuals=residuals)
    assert info == 0
    assert len(residuals) < 20
    np.testing.assert_allclose(x, exact, atol=1e-8 * np.abs(exact).max())


@pytest.mark.parametrize("build", [pyamg.ruge_stuben_solver, pyamg.smoothed_aggregation_solver])
def test_their_hierarchy_preconditions_our_loop_as_it_does_theirs(system, build):
    """The same algorithm on the same operators: the residuals agree until round-off has grown, some steps later."""
    A, b, exact = system
    M = build(A).aspreconditioner()
    ours = sb.cg(A, b, M=M, rtol=RTOL, flexible=False)
    theirs: list[float] = []
    pyamg.krylov.cg(A, b, tol=RTOL, M=M, residuals=theirs)
    np.testing.assert_allclose(ours.residual_norms[:8], theirs[:8], rtol=1e-6)
    assert bool(ours.converged)
    np.testing.assert_allclose(ours.x, exact, atol=1e-8 * np.abs(exact).max())


def test_our_loop_accelerates_their_hierarchy(system):
    """PyAMG takes a function with scipy's interface as `accel`."""
    A, b, exact = system

    def accelerate(A, b, x0, tol, maxiter, M, callback, residuals):
        solution = sb.cg(A, b, M=M, x0=x0, rtol=tol, maxiter=maxiter)
        residuals[:] = solution.residual_norms.tolist()
        return solution.x.numpy(), 0

    residuals: list[float] = []
    x = pyamg.ruge_stuben_solver(A).solve(b, tol=RTOL, maxiter=30, accel=accelerate, residuals=residuals)
    assert len(residuals) < 30
    np.testing.assert_allclose(x, exact, atol=1e-8 * np.abs(exact).max())


def test_batch_of_right_hand_sides_through_their_hierarchy(system):
    """An operator that takes one vector at a time serves a batch, and every row gets its own answer."""
    A, b, exact = system
    scales = np.array([1.0, 0.0, -2.0])[:, None]
    solution = sb.cg(A, torch.as_tensor(scales * b), M=pyamg.ruge_stuben_solver(A).aspreconditioner(), rtol=RTOL)
    np.testing.assert_allclose(solution.x, scales * exact, atol=1e-7 * np.abs(exact).max())
