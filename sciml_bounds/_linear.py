"""Lattice system in, `LinearSolution` out: the only place where a cycle meets a Krylov loop."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import scipy.sparse.linalg
import torch
from torch import Tensor

from sciml_bounds.errors import InputError
from sciml_bounds.krylov.loop import Monitor, check_tolerances, iterate
from sciml_bounds.multigrid.algebraic import algebraic_cycle
from sciml_bounds.multigrid.cycle import Cycle
from sciml_bounds.multigrid.geometric import lattice_cycle
from sciml_bounds.operators.adjoint import implicit_solve
from sciml_bounds.operators.lattice import LatticeOperator, LatticeSystem
from sciml_bounds.operators.linear_operator import Diagonal, LinearOperator
from sciml_bounds.reports import Reason
from sciml_bounds.results import LinearSolution

__all__ = ["Algebraic", "ConjugateGradients", "Direct", "LinearSolver", "Method", "Multigrid", "Stop", "as_method"]


#: A solve with multigrid that needs more iterations than this will not come to an end by more of them.
MAXITER_MULTIGRID = 500


@dataclass(frozen=True)
class Multigrid:
    """Geometric multigrid.

    Parameters
    ----------
    cycle
        "V": V-cycles from the initial guess. "full": full multigrid gives the initial guess, then V-cycles.
    sweeps
        Smoothing steps before and after each coarse correction.
    accelerate
        Use the cycle as the preconditioner of conjugate gradients; otherwise cycles are iterated by themselves.
    """

    cycle: Literal["V", "full"] = "V"
    sweeps: int = 2
    accelerate: bool = True

    def __post_init__(self) -> None:
        if self.cycle not in ("V", "full"):
            raise InputError(f"unknown cycle {self.cycle!r}; the choices are 'V' and 'full'.")
        _require_sweeps(self.sweeps)


@dataclass(frozen=True)
class Algebraic:
    """PyAMG hierarchy as the preconditioner of conjugate gradients, applied by torch; one sample at a time.

    Parameters
    ----------
    kind
        "ruge-stuben" or "smoothed-aggregation".
    sweeps
        Smoothing steps before and after each coarse correction.
    """

    kind: Literal["ruge-stuben", "smoothed-aggregation"] = "ruge-stuben"
    sweeps: int = 2

    def __post_init__(self) -> None:
        _require_sweeps(self.sweeps)


def _require_sweeps(sweeps: int) -> None:
    if sweeps < 1:
        raise InputError(f"sweeps is {sweeps}; at least one smoothing step is needed.")


@dataclass(frozen=True)
class ConjugateGradients:
    """Conjugate gradients with the diagonal as preconditioner."""


@dataclass(frozen=True)
class Direct:
    """Sparse LU factorisation by scipy, on the CPU, one sample at a time."""


#: A way to solve a lattice system.
Method = Multigrid | Algebraic | ConjugateGradients | Direct

_NAMES: dict[str, Method] = {
    "auto": Multigrid(),
    "multigrid": Multigrid(),
    "cg": ConjugateGradients(),
    "algebraic": Algebraic(),
    "direct": Direct(),
}


def as_method(method: str | Method) -> Method:
    """Turn a name into a method.

    Raises
    ------
    InputError
        If the name is unknown.
    """
    if isinstance(method, Method):
        return method
    if method not in _NAMES:
        choices = ", ".join(map(repr, _NAMES))
        raise InputError(
            f"unknown method {method!r}; the choices are {choices}, or an object such as sb.Multigrid(cycle='full')."
        )
    return _NAMES[method]


@dataclass(frozen=True)
class Stop:
    """When to stop: ||b - A x|| <= max(rtol ||b||, atol), or after maxiter iterations, or when the monitor says so."""

    rtol: float | None = None
    atol: float = 0.0
    maxiter: int | None = None
    monitor: Monitor | None = None


class LinearSolver:
    """A system that is set up once and solved for any right-hand side, with gradients.

    Parameters
    ----------
    system
        Operator, right-hand side and null space.
    method
        How to solve.
    """

    def __init__(self, system: LatticeSystem, method: Method) -> None:
        start = time.perf_counter()
        self.system = system
        self.method = method
        self.operator = system.operator.detach()
        self.operator.eigenvalue_lower = system.operator.eigenvalue_lower
        with torch.no_grad():
            self._parts = self._set_up()
        self.setup_seconds = time.perf_counter() - start

    def _set_up(self) -> list[Any]:
        A = self.operator
        if isinstance(self.method, Multigrid):
            return [lattice_cycle(A, self.method.sweeps)]
        if isinstance(self.method, ConjugateGradients):
            return [Diagonal(A.diagonal().flatten(1).reciprocal())]
        matrices = [self._regular_matrix(sample) for sample in range(A.batch)]
        if isinstance(self.method, Algebraic):
            kind, sweeps = self.method.kind, self.method.sweeps
            return [algebraic_cycle(m, kind=kind, sweeps=sweeps, dtype=A.dtype, device=A.device) for m in matrices]
        return [scipy.sparse.linalg.splu(m.tocsc().astype(np.float64)) for m in matrices]

    def _regular_matrix(self, sample: int) -> Any:
        """Assemble one sample, with one point of each floating component held so that the matrix is regular."""
        matrix = self.operator.to_csr(sample)
        if self.system.components is None:
            return matrix
        labels = self.system.components[sample].reshape(-1).cpu().numpy()
        numbers, points = np.unique(labels, return_index=True)
        diagonal = matrix.diagonal()
        diagonal[points[numbers >= 0]] *= 2
        matrix.setdiag(diagonal)
        return matrix

    def with_system(self, system: LatticeSystem) -> LinearSolver:
        """Return a solver that keeps the set-up for a system with the same matrix."""
        other = copy.copy(self)
        other.system = system
        return other

    @property
    def preconditioner(self) -> LinearOperator:
        """An approximate inverse as a `LinearOperator`.

        Raises
        ------
        InputError
            For a method that has none, or has one a sample.
        """
        if len(self._parts) == 1 and isinstance(self._parts[0], LinearOperator):
            return self._parts[0]
        raise InputError(f"method {self.method} has no single preconditioner; use method='multigrid'.")

    # --- solving ------------------------------------------------------------------------------------------------------

    def solve(self, rhs: Tensor | None = None, x0: Tensor | None = None, stop: Stop | None = None) -> LinearSolution:
        """Solve for one right-hand side a sample.

        Parameters
        ----------
        rhs
            Shape (b, x, y, z); the system's own by default.
        x0
            Initial guess of the same shape.
        stop
            The stop rule; that of `Stop()` by default.

        Returns
        -------
        LinearSolution
            With x of shape (b, n). Gradients flow from x into the coefficients of the system and into `rhs`.
        """
        rhs = self.system.rhs if rhs is None else rhs
        stop = Stop() if stop is None else stop
        if stop.maxiter is None and isinstance(self.method, Multigrid | Algebraic):
            stop = replace(stop, maxiter=MAXITER_MULTIGRID)
        solutions: list[LinearSolution] = []

        def run(b: Tensor, guess: Tensor | None) -> Tensor:
            solutions.append(self._run(b, guess, stop))
            return solutions[-1].x.view(b.shape)

        batch = max(len(rhs), self.operator.batch, 1 if x0 is None else len(x0))
        rhs = rhs.expand(batch, *rhs.shape[1:])
        guess = None if x0 is None else x0.detach().expand(rhs.shape)
        x = implicit_solve(self.system.operator, rhs, run, guess)
        return replace(solutions[0], x=self.system.fix_mean(x).flatten(1))

    def _run(self, b: Tensor, guess: Tensor | None, stop: Stop) -> LinearSolution:
        flat = self.system.into_range(b).flatten(1)
        x0 = None if guess is None else guess.flatten(1)
        if isinstance(self.method, Direct):
            return self._run_direct(flat, stop)
        if isinstance(self.method, Algebraic) and len(self._parts) > 1:
            return _stack([self._run_one(flat[i : i + 1], x0, i, stop) for i in range(len(flat))])
        M = self._parts[0]
        if isinstance(self.method, Multigrid):
            if self.method.cycle == "full" and x0 is None:
                x0 = M.full_multigrid(flat)
            if not self.method.accelerate:
                return _iterate_cycles(self.operator, M, flat, x0, stop)
        solution = _conjugate_gradients(self.operator, flat, M, x0, stop)
        return replace(solution, method=_describe(self.method))

    def _run_one(self, b: Tensor, x0: Tensor | None, sample: int, stop: Stop) -> LinearSolution:
        A = self.operator
        part = slice(sample, sample + 1)
        operator = LatticeOperator(A.offsets, A.conductance[:, part], A.absorption[part])
        guess = None if x0 is None else x0[part]
        solution = _conjugate_gradients(operator, b, self._parts[sample], guess, replace(stop, monitor=None))
        return replace(solution, method=_describe(self.method))

    def _run_direct(self, b: Tensor, stop: Stop) -> LinearSolution:
        start = time.perf_counter()
        factors = self._parts
        columns = [factors[i if len(factors) > 1 else 0].solve(row.double().cpu().numpy()) for i, row in enumerate(b)]
        x = torch.as_tensor(np.stack(columns)).to(b)
        residual = (b - self.operator.matvec(x)).norm(dim=1)
        tolerance = (check_tolerances(stop.rtol, stop.atol, stop.maxiter, b.dtype) * b.norm(dim=1)).clamp_min(stop.atol)
        assert self.operator.norm_upper is not None
        floor = 10 * torch.finfo(b.dtype).eps * self.operator.norm_upper * x.norm(dim=1)
        converged = residual <= torch.maximum(tolerance, floor)
        reasons = tuple(Reason.CONVERGED if ok else Reason.STAGNATED for ok in converged.tolist())
        zero = torch.zeros(len(b), dtype=torch.int64, device=b.device)
        norms = torch.stack([b.norm(dim=1), residual])
        seconds = time.perf_counter() - start
        return LinearSolution(
            x, converged, reasons, zero, norms, residual, tolerance, method=_describe(self.method), seconds=seconds
        )  # fmt: skip


def _describe(method: Method) -> str:
    if isinstance(method, Multigrid):
        cycle = "full multigrid, then V-cycles" if method.cycle == "full" else "V-cycles"
        return (
            f"conjugate gradients with geometric multigrid ({cycle})"
            if method.accelerate
            else f"geometric multigrid ({cycle})"
        )
    if isinstance(method, Algebraic):
        return f"conjugate gradients with algebraic multigrid ({method.kind})"
    return "sparse LU" if isinstance(method, Direct) else "conjugate gradients with the diagonal"


def _conjugate_gradients(
    A: LinearOperator, b: Tensor, M: LinearOperator, x0: Tensor | None, stop: Stop
) -> LinearSolution:
    return iterate(A, b, M, x0, rtol=stop.rtol, atol=stop.atol, maxiter=stop.maxiter, monitor=stop.monitor)


def _iterate_cycles(A: LatticeOperator, M: Cycle, b: Tensor, x0: Tensor | None, stop: Stop) -> LinearSolution:
    """Iterate x <- x + M (b - A x)."""
    start = time.perf_counter()
    rtol = check_tolerances(stop.rtol, stop.atol, stop.maxiter, b.dtype)
    tolerance = (rtol * b.norm(dim=1)).clamp_min(stop.atol)
    maxiter = MAXITER_MULTIGRID if stop.maxiter is None else stop.maxiter
    assert A.norm_upper is not None
    x = torch.zeros_like(b) if x0 is None else x0.clone()
    r, z = torch.empty_like(b), torch.empty_like(b)
    norms: list[Tensor] = []
    count = torch.zeros(len(b), dtype=torch.int64, device=b.device)
    stopped = False
    while True:
        A.residual_into(x, b, r)
        norms.append(r.norm(dim=1))
        floor = 10 * torch.finfo(b.dtype).eps * A.norm_upper * x.norm(dim=1)
        running = norms[-1] > torch.maximum(tolerance, floor)
        if stopped or not bool(running.any()) or len(norms) > maxiter:
            break
        M.matvec_into(r, z)
        x += torch.where(running.unsqueeze(1), z, 0.0)
        count += running
        stopped = stop.monitor is not None and bool(stop.monitor(len(norms), x, norms[-1]))
    failure = Reason.STOPPED if stopped else Reason.MAXITER
    below = norms[-1] <= tolerance
    reasons = [
        failure if run else Reason.CONVERGED if low else Reason.ROUND_OFF
        for run, low in zip(running.tolist(), below.tolist())
    ]
    return LinearSolution(
        x, ~running, tuple(reasons), count, torch.stack(norms), norms[-1], tolerance,
        method="geometric multigrid", seconds=time.perf_counter() - start,
    )  # fmt: skip


def _stack(solutions: list[LinearSolution]) -> LinearSolution:
    """Join solutions of one sample each."""
    length = max(len(s.residual_norms) for s in solutions)

    def pad(rows: Tensor) -> Tensor:
        return torch.cat([rows, rows[-1:].expand(length - len(rows), -1)])

    def joined(name: str) -> Tensor:
        return torch.cat([getattr(s, name) for s in solutions])

    reasons = tuple(r for s in solutions for r in (s.reason if isinstance(s.reason, tuple) else (s.reason,)))
    return LinearSolution(
        x=joined("x"),
        converged=joined("converged"),
        reason=reasons,
        iterations=joined("iterations"),
        residual_norms=torch.cat([pad(s.residual_norms) for s in solutions], 1),
        residual_norm=joined("residual_norm"),
        tolerance=joined("tolerance"),
        method=solutions[0].method,
        seconds=sum(s.seconds for s in solutions),
    )
