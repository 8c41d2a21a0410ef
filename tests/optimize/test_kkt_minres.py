"""MINRES with a preconditioner inside Newton's method: control of a PDE by products, accuracy as needed, bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import scipy.sparse.linalg
import torch
from nonlinear_programs import PROBLEMS, double
from refusals import refusals

import sciml_bounds as sb
from sciml_bounds.optimize._kkt import kkt_matrix
from sciml_bounds.optimize._kkt_minres import MinresSolver

WEIGHT = 0.1


def laplacian(w, N):
    """Five points on (-1, 1)^2, zero on the boundary."""
    wide = torch.nn.functional.pad(w.view(N, N), (1, 1, 1, 1))
    around = wide[2:, 1:-1] + wide[:-2, 1:-1] + wide[1:-1, 2:] + wide[1:-1, :-2]
    return ((around - 4 * wide[1:-1, 1:-1]) * (N + 1) ** 2 / 4).view(-1)


def control(N):
    """Distributed control of the Poisson equation as published: x = (state, control), N^2 numbers each."""
    step = 0.1 / math.sqrt(15) * (torch.arange(1, N + 1, dtype=torch.float64) - (N + 1) / 2)
    target = (torch.sin(4 + step).unsqueeze(1) + torch.cos(3 + step)).view(-1)

    def fun(x):
        w, z = x.chunk(2)
        return (w - target).square().sum() / 2 + WEIGHT / 2 * z.square().sum()

    def constraint(x):
        w, z = x.chunk(2)
        return laplacian(w, N) + z

    return fun, constraint, torch.zeros(2 * N**2, dtype=torch.float64)


def inverse_of_blocks(N):
    """diag(I, weight I, S)^-1 with S = (K + I / sqrt(weight))^2, K = -Laplacian: Pearson and Wathen (2012)."""
    n = N**2
    columns = torch.stack([laplacian(e, N) for e in torch.eye(n, dtype=torch.float64)], 1)
    factors = scipy.sparse.linalg.splu(scipy.sparse.csc_array(np.eye(n) / math.sqrt(WEIGHT) - columns.numpy()))

    def apply(r):
        return np.concatenate([r[:n], r[n : 2 * n] / WEIGHT, factors.solve(factors.solve(r[2 * n :]))])

    return scipy.sparse.linalg.LinearOperator((3 * n, 3 * n), matvec=apply, rmatvec=apply, dtype=np.float64)


# --- control of a PDE -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("N", "preconditioned"),
    [(3, False), (8, False), pytest.param(16, False, marks=pytest.mark.slow), (3, True), (8, True), (16, True)],
)
def test_control_by_products_is_that_of_direct_solves(N, preconditioned):
    fun, constraint, x0 = control(N)
    exact = sb.minimize(fun, x0, constraints=constraint)
    inner = sb.optimize.Minres(inverse_of_blocks(N)) if preconditioned else "minres"
    result = sb.minimize(fun, x0, constraints=constraint, inner=inner)
    assert result.success
    assert result.fun == pytest.approx(exact.fun, rel=1e-10)
    # the smallest singular value of the KKT matrix is about 0.1, and residuals are 1e-8
    torch.testing.assert_close(result.x, exact.x, rtol=0, atol=1e-6)
    torch.testing.assert_close(result.multipliers, exact.multipliers, rtol=0, atol=1e-6)
    if N == 3:
        assert result.fun == pytest.approx(9.64444205, abs=5e-9)  # published
    J = torch.autograd.functional.jacobian(constraint, result.x)
    g = torch.autograd.functional.jacobian(fun, result.x)
    true = torch.cat([g + J.T @ result.multipliers, constraint(result.x)])
    assert float(true.norm()) == pytest.approx(result.kkt_residual, rel=1e-3)


def test_weak_curvature_needs_no_shift():
    """Curvatures of 1 and 1e11: shifts relative to the larger one would make steps vanish."""
    start = torch.tensor([0.0, 1.0], dtype=torch.float64)
    result = sb.minimize(lambda x: 5e10 * x[0] ** 2 + torch.cosh(x[1]), start, inner="minres")
    assert result.success
    assert result.nit <= 10


def test_the_number_of_iterations_does_not_depend_on_the_mesh():
    counts = {}
    for N in (8, 16, 32):
        fun, constraint, x0 = control(N)
        result = sb.minimize(fun, x0, constraints=constraint, inner=sb.optimize.Minres(inverse_of_blocks(N)))
        counts[N] = sum(step.inner_steps for step in result.history)
    assert max(counts.values()) <= 1.5 * min(counts.values())


def test_no_matrix_is_formed(monkeypatch):
    """One pass backward a product: none of the passes for all rows at once."""
    monkeypatch.setattr("sciml_bounds.optimize._user_functions._rows", lambda y, leaf: _only_a_gradient(y, leaf))
    fun, constraint, x0 = control(4)
    assert sb.minimize(fun, x0, constraints=constraint, inner=sb.optimize.Minres(inverse_of_blocks(4))).success


def _only_a_gradient(y, leaf):
    assert len(y) == 1
    return torch.autograd.grad(y, leaf, torch.ones_like(y), retain_graph=True)[0].view(1, -1)


def test_first_steps_are_inexact():
    fun, constraint, x0 = control(8)
    inexact = sb.minimize(fun, x0, constraints=constraint, inner=sb.optimize.Minres(inverse_of_blocks(8)))
    exact = sb.minimize(fun, x0, constraints=constraint, inner=sb.optimize.Minres(inverse_of_blocks(8), rtol=1e-12))
    accuracies = [step.inner_residual for step in inexact.history]
    assert accuracies[0] > 1e-4  # solved no further than to 0.1, or to half of the Euclidean norm
    assert accuracies[0] > accuracies[2]
    assert exact.nit == 1
    assert exact.history[0].inner_residual <= 1e-12
    assert exact.history[0].inner_steps > inexact.history[0].inner_steps


@pytest.mark.parametrize("N", [8, pytest.param(16, marks=pytest.mark.slow)])
def test_control_of_a_semilinear_equation(N):
    """-Laplacian w + w^3 = z: the preconditioner follows the state, and inexact steps save a third of the work."""
    fun, poisson, x0 = control(N)
    columns = torch.stack([laplacian(e, N) for e in torch.eye(N**2, dtype=torch.float64)], 1)

    def constraint(x):
        return poisson(x) - x.chunk(2)[0] ** 3

    def inverse(x, multipliers):
        K = torch.diag(3 * x[: N**2] ** 2 + 1 / math.sqrt(WEIGHT)) - columns
        return torch.block_diag(
            torch.eye(N**2), torch.eye(N**2) / WEIGHT, torch.cholesky_inverse(torch.linalg.cholesky(K @ K))
        )

    exact = sb.minimize(fun, x0, constraints=constraint)
    accurate = sb.minimize(fun, x0, constraints=constraint, inner=sb.optimize.Minres(inverse, rtol=1e-10))
    inexact = sb.minimize(fun, x0, constraints=constraint, inner=sb.optimize.Minres(inverse))
    for result in (accurate, inexact):
        assert result.success
        torch.testing.assert_close(result.x, exact.x, rtol=0, atol=1e-6)
    steps = [sum(step.inner_steps for step in result.history) for result in (accurate, inexact)]
    assert steps[1] < 0.7 * steps[0]
    assert inexact.nit <= accurate.nit + 2


@pytest.mark.parametrize("name", PROBLEMS)
def test_minima_of_the_literature_are_found_by_products(name):
    problem = PROBLEMS[name]
    result = sb.minimize(problem.fun, problem.start, constraints=problem.constraints, inner="minres")
    assert result.success
    assert result.fun == pytest.approx(problem.minimum, rel=1e-6, abs=1e-6)


# --- what preconditioners and derivatives may be ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_a_function_of_the_point_makes_the_preconditioner(kind):
    """It is given what x0 is, once a point, and its inverse Hessian makes of a quadratic objective a few iterations."""
    scale, seen = torch.linspace(1, 1e4, 30, dtype=torch.float64), []

    def inverse(x, multipliers):
        seen.append((type(x), type(multipliers), len(x), len(multipliers)))
        curvature = np.asarray(12 * scale * torch.as_tensor(x) ** 2 + 2)
        return np.diag(np.append(1 / curvature, 1 / (1 / curvature).sum()))

    x0 = torch.ones(30, dtype=torch.float64) if kind == "torch" else np.ones(30)
    result = sb.minimize(
        lambda x: (scale * x.pow(4) + x.pow(2)).sum(), x0, constraints=lambda x: x.pow(1).sum() - 10,
        inner=sb.optimize.Minres(inverse),
    )  # fmt: skip
    assert result.success
    assert type(result.x) is type(x0)
    assert set(seen) == {(type(x0), type(x0), 30, 1)}
    assert len(seen) == result.nit
    assert max(step.inner_steps for step in result.history) <= 6


def _circle(x):
    return (1 + x[0] ** 2) ** 2 + x[1] ** 2 - 4


def _operator(matrix):
    return scipy.sparse.linalg.aslinearoperator(np.asarray(matrix))


OPERATORS = {
    "jac": lambda x: _operator([[4 * x[0] * (1 + x[0] ** 2), 2 * x[1]]]),
    "hess": lambda x, v: _operator(v[0] * np.diag([4 + 12 * x[0] ** 2, 2.0])),
}


@pytest.mark.parametrize("inner", ["auto", "minres"])
def test_derivatives_may_be_operators(inner):
    constraint = scipy.optimize.NonlinearConstraint(_circle, 0, 0, **OPERATORS)
    result = sb.minimize(
        lambda x: np.log(1 + x[0] ** 2) - x[1], np.array([2.0, 2.0]), constraints=constraint, inner=inner,
        jac=lambda x: np.array([2 * x[0] / (1 + x[0] ** 2), -1.0]),
        hess=lambda x: _operator(np.diag([2 * (1 - x[0] ** 2) / (1 + x[0] ** 2) ** 2, 0.0])),
    )  # fmt: skip
    assert result.fun == pytest.approx(-math.sqrt(3))
    assert "inner solver minres" in result.method
    assert sum(step.inner_steps for step in result.history) > 0


def test_the_published_method_takes_a_preconditioner():
    problem = PROBLEMS["HS7"]
    inner = sb.optimize.Minres(torch.eye(3, dtype=torch.float64))
    result = sb.minimize(problem.fun, problem.start, constraints=problem.constraints, method="sketched", inner=inner)
    assert (result.nit, result.success) == (problem.counts[0], True)


# --- bad input --------------------------------------------------------------------------------------------------------


def _hs7(preconditioner):
    problem, inner = PROBLEMS["HS7"], sb.optimize.Minres(preconditioner)
    return sb.minimize(problem.fun, problem.start, constraints=problem.constraints, inner=inner)


def _by_operators(**options):
    constraint = scipy.optimize.NonlinearConstraint(_circle, 0, 0, **OPERATORS)
    return sb.minimize(lambda x: torch.log(1 + x[0] ** 2) - x[1], [2.0, 2.0], constraints=constraint, **options)


test_bad_input = refusals(
    ("inner='direct' entries matrices", lambda: _by_operators(inner="direct")),
    ("inner='kaczmarz' entries matrices", lambda: _by_operators(inner="kaczmarz")),
    ("method='sketched' entries matrices", lambda: _by_operators(method="sketched", inner="minres")),
    ("preconditioner Minres shape (2, 2) KKT system", lambda: _hs7(np.eye(2))),
    ("preconditioner Minres positive definite", lambda: _hs7(np.diag([1.0, -1.0, 1.0]))),
    ("preconditioner Minres positive definite", lambda: _hs7(-np.eye(3))),
    ("preconditioner Minres NaN infinity", lambda: _hs7(lambda x, multipliers: np.diag([1.0, np.nan, 1.0]))),
    ("preconditioner Minres symmetric", lambda: _hs7(np.triu(np.ones((3, 3))))),
    ("preconditioner Minres float32", lambda: _hs7(np.eye(3, dtype=np.float32))),
    ("str operator", lambda: _hs7(lambda x, multipliers: "inverse")),
    ("preconditioner Minres 'multigrid' operator", lambda: sb.optimize.Minres("multigrid")),
    ("rtol Minres 2.0 0 1", lambda: sb.optimize.Minres(rtol=2.0)),
    ("maxiter 0", lambda: sb.optimize.Minres(maxiter=0)),
    ("= 0 side", lambda: sb.minimize(
        lambda x: x @ x + x.sum(), double(1, 1), inner=sb.optimize.Minres(torch.zeros(2, 2).double())
    )),
)  # fmt: skip


# --- the solver by itself ---------------------------------------------------------------------------------------------


def test_a_solve_is_shorter_in_the_euclidean_norm_too():
    """With a preconditioner that hardly sees the last equation, whose residual is all there is at first."""
    generator = torch.Generator().manual_seed(0)
    H, G = torch.diag(double(1.0, 2.0, 3.0, 4.0)), torch.randn((2, 4), generator=generator, dtype=torch.float64)
    A, b = kkt_matrix(H, G), double(1e-3, 0, 0, 0, 0, 1.0)
    P = torch.diag(double(1e6, 1, 1, 1, 1, 1e-6))
    solve = MinresSolver(sb.optimize.Minres(P))(A, b, 100)
    solve.refine(0.5 * solve.rhs_norm)
    assert float((A @ solve.z - b).norm()) <= 0.5 * float(b.norm())
    r = A @ solve.z - b
    assert solve.residual_norm == pytest.approx(float((r @ P @ r).sqrt()), rel=1e-6)
    assert solve.rhs_norm == pytest.approx(float((b @ P @ b).sqrt()))


def test_a_reached_maxiter_is_reported():
    A = torch.diag(torch.linspace(1, 50, 50, dtype=torch.float64))
    solve = MinresSolver(sb.optimize.Minres(maxiter=5))(A, torch.ones(50, dtype=torch.float64), 100)
    solve.refine(1e-10)
    assert (solve.capped, solve.steps) == (True, 5)
