"""Newton's method for distributed control in the state alone: the equation says which control makes a state.

With z(u) = M^-1 (K u + M phi(u) - load) the objective is a function of the state, whose derivatives need no solve:

    J(u) = 1/2 |u - t|^2 + w/2 |z(u)|^2,   g = M (u - t) + w A z,   H = M W + w A M^-1 A

with A = K + M phi'(u) and W = 1 + w z phi''(u); l = w z are the multipliers. L M^-1 L w with L = A + M sqrt(W / w) lies
between H and 2 H where phi is zero (Pearson and Wathen, Numer. Linear Algebra Appl. 19 (2012) 816-829), so that
conjugate gradients with a cycle for each L^-1 take a number of steps that depends on neither mesh nor weight.

Residuals are measured as |g|_P, P = L^-1 M L^-1 / w: between sqrt(J(u) - min J) and sqrt(2 (J(u) - min J)) where J is
quadratic and L^-1 exact. That is a norm of functions, not of vectors, and one accuracy means the same on any mesh.

Legend: u state, z control, t target, (n,) each; K stiffness, M diagonal mass, w weight of the control.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sciml_bounds.arrays import require_callback, require_count, require_number
from sciml_bounds.errors import InputError
from sciml_bounds.newton.result import NewtonStep, OptimizeResult
from sciml_bounds.operators.linear_operator import LinearOperator
from sciml_bounds.reports import Reason, report_failure

if TYPE_CHECKING:
    from sciml_bounds.newton.control import TrackingProgram

__all__ = ["Ending", "StatePoint", "StatePreconditioner", "minimize_in_state"]

#: Relative residual of the first inner solve of a nonlinear problem; later ones are as much smaller as |g|_P is.
LOOSEST = 0.1

#: What the last inner solve is asked for, in parts of the tolerance: a part is left to round-off and curvature.
LAST = 0.9

#: Armijo's constant, the shortest step, and the part of J that round-off hides.
ARMIJO, SHORTEST, ROUND_OFF = 1e-4, 1e-10, 10 * torch.finfo(torch.float64).eps

#: Largest number of steps of one inner solve.
CAP = 1000

#: A cycle is kept until the diagonal that it was set up for has changed by more than this part somewhere.
STALE = 0.2

#: So many steps in a row without a smaller residual are an end.
IDLE = 5


@dataclass(frozen=True)
class Ending:
    """When to stop: |g|_P at most max(rtol times that of the data, atol), iterations, and a callback given x."""

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

    def called(self, x: Tensor) -> bool:
        """Whether the callback wants to stop."""
        try:
            return self.callback is not None and bool(self.callback(x))
        except StopIteration:
            return True


@dataclass(frozen=True, eq=False)
class StatePoint:
    """A state, the control that makes it, and what follows from both."""

    program: TrackingProgram
    u: Tensor
    z: Tensor

    @classmethod
    def of(cls, program: TrackingProgram, u: Tensor) -> StatePoint:
        """Find the control that makes the state u (n,)."""
        zero = torch.zeros_like(u)
        return cls(program, u, program.equation(torch.cat([u, zero])) / program.stiffness.mass)

    @property
    def x(self) -> Tensor:
        """State and control, shape (2n,)."""
        return torch.cat([self.u, self.z])

    @cached_property
    def fun(self) -> float:
        """J."""
        mass, weight = self.program.stiffness.mass, self.program.weight
        return float(mass @ (self.u - self.program.target).square() + weight * (mass @ self.z.square())) / 2

    @cached_property
    def _derivatives(self) -> tuple[Tensor, Tensor] | None:
        return None if self.program.nonlinearity is None else self.program.derivatives(self.x)

    @cached_property
    def part(self) -> Tensor | None:
        """W (n,); None where it is one."""
        return None if self._derivatives is None else 1 + self.program.weight * self.z * self._derivatives[1]

    @cached_property
    def _absorption(self) -> Tensor | None:
        return None if self._derivatives is None else self.program.stiffness.mass * self._derivatives[0]

    def linearised(self, p: Tensor) -> Tensor:
        """Return A p."""
        product = self.program.stiffness.matvec(p)
        return product if self._absorption is None else product.addcmul_(self._absorption, p)

    @cached_property
    def gradient(self) -> Tensor:
        """g, shape (n,)."""
        program = self.program
        return self.linearised(program.weight * self.z) + program.stiffness.mass * (self.u - program.target)

    def hessian_product(self, p: Tensor) -> Tensor:
        """Return H p."""
        mass = self.program.stiffness.mass
        product = self.linearised(self.linearised(p).div_(mass).mul_(self.program.weight))
        return product.addcmul_(mass, p if self.part is None else self.part * p)

    def multipliers(self) -> Tensor:
        """Return l = w z, which solves the adjoint equation where the gradient is zero; shape (n,)."""
        return self.program.weight * self.z


class StatePreconditioner:
    """P = L^-1 M L^-1 / w, with a cycle for L^-1."""

    def __init__(self, program: TrackingProgram, point: StatePoint) -> None:
        self._mass, self._weight = program.stiffness.mass, program.weight
        self._diagonal = program.shift(point.x, point.multipliers())
        self._cycle: LinearOperator = program.stiffness.cycle(self._diagonal)

    def is_stale(self, program: TrackingProgram, point: StatePoint) -> bool:
        """Whether L has changed so much that the cycle is of little use."""
        if program.nonlinearity is None:
            return False
        wanted = program.shift(point.x, point.multipliers())
        return bool(((wanted - self._diagonal).abs() > STALE * self._diagonal).any())

    def matvec(self, r: Tensor) -> Tensor:
        """Return P r."""
        return self._cycle.matvec(self._cycle.matvec(r).mul_(self._mass)).div_(self._weight)


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

    def __init__(self, program: TrackingProgram, ending: Ending, forcing: float | None) -> None:
        self.program, self.ending, self._forcing = program, ending, forcing
        self.point = StatePoint.of(program, torch.zeros_like(program.target))
        if not (math.isfinite(self.point.fun) and bool(torch.isfinite(self.point.gradient).all())):
            raise InputError("a first derivative is NaN or infinite at x0; start where the functions are smooth.")
        self.history: list[NewtonStep] = []
        self.evaluations, self.hessians = 1, 0
        self._P = StatePreconditioner(program, self.point)
        self.tolerance = max(ending.rtol * self._data(), ending.atol)
        self._measure()
        self._first = self._best = self.norm
        self._idle = 0

    def _data(self) -> float:
        """Return the size of target and load: |t| and about that of the state that the load makes."""
        mass, load = self.program.stiffness.mass, self.program.load
        square = float(mass @ self.program.target.square())
        if bool(load.any()):
            square += self.program.weight * float(load @ self._P.matvec(load))
        return math.sqrt(square)

    def _measure(self) -> None:
        """Compute P g and |g|_P."""
        if self._P.is_stale(self.program, self.point):
            self._P = StatePreconditioner(self.program, self.point)
        self._Pg = self._P.matvec(self.point.gradient)
        self.norm = math.sqrt(max(float(self.point.gradient @ self._Pg), 0.0))

    def run(self) -> Reason:
        """Iterate until the end, and tell why it is one."""
        while self.norm > self.tolerance:
            if len(self.history) >= self.ending.maxiter:
                return Reason.MAXITER
            failure = self._advance()
            if failure is not None:
                return failure
            if self.ending.called(self.point.x):
                return Reason.STOPPED
            self._idle = 0 if self.norm < self._best else self._idle + 1
            self._best = min(self._best, self.norm)
            if self._idle == IDLE:
                return Reason.CAPPED if self.history[-1].inner_capped else Reason.STAGNATED
        return Reason.CONVERGED if math.isfinite(self.norm) else Reason.NOT_FINITE

    def _accuracy(self) -> float:
        """Tell the relative residual that a step is worth: no smaller than what the end asks for."""
        last = LAST * self.tolerance / self.norm
        if self.program.nonlinearity is None:
            return last
        return min(LOOSEST, max(self.norm / self._first, last)) if self._forcing is None else self._forcing

    def _advance(self) -> Reason | None:
        direction = self._solve(self._accuracy())
        slope = float(self.point.gradient @ direction.d)
        length, trials, not_finite = 1.0, 0, 0
        enough = self.point.fun + ROUND_OFF * abs(self.point.fun)
        while length >= SHORTEST:
            trials += 1
            self.evaluations += 1
            trial = StatePoint.of(self.program, self.point.u + length * direction.d)
            not_finite += not math.isfinite(trial.fun)
            if trial.fun <= enough + ARMIJO * length * slope:
                self._accept(trial, direction, length, (trials, not_finite))
                return None
            length /= 2
        return Reason.NOT_FINITE if not_finite else Reason.STAGNATED

    def _accept(self, trial: StatePoint, direction: _Direction, length: float, tried: tuple[int, int]) -> None:
        self.point = trial
        self._measure()
        nan = math.nan
        violation = float(self.program.equation(trial.x).norm())
        self.history.append(
            NewtonStep(
                trial.fun, self.norm, violation, length, *tried, 0.0, 0.0, nan, nan, direction.steps,
                direction.residual, direction.capped,
            )
        )  # fmt: skip

    def _solve(self, accuracy: float) -> _Direction:
        """Solve H d = -g by conjugate gradients until |H d + g|_P <= accuracy |g|_P, or H is seen not to be positive.

        There what has been found is a direction of descent, or -P g if that is nothing (Steihaug, SIAM J. Numer. Anal.
        20 (1983) 626-637).
        """
        self.hessians += 1
        d, r, z = torch.zeros_like(self.point.u), self.point.gradient.clone(), self._Pg
        p, rho = z.neg(), self.norm**2
        wanted, steps = (accuracy * self.norm) ** 2, 0
        while rho > wanted and steps < CAP:
            Hp = self.point.hessian_product(p)
            curvature = float(p @ Hp)
            if not curvature > 0:
                d = d if steps else p
                break
            alpha = rho / curvature
            d.add_(p, alpha=alpha)
            r.add_(Hp, alpha=alpha)
            z = self._P.matvec(r)
            before, rho = rho, float(r @ z)
            p.mul_(rho / before).sub_(z)
            steps += 1
        return _Direction(d, steps, math.sqrt(max(rho, 0.0)) / self.norm)


def minimize_in_state(
    program: TrackingProgram, ending: Ending, *, forcing: float | None = None, throw: bool = False
) -> OptimizeResult:
    """Minimise from the state zero.

    Parameters
    ----------
    program
        What to minimise.
    ending
        When to stop.
    forcing
        Relative residual of each inner solve of a nonlinear problem; by default as small as a step is worth.
    throw
        Raise `ConvergenceError` instead of warning.

    Raises
    ------
    InputError
        If an argument is out of its range, or a derivative is not finite at the state zero.
    ConvergenceError
        If `throw` is true and the tolerance is not reached.
    """
    if forcing is not None and not 0 < require_number(forcing, "forcing") < 1:
        raise InputError(f"forcing is {forcing!r}; it must be between 0 and 1.")
    begin = time.perf_counter()
    iteration = _Iteration(program, ending, forcing)
    reason, point = iteration.run(), iteration.point
    result = OptimizeResult(
        x=point.x, fun=point.fun, multipliers=point.multipliers(), kkt_residual=iteration.norm,
        constraint_violation=float(program.equation(point.x).norm()), tolerance=iteration.tolerance, reason=reason,
        nit=len(iteration.history), nfev=iteration.evaluations, njev=len(iteration.history) + 1,
        nhev=iteration.hessians, history=tuple(iteration.history),
        method="Newton in the state, inner solver conjugate gradients", seconds=time.perf_counter() - begin,
    )  # fmt: skip
    if not result.success and reason is not Reason.STOPPED:
        report_failure("minimize", reason, result.progress, throw=throw, advice={reason: result.advice})
    return result
