"""The exact augmented Lagrangian, a merit function whose minimisers in (x, l) are the solutions.

    L_eta(x, l) = f + l.c + eta1/2 ||c||^2 + eta2/2 ||grad_x L||^2

Hong, Na, Mahoney, Kolar, "Constrained optimization via exact augmented Lagrangian and randomized iterative sketching",
ICML 2023; after Di Pillo and Grippo (1979). Penalties need not tend to infinity. The gradient contains the Hessian H of
the Lagrangian:

    grad_x L_eta = grad_x L + eta2 H grad_x L + eta1 G^T c,   grad_l L_eta = c + eta2 G grad_x L
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml_bounds.optimize._nonlinear_program import Point

__all__ = ["Merit", "Slope"]


@dataclass(frozen=True)
class Merit:
    """The merit function L_eta for given penalties."""

    eta1: float
    eta2: float

    def value(self, point: Point) -> float:
        """Return L_eta at a point."""
        g2, c2 = point.squares
        return point.fun + float(point.multipliers @ point.constraints) + (self.eta1 * c2 + self.eta2 * g2) / 2

    def least(self, fun: float, constraints: Tensor, multipliers: Tensor) -> float:
        """Return a lower bound of L_eta that does not need first derivatives."""
        return fun + float(multipliers @ constraints) + self.eta1 / 2 * float(constraints @ constraints)

    def gradient(self, point: Point, curved: Tensor) -> Tensor:
        """Return the gradient in (x, l), shape (n + m,), given H grad_x L (n,)."""
        g, c, G = point.lagrangian_gradient, point.constraints, point.jacobian
        return torch.cat([g + self.eta2 * curved + self.eta1 * (G.mT @ c), c + self.eta2 * (G @ g)])


@dataclass(frozen=True)
class Slope:
    """The derivative of L_eta along a direction as a function of the penalties: base + eta1 first + eta2 second."""

    base: float
    first: float
    second: float

    @classmethod
    def along(cls, z: Tensor, point: Point, curved: Tensor) -> Slope:
        """Compute the derivative along z = (dx, dl), given H grad_x L."""
        dx, dl = z[: len(point.x)], z[len(point.x) :]
        g, c, G = point.lagrangian_gradient, point.constraints, point.jacobian
        base = g @ dx + c @ dl
        return cls(float(base), float(c @ (G @ dx)), float(curved @ dx + (G @ g) @ dl))

    def at(self, merit: Merit) -> float:
        """Return the derivative for given penalties."""
        return self.base + merit.eta1 * self.first + merit.eta2 * self.second
