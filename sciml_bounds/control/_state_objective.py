"""Distributed control as an objective of the state alone: the equation says which control makes a state.

With z(u) = M^-1 (K u + M phi(u) - load) the objective is a function of the state, whose derivatives need no solve:

    J(u) = 1/2 |u - t|^2 + w/2 |z(u)|^2,   g = M (u - t) + w A z,   H = M W + w A M^-1 A

with A = K + M phi'(u) and W = 1 + w z phi''(u); l = w z are the multipliers. L M^-1 L w with L = A + M sqrt(W / w) lies
between H and 2 H where phi is zero (Pearson and Wathen, Numer. Linear Algebra Appl. 19 (2012) 816-829), so that
conjugate gradients with a cycle for each L^-1 take a number of steps that depends on neither mesh nor weight. Residuals
|g|_P with P = L^-1 M L^-1 / w lie between sqrt(J - min J) and sqrt(2 (J - min J)) there. Cycles may be much smaller
than L^-1 where coefficients jump from cell to cell, and then conjugate gradients tell by how much.

Legend: u state, z control, t target, (n,) each; K stiffness, M diagonal mass, w weight of the control.
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

#: What the eigenvalues of P H are at least: 1/2 with inverses, and less with cycles, by 20 % where they are good ones.
LEAST = 0.4

#: A cycle is kept until the diagonal that it was set up for has changed by more than this part somewhere.
STALE = 0.2


@dataclass(frozen=True, eq=False)
class StatePoint:
    """A state, the control that makes it, and what follows from both."""

    program: TrackingFunctions
    v: Tensor
    z: Tensor

    @classmethod
    def of(cls, program: TrackingFunctions, u: Tensor) -> StatePoint:
        """Find the control that makes the state u (n,)."""
        zero = torch.zeros_like(u)
        return cls(program, u, program.equation(torch.cat([u, zero])) / program.stiffness.mass)

    @cached_property
    def x(self) -> Tensor:
        """State and control, shape (2n,)."""
        return torch.cat([self.v, self.z])

    @cached_property
    def fun(self) -> float:
        """J."""
        return float(self.program.fun(self.x))

    @cached_property
    def _derivatives(self) -> tuple[Tensor, Tensor] | None:
        return None if self.program.nonlinearity is None else self.program.derivatives(self.x)

    @cached_property
    def _part(self) -> Tensor | None:
        """W (n,); None where it is one."""
        return None if self._derivatives is None else 1 + self.program.weight * self.z * self._derivatives[1]

    @cached_property
    def _absorption(self) -> Tensor | None:
        return None if self._derivatives is None else self.program.stiffness.mass * self._derivatives[0]

    def _linearised(self, p: Tensor) -> Tensor:
        """Return A p."""
        product = self.program.stiffness.matvec(p)
        return product if self._absorption is None else product.addcmul_(self._absorption, p)

    @cached_property
    def gradient(self) -> Tensor:
        """Its gradient, shape (n,)."""
        program = self.program
        return self._linearised(program.weight * self.z) + program.stiffness.mass * (self.v - program.target)

    @cached_property
    def violation(self) -> float:
        """What round-off leaves of the equation."""
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
        """Whether L has changed so much that the cycle is of little use."""
        if program.nonlinearity is None:
            return False
        wanted = program.shift(*point.solution())
        return bool(((wanted - self._diagonal).abs() > STALE * self._diagonal).any())

    def matvec(self, r: Tensor) -> Tensor:
        """Return P r."""
        return self._cycle.matvec(self._cycle.matvec(r).mul_(self._mass)).div_(self._weight)


class StateObjective:
    """J of a tracking program, for `minimize_reduced`."""

    least = LEAST
    name = "Newton in the state, inner solver conjugate gradients"

    def __init__(self, program: TrackingFunctions) -> None:
        self.program = program
        self.quadratic = program.nonlinearity is None

    def start(self) -> Tensor:
        """Return the state zero."""
        return torch.zeros_like(self.program.target)

    def at(self, v: Tensor, accuracy: float, near: StatePoint | None) -> StatePoint:
        """Evaluate, exactly."""
        return StatePoint.of(self.program, v)

    def preconditioner(self, point: StatePoint, last: StatePreconditioner | None) -> StatePreconditioner:
        """Return P, the last one as long as it is of use."""
        if last is None or last.is_stale(self.program, point):
            return StatePreconditioner(self.program, point)
        return last

    def size(self, point: StatePoint, P: StatePreconditioner) -> float:
        """Return the size of the data: |t|, and about that of the state that the load makes."""
        mass, load = self.program.stiffness.mass, self.program.load
        square = float(mass @ self.program.target.square())
        if bool(load.any()):
            square += self.program.weight * float(load @ P.matvec(load))
        return math.sqrt(square)
