"""MINRES for KKT systems, with a preconditioner, and as accurate as a step is worth.

Steps are solved until ||r||_P <= min(0.1, ||R_k||_P / ||R_0||_P) ||R_k||_P, in the norm ||r||_P = sqrt(r.P r) of the
preconditioner P, an approximate inverse, in which MINRES minimises: convergence of the outer iteration is of second
order at the end, and no scale of the functions matters (Eisenstat, Walker, SIAM J. Sci. Comput. 17 (1996) 16-32).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from sciml_bounds.arrays import require_count, require_number
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

#: Residuals are not asked to fall below this part of the right-hand side.
ATTAINABLE = 1e-14

#: Above this part of the right-hand side, recurrences of double precision know the residual.
TRUSTED = 1e-6

#: The part of ||b|| that a residual may have in the Euclidean norm, in which the outer iteration measures its steps:
#: the norm of the preconditioner may fall a long way before it does.
SHORTER = 0.5


@dataclass(frozen=True)
class Minres:
    """MINRES for the KKT systems of `minimize`, by products with derivatives only: `minimize(inner=Minres(...))`.

    Functions of torch are differentiated in products with vectors, so that no matrix is formed; derivatives that are
    given may be operators.

    Parameters
    ----------
    preconditioner
        A symmetric positive definite operator on vectors (n + m,), first x, then multipliers, that approximates the
        inverse of the absolute value of [[H, J^T], [J, 0]]: a `LinearOperator`, or a matrix or operator of torch, numpy
        or scipy. Or a function of (x, multipliers) that returns one, which is called at each point where a step is
        made. None for none.
    rtol
        Relative residual of each solve at most, in the norm of the preconditioner. By default each is as accurate as
        its step is worth: 0.1 at first, and less as the KKT residual falls, which holds beside `rtol`.
    maxiter
        Largest number of iterations of one solve; one that ends there is used as it is, and counted in the result.

    Notes
    -----
    For min f subject to c = 0 with a block-diagonal preconditioner diag(H, J H^-1 J^T)^-1, three iterations are enough
    (Murphy, Golub, Wathen, SIAM J. Sci. Comput. 21 (2000) 1969-1972); blocks of fixed symmetric multigrid cycles make
    their number independent of the mesh.

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
                "function of (x, multipliers) that returns one."
            )
        if self.rtol is not None and not 0 < require_number(self.rtol, "rtol") < 1:
            raise InputError(f"rtol of Minres is {self.rtol!r}; it must be between 0 and 1.")
        require_count(self.maxiter, "maxiter", 1)

    def solver(self) -> MinresSolver:
        """Return what solves systems."""
        return MinresSolver(self)

    def __str__(self) -> str:
        return "minres" if self.preconditioner is None else "preconditioned minres"


def _is_fixed(preconditioner: Any) -> bool:
    """Whether it is an operator or matrix, not a function that returns one."""
    matrix = isinstance(preconditioner, Tensor | np.ndarray) or scipy.sparse.issparse(preconditioner)
    return matrix or is_operator(preconditioner) or hasattr(preconditioner, "createVecs")


class MinresSolver:
    """Starts MINRES on KKT systems, with the preconditioner of the point that they belong to."""

    def __init__(self, settings: Minres) -> None:
        self.settings = settings
        self.give: Callable[[Tensor], Any] = lambda vector: vector
        self._point: Point | None = None
        self._M: LinearOperator | None = None

    def at(self, point: Point) -> None:
        """Go to another point, where the systems to come belong."""
        if point is not self._point and not _is_fixed(self.settings.preconditioner):
            self._M = None
        self._point = point

    def __call__(self, A: Matrix, b: Tensor, cap: int) -> MinresSolve:
        """Start on a system."""
        settings = self.settings
        return MinresSolve(A, b, self._preconditioner_at_point(b), settings.rtol, min(cap, settings.maxiter))

    def _preconditioner_at_point(self, b: Tensor) -> LinearOperator:
        if self._M is None:
            self._M = self._preconditioner(b)
        return self._M

    def _preconditioner(self, b: Tensor) -> LinearOperator:
        found = self.settings.preconditioner
        if found is not None and not _is_fixed(found):
            assert self._point is not None
            found = found(self.give(self._point.x), self.give(self._point.multipliers))
        if found is None:
            return Identity(len(b), b.dtype, b.device)
        M = aslinearoperator(found, b)
        if M.shape != (len(b), len(b)):
            raise InputError(
                f"the preconditioner of Minres has shape {M.shape}, but the KKT system has n + m = {len(b)} unknowns; "
                "they must agree."
            )
        if M.dtype != b.dtype:
            dtype = str(M.dtype).removeprefix("torch.")
            raise InputError(f"the preconditioner of Minres works in {dtype}; make it take and return float64.")
        require_positive(M, b, "the preconditioner of Minres")
        return M


class MinresSolve:
    """A KKT system that is solved a little further each time it is asked to."""

    def __init__(self, A: Matrix, b: Tensor, M: LinearOperator, rtol: float | None, cap: int) -> None:
        self.negative: int | None = None
        self._rtol, self._cap = rtol, cap
        self._loop = MinresLoop(_operator(A, b), b.unsqueeze(0), M, trusted=TRUSTED)
        self._euclidean = float(b.norm())
        self._require_definite()
        self.rhs_norm = float(self._loop.rhs_norm)
        if self.rhs_norm == 0 < self._euclidean:
            raise InputError(
                "the preconditioner P of Minres is not positive definite: b.Pb = 0 for the right-hand side b; "
                "approximate the inverse of the absolute value of the KKT matrix."
            )
        self.z = self._loop.x[0]

    @property
    def steps(self) -> int:
        """Iterations so far."""
        return int(self._loop.iterations)

    @property
    def residual_norm(self) -> float:
        """||A z - b|| in the norm of the preconditioner."""
        return float(self._loop.norm)

    @property
    def capped(self) -> bool:
        """Whether it may take no more iterations."""
        return self._loop.reasons[0] is Reason.MAXITER

    def refine(self, tolerance: float) -> None:
        """Go on until the residual is that small, or as small as round-off lets it get."""
        wanted = tolerance if self._rtol is None else min(tolerance, self._rtol * self.rhs_norm)
        self._run(wanted)
        while self._too_long() and wanted > ATTAINABLE * self.rhs_norm:
            wanted *= 0.1
            self._run(wanted)

    def _too_long(self) -> bool:
        """Whether what is called solved is hardly shorter than b in the Euclidean norm."""
        solved = self._loop.reasons[0] is Reason.CONVERGED
        return solved and float(self._loop.euclidean) > SHORTER * self._euclidean

    def _run(self, tolerance: float) -> None:
        self._loop.seek(torch.full_like(self._loop.norm, max(tolerance, ATTAINABLE * self.rhs_norm)))
        self._loop.run(self._cap - self.steps)
        self._require_definite()

    def _require_definite(self) -> None:
        loop = self._loop
        if loop.reasons[0] is Reason.INDEFINITE_PRECONDITIONER:
            raise InputError(
                "the preconditioner P of Minres is not positive definite: v.Pv < 0 for a vector v of the iteration; "
                "approximate the inverse of the absolute value of the KKT matrix, with a positive block for the "
                "multipliers."
            )
        if loop.reasons[0] is Reason.NOT_FINITE and _spoils(loop.M, loop.b - loop.A.matvec(loop.x)):
            raise InputError(
                "the preconditioner of Minres returns NaN or infinity for a finite vector; check it on a residual."
            )


def _spoils(M: LinearOperator, vector: Tensor) -> bool:
    return bool(torch.isfinite(vector).all()) and not bool(torch.isfinite(M.matvec(vector)).all())


def _operator(A: Matrix, b: Tensor) -> LinearOperator:
    return CallableOperator(lambda z: (A @ z.view(-1)).view(z.shape), len(b), b.dtype, b.device, symmetric=True)
