"""The conjugate-gradient loop on flat batches: preconditioned, flexible, with a memory of directions.

References: Hestenes, Stiefel (1952); Notay, "Flexible conjugate gradients", SIAM J. Sci. Comput. 22 (2000) 1444-1460,
for the form with explicit orthogonalisation against the last K directions; Kaneda, Akar, Chen, Kala, Hyde, Teran, "A
deep conjugate direction method for iteratively solving linear systems", ICML 2023, which puts a network into that form.
A network is trusted with nothing: each step minimises the energy over what it gives, the residual, and the directions
in memory, so that no step is worse than one of steepest descent.
Vectors may be complex, for Hermitian operators: inner products conjugate their first factor.

Legend: n unknowns, b samples of a batch; vectors have shape (b, n).
"""

from __future__ import annotations

import functools
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.linalg import vector_norm

from sciml_bounds.errors import InputError
from sciml_bounds.kernels.field_memory import new_field
from sciml_bounds.kernels.vectors import advance, combine
from sciml_bounds.krylov._error_bounds import energy_lower_bounds, gauss_radau, residual_bound, smallest_ritz_value
from sciml_bounds.operators._linear_operator import LinearOperator, inner
from sciml_bounds.reports import Reason
from sciml_bounds.results import Kind, LinearSolution

__all__ = ["Monitor", "check_tolerances", "default_rtol", "iterate"]

#: Called after each iteration with its number, x (b, n) and the residual norms (b,); returning True stops the loop.
Monitor = Callable[[int, Tensor, Tensor], bool | None]

#: So often the recomputed residual may turn out larger than the tolerance before round-off is held responsible.
MAX_RESTARTS = 5

#: A sample whose residual is below 10 eps ||A|| ||x|| goes on to the round-off of its rows. It stagnates where more
#: than `PROGRESS` of the residual is left after `PATIENCE` iterations (or half of all so far, if that is more) or a
#: restart, and has converged to round-off even so up to `NEARLY` times the level of the rows.
PROGRESS, PATIENCE, NEARLY = 0.5, 20, 10.0

#: Directions that are kept for a preconditioner that is not known to be linear, as published for learned ones.
LEARNED_MEMORY = 2

#: What is left of a residual is none of its own below this part of it. What a network gives may be the residual itself,
#: whose remainder is the rounding of single precision and of a few projections: a direction at random, with which 256
#: iterations became 1,400.
NOTHING_NEW = 1e-4

#: Reasons by their number on the device; a sample that still runs, or ran until the last iteration, has the first one.
_ENDS = (
    Reason.MAXITER, Reason.CONVERGED, Reason.ROUND_OFF, Reason.INDEFINITE, Reason.INDEFINITE_PRECONDITIONER,
    Reason.NO_NEW_DIRECTION, Reason.NOT_FINITE, Reason.STOPPED, Reason.STAGNATED,
)  # fmt: skip
_NUMBER = {reason: number for number, reason in enumerate(_ENDS)}

#: Numbers of ends that may come with nothing left to do: out of iterations, and what round-off brings about too, in
#: systems that are nearly singular for their precision.
_BREAKDOWNS = {0, 3, 4, 5}


def default_rtol(dtype: torch.dtype) -> float:
    """Return the relative residual that is asked for by default: 1e-8 in double precision, 1e-5 in single."""
    return 1e-8 if torch.finfo(dtype).bits == 64 else 1e-5


def check_tolerances(rtol: float | None, atol: float, maxiter: int | None, dtype: torch.dtype) -> float:
    """Check the stop rule and return the relative tolerance.

    Raises
    ------
    InputError
        If a tolerance is no number, negative or not finite, rtol is below round-off, or maxiter is negative.
    """
    rtol = default_rtol(dtype) if rtol is None else _number(rtol, "rtol")
    atol = _number(atol, "atol")
    eps = torch.finfo(dtype).eps
    if not 0 <= rtol < float("inf") or not 0 <= atol < float("inf"):
        raise InputError(f"rtol={rtol} and atol={atol} must be finite and not negative.")
    if rtol < 10 * eps and atol == 0:
        kind = str(dtype).removeprefix("torch.")
        otherwise = "" if dtype == torch.float64 else ", or use float64"
        raise InputError(f"rtol={rtol:g} is below the round-off of {kind} ({10 * eps:.2g}); ask for more{otherwise}.")
    if maxiter is not None and maxiter < 0:
        raise InputError(f"maxiter is {maxiter}; it must not be negative.")
    return rtol


def _number(value: Any, name: str) -> float:
    """Read a number, NaN and infinity too; arrays of one are taken for it."""
    single = isinstance(value, Tensor | np.ndarray) and value.ndim == 0
    number = value.item() if single else value
    if not isinstance(number, Real) or isinstance(number, bool):
        raise InputError(f"{name} is {value!r}; it must be a number.")
    return float(number)


@dataclass
class _History:
    """What the bounds are made of, one entry an iteration, each of shape (b,)."""

    residual_norms: list[Tensor] = field(default_factory=list)
    decreases: list[Tensor] = field(default_factory=list)
    alphas: list[Tensor] = field(default_factory=list)
    rz: list[Tensor] = field(default_factory=list)


#: A direction (b, n), its product with A, and its curvature d.A d (b,), which is 1 where the direction is zero.
_Direction = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class _Search:
    """A direction to minimise along, zero where there is none: d and A d (b, n), d.A d and d.r (b,)."""

    direction: Tensor
    product: Tensor
    curvature: Tensor
    slope: Tensor

    @property
    def entry(self) -> _Direction:
        """As the memory keeps it."""
        return self.direction, self.product, torch.where(self.curvature > 0, self.curvature, 1.0)

    def length(self, going: Tensor) -> Tensor:
        """Step length of the least energy, zero for samples that have ended."""
        found: Tensor = torch.where(going & (self.curvature > 0), self.slope / self.entry[2], 0.0)
        return found


def _where(which: Tensor | None, numbers: Tensor, otherwise: Tensor | float) -> Tensor:
    """Take numbers where a condition holds; everywhere if it is None."""
    return numbers if which is None else torch.where(which, numbers, otherwise)


class _Loop:
    """The state of one solve; `step` is one iteration for all samples that still run.

    The host waits for the device once an iteration, to learn whether a sample has ended, and once more if one has.
    """

    def __init__(
        self,
        A: LinearOperator,
        b: Tensor,
        M: LinearOperator,
        x0: Tensor | None,
        rtol: float,
        atol: float,
        memory: int,
        flexible: bool,
    ) -> None:
        self.A, self.M, self.b = A, M, b
        self.flexible = flexible
        self.learned = flexible and M.linear is not True
        self.rhs_norm = vector_norm(b, dim=1)
        self.x = new_field(b).zero_() if x0 is None else x0
        self.unseen = b.device.type != "cpu"  # where the host would wait for the device, exceptions are not looked for
        if x0 is not None and (self.unseen or not bool(self.rhs_norm.all())):  # the norm of tiny numbers is 0 too
            self.x.masked_fill_(~b.any(1, keepdim=True), 0.0)  # the solution for b = 0 is known
        self.r = new_field(b)
        self.z, self.d = new_field(b), new_field(b)
        self.memory: deque[_Direction] = deque(maxlen=memory)
        self.floor = 10 * torch.finfo(b.dtype).eps
        self.tolerance = (rtol * self.rhs_norm).clamp_min(atol)
        self.history = _History()
        self.ends = torch.zeros(len(b), dtype=torch.int64, device=b.device)  # numbers of `_ENDS`
        self.running = torch.ones(len(b), dtype=torch.bool, device=b.device)
        self.seen, self.whole, self.alive = self.running, True, len(b) > 0  # who runs, all, any, as the host knows it
        self.iterations = torch.zeros_like(self.ends)
        self.dropped = torch.zeros_like(self.ends) if self.learned else None
        self.one = torch.ones_like(self.tolerance)
        self.zero, self.infinity = torch.zeros_like(self.one), self.one * torch.inf
        self.unit_level = self.zero if A.norm_upper is None else self.floor * A.norm_upper.to(self.one)
        self.rz_old = self.one
        self.exhausted = ~self.running  # the round-off of the rows is out of reach
        self.best, self.waited = self.infinity, torch.zeros_like(self.ends)  # what progress is told from
        self.recomputed = self.infinity  # residual norms of the last restart
        self.stiffness: Tensor | None = None  # the norm of A, or what the first residual tells of it
        self.fresh = True  # the next direction is the preconditioned residual itself
        if x0 is None:
            self.r.copy_(b)
        else:
            self.replace_residual()
        self.norm, self.size = vector_norm(self.r, dim=1), vector_norm(self.x, dim=1)
        self.history.residual_norms.append(self.norm)
        self.mark_converged(None)

    def replace_residual(self) -> None:
        """Compute the residual anew, so that round-off of the recurrence cannot deceive."""
        self.A.residual_into(self.x, self.b, self.r)

    def round_off_level(self) -> Tensor:
        """10 eps ||A|| ||x||: below it the residual means nothing."""
        level = self.unit_level * self.size
        return torch.where(self.size < self.infinity, level, self.zero)  # ||x||^2 may leave the range of its dtype

    def row_level(self, level: Tensor) -> Tensor:
        """Lower a level of round-off to 10 eps || |A| |x| + |b| ||: far less where rows differ by decades."""
        sizes = self.A.product_sizes(self.x)
        if sizes is None:
            return level
        rows = self.floor * vector_norm(sizes.add_(self.b.abs()), dim=1)
        return torch.minimum(level, torch.where(self.exhausted, NEARLY * rows, rows))

    def stop(self, which: Tensor, reason: Reason) -> None:
        """End the samples that still run and fulfil a condition."""
        which = which & self.running
        if self.unseen or bool(which.any()):
            self.ends = torch.where(which, _NUMBER[reason], self.ends)
            self.running = self.running & ~which

    def positive(self, numbers: Tensor, among: Tensor | None) -> Tensor | None:
        """Tell which samples among some have a positive and finite number; None if all are known to."""
        if among is None and not self.unseen and all(0 < number < math.inf for number in numbers.tolist()):
            return None
        found = (numbers > 0) & (numbers < torch.inf)
        return found if among is None else found & among

    def mark_converged(self, going: Tensor | None, others: Iterable[tuple[Tensor, Reason]] = ()) -> None:
        """End the samples whose residual is small enough, or not finite.

        Where not all samples that ran are `going` (None for all), `others` are reasons to end that come first.
        """
        if going is None and self.whole and not self.unseen:  # as a rule nobody is near an end
            above = self.positive(self.norm - torch.maximum(self.unit_level * self.size, self.tolerance), None)
            if above is None:
                return
        level = torch.minimum(self.round_off_level(), self.rhs_norm)  # x may have exploded
        above = self.positive(self.norm - torch.maximum(level, self.tolerance), going)
        if above is None or bool((above if self.whole else above | ~self.seen).all()):  # here the host waits
            return
        for which, reason in others if going is not None else ():
            self.stop(which, reason)
        self.stop(~torch.isfinite(self.norm), Reason.NOT_FINITE)
        self.stop(self.norm <= self.tolerance, Reason.CONVERGED)
        low = self.running & (self.norm <= level)
        if self.unseen or bool(low.any()):
            better = self.norm <= PROGRESS * self.best
            self.best = torch.where(better, self.norm, self.best)
            self.waited = torch.where(better, 0, self.waited + low)
            self.exhausted |= self.waited > (self.iterations // 2).clamp_min(PATIENCE)
            self.stop(self.norm <= self.row_level(level), Reason.ROUND_OFF)
            self.stop(low & self.exhausted, Reason.STAGNATED)
        count = int(self.running.sum())
        self.seen, self.whole, self.alive = self.running, count == len(self.running), count > 0

    def step(self) -> None:
        """Do one iteration."""
        self.M.matvec_into(self.r, self.z)
        if self.learned:
            self._tame()
        if self.learned and self.M.safeguard:
            self._step_in_span()
            return
        rz = inner(self.r, self.z).real
        running = None if self.whole else self.running
        useful = self.running & (rz.abs() < torch.inf) if self.flexible else self.positive(rz, running)
        if useful is not None and (self.unseen or not bool(useful.all())):
            self.z.masked_fill_(~useful.unsqueeze(1), 0.0)  # whatever M makes of a residual that is done with
        lost = self._new_direction(rz, useful)
        product = self.z  # which the direction was made of, and which is free now
        curvature = self.A.energy_into(self.d, product)
        slope = inner(self.d, self.r) if self.flexible else rz  # the directions before are orthogonal to r
        going = self.positive(curvature, useful)
        if lost is not None and going is not None:
            going = going & ~lost & (slope != 0)
        along = _where(going, slope, 0.0)
        alpha = along / _where(going, curvature, 1.0)
        size, norm = advance(alpha, self.d, product, self.x, self.r)
        self.iterations += 1 if going is None else going
        self.size, self.norm = _where(going, size, self.size), _where(going, norm, self.norm)
        h = self.history
        h.decreases.append((alpha.conj() * along).real)
        h.alphas.append(alpha.real)
        h.rz.append(rz)
        h.residual_norms.append(self.norm)
        self.rz_old = rz
        if self.flexible:
            self.memory.append((self.d.clone(), product.clone(), _where(going, curvature, 1.0)))
        self.mark_converged(going, self._failures(rz, lost, curvature, slope))

    def _failures(
        self, rz: Tensor, lost: Tensor | None, curvature: Tensor, slope: Tensor
    ) -> Iterator[tuple[Tensor, Reason]]:
        """List why a sample cannot go on, in order."""
        yield ~torch.isfinite(rz), Reason.NOT_FINITE
        if lost is None:
            yield rz <= 0, Reason.INDEFINITE_PRECONDITIONER
        else:
            yield lost, Reason.NO_NEW_DIRECTION
        yield ~torch.isfinite(curvature), Reason.NOT_FINITE
        yield slope == 0, Reason.NO_NEW_DIRECTION
        yield curvature <= 0, Reason.INDEFINITE

    def _new_direction(self, rz: Tensor, useful: Tensor | None) -> Tensor | None:
        """Set d from the preconditioned residual; tell where a flexible loop finds nothing new."""
        if self.flexible:
            self.d.copy_(self.z)
            for direction, product, curvature in self.memory:
                self.d.addcmul_((inner(product, self.z) / curvature).unsqueeze(1), direction, value=-1)
            lost: Tensor = vector_norm(self.d, dim=1) <= self.floor * vector_norm(self.z, dim=1)
            if self.dropped is not None and useful is not None:
                self.dropped += lost & useful
            return lost
        if self.fresh:
            self.d, self.z = self.z, self.d
        else:
            beta = _where(useful, rz, 0.0) / _where(useful, self.rz_old, 1.0)
            combine(self.one, self.z, beta, self.d, norms=False)
        self.fresh = False
        return None

    def _tame(self) -> None:
        """Scale what a learned preconditioner gave, whose size means nothing, and drop what is not finite."""
        size = self.z.abs().amax(1)
        useful = (size > 0) & (size < torch.inf) & self.running
        z = torch.view_as_real(self.z).view(len(self.z), -1) if self.z.is_complex() else self.z  # division may overflow
        z /= torch.where(useful, size, 1.0).unsqueeze(1)
        self.z.masked_fill_(~useful.unsqueeze(1), 0.0)

    def _step_in_span(self) -> None:
        """Minimise the energy over the span of the preconditioned residual, the residual and the memory."""
        running = self.running
        given = self._curved(self._search(self.z, self.memory, self.floor))
        assert self.dropped is not None
        self.dropped += running & (given.curvature == 0)
        plain = self._search(self.r, [*self.memory, given.entry], NOTHING_NEW)
        self.stop((plain.curvature <= 0) & plain.direction.any(1), Reason.INDEFINITE)
        self.stop((given.slope == 0) & (plain.slope == 0), Reason.NO_NEW_DIRECTION)
        going = self.running & running
        first, second = given.length(going), plain.length(going)
        combine(second, plain.direction, first, given.direction, norms=False)
        combine(second, plain.product, first, given.product, norms=False)
        direction, product = given.direction, given.product
        direction[~going], product[~going] = 0.0, 0.0
        size, norm = advance(torch.ones_like(first), direction, product, self.x, self.r)
        self.iterations += going
        self.size, self.norm = torch.where(going, size, self.size), torch.where(going, norm, self.norm)
        self.history.decreases.append((first.conj() * given.slope + second.conj() * plain.slope).real)
        self.history.residual_norms.append(self.norm)
        self.memory.append((direction, product, torch.where(going, inner(direction, product).real, 1.0)))
        self.mark_converged(self.running)

    def _search(self, v: Tensor, known: Iterable[_Direction], floor: float) -> _Search:
        """Make vectors A-orthogonal to known directions; zero where no more than `floor` of them is left."""
        direction = v.clone()
        direction[~self.running] = 0.0
        for _ in range(2):  # a network may give nearly what is known, and twice is enough (Kahan; Parlett, 1980)
            for other, product, curvature in known:
                direction.addcmul_((inner(product, direction) / curvature).unsqueeze(1), other, value=-1)
        lost = vector_norm(direction, dim=1) <= floor * vector_norm(v, dim=1)
        direction[lost] = 0.0
        product = torch.empty_like(direction)
        curvature = self.A.energy_into(direction, product)
        self.stop(~torch.isfinite(curvature), Reason.NOT_FINITE)
        return _Search(direction, product, curvature, inner(direction, self.r))

    def _curved(self, given: _Search) -> _Search:
        """Drop what a network gives where the energy does not grow along it: it may lie in the null space of A."""
        if self.stiffness is None:
            known = self.A.norm_upper
            curvature = self.A.energy_into(self.r, torch.empty_like(self.r)) / self.norm.square().clamp_min(1e-300)
            self.stiffness = curvature if known is None else known.to(curvature)
        flat = given.curvature <= self.floor * self.stiffness * vector_norm(given.direction, dim=1).square()
        given.direction[flat], given.product[flat] = 0.0, 0.0
        return replace(given, curvature=torch.where(flat, 0.0, given.curvature), slope=inner(given.direction, self.r))

    def restart_where_deceived(self) -> None:
        """Recompute the residual of all samples; those that had only seemed to converge run again."""
        self.replace_residual()
        self.norm = vector_norm(self.r, dim=1)
        level = self.round_off_level()
        if self.unseen or _BREAKDOWNS.intersection(self.ends.tolist()):
            self._acquit(self.row_level(torch.minimum(level, self.rhs_norm)))  # as in `mark_converged`
        missed = self.norm > self.tolerance * (1 + 1e3 * torch.finfo(self.b.dtype).eps)
        if self.unseen or bool(missed.any()):
            self.exhausted |= (self.norm > PROGRESS * self.recomputed) & (self.norm <= 2 * level)
            self.best, self.recomputed, level = self.infinity, self.norm, self.row_level(level)
        deceived = self.converged & missed & (self.norm > 2 * level)
        given_up, deceived = deceived & self.exhausted, deceived & ~self.exhausted
        self.running = self.seen = deceived
        self.whole, self.alive = False, bool(deceived.any())
        if self.unseen or self.alive or bool(given_up.any()):
            self.ends = torch.where(deceived, 0, torch.where(given_up, _NUMBER[Reason.STAGNATED], self.ends))
        self.fresh = True
        self.memory.clear()

    def _acquit(self, level: Tensor) -> None:
        """Call converged what broke down, or ran out of iterations, where nothing was left to do."""
        broke = (self.ends <= max(_BREAKDOWNS)) & ~self.converged
        for limit, reason in ((level, Reason.ROUND_OFF), (self.tolerance, Reason.CONVERGED)):
            self.ends = torch.where(broke & (self.norm <= limit), _NUMBER[reason], self.ends)

    @property
    def converged(self) -> Tensor:
        """Which samples have ended at the tolerance or at the level of round-off."""
        return (self.ends > 0) & (self.ends <= _NUMBER[Reason.ROUND_OFF])


def iterate(
    A: LinearOperator,
    b: Tensor,
    M: LinearOperator,
    x0: Tensor | None = None,
    *,
    rtol: float | None = None,
    atol: float = 0.0,
    maxiter: int | None = None,
    memory: int | None = None,
    flexible: bool | None = None,
    lambda_min: float | Tensor | None = None,
    lambda_min_preconditioned: float | Tensor | None = None,
    monitor: Monitor | None = None,
    start: float | None = None,
) -> LinearSolution:
    """Run the loop of `cg` on checked input (batch..., n), without a warning at its end. It may overwrite x0.

    Raises
    ------
    InputError
        If a tolerance, maxiter or memory is out of range.
    """
    start = time.perf_counter() if start is None else start
    rtol = check_tolerances(rtol, atol, maxiter, b.dtype)
    if memory is None:
        memory = 1 if M.linear is True else LEARNED_MEMORY
    if memory < 1:
        raise InputError(f"memory is {memory}; it must be at least 1.")
    flexible = (M.symmetric is not True or M.linear is not True or memory > 1) if flexible is None else flexible
    batch, n = b.shape[:-1], b.shape[-1]
    maxiter = 10 * n if maxiter is None else maxiter
    with torch.no_grad():
        flat = b.detach().reshape(-1, n).contiguous()
        guess = None if x0 is None else x0.detach().reshape(-1, n).contiguous()
        loop = _Loop(A, flat, M, guess, rtol, atol, memory, flexible)
        restarts = _run(loop, maxiter, monitor)
        residual_norm = loop.norm
        bounds = _bounds(loop, restarts, residual_norm, lambda_min, lambda_min_preconditioned)
    reasons = tuple(_ENDS[number] for number in loop.ends.tolist())
    norms = torch.stack(loop.history.residual_norms)

    def shaped(field: Tensor) -> Tensor:
        return field if len(batch) == 1 else field.reshape((*field.shape[: field.ndim - 1], *batch))

    return LinearSolution(
        x=loop.x.view(b.shape),
        converged=shaped(loop.converged),
        reason=reasons[0] if not batch else reasons,
        iterations=shaped(loop.iterations),
        residual_norms=shaped(norms),
        residual_norm=shaped(residual_norm),
        tolerance=shaped(loop.tolerance),
        error_lower=shaped(bounds.lower),
        error_upper=None if bounds.upper is None else shaped(bounds.upper),
        error_upper_kind=bounds.kind,
        flexible=flexible,
        dropped_directions=None if loop.dropped is None else shaped(loop.dropped),
        method="flexible conjugate gradients" if flexible else "conjugate gradients",
        seconds=time.perf_counter() - start,
    )


def _run(loop: _Loop, maxiter: int, monitor: Monitor | None) -> int:
    """Iterate until every sample has ended; returns how often the residual was replaced."""
    restarts = 0
    iteration = 0
    while True:
        while loop.alive and iteration < maxiter:
            loop.step()
            iteration += 1
            if monitor is not None and monitor(iteration, loop.x, loop.norm):
                loop.stop(loop.running, Reason.STOPPED)
                loop.alive = False
        loop.restart_where_deceived()
        if not loop.alive:
            return restarts
        if iteration >= maxiter or restarts == MAX_RESTARTS:
            loop.stop(loop.norm <= 2 * loop.row_level(loop.round_off_level()), Reason.ROUND_OFF)
            loop.stop(loop.running, Reason.STAGNATED)
            return restarts
        restarts += 1


@dataclass(frozen=True)
class _Bounds:
    lower: Tensor
    upper: Tensor | None
    kind: Kind | None


def _bounds(
    loop: _Loop, restarts: int, residual_norm: Tensor, lambda_min: float | Tensor | None, mu: float | Tensor | None
) -> _Bounds:
    h = loop.history
    lower = energy_lower_bounds(torch.stack(h.decreases) if h.decreases else loop.tolerance.new_zeros(0, len(loop.b)))
    lambda_min = loop.A.eigenvalue_lower if lambda_min is None else lambda_min
    uppers: list[Tensor] = []
    round_off = None if lambda_min is None else loop.A.product_round_off(loop.x)
    if lambda_min is not None and round_off is not None:
        round_off = round_off + 2 * torch.finfo(loop.b.dtype).eps * loop.rhs_norm  # of the difference b - A x
        uppers.append(residual_bound(residual_norm, round_off, torch.as_tensor(lambda_min).to(loop.tolerance)))
    plain = not loop.flexible and restarts == 0 and len(h.alphas) > 0
    if plain and mu is not None:
        uppers.append(_radau(loop, torch.as_tensor(mu).to(loop.tolerance).expand(len(loop.b))))
    if uppers:
        return _Bounds(lower, functools.reduce(torch.minimum, uppers).expand(len(loop.b)), "bound")
    if lambda_min is not None:  # what rounding did to the residual of an unknown operator is not bounded
        return _Bounds(lower, residual_norm / torch.as_tensor(lambda_min).to(loop.tolerance).sqrt(), "estimate")
    if plain:
        rz = _weights(loop)
        ritz = smallest_ritz_value(torch.stack(h.alphas), _ratios(rz), loop.iterations)
        return _Bounds(lower, (rz[-1] / ritz).sqrt(), "estimate")
    return _Bounds(lower, None, None)


def _radau(loop: _Loop, mu: Tensor) -> Tensor:
    rz = _weights(loop)
    return gauss_radau(torch.stack(loop.history.alphas), _ratios(rz), rz, mu)[-1]


def _weights(loop: _Loop) -> Tensor:
    """Return r.M r at every iterate, (m + 1, b)."""
    loop.M.matvec_into(loop.r, loop.z)
    return torch.stack([*loop.history.rz, inner(loop.r, loop.z).real.clamp_min(0)])


def _ratios(rz: Tensor) -> Tensor:
    """Return the coefficients that form the directions, (m, b)."""
    return torch.where(rz[:-1] > 0, rz[1:] / torch.where(rz[:-1] > 0, rz[:-1], 1.0), 0.0)
