"""The solver of `sb.prepare`: set up once for a `Diffusion` problem, used for any number of right-hand sides."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sciml_bounds._linear import LinearSolver
from sciml_bounds._linear_methods import Method, Multigrid
from sciml_bounds.arrays import convert, require_callback, require_count, require_finite
from sciml_bounds.bounds._certify import certify
from sciml_bounds.bounds._flux import Flux, flux_and_pressure
from sciml_bounds.bounds._network_predictions import predict
from sciml_bounds.errors import InputError
from sciml_bounds.krylov._loop import check_tolerances
from sciml_bounds.operators._lattice_operator import LatticeOperator, to_lattice
from sciml_bounds.operators._linear_operator import Diagonal, LinearOperator
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.discretization import boundary_load, node_system, source_load
from sciml_bounds.problems.nodal_loads import nodal_volumes, read_load, require_balanced_load
from sciml_bounds.reports import Reason, describe_upper, report_failure
from sciml_bounds.results import Certificate, LinearSolution, Progress, Solution
from sciml_bounds.stopping import StoppingCriteria

__all__ = ["ProgressCallback", "SolveOptions", "Solver"]


#: Called after each iteration; the iteration stops if it returns True.
ProgressCallback = Callable[[Progress], bool | None]


@dataclass(frozen=True, kw_only=True)
class SolveOptions:
    """Options that `solve` and `Solver.solve` share."""

    rtol: float | None
    atol: float
    maxiter: int | None
    x0: Any
    error: float | None
    certify: bool
    flux: tuple[Any, ...] | None
    callback: ProgressCallback | None
    throw: bool

    @property
    def certifies(self) -> bool:
        return self.certify or self.error is not None

    def check(self, dtype: torch.dtype) -> None:
        """Raise `InputError` unless the options are valid and fit together, for a problem in `dtype`."""
        if self.error is not None and not self.error > 0:
            raise InputError(
                f"error is {self.error}, but must be positive; give the relative energy error to reach, such as 0.01."
            )
        if self.error is not None and (self.rtol is not None or self.atol > 0):
            raise InputError(
                "error cannot be combined with rtol or atol, which are other stopping criteria; give only one of them."
            )
        if self.flux is not None and not self.certifies:
            raise InputError("flux is used only for a certificate; add certify=True or error=..., or leave out flux.")
        require_callback(self.callback)
        if self.maxiter is not None:
            require_count(self.maxiter, "maxiter", 0)
        check_tolerances(self.rtol, self.atol, dtype)


class Solver:
    """A solver whose set-up (a multigrid hierarchy or factors) is reused for every right-hand side.

    Attributes
    ----------
    problem : Diffusion
        The problem for which the solver was prepared.
    method : Method
        Method by which the equations are solved.
    setup_seconds : float
        Wall-clock time of the set-up.
    """

    def __init__(self, problem: Diffusion, method: Method, linear: LinearSolver | None = None) -> None:
        self.problem = problem
        self.method = method
        start = time.perf_counter()
        system = node_system(problem)
        if linear is not None and linear.operator.batch == system.operator.batch:
            self._linear = linear.with_system(system)
        else:  # also if a batched source repeats the matrices
            self._linear = LinearSolver(system, method)
        self.setup_seconds = time.perf_counter() - start

    @property
    def operator(self) -> LatticeOperator:
        """Matrix of the discrete equations, for flat node vectors (batch, nodes); `.to_csr()` assembles the matrix."""
        return self._linear.operator

    @property
    def rhs(self) -> Tensor:
        """Right-hand side of the discrete equations, shape (b, nodes).

        The unknowns x are zero at Dirichlet nodes. The nodal values, shape (b, *node_shape), are
        `problem.impose_boundary(x.view(-1, *problem.node_shape))`.
        """
        return self._linear.system.rhs.detach().flatten(1)

    @cached_property
    def mass(self) -> LinearOperator:
        """Mass matrix of the nodes for node fields (batch..., nodes), which the trapezoidal rule makes diagonal.

        A constant reaction c adds c times this matrix to `operator`, at the nodes whose values are unknown.
        """
        return Diagonal(nodal_volumes(self.problem).flatten(1))

    def as_preconditioner(self) -> LinearOperator:
        """Return an approximate inverse of `operator`, such as one multigrid cycle; its `.to_scipy()` suits scipy."""
        return self._linear.preconditioner

    def update(self, *, coefficient: Any) -> Solver:
        """Return a solver for the same problem with another coefficient."""
        return Solver(self.problem.replace(coefficient=coefficient), self.method)

    def solve(
        self,
        *,
        source: Any = None,
        rhs: Any = None,
        x0: Any = None,
        rtol: float | None = None,
        atol: float = 0.0,
        maxiter: int | None = None,
        error: float | None = None,
        certify: bool = False,
        flux: tuple[Any, ...] | None = None,
        callback: ProgressCallback | None = None,
        throw: bool = False,
    ) -> Solution:
        """Solve for another right-hand side; the other arguments are those of `sb.solve`.

        Parameters
        ----------
        source : float, array (batch..., cells) or callable, optional
            Source, constant on each cell; by default the source of the problem.
        rhs : array (batch..., nodes), optional
            Nodal load vector, the integrals of a source times the nodal basis functions, such as `solver.mass @ f` for
            a source with nodal values f. It replaces the source of the problem; if `source` is given too, the two are
            added. The terms of the boundary data are added, and entries at Dirichlet nodes are ignored.
        x0, rtol, atol, maxiter, error, certify, flux, callback, throw
            As in `sb.solve`. A certificate requires a source that is constant on each cell, so it excludes `rhs`.

        Returns
        -------
        Solution
            The solution, differentiable also with respect to `source` and `rhs`.

        Examples
        --------
        Two steps of the implicit Euler method for du/dt = div(grad u):

        >>> import torch
        >>> import sciml_bounds as sb
        >>> dt, u = 1e-3, torch.zeros(17, 17, dtype=torch.float64)
        >>> u[8, 8] = 1.0
        >>> solver = sb.prepare(sb.Diffusion(sb.Grid((16, 16)), reaction=1 / dt))
        >>> for _ in range(2):
        ...     u = solver.solve(rhs=solver.mass @ u / dt, x0=u).values
        """
        options = SolveOptions(
            rtol=rtol, atol=atol, maxiter=maxiter, x0=x0, error=error,
            certify=certify, flux=flux, callback=callback, throw=throw,
        )  # fmt: skip
        if rhs is not None and options.certifies:
            raise InputError(
                "a certificate requires a source that is constant on each cell, but rhs is nodal; leave out certify "
                "and error, or give the source as source=."
            )
        solver = self if source is None else self._with_source(source)
        return (solver if rhs is None else solver._with_load(rhs, add=source is not None))._run(options)

    def _run(self, options: SolveOptions) -> Solution:
        """Solve once, for `sb.solve` and `Solver.solve`."""
        options.check(self.problem.dtype)
        error = options.error
        start = time.perf_counter() - self.setup_seconds
        run = _SolveMonitor(self.problem, error, options.flux, options.callback)
        # with `error`, the bound stops the iteration, not the residual
        rtol = options.rtol if error is None else 10 * torch.finfo(self.problem.dtype).eps
        stop = StoppingCriteria(rtol, options.atol, options.maxiter, run.monitor if run.is_active else None)
        linear = self._linear.solve(x0=self._guess(options.x0), stop=stop)
        values = self._values(linear)
        certificate = run.certify(values) if options.certifies else None
        solution = _solution(self.problem, values, linear, certificate, error, time.perf_counter() - start)
        ended = {solution.reason} if isinstance(solution.reason, Reason) else set(solution.reason)
        if ended - {Reason.CONVERGED, Reason.ROUND_OFF, Reason.ERROR_REACHED} and not run.stopped:
            better = "" if isinstance(self._linear.method, Multigrid) else ", or use method 'multigrid'"
            advice = {Reason.MAXITER: f"Raise maxiter{better}."}
            report_failure("the solve", solution.reason, _detail(solution, error), throw=options.throw, advice=advice)
        return solution

    def _with_source(self, source: Any) -> Solver:
        """Return the solver for another source; only the source term of the right-hand side is assembled again."""
        problem = self.problem.replace(source=source).to(self.problem.dtype)
        system, sides = self._linear.system, self._boundary_load
        shared = problem.batch_shape == self.problem.batch_shape or len(sides) == self.operator.batch == 1
        if sides.requires_grad or system.operator.requires_grad or not shared:
            return Solver(problem, self.method, self._linear)  # its gradients need a right-hand side of its own
        other = copy.copy(self)
        other.problem = problem
        other._linear = self._linear.with_system(replace(system, rhs=sides + source_load(problem)))
        return other

    def _with_load(self, rhs: Any, *, add: bool) -> Solver:
        """Return the solver for a nodal load, which replaces the load of the source or (with `add`) is added to it."""
        load = read_load(self.problem, rhs)
        dim = self.problem.grid.dim
        other = copy.copy(self._with_batch(load.shape[: load.ndim - dim]))
        problem, system = other.problem, other._linear.system
        known = [other._boundary_load, *([source_load(problem)] if add else [])]
        given = to_lattice(problem.samples(load), dim)
        terms = [*known, torch.where(to_lattice(problem.free_nodes, dim), given, 0.0)]
        system = replace(system, rhs=sum(terms[1:], terms[0]))
        require_balanced_load(system, terms)
        other._linear = other._linear.with_system(system)
        return other

    def _with_batch(self, batch_shape: torch.Size) -> Solver:
        """Return the solver for the problem with a wider batch; with gradients, it has its own autograd graph."""
        problem = self.problem.broadcast(batch_shape)
        sides = self._boundary_load
        if self._linear.system.operator.requires_grad or sides.requires_grad:
            return Solver(problem, self.method, self._linear)
        if problem is self.problem:
            return self
        if len(sides) > 1 or self.operator.batch > 1:
            return Solver(problem, self.method, self._linear)
        other = copy.copy(self)
        other.problem = problem
        return other

    @cached_property
    def _boundary_load(self) -> Tensor:
        return boundary_load(self.problem)

    def _guess(self, x0: Any) -> Tensor | None:
        if x0 is None:
            return None
        problem = self.problem
        predicted = hasattr(x0, "predict") or isinstance(x0, torch.nn.Module)
        name = f"the prediction of {type(x0).__name__}, the initial guess x0," if predicted else "the initial guess x0"
        given = _prediction(x0, problem) if predicted else x0.values if isinstance(x0, Solution) else x0
        field = convert(given, name, problem.dtype, problem.device)
        require_finite(field, name)
        shape = (*problem.batch_shape, *problem.node_shape)
        try:
            if tuple(field.shape[-problem.grid.dim :]) != problem.node_shape:
                raise RuntimeError
            nodes = problem.samples(field.expand(shape))
        except RuntimeError:
            raise InputError(
                f"{name} has shape {tuple(field.shape)}; give nodal values of this problem, shape {shape}."
            ) from None
        free = problem.free_nodes
        guess = torch.where(free, nodes, 0.0).reshape(-1, *self.operator.lattice)
        guess = self._linear.system.fix_mean(guess)  # round-off is relative to ||x||: a large mean would stop early
        return self._scaled(guess) if predicted else guess

    def _scaled(self, guess: Tensor) -> Tensor:
        """Scale a guess to the least energy error, which is at most the energy error of the zero guess."""
        flat = guess.reshape(-1, self.operator.shape[0]).expand(max(len(guess), self.operator.batch), -1).contiguous()
        energy = self.operator.energy_into(flat, torch.empty_like(flat))
        load = (self.rhs * flat).sum(1)
        usable = (energy > 0) & torch.isfinite(load / energy)
        factor = torch.where(usable, load / torch.where(usable, energy, 1.0), 0.0)
        return (factor.unsqueeze(1) * flat).view(-1, *self.operator.lattice)

    def _values(self, linear: LinearSolution) -> Tensor:
        """Return nodal values (batch..., nodes), combined from the unknowns and the Dirichlet values."""
        return _nodal_values(self.problem, linear.x)


def _prediction(model: Any, problem: Diffusion) -> Any:
    """Return the prediction of a model, converted to the dtype of the problem if it has a floating-point dtype."""
    with torch.no_grad():
        problem = problem.detach()
        predicted = predict(model, problem) if isinstance(model, torch.nn.Module) else model.predict(problem)
    if isinstance(predicted, Tensor) and predicted.is_floating_point():
        return predicted.to(problem.dtype)
    return predicted


def _nodal_values(problem: Diffusion, x: Tensor) -> Tensor:
    nodes = problem.complete(x.view(-1, *problem.node_shape))
    return nodes.reshape(*problem.batch_shape, *problem.node_shape) if problem.batch_shape else nodes[0]


class _SolveMonitor:
    """Monitor of one solve: calls the user's callback, and computes the error bound if `error` is given."""

    def __init__(
        self, problem: Diffusion, error: float | None, flux: tuple[Any, ...] | None, callback: ProgressCallback | None
    ) -> None:
        self.problem, self.error, self.flux, self.callback = problem, error, flux, callback
        self.is_active = error is not None or callback is not None
        self.stopped = False
        if error is not None and flux is None:
            exact = problem.to(torch.float64)
            self.flux = Flux.of(exact, *flux_and_pressure(exact))

    def certify(self, values: Tensor) -> Certificate:
        return certify(self.problem, values.detach(), flux=self.flux)

    def monitor(self, iteration: int, x: Tensor, norm: Tensor) -> bool:
        values = _nodal_values(self.problem, x)
        relative = None
        if self.error is not None:
            relative = certify(self.problem, values, flux=self.flux, lower=False).relative_upper
        progress = Progress(iteration, values, norm.reshape(self.problem.batch_shape), relative)
        if self.callback is not None and self.callback(progress):
            self.stopped = True
        reached = relative is not None and self.error is not None and bool((relative <= self.error).all())
        return self.stopped or reached


def _solution(
    problem: Diffusion,
    values: Tensor,
    linear: LinearSolution,
    certificate: Certificate | None,
    error: float | None,
    seconds: float,
) -> Solution:
    batch = problem.batch_shape
    ended = linear.reason if isinstance(linear.reason, tuple) else (linear.reason,)
    reasons, converged = ended, linear.converged
    if error is not None and certificate is not None:
        reached = (certificate.relative_upper <= error).reshape(-1).tolist()
        done = (Reason.CONVERGED, Reason.ROUND_OFF)
        reasons = tuple(
            Reason.ERROR_REACHED if ok else Reason.MESH_LIMITED if reason in done else reason
            for ok, reason in zip(reached, ended)
        )
        converged = torch.tensor(reached, device=values.device)

    return Solution(
        values=values,
        converged=converged.reshape(batch),
        reason=reasons if batch else reasons[0],
        linear=linear.reshape(batch),
        grid=problem.grid,
        coefficient=problem.coefficient[0].detach(),
        other_coefficients=() if problem.has_scalar_coefficient else tuple(a.detach() for a in problem.coefficient[1:]),
        certificate=certificate,
        seconds=seconds,
    )


def _detail(solution: Solution, error: float | None) -> str:
    if error is not None and solution.certificate is not None:
        worst = describe_upper(solution.certificate.relative_upper.max())
        return f"the guaranteed relative error is {worst}, but {error:g} was requested"
    return solution.linear.progress
