"""Gradients of solves with a lattice operator, by the implicit adjoint method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sciml_bounds.arrays import binary_scales
from sciml_bounds.kernels._backend import needs_gradient
from sciml_bounds.operators._lattice_operator import LatticeOperator

__all__ = ["implicit_solve"]

#: A function that returns the solution for a right-hand side (b, x, y, z).
Solve = Callable[[Tensor], Tensor]


def implicit_solve(operator: LatticeOperator, b: Tensor, solve: Solve, solve_adjoint: Solve) -> Tensor:
    """Solve A x = b, twice differentiably in the coefficients of A and in b.

    Parameters
    ----------
    operator : LatticeOperator
        The matrix A.
    b : Tensor (b, x, y, z)
        Right-hand side.
    solve : callable
        Function that returns the solution x for a right-hand side.
    solve_adjoint : callable
        Function that solves with A (which is symmetric) in the backward pass, to compute gradients.

    Returns
    -------
    Tensor (b, x, y, z)
        The solution x.
    """
    T, c, offsets = operator.conductance, operator.absorption, operator.offsets
    if not needs_gradient(T, c, b):
        return solve(b)
    x: Tensor = _ImplicitSolve.apply(T, c, b, offsets, solve, solve_adjoint)
    return x


class _ImplicitSolve(torch.autograd.Function):
    """x = A^-1 b with the implicit adjoint: b_bar = A^-1 x_bar, A_bar = -b_bar x^T on the pattern of A.

    The backward pass calls the same autograd function, so that second derivatives exist. The scale of the cotangent,
    which is arbitrary, is factored out: the adjoint solution may overflow or underflow even if its products with x do
    not.
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
        scale = _scales(gradients[0])
        w = _ImplicitSolve.apply(T, c, gradients[0] / scale, ctx.offsets, ctx.solve, ctx.solve)
        grad_T = grad_c = None
        grad_b = w * scale if ctx.needs_input_grad[2] else None
        if any(ctx.needs_input_grad[:2]):
            w, x = _factors(w, x, scale)
        if ctx.needs_input_grad[0]:
            grad_T = torch.stack([-_difference(w, o) * _difference(x, o) for o in ctx.offsets])
            grad_T = grad_T.sum(1, keepdim=True) if T.shape[1] == 1 else grad_T
        if ctx.needs_input_grad[1]:
            grad_c = -w * x
            grad_c = grad_c.sum(0, keepdim=True) if len(c) == 1 else grad_c
        return grad_T, grad_c, grad_b, None, None, None


def _scales(field: Tensor) -> Tensor:
    """Return a power of two close to the largest absolute value of each sample, shape (b, 1, 1, 1)."""
    return binary_scales(field.flatten(1)).view(-1, 1, 1, 1)


def _factors(w: Tensor, x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return two fields of similar size whose product is `scale` w x, so that neither overflows nor underflows."""
    sizes = _scales(w), _scales(x)
    exponent = (scale.log2() + sizes[0].log2() + sizes[1].log2()).round()
    half = (exponent / 2).floor()
    return w / sizes[0] * half.exp2(), x / sizes[1] * (exponent - half).exp2()


def _difference(u: Tensor, offset: tuple[int, ...]) -> Tensor:
    """Return u_i - u_j for the pairs (i, j) of one offset."""
    return u - torch.roll(u, tuple(-o for o in offset), (-3, -2, -1))
