"""The face of the conjugate-gradient loop: any operator and preconditioner, checked input, said failures."""

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

#: So much larger than at the start is a residual that tells of more than an unlucky iteration.
GROWN = 100

SINGULAR = (
    "The residual has grown: A may be singular and b outside its range; subtract from b what lies in the null space."
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
    A
        The operator: a `LinearOperator`, a torch, numpy, scipy or PETSc matrix, or a callable of vectors (..., n).
        A consistent singular system is solved too, if the preconditioner respects the null space.
    b
        Right-hand side, shape (..., n); leading axes are a batch, each sample with its own step lengths.
    M
        Preconditioner: an approximation of the inverse of A, in any of the forms of `A`.
    x0
        Initial guess; zero by default.
    rtol, atol
        Stop when ||b - A x|| <= max(rtol ||b||, atol), or at 10 eps || |A| |x| + |b| || where the operator is
        that of a problem. The default of `rtol` is 1e-8 in float64 and 1e-5 in float32.
    maxiter
        Largest number of iterations; 10 n by default.
    memory
        K, the number of previous directions that a flexible loop makes the new one A-orthogonal to: by default 2 where
        M is not known to be linear, and 1 elsewhere.
    flexible
        Orthogonalise explicitly. By default this is done when M is not known to be linear and symmetric, or when
        `memory` is larger than 1; the result's `flexible` tells which form ran.
    lambda_min
        A number below the smallest eigenvalue of A; gives the guaranteed bound ||b - A x|| / sqrt(lambda_min), with
        what rounding may have done to the residual. Of a function nothing is known that would bound that, so that the
        number is called an estimate there.
    lambda_min_preconditioned
        A number below the smallest eigenvalue of M A; gives the guaranteed Gauss-Radau bound (not in flexible form).
    callback
        Called after each iteration with the current x; returning True stops.
    throw
        Raise `ConvergenceError` instead of warning when the tolerance is not reached.

    Returns
    -------
    LinearSolution
        With lower bounds of the A-norm error at every iterate, and an upper bound or estimate at the last.

    Raises
    ------
    InputError
        If shapes, dtypes or devices do not fit, an entry is not finite, rtol is below 10 eps of the dtype, A is found
        not to be symmetric, or the iteration fails on a `LatticeOperator` that is singular and has b outside its range.
    ConvergenceError
        If `throw` is true and the tolerance is not reached.

    Notes
    -----
    With an M that is not known to be linear each step minimises the A-norm of the error over what M gives and the K
    previous directions, so that what M gives may have any size and sign. With a network (`LearnedDirections`, `MgNO`,
    any operator with `safeguard = True`) it does so over the residual too. Then no step is worse than one of steepest
    descent, a bad M costs iterations, not correctness, and what is zero, NaN, infinite or nothing new is dropped, which
    `dropped_directions` counts. Where A is singular, what such an M gives must lie in the range of A but for a small
    part; otherwise the loop may end as for an operator that is not definite.

    Examples
    --------
    >>> import torch, sciml_bounds as sb
    >>> A = torch.tensor([[4.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    >>> s = sb.cg(A, [1.0, 2.0])
    >>> s.x
    tensor([0.0909, 0.6364], dtype=torch.float64)
    >>> s.converged.item(), s.iterations.item()
    (True, 2)
    """
    start = time.perf_counter()
    system = read_system(A, b, M, x0, rtol=rtol, atol=atol, maxiter=maxiter, callback=callback)
    rhs = system.b
    if memory is not None:
        require_count(memory, "memory", 1)
    if flexible is not None and not isinstance(flexible, bool | np.bool_):
        raise InputError(f"flexible is {flexible!r}; it must be True, False or None.")
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
        _require_in_range(system.A, rhs, solution.tolerance)  # of an x that grows without end round-off grows too
    if not bool(solution.converged.all()) and Reason.STOPPED not in reasons:
        worse = bool((solution.residual_norm > GROWN * solution.residual_norms[0]).any())
        advice = dict.fromkeys(Reason, SINGULAR) if worse else {}
        report_failure("conjugate gradients", solution.reason, solution.progress, throw=throw, advice=advice)
    return solution


def _require_in_range(operator: LatticeOperator, rhs: Tensor, tolerance: Tensor) -> None:
    """Refuse right-hand sides of which more than the tolerance lies in the null space: no x leaves less."""
    parts = operator.floating()
    if parts is None:
        return
    b = rhs.detach().reshape(-1, *operator.lattice)
    outside = b - subtract_means(b, parts, torch.ones_like(operator.absorption))
    bad = outside.flatten(1).norm(dim=1) > tolerance.reshape(-1)
    if bool(bad.any()):
        largest = float(outside[bad].abs().amax())
        raise InputError(
            "A is singular and b is outside its range: on a part of the lattice where nothing fixes the level of x, b "
            f"has a mean of size {largest:.3g}, which must be zero; subtract it."
        )


def _eigenvalue_bound(bound: Any, name: str, rhs: Tensor) -> Tensor | None:
    if bound is None:
        return None
    numbers = to_tensor(bound, name)
    require_finite(numbers, name)
    if not bool((numbers > 0).all()):
        raise InputError(f"{name} must be positive: a number below the spectrum of a positive definite operator.")
    count = rhs.numel() // rhs.shape[-1]
    if numbers.numel() not in (1, count):
        raise InputError(
            f"{name} has {numbers.numel()} entries, but b has {count} right-hand sides; give one number, or one each."
        )
    return numbers.reshape(-1)
