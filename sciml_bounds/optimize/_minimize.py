"""Public interface of equality-constrained optimisation: input validation and results with scipy's names."""

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
    require_finite,
    require_seed,
    to_tensor,
)
from sciml_bounds.errors import InputError
from sciml_bounds.optimize._constraints import as_constraints
from sciml_bounds.optimize._hessians import hessians_of
from sciml_bounds.optimize._inner_solvers import as_inner
from sciml_bounds.optimize._kkt_minres import Minres, MinresSolver
from sciml_bounds.optimize._newton_loop import Directions, KktCriteria, run
from sciml_bounds.optimize._nonlinear_program import Point, Program
from sciml_bounds.optimize._optimize_result import OptimizeResult
from sciml_bounds.optimize._products import Products
from sciml_bounds.optimize._regularised_newton import AutomaticDirections, estimated_multipliers
from sciml_bounds.optimize._scaling import scale_program
from sciml_bounds.optimize._sketched_newton import SketchedDirections, SketchedNewton
from sciml_bounds.optimize._user_functions import Function, Given
from sciml_bounds.reports import Reason, report_failure
from sciml_bounds.sketching._sketches.sketch import Sketch
from sciml_bounds.stopping import StoppingCriteria

__all__ = ["minimize"]

#: Default tolerances of the KKT residual: for "sketched" (as published); and for "auto" with exact first derivatives,
#: and with differences, whose errors are about 1e-8 of the functions.
PUBLISHED_ATOL, EXACT_ATOL, DIFFERENCES_ATOL = 1e-4, 1e-8, 1e-5

#: Functions with derivatives above this at x0 are scaled, as in IPOPT. Otherwise steep constraints outweigh the
#: objective in the merit function, and iterations end where the Jacobian is rank-deficient (ORTHREGD, ORTHRGDM of
#: CUTEst). The published method does not scale; with its larger limit, iteration counts on CUTEst are as published.
MAX_UNSCALED_DERIVATIVE, MAX_UNSCALED_DERIVATIVE_PUBLISHED = 100.0, 1e4


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
    fun : callable
        Objective: a function of x, shape (n,), that returns one number. It may be written in torch, which then computes
        all derivatives, or in numpy. It is called with tensors if x0 is a tensor, else with arrays; if it does not
        accept them, the other kind is tried.
    x0 : array or Tensor, shape (n,), float64
        Initial point.
    jac, hess : callable or None
        Functions of x that return the gradient, shape (n,), and the Hessian, shape (n, n), of `fun`. By default a torch
        function is differentiated automatically; for a numpy function, the gradient is computed by differences, and the
        Hessian of the Lagrangian by damped BFGS updates. Matrices may be sparse. Hessians and constraint Jacobians may
        be operators of scipy or of this package, with `matvec`, and `rmatvec` if they are not symmetric.
    constraints : callable, NonlinearConstraint, LinearConstraint, dict, or list of these
        Equality constraints: a function c of x that returns a vector (m,), for c(x) = 0; a
        `scipy.optimize.NonlinearConstraint` or `LinearConstraint` with equal bounds; a dictionary of scipy; or a list.
    method : str or SketchedNewton
        "auto"; "sketched", the published method with adaptive accuracy; or `SketchedNewton(...)`, the same with other
        constants.
    inner : str, Sketch or Minres
        Solver of the KKT systems: "direct"; "minres" or `Minres(preconditioner)`, which are matrix-free (torch computes
        products with derivatives); "kaczmarz", "gaussian", or a sketch of `sciml_bounds.sketching._sketches`. "auto" is
        "minres" if a Jacobian or Hessian is an operator, else "direct".
    multipliers : array or Tensor, shape (m,), optional
        Initial multipliers. By default the least-squares estimate at x0 for "auto", and zero for "sketched".
    rtol, atol : float or None
        Stop when the Euclidean norm of (grad f + J^T l, c) is at most max(rtol times its initial value, atol), or is at
        the level of round-off and at most 1e-8 of the size of its terms (1e-5 with differences). By default `rtol` is
        zero, and `atol` is 1e-8, 1e-5 if gradients are differences, and 1e-4 for "sketched". The scaled functions must
        meet the default tolerance too (see Notes). Differences move x_i by 1.5e-8 max(1, |x_i|), and at the end by up
        to 1.2e-5 max(1, |x_i|) to both sides: scale x to order one.
    maxiter : int
        Maximum number of iterations.
    callback : callable or None
        Called with x after each iteration; the iteration stops if it returns True or raises StopIteration.
    seed : int
        Random seed of sketches.
    throw : bool
        Raise `ConvergenceError` instead of warning when the tolerance is not reached.

    Returns
    -------
    OptimizeResult
        The result; x and multipliers are tensors if x0 is one, else arrays. Without `success`, a warning is issued, and
        `reason` has the cause.

    Raises
    ------
    InputError
        If x0, or the value of a function at x0, has the wrong shape or dtype or is not finite; if a constraint is an
        inequality; or if an option is unknown.
    ConvergenceError
        If `throw` is true and the tolerance is not reached.

    Notes
    -----
    Both methods take Newton steps on the exact augmented Lagrangian f + l.c + eta1/2 ||c||^2 + eta2/2 ||grad_x L||^2
    with Armijo's rule (Hong, Na, Mahoney, Kolar, ICML 2023).

    With exact Hessians, stationary points with negative curvature (saddle points) are detected and left: dense Hessians
    always show them, sparse ones and operators if a few products find negative curvature. If a saddle point cannot be
    escaped, `success` is False. The preset "published" does not leave saddle points.

    Functions with very small or very large derivatives at x0 are scaled by powers of two, unless `Minres` has a
    preconditioner; results are in the units of the caller. Constraint Jacobians may be rank-deficient, and there may be
    more constraints than unknowns. The problem is reported as unbounded if the scaled objective falls below -1e15 where
    the constraints hold, at an iterate or further along a step.

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
    stop = StoppingCriteria(rtol, EXACT_ATOL if atol is None else atol, maxiter, callback)
    stop.check()
    seed = require_seed(seed)
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
        raise InputError("a first derivative is NaN or infinite at x0; choose an x0 where the functions are smooth.")
    hessians = hessians_of(program, true_products=settings is not None)
    if multipliers is not None:
        point = replace(point, multipliers=_multipliers(multipliers, point))
    if not (isinstance(solver, MinresSolver) and solver.settings.preconditioner is not None):  # it has the user's units
        largest = MAX_UNSCALED_DERIVATIVE if settings is None else MAX_UNSCALED_DERIVATIVE_PUBLISHED
        point = scale_program(program, point, largest)
    if multipliers is None and settings is None:
        point = replace(point, multipliers=estimated_multipliers(point))
    if atol is None:
        stop = replace(stop, atol=_default_atol(program, settings))
    tolerance = stop.tolerance(program.unscaled(point).kkt_residual)
    in_program = tolerance * program.least_scale()
    directions: Directions = (
        AutomaticDirections(program, hessians, solver, in_program)
        if settings is None
        else SketchedDirections(settings, program, hessians, solver, in_program)
    )

    given = rtol is not None or atol is not None
    ending = KktCriteria(0.0, tolerance, maxiter, _stop_callback(callback, give), given=given)
    outcome = run(program, directions, point, ending)
    end, measures = outcome.point, program.unscaled(outcome.point, outcome.error)
    result = OptimizeResult(
        x=give(end.x), fun=measures.fun, multipliers=give(measures.multipliers), kkt_residual=measures.kkt_residual,
        constraint_violation=measures.constraint_violation, tolerance=tolerance, reason=outcome.reason,
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
        raise InputError("x0 is float32, which is too inaccurate for second derivatives; give float64, x0.double().")
    require_finite(x, "x0")
    return x


def _multipliers(given: Any, point: Point) -> Tensor:
    found = convert(given, "multipliers", torch.float64, point.x.device).detach().clone()
    if found.shape != point.multipliers.shape:
        expected = tuple(point.multipliers.shape)
        raise InputError(f"multipliers have shape {tuple(found.shape)}; give one per constraint: shape {expected}.")
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
            f"unknown method {method!r}; choose from 'auto', 'sketched' and sb.optimize.SketchedNewton(...)."
        )
    return SketchedNewton() if method == "sketched" else None


def _default_atol(program: Program, settings: SketchedNewton | None) -> float:
    if settings is not None:
        return PUBLISHED_ATOL
    return EXACT_ATOL if program.has_jacobians else DIFFERENCES_ATOL


def _stop_callback(
    callback: Callable[[Any], bool | None] | None, give: Callable[[Tensor], Any]
) -> Callable[[Tensor], bool]:
    def call(x: Tensor) -> bool:
        try:
            answer = None if callback is None else callback(give(x))
        except StopIteration:
            return True
        if not isinstance(answer, bool | np.bool_ | None):
            raise InputError(f"callback returns a {type(answer).__name__}; it must return True, False or None.")
        return bool(answer)

    return call


def _describe(settings: SketchedNewton | None, inner: str | Sketch | Minres, program: Program) -> str:
    name = "Newton" if settings is None else f"sketched Newton ({settings.preset})"
    hessian = "" if program.has_hessians else ", damped BFGS"
    used = ("minres" if program.by_products else "direct") if inner == "auto" else inner
    return f"{name} on the exact augmented Lagrangian{hessian}, inner solver {used}"
