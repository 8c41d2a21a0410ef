"""Objective and constraint of distributed control, with their derivatives.

Notation: u state, z control, l multipliers (n,) each; x = (u, z); K stiffness, M diagonal mass, p = phi(u).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import scipy.optimize
import scipy.sparse
import torch
from torch import Tensor

from sciml_bounds.arrays import require_number
from sciml_bounds.control._constraint_equations import Stiffness
from sciml_bounds.errors import InputError
from sciml_bounds.optimize._products import Products

__all__ = ["Nonlinearity", "TrackingFunctions"]

#: Smallest value of W, as a fraction of the mass, in the state block of the preconditioner.
LEAST_WEIGHT = 0.1

#: Relative size of off-diagonal derivatives that counts as round-off.
POINTWISE_TOL = 1e-10

#: A function applied to each entry of the state, written in torch.
Nonlinearity = Callable[[Tensor], Tensor]


def _diagonal(entries: Tensor) -> Products:
    return Products.symmetric(len(entries), lambda v: entries * v, entries.device)


def _diagonal_matrix(entries: Tensor) -> scipy.sparse.csr_array:
    return scipy.sparse.csr_array(scipy.sparse.diags_array(entries.cpu().numpy()))


class _Applied(torch.autograd.Function):
    """The product of a symmetric operator with vectors (..., n), differentiable."""

    @staticmethod
    def forward(matvec: Callable[[Tensor], Tensor], v: Tensor) -> Tensor:
        return matvec(v.detach())

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.matvec = inputs[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, _Applied.apply(ctx.matvec, gradients[0])

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], matvec: Any, v: Tensor) -> tuple[Tensor, int]:
        return _Applied.apply(matvec, v.movedim(in_dims[1], 0)), 0


def _require_pointwise(nonlinearity: Any, n: int, device: torch.device) -> None:
    """Check at a random state that the Jacobian is diagonal: its product with a vector w must be phi' w."""
    if not callable(nonlinearity):
        raise InputError(f"the nonlinearity is {nonlinearity!r}; give a function of torch, such as lambda u: u**3.")
    generator = torch.Generator().manual_seed(0)
    u, w = (torch.rand(n, generator=generator, dtype=torch.float64).to(device) for _ in range(2))
    with torch.enable_grad():
        leaf = (0.1 * u).requires_grad_()
        try:
            p = nonlinearity(leaf)
        except (RuntimeError, TypeError) as error:
            raise InputError(
                f"the nonlinearity cannot be differentiated ({error}); give a torch function that does not modify its "
                "argument."
            ) from None
        if not isinstance(p, Tensor) or p.shape != u.shape or p.dtype != u.dtype or not p.requires_grad:
            kind = f"{str(p.dtype)[6:]} of shape {tuple(p.shape)}" if isinstance(p, Tensor) else f"a {type(p).__name__}"
            raise InputError(
                f"the nonlinearity returns {kind} for {n} values; it must return {n} differentiable float64 values."
            )
        slope, along = (torch.autograd.grad(p, leaf, v, retain_graph=True)[0] for v in (torch.ones_like(w), w))
    off = (along - slope * w).abs()
    if bool((off > POINTWISE_TOL * slope.abs().amax()).any()):
        raise InputError("the nonlinearity mixes entries of the state; each value must depend on its own entry only.")


class TrackingFunctions:
    """Functions of the problem min 1/2 |u - t|^2 + w/2 |z|^2 subject to K u + M phi(u) - M z = load, for `sb.minimize`.

    Norms are those of M: |v|^2 = v . M v. Derivatives are operators; `matrices` returns them as sparse matrices.

    Parameters
    ----------
    stiffness : Stiffness
        K and M.
    load : Tensor
        Right-hand side, shape (n,).
    target : Tensor
        t, shape (n,).
    weight : float
        w, positive.
    nonlinearity : Nonlinearity or None
        phi, a twice differentiable torch function that is applied to each entry; None for the linear equation.
    """

    def __init__(
        self,
        stiffness: Stiffness,
        load: Tensor,
        target: Tensor,
        weight: float,
        nonlinearity: Nonlinearity | None = None,
    ) -> None:
        self.weight = require_number(weight, "the weight of the control", positive=True)
        self.stiffness, self.load, self.target = stiffness, load, target
        self.nonlinearity = nonlinearity
        self.n = len(stiffness.mass)
        if nonlinearity is not None:
            _require_pointwise(nonlinearity, self.n, load.device)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Split x (2n,) into state and control."""
        return x[: self.n], x[self.n :]

    # --- objective ----------------------------------------------------------------------------------------------------

    def fun(self, x: Tensor) -> Tensor:
        """Return the objective."""
        u, z = self.split(x)
        mass = self.stiffness.mass
        return (mass @ (u - self.target).square() + self.weight * (mass @ z.square())) / 2

    def jac(self, x: Tensor) -> Tensor:
        """Return the gradient of the objective, shape (2n,)."""
        u, z = self.split(x.detach())
        mass = self.stiffness.mass
        return torch.cat([mass * (u - self.target), self.weight * mass * z])

    def hess(self, x: Tensor) -> Products:
        """Return the Hessian of the objective, which is diagonal."""
        return _diagonal(self._weights)

    @property
    def _weights(self) -> Tensor:
        return torch.cat([self.stiffness.mass, self.weight * self.stiffness.mass])

    # --- constraint ---------------------------------------------------------------------------------------------------

    def equation(self, x: Tensor) -> Tensor:
        """Return K u + M phi(u) - M z - load, shape (n,)."""
        u, z = self.split(x)
        source = z if self.nonlinearity is None else z - self.nonlinearity(u)
        applied: Tensor = _Applied.apply(self.stiffness.matvec, u)
        return applied - self.stiffness.mass * source - self.load

    def equation_jac(self, x: Tensor) -> Products:
        """Return the Jacobian of the equation, (K + M phi'(u), -M), shape (n, 2n)."""
        slope, _ = self.derivatives(x)
        mass = self.stiffness.mass
        diagonal = mass * slope

        def linearised(u: Tensor) -> Tensor:
            return self.stiffness.matvec(u) + diagonal * u

        def forward(v: Tensor) -> Tensor:
            u, z = self.split(v)
            return linearised(u) - mass * z

        def adjoint(y: Tensor) -> Tensor:
            return torch.cat([linearised(y), -mass * y])

        return Products((self.n, 2 * self.n), forward, adjoint, mass.device)

    def equation_hess(self, x: Tensor, multipliers: Tensor) -> Products:
        """Return the Hessian of the product of the equation with multipliers (n,), which is diagonal."""
        return _diagonal(self._curvature(x, multipliers))

    def _curvature(self, x: Tensor, multipliers: Tensor) -> Tensor:
        _, curvature = self.derivatives(x)
        entries = self.stiffness.mass * curvature * multipliers
        return torch.cat([entries, torch.zeros_like(entries)])

    def derivatives(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return phi'(u) and phi''(u), shape (n,) each."""
        u, _ = self.split(x.detach())
        zero = torch.zeros_like(u)
        if self.nonlinearity is None:
            return zero, zero
        with torch.enable_grad():
            u = u.requires_grad_()
            (slope,) = torch.autograd.grad(self.nonlinearity(u).sum(), u, create_graph=True)
            if not slope.requires_grad:
                return slope, zero
            (curvature,) = torch.autograd.grad(slope.sum(), u)
        return slope.detach(), curvature

    @property
    def constraints(self) -> scipy.optimize.NonlinearConstraint:
        """The equation, with its derivatives."""
        derivatives = {"jac": self.equation_jac, "hess": self.equation_hess}
        return scipy.optimize.NonlinearConstraint(self.equation, 0.0, 0.0, **derivatives)

    # --- with matrices ------------------------------------------------------------------------------------------------

    def matrices(self) -> dict[str, Any]:
        """Return `hess` and `constraints` for `sb.minimize` with sparse matrices instead of operators."""
        equation = {
            "jac": self._equation_matrix,
            "hess": lambda x, multipliers: _diagonal_matrix(self._curvature(x, multipliers)),
        }
        constraints = scipy.optimize.NonlinearConstraint(self.equation, 0.0, 0.0, **equation)
        return {"hess": lambda x: _diagonal_matrix(self._weights), "constraints": constraints}

    def _equation_matrix(self, x: Tensor) -> scipy.sparse.csr_array:
        slope, _ = self.derivatives(x)
        mass = self.stiffness.mass
        state = self.stiffness.to_csr() + _diagonal_matrix(mass * slope)
        return scipy.sparse.csr_array(scipy.sparse.hstack([state, _diagonal_matrix(-mass)]))

    # --- preconditioner -----------------------------------------------------------------------------------------------

    def shift(self, x: Tensor, multipliers: Tensor) -> Tensor:
        """Return the diagonal of M max(phi' + sqrt(W / w), 0) at x (2n,) with multipliers (n,)."""
        if self.nonlinearity is None:
            return self.stiffness.mass / math.sqrt(self.weight)
        slope, _ = self.derivatives(x)
        return self.stiffness.mass * (slope + torch.sqrt(self.part(x, multipliers) / self.weight)).clamp_min(0.0)

    def part(self, x: Tensor, multipliers: Tensor) -> Tensor:
        """Return W = max(1 + l phi''(u), 0.1), shape (n,)."""
        _, curvature = self.derivatives(x)
        return (1 + curvature * multipliers).clamp_min(LEAST_WEIGHT)
