"""The conjugate-gradient loop on flat batches: preconditioned, and flexible with a memory of directions.

References: Hestenes, Stiefel (1952); Notay, "Flexible conjugate gradients", SIAM J. Sci. Comput. 22 (2000) 1444-1460,
for the form with explicit orthogonalisation against the last K directions; Kaneda, Akar, Chen, Kala, Hyde, Teran, "A
deep conjugate direction method for iteratively solving linear systems", ICML 2023, for networks in that form.

With a network, each step minimises the energy over the network's direction, the residual, and the directions in memory,
so that each step is at least as good as a steepest-descent step. Vectors may be complex, for Hermitian operators: inner
products conjugate their first factor.

Notation: n unknowns, b samples of a batch; vectors have shape (b, n).
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

from sciml_bounds._certificate import Kind
from sciml_bounds.errors import InputError
from sciml_bounds.kernels.field_memory import new_field
from sciml_bounds.kernels.vectors import advance, combine
from sciml_bounds.krylov._error_bounds import energy_lower_bounds, gauss_radau, residual_bound, smallest_ritz_value
from sciml_bounds.operators._linear_operator import LinearOperator, inner
from sciml_bounds.reports import Reason
from sciml_bounds.results import LinearSolution

__all__ = ["Monitor", "check_tolerances", "default_rtol", "iterate"]

#: Called after each iteration with its number, x (b, n) and the residual norms (b,); returning True stops the loop.
Monitor = Callable[[int, Tensor, Tensor], bool | None]

#: Maximum number of restarts of samples whose recomputed residual exceeds the tolerance; afterwards, they end with the
#: reason round-off.
MAX_RESTARTS = 5

#: A sample whose residual is below 10 eps ||A|| ||x|| continues until the residual reaches the round-off level of the
#: rows, 10 eps || |A| |x| + |b| ||. It stagnates if the residual has not fallen to `STAGNATION_RATIO` of its best value
#: within `STAGNATION_ITERATIONS` iterations (or half of all iterations so far, if that is more), or after a restart. It
#: still counts as converged to round-off if the residual is at most `ROW_LEVEL_SLACK` times the round-off level of the
#: rows.
STAGNATION_RATIO, STAGNATION_ITERATIONS, ROW_LEVEL_SLACK = 0.5, 20, 10.0

#: Default number of directions kept for a preconditioner that is not known to be linear, as in the DCDM paper.
LEARNED_MEMORY = 2

#: A residual counts as linearly dependent on other directions if at most this fraction of its norm is orthogonal to
#: them. The network's direction may be the residual itself. The orthogonal part is then rounding noise, and searching
#: along it raised the number of iterations from 256 to 1,400.
DEPENDENCE_TOL = 1e-4

#: Stopping reasons by index. Samples that still run, or have reached the last iteration, have index 0.
_ENDS = (
    Reason.MAXITER, Reason.CONVERGED, Reason.ROUND_OFF, Reason.INDEFINITE, Reason.INDEFINITE_PRECONDITIONER,
    Reason.NO_NEW_DIRECTION, Reason.NOT_FINITE, Reason.STOPPED, Reason.STAGNATED,
)  # fmt: skip
_NUMBER = {reason: number for number, reason in enumerate(_ENDS)}

#: Indices of the reasons that round-off can cause after convergence of nearly singular systems: `MAXITER`, breakdowns.
_BREAKDOWNS = {0, 3, 4, 5}


def default_rtol(dtype: torch.dtype) -> float:
    """Return the default relative tolerance: 1e-8 in double precision, 1e-5 in single precision."""
    return 1e-8 if torch.finfo(dtype).bits == 64 else 1e-5


def check_tolerances(rtol: float | None, atol: float, dtype: torch.dtype) -> float:
    """Check the tolerances, and return the relative one.

    Raises
    ------
    InputError
        If a tolerance is not a number, negative or not finite, or rtol is below round-off.
    """
    rtol = default_rtol(dtype) if rtol is None else _number(rtol, "rtol")
    atol = _number(atol, "atol")
    eps = torch.finfo(dtype).eps
    if not 0 <= rtol < float("inf") or not 0 <= atol < float("inf"):
        raise InputError(f"rtol is {rtol} and atol is {atol}; give finite numbers that are not negative.")
    if rtol < 10 * eps and atol == 0:
        kind = str(dtype).removeprefix("torch.")
        otherwise = "" if dtype == torch.float64 else ", or use float64"
        raise InputError(
            f"rtol is {rtol:g}, below the round-off of {kind} ({10 * eps:.2g}); use a larger rtol{otherwise}."
        )
    return rtol


def _number(value: Any, name: str) -> float:
    """Return a number as float; NaN, infinity and zero-dimensional arrays are accepted."""
    single = isinstance(value, Tensor | np.ndarray) and value.ndim == 0
    number = value.item() if single else value
    if not isinstance(number, Real) or isinstance(number, bool):
        raise InputError(f"{name} is {value!r}; give a number.")
    return float(number)


@dataclass
class _History:
    """Quantities for the error bounds, one entry per iteration, each of shape (b,)."""

    residual_norms: list[Tensor] = field(default_factory=list)
    decreases: list[Tensor] = field(default_factory=list)
    alphas: list[Tensor] = field(default_factory=list)
    rz: list[Tensor] = field(default_factory=list)


#: A direction (b, n), its product with A, and its curvature d.A d (b,), which is 1 where the direction is zero.
_Direction = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class _Search:
    """A search direction d: d and A d (b, n), d.A d and d.r (b,); zero for samples without a direction."""

    direction: Tensor
    product: Tensor
    curvature: Tensor
    slope: Tensor

    @property
    def entry(self) -> _Direction:
        """The direction as a tuple (d, A d, d.A d), which is kept in memory."""
        return self.direction, self.product, torch.where(self.curvature > 0, self.curvature, 1.0)

    def length(self, going: Tensor) -> Tensor:
        """Return the step lengths that minimise the energy; zero for samples that have ended."""
        lengths: Tensor = torch.where(going & (self.curvature > 0), self.slope / self.entry[2], 0.0)
        return lengths


def _where(which: Tensor | None, numbers: Tensor, otherwise: Tensor | float) -> Tensor:
    """Return `torch.where(which, numbers, otherwise)`, where the mask None means True everywhere."""
    return numbers if which is None else torch.where(which, numbers, otherwise)


class _Loop:
    """The state of one solve; `step` does one iteration for all running samples.

    The host waits for the device once per iteration, to check whether a sample has ended, and once more if one has.
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
        self.on_device = b.device.type != "cpu"  # skip checks for which the host would wait for the device
        if x0 is not None and (self.on_device or not bool(self.rhs_norm.all())):  # norms of tiny numbers underflow
            self.x.masked_fill_(~b.any(1, keepdim=True), 0.0)  # x = 0 solves b = 0
        self.r = new_field(b)
        self.z, self.d = new_field(b), new_field(b)
        self.memory: deque[_Direction] = deque(maxlen=memory)
        self.floor = 10 * torch.finfo(b.dtype).eps
        self.tolerance = (rtol * self.rhs_norm).clamp_min(atol)
        self.history = _History()
        self.ends = torch.zeros(len(b), dtype=torch.int64, device=b.device)  # indices into `_ENDS`
        self.running = torch.ones(len(b), dtype=torch.bool, device=b.device)
        # Copies on the host of the mask of running samples, and of whether all or any of them run.
        self.seen, self.whole, self.alive = self.running, True, len(b) > 0
        self.iterations = torch.zeros_like(self.ends)
        self.dropped = torch.zeros_like(self.ends) if self.learned else None
        self.one = torch.ones_like(self.tolerance)
        self.zero, self.infinity = torch.zeros_like(self.one), self.one * torch.inf
        self.unit_level = self.zero if A.norm_upper is None else self.floor * A.norm_upper.to(self.one)
        self.rz_old = self.one
        self.exhausted = ~self.running  # cannot reach the round-off level of the rows
        self.best, self.stalled_iterations = self.infinity, torch.zeros_like(self.ends)  # for the check of stagnation
        self.recomputed = self.infinity  # residual norms of the last restart
        self.stiffness: Tensor | None = None  # the norm of A, or its estimate from the first residual
        self.first_direction = True  # the next direction is the preconditioned residual itself
        if x0 is None:
            self.r.copy_(b)
        else:
            self.replace_residual()
        self.norm, self.size = vector_norm(self.r, dim=1), vector_norm(self.x, dim=1)
        self.history.residual_norms.append(self.norm)
        self.mark_converged(None)

    def replace_residual(self) -> None:
        """Recompute the residual b - A x, to remove the round-off of the recurrence."""
        self.A.residual_into(self.x, self.b, self.r)

    def round_off_level(self) -> Tensor:
        """Return 10 eps ||A|| ||x||; a residual below this level consists of round-off."""
        level = self.unit_level * self.size
        return torch.where(self.size < self.infinity, level, self.zero)  # ||x||^2 may overflow

    def row_level(self, level: Tensor) -> Tensor:
        """Return the smaller of `level` and 10 eps || |A| |x| + |b| ||; `level` if |A| |x| is unknown.

        The second level is much smaller if the sizes of rows differ by orders of magnitude.
        """
        sizes = self.A.product_sizes(self.x)
        if sizes is None:
            return level
        rows = self.floor * vector_norm(sizes.add_(self.b.abs()), dim=1)
        return torch.minimum(level, torch.where(self.exhausted, ROW_LEVEL_SLACK * rows, rows))

    def stop(self, which: Tensor, reason: Reason) -> None:
        """End the running samples in the mask `which` for a reason."""
        which = which & self.running
        if self.on_device or bool(which.any()):
            self.ends = torch.where(which, _NUMBER[reason], self.ends)
            self.running = self.running & ~which

    def positive(self, numbers: Tensor, among: Tensor | None) -> Tensor | None:
        """Return the mask of samples in `among` whose number is positive and finite; None if all are."""
        if among is None and not self.on_device and all(0 < number < math.inf for number in numbers.tolist()):
            return None
        mask = (numbers > 0) & (numbers < torch.inf)
        return mask if among is None else mask & among

    def mark_converged(self, going: Tensor | None, others: Iterable[tuple[Tensor, Reason]] = ()) -> None:
        """End the samples whose residual has reached the tolerance or is not finite.

        `going` is the mask of samples that took a step (None: all). For the others, the masks and reasons in `others`
        take precedence.
        """
        if going is None and self.whole and not self.on_device:  # usually, no sample is near its end
            above = self.positive(self.norm - torch.maximum(self.unit_level * self.size, self.tolerance), None)
            if above is None:
                return
        level = torch.minimum(self.round_off_level(), self.rhs_norm)  # x may have diverged
        above = self.positive(self.norm - torch.maximum(level, self.tolerance), going)
        if above is None or bool((above if self.whole else above | ~self.seen).all()):  # here the host waits
            return
        for which, reason in others if going is not None else ():
            self.stop(which, reason)
        self.stop(~torch.isfinite(self.norm), Reason.NOT_FINITE)
        self.stop(self.norm <= self.tolerance, Reason.CONVERGED)
        low = self.running & (self.norm <= level)
        if self.on_device or bool(low.any()):
            better = self.norm <= STAGNATION_RATIO * self.best
            self.best = torch.where(better, self.norm, self.best)
            self.stalled_iterations = torch.where(better, 0, self.stalled_iterations + low)
            self.exhausted |= self.stalled_iterations > (self.iterations // 2).clamp_min(STAGNATION_ITERATIONS)
            self.stop(self.norm <= self.row_level(level), Reason.ROUND_OFF)
            self.stop(low & self.exhausted, Reason.STAGNATED)
        count = int(self.running.sum())
        self.seen, self.whole, self.alive = self.running, count == len(self.running), count > 0

    def step(self) -> None:
        """Do one iteration."""
        self.M.matvec_into(self.r, self.z)
        if self.learned:
            self._normalise_direction()
        if self.learned and self.M.safeguard:
            self._step_in_span()
            return
        rz = inner(self.r, self.z).real
        running = None if self.whole else self.running
        useful = self.running & (rz.abs() < torch.inf) if self.flexible else self.positive(rz, running)
        if useful is not None and (self.on_device or not bool(useful.all())):
            self.z.masked_fill_(~useful.unsqueeze(1), 0.0)  # samples that have ended
        lost = self._new_direction(rz, useful)
        product = self.z  # reuse the memory of z
        curvature = self.A.energy_into(self.d, product)
        slope = inner(self.d, self.r) if self.flexible else rz  # previous directions are orthogonal to r
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
        """Yield masks and reasons for samples that cannot take a step, in order of precedence."""
        yield ~torch.isfinite(rz), Reason.NOT_FINITE
        if lost is None:
            yield rz <= 0, Reason.INDEFINITE_PRECONDITIONER
        else:
            yield lost, Reason.NO_NEW_DIRECTION
        yield ~torch.isfinite(curvature), Reason.NOT_FINITE
        yield slope == 0, Reason.NO_NEW_DIRECTION
        yield curvature <= 0, Reason.INDEFINITE

    def _new_direction(self, rz: Tensor, useful: Tensor | None) -> Tensor | None:
        """Set d from the preconditioned residual; return the samples where a flexible loop finds no new direction."""
        if self.flexible:
            self.d.copy_(self.z)
            for direction, product, curvature in self.memory:
                self.d.addcmul_((inner(product, self.z) / curvature).unsqueeze(1), direction, value=-1)
            lost: Tensor = vector_norm(self.d, dim=1) <= self.floor * vector_norm(self.z, dim=1)
            if self.dropped is not None and useful is not None:
                self.dropped += lost & useful
            return lost
        if self.first_direction:
            self.d, self.z = self.z, self.d
        else:
            beta = _where(useful, rz, 0.0) / _where(useful, self.rz_old, 1.0)
            combine(self.one, self.z, beta, self.d, norms=False)
        self.first_direction = False
        return None

    def _normalise_direction(self) -> None:
        """Scale the output of a learned preconditioner to maximum 1, and set outputs that are not finite to zero."""
        size = self.z.abs().amax(1)
        useful = (size > 0) & (size < torch.inf) & self.running
        z = torch.view_as_real(self.z).view(len(self.z), -1) if self.z.is_complex() else self.z  # division may overflow
        z /= torch.where(useful, size, 1.0).unsqueeze(1)
        self.z.masked_fill_(~useful.unsqueeze(1), 0.0)

    def _step_in_span(self) -> None:
        """Minimise the energy over the span of the preconditioned residual, the residual and the memory."""
        running = self.running
        learned = self._without_flat(self._search(self.z, self.memory, self.floor))
        assert self.dropped is not None
        self.dropped += running & (learned.curvature == 0)
        plain = self._search(self.r, [*self.memory, learned.entry], DEPENDENCE_TOL)
        self.stop((plain.curvature <= 0) & plain.direction.any(1), Reason.INDEFINITE)
        self.stop((learned.slope == 0) & (plain.slope == 0), Reason.NO_NEW_DIRECTION)
        going = self.running & running
        first, second = learned.length(going), plain.length(going)
        combine(second, plain.direction, first, learned.direction, norms=False)
        combine(second, plain.product, first, learned.product, norms=False)
        direction, product = learned.direction, learned.product
        direction[~going], product[~going] = 0.0, 0.0
        size, norm = advance(torch.ones_like(first), direction, product, self.x, self.r)
        self.iterations += going
        self.size, self.norm = torch.where(going, size, self.size), torch.where(going, norm, self.norm)
        self.history.decreases.append((first.conj() * learned.slope + second.conj() * plain.slope).real)
        self.history.residual_norms.append(self.norm)
        self.memory.append((direction, product, torch.where(going, inner(direction, product).real, 1.0)))
        self.mark_converged(self.running)

    def _search(self, v: Tensor, previous: Iterable[_Direction], floor: float) -> _Search:
        """Make v A-orthogonal to previous directions; zero where at most the fraction `floor` of its norm remains."""
        direction = v.clone()
        direction[~self.running] = 0.0
        for _ in range(2):  # vectors may be nearly dependent, and twice is enough (Kahan; Parlett, 1980)
            for other, product, curvature in previous:
                direction.addcmul_((inner(product, direction) / curvature).unsqueeze(1), other, value=-1)
        lost = vector_norm(direction, dim=1) <= floor * vector_norm(v, dim=1)
        direction[lost] = 0.0
        product = torch.empty_like(direction)
        curvature = self.A.energy_into(direction, product)
        self.stop(~torch.isfinite(curvature), Reason.NOT_FINITE)
        return _Search(direction, product, curvature, inner(direction, self.r))

    def _without_flat(self, search: _Search) -> _Search:
        """Set directions without positive curvature to zero: they may lie in the null space of A."""
        if self.stiffness is None:
            norm_upper = self.A.norm_upper
            curvature = self.A.energy_into(self.r, torch.empty_like(self.r)) / self.norm.square().clamp_min(1e-300)
            self.stiffness = curvature if norm_upper is None else norm_upper.to(curvature)
        flat = search.curvature <= self.floor * self.stiffness * vector_norm(search.direction, dim=1).square()
        search.direction[flat], search.product[flat] = 0.0, 0.0
        curvature = torch.where(flat, 0.0, search.curvature)
        return replace(search, curvature=curvature, slope=inner(search.direction, self.r))

    def restart_unconverged(self) -> None:
        """Recompute the residuals of all samples, and restart the samples that have not reached the tolerance."""
        self.replace_residual()
        self.norm = vector_norm(self.r, dim=1)
        level = self.round_off_level()
        if self.on_device or _BREAKDOWNS.intersection(self.ends.tolist()):
            self._reclassify_breakdowns(self.row_level(torch.minimum(level, self.rhs_norm)))  # as in `mark_converged`
        missed = self.norm > self.tolerance * (1 + 1e3 * torch.finfo(self.b.dtype).eps)
        if self.on_device or bool(missed.any()):
            self.exhausted |= (self.norm > STAGNATION_RATIO * self.recomputed) & (self.norm <= 2 * level)
            self.best, self.recomputed, level = self.infinity, self.norm, self.row_level(level)
        unconverged = self.converged & missed & (self.norm > 2 * level)
        stagnated, restarted = unconverged & self.exhausted, unconverged & ~self.exhausted
        self.running = self.seen = restarted
        self.whole, self.alive = False, bool(restarted.any())
        if self.on_device or self.alive or bool(stagnated.any()):
            self.ends = torch.where(restarted, 0, torch.where(stagnated, _NUMBER[Reason.STAGNATED], self.ends))
        self.first_direction = True
        self.memory.clear()

    def _reclassify_breakdowns(self, level: Tensor) -> None:
        """Mark samples that broke down or ran out of iterations as converged if their residual is below `level`."""
        broke = (self.ends <= max(_BREAKDOWNS)) & ~self.converged
        for limit, reason in ((level, Reason.ROUND_OFF), (self.tolerance, Reason.CONVERGED)):
            self.ends = torch.where(broke & (self.norm <= limit), _NUMBER[reason], self.ends)

    @property
    def converged(self) -> Tensor:
        """Mask of the samples that have reached the tolerance or the round-off level."""
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
    """Run the loop of `cg` on checked input (batch..., n), without failure warnings. It may overwrite x0."""
    start = time.perf_counter() if start is None else start
    rtol = default_rtol(b.dtype) if rtol is None else rtol
    if memory is None:
        memory = 1 if M.linear is True else LEARNED_MEMORY
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
    """Iterate until every sample has ended; return the number of restarts."""
    restarts = 0
    iteration = 0
    while True:
        while loop.alive and iteration < maxiter:
            loop.step()
            iteration += 1
            if monitor is not None and monitor(iteration, loop.x, loop.norm):
                loop.stop(loop.running, Reason.STOPPED)
                loop.alive = False
        loop.restart_unconverged()
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
        round_off = round_off + 2 * torch.finfo(loop.b.dtype).eps * loop.rhs_norm  # round-off of b - A x
        uppers.append(residual_bound(residual_norm, round_off, torch.as_tensor(lambda_min).to(loop.tolerance)))
    plain = not loop.flexible and restarts == 0 and len(h.alphas) > 0
    if plain and mu is not None:
        uppers.append(_radau(loop, torch.as_tensor(mu).to(loop.tolerance).expand(len(loop.b))))
    if uppers:
        return _Bounds(lower, functools.reduce(torch.minimum, uppers).expand(len(loop.b)), "bound")
    if lambda_min is not None:  # the rounding errors of an unknown operator are not bounded
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
