"""A problem at one point: first-order conditions, stacked constraints, weighted Hessians, and counts."""

from __future__ import annotations

import math

import torch

from sciml_bounds.optimize._constraints import as_constraints
from sciml_bounds.optimize._nonlinear_program import Program
from sciml_bounds.optimize._user_functions import Function, Given

X = torch.tensor([1.0, 2.0], dtype=torch.float64)
MULTIPLIERS = torch.tensor([3.0, -1.0], dtype=torch.float64)


def program():
    objective = Function(Given(lambda x: x[0] ** 2 * x[1], None, None, "fun", scalar=True), X, tensors_first=True)
    return Program(objective, as_constraints([lambda x: x.prod(), lambda x: x[0] ** 3 - 2], X, tensors_first=True))


def test_the_residual_is_that_of_the_first_order_conditions():
    """grad f = (4, 1), G = ((2, 1), (3, 0)), c = (2, -1)."""
    point = program().at(X, MULTIPLIERS)
    expected = torch.tensor([4.0 + 6.0 - 3.0, 1.0 + 3.0, 2.0, -1.0], dtype=torch.float64)
    assert torch.equal(point.residual, expected)
    assert point.kkt_residual == math.sqrt(49 + 16 + 4 + 1)
    assert point.constraint_violation == math.sqrt(5)
    assert (point.fun, point.finite) == (2.0, True)


def test_the_hessian_is_that_of_the_lagrangian():
    """((2 x1, 2 x0), (2 x0, 0)) + 3 ((0, 1), (1, 0)) - ((6 x0, 0), (0, 0))."""
    problem = program()
    H = problem.hessian(problem.at(X, MULTIPLIERS))
    assert torch.equal(H, torch.tensor([[4.0 - 6.0, 5.0], [5.0, 0.0]], dtype=torch.float64))


def test_what_is_evaluated_is_counted():
    problem = program()
    point = problem.at(X, MULTIPLIERS)
    problem.hessian(point)
    problem.at(X + 1, MULTIPLIERS)
    assert (problem.nfev, problem.njev, problem.nhev) == (2, 2, 1)


def test_points_that_are_not_finite_have_no_derivatives():
    objective = Function(Given(lambda x: torch.log(x).sum(), None, None, "fun", scalar=True), X, tensors_first=True)
    problem = Program(objective, [])
    point = problem.at(-X, X[:0])
    assert not point.finite
    assert problem.njev == 0
