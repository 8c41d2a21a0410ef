"""A program at one point: first-order conditions and counts, round-off, attainable residuals, and restoration."""

from __future__ import annotations

import math

import pytest
import torch
from nonlinear_programs import double, program_at, program_of

from sciml_bounds.optimize._nonlinear_program import Point
from sciml_bounds.optimize._rank_deficiency import attainable_residual
from sciml_bounds.optimize._restoration import restore
from sciml_bounds.optimize._round_off import is_round_off
from sciml_bounds.reports import Reason


def test_conditions_hessian_and_counts():
    """grad f = (4, 1), G = ((2, 1), (3, 0)), c = (2, -1).

    The Hessian is ((2 x1, 2 x0), (2 x0, 0)) + 3 ((0, 1), (1, 0)) - ((6 x0, 0), (0, 0)).
    """
    x = double(1.0, 2.0)
    program = program_of(lambda x: x[0] ** 2 * x[1], x, [lambda x: x.prod(), lambda x: x[0] ** 3 - 2])
    point = program.at(x, double(3.0, -1.0))
    assert point.residual.tolist() == [4.0 + 6.0 - 3.0, 1.0 + 3.0, 2.0, -1.0]
    assert point.kkt_residual == math.sqrt(49 + 16 + 4 + 1)
    assert point.constraint_violation == math.sqrt(5)
    assert (point.fun, point.finite) == (2.0, True)
    assert program.hessian(point).tolist() == [[4.0 - 6.0, 5.0], [5.0, 0.0]]
    program.at(x + 1, point.multipliers)
    assert (program.nfev, program.njev, program.nhev) == (2, 2, 1)


def test_points_that_are_not_finite_have_no_derivatives():
    program = program_of(lambda x: torch.log(x).sum(), double(1.0, 2.0))
    assert not program.at(double(-1.0, -2.0), double()).finite
    assert program.njev == 0


# --- round-off --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("distance", "expected"), [(0.0, True), (1e-16, True), (1e-14, False), (1e-3, False)])
def test_errors_in_the_last_digits_of_x_are_round_off(distance, expected):
    """The distance between floats near 0.1 is 1.4e-17; ten times eps 0.1 is allowed."""
    assert is_round_off(*program_at(lambda x: 5e3 * (x - 0.1).square().sum(), double(0.1 + distance, 0.1))) == expected


@pytest.mark.parametrize(("error", "expected"), [(1e-9, True), (1e-6, False)])
def test_round_off_of_the_multiplier_term_is_counted(error, expected):
    """Of g + l J with both terms 1e7, 1e-9 is the last digit."""
    place = program_at(lambda x: 1e7 * x.sum(), double(1.0, 2.0), lambda x: x.sum() - 3, double(-1e7 + error))
    assert is_round_off(*place) == expected


def test_a_kink_is_not_round_off():
    """There the last digit changes the gradient by its own size."""
    assert not is_round_off(*program_at(lambda x: (x[0] - x[1]).abs() + 0.1 * x[1], double(1.0, 1.0 + 2**-52)))


# --- constraints alone ------------------------------------------------------------------------------------------------


def of_constraints(constraints, *x):
    return program_at(lambda x: x @ x, double(*x), constraints)


def test_the_attainable_residual_is_its_projection_on_the_range_of_the_jacobian():
    _, point = of_constraints(lambda x: torch.stack([x[0] + x[1], 2 * x[0] + 2 * x[1] - 1]), 1.0, 2.0)
    direction = double(1.0, 2.0) / 5**0.5
    expected = torch.cat([point.lagrangian_gradient, direction * (direction @ point.constraints)])
    torch.testing.assert_close(attainable_residual(point), expected, rtol=1e-9, atol=1e-10)
    _, point = of_constraints(lambda x: x**2 - 4, 3.0, -2.5)  # independent constraints
    torch.testing.assert_close(attainable_residual(point), point.residual, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    "constraints",
    [lambda x: x @ x - 1, lambda x: torch.stack([torch.exp(x[0]) - 2, x[1] ** 3 + x[0]]), lambda x: x**2 - 4],
    ids=["circle", "exponential", "squares"],
)
def test_restoration_reduces_the_violation_to_a_tenth(constraints):
    program, point = of_constraints(constraints, 3.0, -2.0)
    found = restore(program, point, 1e-8)
    assert isinstance(found, Point)
    assert found.constraint_violation <= 0.1 * point.constraint_violation


def test_restoration_reports_infeasible_constraints_and_leaves_satisfied_ones():
    for constraints in (lambda x: x @ x + 1, lambda x: torch.stack([x[0] - 1, x[0] + 1])):
        assert restore(*of_constraints(constraints, 1e-2, 2e-2), 1e-8) is Reason.INFEASIBLE
    assert restore(*of_constraints(lambda x: x @ x - 1, 0.6, 0.8), 1e-8) is None
