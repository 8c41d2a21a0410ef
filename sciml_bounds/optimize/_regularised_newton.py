"""Newton directions with minimal regularisation, for the same merit function as the published method.

The Hessian is shifted only until the KKT matrix has n positive and m negative eigenvalues. If the solver does not count
eigenvalues, it is shifted until the curvature along the step is positive (Chiang and Zavala, Comput. Optim. Appl. 64,
2016). Trial shifts start from a third of the last successful one (Waechter and Biegler, Math. Program. 106, 2006,
algorithm IC). The lower right block is damped only if the Jacobian is rank-deficient. A full step that increases the
constraint violation gets one second-order correction. If there is no descent direction, or steps stay short, the
constraint violation is reduced first, ignoring the objective (restoration).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.linalg import vector_norm

from sciml_bounds.optimize._hessians import ExactHessian, Hessians
from sciml_bounds.optimize._inner_solvers import DirectSolve, InnerSolve, InnerSolver
from sciml_bounds.optimize._kkt import frobenius, identity, is_sparse, kkt_matrix, shifted
from sciml_bounds.optimize._kkt_minres import MinresSolver
from sciml_bounds.optimize._merit import Merit, Slope
from sciml_bounds.optimize._newton_loop import Direction
from sciml_bounds.optimize._nonlinear_program import Point, Program
from sciml_bounds.optimize._products import Matrix, Products, damped_solution
from sciml_bounds.optimize._rank_deficiency import attainable_residual
from sciml_bounds.optimize._restoration import restore
from sciml_bounds.optimize._saddle_escape import Escapes, free_part
from sciml_bounds.reports import Reason

__all__ = ["AutomaticDirections", "estimated_multipliers"]

#: Initial penalties, their limits, and the factor by which they change.
INITIAL_MERIT = Merit(1.0, 0.01)
LARGEST_ETA1, SMALLEST_ETA2 = 1e12, 1e-12
PENALTY_FACTOR = 4.0

#: First, smallest and largest shift, relative to the Hessian.
FIRST_SHIFT, SMALLEST_SHIFT, LARGEST_SHIFT = 1e-4, 1e-12, 1e10

#: Damping of the lower right block for a rank-deficient Jacobian, relative to the square of its norm.
DAMPING = 1e-11

#: Largest factor by which the damping is raised if no direction is found.
MAX_DAMPING_FACTOR = 1e6

#: Divisor of that factor after each step.
DAMPING_DECAY = 10.0

#: Relative damping in the estimate of multipliers, to keep them small.
ESTIMATE_DAMPING = 1e-8

#: Smallest damping, relative to the Hessian, for a Jacobian that is zero.
SMALLEST_DAMPING = 1e-12

#: Curvature along a step is positive if it is at least this times ||H|| ||dx||^2.
CURVATURE_TOL = 1e-13

#: A KKT matrix counts as singular if the residual of the solve exceeds this fraction of the right-hand side.
SINGULAR_RESIDUAL = 1e-4

#: Step lengths below this count as short: the quadratic model is not valid that far.
SHORT_STEP = 0.1

#: Number of consecutive short steps after which the constraint violation is reduced first.
MAX_SHORT_STEPS = 3

#: Maximum number of directions with increasing shift after failed line searches.
MAX_LINE_SEARCH_FAILURES = 6

#: Maximum number of steps of an iterative inner solver.
MAX_INNER_STEPS = 100_000

#: Relative residual of the first iterative solve; later ones decrease with the KKT residual.
FIRST_ACCURACY = 0.1

#: Number of LSMR iterations for the estimate of multipliers with operators; an inaccurate estimate is sufficient.
MULTIPLIER_ITERATIONS = 30

#: With a rank-deficient Jacobian, the problem is infeasible if the attainable residual is below this fraction of the
#: violation.
ATTAINABLE_TOL = 1e-5

#: If no step is found, least-squares multipliers are accepted if they reduce the KKT residual to this fraction.
MULTIPLIER_REDUCTION = 0.01

#: The iteration starts again from a restored point if its violation is below this fraction of that at x0.
RESTART_FEASIBILITY = 1e-2

#: If the largest estimated multiplier exceeds this, multipliers start from zero, as in IPOPT.
LARGEST_MULTIPLIER = 1e3


def estimated_multipliers(point: Point) -> Tensor:
    """Return the multipliers l that minimise ||g + G^T l||, or zero if they are large or not finite."""
    n, m = len(point.x), len(point.multipliers)
    if m == 0:
        return point.multipliers
    G, damping = point.jacobian, ESTIMATE_DAMPING * max(1e-8, frobenius(point.jacobian) ** 2)
    if isinstance(G, Products):
        found = damped_solution(G.mT, -point.gradient, damping, MULTIPLIER_ITERATIONS)
    elif is_sparse(G):
        A = kkt_matrix(identity(G), G, damping)
        found = DirectSolve(A, torch.cat([-point.gradient, point.x.new_zeros(m)]), 0).z[n:]
    else:
        found = _damped_least_squares(G, -point.gradient, damping)
    usable = bool(torch.isfinite(found).all()) and float(found.abs().max()) <= LARGEST_MULTIPLIER
    return found if usable else torch.zeros_like(found)


def _damped_least_squares(G: Tensor, rhs: Tensor, damping: float) -> Tensor:
    """Minimise ||G^T l - rhs||^2 + damping ||l||^2 by normal equations, which are well-conditioned due to the damping.

    The equations are (G G^T + d I) l = G rhs, or l = G (G^T G + d I)^-1 rhs if that system is smaller.
    """
    m, n = G.shape
    gram, right = (G @ G.mT, G @ rhs) if m <= n else (G.mT @ G, rhs)
    factor, _ = torch.linalg.cholesky_ex(shifted(gram, damping))
    found: Tensor = torch.cholesky_solve(right.unsqueeze(1), factor).squeeze(1)
    return found if m <= n else G @ found


@dataclass(frozen=True, eq=False)
class _LastShift:
    """Data of the last direction: H, H grad_x L, the shift of H, and the size that shifts are relative to."""

    H: Matrix
    curved: Tensor
    shift: float
    size: float


def _second_order_correction(solve: InnerSolve, n: int) -> Callable[[Tensor], Tensor] | None:
    """Return the function from constraint values c to the correction of x that removes them to first order.

    None if the solver has no factors of the KKT matrix.
    """
    substitute = solve.substitute if isinstance(solve, DirectSolve) else None
    if substitute is None:
        return None
    return lambda c: substitute(torch.cat([c.new_zeros(n), -c]))[:n]


class AutomaticDirections:
    """Directions of the method "auto", with minimal regularisation; shifts and penalties persist between points."""

    armijo = 1e-4
    shortest = 1e-10

    def __init__(self, program: Program, hessians: Hessians, inner: InnerSolver, tolerance: float) -> None:
        self._program, self._hessians, self._inner = program, hessians, inner
        self._tolerance = tolerance
        # no penalty of grad L without constraints, or with BFGS Hessians, whose steps need not reduce it
        penalised = bool(program.m) and isinstance(hessians, ExactHessian)
        self._start = INITIAL_MERIT if penalised else Merit(INITIAL_MERIT.eta1, 0.0)
        self._merit = self._start
        self._last_shift = 0.0
        self._failures = 0
        self._capped = False
        self._first_norm: float | None = None
        self._escapes = Escapes(program, hessians, tolerance)
        self._left_saddle = False  # whether a saddle point was left
        self._inertia_verified = False  # whether the last KKT matrix is known to have the inertia of a minimum
        self._used: _LastShift | None = None
        self._damped, self._damping_factor = False, 1.0
        self._short = 0
        self._first: Point | None = None
        self._restarted = False

    def at(self, point: Point, last_length: float) -> Direction | Point | Reason:
        """Return the direction with the smallest shift that gives descent."""
        H, curved = self._hessians.at(point)
        if not bool(torch.isfinite(curved).all()):
            return Reason.NOT_FINITE
        if isinstance(self._inner, MinresSolver):
            self._inner.at(point)
        self._failures = 0
        self._first = self._first or point
        self._short = self._short + 1 if last_length < SHORT_STEP else 0
        if self._short == MAX_SHORT_STEPS and point.constraint_violation > self._tolerance:
            nearer = self._restored(point, Reason.STAGNATED)
            if isinstance(nearer, Point):
                return nearer
        least = self._least_shift(H, last_length)
        found = self._direction(point, H, curved, least)
        while found is None and self._damped and self._damping_factor < MAX_DAMPING_FACTOR:
            self._damping_factor *= 100  # too little damping is lost in round-off, and the inertia is wrong
            found = self._direction(point, H, curved, least)
        self._damping_factor = max(1.0, self._damping_factor / DAMPING_DECAY)
        return self._restarted_if_infeasible(found or self._restored(point, Reason.STAGNATED))

    def _least_shift(self, H: Matrix, last_length: float) -> float:
        """Return the smallest shift to try.

        It is at least ten times the last one after a short step, since the quadratic model was not valid that far; a
        tenth of it after a longer step, if it was large; and zero after a full step. BFGS Hessians are positive
        definite and adapt by their update, so they need no shift.
        """
        size = frobenius(H)
        used = self._used.shift if self._used is not None else 0.0
        if not isinstance(self._hessians, ExactHessian):
            return 0.0
        if last_length < SHORT_STEP:
            return max(10 * used, 1e-3 * size)
        return used / 10 if last_length < 1 and used > 1e-2 * size else 0.0

    def away_from(self, point: Point) -> Point | Reason | None:
        """Return a point to continue from if `point` is a saddle point, `SADDLE` after too many, or None."""
        found = None if self._inertia_verified else self._escapes.away_from(point, self._start.eta1)
        if isinstance(found, Point):
            self._left_saddle, self._merit, self._last_shift = True, self._start, 0.0
        return found

    def after_failure(self, point: Point, failure: Reason) -> Direction | Point | Reason:
        """Return a direction with a larger shift, or reduce the constraint violation after several failures."""
        self._failures += 1
        used = self._used
        if used is None or self._failures > MAX_LINE_SEARCH_FAILURES:
            return self._restarted_if_infeasible(self._restored(point, failure))
        found = self._direction(point, used.H, used.curved, max(10 * used.shift, 1e-4 * used.size))
        return self._restarted_if_infeasible(found or self._restored(point, failure))

    def _restored(self, point: Point, failure: Reason) -> Point | Reason:
        if self._start.eta2 == 0:  # if also c = 0, the merit function does not depend on the multipliers
            fitted = replace(point, multipliers=estimated_multipliers(point))
            if fitted.kkt_residual < MULTIPLIER_REDUCTION * point.kkt_residual:
                return fitted
        self._merit, self._last_shift, self._inertia_verified = self._start, 0.0, False
        found = restore(self._program, point, self._tolerance)
        if not isinstance(found, Point):
            return found or (Reason.CAPPED if self._capped else failure)
        return self._program.at(found.x, estimated_multipliers(found))

    def _restarted_if_infeasible(self, found: Direction | Point | Reason) -> Direction | Point | Reason:
        """If the constraints seem infeasible, restart once: satisfy them first, from x0, ignoring the objective."""
        first = self._first
        if found is not Reason.INFEASIBLE or first is None or self._restarted:
            return found
        self._restarted = True
        nearer: Point | Reason | None = first
        while isinstance(nearer, Point):
            point, nearer = nearer, restore(self._program, nearer, self._tolerance)
        if point.constraint_violation > RESTART_FEASIBILITY * first.constraint_violation:
            return found
        self._merit, self._last_shift, self._inertia_verified = self._start, 0.0, False
        return self._program.at(point.x, estimated_multipliers(point))

    # --- one direction ------------------------------------------------------------------------------------------------

    def _direction(self, point: Point, H: Matrix, curved: Tensor, least: float) -> Direction | Reason | None:
        size = max(frobenius(H), float(vector_norm(point.lagrangian_gradient)) / max(1.0, float(point.x.norm())), 1e-8)
        b, damping, self._damped = -point.residual, 0.0, False
        for shift in self._shifts(least, size):
            solve, singular = self._solve(point, H, b, shift, damping)
            if damping == 0 and len(point.multipliers) and singular:
                self._damped = True
                relative = self._damping_factor * DAMPING
                damping = max(relative * frobenius(point.jacobian) ** 2, SMALLEST_DAMPING * size)
                b = -attainable_residual(point)
                if float(vector_norm(b)) <= max(self._tolerance, ATTAINABLE_TOL * point.constraint_violation):
                    return Reason.INFEASIBLE
                solve, singular = self._solve(point, H, b, shift, damping)
            if singular or not self._has_positive_curvature(solve, point, H, shift):
                continue
            found = self._descent(solve, point, curved, b)
            if found is not None:
                self._last_shift = shift if shift > 0 else self._last_shift
                self._used = _LastShift(H, curved, shift, size)
                self._inertia_verified = solve.negative is not None and shift == damping == 0
                return replace(found, shift=shift, damping=damping)
        return None

    def _shifts(self, least: float, size: float) -> Iterator[float]:
        """Yield increasing trial shifts: from `least`, or, if that is 0, zero and then from a third of the last one."""
        if least == 0:
            yield 0.0
        start = FIRST_SHIFT * size if self._last_shift == 0 else max(self._last_shift / 3, SMALLEST_SHIFT * size)
        shift, factor = least or start, 100.0 if self._last_shift == 0 else 8.0
        while shift <= LARGEST_SHIFT * size:
            yield shift
            shift *= factor

    def _solve(self, point: Point, H: Matrix, b: Tensor, shift: float, damping: float) -> tuple[InnerSolve, bool]:
        """Solve the KKT system to the accuracy that the step needs; return whether the matrix seems singular."""
        solve = self._inner(kkt_matrix(shifted(H, shift), point.jacobian, damping), b, MAX_INNER_STEPS)
        size = float(vector_norm(b))
        accuracy = self._accuracy(solve.rhs_norm, size)
        solve.refine(accuracy * solve.rhs_norm)
        self._capped = solve.capped
        left = solve.residual_norm / solve.rhs_norm * size  # estimate of the Euclidean norm
        unsolved = left > max(SINGULAR_RESIDUAL * point.kkt_residual, accuracy * size) and not solve.capped
        return solve, unsolved or not math.isfinite(solve.residual_norm)

    def _accuracy(self, norm: float, size: float) -> float:
        """Return the relative residual for a step, from ||b|| in the norm of the solver and in the Euclidean norm.

        It is proportional to ||b|| relative to its first value, hence independent of the scale, and bounded below by
        what the final tolerance needs.
        """
        if self._first_norm is None:
            self._first_norm = norm
        return min(FIRST_ACCURACY, max(norm / self._first_norm, FIRST_ACCURACY * self._tolerance / size))

    def _has_positive_curvature(self, solve: InnerSolve, point: Point, H: Matrix, shift: float) -> bool:
        """Whether the KKT matrix has the inertia of a minimum, or, if that is unknown, the step positive curvature."""
        if solve.negative is not None:
            return solve.negative == len(point.multipliers)
        dx, dl = solve.z[: len(point.x)], solve.z[len(point.x) :]
        away = -(point.multipliers + dl) @ point.constraints  # the normal part of the step may have negative curvature
        curvature = dx @ (H @ dx) + shift * dx.square().sum() + away.clamp_min(0.0)
        positive = bool(curvature >= CURVATURE_TOL * frobenius(H) * dx.square().sum())
        return positive and not (self._left_saddle and self._returns_to_saddle(dx, point, H, shift))

    def _returns_to_saddle(self, dx: Tensor, point: Point, H: Matrix, shift: float) -> bool:
        """Whether the tangential part of a step has negative curvature, which its normal part may hide.

        Close to a saddle point, such Newton steps lead back to it.
        """
        free = free_part(point.jacobian, dx)
        if free is None:
            return False
        curvature = free @ (H @ free) + shift * free.square().sum()
        return bool(curvature < -CURVATURE_TOL * frobenius(H) * dx.square().sum())

    def _descent(self, solve: InnerSolve, point: Point, curved: Tensor, b: Tensor) -> Direction | None:
        """Adapt the penalties, and the accuracy of an iterative solve, until the step is a descent direction."""
        n = len(point.x)
        squares = float(b[:n].square().sum()), float(b[n:].square().sum())
        while True:
            slope = Slope.along(solve.z, point, curved)
            merit = self._penalties(slope, *squares)
            if merit is not None:
                self._merit = merit
                relative = solve.residual_norm / solve.rhs_norm
                return Direction(
                    solve.z,
                    merit,
                    slope.at(merit),
                    0.0,
                    0.0,
                    solve.steps,
                    relative,
                    solve.capped,
                    _second_order_correction(solve, n),
                )
            before = solve.residual_norm
            solve.refine(0.1 * before)
            if not solve.residual_norm < 0.5 * before:
                return None

    def _penalties(self, slope: Slope, g2: float, c2: float) -> Merit | None:
        """Return penalties with a slope of at most -eta2/2 ||b||^2, changing only the one that prevents it, or None."""
        merit = self._merit
        while not slope.at(merit) <= -merit.eta2 / 2 * (g2 + c2) or slope.at(merit) == 0:
            if merit.eta2 > 0 and (slope.second + g2 / 2 > 0 or merit.eta1 > LARGEST_ETA1 / PENALTY_FACTOR):
                merit = Merit(merit.eta1, merit.eta2 / PENALTY_FACTOR)
            else:
                merit = Merit(merit.eta1 * PENALTY_FACTOR, merit.eta2)
            too_small = 0 < merit.eta2 < SMALLEST_ETA2 or merit.eta1 > LARGEST_ETA1 or slope.first == merit.eta2 == 0
            if too_small or not math.isfinite(slope.at(merit)):
                return None
        return merit
