"""Solve a `Diffusion` problem and return a `Solution`, certified on request."""

from __future__ import annotations

from typing import Any, Literal, overload

from sciml_bounds._cell_solver import CellSolver
from sciml_bounds._linear_methods import Automatic, Method, as_method
from sciml_bounds._solver import ProgressCallback, SolveOptions, Solver
from sciml_bounds.arrays import require_choice, require_instance
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.results import Solution

__all__ = ["prepare", "solve"]


def solve(
    problem: Diffusion,
    *,
    method: str | Method = "auto",
    rtol: float | None = None,
    atol: float = 0.0,
    maxiter: int | None = None,
    x0: Any = None,
    error: float | None = None,
    certify: bool = False,
    flux: tuple[Any, ...] | None = None,
    callback: ProgressCallback | None = None,
    throw: bool = False,
) -> Solution:
    """Solve a diffusion problem on its grid.

    Parameters
    ----------
    problem : Diffusion
        The problem, or a batch of problems on the same grid.
    method : str or Method, default "auto"
        "auto": fast transforms if the coefficients are constant, otherwise geometric multigrid. "transform": sine,
        cosine and Fourier transforms. "multigrid": conjugate gradients preconditioned by geometric multigrid. "cg":
        conjugate gradients with Jacobi preconditioning. "algebraic": conjugate gradients preconditioned by algebraic
        multigrid (PyAMG). "direct": sparse LU (scipy). Or an object such as `sb.Multigrid(cycle="V")`.
    rtol, atol : float
        Stop when ||b - A x|| <= max(rtol ||b||, atol), where A x = b are the discrete equations including the boundary
        values, or at the round-off level 10 eps || |A| |x| + |b| ||. The default of `rtol` is 1e-8 in float64 and 1e-5
        in float32.
    maxiter : int, optional
        Maximum number of iterations; by default 500 with multigrid, ten times the number of nodes otherwise.
    x0 : array (batch..., nodes), Solution or model, optional
        Initial guess: nodal values, an earlier solution, an object with a method `predict(problem)` such as an
        `sb.MgNO`, or any torch network with cell fields as input channels (see `sb.training.predict`); zero
        by default. A poor guess costs iterations, never accuracy.
    error : float, optional
        Stop once the guaranteed relative energy error, `relative_upper` of the certificate, is at most this value. Give
        either `error`, or `rtol` and `atol`.
    certify : bool, default False
        Whether to compute `solution.certificate`; implied by `error`.
    flux : tuple of Tensor, optional
        Equilibrated flux for the certificate, such as `flux` of an earlier certificate; computed by default. Requires
        `certify` or `error`.
    callback : callable, optional
        Called with a `Progress` after each iteration (with "direct", once); the iteration stops if it returns True.
    throw : bool, default False
        Raise `ConvergenceError` instead of warning if the tolerance is not reached.

    Returns
    -------
    Solution
        The solution. `values` is differentiable with respect to every field of the problem that requires gradients.

    Raises
    ------
    InputError
        If an argument is invalid.
    ConvergenceError
        If `throw` is true and the tolerance is not reached.

    Notes
    -----
    The discretisation uses multilinear elements with the trapezoidal rule, which is a stencil of 2 d + 1 points in d
    dimensions. On every connected part of the domain without Dirichlet or Robin sides and without reaction, the
    solution has mean zero.

    Examples
    --------
    >>> import sciml_bounds as sb
    >>> problem = sb.Diffusion(sb.Grid((64, 64)), coefficient=1.0, source=1.0)
    >>> solution = sb.solve(problem, error=0.05)
    >>> bool(solution.certificate.relative_upper <= 0.05)
    True
    """
    options = SolveOptions(
        rtol=rtol, atol=atol, maxiter=maxiter, x0=x0, error=error,
        certify=certify, flux=flux, callback=callback, throw=throw,
    )  # fmt: skip
    return _solver(problem, as_method(method))._run(options)


@overload
def prepare(problem: Diffusion, *, method: str | Method = "auto", unknowns: Literal["nodes"] = "nodes") -> Solver: ...
@overload
def prepare(problem: Diffusion, *, method: str | Method = "auto", unknowns: Literal["cells"]) -> CellSolver: ...
def prepare(
    problem: Diffusion, *, method: str | Method = "auto", unknowns: Literal["nodes", "cells"] = "nodes"
) -> Solver | CellSolver:
    """Set up a solver once, for many right-hand sides or for use as a preconditioner.

    Parameters
    ----------
    problem : Diffusion
        Problem that defines coefficient, reaction, boundary conditions and solids. Its source is the default of
        `Solver.solve`.
    method : str or Method, default "auto"
        As in `solve`, except that "auto" factorises matrices of up to 4,500 nodes in float64 on the CPU ("direct")
        where `solve` uses multigrid, since the longer set-up pays off for many right-hand sides.
    unknowns : {"nodes", "cells"}, default "nodes"
        "nodes": the discretisation of `solve`. "cells": cell-centred finite volumes with two-point fluxes, as in
        reservoir and groundwater simulators; wells are added by `sb.simulation.with_wells`.

    Returns
    -------
    Solver or CellSolver

    Examples
    --------
    >>> import sciml_bounds as sb
    >>> solver = sb.prepare(sb.Diffusion(sb.Grid((32, 32)), coefficient=2.0))
    >>> solver.solve(source=1.0).converged.item()
    True
    >>> sb.prepare(solver.problem, unknowns="cells").solve().pressure.shape
    torch.Size([32, 32])
    """
    require_choice(unknowns, "unknowns", ("nodes", "cells"))
    chosen = Automatic(reused=True) if method == "auto" else as_method(method)
    if unknowns == "nodes":
        return _solver(problem, chosen)
    require_instance(problem, "the problem", Diffusion, "an sb.Diffusion problem")
    return CellSolver(problem, chosen)


def _solver(problem: Diffusion, method: Method) -> Solver:
    require_instance(problem, "the problem", Diffusion, "an sb.Diffusion problem")
    return Solver(problem, method)
