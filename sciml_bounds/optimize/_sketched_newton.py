"""The published method: inexact Newton steps whose accuracy adapts to the penalties of the merit function.

Hong, Na, Mahoney, Kolar, "Constrained optimization via exact augmented Lagrangian and randomized iterative sketching",
ICML 2023, with the constants of its code. Where code and paper differ, we follow the paper: the gradient of the merit
function contains the Hessian of the Lagrangian, and the first residual of an inner solve is -b.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sciml_bounds.arrays import require_choice, require_count, require_number
from sciml_bounds.errors import InputError
from sciml_bounds.optimize._hessians import Hessians
from sciml_bounds.optimize._inner_solvers import InnerSolve, InnerSolver
from sciml_bounds.optimize._kkt import frobenius, identity, kkt_matrix, shifted
from sciml_bounds.optimize._kkt_minres import MinresSolver
from sciml_bounds.optimize._merit import Merit, Slope
from sciml_bounds.optimize._newton_loop import Direction
from sciml_bounds.optimize._nonlinear_program import Point, Program
from sciml_bounds.optimize._products import Matrix, Products
from sciml_bounds.optimize._rank_deficiency import attainable_residual
from sciml_bounds.optimize._regularised_newton import estimated_multipliers
from sciml_bounds.optimize._restoration import restore
from sciml_bounds.optimize._saddle_escape import Escapes
from sciml_bounds.reports import Reason

__all__ = ["SketchedDirections", "SketchedNewton"]

#: Beyond these penalties, directions are accepted without further tests, as in the published code.
LARGEST_ETA1, SMALLEST_ETA2 = 1e8, 1e-8

#: The published code stops if lambda_min(G G^T) is below this.
PUBLISHED_RANK_TOL = 1e-2

#: If lambda_min(G G^T) is below this fraction of ||G||^2, the KKT matrix is damped by that amount, which also replaces
#: lambda_min in Psi.
RANK_TOL = 1e-8

#: Smallest relative residual that is requested, except with the preset "published".
MIN_RTOL = 1e-14


@dataclass(frozen=True)
class SketchedNewton:
    """Options of Newton's method with adaptive inner accuracy (AdaSketch-Newton), for `minimize(method=...)`.

    Parameters
    ----------
    eta1, eta2 : float
        Initial penalties of ||c||^2 / 2 and ||grad_x L||^2 / 2 in the merit function.
    delta : float
        Initial accuracy of the inner solves, relative to the step.
    hessian_shift : float
        xi_B: this plus ||H|| is added to the Hessian if it is not positive definite on the null space of G.
    beta : float
        Constant of Armijo's rule, below 1/2.
    nu : float
        Factor by which penalties and accuracy change if a step is not a descent direction.
    theta, power : float
        The accuracy is multiplied by theta_k = theta min(1, ||R_k||^power). Convergence is linear for `power` 0, and of
        order 1 + power otherwise.
    smallest_delta : float
        Lower bound of delta.
    smallest_curvature : float
        Smallest eigenvalue of the Hessian on the null space of G for which it is not shifted.
    cap : int
        Maximum number of steps per inner solve. A solve that reaches it is used as it is, and counted in the result.
    preset : {"robust", "published"}
        "robust" damps the KKT matrix if the Jacobian is rank-deficient, and reduces the constraint violation if no step
        makes progress. "published" stops if lambda_min(G G^T) < 1e-2, as the published code does, and may request
        residuals below round-off.
    """

    eta1: float = 1.0
    eta2: float = 0.1
    delta: float = 0.1
    hessian_shift: float = 0.1
    beta: float = 0.1
    nu: float = 1.5
    theta: float = 1.0
    power: float = 0.0
    smallest_delta: float = 1e-6
    smallest_curvature: float = 1e-6
    cap: int = 100_000
    preset: Literal["robust", "published"] = "robust"

    def __post_init__(self) -> None:
        for name in ("eta1", "eta2", "delta", "hessian_shift", "beta", "theta", "smallest_delta"):
            require_number(getattr(self, name), name, positive=True)
        for name in ("power", "smallest_curvature"):
            require_number(getattr(self, name), name, least=0)
        for name, low, high in (("beta", 0.0, 0.5), ("theta", 0.0, math.nextafter(1.0, 2.0)), ("nu", 1.0, math.inf)):
            if not low < require_number(getattr(self, name), name) < high:
                allowed = {"beta": "between 0 and 1/2", "theta": "above 0 and at most 1", "nu": "above 1"}[name]
                raise InputError(f"{name} is {getattr(self, name)!r}; it must be {allowed}.")
        require_count(self.cap, "cap", 1)
        require_choice(self.preset, "preset", ("robust", "published"))


@dataclass(frozen=True)
class _System:
    """The KKT system at a point, with the constants that determine the accuracy."""

    A: Tensor
    b: Tensor
    shift: float
    damping: float
    psi: float
    upsilon: float

    def largest_delta(self, settings: SketchedNewton, merit: Merit) -> float:
        """Return the accuracy for which steps are descent directions if eta2 is small enough."""
        penalties = 1 + merit.eta1 + merit.eta2
        return (0.5 - settings.beta) * merit.eta2 / (penalties * self.upsilon**2 * self.psi**2)


class SketchedDirections:
    """Directions of the published method; penalties and delta persist between points."""

    def __init__(
        self, settings: SketchedNewton, program: Program, hessians: Hessians, inner: InnerSolver, tolerance: float
    ) -> None:
        self.settings, self._program = settings, program
        self._tolerance = tolerance
        self.armijo = settings.beta
        self.shortest = 1e-16 if settings.preset == "published" else 1e-10  # the published line search has no limit
        self._hessians, self._inner = hessians, inner
        self._escapes = Escapes(program, hessians, tolerance, 0 if settings.preset == "published" else None)
        self._capped = False
        self._merit, self._delta = Merit(settings.eta1, settings.eta2), settings.delta

    def at(self, point: Point, last_length: float) -> Direction | Point | Reason:
        """Solve the KKT system, adapting accuracy and penalties until the step is a descent direction."""
        H, curved = self._hessians.at(point)
        if not bool(torch.isfinite(curved).all()):
            return Reason.NOT_FINITE
        system = self._system(point, H)
        if isinstance(system, Reason):
            return system
        settings = self.settings
        self._lower_delta(min(self._delta, system.largest_delta(settings, self._merit)))
        if isinstance(self._inner, MinresSolver):
            self._inner.at(point)
        solve = self._inner(system.A, system.b, settings.cap)
        size = float(system.b.norm())
        while True:
            solve.refine(self._accuracy(system, point.kkt_residual) * solve.rhs_norm)
            slope = Slope.along(solve.z, point, curved).at(self._merit)
            exhausted = self._merit.eta1 > LARGEST_ETA1 or self._merit.eta2 < SMALLEST_ETA2
            if exhausted or not slope > -self._merit.eta2 / 2 * size**2:
                break
            self._merit = Merit(settings.nu**2 * self._merit.eta1, self._merit.eta2 / settings.nu)
            self._lower_delta(min(self._delta / settings.nu**4, system.largest_delta(settings, self._merit)))
        if not math.isfinite(slope):
            return self._restored(point, Reason.NOT_FINITE)
        return self._direction(system, solve, slope)

    def _direction(self, system: _System, solve: InnerSolve, slope: float) -> Direction:
        relative = solve.residual_norm / solve.rhs_norm
        self._capped = solve.capped
        return Direction(
            solve.z, self._merit, slope, system.shift, system.damping, solve.steps, relative, solve.capped
        )  # fmt: skip

    def away_from(self, point: Point) -> Point | Reason | None:
        """Return a point to continue from if `point` is a saddle point; the published method stops there."""
        found = self._escapes.away_from(point, self.settings.eta1)
        if isinstance(found, Point):
            self._reset_penalties()
        return found

    def after_failure(self, point: Point, failure: Reason) -> Point | Reason:
        """Reduce the constraint violation, or stop, as published: there is one direction per point."""
        return self._restored(point, failure)

    def _restored(self, point: Point, failure: Reason) -> Point | Reason:
        reason = Reason.CAPPED if self._capped else failure
        if self.settings.preset == "published":
            return reason
        found = restore(self._program, point, self._tolerance)
        if not isinstance(found, Point):
            return found or reason
        self._reset_penalties()
        return self._program.at(found.x, estimated_multipliers(found))

    def _reset_penalties(self) -> None:
        self._merit, self._delta = Merit(self.settings.eta1, self.settings.eta2), self.settings.delta

    def _lower_delta(self, delta: float) -> None:
        self._delta = max(delta, self.settings.smallest_delta)

    def _accuracy(self, system: _System, kkt_residual: float) -> float:
        """Return the relative residual ||r|| / ||b|| for which ||A|| Psi ||r|| = theta_k delta ||b||."""
        theta = self.settings.theta * min(1.0, math.pow(kkt_residual, self.settings.power))
        relative = theta * self._delta / (frobenius(system.A) * system.psi)
        return relative if self.settings.preset == "published" else max(relative, MIN_RTOL)

    def _system(self, point: Point, H: Matrix) -> _System | Reason:
        G, settings = point.jacobian, self.settings
        if isinstance(G, Products) or isinstance(H, Products):
            raise InputError(
                "method='sketched' needs matrix entries, but a derivative is an operator; return matrices, or use "
                "method='auto'."
            )
        null_space, rank = _null_space_and_rank(G.to_dense())
        shift = 0.0
        if null_space.shape[1] and _smallest_curvature(H, null_space) < settings.smallest_curvature:
            shift = settings.hessian_shift + frobenius(H)
        if settings.preset == "published" and rank < PUBLISHED_RANK_TOL:
            return Reason.SINGULAR_JACOBIAN
        floor = RANK_TOL * max(1.0, frobenius(G) ** 2)
        deficient = rank < floor
        damping, rank = (floor, floor) if deficient else (0.0, rank)
        b = -(attainable_residual(point) if deficient else point.residual)
        if float(b.norm()) <= self._tolerance:
            return Reason.INFEASIBLE
        B = shifted(H, shift)
        regular = min(rank, 1.0) * min(settings.hessian_shift, 1.0)
        psi = 20 * max(frobenius(B) ** 2, 1.0) / regular
        upsilon = max(frobenius(G), frobenius(H), 1.0)
        return _System(kkt_matrix(B, G, damping), b, shift, damping, psi, upsilon)


def _null_space_and_rank(G: Tensor) -> tuple[Tensor, float]:
    """Return an orthonormal basis of the null space of G, shape (n, n - m), and lambda_min(G G^T)."""
    m, n = G.shape
    if m == 0:
        return identity(G), 1.0
    basis, _ = torch.linalg.qr(G.mT, mode="complete")
    smallest = 0.0 if m > n else float(torch.linalg.svdvals(G)[-1]) ** 2
    return basis[:, m:], smallest


def _smallest_curvature(H: Tensor, null_space: Tensor) -> float:
    return float(torch.linalg.eigvalsh(null_space.mT @ (H @ null_space))[0])
