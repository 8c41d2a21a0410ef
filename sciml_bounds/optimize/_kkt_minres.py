"""Preconditioned MINRES for KKT systems, with adaptive accuracy.

MINRES minimises the norm ||r||_P = sqrt(r.P r) of the preconditioner P, an approximate inverse. A step is solved until
||r||_P <= min(0.1, ||R_k||_P / ||R_0||_P) ||R_k||_P. Then the outer iteration converges quadratically, and the scale of
the functions does not matter (Eisenstat, Walker, SIAM J. Sci. Comput. 17 (1996) 16-32).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from sciml_bounds.arrays import require_count, require_fraction
from sciml_bounds.errors import InputError
from sciml_bounds.krylov._minres import MinresLoop, require_positive
from sciml_bounds.operators._linear_operator import (
    CallableOperator,
    Identity,
    LinearOperator,
    aslinearoperator,
)
from sciml_bounds.optimize._nonlinear_program import Point
from sciml_bounds.optimize._products import Matrix, is_operator
from sciml_bounds.reports import Reason

__all__ = ["Minres", "MinresSolve", "MinresSolver"]

#: Smallest relative residual that is requested.
MIN_RTOL = 1e-14

#: Relative residuals above this are not recomputed: the recurrence is accurate in double precision.
MAX_RECOMPUTED_RESIDUAL = 1e-6

#: Largest relative residual in the Euclidean norm, which the outer iteration uses. The norm of the preconditioner may
#: fall long before the Euclidean norm does.
MAX_EUCLIDEAN_RATIO = 0.5


@dataclass(frozen=True)
class Minres:
    """Matrix-free MINRES for the KKT systems of `minimize`: use as `minimize(inner=Minres(...))`.

    Functions in torch are differentiated as products with vectors, so no matrix is formed; user-supplied derivatives
    may be operators.

    Parameters
    ----------
    preconditioner : LinearOperator, matrix, callable or None
        Symmetric positive definite operator on vectors (n + m,), first x and then multipliers, that approximates the
        inverse of the absolute value of [[H, J^T], [J, 0]]: a `LinearOperator`, or a matrix or operator of torch, numpy
        or scipy. Or a function of (x, multipliers) that returns one; it is called at each point of the iteration. If
        None, no preconditioning.
    rtol : float or None
        Upper bound of the relative residual of each solve, in the norm of the preconditioner. In any case, the relative
        residual is at most 0.1, and decreases as the KKT residual falls.
    maxiter : int
        Maximum number of iterations per solve. A solve that reaches it is used as it is, and counted in the result.

    Notes
    -----
    With the block-diagonal preconditioner diag(H, J H^-1 J^T)^-1, three iterations suffice (Murphy, Golub, Wathen, SIAM
    J. Sci. Comput. 21 (2000) 1969-1972). With symmetric multigrid cycles as blocks, the number of iterations does not
    depend on the mesh.

    Examples
    --------
    >>> import torch, sciml_bounds as sb
    >>> scale = torch.linspace(1.0, 100.0, 50, dtype=torch.float64)
    >>> start = torch.zeros(50, dtype=torch.float64)
    >>> inverse = torch.diag(torch.cat([1 / scale, torch.ones(1, dtype=torch.float64)]))
    >>> r = sb.minimize(
    ...     lambda x: scale @ (x - 1) ** 2, start, constraints=lambda x: x.sum() - 40, inner=sb.optimize.Minres(inverse)
    ... )
    >>> r.success, sum(step.inner_steps for step in r.history) < 30
    (True, True)
    """

    preconditioner: Any = None
    rtol: float | None = None
    maxiter: int = 10_000

    def __post_init__(self) -> None:
        if not (self.preconditioner is None or _is_fixed(self.preconditioner) or callable(self.preconditioner)):
            raise InputError(
                f"the preconditioner of Minres is {self.preconditioner!r}; give an operator on vectors (n + m,), or a "
                "function of (x, multipliers) that returns an operator."
            )
        if self.rtol is not None:
            require_fraction(self.rtol, "rtol of Minres")
        require_count(self.maxiter, "maxiter", 1)

    def solver(self) -> MinresSolver:
        """Return the inner solver with these settings."""
        return MinresSolver(self)

    def __str__(self) -> str:
        return "minres" if self.preconditioner is None else "preconditioned minres"


def _is_fixed(preconditioner: Any) -> bool:
    """Whether a preconditioner is an operator or matrix, rather than a function that returns one."""
    matrix = isinstance(preconditioner, Tensor | np.ndarray) or scipy.sparse.issparse(preconditioner)
    return matrix or is_operator(preconditioner) or hasattr(preconditioner, "createVecs")


class MinresSolver:
    """Inner solver by MINRES, with the preconditioner of the current point."""

    def __init__(self, settings: Minres) -> None:
        self.settings = settings
        self.give: Callable[[Tensor], Any] = lambda vector: vector
        self._point: Point | None = None
        self._M: LinearOperator | None = None

    def at(self, point: Point) -> None:
        """Set the point of the following KKT systems."""
        if point is not self._point and not _is_fixed(self.settings.preconditioner):
            self._M = None
        self._point = point

    def __call__(self, A: Matrix, b: Tensor, cap: int) -> MinresSolve:
        """Start the solution of a system with matrix A and right-hand side b, with at most `cap` iterations."""
        settings = self.settings
        return MinresSolve(A, b, self._preconditioner_at_point(b), settings.rtol, min(cap, settings.maxiter))

    def _preconditioner_at_point(self, b: Tensor) -> LinearOperator:
        if self._M is None:
            self._M = self._preconditioner(b)
        return self._M

    def _preconditioner(self, b: Tensor) -> LinearOperator:
        preconditioner = self.settings.preconditioner
        if preconditioner is not None and not _is_fixed(preconditioner):
            assert self._point is not None
            preconditioner = preconditioner(self.give(self._point.x), self.give(self._point.multipliers))
        if preconditioner is None:
            return Identity(len(b), b.dtype, b.device)
        M = aslinearoperator(preconditioner, b)
        if M.shape != (len(b), len(b)):
            raise InputError(
                f"the preconditioner of Minres has shape {M.shape}, but the KKT system has n + m = {len(b)} unknowns; "
                "they must agree."
            )
        if M.dtype != b.dtype:
            dtype = str(M.dtype).removeprefix("torch.")
            raise InputError(f"the preconditioner of Minres uses {dtype}; it must take and return float64 vectors.")
        require_positive(M, b, "the preconditioner of Minres")
        return M


class MinresSolve:
    """The state of a MINRES solution of a KKT system, which can be continued to a smaller residual."""

    def __init__(self, A: Matrix, b: Tensor, M: LinearOperator, rtol: float | None, cap: int) -> None:
        self.negative: int | None = None
        self._rtol, self._cap = rtol, cap
        self._loop = MinresLoop(_operator(A, b), b.unsqueeze(0), M, recompute_below=MAX_RECOMPUTED_RESIDUAL)
        self._euclidean = float(b.norm())
        self._require_definite()
        self.rhs_norm = float(self._loop.rhs_norm)
        if self.rhs_norm == 0 < self._euclidean:
            raise InputError(
                "the preconditioner P of Minres is not positive definite: b.Pb = 0 for the right-hand side b; use an "
                "approximate inverse of the absolute value of the KKT matrix."
            )
        self.z = self._loop.x[0]

    @property
    def steps(self) -> int:
        """Number of iterations so far."""
        return int(self._loop.iterations)

    @property
    def residual_norm(self) -> float:
        """||A z - b|| in the norm of the preconditioner."""
        return float(self._loop.norm)

    @property
    def capped(self) -> bool:
        """Whether the maximum number of iterations is reached."""
        return self._loop.reasons[0] is Reason.MAXITER

    def refine(self, tolerance: float) -> None:
        """Continue until the residual norm is at most `tolerance`, or at the level of round-off."""
        wanted = tolerance if self._rtol is None else min(tolerance, self._rtol * self.rhs_norm)
        self._run(wanted)
        while self._euclidean_too_large() and wanted > MIN_RTOL * self.rhs_norm:
            wanted *= 0.1
            self._run(wanted)

    def _euclidean_too_large(self) -> bool:
        """Whether the solve has converged, but its Euclidean residual is still close to ||b||."""
        solved = self._loop.reasons[0] is Reason.CONVERGED
        return solved and float(self._loop.euclidean) > MAX_EUCLIDEAN_RATIO * self._euclidean

    def _run(self, tolerance: float) -> None:
        self._loop.seek(torch.full_like(self._loop.norm, max(tolerance, MIN_RTOL * self.rhs_norm)))
        self._loop.run(self._cap - self.steps)
        self._require_definite()

    def _require_definite(self) -> None:
        loop = self._loop
        if loop.reasons[0] is Reason.INDEFINITE_PRECONDITIONER:
            raise InputError(
                "the preconditioner P of Minres is not positive definite: v.Pv < 0 for a vector v of the iteration; "
                "use an approximate inverse of the absolute value of the KKT matrix, with a positive block for the "
                "multipliers."
            )
        if loop.reasons[0] is Reason.NOT_FINITE and _returns_nonfinite(loop.M, loop.b - loop.A.matvec(loop.x)):
            raise InputError(
                "the preconditioner of Minres returns NaN or infinity for a finite vector; check it on a residual."
            )


def _returns_nonfinite(M: LinearOperator, vector: Tensor) -> bool:
    return bool(torch.isfinite(vector).all()) and not bool(torch.isfinite(M.matvec(vector)).all())


def _operator(A: Matrix, b: Tensor) -> LinearOperator:
    return CallableOperator(lambda z: (A @ z.view(-1)).view(z.shape), len(b), b.dtype, b.device, symmetric=True)
