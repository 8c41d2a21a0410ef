"""Newton's method on the exact augmented Lagrangian: line search with Armijo's rule, and stopping criteria."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from sciml_bounds.optimize._merit import Merit
from sciml_bounds.optimize._nonlinear_program import Point, Program
from sciml_bounds.optimize._optimize_result import NewtonStep
from sciml_bounds.optimize._restoration import is_stationary
from sciml_bounds.optimize._round_off import is_negligible, is_round_off
from sciml_bounds.reports import Reason
from sciml_bounds.stopping import StoppingCriteria

__all__ = ["Direction", "Directions", "KktCriteria", "Outcome", "run"]

#: A problem is unbounded if the scaled objective is below this at a nearly feasible point.
UNBOUNDED_OBJECTIVE = -1e15

#: If the iteration stagnates or reaches its maximum, and the objective is below -`SUSPICIOUS_DECREASE` times its
#: initial size, points along the last step at these distances (in step lengths) are tested for an unbounded objective.
SUSPICIOUS_DECREASE, TEST_DISTANCES = 1e3, [10.0**power for power in range(21)]

#: The same test is made after `FIRST_UNBOUNDED_TEST` iterations, and whenever their number has doubled, if the
#: objective fell in the second half of the iterations by at least `MIN_DECREASE_RATIO` of its decrease in the first
#: half.
FIRST_UNBOUNDED_TEST, MIN_DECREASE_RATIO = 16, 0.5

#: Relative differences of merit values below this are round-off.
ROUND_OFF = 10 * torch.finfo(torch.float64).eps

#: Decreases below `UNRESOLVED_DECREASE` max(1, |merit value|) may be lost to round-off in values, but not in gradients.
#: A full step that predicts a smaller decrease, and increases the merit value by less, is accepted if it reduces the
#: KKT residual to at most `ACCEPTED_REDUCTION` of its value.
UNRESOLVED_DECREASE, ACCEPTED_REDUCTION = 1e-10, 0.5

#: Reasons for which the iteration continues with central differences, or tries to escape a saddle point.
EXHAUSTED = (Reason.CONVERGED, Reason.ROUND_OFF, Reason.STAGNATED)

#: The iteration stagnates after `MAX_IDLE_STEPS` consecutive steps that change values by round-off only and reduce the
#: KKT residual by less than the fraction `MIN_REDUCTION`.
MAX_IDLE_STEPS, MIN_REDUCTION = 10, 1e-3


@dataclass(frozen=True)
class Direction:
    """A descent direction z = (dx, dl) and how it was computed.

    Attributes
    ----------
    z : Tensor
        Direction in (x, l), shape (n + m,).
    merit : Merit
        The merit function.
    slope : float
        Its derivative along z, which is negative.
    shift, damping : float
        Multiples of the identity added to the Hessian, and subtracted in the lower right block of the KKT matrix.
    inner_steps : int
        Number of steps of the inner solver.
    inner_residual : float
        ||A z - b|| / ||b|| of the inner solver.
    capped : bool
        Whether the inner solver stopped at its maximum number of steps.
    correction : callable or None
        Second-order correction: a function of the constraint values c after a full step that returns a change of x.
    """

    z: Tensor
    merit: Merit
    slope: float
    shift: float
    damping: float
    inner_steps: int
    inner_residual: float
    capped: bool
    correction: Callable[[Tensor], Tensor] | None = None


class Directions(Protocol):
    """Interface of the strategies that compute directions; they may keep penalties from one point to the next."""

    armijo: float
    shortest: float

    def at(self, point: Point, last_length: float) -> Direction | Point | Reason:
        """Return a direction, another point to continue from, or the reason to stop.

        `last_length` is the length of the previous step, 1 at first.
        """
        ...

    def away_from(self, point: Point) -> Point | Reason | None:
        """Return a point to continue from if `point` is a saddle point, a reason to stop, or None if it is not one."""
        ...

    def after_failure(self, point: Point, failure: Reason) -> Direction | Point | Reason:
        """Return another direction after a failed line search, another point to continue from, or a reason to stop."""
        ...


@dataclass(frozen=True)
class KktCriteria(StoppingCriteria):
    """Stopping criteria of the KKT residual: at most `atol`, at most `maxiter` iterations, and a callback with x.

    The residual is measured in the user's units; a default tolerance (`given` is False) also applies in the program's
    scaled units.
    """

    given: bool = True

    def largest(self, of_user: float, of_program: float) -> float:
        """Return the residual to compare with the tolerance, from its values in user units and program units."""
        return of_user if self.given else max(of_user, of_program)


@dataclass(frozen=True)
class Outcome:
    """The result of the loop: last point, reason, history, and the error of grad_x L (n,) due to differences."""

    point: Point
    reason: Reason
    history: tuple[NewtonStep, ...]
    error: Tensor | float = 0.0


def run(program: Program, directions: Directions, point: Point, stop: KktCriteria) -> Outcome:
    """Iterate until a stopping criterion is met, or no direction makes progress.

    When forward differences make no more progress, the iteration continues with central differences; the final residual
    includes their error.
    """
    history: list[NewtonStep] = []
    outcome = _iterate(program, directions, point, stop, history)
    last = outcome.point
    if outcome.reason in EXHAUSTED and program.use_central_differences():
        outcome = _iterate(program, directions, program.at(last.x, last.multipliers), stop, history)
    if program.has_jacobians or outcome.reason not in EXHAUSTED:
        return outcome
    return _with_error(program, outcome, stop)


def _with_error(program: Program, outcome: Outcome, stop: KktCriteria) -> Outcome:
    """Return the outcome with a reason that takes the error of differences into account."""
    point, reason = outcome.point, outcome.reason
    error = program.difference_error(point)
    in_program = float(torch.cat([point.lagrangian_gradient.abs() + error, point.constraints]).norm())
    if reason is not Reason.STAGNATED:
        reached = stop.largest(program.unscaled(point, error).kkt_residual, in_program) <= stop.atol
        negligible = is_negligible(program, point, error)
        reason = Reason.CONVERGED if reached else Reason.ROUND_OFF if negligible else Reason.STAGNATED
    return replace(outcome, reason=reason, error=error)


def _iterate(
    program: Program, directions: Directions, point: Point, stop: KktCriteria, history: list[NewtonStep]
) -> Outcome:
    """Iterate with the current derivatives of the program, and append to the history."""
    first = before = point
    best, idle, stalled, size, next_test = point.kkt_residual, 0, 0, 0.0, FIRST_UNBOUNDED_TEST
    first_fun = program.unscaled(first).fun
    while not isinstance(moved := _next(program, directions, point, stop, history, (idle, stalled)), Reason):
        before, (point, step) = point, moved
        history.append(step)
        if not program.has_jacobians:  # differences have the round-off of the largest values
            size = max(size, _size(before))
        better = point.kkt_residual < (1 - MIN_REDUCTION) * best
        best = point.kkt_residual if better else best
        idle = idle + 1 if not better and _equal_to_round_off(before, point, size) else 0
        stalled = 0 if better else stalled + 1
        if stop.callback is not None and stop.callback(point.x):
            return Outcome(point, Reason.STOPPED, tuple(history))
        if len(history) == next_test:
            if _keeps_decreasing(history, first_fun) and _is_unbounded_along(program, before, point):
                return Outcome(point, Reason.UNBOUNDED, tuple(history))
            next_test *= 2
    return Outcome(point, _unless_unbounded(moved, program, (first, before, point)), tuple(history))


def _next(
    program: Program,
    directions: Directions,
    point: Point,
    stop: KktCriteria,
    history: list[NewtonStep],
    fruitless: tuple[int, int],
) -> tuple[Point, NewtonStep] | Reason:
    """Return the next point and its record, or the reason to stop.

    `fruitless` has the numbers of last steps that changed values by round-off only, and that did not reduce the
    residual.
    """
    reason = _stopping_reason(program, point, stop, len(history))
    if reason is None:
        moved = _step_if_useful(program, directions, point, history, fruitless)
        if not isinstance(moved, Reason):
            return moved
        reason = moved
    if reason in (Reason.STAGNATED, Reason.MAXITER) and is_round_off(program, point):
        reason = Reason.ROUND_OFF
    if reason not in EXHAUSTED:
        return reason
    away = directions.away_from(point)  # close to a saddle point, steps may be too short to leave it
    if isinstance(away, Point) and not stop.maxiter_reached(len(history)):
        return away, _without_direction(program, away)
    if reason is Reason.STAGNATED:
        return _stagnation_reason(program, point, history[-1], stop) if history else reason
    return Reason.MAXITER if isinstance(away, Point) else away or reason


def _step_if_useful(
    program: Program, directions: Directions, point: Point, history: list[NewtonStep], fruitless: tuple[int, int]
) -> tuple[Point, NewtonStep] | Reason:
    """Take a step, unless the last steps made no progress."""
    idle, stalled = fruitless
    many = stalled > 0 and stalled % MAX_IDLE_STEPS == 0
    if idle >= MAX_IDLE_STEPS or (many and is_round_off(program, point)):
        return Reason.STAGNATED
    return _advance(program, directions, point, history[-1].step_length if history else 1.0)


def _stopping_reason(program: Program, point: Point, stop: KktCriteria, iterations: int) -> Reason | None:
    if stop.largest(program.unscaled(point).kkt_residual, point.kkt_residual) <= stop.atol:
        return Reason.CONVERGED
    if _is_unbounded(point.fun, point.constraint_violation, point.x):
        return Reason.UNBOUNDED
    return Reason.MAXITER if stop.maxiter_reached(iterations) else None


def _is_unbounded(fun: float, violation: float, x: Tensor) -> bool:
    """Whether the objective at a nearly feasible point is low enough to call the problem unbounded."""
    return fun < UNBOUNDED_OBJECTIVE and violation <= 1e-8 * max(1.0, float(x.norm()))


def _keeps_decreasing(history: list[NewtonStep], first: float) -> bool:
    """Whether the decrease of the objective in the second half of the iterations is not much smaller than before."""
    middle, last = history[len(history) // 2 - 1].fun, history[-1].fun
    return middle - last >= MIN_DECREASE_RATIO * max(first - middle, 0.0) and last < middle


def _is_unbounded_along(program: Program, before: Point, point: Point) -> bool:
    """Whether the objective decreases along the last step, at all test distances, until it counts as unbounded."""
    last = math.inf
    try:
        for distance in TEST_DISTANCES:
            x = point.x + distance * (point.x - before.x)
            fun, c = program.values(x)
            if not fun < last:
                return False
            if _is_unbounded(fun, float(c.norm()), x):
                return True
            last = fun
    except (ArithmeticError, ValueError):  # raised by the user's functions far away
        pass
    return False


def _unless_unbounded(reason: Reason, program: Program, points: tuple[Point, Point, Point]) -> Reason:
    """Return `UNBOUNDED` if the objective is unbounded along the last step, else `reason`.

    `points` are the first point and the last two.
    """
    first, before, point = points
    fallen = point.fun < -SUSPICIOUS_DECREASE * (1 + abs(first.fun))
    if reason not in (Reason.MAXITER, Reason.STAGNATED, Reason.NOT_FINITE) or not fallen:
        return reason
    return Reason.UNBOUNDED if _is_unbounded_along(program, before, point) else reason


def _stagnation_reason(program: Program, point: Point, step: NewtonStep, stop: KktCriteria) -> Reason:
    """Return why no step makes progress."""
    if step.inner_capped:
        return Reason.CAPPED
    violation = stop.largest(program.unscaled(point).constraint_violation, point.constraint_violation)
    if violation > stop.atol and is_stationary(point):
        return Reason.INFEASIBLE
    return Reason.NOT_FINITE if step.not_finite else Reason.STAGNATED


def _size(point: Point) -> float:
    return abs(point.fun) + point.constraint_violation


def _equal_to_round_off(first: Point, second: Point, size: float) -> bool:
    """Whether objective and constraint violation of two points differ by round-off only."""
    change = abs(first.fun - second.fun) + abs(first.constraint_violation - second.constraint_violation)
    return change <= ROUND_OFF * max(_size(first), size)


def _advance(
    program: Program, directions: Directions, point: Point, last_length: float
) -> tuple[Point, NewtonStep] | Reason:
    """Take one step, trying further directions if a line search fails."""
    found: Direction | Point | Reason = directions.at(point, last_length)
    while isinstance(found, Direction):
        moved = _search(program, point, found, directions)
        if not isinstance(moved, Reason):
            return moved
        found = directions.after_failure(point, moved)
    return (found, _without_direction(program, found)) if isinstance(found, Point) else found


def _search(
    program: Program, point: Point, direction: Direction, directions: Directions
) -> tuple[Point, NewtonStep] | Reason:
    """Backtracking line search on the merit function, with the same step length for x and multipliers."""
    n, here = len(point.x), direction.merit.value(point)
    slack = ROUND_OFF * abs(here)
    length, trials, not_finite = 1.0, 0, 0
    while length >= directions.shortest:
        x, multipliers = point.x + length * direction.z[:n], point.multipliers + length * direction.z[n:]
        if torch.equal(x, point.x) and torch.equal(multipliers, point.multipliers):
            break
        trials += 1
        enough = here + length * directions.armijo * direction.slope + slack
        found, c, finite = _trial_point(program, direction.merit, x, multipliers, enough)
        not_finite += not finite
        if found is None and length == 1 and direction.correction and _needs_correction(point, c):
            trials += 1
            found, _, finite = _trial_point(program, direction.merit, x + direction.correction(c), multipliers, enough)
            not_finite += not finite
        if found is None and length == 1:
            found = _accepted_by_residual(program, point, direction, x, multipliers, here)
        if found is not None:
            return found, _record(program, found, direction, length, (trials, not_finite))
        length /= 2
    return Reason.NOT_FINITE if not_finite else Reason.STAGNATED


def _trial_point(
    program: Program, merit: Merit, x: Tensor, multipliers: Tensor, enough: float
) -> tuple[Point | None, Tensor, bool]:
    """Return the trial point if its merit value is at most `enough`, else None; its constraints; if all is finite."""
    fun, c = program.values(x)
    if enough < merit.least(fun, c, multipliers) < math.inf:  # derivatives are not needed
        return None, c, True
    trial = program.at(x, multipliers)
    return trial if trial.finite and merit.value(trial) <= enough else None, c, trial.finite


def _accepted_by_residual(
    program: Program, point: Point, direction: Direction, x: Tensor, multipliers: Tensor, here: float
) -> Point | None:
    """Return the point after a full step if merit values cannot resolve the decrease, but the KKT residual falls."""
    unresolved = UNRESOLVED_DECREASE * max(1.0, abs(here))
    if -direction.slope > unresolved:
        return None
    trial = program.at(x, multipliers)
    better = trial.finite and trial.kkt_residual <= ACCEPTED_REDUCTION * point.kkt_residual
    return trial if better and direction.merit.value(trial) <= here + unresolved else None


def _needs_correction(point: Point, c: Tensor) -> bool:
    """Whether a step increased the constraint violation, which a second-order correction can repair (Maratos, 1978)."""
    return point.constraint_violation < float(c.norm()) < math.inf


def _record(program: Program, point: Point, direction: Direction, length: float, trials: tuple[int, int]) -> NewtonStep:
    measures = program.unscaled(point)
    return NewtonStep(
        measures.fun, measures.kkt_residual, measures.constraint_violation, length, *trials, direction.shift,
        direction.damping, direction.merit.eta1, direction.merit.eta2, direction.inner_steps, direction.inner_residual,
        direction.capped,
    )  # fmt: skip


def _without_direction(program: Program, point: Point) -> NewtonStep:
    """Record a step that only reduced the constraint violation, or escaped a saddle point."""
    measures, nan = program.unscaled(point), math.nan
    return NewtonStep(
        measures.fun, measures.kkt_residual, measures.constraint_violation, nan, 0, 0, nan, nan, nan, nan, 0, nan, False
    )  # fmt: skip
