"""The problem min f(x) subject to c(x) = 0, and its values and derivatives at one point.

Notation: n unknowns, m constraints; g = gradient of f, G = Jacobian of c (m, n), l = multipliers, L = f + l.c.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.linalg import vector_norm

from sciml_bounds.optimize._kkt import added, scaled_rows, stacked
from sciml_bounds.optimize._products import Matrix
from sciml_bounds.optimize._user_functions import Function

__all__ = ["Measures", "Point", "Program"]


@dataclass(frozen=True, eq=False)
class Point:
    """Values and first derivatives at x (n,) with multipliers (m,)."""

    x: Tensor
    multipliers: Tensor
    fun: float
    constraints: Tensor
    gradient: Tensor
    jacobian: Matrix

    @cached_property
    def lagrangian_gradient(self) -> Tensor:
        """grad_x L = g + G^T l, shape (n,)."""
        return self.gradient + self.jacobian.mT @ self.multipliers

    @cached_property
    def residual(self) -> Tensor:
        """The left-hand sides of the first-order conditions, (grad_x L, c), shape (n + m,)."""
        return torch.cat([self.lagrangian_gradient, self.constraints])

    @cached_property
    def kkt_residual(self) -> float:
        """The Euclidean norm of `residual`."""
        return float(vector_norm(self.residual))

    @cached_property
    def constraint_violation(self) -> float:
        """The Euclidean norm of c."""
        return float(vector_norm(self.constraints))

    @property
    def finite(self) -> bool:
        """Whether the objective and the KKT residual are finite."""
        return math.isfinite(self.fun) and math.isfinite(self.kkt_residual)

    @cached_property
    def squares(self) -> tuple[float, float]:
        """||grad_x L||^2 and ||c||^2."""
        g = self.lagrangian_gradient
        return float(g @ g), float(self.constraints @ self.constraints)


@dataclass(frozen=True, eq=False)
class Measures:
    """Objective, KKT residual, constraint violation and multipliers of a point in the user's units."""

    fun: float
    kkt_residual: float
    constraint_violation: float
    multipliers: Tensor


class Program:
    """An objective f and stacked constraints c.

    Parameters
    ----------
    objective : Function
        f, a function of size 1.
    constraints : list of Function
        The parts of c; may be empty.
    """

    def __init__(self, objective: Function, constraints: list[Function]) -> None:
        self.objective = objective
        self.constraints = constraints
        self.sizes = [part.size for part in constraints]
        self.njev = self.nhev = 0
        self.by_products = False
        self._of_f, self._of_c = 1.0, torch.ones(())

    @property
    def m(self) -> int:
        """Number of constraints."""
        return sum(self.sizes)

    @property
    def nfev(self) -> int:
        """Number of calls of the objective, including those for differences."""
        return self.objective.calls

    @property
    def has_jacobians(self) -> bool:
        """Whether first derivatives are exact."""
        return all(function.has_jacobian for function in (self.objective, *self.constraints))

    @property
    def has_hessians(self) -> bool:
        """Whether exact second derivatives are available."""
        return all(function.has_hessian for function in (self.objective, *self.constraints))

    def use_products(self) -> None:
        """From now on, differentiate torch functions as products with vectors, without forming matrices."""
        self.by_products = True
        for function in (self.objective, *self.constraints):
            function.by_products = True

    # --- scaling ------------------------------------------------------------------------------------------------------

    def scale(self, of_f: float, of_c: Tensor) -> None:
        """From now on, multiply the objective by `of_f` and the constraints by `of_c` (m,)."""
        self._of_f, self._of_c = of_f, of_c
        self.objective.scale = of_f
        for part, factors in zip(self.constraints, of_c.split(self.sizes)):
            part.scale = factors

    def scaled(self, point: Point) -> Point:
        """Convert a point from user units to the scaled units of the program."""
        a, d = self._of_f, self._of_c
        return Point(
            point.x, point.multipliers * (a / d), point.fun * a, point.constraints * d, point.gradient * a,
            scaled_rows(point.jacobian, d),
        )  # fmt: skip

    def unscaled(self, point: Point, error: Tensor | float = 0.0) -> Measures:
        """Return the measures of a point in user units; `error` (n,) is added to |grad_x L|."""
        a, d = self._of_f, self._of_c
        gradient, constraints = (point.lagrangian_gradient.abs() + error) / a, point.constraints / d
        violation, residual = (float(vector_norm(part)) for part in (constraints, torch.cat([gradient, constraints])))
        return Measures(point.fun / a, residual, violation, point.multipliers * (d / a))

    def least_scale(self) -> float:
        """Return the smallest scale factor, at most 1."""
        return min(1.0, self._of_f, float(self._of_c.amin()) if self._of_c.numel() else 1.0)

    # --- evaluation ---------------------------------------------------------------------------------------------------

    def values(self, x: Tensor) -> tuple[float, Tensor]:
        """Return the objective, and the constraints (m,)."""
        fun = float(self.objective.value(x))
        return fun, torch.cat([x.new_zeros(0), *(part.value(x) for part in self.constraints)])

    def at(self, x: Tensor, multipliers: Tensor) -> Point:
        """Evaluate values and first derivatives; if values are not finite, derivatives are NaN."""
        fun, c = self.values(x)
        if not (math.isfinite(fun) and math.isfinite(float(c @ c))):
            nowhere = x.new_full((1,), math.nan)
            return Point(x, multipliers, fun, c, nowhere.expand(len(x)), nowhere.expand(len(c), len(x)))
        return Point(x, multipliers, fun, c, *self._first_derivatives(x))

    def _first_derivatives(self, x: Tensor) -> tuple[Tensor, Matrix]:
        self.njev += 1
        return self.objective.gradient(x), stacked([part.jacobian(x) for part in self.constraints], x)

    def use_central_differences(self) -> bool:
        """From now on, use central differences; return whether this changes anything."""
        changed = [f for f in (self.objective, *self.constraints) if not (f.has_jacobian or f.central)]
        for function in changed:
            function.central = True
        return bool(changed)

    def difference_error(self, point: Point) -> Tensor:
        """Estimate the error of grad_x L due to differences, shape (n,)."""
        error = self.objective.difference_error(point.x).view(-1)
        for part, weights in zip(self.constraints, point.multipliers.split(self.sizes)):
            error = error + part.difference_error(point.x).mT @ weights.abs()
        return error

    def hessian(self, point: Point) -> Matrix:
        """Return the Hessian of the Lagrangian in x, shape (n, n): dense, CSR, or an operator."""
        self.nhev += 1
        hessian = self.objective.hessian(point.x, point.x.new_ones(1))
        for part, weights in zip(self.constraints, point.multipliers.split(self.sizes)):
            hessian = added(hessian, part.hessian(point.x, weights))
        return hessian
