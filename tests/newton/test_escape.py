"""Stationary points that are no minima are left downwards, and minima are not."""

from __future__ import annotations

import pytest
import scipy.sparse
import torch

from sciml_bounds.newton.constraints import as_constraints
from sciml_bounds.newton.escape import escape
from sciml_bounds.newton.functions import Function, Given
from sciml_bounds.newton.program import Program
from sciml_bounds.operators.linear_operator import csr_tensor


def double(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def place(fun, x, multipliers=(), constraints=()):
    objective = Function(Given(fun, None, None, "fun", scalar=True), x, tensors_first=True)
    program = Program(objective, as_constraints(constraints, x, tensors_first=True))
    point = program.at(x, double(*multipliers))
    return program, point, program.hessian(point)


def test_saddles_are_left_along_the_most_negative_curvature():
    program, point, H = place(lambda x: x[0] ** 2 - 3 * x[1] ** 2 - x[2] ** 2, double(0.0, 0.0, 0.0))
    away = escape(program, point, H, 1.0)
    assert away.fun < 0
    assert not away.x[[0, 2]].any()


@pytest.mark.parametrize(("height", "leaves"), [(1.0, True), (-1.0, False)])
def test_what_the_constraints_leave_free_decides(height, leaves):
    """x1 on the unit circle: with 1 + 2 l x1 = 0, the Hessian 2 l I is negative at the top, positive at the bottom."""
    circle = place(lambda x: x[1], double(0.0, height), (-0.5 * height,), lambda x: x @ x - 1)
    assert circle[1].kkt_residual == 0.0
    assert (escape(*circle, 1.0) is not None) == leaves


def test_negative_curvature_against_the_constraints_does_not_count():
    program, point, H = place(lambda x: x[0] ** 2 - x[1] ** 2, double(0.0, 0.0), (0.0,), lambda x: x[1])
    assert escape(program, point, H, 1.0) is None


def test_points_that_are_fixed_by_their_constraints_stay():
    program, point, H = place(lambda x: -(x @ x), double(0.0, 0.0), (0.0, 0.0), lambda x: x)
    assert escape(program, point, H, 1.0) is None


def test_degenerate_minima_stay():
    program, point, H = place(lambda x: x[0] ** 4 + x[1] ** 2 - 1e-9 * x[0] ** 2, double(0.0, 0.0))
    assert escape(program, point, H, 1.0) is None


def test_sparse_matrices_are_not_decomposed():
    program, point, H = place(lambda x: -(x @ x), double(0.0, 0.0))
    assert escape(program, point, csr_tensor(scipy.sparse.csr_array(H.numpy())), 1.0) is None
