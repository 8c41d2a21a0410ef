"""Feasibility restoration: reduce the constraint violation, ignoring the objective, by Levenberg-Marquardt steps."""

from __future__ import annotations

import torch

from sciml_bounds.optimize._inner_solvers import DirectSolve
from sciml_bounds.optimize._kkt import frobenius, identity, kkt_matrix
from sciml_bounds.optimize._nonlinear_program import Point, Program
from sciml_bounds.optimize._products import Products, damped_solution
from sciml_bounds.reports import Reason

__all__ = ["is_stationary", "restore"]

#: Maximum number of steps, and the reduction of the violation at which to stop.
MAX_STEPS, TARGET_REDUCTION = 100, 0.1

#: ||c|| is stationary if ||J^T c|| / (||J|| ||c||) is at most `STATIONARY_TOL`; after failed steps, if it is at most
#: `NEAR_STATIONARY_TOL`.
STATIONARY_TOL, NEAR_STATIONARY_TOL = 1e-6, 1e-3

#: Stop after a step that reduces ||c|| by at most this fraction.
MIN_GAIN = 1e-9


def restore(program: Program, point: Point, tolerance: float) -> Point | Reason | None:
    """Reduce ||c|| to a tenth.

    A step solves (mu I + J^T J) dx = -J^T c as the KKT system [[I, J^T], [J, -mu I]] (dx, y) = (0, -c). mu is lowered
    after a step that reduces ||c||, and raised after one that does not (Marquardt, 1963).

    Returns
    -------
    Point, Reason or None
        A point with a smaller violation and zero multipliers; `INFEASIBLE` if ||c|| is stationary and not zero; None if
        the violation is within the tolerance, or cannot be reduced enough.
    """
    here = point
    violation = point.constraint_violation
    if violation <= tolerance:
        return None
    mu, gain = 1e-3 * max(frobenius(point.jacobian) ** 2, 1e-12), 1.0
    for _ in range(MAX_STEPS):
        if here.constraint_violation <= max(TARGET_REDUCTION * violation, tolerance / 10):
            break
        if _slope(here) <= STATIONARY_TOL or gain <= MIN_GAIN:
            break
        trial = program.at(here.x + _step(here, mu), torch.zeros_like(here.multipliers))
        if trial.finite and trial.constraint_violation < here.constraint_violation:
            gain = 1 - trial.constraint_violation / here.constraint_violation
            here, mu = trial, mu / 5
        else:
            mu *= 4
    if here.constraint_violation <= 0.9 * violation:
        return here
    return Reason.INFEASIBLE if is_stationary(here) or gain <= MIN_GAIN else None


def is_stationary(point: Point) -> bool:
    """Whether the constraints are violated, and no small change of x reduces the violation."""
    return point.constraint_violation > 0 and _slope(point) <= NEAR_STATIONARY_TOL


def _slope(point: Point) -> float:
    """Return ||J^T c|| / (||J|| ||c||), where ||J|| is at least ||c|| / (1 + ||x||)."""
    violation = point.constraint_violation
    scale = max(frobenius(point.jacobian), violation / (1 + float(point.x.norm())))
    return float((point.jacobian.mT @ point.constraints).norm()) / (scale * violation)


def _step(point: Point, mu: float) -> torch.Tensor:
    n, m = len(point.x), len(point.multipliers)
    if isinstance(point.jacobian, Products):
        return damped_solution(point.jacobian, -point.constraints, mu)
    A = kkt_matrix(identity(point.jacobian), point.jacobian, mu)
    return DirectSolve(A, torch.cat([point.x.new_zeros(n), -point.constraints]), m).z[:n]
