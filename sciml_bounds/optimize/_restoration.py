"""A way out where the merit function has none: reduce the constraint violation alone, by Levenberg and Marquardt."""

from __future__ import annotations

import torch

from sciml_bounds.optimize._inner_solvers import DirectSolve
from sciml_bounds.optimize._kkt import frobenius, identity, kkt_matrix
from sciml_bounds.optimize._nonlinear_program import Point, Program
from sciml_bounds.optimize._products import Products, damped_solution
from sciml_bounds.reports import Reason

__all__ = ["is_stationary", "restore"]

#: Steps in all, and the part of the violation that is to be left.
STEPS, LEFT = 100, 0.1

#: c is stationary where ||J^T c|| is this part of ||J|| ||c||, and taken to be so where no more can be gained.
STATIONARY, NEARLY = 1e-6, 1e-3

#: A step that gains this part of ||c|| or less is taken for the last.
STANDSTILL = 1e-9


def restore(program: Program, point: Point, tolerance: float) -> Point | Reason | None:
    """Reduce ||c|| to a tenth.

    A step solves (mu I + J^T J) dx = -J^T c as the KKT system [[I, J^T], [J, -mu I]] (dx, y) = (0, -c), with mu lowered
    where it leads downwards and raised where it does not (Marquardt, 1963).

    Returns
    -------
    Point, Reason or None
        A point with less violation and with multipliers of zero; INFEASIBLE where c is stationary and not zero; None
        where nothing is to be gained, since the constraints hold already.
    """
    here = point
    violation = point.constraint_violation
    if violation <= tolerance:
        return None
    mu, gain = 1e-3 * max(frobenius(point.jacobian) ** 2, 1e-12), 1.0
    for _ in range(STEPS):
        if here.constraint_violation <= max(LEFT * violation, tolerance / 10):
            break
        if _slope(here) <= STATIONARY or gain <= STANDSTILL:
            break
        trial = program.at(here.x + _step(here, mu), torch.zeros_like(here.multipliers))
        if trial.finite and trial.constraint_violation < here.constraint_violation:
            gain = 1 - trial.constraint_violation / here.constraint_violation
            here, mu = trial, mu / 5
        else:
            mu *= 4
    if here.constraint_violation <= 0.9 * violation:
        return here
    return Reason.INFEASIBLE if is_stationary(here) or gain <= STANDSTILL else None


def is_stationary(point: Point) -> bool:
    """Whether no small change of x reduces a violation that is there."""
    return point.constraint_violation > 0 and _slope(point) <= NEARLY


def _slope(point: Point) -> float:
    """Return ||J^T c|| / (||J|| ||c||), with the mean slope of c on its way to zero in place of a J that vanishes."""
    violation = point.constraint_violation
    scale = max(frobenius(point.jacobian), violation / (1 + float(point.x.norm())))
    return float((point.jacobian.mT @ point.constraints).norm()) / (scale * violation)


def _step(point: Point, mu: float) -> torch.Tensor:
    n, m = len(point.x), len(point.multipliers)
    if isinstance(point.jacobian, Products):
        return damped_solution(point.jacobian, -point.constraints, mu)
    A = kkt_matrix(identity(point.jacobian), point.jacobian, mu)
    return DirectSolve(A, torch.cat([point.x.new_zeros(n), -point.constraints]), m).z[:n]
