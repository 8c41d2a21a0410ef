"""Tall least-squares problems by LSQR, preconditioned with a random sketch of the matrix.

S^T A = Q R has few rows. If S preserves lengths up to a relative error e, the singular values of A R^-1 lie between
1 / (1 + e) and 1 / (1 - e) for any condition number of A, and each LSQR iteration reduces the error by the factor e
(Rokhlin and Tygert, PNAS 105, 2008; Avron, Maymounkov and Toledo, SIAM J. Sci. Comput. 32, 2010). LSQR starts from the
solution of the sketched problem and is restarted from its result, which makes it as stable as a QR factorisation
(Meier, Nakatsukasa, Townsend and Webb, arXiv 2302.07202; Epperly, Meier and Nakatsukasa, arXiv 2406.03468).

Notation: M rows, N columns; r = b - A x, and g = R^-T A^T r, which is zero at the solution.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor

from sciml_bounds.arrays import require_count, require_seed
from sciml_bounds.errors import InputError
from sciml_bounds.krylov._loop import check_tolerances
from sciml_bounds.reports import Reason, report_failure
from sciml_bounds.results import LinearSolution
from sciml_bounds.sketching._sketch_and_project import read_system
from sciml_bounds.sketching._sketches.sketch import Sketch, require_sketch
from sciml_bounds.sketching._sketches.sparse_sign import SparseSign

__all__ = ["sketched_least_squares"]

#: Default sketch: columns per column of A, and nonzeros per row. An LSQR iteration then reduces errors by about 0.35.
COLUMNS_PER_COLUMN, NONZEROS_PER_ROW = 8, 4

#: Number of entries of A in a block of rows, which stays in the cache for products with A and with A^T.
CACHE_BLOCK_ENTRIES = 2**17

#: Columns count as linearly dependent if the smallest diagonal entry of R, relative to the largest, is at most this
#: times N eps.
DEPENDENCE_TOL = 10.0

ADVICE = {
    Reason.MAXITER: "Raise maxiter, or give a sketch with more columns.",
    Reason.STAGNATED: "The rest is round-off; use a larger rtol, or torch.linalg.lstsq.",
}


def sketched_least_squares(
    A: Any, b: Any, *, sketch: Sketch | None = None, rtol: float | None = None, maxiter: int = 200, seed: int = 0
) -> LinearSolution:
    """Minimise ||b - A x|| for a dense matrix with many more rows than columns.

    Parameters
    ----------
    A : array or Tensor, shape (M, N)
        Matrix with M >= N and linearly independent columns, float64 or float32.
    b : array or Tensor, shape (M,)
        Right-hand side.
    sketch : Sketch or None
        Sketch of A with more than N columns; by default `SparseSign` with 8 N columns and 4 nonzeros per row.
    rtol : float or None
        Stop when ||R^-T A^T r|| <= rtol ||r|| with r = b - A x, or at the level of round-off. Since A R^-1 is nearly
        orthogonal, the left side is about the distance of A x from its optimum. By default 1e-12 in double and 1e-5 in
        single precision.
    maxiter : int
        Maximum number of LSQR iterations.
    seed : int
        Random seed of the sketch.

    Returns
    -------
    LinearSolution
        The solution; `residual_norms` and `residual_norm` are those of the preconditioned normal equations,
        ||R^-T A^T r||, not of r. If the tolerance is not reached, a `ConvergenceWarning` is issued.

    Raises
    ------
    InputError
        If shapes do not match, an entry is not finite, columns of A are linearly dependent to round-off, or the sketch
        has fewer columns than A.

    Notes
    -----
    Each iteration reads A once. On one core, this takes about half the time of a QR factorisation for 100,000 x 500.
    With fewer than a few hundred columns, QR is faster. If cond(A) is below about 1e6, the normal equations are faster;
    they lose all digits at 1e8.

    Examples
    --------
    >>> import torch
    >>> from sciml_bounds.sketching._least_squares import sketched_least_squares
    >>> t = torch.linspace(0.0, 1.0, 1000, dtype=torch.float64)
    >>> s = sketched_least_squares(torch.stack([torch.ones(1000), t, t**2], 1), 2 + 3 * t - t**2)
    >>> s.x, bool(s.converged)
    (tensor([ 2.0000,  3.0000, -1.0000], dtype=torch.float64), True)
    """
    start = time.perf_counter()
    matrix, rhs, _ = read_system(A, b, None)
    require_count(maxiter, "maxiter", 0)
    seed = require_seed(seed)
    double = torch.finfo(rhs.dtype).bits == 64
    rtol = check_tolerances((1e-12 if double else 1e-5) if rtol is None else rtol, 0.0, rhs.dtype)
    sketch = (
        SparseSign(COLUMNS_PER_COLUMN * matrix.shape[1], NONZEROS_PER_ROW) if sketch is None else require_sketch(sketch)
    )
    R, x = _sketched_solution(matrix, rhs, sketch, torch.Generator().manual_seed(seed))
    solve = _RestartedLSQR(matrix, rhs, R, x, rtol)
    solve.run(maxiter)
    norms = rhs.new_tensor(solve.norms)
    solution = LinearSolution(
        x=solve.x, converged=torch.tensor(solve.reason is Reason.CONVERGED), reason=solve.reason,
        iterations=torch.tensor(solve.iterations), residual_norms=norms, residual_norm=rhs.new_tensor(solve.norm),
        tolerance=rhs.new_tensor(solve.tolerance), method=f"LSQR preconditioned with {sketch}",
        seconds=time.perf_counter() - start,
    )  # fmt: skip
    if solve.reason is not Reason.CONVERGED:
        report_failure("sketched_least_squares", solve.reason, solution.progress, throw=False, advice=ADVICE)
    return solution


def _sketched_solution(A: Tensor, b: Tensor, sketch: Sketch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return R of S^T A = Q R, and the solution of the sketched problem."""
    sketched, values = (drawn[0] for drawn in sketch.draw(A, b, 1, generator))
    q, columns = sketched.shape
    if q < columns:
        raise InputError(f"the sketch has {q} columns, but A has {columns}; use a sketch with a few times as many.")
    Q, R = torch.linalg.qr(sketched)
    sizes = R.diagonal().abs()
    if not bool(sizes.min() > DEPENDENCE_TOL * columns * torch.finfo(R.dtype).eps * sizes.max()):
        raise InputError(
            "the columns of A are linearly dependent to round-off; leave some out, or use "
            "torch.linalg.lstsq(driver='gelsd')."
        )
    return R, _solved(R, Q.mT @ values)


def _solved(R: Tensor, y: Tensor) -> Tensor:
    """Return R^-1 y."""
    x: Tensor = torch.linalg.solve_triangular(R, y.unsqueeze(1), upper=True).squeeze(1)
    return x


def _solved_transposed(R: Tensor, y: Tensor) -> Tensor:
    """Return R^-T y."""
    x: Tensor = torch.linalg.solve_triangular(R.mT, y.unsqueeze(1), upper=False).squeeze(1)
    return x


class _RestartedLSQR:
    """LSQR that is restarted from its solution, as long as the residual falls."""

    def __init__(self, A: Tensor, b: Tensor, R: Tensor, x: Tensor, rtol: float) -> None:
        self.A, self.b, self.R, self.rtol = A, b, R, rtol
        self.iterations = 0
        eps = torch.finfo(x.dtype).eps
        # round-off of r, and of A^T r (proportional to the column norms), amplified by R^-T
        scaled = R / R.abs().max()
        inverse = torch.linalg.solve_triangular(scaled, torch.eye(len(R)).to(R), upper=True)
        self._of_x, self._of_b = 10 * eps * float(R.norm()), 10 * eps * float(b.norm())
        self._of_r = eps * float((scaled.norm(dim=0) * inverse.norm(dim=1)).norm())
        self._set_solution(x)
        self.norms = [self.norm]
        self.reason = Reason.CONVERGED

    def _set_solution(self, x: Tensor) -> None:
        """Set x, and compute r, ||g|| and the tolerance there."""
        self.x = x
        self.r = self.b.clone()
        self.norm = float(_solved_transposed(self.R, _multiplied(self.A, -x, self.r, 1.0)).norm())
        size = float(self.r.norm())
        round_off = self._of_x * float(x.norm()) + self._of_b + self._of_r * size
        self.tolerance = max(self.rtol * size, round_off)

    def run(self, maxiter: int) -> None:
        """Correct x until ||g|| is at most the tolerance, or is not reduced further."""
        while not self.norm <= self.tolerance:
            if self.iterations == maxiter or not math.isfinite(self.norm):
                self.reason = Reason.MAXITER if math.isfinite(self.norm) else Reason.NOT_FINITE
                return
            kept, before = self.x, self.norm
            self._set_solution(self.x + self._correction(maxiter))
            if not self.norm < 0.5 * before and self.iterations < maxiter:
                self.reason = Reason.STAGNATED
                if not self.norm < before:
                    self._set_solution(kept)
                return

    def _correction(self, maxiter: int) -> Tensor:
        """Minimise ||r - A R^-1 y|| by LSQR (Paige and Saunders, ACM TOMS 8, 1982), and return R^-1 y.

        u is not normalised, so that A v and A^T u need only one pass over A.
        """
        u, beta = self.r, float(self.r.norm())
        v = _solved_transposed(self.R, self.A.mT @ u) / beta
        alpha = float(v.norm())
        v = v / alpha
        w, y = v, torch.zeros_like(v)
        phi, rho = beta, alpha
        while self.iterations < maxiter:
            back = _multiplied(self.A, _solved(self.R, v), u, -alpha / beta)
            beta = float(u.norm())
            v = _solved_transposed(self.R, back) / beta - beta * v
            alpha = float(v.norm())
            v = v / alpha
            size = math.hypot(rho, beta)
            c, s = rho / size, beta / size
            y = y + c * phi / size * w
            w = v - s * alpha / size * w
            rho, phi = -c * alpha, s * phi
            self.iterations += 1
            self.norms.append(phi * alpha * abs(c))
            if not self.norms[-1] > 0.5 * self.tolerance:  # half, since the recomputed norm is a little larger
                break
        return _solved(self.R, y)


def _multiplied(A: Tensor, v: Tensor, u: Tensor, scale: float) -> Tensor:
    """Replace u by A v + scale u, and return A^T u for the new u, with one pass over A in cache-sized blocks."""
    step = max(1, CACHE_BLOCK_ENTRIES // A.shape[1]) if A.device.type == "cpu" else len(A)
    back = torch.zeros_like(v)
    for rows, part in zip(A.split(step), u.split(step)):
        part.addmv_(rows, v, beta=scale)
        back.addmv_(rows.mT, part)
    return back
