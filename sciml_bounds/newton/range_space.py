"""KKT systems whose Hessian is diagonal and positive: conjugate gradients for the multipliers alone.

    [[H, J^T], [J, -d]] (x, y) = (f, g)   is   (J H^-1 J^T + d) y = J H^-1 f - g,   x = H^-1 (f - J^T y)

(Nocedal and Wright, Numerical Optimization, 2006, section 16.2, "Schur-complement method"). The matrix on the left is
positive definite, so that half as many steps are needed as MINRES takes for the whole: with a block-diagonal
preconditioner MINRES gains in every second step only (Fischer, Ramage, Silvester, Wathen, BIT 38 (1998) 527-543).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml_bounds.errors import InputError
from sciml_bounds.newton.minres import Minres, MinresSolve, MinresSolver
from sciml_bounds.newton.products import Matrix
from sciml_bounds.operators.linear_operator import LinearOperator

__all__ = ["RangeSpace", "RangeSpaceSolve", "RangeSpaceSolver"]

#: What a residual may be in the Euclidean norm, relative to the right-hand side: the merit function is made of such
#: norms, which on fine meshes the norm of the preconditioner says little of.
SHORTER = 0.5

#: Residuals are not asked to fall below this part of the right-hand side.
ATTAINABLE = 1e-14

#: r.Pr may be negative by that part of ||r|| ||Pr||, and is not looked at where r is so small that squares vanish.
ROUND_OFF, VANISHED = 1e-12, 1e-150


@dataclass(frozen=True)
class RangeSpace(Minres):
    """Conjugate gradients for the multipliers, where the Hessian is diagonal and positive, and MINRES elsewhere.

    Whoever gives it to `minimize` as `inner` knows that the Hessian is diagonal, and that the preconditioner is
    block-diagonal, as for `Minres`; its part for the multipliers is used.
    """

    def __str__(self) -> str:
        return "range-space conjugate gradients"

    def solver(self) -> MinresSolver:
        """Return what solves systems."""
        return RangeSpaceSolver(self)


class RangeSpaceSolver(MinresSolver):
    """Starts on KKT systems, with the preconditioner of the point that they belong to."""

    def __call__(self, A: Matrix, b: Tensor, cap: int) -> MinresSolve | RangeSpaceSolve:  # type: ignore[override]
        """Start on a system."""
        minres = super().__call__
        if self._point is None or not len(self._point.multipliers):
            return minres(A, b, cap)
        n, J = len(self._point.x), self._point.jacobian
        first = torch.cat([b.new_ones(n), b.new_zeros(len(b) - n)])
        diagonal = (A @ first)[:n]  # that of a diagonal matrix
        if not bool((diagonal > 0).all()):
            return minres(A, b, cap)
        damping = -float((A @ (1 - first))[-1])
        M = self._preconditioner_at_point(b)
        return RangeSpaceSolve((diagonal, J, damping), b, M, self.settings.rtol, min(cap, self.settings.maxiter))


class RangeSpaceSolve:
    """A system that is solved a little further each time it is asked to.

    Norms of residuals are those of the preconditioner, of the equations of the multipliers; the others hold exactly.
    `system` holds the diagonal of H, J, and d.
    """

    def __init__(
        self, system: tuple[Tensor, Matrix, float], b: Tensor, M: LinearOperator, rtol: float | None, cap: int
    ) -> None:
        self._diagonal, self._J, self._damping = system
        self._M, self._rtol, self._cap = M, rtol, cap
        self._size = float(b.norm())
        f, g = b.split([len(self._diagonal), len(b) - len(self._diagonal)])
        self.negative: int | None = len(g)  # that is the inertia, since both parts are positive definite
        self.steps = 0
        self._none = torch.zeros_like(f)
        self._y, self._x = torch.zeros_like(g), f / self._diagonal
        self._r = self._J @ self._x - g
        self._p, self._rho = self._preconditioned()
        self.rhs_norm = self.residual_norm or 1.0

    def _preconditioned(self) -> tuple[Tensor, float]:
        """Return z = P r, and r.z, which is positive but for round-off."""
        z = self._M.matvec(torch.cat([self._none, self._r]))[len(self._none) :]
        rho, size = float(self._r @ z), float(self._r.norm())
        if VANISHED < size < math.inf and not rho > -ROUND_OFF * size * float(z.norm()):
            raise InputError(
                f"the preconditioner P of RangeSpace is not positive definite: r.Pr = {rho:.3g} for a residual r; "
                "approximate the inverse of J H^-1 J^T in the block for the multipliers."
            )
        return z, rho

    @property
    def z(self) -> Tensor:
        """What has been found so far."""
        return torch.cat([self._x, self._y])

    @property
    def residual_norm(self) -> float:
        """The norm of what is left."""
        return math.sqrt(max(self._rho, 0.0))

    @property
    def capped(self) -> bool:
        """Whether it may take no more iterations."""
        return self.steps >= self._cap

    def refine(self, tolerance: float) -> None:
        """Go on until the residual is that small, or as small as round-off lets it get."""
        wanted = tolerance if self._rtol is None else min(tolerance, self._rtol * self.rhs_norm)
        wanted = max(wanted, ATTAINABLE * self.rhs_norm)
        while (self.residual_norm > wanted or self._is_long()) and not self.capped and self._advance():
            pass

    def _is_long(self) -> bool:
        return float(self._r.norm()) > SHORTER * self._size

    def _advance(self) -> bool:
        """Take one step, and tell whether there was one to take."""
        lifted = (self._J.mT @ self._p) / self._diagonal
        Sp = self._J @ lifted
        if self._damping:
            Sp = Sp + self._damping * self._p
        energy = float(self._p @ Sp)
        if not energy > 0:
            return False
        alpha, rho = self._rho / energy, self._rho
        self._y = self._y + alpha * self._p
        self._x = self._x - alpha * lifted
        self._r = self._r - alpha * Sp
        self.steps += 1
        z, self._rho = self._preconditioned()
        self._p = z + self._rho / rho * self._p
        return self._rho > 0
