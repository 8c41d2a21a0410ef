"""The table of all methods: each reaches what is asked, on a problem and on a matrix from elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse

import sciml_bounds as sb
from sciml_bounds import _linear_methods
from sciml_bounds.comparison import METHODS, from_matrix, from_problem
from sciml_bounds.comparison.methods import DIRECT

NAMES = [pytest.param(name, marks=[pytest.mark.fem] * name.startswith("petsc")) for name in METHODS]


def test_every_method_of_solve_is_a_method_here():
    assert set(_linear_methods.NAMED_METHODS) <= set(METHODS)


@pytest.mark.parametrize("name", NAMES)
def test_every_method_reaches_the_residual_and_its_history_leads_there(run_one, problem, name):
    suited = sb.Diffusion(sb.Grid((12, 9)), 1.0, 1.0) if name == "transform" else problem
    result = run_one(from_problem(suited), name, rtol=1e-9)
    assert (result.converged, result.reason) == (True, "converged")
    assert result.residual <= 1.001e-9
    seconds, residuals = np.array(result.history).T
    assert residuals[-1] == pytest.approx(result.residual, rel=0.5)  # PyAMG's hierarchies differ from run to run
    assert (np.diff(seconds) > 0).all()
    direct = name in DIRECT
    assert (result.iterations == 0) is direct
    assert len(result.history) == result.iterations + 1 or name.startswith("pyamg")
    assert residuals[0] == 1.0 or direct
    assert result.setup_seconds > 0
    assert result.total_seconds == result.setup_seconds + result.solve_seconds


@pytest.mark.parametrize("name", [p for p in NAMES if p.values[0] not in ("auto", "transform", "multigrid")])
def test_matrices_from_elsewhere_are_solved(run_one, equations, name):
    result = run_one(equations, name, rtol=1e-10)
    assert result.converged
    assert result.energy_error is None


@pytest.mark.parametrize("name", ["cg", "algebraic", "scipy:cg"])
def test_a_matrix_that_a_method_is_not_made_for_is_no_end(run_one, matrix, equations, name):
    skew = matrix + scipy.sparse.triu(matrix, 1) * 0.5
    assert not run_one(from_matrix(skew, equations.rhs), name, maxiter=50).converged
    indefinite = matrix - 1.5 * scipy.sparse.eye_array(len(equations.rhs))
    assert not run_one(from_matrix(indefinite, equations.rhs), name, maxiter=20).converged


@pytest.mark.parametrize("name", ["cg", "scipy:cg"])
def test_a_diagonal_that_is_not_positive_is_said(run_one, matrix, equations, name):
    shifted = matrix - 4 * scipy.sparse.eye_array(len(equations.rhs))
    result = run_one(from_matrix(shifted, equations.rhs), name)
    assert result.reason.startswith("failed: the diagonal of the matrix")
    assert "not positive" in result.reason


@pytest.mark.parametrize("name", ["multigrid", "scipy:cg"])
def test_a_floating_domain_is_solved_in_the_range_of_its_matrix(run_one, problem, name):
    solid = np.zeros((12, 9), dtype=bool)
    solid[5] = True
    f = np.random.default_rng(0).standard_normal((12, 9))
    for part in (slice(0, 5), slice(6, 12)):
        f[part] -= f[part].mean()
    floating = problem.replace(source=f, boundary=sb.Neumann(), solid=solid)
    assert run_one(from_problem(floating), name).converged
