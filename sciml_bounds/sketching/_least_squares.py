"""Tall least squares: a random sketch of the matrix makes a preconditioner with which LSQR needs few iterations.

S^T A = Q R has few rows. Where S keeps lengths but for a part e, singular values of A R^-1 lie between 1 / (1 + e) and
1 / (1 - e), whatever the condition number of A, and LSQR gains a factor of e an iteration (Rokhlin and Tygert, PNAS
105, 2008; Avron, Maymounkov and Toledo, SIAM J. Sci. Comput. 32, 2010). It starts from the solution of the sketched
problem, and again from what it has found, which makes it as stable as a QR factorisation (Meier, Nakatsukasa, Townsend
and Webb, arXiv 2302.07202; Epperly, Meier and Nakatsukasa, arXiv 2406.03468).

Legend: M rows, N columns; r = b - A x, and g = R^-T A^T r, which is zero at the solution.
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

#: Columns of the sketch for each column of A, and entries of a row: LSQR then gains a factor of 0.35 an iteration.
COLUMNS, NONZEROS = 8, 4

#: Numbers of A that are multiplied by, and by their transpose, while they are in the cache.
IN_CACHE = 2**17

#: What is left of the smallest diagonal entry of R, relative to the largest, where columns depend on each other.
DEPENDENT = 10.0

ADVICE = {
    Reason.MAXITER: "Raise maxiter, or give a sketch with more columns.",
    Reason.STAGNATED: "That is round-off; ask for a larger rtol, or use torch.linalg.lstsq.",
}


def sketched_least_squares(
    A: Any, b: Any, *, sketch: Sketch | None = None, rtol: float | None = None, maxiter: int = 200, seed: int = 0
) -> LinearSolution:
    """Minimise ||b - A x|| for a dense matrix with many more rows than columns.

    Parameters
    ----------
    A
        Matrix, shape (M, N), M >= N, with independent columns, float64 or float32.
    b
        Vector, shape (M,).
    sketch
        What A is sketched with, of more than N columns; by default `SparseSign` with 8 N columns and 4 entries a row.
    rtol
        Stop when ||R^-T A^T r|| <= rtol ||r||, or at the round-off of computing it. Since A R^-1 is nearly orthogonal,
        that is about the distance of A x to its optimum, relative to the residual r = b - A x. By default 1e-12 in
        double and 1e-5 in single precision.
    maxiter
        Largest number of iterations of LSQR.
    seed
        Of the sketch.

    Returns
    -------
    LinearSolution
        `residual_norms` and `residual_norm` are those of the normal equations, ||R^-T A^T r||, not of r.

    Raises
    ------
    InputError
        If shapes do not fit, an entry is not finite, columns of A depend on each other to round-off, or the sketch has
        fewer columns than A.

    Notes
    -----
    A `ConvergenceWarning` says that the tolerance was not reached. Every iteration reads A once. On one core this takes
    about half the time of a QR factorisation at 100,000 x 500. With fewer than some hundred columns QR is faster, and
    where cond(A) is below 1e6 or so the normal equations are, which lose all digits at 1e8.

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
    rtol = check_tolerances((1e-12 if double else 1e-5) if rtol is None else rtol, 0.0, maxiter, rhs.dtype)
    sketch = SparseSign(COLUMNS * matrix.shape[1], NONZEROS) if sketch is None else require_sketch(sketch)
    R, x = _of_sketch(matrix, rhs, sketch, torch.Generator().manual_seed(seed))
    found = _Refined(matrix, rhs, R, x, rtol)
    found.run(maxiter)
    norms = rhs.new_tensor(found.norms)
    solution = LinearSolution(
        x=found.x, converged=torch.tensor(found.reason is Reason.CONVERGED), reason=found.reason,
        iterations=torch.tensor(found.iterations), residual_norms=norms, residual_norm=rhs.new_tensor(found.norm),
        tolerance=rhs.new_tensor(found.tolerance), method=f"LSQR preconditioned with {sketch}",
        seconds=time.perf_counter() - start,
    )  # fmt: skip
    if found.reason is not Reason.CONVERGED:
        report_failure("sketched_least_squares", found.reason, solution.progress, throw=False, advice=ADVICE)
    return solution


def _of_sketch(A: Tensor, b: Tensor, sketch: Sketch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return R of S^T A = Q R, and the solution of the sketched problem."""
    sketched, values = (drawn[0] for drawn in sketch.draw(A, b, 1, generator))
    q, columns = sketched.shape
    if q < columns:
        raise InputError(f"the sketch has {q} columns, and A has {columns}; give one with a few times as many.")
    Q, R = torch.linalg.qr(sketched)
    sizes = R.diagonal().abs()
    if not bool(sizes.min() > DEPENDENT * columns * torch.finfo(R.dtype).eps * sizes.max()):
        raise InputError(
            "columns of A depend on each other to round-off; leave some out, or use torch.linalg.lstsq(driver='gelsd')."
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


class _Refined:
    """A solution, and LSQR for its corrections, as long as these help."""

    def __init__(self, A: Tensor, b: Tensor, R: Tensor, x: Tensor, rtol: float) -> None:
        self.A, self.b, self.R, self.rtol = A, b, R, rtol
        self.iterations = 0
        eps = torch.finfo(x.dtype).eps
        # of r, and of A^T r, whose entries are as exact as their columns are long, before R^-T enlarges that
        scaled = R / R.abs().max()
        inverse = torch.linalg.solve_triangular(scaled, torch.eye(len(R)).to(R), upper=True)
        self._of_x, self._of_b = 10 * eps * float(R.norm()), 10 * eps * float(b.norm())
        self._of_r = eps * float((scaled.norm(dim=0) * inverse.norm(dim=1)).norm())
        self._look(x)
        self.norms = [self.norm]
        self.reason = Reason.CONVERGED

    def _look(self, x: Tensor) -> None:
        """Go to x, and compute r and g there, and how small g has to be."""
        self.x = x
        self.r = self.b.clone()
        self.norm = float(_solved_transposed(self.R, _multiplied(self.A, -x, self.r, 1.0)).norm())
        size = float(self.r.norm())
        round_off = self._of_x * float(x.norm()) + self._of_b + self._of_r * size
        self.tolerance = max(self.rtol * size, round_off)

    def run(self, maxiter: int) -> None:
        """Correct x until g is small enough, or stays as it is."""
        while not self.norm <= self.tolerance:
            if self.iterations == maxiter or not math.isfinite(self.norm):
                self.reason = Reason.MAXITER if math.isfinite(self.norm) else Reason.NOT_FINITE
                return
            kept, before = self.x, self.norm
            self._look(self.x + self._correction(maxiter))
            if not self.norm < 0.5 * before and self.iterations < maxiter:
                self.reason = Reason.STAGNATED
                if not self.norm < before:
                    self._look(kept)
                return

    def _correction(self, maxiter: int) -> Tensor:
        """Minimise ||r - A R^-1 y|| by LSQR (Paige and Saunders, ACM TOMS 8, 1982), and return R^-1 y.

        u is left unscaled, so that one pass through A does for A v and A^T u.
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
            if not self.norms[-1] > 0.5 * self.tolerance:  # half: the last look finds a little more
                break
        return _solved(self.R, y)


def _multiplied(A: Tensor, v: Tensor, u: Tensor, scale: float) -> Tensor:
    """Put A v + scale u in place of u, and return A^T u for that: both while a part of A is in the cache."""
    step = max(1, IN_CACHE // A.shape[1]) if A.device.type == "cpu" else len(A)
    back = torch.zeros_like(v)
    for rows, part in zip(A.split(step), u.split(step)):
        part.addmv_(rows, v, beta=scale)
        back.addmv_(rows.mT, part)
    return back
