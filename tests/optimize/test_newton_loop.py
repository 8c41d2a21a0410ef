"""The loop: Armijo's rule, steps that are halved, and its ends, with directions that are made up."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import torch
from nonlinear_programs import double, program_at

import sciml_bounds as sb
from sciml_bounds.optimize._merit import Merit
from sciml_bounds.optimize._newton_loop import MAX_IDLE_STEPS, Direction, KktCriteria, run
from sciml_bounds.reports import Reason

MERIT = Merit(1.0, 0.0)


class Fixed:
    """The same direction everywhere; another one after a failure, where there is one."""

    armijo, shortest = 0.1, 1e-3

    def __init__(self, direction, slope, second=None):
        self.direction, self.slope, self.second = direction, slope, second

    def _make(self, direction):
        return Direction(double(*direction), MERIT, self.slope, 0.0, 0.0, 0, 0.0, False)

    def at(self, point, last_length):
        return self._make(self.direction)

    def away_from(self, point):
        return None

    def after_failure(self, point, failure):
        return failure if self.second is None else self._make(self.second)


def loop(fun, directions, x=(1.0,), tolerance=1e-8, maxiter=1, callback=lambda x: False):
    program, point = program_at(fun, double(*x))
    return run(program, directions, point, KktCriteria(0.0, tolerance, maxiter, callback))


@pytest.mark.parametrize(("step", "trials"), [(-1.0, 1), (-1.8, 1), (-1.9, 2), (-4.0, 3), (-7.0, 3), (-7.9, 4)])
def test_steps_are_halved_until_the_decrease_is_enough(step, trials):
    """On x^2 from 1 the step t is accepted if (1 + t)^2 <= 1 + 0.1 * 2 t, that is for t >= -1.8."""
    outcome = loop(lambda x: x @ x, Fixed((step,), 2 * step))
    assert outcome.history[0].trials == trials
    assert outcome.history[0].step_length == 0.5 ** (trials - 1)
    assert float(outcome.point.x[0]) == 1 + step * 0.5 ** (trials - 1)


def test_directions_that_lead_nowhere_are_replaced_or_are_the_end():
    uphill = Fixed((1.0,), -2.0)
    assert loop(lambda x: x @ x, uphill).reason is Reason.STAGNATED
    outcome = loop(lambda x: x @ x, Fixed((1.0,), -2.0, second=(-0.5,)))
    assert outcome.reason is Reason.MAXITER
    assert float(outcome.point.x[0]) == 0.5


def test_values_that_are_not_finite_halve_the_step_and_are_the_reason_if_all_are():
    outcome = loop(lambda x: torch.where(x > 0.2, x, torch.nan).sum(), Fixed((-1.0,), -1.0))
    assert (outcome.history[0].trials, outcome.history[0].not_finite) == (2, 1)
    assert loop(lambda x: torch.where(x >= 1, x, torch.nan).sum(), Fixed((-1.0,), -1.0)).reason is Reason.NOT_FINITE


def test_steps_that_gain_round_off_only_are_an_end():
    """On a constant but for a slope of 1e-20, no step of 1e-3 changes a value."""
    outcome = loop(lambda x: 1 + 1e-20 * x.sum(), Fixed((-1e-3,), -1e-23), tolerance=0.0, maxiter=100)
    assert outcome.reason is Reason.STAGNATED
    assert len(outcome.history) == MAX_IDLE_STEPS


def test_low_objectives_are_unbounded():
    outcome = loop(lambda x: x.sum(), Fixed((-1e14,), -1e14), maxiter=100)
    assert outcome.reason is Reason.UNBOUNDED
    assert len(outcome.history) == 11


def test_objectives_that_go_on_falling_along_the_last_step_are_unbounded():
    """At maxiter the objective is -9999; far along the step it is -1e15, or it rises again, or nothing is known."""
    assert loop(lambda x: x.sum(), Fixed((-1e4,), -1e4), maxiter=1).reason is Reason.UNBOUNDED
    assert loop(lambda x: x.sum() + (x / 1e6) ** 4, Fixed((-1e4,), -1e4), maxiter=1).reason is Reason.MAXITER
    assert loop(lambda x: x.sum(), Fixed((-1e3,), -1e3), maxiter=1).reason is Reason.MAXITER  # it has hardly fallen

    def near(x):
        if x < -1e5:
            raise ZeroDivisionError
        return x.sum()

    assert loop(near, Fixed((-1e4,), -1e4), maxiter=1).reason is Reason.MAXITER


def test_tolerance_maxiter_and_callback_end_it_in_this_order():
    assert loop(lambda x: x @ x, Fixed((-1.0,), -2.0), x=(0.0,), maxiter=0).reason is Reason.CONVERGED
    assert loop(lambda x: x @ x, Fixed((-1.0,), -2.0), maxiter=0).reason is Reason.MAXITER
    assert loop(lambda x: x @ x, Fixed((-0.5,), -1.0), maxiter=9, callback=lambda x: True).reason is Reason.STOPPED


@pytest.mark.parametrize("scale", [1e2, 1e4, 1e6, 1e8])
@pytest.mark.parametrize("n", [5, 20])
def test_reported_residuals_contain_the_error_of_differences(n, scale):
    """Central differences leave h^2 / 6 times third derivatives of 2400 times the scale, h = 6e-6: 1.5e-8 of it."""
    result = sb.minimize(lambda x: scale * scipy.optimize.rosen(x), np.zeros(n))
    assert result.success
    true = float(np.linalg.norm(scale * scipy.optimize.rosen_der(result.x)))
    assert true <= 1.01 * max(result.kkt_residual, result.tolerance)
    assert result.kkt_residual <= result.tolerance + 1e-7 * scale
    assert result.nit < 200
