"""The equations of a problem or a matrix, and the energy error of their solutions."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
from refusals import refusals

import sciml_bounds as sb
from sciml_bounds.comparison import from_matrix, from_problem


def test_the_energy_error_is_that_of_the_certificate(run_one, problem):
    fine = sb.solve(problem, rtol=1e-12)
    result = run_one(from_problem(problem, 1.1 * fine.values), "direct")
    assert result.energy_error == pytest.approx(0.1 / 1.1, rel=1e-9)
    assert run_one(from_problem(problem, fine.values), "cg", rtol=1e-6).energy_error < 1e-4


def test_boundary_values_belong_to_the_solution(run_one):
    sides = {"x0": sb.Dirichlet(1.0), "x1": sb.Dirichlet(2.0), "y0": sb.Periodic(), "y1": sb.Periodic()}
    problem = sb.Diffusion(sb.Grid((8, 6)), 2.0, 1.0, boundary=sides)
    result = run_one(from_problem(problem, sb.solve(problem, rtol=1e-12).values), "pyamg:ruge-stuben", rtol=1e-10)
    assert result.energy_error < 1e-8


test_bad_input = refusals(
    ("square", lambda matrix: from_matrix(matrix[:5])),
    ("132 right-hand side", lambda matrix: from_matrix(matrix, np.ones(3))),
    ("right-hand side nan 0 132", lambda matrix: from_matrix(matrix, np.full(132, np.nan))),
    (
        "matrix inf 5 7",
        lambda matrix: from_matrix(matrix + scipy.sparse.coo_array(([np.inf], ([5], [7])), matrix.shape)),
    ),
    ("right-hand side zero", lambda matrix: from_matrix(matrix, np.zeros(132))),
    ("batch", lambda problem: from_problem(problem.replace(source=np.ones((3, 12, 9))))),
    ("reference shape", lambda problem: from_problem(problem, np.ones((12, 9)))),
    ("energy norm reference 0", lambda problem: from_problem(problem, np.ones((13, 10)))),
    ("energy norm reference nan", lambda problem: from_problem(problem, np.full((13, 10), np.nan))),
)
