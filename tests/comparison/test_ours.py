"""The methods of this package give what `solve` gives, and say which of them take a matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from refusals import refused

import sciml_bounds as sb
from sciml_bounds.comparison import from_problem
from sciml_bounds.comparison.ours import ours


@pytest.mark.parametrize("name", ["auto", "multigrid", "cg", "algebraic", "direct"])
def test_they_give_what_solve_gives(problem, name):
    x, iterations = ours(name, from_problem(problem))(1e-9, 500, None)
    solution = sb.solve(problem, method=name, rtol=1e-9)
    # both residuals are that small, the condition number is 152, and PyAMG's hierarchies differ from run to run
    error = torch.linalg.norm(torch.from_numpy(x) - solution.values.reshape(-1))
    assert error <= 2 * 152e-9 * torch.linalg.norm(solution.values)
    assert abs(iterations - int(solution.iterations)) <= (name == "algebraic")


@pytest.mark.parametrize("name", ["cg", "algebraic", "direct"])
def test_a_matrix_is_solved_to_what_is_asked(equations, name):
    x, _ = ours(name, equations)(1e-9, 500, None)
    assert np.linalg.norm(equations.rhs - equations.matrix @ x) <= 1e-9 * np.linalg.norm(equations.rhs)


@pytest.mark.parametrize("name", ["auto", "transform", "multigrid"])
def test_a_matrix_has_no_grid(equations, name):
    refused(f"{name} grid", ours, name, equations)
