"""`cg` and `minres` with scipy's signatures and numpy arrays: drop-in replacements with the loops of this package."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse.linalg
import torch
from torch import Tensor

from sciml_bounds.arrays import binary_scales, require_number
from sciml_bounds.errors import InputError
from sciml_bounds.krylov._loop import iterate
from sciml_bounds.krylov._minres import MinresLoop
from sciml_bounds.krylov._system import require_symmetric
from sciml_bounds.operators._linear_operator import Identity, LinearOperator
from sciml_bounds.reports import Reason

__all__ = ["cg", "minres"]

type Array = np.ndarray[Any, np.dtype[Any]]

#: Codes of the dtypes that are kept; any other dtype becomes float64, as in scipy.
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
    A : ndarray, sparse array or LinearOperator
        Real or complex matrix (n, n), or an operator of scipy or of this package.
    b : ndarray (n,) or (n, 1)
        Right-hand side.
    x0 : ndarray (n,) or (n, 1), or "Mb", optional
        Initial guess; "Mb" means M b. Zero by default.
    rtol, atol : float
        Stop when ||b - A x|| <= max(rtol ||b||, atol).
    maxiter : int, optional
        Maximum number of iterations; 10 n by default.
    M : ndarray, sparse array or LinearOperator, optional
        Preconditioner: a Hermitian positive definite approximation of the inverse of A. Direction networks and MgNO
        are neither linear nor symmetric; pass them to `sb.cg`.
    callback : callable, optional
        Called with a copy of the current x after each iteration.

    Returns
    -------
    x : ndarray (n,)
        The solution, in the wider of the dtypes of A and b.
    info : int
        0 if the residual of x meets the tolerance; otherwise the number of iterations, at least 1.

    Raises
    ------
    InputError
        (a ValueError) If shapes disagree, a tolerance is negative or not a number, or M is a network.

    Notes
    -----
    The iterates equal those of scipy up to round-off. There are three differences. First, `info` is based on the
    residual b - A x, recomputed at the end, and not on the recurrence. So a tolerance below round-off is reported as
    not reached, and a tolerance reached in the last allowed iteration as reached. Second, the iteration stops as soon
    as A or M turns out not to be positive definite or not to be finite. Third, `A.psolve` is not used.

    Examples
    --------
    >>> import numpy as np
    >>> from sciml_bounds.scipy_api import cg
    >>> A = np.array([[2.0, 1.0j], [-1.0j, 3.0]])
    >>> x, info = cg(A, np.array([1.0, 0.0]), rtol=1e-10)
    >>> info, np.allclose(A @ x, [1.0, 0.0])
    (0, True)
    """
    operator, rhs, inverse = _read_system(A, b, M)
    n, dtype = rhs.size, rhs.dtype
    guess = _initial_guess(x0, rhs, inverse)
    scale = _divide_by_scale(rhs, guess)
    tolerance, limit = _tolerance(rtol, atol, rhs, scale), _iteration_limit(maxiter, 10 * n)
    if n == 0:
        return np.zeros(0, dtype), 0
    if not np.isfinite(rhs).all():
        return _without_solution(guess, limit)
    vector = torch.from_numpy(rhs)

    def monitor(iteration: int, x: Tensor, norm: Tensor) -> None:
        if callback is not None:
            callback(_scaled_back(x, scale, dtype))  # its result is ignored, as in scipy

    solution = iterate(
        _Hermitian(operator, vector),
        vector,
        Identity(n, vector.dtype, vector.device) if inverse is None else _Hermitian(inverse, vector),
        torch.from_numpy(guess) if guess.any() else None,
        rtol=0.0,
        atol=tolerance,
        maxiter=limit,
        monitor=monitor,
    )
    return _outcome(_scaled_back(solution.x, scale, dtype), bool(solution.converged), solution.iterations)


def minres(
    A: Any,
    b: Any,
    x0: Any = None,
    *,
    rtol: float = 1e-5,
    shift: float = 0.0,
    maxiter: int | None = None,
    M: Any = None,
    callback: Callable[[Array], Any] | None = None,
    show: bool = False,
    check: bool = False,
) -> tuple[Array, int]:
    """Solve (A - shift I) x = b for Hermitian A, definite or not, as `scipy.sparse.linalg.minres` does.

    Parameters
    ----------
    A : ndarray, sparse array or LinearOperator
        Real or complex matrix (n, n), or an operator of scipy or of this package.
    b : ndarray (n,) or (n, 1)
        Right-hand side.
    x0 : ndarray (n,) or (n, 1), or "Mb", optional
        Initial guess; "Mb" means M b. Zero by default.
    rtol : float, default 1e-5
        Stop when ||b - (A - shift I) x||_M <= rtol ||b||_M, with ||r||_M = sqrt(r.M r), or the Euclidean norm if M is
        not given.
    shift : float, default 0.0
        Multiple of the identity that is subtracted from A.
    maxiter : int, optional
        Maximum number of iterations; 5 n by default.
    M : ndarray, sparse array or LinearOperator, optional
        Preconditioner: a Hermitian positive definite approximation of the inverse of |A|, the matrix with the absolute
        values of the eigenvalues of A.
    callback : callable, optional
        Called with a copy of the current x after each iteration.
    show : bool, default False
        Print the residual norm of each iteration.
    check : bool, default False
        Test with random vectors whether A and M are Hermitian.

    Returns
    -------
    x : ndarray (n,)
        The solution, in the wider of the dtypes of A and b.
    info : int
        0 if the residual of x meets the tolerance; otherwise the number of iterations, at least 1.

    Raises
    ------
    InputError
        (a ValueError) If shapes disagree, a tolerance or the shift is not a number, M is a network or proves not
        positive definite, or `check` finds A or M not Hermitian.

    Notes
    -----
    There are two differences from scipy. First, scipy stops relative to ||A|| ||x||, which is larger than ||b|| up to
    the residual, so this function may take more iterations and is more accurate. Second, `info` is based on the
    residual of x, recomputed at the end, and is therefore not 0 for a least-squares solution of an inconsistent system.

    Examples
    --------
    >>> import numpy as np
    >>> from sciml_bounds.scipy_api import minres
    >>> A = np.array([[2.0, 1.0j], [-1.0j, -3.0]])
    >>> x, info = minres(A, np.array([1.0, 0.0]), rtol=1e-10)
    >>> info, np.allclose(A @ x, [1.0, 0.0])
    (0, True)
    """
    operator, rhs, inverse = _read_system(A, b, M)
    n, dtype = rhs.size, rhs.dtype
    guess = _initial_guess(x0, rhs, inverse)
    scale = _divide_by_scale(rhs, guess)
    tolerance, limit = _tolerance(rtol, 0.0, rhs, scale), _iteration_limit(maxiter, 5 * n)
    shift = require_number(shift, "shift")
    if n == 0:
        return np.zeros(0, dtype), 0
    if not np.isfinite(rhs).all():
        return _without_solution(guess, limit)
    vector = torch.from_numpy(_real(rhs))
    shifted = _RealView(lambda x: operator.matvec(x) - shift * x if shift else operator.matvec(x), vector, dtype)
    preconditioner: LinearOperator = (
        Identity(vector.shape[1], vector.dtype, vector.device)
        if inverse is None
        else _RealView(inverse.matvec, vector, dtype)
    )
    if check:
        for given, name in ((shifted, "A"), (preconditioner, "M")):
            given.symmetric = None
            require_symmetric(given, vector, name=name, need="MINRES needs a Hermitian operator.")
    loop = MinresLoop(shifted, vector, preconditioner, torch.from_numpy(_real(guess)) if guess.any() else None)
    loop.seek(loop.rhs_norm * tolerance / float(np.linalg.norm(rhs)) if rhs.any() else loop.rhs_norm)

    def after_iteration() -> bool:
        if show:
            sys.stdout.write(f"iteration {len(loop.norms) - 1}: residual norm {scale * float(loop.norm):.6e}\n")
        if callback is not None:
            callback(_scaled_back(loop.x, scale, dtype))  # its result is ignored, as in scipy
        return False

    loop.run(limit, after_iteration)
    if loop.reasons[0] is Reason.INDEFINITE_PRECONDITIONER:
        raise InputError(
            "M is not positive definite (v.Mv < 0 for a vector v of the iteration); give MINRES a positive definite "
            "preconditioner."
        )
    done = loop.reasons[0] in (Reason.CONVERGED, Reason.ROUND_OFF)
    return _outcome(_scaled_back(loop.x, scale, dtype), done, loop.iterations)


def _without_solution(guess: Array, maxiter: int) -> tuple[Array, int]:
    """Return what scipy returns if b is not finite: NaN, after `maxiter` iterations."""
    return guess[0] if maxiter == 0 else np.full_like(guess[0], np.nan), max(1, maxiter)


def _outcome(x: Array, converged: bool, iterations: Tensor) -> tuple[Array, int]:
    """Return x and its `info`, which is not 0 if x has overflowed when the scaling of b was undone."""
    return x, 0 if converged and np.isfinite(x).all() else max(1, int(iterations))


def _read_system(
    A: Any, b: Any, M: Any
) -> tuple[scipy.sparse.linalg.LinearOperator, Array, scipy.sparse.linalg.LinearOperator | None]:
    """Return A, b (1, n) in the dtype of the solution, and M, after checking them."""
    operator = _scipy_operator(A)
    n = operator.shape[0]
    if operator.shape != (n, n):
        raise InputError(f"A has shape {operator.shape}; give a square matrix.")
    rhs = np.asanyarray(b)
    if rhs.shape not in ((n,), (n, 1)):
        raise InputError(f"A has shape {(n, n)} and b has shape {rhs.shape}; give b the shape {(n,)} or {(n, 1)}.")
    dtype = np.result_type(*(t if t.char in _DTYPES else np.float64 for t in (np.dtype(operator.dtype), rhs.dtype)))
    if isinstance(M, LinearOperator) and M.safeguard:  # the iteration would stop silently at r.Mr <= 0
        raise InputError(
            f"M is a {type(M).__name__}, but scipy's CG needs a linear and symmetric preconditioner; use sb.cg."
        )
    inverse = None if M is None else _scipy_operator(M)
    if inverse is not None and inverse.shape != (n, n):
        raise InputError(f"A has shape {(n, n)} and M has shape {inverse.shape}; give M the shape of A.")
    return operator, np.array(rhs, dtype).reshape(1, n), inverse


def _real(vector: Array) -> Array:
    """View n complex numbers as 2 n real numbers: Hermitian matrices become symmetric, with the same Krylov spaces."""
    reals: Array = vector.view(vector.real.dtype)
    return reals


class _RealView(LinearOperator):
    """Symmetric operator on real vectors that applies a Hermitian map of real or complex numpy vectors (n,)."""

    symmetric = True

    def __init__(self, product: Callable[[Array], Array], like: Tensor, dtype: np.dtype[Any]) -> None:
        self._product, self._dtype = product, dtype
        self.shape = (like.shape[1], like.shape[1])
        self.dtype, self.device = like.dtype, like.device

    def matvec_into(self, x: Tensor, out: Tensor) -> Tensor:
        """Apply to one vector, in the memory of the tensors."""
        out.view(-1).numpy().view(self._dtype)[...] = self._product(x.view(-1).numpy().view(self._dtype))
        return out

    def matvec(self, x: Tensor) -> Tensor:
        """Apply to one vector."""
        return self.matvec_into(x, torch.empty_like(x))


class _Hermitian(LinearOperator):
    """A scipy operator on single vectors, which is assumed to be Hermitian, as in scipy."""

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
        raise InputError(f"expected 2-D operators, but one has shape {operator.shape}; give operators of shape (n, n).")
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
        raise InputError(f"the initial guess x0 has shape {guess.shape}; give shape {(n,)} or {(n, 1)}.")
    return guess.reshape(1, n)


def _divide_by_scale(rhs: Array, guess: Array) -> float:
    """Divide b and the guess (1, n) in place by a power of two near the largest entry of b; return the divisor.

    The division avoids overflow and underflow of squares of residuals. The divisor is larger if the guess is much
    larger than b.
    """
    if rhs.size == 0 or not np.isfinite(rhs).all():
        return 1.0
    sizes = [float(binary_scales(torch.from_numpy(_real(field)))) for field in (rhs, guess)]
    scale = max(sizes[0], sizes[1] * 2.0 ** -(np.finfo(rhs.dtype).maxexp // 4)) if guess.any() else sizes[0]
    for field in (rhs, guess):
        numbers = _real(field)
        numbers /= scale
    return scale


def _scaled_back(x: Tensor, scale: float, dtype: np.dtype[Any]) -> Array:
    """Return x (1, n) without the scaling of b, as a copy of shape (n,)."""
    reals = torch.view_as_real(x) if x.is_complex() else x
    restored: Array = (reals * scale).view(-1).numpy().view(dtype)
    return restored


def _iteration_limit(maxiter: int | None, default: int) -> int:
    if maxiter is None:
        return default
    if maxiter < 0:
        raise InputError(f"maxiter is {maxiter}; give a number that is not negative.")
    return int(maxiter)


def _tolerance(rtol: float, atol: float, rhs: Array, scale: float) -> float:
    """Return max(rtol ||b||, atol / scale), limited to positive finite numbers so that a zero residual meets it."""
    for name, value in (("rtol", rtol), ("atol", atol)):
        if not isinstance(value, int | float | np.number) or not value >= 0:
            raise InputError(f"{name} is {value!r}; give a nonnegative number.")
    limits = np.finfo(rhs.dtype)
    tolerance = max(float(atol) / scale, float(rtol) * float(np.linalg.norm(rhs)))  # atol if rtol ||b|| is NaN
    return min(max(tolerance, float(limits.tiny)), float(limits.max))
