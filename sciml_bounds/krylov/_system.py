"""Input validation of linear systems, shared by the Krylov methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sciml_bounds.arrays import convert, require_callback, require_choice, require_count, require_finite, to_tensor
from sciml_bounds.errors import InputError
from sciml_bounds.krylov._loop import check_tolerances
from sciml_bounds.multigrid._algebraic import Algebraic
from sciml_bounds.operators._linear_operator import (
    Identity,
    LinearOperator,
    aslinearoperator,
    csr_matrices,
)

__all__ = ["Callback", "LinearSystem", "read_system", "require_fit", "require_symmetric"]

#: Called after each iteration with the current x (batch..., n); returning True stops the loop.
Callback = Callable[[Tensor], bool | None]

#: An operator counts as symmetric if u.Av and v.Au differ by less than this factor times eps |u| |Av|.
SYMMETRY_SLACK = 1e5

#: Requirement on A and remedy: the end of several error messages.
CG_NEEDS = (
    "conjugate gradients need a symmetric positive definite operator; use another method, or the normal equations "
    "A^T A x = A^T b."
)


@dataclass(frozen=True)
class LinearSystem:
    """A checked system A x = b, with its preconditioner M, right-hand sides (..., n), initial guess and tolerances."""

    A: LinearOperator
    b: Tensor
    M: LinearOperator
    x0: Tensor | None
    rtol: float
    atol: float


def read_system(
    A: Any,
    b: Any,
    M: Any,
    x0: Any,
    *,
    rtol: float | None,
    atol: float,
    maxiter: int | None,
    callback: Callback | None,
    need: str = CG_NEEDS,
) -> LinearSystem:
    """Convert and check the arguments of a Krylov method.

    Raises
    ------
    InputError
        If shapes, dtypes or devices do not match, an entry is not finite, A is not symmetric, or a tolerance, maxiter
        or the callback is invalid.
    """
    rhs = to_tensor(b, "the right-hand side b")
    if rhs.ndim == 0 or rhs.shape[-1] == 0:
        raise InputError(f"the right-hand side b has shape {tuple(rhs.shape)}; give at least one vector of numbers.")
    operator = aslinearoperator(A, rhs)
    rhs = convert(
        b, "the right-hand side b", operator.dtype, operator.device if not isinstance(b, Tensor) else b.device
    )
    require_fit(operator, rhs, "A")
    require_finite(rhs, "the right-hand side b")
    require_symmetric(operator, rhs, need=need)
    preconditioner = _preconditioner(M, A, operator, rhs)
    require_fit(preconditioner, rhs, "M")
    if maxiter is not None:
        require_count(maxiter, "maxiter", 0)
    require_callback(callback)
    rtol, atol = check_tolerances(rtol, atol, rhs.dtype), float(atol)
    _require_attainable(rhs, rtol, atol)
    return LinearSystem(operator, rhs, preconditioner, None if x0 is None else _guess(x0, rhs), rtol, atol)


def _preconditioner(M: Any, A: Any, operator: LinearOperator, rhs: Tensor) -> LinearOperator:
    """Return the preconditioner as an operator; an algebraic hierarchy is set up for the matrix A."""
    if M is None:
        return Identity(operator.shape[0], rhs.dtype, rhs.device)
    if isinstance(M, str):
        require_choice(M, "M", ("algebraic",))
        M = Algebraic()
    if not isinstance(M, Algebraic):
        return aslinearoperator(M, rhs)
    matrices = csr_matrices(A)
    if matrices is None:
        raise InputError(
            "M is algebraic multigrid, which needs the entries of A, but A is given only by its products (a "
            f"{type(A).__name__}); pass A as a sparse matrix, or another M."
        )
    return M.set_up(matrices, rhs.dtype, rhs.device)


def _guess(x0: Any, rhs: Tensor) -> Tensor:
    guess = convert(x0, "the initial guess x0", rhs.dtype, rhs.device).clone()
    require_finite(guess, "the initial guess x0")
    if guess.shape != rhs.shape:
        raise InputError(
            f"x0 has shape {tuple(guess.shape)}, but b has shape {tuple(rhs.shape)}; give x0 the shape of b."
        )
    return guess


def require_fit(operator: LinearOperator, rhs: Tensor, name: str) -> None:
    """Check that an operator matches right-hand sides (..., n) in shape, device, dtype and batch.

    Raises
    ------
    InputError
        If one of them differs.
    """
    n = rhs.shape[-1]
    if operator.shape != (n, n):
        raise InputError(
            f"{name} has shape {operator.shape}, but b has {n} entries along its last axis; give {name} and b the same "
            "length."
        )
    if operator.device != rhs.device:
        raise InputError(
            f"{name} is on device {operator.device}, but b is on {rhs.device}; move b or {name} to the other device."
        )
    if operator.dtype != rhs.dtype:
        ours, theirs = (str(dtype).removeprefix("torch.") for dtype in (operator.dtype, rhs.dtype))
        raise InputError(f"{name} uses {ours}, but b is {theirs}; convert b or {name} to the dtype of the other.")
    if operator.batch not in (1, rhs.numel() // n):
        raise InputError(
            f"{name} is a batch of {operator.batch}, but b has {rhs.numel() // n} right-hand sides; give a single "
            f"{name}, or one per right-hand side."
        )


def _require_attainable(rhs: Tensor, rtol: float, atol: float) -> None:
    """Check that the squares of residuals at the tolerance, needed for norms, neither overflow nor underflow."""
    rows = rhs.detach().reshape(-1, rhs.shape[-1])
    least = max(rtol, torch.finfo(rhs.dtype).eps)  # below it, round-off ends the loop
    squared = (least * rows.norm(dim=1)).clamp_min(atol) ** 2
    lost = rows.any(1) & ((squared < torch.finfo(rhs.dtype).tiny) | ~torch.isfinite(squared))
    if bool(lost.any()):
        kind = str(rhs.dtype).removeprefix("torch.")
        raise InputError(
            f"the right-hand side b has entries of size {float(rows[lost][0].abs().max()):.3g}, for which squares of "
            f"residuals at the tolerance overflow or underflow in {kind}; scale b to size 1, and scale x back."
        )


def require_symmetric(operator: LinearOperator, rhs: Tensor, *, name: str = "A", need: str = CG_NEEDS) -> None:
    """Check that u.Av = v.Au for a random pair of vectors shaped like rhs, unless A is known to be symmetric.

    Raises
    ------
    InputError
        If the operator is not symmetric.
    """
    if operator.symmetric is None and rhs.numel():
        generator = torch.Generator().manual_seed(0)
        pair = torch.randn((2, rhs.shape[-1]), generator=generator, dtype=torch.float64).to(rhs)
        u, v = (row.expand_as(rhs) for row in pair)
        product_u, product_v = operator.matvec(u.contiguous()), operator.matvec(v.contiguous())
        size = torch.maximum(product_u.abs().amax(), product_v.abs().amax())
        if bool(torch.isfinite(size) & (size > 0)):  # so that squares stay in range
            product_u, product_v = product_u / size, product_v / size
        difference = ((u * product_v).sum(-1) - (v * product_u).sum(-1)).abs()
        scale = u.norm(dim=-1) * product_v.norm(dim=-1) + v.norm(dim=-1) * product_u.norm(dim=-1)
        if bool((difference > SYMMETRY_SLACK * torch.finfo(rhs.dtype).eps * scale).any()):
            relative = float((difference / scale).max())
            letter = name if len(name) == 1 else "P"
            raise InputError(
                f"{name} is not symmetric (u.{letter}v and v.{letter}u differ by {relative:.2g} of their size); {need}"
            )
    if operator.symmetric is False:
        raise InputError(f"{name} has the attribute symmetric=False; {need}")
