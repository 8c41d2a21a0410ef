"""Minimal residuals for symmetric operators of any sign, with a positive definite preconditioner.

Reference: Paige, Saunders, "Solution of sparse indefinite systems of linear equations", SIAM J. Numer. Anal. 12 (1975)
617-629; with a preconditioner as in Elman, Silvester, Wathen, "Finite elements and fast iterative solvers" (2014),
algorithm 4.1. Whether a residual can fall at all is told by ||A r|| / ||r||, which the rotations know (Choi, Paige,
Saunders, SIAM J. Sci. Comput. 33 (2011) 1810-1836, section 3).

Legend: n unknowns, b samples of a batch; vectors have shape (b, n), and ||r||_M = sqrt(r.M r).
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

#: So often a residual that had seemed small enough is computed anew and reduced further, before round-off is to blame.
MAX_RESTARTS = 5

#: Stop once a restart leaves more than the first part of the true residual of the start before it, unless the second
#: multiple of the tolerance is reached: the rest is round-off of a few iterations.
PROGRESS, NEARLY = 0.5, 2.0

#: Where ||A r|| / (||A|| ||r||) is that many round-offs, or that small, r is taken to lie in the null space: round-off
#: fills that in, so that a step along it would be as long as 1 / eps, and spoil what was found.
FLAT, FLAT_AT_MOST = 1e3, 5e-6

#: Where eps ||A|| ||s|| of a step s is the first part of a residual that would stay above the second part of b, A is
#: singular to round-off and b outside its range: x would grow without end. Checked where eps is below the third number:
#: single precision has no digits to spare.
EXPLOSION_SHARE, UNSOLVED_SHARE, DOUBLE = 1e-3, 1e-3, 1e-10

#: The true residual is computed where the estimated drift of the recurrence exceeds the first part of it, or of the
#: tolerance if that is larger. The recurrence has lost it where the true one is larger by the second factor, or has
#: grown by the third in one step.
DRIFT_SHARE, MAX_DRIFT, MAX_GROWTH = 0.1, 2.0, 1.1

#: Round-offs of the rows that a residual which stagnates may have: conjugate gradients allow as many.
ROWS = 100

#: Ends after which the recomputed residual decides whether a sample has converged; None where iterations ran out.
_JUDGED = (None, Reason.CONVERGED, Reason.STAGNATED, Reason.NOT_FINITE)

NEEDS = "MINRES needs a symmetric operator; use another method, or the normal equations A^T A x = A^T b."

#: The same of its preconditioner.
NEEDS_OF_M = (
    "MINRES needs a symmetric positive definite preconditioner, for example a multigrid cycle without learning."
)

ADVICE = {
    Reason.STAGNATED: (
        "What is left of b lies outside the range of A, as far as round-off can tell: A may be singular, and x is then "
        "a solution in the sense of least squares; or ask for a larger rtol."
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
    """Solve A x = b for symmetric A, definite or not, by minimal residuals.

    Parameters
    ----------
    A
        The operator: a `LinearOperator`, a torch, numpy, scipy or PETSc matrix, or a callable of vectors (..., n).
        A consistent singular system is solved too.
    b
        Right-hand side, shape (..., n); leading axes are a batch.
    M
        Preconditioner, in any of the forms of `A`: linear, symmetric and positive definite. It approximates the inverse
        of the absolute value of A, as block-diagonal ones do for saddle points.
    x0
        Initial guess; zero by default.
    rtol, atol
        Stop when ||b - A x||_M <= max(rtol ||b||_M, atol), with ||r||_M = sqrt(r.M r), the norm that is minimised: the
        Euclidean one without M. The default of `rtol` is 1e-8 in float64 and 1e-5 in float32.
    maxiter
        Largest number of iterations; 10 n by default.
    callback
        Called after each iteration with the current x; returning True stops.
    throw
        Raise `ConvergenceError` instead of warning when the tolerance is not reached.

    Returns
    -------
    LinearSolution
        Its residual norms are ||b - A x||_M by recurrence, and never grow but where round-off has made the recurrence
        too small, and it starts anew; the last one, `residual_norm`, is computed anew. There are no bounds of the
        error.

    Raises
    ------
    InputError
        If shapes, dtypes or devices do not fit, an entry is not finite, rtol is below 10 eps of the dtype, A or M is
        found not to be symmetric, or M is not linear.
    ConvergenceError
        If `throw` is true and the tolerance is not reached.

    Notes
    -----
    An iteration takes one product with A and one with M, and one more of each where round-off may have spoilt the
    recurrence: the iteration starts again from the best x where the true residual is no longer that. For definite A,
    `cg` reaches the same residual in about as many iterations, and bounds the error. Where A is singular and b outside
    its range, the iteration stagnates and says so, at a solution in the sense of least squares as a rule; small systems
    with clustered eigenvalues may end elsewhere (MINRES-QLP would not).

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
    """Refuse preconditioners that say or show that they are not linear or not symmetric; signs are seen later.

    Raises
    ------
    InputError
        If one is not.
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
    """The state of one solve, which can be taken further each time that more accuracy is asked for.

    Parameters
    ----------
    A, M
        Operator, and preconditioner.
    b
        Right-hand sides, shape (b, n).
    x0
        Initial guess, which is overwritten; zero by default.
    trusted
        Residuals above this part of ||b||_M are taken as the recurrence has them: to compute one anew takes a product
        with M. By default none are.

    Attributes
    ----------
    x
        What has been found so far, shape (b, n).
    norm, rhs_norm
        ||b - A x||_M and ||b||_M, shape (b,).
    euclidean
        ||b - A x||, as it was at the end of the last run.
    norms
        `norm` before each iteration and at the end.
    iterations
        Of each sample.
    reasons
        Why each sample ended; None where it has not.
    """

    def __init__(
        self, A: LinearOperator, b: Tensor, M: LinearOperator, x0: Tensor | None = None, *, trusted: float = math.inf
    ) -> None:
        self.A, self.M, self.b, self.trusted = A, M, b, trusted
        self.x = torch.zeros_like(b) if x0 is None else x0
        self.x[~b.any(1)] = 0.0  # the solution for b = 0 is known
        self.product, self.z_next = torch.empty_like(b), torch.empty_like(b)
        self.iterations = torch.zeros(len(b), dtype=torch.int64, device=b.device)
        self.reasons: list[Reason | None] = [None] * len(b)
        self.running = torch.ones(len(b), dtype=torch.bool, device=b.device)
        self.tolerance = b.new_zeros(len(b))
        self.eps = torch.finfo(b.dtype).eps
        self.flat = min(FLAT * self.eps, FLAT_AT_MOST)
        self.explosion = EXPLOSION_SHARE if self.eps < DOUBLE else math.inf
        self.parted = torch.zeros_like(self.running)
        self.largest = torch.finfo(b.dtype).max ** 0.25  # products up to this may be squared twice
        self._begin()
        self.euclidean = self.v.norm(dim=1)
        self.rhs_norm = self.norm if x0 is None else self._size(b, M.matvec_into(b, self.z_next))
        self.norms = [self.norm]

    def seek(self, tolerance: Tensor) -> None:
        """Ask for ||b - A x||_M <= tolerance (b,): samples that had ended at a larger one run again."""
        for row in torch.nonzero((self.norm > tolerance) & ~self.running).view(-1).tolist():
            if self.reasons[row] in (Reason.CONVERGED, Reason.MAXITER, None):
                self.reasons[row] = None
                self.running[row] = True
        self.tolerance = tolerance
        self._mark_converged()

    def run(self, maxiter: int, stopped: Callable[[], bool] | None = None) -> None:
        """Iterate until every sample has ended, at most so often; `stopped` is asked after each iteration."""
        count, restarts, last = 0, 0, torch.full_like(self.norm, torch.inf)
        while True:
            while bool(self.running.any()) and count < maxiter:
                self._step()
                count += 1
                if stopped is not None and stopped():
                    self._stop(self.running, Reason.STOPPED)
            self._restart_where_deceived()
            self._stop(self.norm > torch.maximum(PROGRESS * last, NEARLY * self.tolerance), Reason.STAGNATED)
            last = self.norm
            if not bool(self.running.any()):
                return
            if count >= maxiter or restarts == MAX_RESTARTS:
                self._stop(self.running, Reason.STAGNATED if count < maxiter else Reason.MAXITER)
                return
            restarts += 1

    # --- one iteration ------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Compute the residual, and make it the first vector of a new Krylov space."""
        self.v = self.A.residual_into(self.x, self.b, torch.empty_like(self.b))
        self.z = self.M.matvec_into(self.v, torch.empty_like(self.b))
        self.gamma = self.norm = self._size(self.v, self.z)
        self.v_old, self.w, self.w_old = (torch.zeros_like(self.b) for _ in range(3))
        one, zero = torch.ones_like(self.norm), torch.zeros_like(self.norm)
        self.gamma_old, self.c, self.c_old, self.s, self.s_old = one, one, one, zero, zero
        self.eta, self.scale, self.drift = self.norm, zero, zero
        self.first = True
        self.unit: Tensor | None = None  # A is divided by it
        self.u, self.u_old = self.w, self.w_old  # M^-1 w
        if not isinstance(self.M, Identity):
            self.u, self.u_old = torch.zeros_like(self.b), torch.zeros_like(self.b)
        self._stop(~torch.isfinite(self.norm), Reason.NOT_FINITE)

    def _size(self, v: Tensor, z: Tensor) -> Tensor:
        """Return sqrt(v.z) for z = M v; where that is negative by more than round-off, M is not definite."""
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
        """Powers of two (b, 1) by which A is divided in the recurrence, to keep squares in range; None if all are 1."""
        unit = binary_scales(product)
        outside = (unit > self.largest) | (unit < 1 / self.largest)
        return torch.where(outside, unit, 1.0) if bool(outside.any()) else None

    def _rotate(self, delta: Tensor, gamma: Tensor, gamma_new: Tensor, before: Tensor) -> None:
        """Minimise over the new column of the tridiagonal matrix, and take the step unless round-off would spoil x."""
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
        size = inner(self.w, self.u).clamp_min(0).sqrt()  # of w, in the norm of M^-1
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
            going = going & ~self._spoilt(suspect, along, left)
            drift, everywhere = torch.where(suspect, 0.0, drift), bool(going.all())

        def where(new: Tensor, old: Tensor | float) -> Tensor:
            return new if everywhere else torch.where(going, new, old)

        if everywhere:
            self.x.addcmul_(along, self.w)
        else:  # rows that have ended may hold what is not finite
            self.x[going] += along[going] * self.w[going]
        self.c_old, self.c = self.c, where(c, 1.0)
        self.s_old, self.s = self.s, where(s, 0.0)
        self.eta = where(-s * self.eta, self.eta)
        self.norm = where(left, self.norm)
        self.drift = where(drift, self.drift)
        self.iterations += going
        self.norms.append(self.norm)
        self._mark_converged()

    def _spoilt(self, suspect: Tensor, along: Tensor, left: Tensor) -> Tensor:
        """Compute true residuals after the step: end samples where the recurrence lost it, and find where it grew."""
        trial = torch.where(suspect.unsqueeze(1), self.x + along * self.w, self.x)
        true_norm = self._true_norm(self.A.residual_into(trial, self.b, torch.empty_like(self.b)))
        limit = torch.minimum(MAX_DRIFT * left, MAX_GROWTH * self.norm)
        limit = torch.where(left <= self.tolerance, self.tolerance, limit)
        parted = suspect & ~(true_norm <= limit)
        self._stop(parted, Reason.CONVERGED)  # until the residual is computed anew
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

    def _restart_where_deceived(self) -> None:
        """Compute the residuals anew; samples that had only seemed to converge run again from where they are."""
        r = self.A.residual_into(self.x, self.b, torch.empty_like(self.b))
        self.euclidean = r.norm(dim=1)
        if bool((self.norm > self.trusted * self.rhs_norm).logical_and_(~self.parted).all()):
            return
        self.parted.zero_()
        true_norm = self._true_norm(r)
        level = self._round_off_level()
        small, unknown = (true_norm <= self.tolerance).tolist(), (true_norm <= level).tolist()
        nearly = (true_norm <= self.tolerance * (1 + 1e3 * self.eps)).tolist()
        deceived = False
        for row, reason in enumerate(self.reasons):
            if reason in _JUDGED and (small[row] or unknown[row]):
                self.reasons[row] = Reason.CONVERGED if small[row] else Reason.ROUND_OFF
            elif reason is Reason.CONVERGED and not nearly[row]:  # NaN, too, where x overflows
                self.reasons[row], deceived = None, True
        self.norm = true_norm
        unfinished = [reason is None for reason in self.reasons]
        self.running = torch.tensor(unfinished, dtype=torch.bool, device=self.b.device)
        if deceived:
            self._begin()

    def _true_norm(self, r: Tensor) -> Tensor:
        """Return ||r||_M; the Euclidean norm where M is found not to have one."""
        square = inner(r, self.M.matvec_into(r, torch.empty_like(self.b)))
        return torch.where(square >= 0, square.sqrt(), r.norm(dim=1))

    def _round_off_level(self) -> Tensor:
        """Level of residuals that are round-off; zero where nothing is known of ||A||, or M changes the norm.

        It is 10 eps ||A|| ||x||, and at most `ROWS` times eps || |A| |x| + |b| || where that is known: far less where
        rows differ by decades.
        """
        if self.A.norm_upper is None or not isinstance(self.M, Identity):
            return torch.zeros_like(self.norm)
        level: Tensor = 10 * self.eps * self.A.norm_upper.to(self.norm) * self.x.norm(dim=1)
        sizes = self.A.product_sizes(self.x)
        if sizes is not None:
            level = torch.minimum(level, ROWS * self.eps * (sizes + self.b.abs()).norm(dim=1))
        return torch.minimum(level, self.rhs_norm)  # x may have exploded


def _combined(old: Tensor, far: Tensor, last: Tensor, above: Tensor, new: Tensor, part: Tensor) -> Tensor:
    """Return part new - above last - far old, written over `old`."""
    old.mul_(-far.unsqueeze(1)).addcmul_(above.unsqueeze(1), last, value=-1)
    return old.addcmul_(part.unsqueeze(1), new)
