"""The equations of a problem or a matrix, and the energy error of their solutions."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse

import sciml_bounds as sb
from sciml_bounds.comparison import from_matrix, from_problem
from sciml_bounds.errors import InputError


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


REFUSED = {
    "a square one is needed": lambda A, _: from_matrix(A[:5]),
    "has 132 rows, but the right-hand side has shape": lambda A, _: from_matrix(A, np.ones(3)),
    "the right-hand side is nan in row 0 (counted from 0), and NaN or infinite in 132 places": lambda A, _: from_matrix(
        A, np.full(132, np.nan)
    ),
    "the matrix is inf in row 5, column 7 (counted from 0), and NaN or infinite in 1 place": lambda A, _: from_matrix(
        A + scipy.sparse.coo_array(([np.inf], ([5], [7])), A.shape)
    ),
    "there is nothing to compare": lambda A, _: from_matrix(A, np.zeros(132)),
    "this is a batch of": lambda _, problem: from_problem(problem.replace(source=np.ones((3, 12, 9)))),
    "the reference has shape": lambda _, problem: from_problem(problem, np.ones((12, 9))),
    "the energy norm of the reference is 0;": lambda _, problem: from_problem(problem, np.ones((13, 10))),
    "the energy norm of the reference is nan;": lambda _, problem: from_problem(problem, np.full((13, 10), np.nan)),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_means_nothing_is_refused_in_one_sentence(matrix, problem, words):
    with pytest.raises(InputError, match=r"^[^\n]*$") as caught:
        REFUSED[words](matrix, problem)
    assert words in str(caught.value)
