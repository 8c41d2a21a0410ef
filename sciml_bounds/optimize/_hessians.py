"""Hessians of the Lagrangian: exact, or approximated by damped BFGS updates."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml_bounds.optimize._kkt import frobenius
from sciml_bounds.optimize._nonlinear_program import Point, Program
from sciml_bounds.optimize._products import Matrix

__all__ = ["DampedBFGS", "ExactHessian", "Hessians", "hessians_of"]

#: If s.Hs is below this fraction of ||H|| ||s||^2 and the true curvature is negative, H is not updated: further updates
#: would let round-off make H indefinite.
MIN_RELATIVE_CURVATURE = 1e-8

#: If s.Hs is below this, H is not updated, to avoid underflow.
MIN_CURVATURE = 1e-150


class ExactHessian:
    """The exact Hessian of the Lagrangian."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def at(self, point: Point) -> tuple[Matrix, Tensor]:
        """Return H (n, n), and H grad_x L (n,), NaN where the norm of H is not finite."""
        H = self._program.hessian(point)
        curved = H @ point.lagrangian_gradient
        # shifts are relative to ||H||, so ||H|| must not overflow
        return H, curved if math.isfinite(frobenius(H)) else torch.full_like(curved, math.nan)


class DampedBFGS:
    """A positive definite approximation of the Hessian with Powell's damped BFGS update at each new point.

    Powell, "A fast algorithm for nonlinearly constrained optimization calculations", Lecture Notes in Math. 630 (1978);
    Nocedal and Wright, Numerical Optimization (2006), procedure 18.2. The slope of a merit function with eta2 > 0 needs
    H grad_x L. With `true_products`, this product is computed with the true Hessian, by a difference of gradients.
    """

    def __init__(self, program: Program, *, true_products: bool = True) -> None:
        self._program, self._true_products = program, true_products
        self._last: Point | None = None
        self._H: Tensor | None = None

    def at(self, point: Point) -> tuple[Tensor, Tensor]:
        """Return the approximation (n, n), and H grad_x L (n,)."""
        if self._last is not None and self._last is not point:
            self._update(self._last, point)
        self._last = point
        H = torch.eye(len(point.x)).to(point.x) if self._H is None else self._H
        return H, self._true_hessian_product(point) if self._true_products else H @ point.lagrangian_gradient

    def _update(self, last: Point, point: Point) -> None:
        s = point.x - last.x
        y = point.lagrangian_gradient - (last.gradient + last.jacobian.mT @ point.multipliers)
        if not bool(s.any()):
            return
        if self._H is None:  # scale by the first step (Nocedal and Wright, 6.20) if its curvature is positive
            scale = float(y @ y / (s @ y)) if s @ y > 0 else 1.0
            self._H = min(max(scale, 1e-4), 1e4) * torch.eye(len(s)).to(s)
        Hs = self._H @ s
        sHs, sy = s @ Hs, s @ y
        flat = float(sHs) <= MIN_RELATIVE_CURVATURE * frobenius(self._H) * float(s @ s)
        if not abs(sHs) > MIN_CURVATURE or (flat and sy <= 0):  # each damped update keeps a fifth of the curvature
            return
        theta = 1.0 if sy >= 0.2 * sHs else float(0.8 * sHs / (sHs - sy))
        r = theta * y + (1 - theta) * Hs
        self._H = self._H - torch.outer(Hs, Hs) / sHs + torch.outer(r, r) / (s @ r)

    def _true_hessian_product(self, point: Point) -> Tensor:
        g = point.lagrangian_gradient
        size = float(g.norm())
        if size == 0:
            return torch.zeros_like(g)
        # difference gradients have errors of 1e-8, which are divided by the step here
        relative = 1e-7 if self._program.has_jacobians else 1e-4
        step = relative * max(1.0, float(point.x.norm())) / size
        moved = self._program.at(point.x + step * g, point.multipliers)
        curved = (moved.lagrangian_gradient - g) / step
        return torch.where(torch.isfinite(curved), curved, 0.0)


Hessians = ExactHessian | DampedBFGS


def hessians_of(program: Program, *, true_products: bool = True) -> Hessians:
    """Return exact Hessians if all functions have second derivatives, else damped BFGS updates."""
    return ExactHessian(program) if program.has_hessians else DampedBFGS(program, true_products=true_products)
