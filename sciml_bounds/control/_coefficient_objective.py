"""Coefficient estimation with a reduced objective of the logarithm q alone; states are computed by solves.

    J(q) = 1/2 |u(q) - d|^2 + 1/2 (q - q0).R (q - q0),   K(q) u(q) = load
    g = R (q - q0) + G^T l,   K l = -W (u - d)
    H p = R p + G^T m,        K m = -W s,  K s = -G p        (Gauss-Newton)

where G is the derivative of K(q) u by q. All solves are by conjugate gradients with multigrid, to the requested
accuracy. The preconditioner P is a multigrid cycle for R on the cells. The number of steps depends on the number of
directions in which the data are more informative than R, not on the mesh (Bui-Thanh, Ghattas, Martin, Stadler, SIAM J.
Sci. Comput. 35 (2013) A2494-A2523). A residual r of the state equation changes J by l.r at first order; this is
corrected.

Notation: q logarithm of the coefficient (cells,); u state, d observations, l multipliers (n,) each; W weights of the
observations, R prior matrix, as in `_coefficient_estimation`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sciml_bounds._linear import LinearSolver
from sciml_bounds._linear_methods import Multigrid
from sciml_bounds.errors import InputError
from sciml_bounds.grid import Grid
from sciml_bounds.multigrid._geometric import lattice_cycle
from sciml_bounds.operators._lattice_operator import LatticeOperator, to_lattice
from sciml_bounds.operators._linear_operator import LinearOperator
from sciml_bounds.problems.discretization import axis_offsets, node_system
from sciml_bounds.stopping import StoppingCriteria

if TYPE_CHECKING:
    from sciml_bounds.control._coefficient_functions import CoefficientFunctions

__all__ = ["CoefficientObjective", "CoefficientPoint", "prior_operator"]

Array = np.ndarray[Any, Any]

#: Ratio of the residual of a solve to the allowed error, since errors of smooth functions exceed residuals.
RESIDUAL_SAFETY = 0.1

#: Smallest and largest relative residual of a solve.
MIN_RTOL, MAX_RTOL = 1e-13, 1e-2


def prior_operator(grid: Grid, smoothing: float) -> LatticeOperator:
    """Return the prior operator on the cells: `smoothing` times (-Laplace by differences across faces + identity)."""
    like = to_lattice(torch.ones(grid.shape, dtype=torch.float64), grid.dim)
    T = []
    for axis, h in enumerate(grid.spacing):
        along = torch.full_like(like, smoothing * grid.cell_volume / h**2)
        along.select(axis + 4 - grid.dim, -1).fill_(0.0)
        T.append(along)
    return LatticeOperator(axis_offsets(grid.dim), torch.stack(T), smoothing * grid.cell_volume * like)


#: Largest change of q in one step: a factor of 150 in the coefficient.
MAX_LOG_CHANGE = 5.0


class _States:
    """Solver for K(q) with one q; vectors have the values at free nodes."""

    def __init__(self, objective: CoefficientObjective, q: Tensor) -> None:
        problem = objective.estimation.problem
        system = node_system(problem.replace(coefficient=q.exp().view(problem.grid.shape)))
        if system.components is not None:
            raise InputError(
                "the state is determined up to a constant only, since there are no Dirichlet sides and no "
                "reaction; add one, or use inner='direct'."
            )
        self._objective = objective
        self._solver = LinearSolver(system, Multigrid())
        self._lattice = system.rhs.shape
        self.load = objective.free_values(system.rhs)

    def solve(self, rhs: Tensor, accuracy: float, x0: Tensor | None = None) -> Tensor:
        """Return K^-1 rhs, up to a relative residual `accuracy`."""
        spread, accuracy = self._objective.spread, min(max(accuracy, MIN_RTOL), MAX_RTOL)
        guess = None if x0 is None else spread(x0).view(self._lattice)
        found = self._solver.solve(spread(rhs).view(self._lattice), guess, StoppingCriteria(accuracy))
        self._objective.cycles += int(found.iterations) + 1  # full multigrid costs about one cycle
        return self._objective.free_values(found.x)

    def residual(self, u: Tensor) -> Tensor:
        """Return K u - load."""
        return self._objective.free_values(self._solver.operator.matvec(self._objective.spread(u))) - self.load


class CoefficientPoint:
    """The reduced objective at one coefficient: state, multipliers, gradient, and products with the Hessian."""

    u: Tensor
    multipliers: Tensor

    def __init__(
        self, objective: CoefficientObjective, q: Tensor, accuracy: float, near: CoefficientPoint | None
    ) -> None:
        self.v, self._objective = q, objective
        self._estimation = estimation = objective.estimation
        self._states = _States(objective, q)
        relative = RESIDUAL_SAFETY * accuracy * (1.0 if near is None else min(1.0, near.misfit))
        self.u = self._states.solve(self._states.load, relative, None if near is None else near.u)
        residual = self._states.residual(self.u)
        self.violation = float(residual.norm())
        missed = objective.weights * (self.u - objective.data)
        self.multipliers = self._states.solve(
            -missed, RESIDUAL_SAFETY * accuracy, None if near is None else near.multipliers
        )
        self.fun = estimation.fun(self._x) + float(self.multipliers @ residual)
        self._drop, self._adjoint_drop = estimation.drops(self.u.numpy(), self.multipliers.numpy())
        self._a = np.exp(q.numpy())
        change = objective.prior.matvec((q - objective.guess).unsqueeze(0))[0]
        self.gradient = change + self._pulled(self.multipliers)

    @property
    def misfit(self) -> float:
        """Relative misfit |u - d| / |u| over the observed nodes."""
        W, objective = self._objective.weights, self._objective
        size = float(W @ self.u.square())
        return math.sqrt(float(W @ (self.u - objective.data).square()) / size) if size > 0 else 1.0

    @property
    def _x(self) -> Array:
        return np.concatenate([self.u.numpy(), self.v.numpy()])

    def _pushed(self, p: Tensor) -> Tensor:
        """Apply G to p."""
        return torch.from_numpy(self._estimation.pushed(self._drop, self._a * p.numpy()))

    def _pulled(self, y: Tensor) -> Tensor:
        """Apply G^T to y."""
        return torch.from_numpy(self._a * self._estimation.pulled(self._drop, y.numpy()))

    def hessian_product(self, p: Tensor, accuracy: float) -> Tensor:
        """Return H p, up to a relative error `accuracy`."""
        objective, estimation, relative = self._objective, self._estimation, RESIDUAL_SAFETY * accuracy
        product = objective.prior.matvec(p.unsqueeze(0))[0]
        if not bool(objective.weights.any()):
            return product
        state = self._states.solve(-self._pushed(p), relative)
        rhs = -objective.weights * state
        if objective.exact:
            ap = self._a * p.numpy()
            rhs -= torch.from_numpy(estimation.pushed(self._adjoint_drop, ap))
            twice = ap * estimation.summed(self._drop * self._adjoint_drop)
            mixed = self._a * estimation.pulled(self._adjoint_drop, state.numpy())
            product += torch.from_numpy(twice + mixed)
        return product + self._pulled(self._states.solve(rhs, relative))

    def solution(self) -> tuple[Array, Array]:
        """Return x = (u, q) and the multipliers."""
        return self._x, self.multipliers.numpy()


@dataclass(frozen=True)
class _TooFar:
    """A trial point too far away to solve for its state."""

    fun: float = math.inf


class CoefficientObjective:
    """The reduced objective J of an estimation, for `minimize_reduced`.

    Attributes
    ----------
    cycles : int
        Number of multigrid cycles for K so far.
    """

    quadratic = False
    least = 0.0  # |g|_P is dual to the norm of the prior
    name = "Newton in the coefficient, inner solver conjugate gradients"

    def __init__(self, estimation: CoefficientFunctions, *, exact: bool) -> None:
        self.estimation, self.exact = estimation, exact
        self.weights, self.data, self.guess = (
            torch.from_numpy(part) for part in (estimation.weights, estimation.data, estimation.guess)
        )
        self.prior = prior_operator(estimation.problem.grid, estimation.smoothing)
        self._P: LinearOperator = lattice_cycle(self.prior)
        self.cycles = 0

    def spread(self, u: Tensor) -> Tensor:
        """Extend values at free nodes by zeros to all nodes, shape (1, nodes)."""
        return self.estimation.grid_stiffness.field(u).reshape(1, -1)

    def free_values(self, x: Tensor) -> Tensor:
        """Return the values at free nodes, shape (n,)."""
        return self.estimation.grid_stiffness.free_values(x)

    def start(self) -> Tensor:
        """Return q0."""
        return self.guess.clone()

    def at(self, v: Tensor, accuracy: float, near: CoefficientPoint | None) -> CoefficientPoint | _TooFar:
        """Solve for state and multipliers, unless v is too far from `near` for a quadratic model to be of use."""
        if near is not None and not float((v - near.v).abs().max()) <= MAX_LOG_CHANGE:
            return _TooFar()
        return CoefficientPoint(self, v, accuracy, near)

    def preconditioner(self, point: CoefficientPoint, last: LinearOperator | None) -> LinearOperator:
        """Return P, which is the same at all points."""
        return self._P

    def size(self, point: CoefficientPoint, P: LinearOperator) -> float:
        """Return |g|_P at the prior guess."""
        return math.sqrt(max(float(point.gradient @ P.matvec(point.gradient)), 0.0))
