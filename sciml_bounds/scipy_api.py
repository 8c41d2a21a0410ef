"""scipy's exact signatures, numpy in and numpy out, on the loops of this package: only the import has to change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse.linalg
import torch
from torch import Tensor

from sciml_bounds.errors import InputError
from sciml_bounds.krylov.loop import iterate
from sciml_bounds.operators.linear_operator import Identity, LinearOperator

__all__ = ["cg"]

type Array = np.ndarray[Any, np.dtype[Any]]

#: The dtypes that are computed in; whatever else is given becomes float64, as in scipy.
_DTYPES = "fdFD"


def cg(
    A: Any,
    b: Any,
    x0: Any = None,
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int | None = None,
    M: Any = None,
    callback: Callable[[Array], Any] | None = None,
) -> tuple[Array, int]:
    """Solve A x = b for Hermitian positive definite A by conjugate gradients, as `scipy.sparse.linalg.cg` does.

    Parameters
    ----------
    A
        Real or complex, n x n: an array, a scipy sparse array or matrix, a scipy `LinearOperator`, or one of ours.
    b
        Right-hand side, shape (n,) or (n, 1).
    x0
        Initial guess, shape (n,) or (n, 1), or "Mb" for M b; zero by default.
    rtol, atol
        Stop when ||b - A x|| <= max(rtol ||b||, atol).
    maxiter
        Largest number of iterations; 10 n by default.
    M
        Preconditioner, Hermitian positive definite: an approximation of the inverse of A, in any of the forms of `A`.
        No network of directions or MgNO, which are not: `sb.cg` takes those.
    callback
        Called with the current x after each iteration; x is overwritten by the next one.

    Returns
    -------
    x
        The solution, shape (n,), in the wider of the dtypes of A and b.
    info
        0 if the residual of x is as small as asked; otherwise the number of iterations done, at least 1.

    Raises
    ------
    InputError
        (a ValueError) If shapes do not fit, a tolerance is negative or not a number, or M is a network.

    Notes
    -----
    The iterates are scipy's, up to round-off. What differs: `info` judges the residual of x, computed anew at the end,
    where scipy trusts its recurrence, so that a tolerance that round-off does not allow is reported as not reached, and
    one that the last allowed iteration reaches as reached. An operator or preconditioner that turns out not to be
    positive definite, or not finite, ends the iteration where scipy goes on. There is no `A.psolve`.

    Examples
    --------
    >>> import numpy as np
    >>> from sciml_bounds.scipy_api import cg
    >>> A = np.array([[2.0, 1.0j], [-1.0j, 3.0]])
    >>> x, info = cg(A, np.array([1.0, 0.0]), rtol=1e-10)
    >>> info, np.allclose(A @ x, [1.0, 0.0])
    (0, True)
    """
    operator = _scipy_operator(A)
    n = operator.shape[0]
    if operator.shape != (n, n):
        raise InputError(f"A has shape {operator.shape}; expected a square matrix.")
    rhs = np.asanyarray(b)
    if rhs.shape not in ((n,), (n, 1)):
        raise InputError(f"A has shape {(n, n)} and b has shape {rhs.shape}; b must have shape {(n,)} or {(n, 1)}.")
    dtype = np.result_type(*(t if t.char in _DTYPES else np.float64 for t in (np.dtype(operator.dtype), rhs.dtype)))
    rhs = np.array(rhs, dtype).reshape(1, n)
    if isinstance(M, LinearOperator) and M.safeguard:  # the iteration would end where r.Mr <= 0, without a word
        raise InputError(
            f"M is a {type(M).__name__}, which is not linear and symmetric as scipy's iteration needs it; use sb.cg."
        )
    inverse = None if M is None else _scipy_operator(M)
    if inverse is not None and inverse.shape != (n, n):
        raise InputError(f"A has shape {(n, n)} and M has shape {inverse.shape}; they must agree.")
    guess = _initial_guess(x0, rhs, inverse)
    tolerance = _tolerance(rtol, atol, rhs)
    if n == 0:
        return np.zeros(0, dtype), 0
    if not np.isfinite(rhs).all():  # in scipy, NaN after the first iteration, and then all others
        return np.full(n, np.nan, dtype), max(1, 10 * n if maxiter is None else int(maxiter))
    vector = torch.from_numpy(rhs)

    def monitor(iteration: int, x: Tensor, norm: Tensor) -> None:
        if callback is not None:
            callback(x.view(-1).numpy())  # whatever it returns

    solution = iterate(
        _Hermitian(operator, vector),
        vector,
        Identity(n, vector.dtype, vector.device) if inverse is None else _Hermitian(inverse, vector),
        torch.from_numpy(guess) if guess.any() else None,
        rtol=0.0,
        atol=tolerance,
        maxiter=maxiter,
        monitor=monitor,
    )
    done = bool(solution.converged)
    return solution.x.view(-1).numpy(), 0 if done else max(1, int(solution.iterations))


class _Hermitian(LinearOperator):
    """An operator of scipy on single vectors, taken to be Hermitian as scipy takes it."""

    symmetric = True

    def __init__(self, operator: scipy.sparse.linalg.LinearOperator, like: Tensor) -> None:
        self._matvec = operator.matvec
        self.shape = operator.shape
        self.dtype, self.device = like.dtype, like.device

    def matvec_into(self, x: Tensor, out: Tensor) -> Tensor:
        """Apply to one vector, in the memory of the tensors."""
        out.view(-1).numpy()[...] = self._matvec(x.view(-1).numpy())
        return out


def _scipy_operator(A: Any) -> scipy.sparse.linalg.LinearOperator:
    operator = A.to_scipy() if isinstance(A, LinearOperator) else scipy.sparse.linalg.aslinearoperator(A)
    if len(operator.shape) != 2:
        raise InputError(f"an operator has shape {operator.shape}; expected 2-D.")
    return operator


def _initial_guess(x0: Any, rhs: Array, inverse: scipy.sparse.linalg.LinearOperator | None) -> Array:
    if x0 is None:
        return np.zeros_like(rhs)
    if isinstance(x0, str):
        if x0 != "Mb":
            raise InputError(f"the initial guess x0 is {x0!r}; give an array, or 'Mb'.")
        x0 = rhs[0] if inverse is None else inverse.matvec(rhs[0])
    guess = np.array(x0, rhs.dtype)
    n = rhs.size
    if guess.shape not in ((n,), (n, 1)):
        raise InputError(f"the initial guess x0 has shape {guess.shape}; it must have shape {(n,)} or {(n, 1)}.")
    return guess.reshape(1, n)


def _tolerance(rtol: float, atol: float, rhs: Array) -> float:
    """max(rtol ||b||, atol), but a positive number of the dtype, so that a residual of zero is always small enough."""
    for name, value in (("rtol", rtol), ("atol", atol)):
        if not isinstance(value, int | float | np.number) or not value >= 0:
            raise InputError(f"{name} is {value!r}; it must be a number that is not negative.")
    limits = np.finfo(rhs.dtype)
    tolerance = max(float(atol), float(rtol) * float(np.linalg.norm(rhs)))  # atol if that is NaN
    return min(max(tolerance, float(limits.tiny)), float(limits.max))
