"""Newton steps with no more regularisation than they need, in the same merit function as the published method.

The Hessian is shifted only until the KKT matrix has n positive and m negative eigenvalues, or the step shows positive
curvature where the solver does not count them (Chiang and Zavala, Comput.
Optim. Appl. 64, 2016); each shift starts from a third of the last one that helped (Waechter and Biegler, Math. Program.
106, 2006, algorithm IC). The corner is damped only where the Jacobian has lost its rank. A whole step that leads away
from curved constraints is corrected once. Where no step is of descent, or all are short, the objective is left aside
until the constraint violation has fallen.
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

#: Penalties at the start, where they are allowed to go, and the factors by which they change.
START = Merit(1.0, 0.01)
LARGEST_ETA1, SMALLEST_ETA2 = 1e12, 1e-12
GROWTH = 4.0

#: The first shift, the least one, and the largest, relative to the Hessian.
FIRST_SHIFT, LEAST_SHIFT, LARGEST_SHIFT = 1e-4, 1e-12, 1e10

#: Damping of the corner where the Jacobian has lost its rank, relative to its norm squared.
DAMPING = 1e-11

#: How many times that it may become where no direction is found.
STRONGEST = 1e6

#: What it becomes smaller by again from step to step.
WEAKER = 10.0

#: The same for multipliers that are estimated, which are to stay small.
ESTIMATE_DAMPING = 1e-8

#: The same relative to the Hessian, where the Jacobian is zero.
LEAST_DAMPING = 1e-12

#: A step shows positive curvature if that is at least this part of its squared length.
CURVATURE = 1e-13

#: A solve is singular if it leaves more than this part of the right-hand side.
UNSOLVED = 1e-4

#: Steps shorter than this part of their direction tell of a model that does not hold so far.
SHORT = 0.1

#: After so many short steps in a row, the objective is left aside until the constraints are met better.
MANY = 3

#: Directions with more and more shift that are tried where a line search fails.
FAILURES = 6

#: Largest number of steps of an iterative inner solver.
CAP = 100_000

#: Relative residual of the first iterative solve; later ones are as much more accurate as the KKT residual has fallen.
LOOSEST = 0.1

#: Steps that multipliers are estimated with by products: some are better than none, and Newton's method finds the rest.
FEW = 30

#: Where what can be attained is attained to this part of the violation, there is no more of it.
ATTAINED = 1e-5

#: Where no step is found, multipliers that fit best are taken if they leave at most this part of the KKT residual.
FITTED = 0.01

#: Where the constraints are met to this part of their violation at x0, it is worth to begin again.
FEASIBLE = 1e-2

#: Multipliers that are estimated to be larger than this start at zero instead, as in IPOPT.
LARGEST_MULTIPLIER = 1e3


def estimated_multipliers(point: Point) -> Tensor:
    """Return the l that minimises ||g + G^T l||, or zero where it is large or the Jacobian has no rank to tell it."""
    n, m = len(point.x), len(point.multipliers)
    if m == 0:
        return point.multipliers
    G, damping = point.jacobian, ESTIMATE_DAMPING * max(1e-8, frobenius(point.jacobian) ** 2)
    if isinstance(G, Products):
        found = damped_solution(G.mT, -point.gradient, damping, FEW)
    elif is_sparse(G):
        A = kkt_matrix(identity(G), G, damping)
        found = DirectSolve(A, torch.cat([-point.gradient, point.x.new_zeros(m)]), 0).z[n:]
    else:
        found = _damped_least_squares(G, -point.gradient, damping)
    usable = bool(torch.isfinite(found).all()) and float(found.abs().max()) <= LARGEST_MULTIPLIER
    return found if usable else torch.zeros_like(found)


def _damped_least_squares(G: Tensor, rhs: Tensor, damping: float) -> Tensor:
    """Minimise ||G^T l - rhs||^2 + damping ||l||^2 by normal equations, whose condition the damping bounds.

    They are (G G^T + d I) l = G rhs, or, where that is smaller, l = G (G^T G + d I)^-1 rhs.
    """
    m, n = G.shape
    gram, right = (G @ G.mT, G @ rhs) if m <= n else (G.mT @ G, rhs)
    factor, _ = torch.linalg.cholesky_ex(shifted(gram, damping))
    found: Tensor = torch.cholesky_solve(right.unsqueeze(1), factor).squeeze(1)
    return found if m <= n else G @ found


@dataclass(frozen=True, eq=False)
class _Used:
    """What the last direction was made of: H, H grad_x L, the shift of H, and the size that shifts are relative to."""

    H: Matrix
    curved: Tensor
    shift: float
    size: float


def _corrections(solve: InnerSolve, n: int) -> Callable[[Tensor], Tensor] | None:
    """Return the step that takes constraint values c away to first order, where the factors that it needs are there."""
    substitute = solve.substitute if isinstance(solve, DirectSolve) else None
    if substitute is None:
        return None
    return lambda c: substitute(torch.cat([c.new_zeros(n), -c]))[:n]


class AutomaticDirections:
    """Directions with as little regularisation as they need; shifts and penalties are carried from point to point."""

    armijo = 1e-4
    shortest = 1e-10

    def __init__(self, program: Program, hessians: Hessians, inner: InnerSolver, tolerance: float) -> None:
        self._program, self._hessians, self._inner = program, hessians, inner
        self._tolerance = tolerance
        # without constraints, f alone; steps of updated Hessians need not shorten grad L, so it has no penalty
        self._start = START if program.m and isinstance(hessians, ExactHessian) else Merit(START.eta1, 0.0)
        self._merit = self._start
        self._last_shift = 0.0
        self._failures = 0
        self._capped = False
        self._first_norm: float | None = None
        self._escapes = Escapes(program, hessians, tolerance)
        self._wary = False  # whether a stationary point was left that is no minimum
        self._counted = False  # whether the last KKT matrix is known to have the inertia of a minimum
        self._used: _Used | None = None
        self._damped, self._stronger = False, 1.0
        self._short = 0
        self._first: Point | None = None
        self._began_again = False

    def at(self, point: Point, last_length: float) -> Direction | Point | Reason:
        """Solve with the least shift that gives a direction of descent."""
        H, curved = self._hessians.at(point)
        if not bool(torch.isfinite(curved).all()):
            return Reason.NOT_FINITE
        if isinstance(self._inner, MinresSolver):
            self._inner.at(point)
        self._failures = 0
        self._first = self._first or point
        self._short = self._short + 1 if last_length < SHORT else 0
        if self._short == MANY and point.constraint_violation > self._tolerance:
            nearer = self._restored(point, Reason.STAGNATED)
            if isinstance(nearer, Point):
                return nearer
        least = self._least(H, last_length)
        found = self._direction(point, H, curved, least)
        while found is None and self._damped and self._stronger < STRONGEST:
            self._stronger *= 100  # too little damping is lost in round-off, and eigenvalues are counted wrongly
            found = self._direction(point, H, curved, least)
        self._stronger = max(1.0, self._stronger / WEAKER)
        return self._anew(found or self._restored(point, Reason.STAGNATED))

    def _least(self, H: Matrix, last_length: float) -> float:
        """Shift at least tenfold after a short step, less after a longer one, and no more than needed after a full one.

        A short step tells that the model does not hold as far as the direction goes. Updated Hessians are positive
        definite and learn that from the step itself.
        """
        size = frobenius(H)
        used = self._used.shift if self._used is not None else 0.0
        if not isinstance(self._hessians, ExactHessian):
            return 0.0
        if last_length < SHORT:
            return max(10 * used, 1e-3 * size)
        return used / 10 if last_length < 1 and used > 1e-2 * size else 0.0

    def away_from(self, point: Point) -> Point | Reason | None:
        """Leave a stationary point that is not a minimum."""
        found = None if self._counted else self._escapes.away_from(point, self._start.eta1)
        if isinstance(found, Point):
            self._wary, self._merit, self._last_shift = True, self._start, 0.0
        return found

    def after_failure(self, point: Point, failure: Reason) -> Direction | Point | Reason:
        """Shift the Hessian more, and if that does not help either, leave the objective aside."""
        self._failures += 1
        used = self._used
        if used is None or self._failures > FAILURES:
            return self._anew(self._restored(point, failure))
        found = self._direction(point, used.H, used.curved, max(10 * used.shift, 1e-4 * used.size))
        return self._anew(found or self._restored(point, failure))

    def _restored(self, point: Point, failure: Reason) -> Point | Reason:
        if self._start.eta2 == 0:  # where c = 0, the merit function does not depend on the multipliers
            fitted = replace(point, multipliers=estimated_multipliers(point))
            if fitted.kkt_residual < FITTED * point.kkt_residual:
                return fitted
        self._merit, self._last_shift, self._counted = self._start, 0.0, False
        found = restore(self._program, point, self._tolerance)
        if not isinstance(found, Point):
            return found or (Reason.CAPPED if self._capped else failure)
        return self._program.at(found.x, estimated_multipliers(found))

    def _anew(self, found: Direction | Point | Reason) -> Direction | Point | Reason:
        """Begin again where the constraints cannot be met, once: meet them first, from x0, the objective aside."""
        first = self._first
        if found is not Reason.INFEASIBLE or first is None or self._began_again:
            return found
        self._began_again = True
        nearer: Point | Reason | None = first
        while isinstance(nearer, Point):
            point, nearer = nearer, restore(self._program, nearer, self._tolerance)
        if point.constraint_violation > FEASIBLE * first.constraint_violation:
            return found
        self._merit, self._last_shift, self._counted = self._start, 0.0, False
        return self._program.at(point.x, estimated_multipliers(point))

    # --- one direction ------------------------------------------------------------------------------------------------

    def _direction(self, point: Point, H: Matrix, curved: Tensor, least: float) -> Direction | Reason | None:
        size = max(frobenius(H), float(vector_norm(point.lagrangian_gradient)) / max(1.0, float(point.x.norm())), 1e-8)
        b, damping, self._damped = -point.residual, 0.0, False
        for shift in self._shifts(least, size):
            solve, singular = self._solve(point, H, b, shift, damping)
            if damping == 0 and len(point.multipliers) and singular:
                self._damped = True
                damping = max(self._stronger * DAMPING * frobenius(point.jacobian) ** 2, LEAST_DAMPING * size)
                b = -attainable_residual(point)
                if float(vector_norm(b)) <= max(self._tolerance, ATTAINED * point.constraint_violation):
                    return Reason.INFEASIBLE
                solve, singular = self._solve(point, H, b, shift, damping)
            if singular or not self._curves_upwards(solve, point, H, shift):
                continue
            found = self._descent(solve, point, curved, b)
            if found is not None:
                self._last_shift = shift if shift > 0 else self._last_shift
                self._used = _Used(H, curved, shift, size)
                self._counted = solve.negative is not None and shift == damping == 0
                return replace(found, shift=shift, damping=damping)
        return None

    def _shifts(self, least: float, size: float) -> Iterator[float]:
        """Yield the shifts to try, upwards: from the least one, or none and then from a third of the last one."""
        if least == 0:
            yield 0.0
        start = FIRST_SHIFT * size if self._last_shift == 0 else max(self._last_shift / 3, LEAST_SHIFT * size)
        shift, factor = least or start, 100.0 if self._last_shift == 0 else 8.0
        while shift <= LARGEST_SHIFT * size:
            yield shift
            shift *= factor

    def _solve(self, point: Point, H: Matrix, b: Tensor, shift: float, damping: float) -> tuple[InnerSolve, bool]:
        """Solve as accurately as it is worth, and tell whether the matrix seems singular."""
        solve = self._inner(kkt_matrix(shifted(H, shift), point.jacobian, damping), b, CAP)
        size = float(vector_norm(b))
        accuracy = self._accuracy(solve.rhs_norm, size)
        solve.refine(accuracy * solve.rhs_norm)
        self._capped = solve.capped
        left = solve.residual_norm / solve.rhs_norm * size  # in the Euclidean norm, as far as one can tell
        unsolved = left > max(UNSOLVED * point.kkt_residual, accuracy * size) and not solve.capped
        return solve, unsolved or not math.isfinite(solve.residual_norm)

    def _accuracy(self, norm: float, size: float) -> float:
        """Tell which relative residual a step is worth, given ||b|| in the norm of the solver and in the Euclidean one.

        It falls with the norm relative to the start, so that no scale matters, and never below what the end asks for.
        """
        if self._first_norm is None:
            self._first_norm = norm
        return min(LOOSEST, max(norm / self._first_norm, LOOSEST * self._tolerance / size))

    def _curves_upwards(self, solve: InnerSolve, point: Point, H: Matrix, shift: float) -> bool:
        """Whether the KKT matrix has the inertia of a minimum, or, where that is not known, the step looks like it."""
        if solve.negative is not None:
            return solve.negative == len(point.multipliers)
        dx, dl = solve.z[: len(point.x)], solve.z[len(point.x) :]
        away = -(point.multipliers + dl) @ point.constraints  # what leads to the constraints may curve downwards
        curvature = dx @ (H @ dx) + shift * dx.square().sum() + away.clamp_min(0.0)
        published = bool(curvature >= CURVATURE * frobenius(H) * dx.square().sum())
        return published and not (self._wary and self._leads_back(dx, point, H, shift))

    def _leads_back(self, dx: Tensor, point: Point, H: Matrix, shift: float) -> bool:
        """Whether a step goes along negative curvature that what leads to the constraints hides.

        From close to a saddle Newton's steps lead to it, uphill along the constraints.
        """
        free = free_part(point.jacobian, dx)
        if free is None:
            return False
        curvature = free @ (H @ free) + shift * free.square().sum()
        return bool(curvature < -CURVATURE * frobenius(H) * dx.square().sum())

    def _descent(self, solve: InnerSolve, point: Point, curved: Tensor, b: Tensor) -> Direction | None:
        """Change the penalties, and the accuracy of an iterative solve, until the step is one of descent."""
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
                    _corrections(solve, n),
                )
            before = solve.residual_norm
            solve.refine(0.1 * before)
            if not solve.residual_norm < 0.5 * before:
                return None

    def _penalties(self, slope: Slope, g2: float, c2: float) -> Merit | None:
        """Find penalties with a slope of at most -eta2/2 ||b||^2, and change only the one that stands in the way."""
        merit = self._merit
        while not slope.at(merit) <= -merit.eta2 / 2 * (g2 + c2) or slope.at(merit) == 0:
            if merit.eta2 > 0 and (slope.second + g2 / 2 > 0 or merit.eta1 > LARGEST_ETA1 / GROWTH):
                merit = Merit(merit.eta1, merit.eta2 / GROWTH)
            else:
                merit = Merit(merit.eta1 * GROWTH, merit.eta2)
            too_small = 0 < merit.eta2 < SMALLEST_ETA2 or merit.eta1 > LARGEST_ETA1 or slope.first == merit.eta2 == 0
            if too_small or not math.isfinite(slope.at(merit)):
                return None
        return merit
