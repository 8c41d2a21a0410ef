"""MINRES for symmetric, possibly indefinite operators, with a positive definite preconditioner.

Reference: Paige, Saunders, "Solution of sparse indefinite systems of linear equations", SIAM J. Numer. Anal. 12 (1975)
617-629; with a preconditioner as in Elman, Silvester, Wathen, "Finite elements and fast iterative solvers" (2014),
algorithm 4.1. A residual r in the null space of A cannot be reduced. The ratio ||A r|| / ||r|| detects this case and
follows from the rotations at no cost (Choi, Paige, Saunders, SIAM J. Sci. Comput. 33 (2011) 1810-1836, section 3).

Notation: n unknowns, b samples of a batch; vectors have shape (b, n), and ||r||_M = sqrt(r.M r).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sciml_bounds.arrays import binary_scales
from sciml_bounds.errors import InputError
from sciml_bounds.krylov._system import Callback, read_system, require_symmetric
from sciml_bounds.operators._linear_operator import Identity, LinearOperator, inner
from sciml_bounds.reports import Reason, report_failure
from sciml_bounds.results import LinearSolution

__all__ = ["MinresLoop", "minres", "require_positive"]

#: Maximum number of restarts of samples whose recomputed residual exceeds the tolerance; afterwards, they end with the
#: reason round-off.
MAX_RESTARTS = 5

#: Stop if the true residual at a restart is larger than this fraction of the true residual at the previous restart,
#: unless it is below `NEAR_TOLERANCE` times the tolerance, where it may be the round-off of a few iterations.
RESTART_REDUCTION, NEAR_TOLERANCE = 0.5, 2.0

#: r counts as a null vector of A if ||A r|| / (||A|| ||r||) is below the smaller of `NULL_RESIDUAL_EPS` eps and
#: `MAX_NULL_RESIDUAL`. A step along it would have length 1 / eps and spoil the solution.
NULL_RESIDUAL_EPS, MAX_NULL_RESIDUAL = 1e3, 5e-6

#: A is singular to round-off with b outside its range, and x would diverge, if eps ||A|| ||s|| for a step s exceeds
#: `EXPLOSION_SHARE` of the residual while the residual stays above `UNSOLVED_SHARE` of b. Checked only if eps is below
#: `MAX_EXPLOSION_EPS`: single precision has too few digits for this check.
EXPLOSION_SHARE, UNSOLVED_SHARE, MAX_EXPLOSION_EPS = 1e-3, 1e-3, 1e-10

#: The true residual is computed if the estimated drift of the recurrence exceeds `DRIFT_SHARE` times the residual (or
#: the tolerance, if that is larger). The recurrence is inaccurate if the true residual is larger by the factor
#: `MAX_DRIFT`, or has grown by the factor `MAX_GROWTH` in one step.
DRIFT_SHARE, MAX_DRIFT, MAX_GROWTH = 0.1, 2.0, 1.1

#: A stagnating residual counts as round-off if it is at most this factor times eps || |A| |x| + |b| ||, as in CG.
ROW_LEVEL_FACTOR = 100

#: Stopping reasons after which the recomputed residual decides about convergence; None stands for the last iteration.
_RECHECKED = (None, Reason.CONVERGED, Reason.STAGNATED, Reason.NOT_FINITE)

#: Requirement on A and remedy: the end of several error messages.
NEEDS = "MINRES needs a symmetric operator; use another method, or the normal equations A^T A x = A^T b."

#: Requirement on the preconditioner.
NEEDS_OF_M = (
    "MINRES needs a symmetric positive definite preconditioner, for example a multigrid cycle without learning."
)

ADVICE = {
    Reason.STAGNATED: (
        "Up to round-off, the residual lies outside the range of A: if A is singular, x is a least-squares solution; "
        "otherwise use a larger rtol."
    ),
    Reason.INDEFINITE_PRECONDITIONER: "The preconditioner gave v.Mv < 0; use a symmetric positive definite one.",
}


def minres(
    A: Any,
    b: Any,
    *,
    M: Any = None,
    x0: Any = None,
    rtol: float | None = None,
    atol: float = 0.0,
    maxiter: int | None = None,
    callback: Callback | None = None,
    throw: bool = False,
) -> LinearSolution:
    """Solve A x = b for symmetric, possibly indefinite A by minimal residuals.

    Parameters
    ----------
    A : LinearOperator, matrix of torch, numpy, scipy or PETSc, or callable
        The operator, shape (n, n); a callable maps vectors (..., n) to vectors (..., n). A may be singular if b lies in
        its range.
    b : array or Tensor, shape (..., n)
        Right-hand side; leading axes are a batch.
    M : same types as `A`, "algebraic" or sb.Algebraic, optional
        Preconditioner: linear, symmetric and positive definite, an approximate inverse of the absolute value of A. For
        a saddle-point system, a block-diagonal preconditioner is usual. If None, no preconditioning. "algebraic" and
        `sb.Algebraic()` set up algebraic multigrid (PyAMG) for the matrix A, which must then be semi-definite.
    x0 : array or Tensor, shape (..., n), optional
        Initial guess; zero by default.
    rtol, atol : float or None, float
        Stop when ||b - A x||_M <= max(rtol ||b||_M, atol), where ||r||_M = sqrt(r.M r) is the norm that MINRES
        minimises (the Euclidean norm without M). The default `rtol` is 1e-8 in float64 and 1e-5 in float32.
    maxiter : int or None
        Maximum number of iterations; 10 n by default.
    callback : callable or None
        Called after each iteration with the current x; the iteration stops if it returns True.
    throw : bool
        Raise `ConvergenceError` instead of warning when the tolerance is not reached.

    Returns
    -------
    LinearSolution
        The solution, without error bounds. Its residual norms ||b - A x||_M come from the recurrence; they grow only at
        restarts, which correct values that round-off has made too small. The last residual norm, `residual_norm`, is
        recomputed from x.

    Raises
    ------
    InputError
        If shapes, dtypes or devices do not match, an entry is not finite, rtol is below 10 eps of the dtype, A or M is
        not symmetric, or M is not linear.
    ConvergenceError
        If `throw` is true and the tolerance is not reached.

    Notes
    -----
    An iteration takes one product with A and one with M. If round-off may have spoilt the recurrence, one more product
    with each of them gives the true residual, and the iteration restarts from the best x if the two residuals disagree.
    For definite A, `cg` needs about as many iterations for the same residual, and also bounds the error. If A is
    singular and b outside its range, the iteration stops as stagnated, usually at a least-squares solution. For small
    systems with clustered eigenvalues it may stop elsewhere (MINRES-QLP would not).

    References
    ----------
    Paige, Saunders, SIAM J. Numer. Anal. 12 (1975) 617-629; Elman, Silvester, Wathen, "Finite elements and fast
    iterative solvers", 2014, algorithm 4.1.

    Examples
    --------
    >>> import torch, sciml_bounds as sb
    >>> A = torch.tensor([[2.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    >>> s = sb.minres(A, [4.0, 1.0])
    >>> s.x
    tensor([1.0000, 2.0000], dtype=torch.float64)
    >>> s.converged.item(), s.iterations.item()
    (True, 2)
    """
    start = time.perf_counter()
    system = read_system(A, b, M, x0, rtol=rtol, atol=atol, maxiter=maxiter, callback=callback, need=NEEDS)
    rhs, n = system.b, system.b.shape[-1]
    require_positive(system.M, rhs, "M")
    with torch.no_grad():
        flat = rhs.detach().reshape(-1, n).contiguous()
        guess = None if system.x0 is None else system.x0.detach().reshape(-1, n).contiguous()
        loop = MinresLoop(system.A, flat, system.M, guess)
        loop.seek((system.rtol * loop.rhs_norm).clamp_min(system.atol))

        def stopped() -> bool:
            return callback is not None and bool(callback(loop.x.view(rhs.shape)))

        loop.run(10 * n if maxiter is None else maxiter, stopped)
    solution = _solution(loop, rhs, start)
    if not bool(solution.converged.all()) and Reason.STOPPED not in loop.reasons:
        report_failure("MINRES", solution.reason, solution.progress, throw=throw, advice=ADVICE)
    return solution


def require_positive(M: LinearOperator, like: Tensor, name: str) -> None:
    """Check that a preconditioner is linear and symmetric; the iteration checks that it is positive definite.

    Raises
    ------
    InputError
        If the preconditioner is not linear or not symmetric.
    """
    if M.linear is False:
        raise InputError(f"{name} is a {type(M).__name__}, which is not linear; {NEEDS_OF_M}")
    require_symmetric(M, like, name=name, need=NEEDS_OF_M)


def _solution(loop: MinresLoop, rhs: Tensor, start: float) -> LinearSolution:
    batch = rhs.shape[:-1]
    reasons = tuple(reason or Reason.MAXITER for reason in loop.reasons)
    done = [reason in (Reason.CONVERGED, Reason.ROUND_OFF) for reason in reasons]
    norms = torch.stack(loop.norms)
    return LinearSolution(
        x=loop.x.view(rhs.shape), converged=torch.tensor(done, dtype=torch.bool, device=rhs.device).view(batch),
        reason=reasons if batch else reasons[0], iterations=loop.iterations.view(batch),
        residual_norms=norms.view(len(norms), *batch), residual_norm=loop.norm.view(batch),
        tolerance=loop.tolerance.view(batch), method="MINRES", seconds=time.perf_counter() - start,
    )  # fmt: skip


class MinresLoop:
    """The state of one MINRES solve, which can be continued to a smaller tolerance at any time.

    Parameters
    ----------
    A, M : LinearOperator
        Operator and preconditioner.
    b : Tensor
        Right-hand sides, shape (b, n).
    x0 : Tensor or None
        Initial guess, which is overwritten; zero by default.
    recompute_below : float
        At the end of a run, residuals above this fraction of ||b||_M are not recomputed, which saves a product with M.
        By default all residuals are recomputed.

    Attributes
    ----------
    x : Tensor
        Current solution, shape (b, n).
    norm, rhs_norm : Tensor
        ||b - A x||_M and ||b||_M, shape (b,).
    euclidean : Tensor
        ||b - A x|| at the end of the last run, shape (b,).
    norms : list of Tensor
        `norm` before each iteration and at the end.
    iterations : Tensor
        Number of iterations per sample, shape (b,).
    reasons : list of (Reason or None)
        Why each sample ended; None for running samples.
    """

    def __init__(
        self,
        A: LinearOperator,
        b: Tensor,
        M: LinearOperator,
        x0: Tensor | None = None,
        *,
        recompute_below: float = math.inf,
    ) -> None:
        self.A, self.M, self.b, self.recompute_below = A, M, b, recompute_below
        self.x = torch.zeros_like(b) if x0 is None else x0
        self.x[~b.any(1)] = 0.0  # x = 0 solves b = 0
        self.product, self.z_next = torch.empty_like(b), torch.empty_like(b)
        self.iterations = torch.zeros(len(b), dtype=torch.int64, device=b.device)
        self.reasons: list[Reason | None] = [None] * len(b)
        self.running = torch.ones(len(b), dtype=torch.bool, device=b.device)
        self.tolerance = b.new_zeros(len(b))
        self.eps = torch.finfo(b.dtype).eps
        self.flat = min(NULL_RESIDUAL_EPS * self.eps, MAX_NULL_RESIDUAL)
        self.explosion = EXPLOSION_SHARE if self.eps < MAX_EXPLOSION_EPS else math.inf
        self.parted = torch.zeros_like(self.running)
        self.largest = torch.finfo(b.dtype).max ** 0.25  # up to this, fourth powers do not overflow
        self._begin()
        self.euclidean = self.v.norm(dim=1)
        self.rhs_norm = self.norm if x0 is None else self._size(b, M.matvec_into(b, self.z_next))
        self.norms = [self.norm]

    def seek(self, tolerance: Tensor) -> None:
        """Set the tolerance (b,) for ||b - A x||_M, and resume samples that had ended at a larger one."""
        for row in torch.nonzero((self.norm > tolerance) & ~self.running).view(-1).tolist():
            if self.reasons[row] in (Reason.CONVERGED, Reason.MAXITER, None):
                self.reasons[row] = None
                self.running[row] = True
        self.tolerance = tolerance
        self._mark_converged()

    def run(self, maxiter: int, stopped: Callable[[], bool] | None = None) -> None:
        """Iterate until every sample has ended, at most `maxiter` times; `stopped` is called after each iteration."""
        count, restarts, last = 0, 0, torch.full_like(self.norm, torch.inf)
        while True:
            while bool(self.running.any()) and count < maxiter:
                self._step()
                count += 1
                if stopped is not None and stopped():
                    self._stop(self.running, Reason.STOPPED)
            self._restart_unconverged()
            near = torch.maximum(RESTART_REDUCTION * last, NEAR_TOLERANCE * self.tolerance)
            self._stop(self.norm > near, Reason.STAGNATED)
            last = self.norm
            if not bool(self.running.any()):
                return
            if count >= maxiter or restarts == MAX_RESTARTS:
                self._stop(self.running, Reason.STAGNATED if count < maxiter else Reason.MAXITER)
                return
            restarts += 1

    # --- one iteration ------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Compute the residual, and start a new Krylov space with it."""
        self.v = self.A.residual_into(self.x, self.b, torch.empty_like(self.b))
        self.z = self.M.matvec_into(self.v, torch.empty_like(self.b))
        self.gamma = self.norm = self._size(self.v, self.z)
        self.v_old, self.w, self.w_old = (torch.zeros_like(self.b) for _ in range(3))
        one, zero = torch.ones_like(self.norm), torch.zeros_like(self.norm)
        self.gamma_old, self.c, self.c_old, self.s, self.s_old = one, one, one, zero, zero
        self.eta, self.scale, self.drift = self.norm, zero, zero
        self.first = True
        self.unit: Tensor | None = None  # scale by which A is divided
        self.u, self.u_old = self.w, self.w_old  # M^-1 w
        if not isinstance(self.M, Identity):
            self.u, self.u_old = torch.zeros_like(self.b), torch.zeros_like(self.b)
        self._stop(~torch.isfinite(self.norm), Reason.NOT_FINITE)

    def _size(self, v: Tensor, z: Tensor) -> Tensor:
        """Return sqrt(v.z) for z = M v; end samples with v.z < 0 beyond round-off, since M is not definite."""
        square = inner(v, z)
        if not bool((square > 0).all()):
            negative = square < -1e3 * self.eps * v.norm(dim=1) * z.norm(dim=1)
            self._stop(negative, Reason.INDEFINITE_PRECONDITIONER)
        return torch.where(square < 0, 0.0, square).sqrt()

    def _step(self) -> None:
        before = self.running
        gamma = torch.where(self.running & (self.gamma > 0), self.gamma, 1.0)
        z = self.z.div_(gamma.unsqueeze(1))
        product = self.A.matvec_into(z, self.product)
        if self.first:
            self.first, self.unit = False, self._unit(product)
        if self.unit is not None:
            product.div_(self.unit)
        delta = inner(z, product)
        product.addcmul_((delta / gamma).unsqueeze(1), self.v, value=-1)
        product.addcmul_((gamma / self.gamma_old).unsqueeze(1), self.v_old, value=-1)
        self.v, self.v_old, self.product = product, self.v, self.v_old
        self.z_next = self.M.matvec_into(self.v, self.z_next)
        gamma_new = self._size(self.v, self.z_next)
        self._stop(~torch.isfinite(delta + gamma_new), Reason.NOT_FINITE)
        self._rotate(delta, gamma, gamma_new, before)
        self.z, self.z_next = self.z_next, z
        self.gamma_old, self.gamma = gamma, gamma_new

    def _unit(self, product: Tensor) -> Tensor | None:
        """Return powers of two (b, 1) by which A is divided to avoid overflow of squares; None if all are 1."""
        unit = binary_scales(product)
        outside = (unit > self.largest) | (unit < 1 / self.largest)
        return torch.where(outside, unit, 1.0) if bool(outside.any()) else None

    def _rotate(self, delta: Tensor, gamma: Tensor, gamma_new: Tensor, before: Tensor) -> None:
        """Apply the rotations to the new column of the tridiagonal matrix; update x unless round-off would spoil it."""
        diagonal = self.c * delta - self.c_old * self.s * gamma
        self.scale = torch.maximum(self.scale, torch.hypot(delta, gamma_new))
        flat = torch.hypot(diagonal, self.c * gamma_new) <= self.flat * self.scale  # ||A r||_M / ||r||_M
        length = torch.where(flat, 1.0, torch.hypot(diagonal, gamma_new))
        above, far = (self.s * delta + self.c_old * self.c * gamma) / length, self.s_old * gamma / length
        c, s = diagonal / length, gamma_new / length
        step, left = c * self.eta, (s * self.eta).abs()
        self.w, self.w_old = _combined(self.w_old, far, self.w, above, self.z, 1 / length), self.w
        if isinstance(self.M, Identity):
            self.u = self.w
        else:
            self.u, self.u_old = _combined(self.u_old, far, self.u, above, self.v_old, 1 / (length * gamma)), self.u
        size = inner(self.w, self.u).clamp_min(0).sqrt()  # norm of w in M^-1
        stride = step.abs() * size
        exploded = self.eps * self.scale * stride > self.explosion * self.norm
        exploded &= (left > UNSOLVED_SHARE * self.rhs_norm) & (stride < torch.inf)  # the square of w may overflow
        going = self.running & before & ~flat & ~exploded
        drift = self.drift + self.eps * self.scale * size * self.scale * stride
        suspect = going & (drift > DRIFT_SHARE * torch.maximum(left, self.tolerance))
        everywhere, watched = torch.stack([going.all(), suspect.any()]).tolist()
        along = step.unsqueeze(1) if self.unit is None else step.unsqueeze(1) / self.unit
        if not everywhere:
            self._stop(flat | exploded, Reason.STAGNATED)
        if watched:
            going = going & ~self._grows(suspect, along, left)
            drift, everywhere = torch.where(suspect, 0.0, drift), bool(going.all())

        def where(new: Tensor, old: Tensor | float) -> Tensor:
            return new if everywhere else torch.where(going, new, old)

        if everywhere:
            self.x.addcmul_(along, self.w)
        else:  # rows of ended samples may have NaN or infinity
            self.x[going] += along[going] * self.w[going]
        self.c_old, self.c = self.c, where(c, 1.0)
        self.s_old, self.s = self.s, where(s, 0.0)
        self.eta = where(-s * self.eta, self.eta)
        self.norm = where(left, self.norm)
        self.drift = where(drift, self.drift)
        self.iterations += going
        self.norms.append(self.norm)
        self._mark_converged()

    def _grows(self, suspect: Tensor, along: Tensor, left: Tensor) -> Tensor:
        """Return the mask of samples whose true residual would grow in this step.

        Compute the true residuals of the samples in `suspect`, and end the samples whose recurrence is inaccurate.
        """
        trial = torch.where(suspect.unsqueeze(1), self.x + along * self.w, self.x)
        true_norm = self._true_norm(self.A.residual_into(trial, self.b, torch.empty_like(self.b)))
        limit = torch.minimum(MAX_DRIFT * left, MAX_GROWTH * self.norm)
        limit = torch.where(left <= self.tolerance, self.tolerance, limit)
        parted = suspect & ~(true_norm <= limit)
        self._stop(parted, Reason.CONVERGED)  # until the residual is recomputed
        self.parted |= parted
        return parted & ~(true_norm < self.norm)

    # --- ends ---------------------------------------------------------------------------------------------------------

    def _stop(self, which: Tensor, reason: Reason) -> None:
        if not bool(which.any()):
            return
        which = which & self.running
        for row in torch.nonzero(which).view(-1).tolist():
            self.reasons[row] = reason
        self.running = self.running & ~which

    def _mark_converged(self) -> None:
        self._stop(self.norm <= self.tolerance, Reason.CONVERGED)

    def _restart_unconverged(self) -> None:
        """Recompute the residuals, and restart samples that have not reached the tolerance from their current x."""
        r = self.A.residual_into(self.x, self.b, torch.empty_like(self.b))
        self.euclidean = r.norm(dim=1)
        if bool((self.norm > self.recompute_below * self.rhs_norm).logical_and_(~self.parted).all()):
            return
        self.parted.zero_()
        true_norm = self._true_norm(r)
        level = self._round_off_level()
        small, round_off = (true_norm <= self.tolerance).tolist(), (true_norm <= level).tolist()
        nearly = (true_norm <= self.tolerance * (1 + 1e3 * self.eps)).tolist()
        restart = False
        for row, reason in enumerate(self.reasons):
            if reason in _RECHECKED and (small[row] or round_off[row]):
                self.reasons[row] = Reason.CONVERGED if small[row] else Reason.ROUND_OFF
            elif reason is Reason.CONVERGED and not nearly[row]:  # also NaN, if x overflows
                self.reasons[row], restart = None, True
        self.norm = true_norm
        unfinished = [reason is None for reason in self.reasons]
        self.running = torch.tensor(unfinished, dtype=torch.bool, device=self.b.device)
        if restart:
            self._begin()

    def _true_norm(self, r: Tensor) -> Tensor:
        """Return ||r||_M, or the Euclidean norm where r.M r is negative."""
        square = inner(r, self.M.matvec_into(r, torch.empty_like(self.b)))
        return torch.where(square >= 0, square.sqrt(), r.norm(dim=1))

    def _round_off_level(self) -> Tensor:
        """Return the level below which a residual is round-off; zero if ||A|| is unknown or M changes the norm.

        The level is 10 eps ||A|| ||x||, or `ROW_LEVEL_FACTOR` eps || |A| |x| + |b| || if this is known and smaller. It
        is smaller if the sizes of rows differ by orders of magnitude.
        """
        if self.A.norm_upper is None or not isinstance(self.M, Identity):
            return torch.zeros_like(self.norm)
        level: Tensor = 10 * self.eps * self.A.norm_upper.to(self.norm) * self.x.norm(dim=1)
        sizes = self.A.product_sizes(self.x)
        if sizes is not None:
            level = torch.minimum(level, ROW_LEVEL_FACTOR * self.eps * (sizes + self.b.abs()).norm(dim=1))
        return torch.minimum(level, self.rhs_norm)  # x may have diverged


def _combined(old: Tensor, far: Tensor, last: Tensor, above: Tensor, new: Tensor, part: Tensor) -> Tensor:
    """Return part * new - above * last - far * old, written over `old`."""
    old.mul_(-far.unsqueeze(1)).addcmul_(above.unsqueeze(1), last, value=-1)
    return old.addcmul_(part.unsqueeze(1), new)
