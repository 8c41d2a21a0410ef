"""Solve lattice systems by every method of `sb.solve`. Only this module combines multigrid cycles and Krylov loops."""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml_bounds._linear_methods import (
    Algebraic,
    Automatic,
    ConjugateGradients,
    Direct,
    Method,
    Multigrid,
    Transform,
    describe_method,
)
from sciml_bounds.errors import InputError
from sciml_bounds.krylov._loop import ROW_LEVEL_SLACK, default_rtol, iterate
from sciml_bounds.multigrid._cycle import Cycle
from sciml_bounds.multigrid._geometric import lattice_cycle
from sciml_bounds.operators._adjoint import implicit_solve
from sciml_bounds.operators._lattice_operator import LatticeOperator, LatticeSystem
from sciml_bounds.operators._linear_operator import Diagonal, LinearOperator, Stacked
from sciml_bounds.operators._lu_inverse import LuInverse
from sciml_bounds.operators._transform import BoxInverse
from sciml_bounds.reports import Reason, report_failure
from sciml_bounds.results import LinearSolution
from sciml_bounds.stopping import StoppingCriteria

__all__ = ["LinearSolver", "full_multigrid_guess"]


#: Default maximum number of multigrid iterations; solves that exceed it do not converge.
MAXITER_MULTIGRID = 500

#: Close to round-off, cycles without acceleration have stagnated if a cycle reduces the residual by less than this
#: factor.
STAGNATION = 0.9


#: Largest matrix that a prepared solver factorises. With 65 x 65 nodes, LU takes 1.1 ms per solve and 11 ms for the
#: set-up, and multigrid takes 4.1 and 4.8 ms; with 17 x 17 x 17 nodes, 2.6 and 36 ms against 4.3 and 5 ms. From 193 x
#: 193 nodes on, multigrid is faster.
MAX_FACTORISED_NODES = 4500


class LinearSolver:
    """A differentiable solver that is set up once for a matrix and used for any right-hand side.

    Parameters
    ----------
    system : LatticeSystem
        Operator, right-hand side and null space.
    method : Method
        Method by which the system is solved.
    """

    def __init__(self, system: LatticeSystem, method: Method) -> None:
        start = time.perf_counter()
        self.system = system
        self.method = _resolved(method, system)
        self.operator = system.operator.detach()
        self.operator.eigenvalue_lower = system.operator.eigenvalue_lower
        with torch.no_grad():
            self._inverse = self._set_up()
        self.setup_seconds = time.perf_counter() - start

    def _set_up(self) -> BoxInverse | Cycle | Diagonal | Stacked:
        A = self.operator
        if isinstance(self.method, Transform):
            return _transform(self.system)
        if isinstance(self.method, Multigrid):
            return lattice_cycle(A, self.method.sweeps, precision=self.method.precision)
        if isinstance(self.method, ConjugateGradients):
            diagonal = A.diagonal().flatten(1)
            return Diagonal(torch.where(diagonal > 0, diagonal.reciprocal(), 0.0))  # zero for an isolated cell
        matrices = [self._regular_matrix(sample) for sample in range(A.batch)]
        if isinstance(self.method, Algebraic):
            return self.method.set_up(matrices, A.dtype, A.device)
        return Stacked([LuInverse(matrix, dtype=A.dtype, device=A.device) for matrix in matrices])

    def _regular_matrix(self, sample: int) -> Any:
        """Assemble the matrix of one sample, made regular: one diagonal entry per floating component is doubled.

        The entry of a component of one cell, which is zero, becomes the largest entry.
        """
        matrix = self.operator.to_csr(sample)
        if self.system.components is None:
            return matrix
        labels = self.system.components[sample].reshape(-1).cpu().numpy()
        numbers, points = np.unique(labels, return_index=True)
        diagonal = matrix.diagonal()
        pinned = points[numbers >= 0]
        diagonal[pinned] = np.where(diagonal[pinned] > 0, 2 * diagonal[pinned], diagonal.max() or 1.0)
        matrix.setdiag(diagonal)
        return matrix

    def with_system(self, system: LatticeSystem) -> LinearSolver:
        """Return a solver for a system with the same matrix, which reuses this set-up."""
        other = copy.copy(self)
        other.system = system
        return other

    @property
    def preconditioner(self) -> LinearOperator:
        """The approximate inverse as a `LinearOperator`; with "direct" and "transform", the exact inverse."""
        return self._inverse

    # --- solving ------------------------------------------------------------------------------------------------------

    def solve(
        self, rhs: Tensor | None = None, x0: Tensor | None = None, stop: StoppingCriteria | None = None
    ) -> LinearSolution:
        """Solve for one right-hand side per sample.

        Parameters
        ----------
        rhs : Tensor (b, x, y, z), optional
            Right-hand side; by default the right-hand side of the system.
        x0 : Tensor (b, x, y, z), optional
            Initial guess; zero by default.
        stop : StoppingCriteria, optional
            Criteria for ||b - A x||, relative to ||b||; the callback is a `Monitor` of `krylov._loop`.

        Returns
        -------
        LinearSolution
            The solution x has shape (b, n) and is differentiable with respect to the coefficients of the system and
            `rhs`. The backward pass warns if its adjoint solve does not converge.
        """
        rhs = self.system.rhs if rhs is None else rhs
        stop = StoppingCriteria() if stop is None else stop
        if stop.maxiter is None and isinstance(self.method, Multigrid | Algebraic):
            stop = replace(stop, maxiter=MAXITER_MULTIGRID)
        solutions: list[LinearSolution] = []

        def forward(b: Tensor) -> Tensor:
            solutions.append(self._run(b, guess, stop))
            return solutions[-1].x.view(b.shape)

        def adjoint(b: Tensor) -> Tensor:
            # the callback is for the forward solve only
            solution = self._run(b, None, replace(stop, rtol=stop.rtol or None, atol=0.0, callback=None))
            if not bool(solution.converged.all()):
                report_failure("the adjoint solve", solution.reason, solution.progress, throw=False)
            return self.system.fix_mean(solution.x.view(b.shape))  # the method fixes no mean on floating components

        batch = max(len(rhs), self.operator.batch, 1 if x0 is None else len(x0))
        rhs = rhs.expand(batch, *rhs.shape[1:])
        guess = None if x0 is None else x0.detach().expand(rhs.shape).flatten(1)
        x = implicit_solve(self.system.operator, rhs, forward, adjoint)
        return replace(solutions[0], x=self.system.fix_mean(x).flatten(1), method=describe_method(self.method))

    def _run(self, b: Tensor, x0: Tensor | None, stop: StoppingCriteria) -> LinearSolution:
        b = self.system.into_range(b).flatten(1)
        if isinstance(self.method, Direct):
            return _substitute(self.operator, self._inverse, b, stop)
        x0 = None if x0 is None else x0.clone()
        if isinstance(self.method, Multigrid) and isinstance(self._inverse, Cycle):
            if self.method.cycle == "full":
                x0 = full_multigrid_guess(self.operator, self._inverse, b, x0, stop)
            if not self.method.accelerate:
                return _iterate_cycles(self.operator, self._inverse, b, x0, stop)
        return iterate(
            self.operator, b, self._inverse, x0,
            rtol=stop.rtol, atol=stop.atol, maxiter=stop.maxiter, monitor=stop.callback,
        )  # fmt: skip


def _resolved(method: Method, system: LatticeSystem) -> Method:
    if not isinstance(method, Automatic):
        return method
    if system.inverse is not None:
        return Transform()
    A = system.operator
    small = A.shape[0] <= MAX_FACTORISED_NODES and A.batch == 1 and A.device.type == "cpu"
    # the assembled matrix loses jumps of the coefficient in float32, which cycles keep
    return Direct() if method.reused and small and A.dtype == torch.float64 else method.otherwise


def _transform(system: LatticeSystem) -> BoxInverse:
    if system.inverse is None:
        raise InputError(
            "method 'transform' needs constant coefficients, no solid cells and no Robin sides; use method 'multigrid'."
        )
    return system.inverse


def full_multigrid_guess(A: LatticeOperator, M: Cycle, b: Tensor, x0: Tensor | None, stop: StoppingCriteria) -> Tensor:
    """Return the initial guess of full multigrid; if x0 is given, full multigrid computes a correction of x0.

    Samples of x0 that have converged stay unchanged; if `maxiter` is 0, all samples stay unchanged.
    """
    if x0 is None:
        return M.full_multigrid(b)
    if stop.maxiter == 0:
        return x0
    r = A.residual_into(x0.contiguous(), b, torch.empty_like(b))
    open_samples = _StoppingTest(A, b, stop).must_continue(x0, r.norm(dim=1)).unsqueeze(1)
    if not bool(open_samples.any()):
        return x0
    return x0 + torch.where(open_samples, M.full_multigrid(torch.where(open_samples, r, 0.0)), 0.0)


def _substitute(A: LatticeOperator, inverse: LinearOperator, b: Tensor, stop: StoppingCriteria) -> LinearSolution:
    start = time.perf_counter()
    test = _StoppingTest(A, b, stop)
    x = inverse.matvec(b)
    norms = torch.stack([b.norm(dim=1), (b - A.matvec(x)).norm(dim=1)])
    if stop.callback is not None:
        stop.callback(1, x, norms[1])
    count = torch.zeros(len(b), dtype=torch.int64, device=b.device)
    return test.solution(x, norms, count, Reason.STAGNATED, time.perf_counter() - start)


def _iterate_cycles(
    A: LatticeOperator, M: Cycle, b: Tensor, x0: Tensor | None, stop: StoppingCriteria
) -> LinearSolution:
    """Iterate x <- x + M (b - A x)."""
    start = time.perf_counter()
    test = _StoppingTest(A, b, stop)
    maxiter = MAXITER_MULTIGRID if stop.maxiter is None else stop.maxiter
    x = torch.zeros_like(b) if x0 is None else x0
    x[b.abs().amax(1) == 0] = 0.0  # the exact solution for b = 0
    r, z = torch.empty_like(b), torch.empty_like(b)
    norms = [A.residual_into(x, b, r).norm(dim=1)]
    count = torch.zeros(len(b), dtype=torch.int64, device=b.device)
    stopped = False
    while not stopped and len(norms) <= maxiter and bool((running := test.must_continue(x, *norms[-2:][::-1])).any()):
        M.matvec_into(r, z)
        x += torch.where(running.unsqueeze(1), z, 0.0)
        count += running
        norms.append(A.residual_into(x, b, r).norm(dim=1))
        stopped = stop.callback is not None and bool(stop.callback(len(norms) - 1, x, norms[-1]))
    failure = Reason.STOPPED if stopped else Reason.MAXITER if len(norms) > maxiter else Reason.STAGNATED
    return test.solution(x, torch.stack(norms), count, failure, time.perf_counter() - start)


class _StoppingTest:
    """Stopping test by residual norms, for methods that do not run in the Krylov loop."""

    def __init__(self, A: LatticeOperator, b: Tensor, stop: StoppingCriteria) -> None:
        assert A.norm_upper is not None
        rtol = default_rtol(b.dtype) if stop.rtol is None else stop.rtol
        self.tolerance = (rtol * b.norm(dim=1)).clamp_min(stop.atol)
        self._floor = 10 * torch.finfo(b.dtype).eps
        self._A, self._b, self._start = A, b, b.norm(dim=1)

    def _norm_level(self, x: Tensor) -> Tensor:
        return torch.minimum(self._floor * self._A.norm_upper * x.norm(dim=1), self._start)  # x may have exploded

    def reached(self, x: Tensor, residual_norm: Tensor, slack: float = 1.0) -> Tensor:
        """Return which samples have reached the tolerance, or `slack` times the round-off level of their rows."""
        level = self._norm_level(x)
        if bool(((residual_norm > self.tolerance) & (residual_norm <= level)).any()):
            sizes = self._A.product_sizes(x).add_(self._b.abs())
            level = torch.minimum(level, slack * self._floor * sizes.norm(dim=1))
        return torch.isfinite(residual_norm) & (residual_norm <= torch.maximum(self.tolerance, level))

    def must_continue(self, x: Tensor, residual_norm: Tensor, before: Tensor | float = torch.inf) -> Tensor:
        """Return the mask of samples that need another cycle: finite, above the tolerance, and not stagnating.

        `before` contains the residual norms before the last cycle. Stagnation is tested only below 10 eps ||A|| ||x||.
        """
        stagnates = (residual_norm > STAGNATION * before) & (residual_norm <= self._norm_level(x))
        return torch.isfinite(residual_norm) & ~self.reached(x, residual_norm) & ~stagnates

    def solution(self, x: Tensor, norms: Tensor, iterations: Tensor, failure: Reason, seconds: float) -> LinearSolution:
        """Return the `LinearSolution`, with a reason for each sample."""
        converged = self.reached(x, norms[-1], ROW_LEVEL_SLACK)
        reasons = [
            Reason.NOT_FINITE if not finite
            else failure if not done
            else Reason.CONVERGED if below
            else Reason.ROUND_OFF
            for finite, done, below in zip(
                torch.isfinite(norms[-1]).tolist(), converged.tolist(), (norms[-1] <= self.tolerance).tolist()
            )
        ]  # fmt: skip
        return LinearSolution(
            x, converged, tuple(reasons), iterations, norms, norms[-1], self.tolerance, method="", seconds=seconds
        )  # fmt: skip
