"""Residuals that round-off explains, and those that it does not."""

from __future__ import annotations

import pytest
import torch

from sciml_bounds.optimize._constraints import as_constraints
from sciml_bounds.optimize._nonlinear_program import Program
from sciml_bounds.optimize._round_off import is_round_off
from sciml_bounds.optimize._user_functions import Function, Given


def double(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def judge(fun, x, multipliers=(), constraints=()):
    objective = Function(Given(fun, None, None, "fun", scalar=True), x, tensors_first=True)
    program = Program(objective, as_constraints(constraints, x, tensors_first=True))
    return is_round_off(program, program.at(x, double(*multipliers)))


@pytest.mark.parametrize(("distance", "expected"), [(0.0, True), (1e-16, True), (1e-14, False), (1e-3, False)])
def test_the_last_digits_of_x_are_round_off_and_larger_distances_are_not(distance, expected):
    """The distance between floats near 0.1 is 1.4e-17; ten times eps 0.1 is allowed."""
    assert judge(lambda x: 5e3 * (x - 0.1).square().sum(), double(0.1 + distance, 0.1)) == expected


@pytest.mark.parametrize(("error", "expected"), [(1e-9, True), (1e-6, False)])
def test_multipliers_count_with_their_terms(error, expected):
    """Of g + l J with both terms 1e7, 1e-9 is the last digit."""
    line = (lambda x: 1e7 * x.sum(), double(1.0, 2.0), (-1e7 + error,), lambda x: x.sum() - 3)
    assert judge(*line) == expected


def test_kinks_are_not_round_off():
    """There the last digit changes the gradient by its own size."""
    assert not judge(lambda x: (x[0] - x[1]).abs() + 0.1 * x[1], double(1.0, 1.0 + 2**-52))
