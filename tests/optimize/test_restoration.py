"""The constraint violation alone: reduced where that is possible, and otherwise found stationary."""

from __future__ import annotations

import pytest
import torch

from sciml_bounds.optimize._constraints import as_constraints
from sciml_bounds.optimize._nonlinear_program import Point, Program
from sciml_bounds.optimize._restoration import restore
from sciml_bounds.optimize._user_functions import Function, Given
from sciml_bounds.reports import Reason


def place(constraints, *x):
    x = torch.tensor(x, dtype=torch.float64)
    objective = Function(Given(lambda x: x @ x, None, None, "fun", scalar=True), x, tensors_first=True)
    program = Program(objective, as_constraints(constraints, x, tensors_first=True))
    return program, program.at(x, torch.zeros(program.m, dtype=torch.float64))


@pytest.mark.parametrize(
    "constraints",
    [lambda x: x @ x - 1, lambda x: torch.stack([torch.exp(x[0]) - 2, x[1] ** 3 + x[0]]), lambda x: x**2 - 4],
    ids=["circle", "exponential", "squares"],
)
def test_violations_fall_to_a_tenth(constraints):
    program, point = place(constraints, 3.0, -2.0)
    found = restore(program, point, 1e-8)
    assert isinstance(found, Point)
    assert found.constraint_violation <= 0.1 * point.constraint_violation


def test_constraints_without_a_solution_are_stationary_somewhere():
    for constraints in (lambda x: x @ x + 1, lambda x: torch.stack([x[0] - 1, x[0] + 1])):
        program, point = place(constraints, 1e-2, 2e-2)
        assert restore(program, point, 1e-8) is Reason.INFEASIBLE


def test_constraints_that_hold_are_left():
    program, point = place(lambda x: x @ x - 1, 0.6, 0.8)
    assert restore(program, point, 1e-8) is None
