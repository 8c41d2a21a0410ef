"""Distributed control with a reduced objective of the state alone; the equation gives the control for each state.

With z(u) = M^-1 (K u + M phi(u) - load), the objective is a function of the state, and its derivatives need no solve:

    J(u) = 1/2 |u - t|^2 + w/2 |z(u)|^2,   g = M (u - t) + w A z,   H = M W + w A M^-1 A

with A = K + M phi'(u) and W = 1 + w z phi''(u); l = w z are the multipliers. Let L = A + M sqrt(W / w). For phi = 0,
w L M^-1 L lies between H and 2 H (Pearson and Wathen, Numer. Linear Algebra Appl. 19 (2012) 816-829). So the number of
iterations of conjugate gradients, with a multigrid cycle for each L^-1, depends neither on the mesh nor on the weight,
and residuals |g|_P with P = L^-1 M L^-1 / w lie between sqrt(J - min J) and sqrt(2 (J - min J)). If the coefficient
jumps from cell to cell, cycles may be much smaller than L^-1; Ritz values of conjugate gradients detect this.

Notation: u state, z control, t target, (n,) each; K stiffness, M diagonal mass, w weight of the control.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciml_bounds.operators._linear_operator import LinearOperator

if TYPE_CHECKING:
    from sciml_bounds.control._tracking_functions import TrackingFunctions

__all__ = ["StateObjective", "StatePoint", "StatePreconditioner"]

#: Expected smallest eigenvalue of P H: 1/2 with exact inverses, and about 20% less with good cycles.
EXPECTED_LEAST_EIGENVALUE = 0.4

#: A cycle is set up again when an entry of its diagonal has changed by more than this fraction.
MAX_DIAGONAL_CHANGE = 0.2


@dataclass(frozen=True, eq=False)
class StatePoint:
    """The reduced objective at one state, with the control that produces it."""

    program: TrackingFunctions
    v: Tensor
    z: Tensor

    @classmethod
    def of(cls, program: TrackingFunctions, u: Tensor) -> StatePoint:
        """Compute the control that produces the state u (n,)."""
        zero = torch.zeros_like(u)
        return cls(program, u, program.equation(torch.cat([u, zero])) / program.stiffness.mass)

    @cached_property
    def x(self) -> Tensor:
        """State and control, shape (2n,)."""
        return torch.cat([self.v, self.z])

    @cached_property
    def fun(self) -> float:
        """The objective J."""
        return float(self.program.fun(self.x))

    @cached_property
    def _derivatives(self) -> tuple[Tensor, Tensor] | None:
        return None if self.program.nonlinearity is None else self.program.derivatives(self.x)

    @cached_property
    def _part(self) -> Tensor | None:
        """W (n,); None for the linear equation, where W = 1."""
        return None if self._derivatives is None else 1 + self.program.weight * self.z * self._derivatives[1]

    @cached_property
    def _absorption(self) -> Tensor | None:
        return None if self._derivatives is None else self.program.stiffness.mass * self._derivatives[0]

    def _linearised(self, p: Tensor) -> Tensor:
        """Apply A to p."""
        product = self.program.stiffness.matvec(p)
        return product if self._absorption is None else product.addcmul_(self._absorption, p)

    @cached_property
    def gradient(self) -> Tensor:
        """The gradient g, shape (n,)."""
        program = self.program
        return self._linearised(program.weight * self.z) + program.stiffness.mass * (self.v - program.target)

    @cached_property
    def violation(self) -> float:
        """Residual of the equation, which is round-off."""
        return float(self.program.equation(self.x).norm())

    def hessian_product(self, p: Tensor, accuracy: float = 0.0) -> Tensor:
        """Return H p, exactly."""
        mass = self.program.stiffness.mass
        product = self._linearised(self._linearised(p).div_(mass).mul_(self.program.weight))
        return product.addcmul_(mass, p if self._part is None else self._part * p)

    def solution(self) -> tuple[Tensor, Tensor]:
        """Return x, and l = w z, which solves the adjoint equation where the gradient is zero."""
        return self.x, self.program.weight * self.z


class StatePreconditioner:
    """P = L^-1 M L^-1 / w, with a cycle for L^-1."""

    def __init__(self, program: TrackingFunctions, point: StatePoint) -> None:
        self._mass, self._weight = program.stiffness.mass, program.weight
        self._diagonal = program.shift(*point.solution())
        self._cycle: LinearOperator = program.stiffness.cycle(self._diagonal)

    def is_stale(self, program: TrackingFunctions, point: StatePoint) -> bool:
        """Whether L has changed too much for the cycle to be a good preconditioner."""
        if program.nonlinearity is None:
            return False
        wanted = program.shift(*point.solution())
        return bool(((wanted - self._diagonal).abs() > MAX_DIAGONAL_CHANGE * self._diagonal).any())

    def matvec(self, r: Tensor) -> Tensor:
        """Return P r."""
        return self._cycle.matvec(self._cycle.matvec(r).mul_(self._mass)).div_(self._weight)


class StateObjective:
    """The reduced objective J of a tracking program, for `minimize_reduced`."""

    least = EXPECTED_LEAST_EIGENVALUE
    name = "Newton in the state, inner solver conjugate gradients"

    def __init__(self, program: TrackingFunctions) -> None:
        self.program = program
        self.quadratic = program.nonlinearity is None

    def start(self) -> Tensor:
        """Return the zero state."""
        return torch.zeros_like(self.program.target)

    def at(self, v: Tensor, accuracy: float, near: StatePoint | None) -> StatePoint:
        """Evaluate at the state v, exactly."""
        return StatePoint.of(self.program, v)

    def preconditioner(self, point: StatePoint, last: StatePreconditioner | None) -> StatePreconditioner:
        """Return P; the last one is reused unless L has changed too much."""
        if last is None or last.is_stale(self.program, point):
            return StatePreconditioner(self.program, point)
        return last

    def size(self, point: StatePoint, P: StatePreconditioner) -> float:
        """Return the size of the data: target, and approximately the state produced by the load."""
        mass, load = self.program.stiffness.mass, self.program.load
        square = float(mass @ self.program.target.square())
        if bool(load.any()):
            square += self.program.weight * float(load @ P.matvec(load))
        return math.sqrt(square)
