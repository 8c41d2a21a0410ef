"""Newton's method for objectives in which an equation is solved for some of the unknowns, in norms of functions.

J(v) has gradients g and Hessians H that are known by products, each as accurate as it is asked to be, and a symmetric
positive definite operator P close to H^-1. Residuals are measured as |g|_P: where P is H^-1 and J quadratic, half its
square is J - min J, whatever the mesh; where conjugate gradients see that P is smaller somewhere than it is meant to
be, residuals count for as much more (Meurant and Tichy, Numer. Algorithms 62 (2013) 163-191). Steps are solved for by
conjugate gradients as accurately as they are worth (Eisenstat and Walker, SIAM J. Sci. Comput. 17 (1996) 16-32), up to
where H is not positive (Steihaug, SIAM J. Numer. Anal. 20 (1983) 626-637), and cut by Armijo's rule. Products
may be less accurate the smaller the residual has become (van den Eshof and Sleijpen, SIAM J. Matrix Anal. Appl. 26
(2004) 125-153).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from sciml_bounds.arrays import require_callback, require_count, require_number
from sciml_bounds.errors import InputError
from sciml_bounds.krylov._error_bounds import smallest_ritz_value
from sciml_bounds.optimize._optimize_result import NewtonStep, OptimizeResult
from sciml_bounds.reports import Reason, report_failure

__all__ = ["Ending", "Preconditioner", "Reduced", "ReducedPoint", "minimize_reduced"]

#: Relative residual of the first inner solve; later ones are as much smaller as |g|_P is.
LOOSEST = 0.1

#: What the last inner solve is asked for, in parts of the tolerance: a part is left to round-off and curvature.
LAST = 0.9

#: Errors of gradients and of products with Hessians, in parts of what they serve for.
PART = 0.1

#: Armijo's constant, the shortest step, and the part of J that round-off hides.
ARMIJO, SHORTEST, ROUND_OFF = 1e-4, 1e-10, 10 * torch.finfo(torch.float64).eps

#: Largest number of steps of one inner solve.
CAP = 1000

#: So many steps in a row that gain nothing but round-off are an end.
IDLE = 5


class ReducedPoint(Protocol):
    """What is known at unknowns v (n,).

    Attributes
    ----------
    v
        The unknowns.
    fun, gradient
        J and g, shape (n,).
    violation
        The Euclidean norm of what is left of the equation.
    """

    v: Tensor

    @property
    def fun(self) -> float:
        """J."""
        ...

    @property
    def gradient(self) -> Tensor:
        """Its gradient, shape (n,)."""
        ...

    @property
    def violation(self) -> float:
        """What is left of the equation."""
        ...

    def hessian_product(self, p: Tensor, accuracy: float) -> Tensor:
        """Return H p with that relative error."""
        ...

    def solution(self) -> tuple[Any, Any]:
        """Return all unknowns, and the multipliers, as the result is to have them."""
        ...


class Preconditioner(Protocol):
    """P."""

    def matvec(self, r: Tensor) -> Tensor:
        """Return P r."""
        ...


class Reduced(Protocol):
    """An objective.

    Attributes
    ----------
    quadratic
        Whether it is.
    least
        What the eigenvalues of P H are at least where P is as good as it is meant to be; zero to take |g|_P as it is.
    name
        What it is minimised by, in words.
    """

    quadratic: bool
    least: float
    name: str

    def start(self) -> Tensor:
        """Return where to start."""
        ...

    def at(self, v: Tensor, accuracy: float, near: Any) -> Any:
        """Evaluate, with an error of the gradient of about that part of `size`; `near` is a point close by, or None."""
        ...

    def preconditioner(self, point: Any, last: Any) -> Any:
        """Return P at a point, given the one that was used last or None."""
        ...

    def size(self, point: Any, P: Any) -> float:
        """Return what tolerances of |g|_P are relative to."""
        ...


@dataclass(frozen=True)
class Ending:
    """When to stop: |g|_P at most max(rtol times the size of the problem, atol), iterations, a callback given x."""

    rtol: float
    atol: float
    maxiter: int
    callback: Callable[[Any], bool | None] | None = None

    def __post_init__(self) -> None:
        numbers = require_number(self.rtol, "rtol"), require_number(self.atol, "atol")
        if min(numbers) < 0 or max(numbers) == 0:
            raise InputError(
                f"rtol={self.rtol} and atol={self.atol} must not be negative, and one of them must be positive."
            )
        require_count(self.maxiter, "maxiter", 0)
        require_callback(self.callback)

    def called(self, point: ReducedPoint) -> bool:
        """Whether the callback wants to stop."""
        try:
            return self.callback is not None and bool(self.callback(point.solution()[0]))
        except StopIteration:
            return True


@dataclass(frozen=True)
class _Direction:
    """Where to go, and the steps and the relative residual of the solve that led there."""

    d: Tensor
    steps: int
    residual: float

    @property
    def capped(self) -> bool:
        return self.steps == CAP


class _Iteration:
    """The state of one minimisation."""

    def __init__(self, problem: Reduced, ending: Ending, forcing: float | None) -> None:
        self.problem, self.ending, self._forcing = problem, ending, forcing
        self._accuracy = PART * (forcing or LOOSEST)
        self.point: ReducedPoint = problem.at(problem.start(), self._accuracy, None)
        if not (math.isfinite(self.point.fun) and bool(torch.isfinite(self.point.gradient).all())):
            raise InputError("a first derivative is NaN or infinite at x0; start where the functions are smooth.")
        self.history: list[NewtonStep] = []
        self.evaluations, self.hessians = 1, 0
        self._P = problem.preconditioner(self.point, None)
        self._lack, self._seen = 1.0, 0  # what |.|_P is multiplied by, and how many steps it took to see that
        self._size = problem.size(self.point, self._P)
        self.tolerance = max(ending.rtol * self._size, ending.atol)
        self._finest = PART * self.tolerance / self._size if self._size > 0 else PART
        self._measure()
        self._first = self._best = self.norm
        self._idle = 0

    def _measure(self) -> None:
        """Compute P g and the residual, again where less is left than the gradient is accurate to."""
        last, self._P = self._P, self.problem.preconditioner(self.point, self._P)
        if self._P is not last:
            self._lack, self._seen = 1.0, 0
        self._Pg = self._P.matvec(self.point.gradient)
        self._square = max(float(self.point.gradient @ self._Pg), 0.0)
        self.norm = self._lack * math.sqrt(self._square)
        if self.norm <= self.tolerance and self._accuracy > self._finest:
            self._refine()

    def _refine(self) -> None:
        """Evaluate where we are as accurately as the end needs it."""
        self._accuracy = self._finest
        self.evaluations += 1
        self.point = self.problem.at(self.point.v, self._accuracy, self.point)
        self._measure()

    def run(self) -> Reason:
        """Iterate until the end, and tell why it is one."""
        while self.norm > self.tolerance:
            if len(self.history) >= self.ending.maxiter:
                return Reason.MAXITER
            before = self.point.fun
            failure = self._advance()
            if failure is not None:
                return self._end(failure)
            if self.ending.called(self.point):
                return Reason.STOPPED
            gained = self.norm < self._best or before - self.point.fun > ROUND_OFF * abs(before)
            self._idle = 0 if gained else self._idle + 1
            self._best = min(self._best, self.norm)
            if self._idle == IDLE:
                return self._end(Reason.CAPPED if self.history[-1].inner_capped else Reason.STAGNATED)
        return Reason.CONVERGED if math.isfinite(self.norm) else Reason.NOT_FINITE

    def _end(self, failure: Reason) -> Reason:
        """Take the residual as it is measured where nothing but round-off is left, which P lacks nothing for."""
        if failure is not Reason.STAGNATED:
            return failure
        self.norm = math.sqrt(self._square)
        return Reason.CONVERGED if self.norm <= self.tolerance else failure

    def _worth(self) -> float:
        """Tell the relative residual that a step is worth: no smaller than what the end asks for."""
        last = LAST * self.tolerance / self.norm
        if self.problem.quadratic:
            return last
        return min(LOOSEST, max(self.norm / self._first, last)) if self._forcing is None else self._forcing

    def _advance(self) -> Reason | None:
        worth = self._worth()
        direction = self._solve(worth)
        failure = self._search(direction, worth)
        if failure is Reason.STAGNATED and self._accuracy > self._finest:  # the objective was not known well enough
            self._refine()
            failure = self._search(self._solve(worth), worth) if self.norm > self.tolerance else None
        return failure

    def _search(self, direction: _Direction, worth: float) -> Reason | None:
        """Halve the step until J has fallen enough."""
        slope = float(self.point.gradient @ direction.d)
        length, trials, not_finite = 1.0, 0, 0
        enough = self.point.fun + ROUND_OFF * abs(self.point.fun)
        accuracy = max(self._finest, min(self._accuracy, PART * worth * self.norm / max(self._size, self.norm)))
        while length >= SHORTEST:
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

    def _solve(self, worth: float) -> _Direction:
        """Solve H d = -g by conjugate gradients until the residual is `worth` of g, or H is seen not to be positive.

        There what has been found is a direction of descent, or -P g if that is nothing.
        """
        self.hessians += 1
        d, r = torch.zeros_like(self.point.v), self.point.gradient.clone()
        p, rho = self._Pg.neg(), self._square
        wanted, alphas, betas = (worth * self.norm) ** 2, list[float](), list[float]()
        while len(alphas) < CAP and not self._enough(rho, wanted, alphas, betas):
            Hp = self.point.hessian_product(p, min(PART, PART * math.sqrt(wanted / rho)))
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

    def _enough(self, rho: float, wanted: float, alphas: list[float], betas: list[float]) -> bool:
        """Whether a residual with |r|_P^2 = rho is small enough, given the coefficients of the steps so far.

        The square of the error in energy is at most rho over the least eigenvalue of P H, which the smallest Ritz value
        comes close to; a short solve sees less of the spectrum than a longer one before it.
        """
        if rho > wanted or not alphas:
            return False
        if self.problem.least > 0 and len(alphas) >= self._seen:
            lengths, ratios = (torch.tensor([part], dtype=torch.float64).mT for part in (alphas, betas))
            self._seen = len(alphas)
            ritz = float(smallest_ritz_value(lengths, ratios, torch.tensor([self._seen])))
            self._lack = math.sqrt(max(1.0, self.problem.least / ritz))
        return self._lack**2 * rho <= wanted


def minimize_reduced(
    problem: Reduced, ending: Ending, *, forcing: float | None = None, throw: bool = False
) -> OptimizeResult:
    """Minimise a reduced objective.

    Parameters
    ----------
    problem
        What to minimise.
    ending
        When to stop.
    forcing
        Relative residual of each inner solve where the objective is not quadratic; by default as small as a step is
        worth.
    throw
        Raise `ConvergenceError` instead of warning.

    Raises
    ------
    InputError
        If an argument is out of its range, or a derivative is not finite at the start.
    ConvergenceError
        If `throw` is true and the tolerance is not reached.
    """
    if forcing is not None and not 0 < require_number(forcing, "forcing") < 1:
        raise InputError(f"forcing is {forcing!r}; it must be between 0 and 1.")
    begin = time.perf_counter()
    iteration = _Iteration(problem, ending, forcing)
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
