"""Newton-CG for reduced objectives, where an equation is solved for some of the unknowns, in mesh-independent norms.

J(v) has a gradient g, Hessian products H p (each with a prescribed accuracy), and a symmetric positive definite
preconditioner P close to H^-1. The residual is |g|_P = sqrt(g.P g). If P = H^-1 and J is quadratic, half its square is
J - min J, for any mesh. If Ritz values of conjugate gradients show that P is too small, residuals are enlarged
accordingly (Meurant and Tichy, Numer. Algorithms 62 (2013) 163-191).

Steps are computed by conjugate gradients with adaptive accuracy (Eisenstat and Walker, SIAM J. Sci. Comput. 17 (1996)
16-32), truncated where H is not positive (Steihaug, SIAM J. Numer. Anal. 20 (1983) 626-637), and shortened by Armijo's
rule. As the residual of conjugate gradients falls, products may become less accurate (van den Eshof and Sleijpen, SIAM
J. Matrix Anal. Appl. 26 (2004) 125-153).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from sciml_bounds.arrays import require_fraction
from sciml_bounds.errors import InputError
from sciml_bounds.krylov._error_bounds import smallest_ritz_value
from sciml_bounds.optimize._optimize_result import NewtonStep, OptimizeResult
from sciml_bounds.reports import Reason, report_failure
from sciml_bounds.stopping import StoppingCriteria

__all__ = ["Preconditioner", "Reduced", "ReducedPoint", "minimize_reduced"]

#: Relative residual of the first inner solve; later ones decrease with |g|_P.
FIRST_ACCURACY = 0.1

#: Residual of the last inner solve, as a fraction of the tolerance; the rest is left to round-off and nonlinearity.
LAST_FRACTION = 0.9

#: Errors of gradients and Hessian products, as a fraction of the residuals that they are used for.
ERROR_FRACTION = 0.1

#: Armijo's constant, smallest step length, and relative round-off of J.
ARMIJO, MIN_STEP_LENGTH, ROUND_OFF = 1e-4, 1e-10, 10 * torch.finfo(torch.float64).eps

#: Maximum number of steps per inner solve.
MAX_INNER_STEPS = 1000

#: Number of consecutive steps without progress beyond round-off after which the iteration stops.
MAX_IDLE_STEPS = 5


class ReducedPoint(Protocol):
    """Interface of the reduced objective at one point.

    Attributes
    ----------
    v : Tensor
        The unknowns, shape (n,).
    fun : float
        J.
    gradient : Tensor
        g, shape (n,).
    violation : float
        Euclidean norm of the residual of the equation.
    """

    v: Tensor

    @property
    def fun(self) -> float:
        """The objective J."""
        ...

    @property
    def gradient(self) -> Tensor:
        """The gradient g, shape (n,)."""
        ...

    @property
    def violation(self) -> float:
        """Euclidean norm of the residual of the equation."""
        ...

    def hessian_product(self, p: Tensor, accuracy: float) -> Tensor:
        """Return H p, up to a relative error `accuracy`."""
        ...

    def solution(self) -> tuple[Any, Any]:
        """Return all unknowns and the multipliers, as they appear in the result."""
        ...


class Preconditioner(Protocol):
    """Interface of the preconditioner P."""

    def matvec(self, r: Tensor) -> Tensor:
        """Return P r."""
        ...


class Reduced(Protocol):
    """Interface of a reduced objective.

    Attributes
    ----------
    quadratic : bool
        Whether the objective is quadratic.
    least : float
        Expected smallest eigenvalue of P H. If Ritz values are smaller, |g|_P is enlarged; zero disables this.
    name : str
        Description of the method.
    """

    quadratic: bool
    least: float
    name: str

    def start(self) -> Tensor:
        """Return the initial point."""
        ...

    def at(self, v: Tensor, accuracy: float, near: Any) -> Any:
        """Evaluate at v, with a gradient error of about `accuracy` times `size`; `near` is a nearby point or None."""
        ...

    def preconditioner(self, point: Any, last: Any) -> Any:
        """Return P at a point; `last` is the previous one or None."""
        ...

    def size(self, point: Any, P: Any) -> float:
        """Return the reference value for the relative tolerance of |g|_P."""
        ...


@dataclass(frozen=True)
class _Direction:
    """A search direction, with the number of steps and the relative residual of the inner solve."""

    d: Tensor
    steps: int
    residual: float

    @property
    def capped(self) -> bool:
        return self.steps == MAX_INNER_STEPS


class _ReducedNewton:
    """The state of one minimisation."""

    def __init__(self, problem: Reduced, stop: StoppingCriteria, forcing: float | None) -> None:
        self.problem, self._stop, self._forcing = problem, stop, forcing
        self._accuracy = ERROR_FRACTION * (forcing or FIRST_ACCURACY)
        self.point: ReducedPoint = problem.at(problem.start(), self._accuracy, None)
        if not (math.isfinite(self.point.fun) and bool(torch.isfinite(self.point.gradient).all())):
            raise InputError(
                "a first derivative is NaN or infinite at x0; choose an x0 where the functions are smooth."
            )
        self.history: list[NewtonStep] = []
        self.evaluations, self.hessians = 1, 0
        self._P = problem.preconditioner(self.point, None)
        self._correction, self._ritz_steps = 1.0, 0  # factor of |.|_P, and number of steps of its Ritz value
        self._size = problem.size(self.point, self._P)
        self.tolerance = stop.tolerance(self._size)
        self._finest = ERROR_FRACTION * self.tolerance / self._size if self._size > 0 else ERROR_FRACTION
        self._measure()
        self._first = self._best = self.norm
        self._idle = 0

    def _measure(self) -> None:
        """Compute P g and the residual; evaluate more accurately if the residual is near the error of the gradient."""
        last, self._P = self._P, self.problem.preconditioner(self.point, self._P)
        if self._P is not last:
            self._correction, self._ritz_steps = 1.0, 0
        self._Pg = self._P.matvec(self.point.gradient)
        self._square = max(float(self.point.gradient @ self._Pg), 0.0)
        self.norm = self._correction * math.sqrt(self._square)
        if self.norm <= self.tolerance and self._accuracy > self._finest:
            self._refine()

    def _refine(self) -> None:
        """Evaluate the current point with the accuracy that the final tolerance needs."""
        self._accuracy = self._finest
        self.evaluations += 1
        self.point = self.problem.at(self.point.v, self._accuracy, self.point)
        self._measure()

    def run(self) -> Reason:
        """Iterate until a stopping criterion is met, and return the reason."""
        while self.norm > self.tolerance:
            if self._stop.maxiter_reached(len(self.history)):
                return Reason.MAXITER
            before = self.point.fun
            failure = self._advance()
            if failure is not None:
                return self._end(failure)
            if self._callback_stops():
                return Reason.STOPPED
            gained = self.norm < self._best or before - self.point.fun > ROUND_OFF * abs(before)
            self._idle = 0 if gained else self._idle + 1
            self._best = min(self._best, self.norm)
            if self._idle == MAX_IDLE_STEPS:
                return self._end(Reason.CAPPED if self.history[-1].inner_capped else Reason.STAGNATED)
        return Reason.CONVERGED if math.isfinite(self.norm) else Reason.NOT_FINITE

    def _callback_stops(self) -> bool:
        """Call the callback with x; return whether it requests to stop."""
        callback = self._stop.callback
        try:
            return callback is not None and bool(callback(self.point.solution()[0]))
        except StopIteration:
            return True

    def _end(self, failure: Reason) -> Reason:
        """Return the final reason; after stagnation, the residual without the correction factor decides."""
        if failure is not Reason.STAGNATED:
            return failure
        self.norm = math.sqrt(self._square)
        return Reason.CONVERGED if self.norm <= self.tolerance else failure

    def _inner_rtol(self) -> float:
        """Return the relative residual for the next inner solve, not below what the final tolerance needs."""
        last = LAST_FRACTION * self.tolerance / self.norm
        if self.problem.quadratic:
            return last
        return min(FIRST_ACCURACY, max(self.norm / self._first, last)) if self._forcing is None else self._forcing

    def _advance(self) -> Reason | None:
        rtol = self._inner_rtol()
        direction = self._solve(rtol)
        failure = self._search(direction, rtol)
        if failure is Reason.STAGNATED and self._accuracy > self._finest:  # the objective was not accurate enough
            self._refine()
            failure = self._search(self._solve(rtol), rtol) if self.norm > self.tolerance else None
        return failure

    def _search(self, direction: _Direction, rtol: float) -> Reason | None:
        """Backtracking line search on J with Armijo's rule."""
        slope = float(self.point.gradient @ direction.d)
        length, trials, not_finite = 1.0, 0, 0
        enough = self.point.fun + ROUND_OFF * abs(self.point.fun)
        needed = ERROR_FRACTION * rtol * self.norm / max(self._size, self.norm)
        accuracy = max(self._finest, min(self._accuracy, needed))
        while length >= MIN_STEP_LENGTH:
            trials += 1
            self.evaluations += 1
            trial = self.problem.at(self.point.v + length * direction.d, accuracy, self.point)
            not_finite += not math.isfinite(trial.fun)
            if trial.fun <= enough + ARMIJO * length * slope:
                self._accuracy, self.point = accuracy, trial
                self._measure()
                self._record(direction, length, (trials, not_finite))
                return None
            length /= 2
        return Reason.NOT_FINITE if not_finite else Reason.STAGNATED

    def _record(self, direction: _Direction, length: float, tried: tuple[int, int]) -> None:
        nan = math.nan
        self.history.append(
            NewtonStep(
                self.point.fun, self.norm, self.point.violation, length, *tried, 0.0, 0.0, nan, nan, direction.steps,
                direction.residual, direction.capped,
            )
        )  # fmt: skip

    def _solve(self, rtol: float) -> _Direction:
        """Solve H d = -g by conjugate gradients, to a relative residual `rtol` or until H is found not to be positive.

        In the latter case the current iterate is a descent direction; at the first step, it is -P g.
        """
        self.hessians += 1
        d, r = torch.zeros_like(self.point.v), self.point.gradient.clone()
        p, rho = self._Pg.neg(), self._square
        wanted, alphas, betas = (rtol * self.norm) ** 2, list[float](), list[float]()
        while len(alphas) < MAX_INNER_STEPS and not self._small_enough(rho, wanted, alphas, betas):
            Hp = self.point.hessian_product(p, min(ERROR_FRACTION, ERROR_FRACTION * math.sqrt(wanted / rho)))
            curvature = float(p @ Hp)
            if not curvature > 0:
                d = d if alphas else p
                break
            alphas.append(rho / curvature)
            d.add_(p, alpha=alphas[-1])
            r.add_(Hp, alpha=alphas[-1])
            z = self._P.matvec(r)
            before, rho = rho, float(r @ z)
            betas.append(rho / before)
            p.mul_(betas[-1]).sub_(z)
        return _Direction(d, len(alphas), math.sqrt(max(rho, 0.0) / self._square))

    def _small_enough(self, rho: float, wanted: float, alphas: list[float], betas: list[float]) -> bool:
        """Whether a residual with |r|_P^2 = rho is small enough, given the coefficients of the steps so far.

        The squared energy error is at most rho divided by the smallest eigenvalue of P H, which the smallest Ritz value
        approximates. The Ritz value of the longest solve so far is used.
        """
        if rho > wanted or not alphas:
            return False
        if self.problem.least > 0 and len(alphas) >= self._ritz_steps:
            lengths, ratios = (torch.tensor([part], dtype=torch.float64).mT for part in (alphas, betas))
            self._ritz_steps = len(alphas)
            ritz = float(smallest_ritz_value(lengths, ratios, torch.tensor([self._ritz_steps])))
            self._correction = math.sqrt(max(1.0, self.problem.least / ritz))
        return self._correction**2 * rho <= wanted


def minimize_reduced(
    problem: Reduced, stop: StoppingCriteria, *, forcing: float | None = None, throw: bool = False
) -> OptimizeResult:
    """Minimise a reduced objective.

    Parameters
    ----------
    problem : Reduced
        The objective.
    stop : StoppingCriteria
        Criteria for |g|_P, whose reference is the size of the problem; the callback is called with x.
    forcing : float or None
        Relative residual of each inner solve for objectives that are not quadratic; by default adaptive.
    throw : bool
        Raise `ConvergenceError` instead of warning when the tolerance is not reached.

    Returns
    -------
    OptimizeResult
        The result.

    Raises
    ------
    InputError
        If an argument is out of range, or a derivative at the initial point is not finite.
    ConvergenceError
        If `throw` is true and the tolerance is not reached.
    """
    stop.check()
    if forcing is not None:
        require_fraction(forcing, "forcing")
    begin = time.perf_counter()
    iteration = _ReducedNewton(problem, stop, forcing)
    reason, point = iteration.run(), iteration.point
    x, multipliers = point.solution()
    result = OptimizeResult(
        x=x, fun=point.fun, multipliers=multipliers, kkt_residual=iteration.norm, constraint_violation=point.violation,
        tolerance=iteration.tolerance, reason=reason, nit=len(iteration.history), nfev=iteration.evaluations,
        njev=len(iteration.history) + 1, nhev=iteration.hessians, history=tuple(iteration.history),
        method=problem.name, seconds=time.perf_counter() - begin,
    )  # fmt: skip
    if not result.success and reason is not Reason.STOPPED:
        report_failure("minimize", reason, result.progress, throw=throw, advice={reason: result.advice})
    return result
