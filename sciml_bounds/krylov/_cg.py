"""Public conjugate-gradient interface: input validation and failure reporting around the CG loop."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml_bounds.arrays import require_count, require_finite, to_tensor
from sciml_bounds.errors import InputError
from sciml_bounds.krylov._loop import iterate
from sciml_bounds.krylov._system import Callback, read_system
from sciml_bounds.operators._lattice_operator import LatticeOperator, subtract_means
from sciml_bounds.reports import Reason, report_failure
from sciml_bounds.results import LinearSolution

__all__ = ["cg"]

#: If the residual grows by more than this factor, the failure message suggests that A may be singular.
SUSPICIOUS_GROWTH = 100

SINGULAR = (
    "The residual has grown: A may be singular and b outside the range of A; project b onto this range, for example "
    "by subtracting the mean of b."
)


def cg(
    A: Any,
    b: Any,
    *,
    M: Any = None,
    x0: Any = None,
    rtol: float | None = None,
    atol: float = 0.0,
    maxiter: int | None = None,
    memory: int | None = None,
    flexible: bool | None = None,
    lambda_min: float | Tensor | None = None,
    lambda_min_preconditioned: float | Tensor | None = None,
    callback: Callback | None = None,
    throw: bool = False,
) -> LinearSolution:
    """Solve A x = b for symmetric positive definite A by conjugate gradients.

    Parameters
    ----------
    A : LinearOperator, matrix of torch, numpy, scipy or PETSc, or callable
        The operator, shape (n, n); a callable maps vectors (..., n) to vectors (..., n). A may be singular if b lies in
        the range of A and M maps this range into itself.
    b : array or Tensor, shape (..., n)
        Right-hand side. Leading axes are a batch; each sample has its own step lengths.
    M : same types as `A`, "algebraic" or sb.Algebraic, optional
        Preconditioner, an approximate inverse of A. If None, no preconditioning. "algebraic" sets up an algebraic
        multigrid hierarchy (PyAMG) for the matrix A; `sb.Algebraic(kind=...)` chooses its coarsening.
    x0 : array or Tensor, shape (..., n), optional
        Initial guess; zero by default.
    rtol, atol : float or None, float
        Stop when ||b - A x|| <= max(rtol ||b||, atol) or, if A is the operator of a problem, when the residual is at
        the round-off level 10 eps || |A| |x| + |b| ||. The default `rtol` is 1e-8 in float64 and 1e-5 in float32.
    maxiter : int or None
        Maximum number of iterations; 10 n by default.
    memory : int or None
        Number K of previous directions that flexible CG keeps; each new direction is made A-orthogonal to them. The
        default is 2 if M is not known to be linear, else 1.
    flexible : bool or None
        Use flexible CG, which orthogonalises directions explicitly. The default is True if M is not known to be linear
        and symmetric, or if `memory` is larger than 1. The attribute `flexible` of the result reports the choice.
    lambda_min : float, Tensor or None
        Lower bound on the smallest eigenvalue of A. If given, the result has the guaranteed error bound ||b - A x|| /
        sqrt(lambda_min), which includes rounding errors of the residual. If A is a callable, its rounding errors are
        unknown, and the result is marked as an estimate.
    lambda_min_preconditioned : float, Tensor or None
        Lower bound on the smallest eigenvalue of M A. If given, the result has the guaranteed Gauss-Radau bound (not
        with flexible CG).
    callback : Callback or None
        Called after each iteration with the current x; the iteration stops if it returns True.
    throw : bool
        Raise `ConvergenceError` instead of warning when the tolerance is not reached.

    Returns
    -------
    LinearSolution
        The solution, with a lower bound on the A-norm error at every iterate, and an upper bound or an estimate at the
        last iterate.

    Raises
    ------
    InputError
        If shapes, dtypes or devices do not match, an entry is not finite, rtol is below 10 eps of the dtype, A is not
        symmetric, or the iteration fails on a singular `LatticeOperator` because b is outside its range.
    ConvergenceError
        If `throw` is true and the tolerance is not reached.

    Notes
    -----
    If M is not known to be linear, each step minimises the A-norm of the error over the output of M and the K previous
    directions; the scale and sign of the output do not matter. With a network (`LearnedDirections`, `MgNO`, or any
    operator with `safeguard = True`) the residual is a search direction too. Then each step is at least as good as a
    steepest-descent step: a poor network costs iterations, never accuracy. Outputs that are zero, NaN, infinite or
    linearly dependent are dropped; `dropped_directions` counts them. If A is singular, the output of M must lie almost
    entirely in the range of A; otherwise CG may wrongly report that A is indefinite.

    Examples
    --------
    >>> import torch, sciml_bounds as sb
    >>> A = torch.tensor([[4.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    >>> s = sb.cg(A, [1.0, 2.0])
    >>> s.x
    tensor([0.0909, 0.6364], dtype=torch.float64)
    >>> s.converged.item(), s.iterations.item()
    (True, 2)

    Algebraic multigrid for a sparse matrix of any origin:

    >>> import scipy.sparse
    >>> L = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(1000, 1000))
    >>> sb.cg(L, [1.0] * 1000, M="algebraic").iterations.item() < 15
    True
    """
    start = time.perf_counter()
    system = read_system(A, b, M, x0, rtol=rtol, atol=atol, maxiter=maxiter, callback=callback)
    rhs = system.b
    if memory is not None:
        require_count(memory, "memory", 1)
    if flexible is not None and not isinstance(flexible, bool | np.bool_):
        raise InputError(f"flexible is {flexible!r}; give True, False or None.")
    lambda_min = _eigenvalue_bound(lambda_min, "lambda_min", rhs)
    lambda_min_preconditioned = _eigenvalue_bound(lambda_min_preconditioned, "lambda_min_preconditioned", rhs)

    def monitor(iteration: int, x: Tensor, norm: Tensor) -> bool | None:
        return callback is not None and callback(x.view(rhs.shape))

    solution = iterate(
        system.A, rhs, system.M, system.x0, rtol=system.rtol, atol=system.atol, maxiter=maxiter, memory=memory,
        flexible=flexible, lambda_min=lambda_min, lambda_min_preconditioned=lambda_min_preconditioned, monitor=monitor,
        start=start,
    )  # fmt: skip
    reasons = {solution.reason} if isinstance(solution.reason, Reason) else set(solution.reason)
    if isinstance(system.A, LatticeOperator) and reasons - {Reason.CONVERGED, Reason.STOPPED}:
        _require_in_range(system.A, rhs, solution.tolerance)  # if x diverges, its round-off may hide the cause
    if not bool(solution.converged.all()) and Reason.STOPPED not in reasons:
        worse = bool((solution.residual_norm > SUSPICIOUS_GROWTH * solution.residual_norms[0]).any())
        advice = dict.fromkeys(Reason, SINGULAR) if worse else {}
        report_failure("conjugate gradients", solution.reason, solution.progress, throw=throw, advice=advice)
    return solution


def _require_in_range(operator: LatticeOperator, rhs: Tensor, tolerance: Tensor) -> None:
    """Raise if the part of b in the null space of a singular operator, which no x can reduce, exceeds the tolerance."""
    parts = operator.floating()
    if parts is None:
        return
    b = rhs.detach().reshape(-1, *operator.lattice)
    outside = b - subtract_means(b, parts, torch.ones_like(operator.absorption))
    bad = outside.flatten(1).norm(dim=1) > tolerance.reshape(-1)
    if bool(bad.any()):
        largest = float(outside[bad].abs().amax())
        raise InputError(
            "A is singular and b is outside its range: on a floating component of the lattice (one without prescribed "
            f"values), b has the mean {largest:.3g}, which must be zero; subtract the mean of b there."
        )


def _eigenvalue_bound(bound: Any, name: str, rhs: Tensor) -> Tensor | None:
    if bound is None:
        return None
    numbers = to_tensor(bound, name)
    require_finite(numbers, name)
    if not bool((numbers > 0).all()):
        raise InputError(
            f"{name} must be positive, but has the value {float(numbers.min()):.3g}; give a positive lower bound on "
            f"the smallest eigenvalue, or leave {name} out."
        )
    count = rhs.numel() // rhs.shape[-1]
    if numbers.numel() not in (1, count):
        raise InputError(
            f"{name} has {numbers.numel()} entries, but b has {count} right-hand sides; give one value, or one per "
            "right-hand side."
        )
    return numbers.reshape(-1)
