"""Methods of this package, of scipy and IPOPT on one problem of CUTEst, which tell where they ended and at what cost.

Evaluations are counted as published: two a point for values, two for derivatives.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
import scipy.sparse
from _cutest import Problem

import sciml_bounds as sb

#: What the paper stops at, and everything else; iterations that are allowed.
PUBLISHED, TOLERANCE, MAXITER = 1e-4, 1e-6, 1000


class OutOfTimeError(Exception):
    """The limit is over."""


@dataclass
class Found:
    """Where a method ended."""

    x: np.ndarray
    multipliers: np.ndarray
    reason: str
    iterations: int
    evaluations: int = 0
    inner_steps: int = 0


class Limited:
    """The functions of a problem, which stop when the time is over, and count values and gradients of the objective."""

    def __init__(self, problem: Problem, seconds: float) -> None:
        self.problem, self.end = problem, time.perf_counter() + seconds
        self.values = self.gradients = self.iterations = 0
        self.x = problem.x0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(self.problem, name)

        def call(x: np.ndarray, *rest: Any) -> Any:
            if time.perf_counter() > self.end:
                raise OutOfTimeError
            self.values += name == "fun"
            self.gradients += name == "gradient"
            return function(x, *rest)

        return call

    @property
    def evaluations(self) -> int:
        """As published: two for values at a point, two for derivatives, and none for those at x0."""
        return 2 * self.values + 2 * max(self.gradients - 1, 0)

    def iterate(self, x: np.ndarray, *_: Any) -> None:
        """Remember where a solver is."""
        self.x = np.array(x)
        self.iterations += 1


def ours(limited: Limited, **options: Any) -> Found:
    """`minimize`, with numpy in and out."""
    problem = limited.problem
    equalities = scipy.optimize.NonlinearConstraint(
        limited.constraints, 0.0, 0.0, jac=limited.jacobian, hess=limited.curvature
    )
    result = sb.minimize(
        limited.fun, problem.x0, jac=limited.gradient, hess=limited.hessian, constraints=equalities, maxiter=MAXITER,
        callback=limited.iterate, **options,
    )  # fmt: skip
    steps = sum(step.inner_steps for step in result.history)
    evaluations = 2 * result.nfev + 2 * result.nit
    return Found(result.x, result.multipliers, str(result.reason), result.nit, evaluations, steps)


def sketched(inner: str, preset: str) -> Callable[[Limited], Found]:
    def solve(limited: Limited) -> Found:
        method, multipliers = sb.optimize.SketchedNewton(preset=preset), limited.problem.multipliers
        return ours(limited, method=method, inner=inner, multipliers=multipliers, atol=PUBLISHED)

    return solve


def auto(limited: Limited) -> Found:
    return ours(limited, atol=TOLERANCE)


def gradients(limited: Limited) -> Found:
    """`minimize` without Hessians, on what SLSQP is given."""
    result = sb.minimize(
        limited.fun, limited.problem.x0, jac=limited.gradient, constraints=equalities_of(limited), maxiter=MAXITER,
        atol=TOLERANCE, callback=limited.iterate,
    )  # fmt: skip
    return Found(result.x, result.multipliers, str(result.reason), result.nit, limited.evaluations)


def equalities_of(limited: Limited) -> dict[str, Any]:
    return {"type": "eq", "fun": limited.constraints, "jac": lambda x: dense(limited.jacobian(x))}


def slsqp(limited: Limited) -> Found:
    options = {"maxiter": MAXITER, "ftol": 1e-9}
    result = scipy.optimize.minimize(
        limited.fun, limited.problem.x0, jac=limited.gradient, constraints=equalities_of(limited), method="SLSQP",
        options=options, callback=limited.iterate,
    )  # fmt: skip
    return of_scipy(limited, result)


def trust_constr(limited: Limited) -> Found:
    equalities = scipy.optimize.NonlinearConstraint(
        limited.constraints, 0.0, 0.0, jac=limited.jacobian, hess=limited.curvature
    )
    options = {"maxiter": MAXITER, "gtol": TOLERANCE, "xtol": 1e-12}
    result = scipy.optimize.minimize(
        limited.fun, limited.problem.x0, jac=limited.gradient, hess=limited.hessian, constraints=equalities,
        method="trust-constr", options=options, callback=limited.iterate,
    )  # fmt: skip
    return of_scipy(limited, result)


def of_scipy(limited: Limited, result: Any) -> Found:
    reason = "converged" if result.success else str(result.message)
    return Found(result.x, best_multipliers(limited.problem, result.x), reason, int(result.nit), limited.evaluations)


def best_multipliers(problem: Problem, x: np.ndarray) -> np.ndarray:
    return np.linalg.lstsq(dense(problem.jacobian(x)).T, -problem.gradient(x))[0]


def dense(matrix: Any) -> np.ndarray:
    return matrix.toarray() if scipy.sparse.issparse(matrix) else matrix


class _Callbacks:
    """A problem as IPOPT takes it: entries of matrices in an order that stays."""

    def __init__(self, limited: Limited) -> None:
        self.limited, problem = limited, limited.problem
        self.objective, self.gradient, self.constraints = limited.fun, limited.gradient, limited.constraints
        x, n = problem.x0, problem.n
        self._jacobian_places = places(problem.jacobian(x))
        found = [places(matrix) for matrix in (problem.hessian(x), problem.curvature(x, np.ones(problem.m)))]
        self._lower = [rows >= columns for rows, columns in found]
        keys = [(rows.astype(np.int64) * n + columns)[low] for (rows, columns), low in zip(found, self._lower)]
        self._keys = np.unique(np.concatenate(keys))
        self._targets = [np.searchsorted(self._keys, key) for key in keys]

    def jacobianstructure(self) -> tuple[np.ndarray, ...]:
        return self._jacobian_places

    def hessianstructure(self) -> tuple[np.ndarray, ...]:
        return np.divmod(self._keys, self.limited.problem.n)

    def jacobian(self, x: np.ndarray) -> np.ndarray:
        return entries(self.limited.jacobian(x))

    def hessian(self, x: np.ndarray, multipliers: np.ndarray, factor: float) -> np.ndarray:
        parts = factor * entries(self.limited.hessian(x)), entries(self.limited.curvature(x, multipliers))
        found = np.zeros(len(self._keys))
        for part, low, target in zip(parts, self._lower, self._targets):
            found[target] += part[low]
        return found

    def intermediate(self, *numbers: Any) -> None:
        self.limited.iterations = int(numbers[1])


def places(matrix: Any) -> tuple[np.ndarray, ...]:
    """Rows and columns of all entries of a dense matrix, or of those that a sparse one stores."""
    if scipy.sparse.issparse(matrix):
        return scipy.sparse.coo_array(matrix).coords
    return tuple(index.ravel() for index in np.indices(matrix.shape))


def entries(matrix: Any) -> np.ndarray:
    return matrix.data if scipy.sparse.issparse(matrix) else matrix.ravel()


def ipopt(limited: Limited) -> Found:
    import cyipopt

    problem, zero = limited.problem, np.zeros(limited.problem.m)
    solver = cyipopt.Problem(problem.n, problem.m, problem_obj=_Callbacks(limited), cl=zero, cu=zero)
    seconds = max(limited.end - time.perf_counter(), 1e-3)
    for name, value in {"print_level": 0, "sb": "yes", "tol": TOLERANCE, "max_iter": MAXITER}.items():
        solver.add_option(name, value)
    solver.add_option("max_wall_time", seconds)
    x, told = solver.solve(problem.x0)
    return Found(x, told["mult_g"], reason_of_ipopt(told), limited.iterations, limited.evaluations)


def reason_of_ipopt(told: dict[str, Any]) -> str:
    """Put into few words why it stopped."""
    return "converged" if told["status"] == 0 else re.split(r"[.,(]", told["status_msg"].decode())[0].strip()


METHODS: dict[str, Callable[[Limited], Found]] = {
    "published": sketched("direct", "published"), "kaczmarz": sketched("kaczmarz", "robust"),
    "gaussian": sketched("gaussian", "robust"), "auto": auto, "gradients": gradients, "slsqp": slsqp,
    "trust-constr": trust_constr, "ipopt": ipopt,
}  # fmt: skip
