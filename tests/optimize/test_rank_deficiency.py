"""Constraints whose Jacobian has lost its rank: the part of them that can be attained."""

from __future__ import annotations

import torch

from sciml_bounds.optimize._constraints import as_constraints
from sciml_bounds.optimize._nonlinear_program import Program
from sciml_bounds.optimize._rank_deficiency import attainable_residual
from sciml_bounds.optimize._user_functions import Function, Given


def place(constraints, *x):
    x = torch.tensor(x, dtype=torch.float64)
    objective = Function(Given(lambda x: x @ x, None, None, "fun", scalar=True), x, tensors_first=True)
    program = Program(objective, as_constraints(constraints, x, tensors_first=True))
    return program, program.at(x, torch.zeros(program.m, dtype=torch.float64))


def test_what_can_be_attained_is_the_projection_on_the_range():
    _, point = place(lambda x: torch.stack([x[0] + x[1], 2 * x[0] + 2 * x[1] - 1]), 1.0, 2.0)
    direction = torch.tensor([1.0, 2.0], dtype=torch.float64) / 5**0.5
    expected = direction * (direction @ point.constraints)
    torch.testing.assert_close(attainable_residual(point)[2:], expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(attainable_residual(point)[:2], point.lagrangian_gradient)


def test_all_of_independent_constraints_can_be_attained():
    _, point = place(lambda x: x**2 - 4, 3.0, -2.5)
    torch.testing.assert_close(attainable_residual(point), point.residual, rtol=1e-9, atol=0)
