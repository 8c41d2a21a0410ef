"""The loop of Newton's method on the exact augmented Lagrangian: directions, Armijo's rule, ends."""

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

__all__ = ["Direction", "Directions", "Outcome", "Stop", "run"]

#: Objectives below this in the program's units, at points that are nearly feasible, are taken for unbounded.
UNBOUNDED = -1e15

#: Where no step leads further, or there were too many, and the objective is this many times as low as it was high at
#: first, points along the last step are looked at, so many times as far away.
FALLEN, FAR = 1e3, [10.0**power for power in range(21)]

#: After 16 iterations, and each time their number has doubled, points far along the last step are evaluated, if the
#: objective fell in the second half of the iterations by at least half of what it fell in the first.
FIRST_LOOK, AS_FAST = 16, 0.5

#: A difference of merit values below this part of their size is round-off.
ROUND_OFF = 10 * torch.finfo(torch.float64).eps

#: Decreases below this part of max(1, merit value) may be lost in values, while gradients still tell them: a whole step
#: that promises less, and raises the merit value by less, is taken if it leaves this part of the KKT residual at most.
UNRESOLVED, HALVED = 1e-10, 0.5

#: Ends after which more accurate derivatives may help.
EXHAUSTED = (Reason.CONVERGED, Reason.ROUND_OFF, Reason.STAGNATED)

#: So many steps in a row that gain nothing but round-off, and less than that part of the KKT residual, are an end.
IDLE, GAIN = 10, 1e-3


@dataclass(frozen=True)
class Direction:
    """A direction of descent z = (dx, dl), and how it came about.

    Attributes
    ----------
    z
        Shape (n + m,).
    merit, slope
        The merit function, and its derivative along z, which is negative.
    shift, damping
        What was added to the Hessian, and what was subtracted in the corner of the KKT matrix.
    inner_steps, inner_residual, capped
        Of the inner solver: its steps, ||A z - b|| / ||b||, and whether it ended at its cap.
    correction
        What is added to x where the whole step has left constraint values c: a function of c, or None.
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
    """Where directions come from; it may carry penalties from one point to the next."""

    armijo: float
    shortest: float

    def at(self, point: Point, last_length: float) -> Direction | Point | Reason:
        """Find a direction, another point to go on from, or the reason why there is none.

        `last_length` is that of the step before, 1 at first.
        """
        ...

    def away_from(self, point: Point) -> Point | Reason | None:
        """Find a point to go on from where this one is stationary, but is known to be no minimum, or give up."""
        ...

    def after_failure(self, point: Point, failure: Reason) -> Direction | Point | Reason:
        """Find another direction where the last one led nowhere, or another point to go on from, or give up."""
        ...


@dataclass(frozen=True)
class Stop:
    """When to stop: KKT residual, number of iterations, and a callback that is given x.

    The residual is that in the user's units, and, for default tolerances, which are not `given`, that in the program's
    units too.
    """

    tolerance: float
    maxiter: int
    callback: Callable[[Tensor], bool | None]
    given: bool = True

    def largest(self, of_user: float, of_program: float) -> float:
        """Return which of two numbers, in the units of the user and of the program, is to be small."""
        return of_user if self.given else max(of_user, of_program)


@dataclass(frozen=True)
class Outcome:
    """Where the loop ended, why, how it came there, and what differences add to grad_x L (n,) as an error."""

    point: Point
    reason: Reason
    history: tuple[NewtonStep, ...]
    error: Tensor | float = 0.0


def run(program: Program, directions: Directions, point: Point, stop: Stop) -> Outcome:
    """Iterate until one of the ends of `Stop` is reached, or no direction leads further.

    Where forward differences lead no further, central ones go on, and the error of these counts at the end.
    """
    history: list[NewtonStep] = []
    outcome = _iterate(program, directions, point, stop, history)
    last = outcome.point
    if outcome.reason in EXHAUSTED and program.use_central_differences():
        outcome = _iterate(program, directions, program.at(last.x, last.multipliers), stop, history)
    if program.has_jacobians or outcome.reason not in EXHAUSTED:
        return outcome
    return _with_error(program, outcome, stop)


def _with_error(program: Program, outcome: Outcome, stop: Stop) -> Outcome:
    """Judge the last point with the error of differences."""
    point, reason = outcome.point, outcome.reason
    error = program.difference_error(point)
    in_program = float(torch.cat([point.lagrangian_gradient.abs() + error, point.constraints]).norm())
    if reason is not Reason.STAGNATED:
        reached = stop.largest(program.unscaled(point, error).kkt_residual, in_program) <= stop.tolerance
        negligible = is_negligible(program, point, error)
        reason = Reason.CONVERGED if reached else Reason.ROUND_OFF if negligible else Reason.STAGNATED
    return replace(outcome, reason=reason, error=error)


def _iterate(program: Program, directions: Directions, point: Point, stop: Stop, history: list[NewtonStep]) -> Outcome:
    """Iterate with the derivatives that the program has, and go on with a history."""
    first = before = point
    best, idle, stalled, size, look = point.kkt_residual, 0, 0, 0.0, FIRST_LOOK
    first_fun = program.unscaled(first).fun
    while not isinstance(moved := _next(program, directions, point, stop, history, (idle, stalled)), Reason):
        before, (point, step) = point, moved
        history.append(step)
        if not program.has_jacobians:  # differences carry the round-off of the largest values
            size = max(size, _size(before))
        better = point.kkt_residual < (1 - GAIN) * best
        best = point.kkt_residual if better else best
        idle = idle + 1 if not better and _alike(before, point, size) else 0
        stalled = 0 if better else stalled + 1
        if stop.callback(point.x):
            return Outcome(point, Reason.STOPPED, tuple(history))
        if len(history) == look:
            if _falls_as_fast(history, first_fun) and _is_unbounded_along(program, before, point):
                return Outcome(point, Reason.UNBOUNDED, tuple(history))
            look *= 2
    return Outcome(point, _unless_unbounded(moved, program, (first, before, point)), tuple(history))


def _next(
    program: Program,
    directions: Directions,
    point: Point,
    stop: Stop,
    history: list[NewtonStep],
    fruitless: tuple[int, int],
) -> tuple[Point, NewtonStep] | Reason:
    """Go to the next point, or tell why this is the end.

    `fruitless` are the numbers of last steps that gained nothing but round-off, and that did not lower the residual.
    """
    reason = _end(program, point, stop, len(history))
    if reason is None:
        moved = _moved(program, directions, point, history, fruitless)
        if not isinstance(moved, Reason):
            return moved
        reason = moved
    if reason in (Reason.STAGNATED, Reason.MAXITER) and is_round_off(program, point):
        reason = Reason.ROUND_OFF
    if reason not in EXHAUSTED:
        return reason
    away = directions.away_from(point)  # close to a saddle, steps may be too short to tell
    if isinstance(away, Point) and len(history) < stop.maxiter:
        return away, _without_direction(program, away)
    if reason is Reason.STAGNATED:
        return _stuck(program, point, history[-1], stop) if history else reason
    return Reason.MAXITER if isinstance(away, Point) else away or reason


def _moved(
    program: Program, directions: Directions, point: Point, history: list[NewtonStep], fruitless: tuple[int, int]
) -> tuple[Point, NewtonStep] | Reason:
    """Take a step where the last ones were of use."""
    idle, stalled = fruitless
    if idle >= IDLE or (stalled > 0 and stalled % IDLE == 0 and is_round_off(program, point)):
        return Reason.STAGNATED
    return _advance(program, directions, point, history[-1].step_length if history else 1.0)


def _end(program: Program, point: Point, stop: Stop, iterations: int) -> Reason | None:
    told = program.unscaled(point)
    if stop.largest(told.kkt_residual, point.kkt_residual) <= stop.tolerance:
        return Reason.CONVERGED
    if _is_unbounded(point.fun, point.constraint_violation, point.x):
        return Reason.UNBOUNDED
    return Reason.MAXITER if iterations >= stop.maxiter else None


def _is_unbounded(fun: float, violation: float, x: Tensor) -> bool:
    """Whether the objective is taken for unbounded because of one point."""
    return fun < UNBOUNDED and violation <= 1e-8 * max(1.0, float(x.norm()))


def _falls_as_fast(history: list[NewtonStep], first: float) -> bool:
    """Whether the objective has fallen in the second half of the iterations about as much as in the first, or more."""
    middle, last = history[len(history) // 2 - 1].fun, history[-1].fun
    return middle - last >= AS_FAST * max(first - middle, 0.0) and last < middle


def _is_unbounded_along(program: Program, before: Point, point: Point) -> bool:
    """Whether the objective falls from one of the points along the last step to the next, until it is unbounded."""
    last = math.inf
    try:
        for far in FAR:
            x = point.x + far * (point.x - before.x)
            fun, c = program.values(x)
            if not fun < last:
                return False
            if _is_unbounded(fun, float(c.norm()), x):
                return True
            last = fun
    except (ArithmeticError, ValueError):  # of the user's functions, so far out
        pass
    return False


def _unless_unbounded(reason: Reason, program: Program, points: tuple[Point, Point, Point]) -> Reason:
    """Say so where the objective falls without end along the last step, which was too short to show it.

    The points are the first one and the last two.
    """
    first, before, point = points
    fallen = point.fun < -FALLEN * (1 + abs(first.fun))
    if reason not in (Reason.MAXITER, Reason.STAGNATED, Reason.NOT_FINITE) or not fallen:
        return reason
    return Reason.UNBOUNDED if _is_unbounded_along(program, before, point) else reason


def _stuck(program: Program, point: Point, step: NewtonStep, stop: Stop) -> Reason:
    """Tell why no step leads further."""
    if step.inner_capped:
        return Reason.CAPPED
    violation = stop.largest(program.unscaled(point).constraint_violation, point.constraint_violation)
    if violation > stop.tolerance and is_stationary(point):
        return Reason.INFEASIBLE
    return Reason.NOT_FINITE if step.not_finite else Reason.STAGNATED


def _size(point: Point) -> float:
    return abs(point.fun) + point.constraint_violation


def _alike(first: Point, second: Point, size: float) -> bool:
    """Whether two points differ by no more than round-off in what the merit function is made of."""
    change = abs(first.fun - second.fun) + abs(first.constraint_violation - second.constraint_violation)
    return change <= ROUND_OFF * max(_size(first), size)


def _advance(
    program: Program, directions: Directions, point: Point, last_length: float
) -> tuple[Point, NewtonStep] | Reason:
    """Take one step, with as many directions as it takes."""
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
    """Halve the step until the merit function has fallen enough; one length for x and multipliers."""
    n, here = len(point.x), direction.merit.value(point)
    slack = ROUND_OFF * abs(here)
    length, trials, not_finite = 1.0, 0, 0
    while length >= directions.shortest:
        x, multipliers = point.x + length * direction.z[:n], point.multipliers + length * direction.z[n:]
        if torch.equal(x, point.x) and torch.equal(multipliers, point.multipliers):
            break
        trials += 1
        enough = here + length * directions.armijo * direction.slope + slack
        found, c, finite = _tried(program, direction.merit, x, multipliers, enough)
        not_finite += not finite
        if found is None and length == 1 and direction.correction and _overshot(point, c):
            trials += 1
            found, _, finite = _tried(program, direction.merit, x + direction.correction(c), multipliers, enough)
            not_finite += not finite
        if found is None and length == 1:
            found = _shorter_residual(program, point, direction, x, multipliers, here)
        if found is not None:
            return found, _record(program, found, direction, length, (trials, not_finite))
        length /= 2
    return Reason.NOT_FINITE if not_finite else Reason.STAGNATED


def _tried(
    program: Program, merit: Merit, x: Tensor, multipliers: Tensor, enough: float
) -> tuple[Point | None, Tensor, bool]:
    """Return the point where its merit value is low enough, the constraints there, and whether all is finite."""
    fun, c = program.values(x)
    if enough < merit.least(fun, c, multipliers) < math.inf:  # derivatives are not needed
        return None, c, True
    trial = program.at(x, multipliers)
    return trial if trial.finite and merit.value(trial) <= enough else None, c, trial.finite


def _shorter_residual(
    program: Program, point: Point, direction: Direction, x: Tensor, multipliers: Tensor, here: float
) -> Point | None:
    """Return the point after a whole step if values cannot tell whether it is better, and the residual does."""
    unresolved = UNRESOLVED * max(1.0, abs(here))
    if -direction.slope > unresolved:
        return None
    trial = program.at(x, multipliers)
    better = trial.finite and trial.kkt_residual <= HALVED * point.kkt_residual
    return trial if better and direction.merit.value(trial) <= here + unresolved else None


def _overshot(point: Point, c: Tensor) -> bool:
    """Whether a step has left constraints that are violated more than before, which can be mended (Maratos, 1978)."""
    return point.constraint_violation < float(c.norm()) < math.inf


def _record(program: Program, point: Point, direction: Direction, length: float, trials: tuple[int, int]) -> NewtonStep:
    told = program.unscaled(point)
    return NewtonStep(
        told.fun, told.kkt_residual, told.constraint_violation, length, *trials, direction.shift, direction.damping,
        direction.merit.eta1, direction.merit.eta2, direction.inner_steps, direction.inner_residual, direction.capped,
    )  # fmt: skip


def _without_direction(program: Program, point: Point) -> NewtonStep:
    """Record a step that reduced the constraint violation alone, or left a stationary point that is no minimum."""
    told, nan = program.unscaled(point), math.nan
    return NewtonStep(
        told.fun, told.kkt_residual, told.constraint_violation, nan, 0, 0, nan, nan, nan, nan, 0, nan, False
    )  # fmt: skip
