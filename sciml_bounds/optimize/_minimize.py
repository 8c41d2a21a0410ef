"""The face of constrained optimisation: functions in any form, checked, and a result with scipy's names."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml_bounds.arrays import (
    convert,
    require_callback,
    require_count,
    require_finite,
    require_number,
    require_seed,
    to_tensor,
)
from sciml_bounds.errors import InputError
from sciml_bounds.optimize._constraints import as_constraints
from sciml_bounds.optimize._hessians import hessians_of
from sciml_bounds.optimize._inner_solvers import as_inner
from sciml_bounds.optimize._kkt_minres import Minres, MinresSolver
from sciml_bounds.optimize._newton_loop import Directions, Stop, run
from sciml_bounds.optimize._nonlinear_program import Point, Program
from sciml_bounds.optimize._optimize_result import OptimizeResult
from sciml_bounds.optimize._products import Products
from sciml_bounds.optimize._regularised_newton import AutomaticDirections, estimated_multipliers
from sciml_bounds.optimize._scaling import scale_program
from sciml_bounds.optimize._sketched_newton import SketchedDirections, SketchedNewton
from sciml_bounds.optimize._user_functions import Function, Given
from sciml_bounds.reports import Reason, report_failure
from sciml_bounds.sketching._sketches.sketch import Sketch

__all__ = ["minimize"]

#: KKT residuals that are asked for by default: as published, and, for our own method, with exact first derivatives or
#: with differences, which carry an error of about 1e-8 of the functions themselves.
PUBLISHED, EXACT, DIFFERENCES = 1e-4, 1e-8, 1e-5

#: Functions with derivatives above this at x0 are scaled, as in IPOPT: steep constraints outweigh the objective in the
#: merit function, and iterations then end where the Jacobian has lost its rank (ORTHREGD, ORTHRGDM of CUTEst). The
#: published method scales none; its iteration counts on CUTEst stay as published with this limit.
STEEP, STEEP_PUBLISHED = 100.0, 1e4


def minimize(
    fun: Callable[[Any], Any],
    x0: Any,
    *,
    jac: Callable[[Any], Any] | None = None,
    hess: Callable[[Any], Any] | None = None,
    constraints: Any = (),
    method: str | SketchedNewton = "auto",
    inner: str | Sketch | Minres = "auto",
    multipliers: Any = None,
    rtol: float | None = None,
    atol: float | None = None,
    maxiter: int = 1000,
    callback: Callable[[Any], bool | None] | None = None,
    seed: int = 0,
    throw: bool = False,
) -> OptimizeResult:
    """Minimise f(x) subject to c(x) = 0.

    Parameters
    ----------
    fun
        The objective: a function of x, shape (n,), that returns one number. It may be written in torch, and then all
        derivatives come from torch, or in numpy. Where x0 is a tensor it is called with tensors, otherwise with arrays;
        one that cannot take the former is given the latter, and the reverse.
    x0
        Where to start, shape (n,), float64.
    jac, hess
        Gradient, shape (n,), and Hessian, shape (n, n), of `fun`: functions of x. Without them a function of torch is
        differentiated, and for one of numpy the gradient is made of differences and the Hessian of the Lagrangian of
        damped BFGS updates. Matrices may be sparse; Hessians, and Jacobians of constraints, may be operators of scipy
        or of this package, with `matvec`, and `rmatvec` where they are not symmetric.
    constraints
        Equalities: a function c of x that returns a vector (m,), to be zero; a `scipy.optimize.NonlinearConstraint` or
        `LinearConstraint` with equal bounds; or a list of these.
    method
        "auto", or "sketched" for the published method of adaptive accuracy, or `SketchedNewton(...)` for that with
        other constants.
    inner
        How KKT systems are solved: "direct"; "minres", or `Minres(preconditioner)`, with which derivatives of torch are
        taken in products with vectors and no matrix is formed; "kaczmarz", "gaussian", or a sketch of
        `sciml_bounds.sketching._sketches`. "auto" is "direct", and "minres" where a Jacobian or Hessian is an operator.
    multipliers
        Initial multipliers, shape (m,). By default "auto" takes those that fit the gradient at x0 best, and "sketched"
        zero.
    rtol, atol
        Stop when the Euclidean norm of (grad f + J^T l, c) is at most max(rtol times that at the start, atol), or as
        small as round-off lets it get and 1e-8 of its terms (1e-5 with differences). By default `rtol` is zero and
        `atol` 1e-8, or 1e-5 where gradients are differences; for "sketched" 1e-4. The default must also be met by the
        scaled functions (see Notes). Differences move x_i by 1.5e-8 max(1, |x_i|), and at the end by up to
        1.2e-5 max(1, |x_i|) to both sides: scale x to be of order one.
    maxiter
        Largest number of iterations.
    callback
        Called with x after each iteration; returning True, or raising StopIteration, stops.
    seed
        Of the random numbers of sketches.
    throw
        Raise `ConvergenceError` instead of warning when the tolerance is not reached.

    Returns
    -------
    OptimizeResult
        x and multipliers are tensors where x0 is one, arrays otherwise. A result that is not a `success` says why in
        `reason`, and warns.

    Raises
    ------
    InputError
        If x0 or what functions return at it has the wrong shape or dtype or is not finite, a constraint is an
        inequality, or a word is unknown.
    ConvergenceError
        If `throw` is true and the tolerance is not reached.

    Notes
    -----
    Both methods take Newton steps on the exact augmented Lagrangian f + l.c + eta1/2 ||c||^2 + eta2/2 ||grad_x L||^2
    with Armijo's rule (Hong, Na, Mahoney, Kolar, ICML 2023). They leave stationary points that are not minima where
    exact Hessians show it: dense ones always, sparse ones and operators where a few products find negative curvature.
    If such a point cannot be left, `success` is False; the preset "published" leaves none. Functions with very small or
    large derivatives at x0 are scaled by powers of two, unless `Minres` has a preconditioner; results are in the units
    of the caller. Jacobians of the constraints may lose their rank, and there may be more constraints than unknowns. An
    objective that scaled is below -1e15, at an iterate or further along a step, where the constraints hold is called
    unbounded.

    Examples
    --------
    >>> import torch, sciml_bounds as sb
    >>> r = sb.minimize(
    ...     lambda x: torch.log(1 + x[0] ** 2) - x[1],
    ...     torch.tensor([2.0, 2.0], dtype=torch.float64),
    ...     constraints=lambda x: (1 + x[0] ** 2) ** 2 + x[1] ** 2 - 4,
    ... )
    >>> r.success, round(r.fun, 6)
    (True, -1.732051)
    """
    begin = time.perf_counter()
    tensors_first = isinstance(x0, Tensor)
    start = _start(x0)
    _require_functions(fun=fun, jac=jac, hess=hess)
    require_count(maxiter, "maxiter", 0)
    seed = require_seed(seed)
    require_callback(callback)
    settings = _settings(method)
    solver = as_inner(inner, seed)

    def give(vector: Tensor) -> Any:
        return vector.clone() if tensors_first else vector.cpu().numpy().copy()

    if isinstance(solver, MinresSolver):
        solver.give = give
    objective = Function(Given(fun, jac, hess, "fun", scalar=True), start, tensors_first=tensors_first)
    program = Program(objective, as_constraints(constraints, start, tensors_first=tensors_first))
    if settings is None and isinstance(solver, MinresSolver):
        program.use_products()
    point = program.at(start, start.new_zeros(program.m))
    if isinstance(point.jacobian, Products):
        program.use_products()
    if not point.finite:
        raise InputError("a first derivative is NaN or infinite at x0; start where the functions are smooth.")
    hessians = hessians_of(program, true_products=settings is not None)
    if multipliers is not None:
        point = replace(point, multipliers=_multipliers(multipliers, point))
    if not (isinstance(solver, MinresSolver) and solver.settings.preconditioner is not None):  # it has the user's units
        point = scale_program(program, point, STEEP if settings is None else STEEP_PUBLISHED)
    if multipliers is None and settings is None:
        point = replace(point, multipliers=estimated_multipliers(point))
    tolerance = _tolerance(rtol, atol, program, settings, program.unscaled(point).kkt_residual)
    in_program = tolerance * program.least_scale()
    directions: Directions = (
        AutomaticDirections(program, hessians, solver, in_program)
        if settings is None
        else SketchedDirections(settings, program, hessians, solver, in_program)
    )

    given = rtol is not None or atol is not None
    outcome = run(program, directions, point, Stop(tolerance, maxiter, _caller(callback, give), given))
    end, told = outcome.point, program.unscaled(outcome.point, outcome.error)
    result = OptimizeResult(
        x=give(end.x), fun=told.fun, multipliers=give(told.multipliers), kkt_residual=told.kkt_residual,
        constraint_violation=told.constraint_violation, tolerance=tolerance, reason=outcome.reason,
        nit=len(outcome.history), nfev=program.nfev, njev=program.njev, nhev=program.nhev, history=outcome.history,
        method=_describe(settings, inner, program), seconds=time.perf_counter() - begin,
    )  # fmt: skip
    if not result.success and outcome.reason is not Reason.STOPPED:
        advice = {result.reason: result.advice}
        report_failure("minimize", result.reason, result.progress, throw=throw, advice=advice)
    return result


def _start(x0: Any) -> Tensor:
    x = to_tensor([x0] if isinstance(x0, int | float) else x0, "x0").detach().clone()
    if x.ndim != 1 or len(x) == 0:
        raise InputError(f"x0 has shape {tuple(x.shape)}; give a vector (n,) of at least one number.")
    if x.dtype != torch.float64:
        raise InputError("x0 is float32, in which second derivatives are lost; give float64, for example x0.double().")
    require_finite(x, "x0")
    return x


def _multipliers(given: Any, point: Point) -> Tensor:
    found = convert(given, "multipliers", torch.float64, point.x.device).detach().clone()
    if found.shape != point.multipliers.shape:
        expected = tuple(point.multipliers.shape)
        raise InputError(f"multipliers have shape {tuple(found.shape)}; there is one a constraint: {expected}.")
    require_finite(found, "multipliers")
    return found


def _require_functions(fun: Any, **derivatives: Any) -> None:
    if not callable(fun):
        raise InputError(f"fun is {fun!r}; give a function of x that returns one number.")
    for name, function in derivatives.items():
        if function is not None and not callable(function):
            raise InputError(f"{name} is {function!r}; give a function of x, or None.")


def _settings(method: str | SketchedNewton) -> SketchedNewton | None:
    if isinstance(method, SketchedNewton):
        return method
    if method not in ("auto", "sketched"):
        raise InputError(
            f"unknown method {method!r}; the choices are 'auto', 'sketched', or sb.optimize.SketchedNewton(...)."
        )
    return SketchedNewton() if method == "sketched" else None


def _tolerance(
    rtol: float | None, atol: float | None, program: Program, settings: SketchedNewton | None, residual: float
) -> float:
    default = PUBLISHED if settings is not None else EXACT if program.has_jacobians else DIFFERENCES
    numbers = [0.0 if rtol is None else require_number(rtol, "rtol")]
    numbers += [default if atol is None else require_number(atol, "atol")]
    if min(numbers) < 0 or max(numbers) == 0:
        raise InputError(f"rtol={rtol} and atol={atol} must not be negative, and one of them must be positive.")
    return max(numbers[0] * residual, numbers[1])


def _caller(callback: Callable[[Any], bool | None] | None, give: Callable[[Tensor], Any]) -> Callable[[Tensor], bool]:
    def call(x: Tensor) -> bool:
        try:
            answer = None if callback is None else callback(give(x))
        except StopIteration:
            return True
        if not isinstance(answer, bool | np.bool_ | None):
            raise InputError(f"callback returns a {type(answer).__name__}; it must return True to stop, or nothing.")
        return bool(answer)

    return call


def _describe(settings: SketchedNewton | None, inner: str | Sketch | Minres, program: Program) -> str:
    name = "Newton" if settings is None else f"sketched Newton ({settings.preset})"
    hessian = "" if program.has_hessians else ", damped BFGS"
    used = ("minres" if program.by_products else "direct") if inner == "auto" else inner
    return f"{name} on the exact augmented Lagrangian{hessian}, inner solver {used}"
