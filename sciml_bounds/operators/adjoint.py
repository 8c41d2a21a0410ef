"""Gradients through solves with a lattice operator, by the implicit adjoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sciml_bounds.kernels._backend import needs_gradient
from sciml_bounds.operators.lattice import LatticeOperator

__all__ = ["implicit_solve"]

#: Takes a right-hand side (b, x, y, z).
Solve = Callable[[Tensor], Tensor]


def implicit_solve(operator: LatticeOperator, b: Tensor, solve: Solve, solve_adjoint: Solve) -> Tensor:
    """Solve A x = b such that gradients, first and second ones, flow from x into the coefficients of A and into b.

    Parameters
    ----------
    operator
        A, with the coefficients that gradients flow into.
    b
        Right-hand side, shape (b, x, y, z).
    solve
        Solves with A, for x.
    solve_adjoint
        Solves with A (which is symmetric) for the gradients.
    """
    T, c, offsets = operator.conductance, operator.absorption, operator.offsets
    if not needs_gradient(T, c, b):
        return solve(b)
    x: Tensor = _ImplicitSolve.apply(T, c, b, offsets, solve, solve_adjoint)
    return x


class _ImplicitSolve(torch.autograd.Function):
    """x = A^-1 b with the implicit adjoint: b_bar = A^-1 x_bar, A_bar = -b_bar x^T on the pattern of A.

    The backward pass is the function itself, so that second derivatives exist.
    """

    @staticmethod
    def forward(T: Tensor, c: Tensor, b: Tensor, offsets: Any, solve: Solve, solve_adjoint: Solve) -> Tensor:
        return solve(b.detach())

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        T, c, _, ctx.offsets, _, ctx.solve = inputs
        ctx.save_for_backward(T, c, output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        T, c, x = ctx.saved_tensors
        w = _ImplicitSolve.apply(T, c, gradients[0], ctx.offsets, ctx.solve, ctx.solve)
        grad_T = grad_c = None
        if ctx.needs_input_grad[0]:
            grad_T = torch.stack([-_difference(w, o) * _difference(x, o) for o in ctx.offsets])
            grad_T = grad_T.sum(1, keepdim=True) if T.shape[1] == 1 else grad_T
        if ctx.needs_input_grad[1]:
            grad_c = -w * x
            grad_c = grad_c.sum(0, keepdim=True) if len(c) == 1 else grad_c
        return grad_T, grad_c, w, None, None, None


def _difference(u: Tensor, offset: tuple[int, ...]) -> Tensor:
    """u_i - u_j over the pairs of one offset."""
    return u - torch.roll(u, tuple(-o for o in offset), (-3, -2, -1))
