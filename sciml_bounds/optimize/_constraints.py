"""Conversion of equality constraints: functions, scipy's constraint objects and dictionaries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize
import scipy.sparse
import torch
from torch import Tensor

from sciml_bounds.errors import InputError
from sciml_bounds.operators._linear_operator import csr_tensor
from sciml_bounds.optimize._user_functions import Function, Given, as_matrix

__all__ = ["as_constraints"]


def as_constraints(constraints: Any, x0: Tensor, *, tensors_first: bool) -> list[Function]:
    """Convert constraints to a list of functions c with c(x) = 0.

    Parameters
    ----------
    constraints : callable, NonlinearConstraint, LinearConstraint, dict, or list or tuple of these
        A function of x, a `scipy.optimize.NonlinearConstraint` or `LinearConstraint` with equal bounds, or a dictionary
        {"type": "eq", "fun": ..., "jac": ..., "args": ...}.
    x0 : Tensor
        Initial point, shape (n,).
    tensors_first : bool
        See `Function`.

    Returns
    -------
    list of Function
        One function per constraint.

    Raises
    ------
    InputError
        If a constraint is an inequality, has another type, or returns an invalid value.
    """
    several = constraints if isinstance(constraints, list | tuple) else [constraints]
    names = ["the constraint"] if len(several) == 1 else [f"constraint {i}" for i in range(len(several))]
    return [_as_function(one, name, x0, tensors_first) for one, name in zip(several, names)]


def _as_function(constraint: Any, name: str, x0: Tensor, tensors_first: bool) -> Function:
    if isinstance(constraint, scipy.optimize.LinearConstraint):
        return _linear(constraint, name, x0)
    if isinstance(constraint, scipy.optimize.NonlinearConstraint):
        fun, level = constraint.fun, _level(constraint.lb, constraint.ub, name)
        jac, hess = (d if callable(d) else None for d in (constraint.jac, constraint.hess))
        return Function(Given(_minus_level(fun, level, name), jac, hess, name), x0, tensors_first=tensors_first)
    if isinstance(constraint, dict):
        return Function(_from_dictionary(constraint, name), x0, tensors_first=tensors_first)
    if callable(constraint):
        return Function(Given(constraint, None, None, name), x0, tensors_first=tensors_first)
    raise InputError(
        f"{name} is a {type(constraint).__name__}; give a function c(x), for the constraint c(x) = 0, or a "
        "NonlinearConstraint or LinearConstraint of scipy with equal bounds."
    )


def _level(lower: Any, upper: Any, name: str) -> np.ndarray[Any, Any]:
    """Return the common value of equal bounds."""
    try:
        low, high = np.broadcast_arrays(np.asarray(lower, np.float64), np.asarray(upper, np.float64))
    except (TypeError, ValueError):
        raise InputError(
            f"the bounds of {name} are {lower!r} and {upper!r}; give numbers: one for all, or one per constraint."
        ) from None
    if not np.array_equal(low, high) or not np.isfinite(low).all():
        raise InputError(_inequality_message(name, f"its bounds {low} and {high} differ or are infinite"))
    return low


def _inequality_message(name: str, why: str) -> str:
    return (
        f"{name} is an inequality ({why}), but minimize takes equalities only; add a slack variable s with "
        "c(x) - s**2 = 0, or use scipy.optimize.minimize(method='trust-constr')."
    )


def _minus_level(fun: Callable[[Any], Any], level: np.ndarray[Any, Any], name: str) -> Callable[[Any], Any]:
    def shifted(x: Any) -> Any:
        y = fun(x)
        shape = tuple(np.shape(y.detach() if isinstance(y, Tensor) else y))
        if level.size > 1 and shape != level.shape:
            raise InputError(f"{name} returns shape {shape}, but its bounds have shape {level.shape}; they must agree.")
        return y - torch.as_tensor(level).to(y) if isinstance(y, Tensor) else np.asarray(y) - level

    return shifted if level.any() or level.size > 1 else fun


def _from_dictionary(constraint: dict[str, Any], name: str) -> Given:
    kind = constraint.get("type")
    if kind != "eq":
        raise InputError(_inequality_message(name, f"its type is {kind!r}, not 'eq'"))
    if not callable(constraint.get("fun")):
        raise InputError(f"{name} is a dictionary without 'fun'; give {{'type': 'eq', 'fun': c}}.")
    extra = constraint.get("args", ())
    if not (constraint.get("jac") is None or callable(constraint["jac"])):
        raise InputError(f"the jac of {name} is {constraint['jac']!r}; give a function of x, or leave it out.")
    if not isinstance(extra, tuple | list):
        raise InputError(f"the args of {name} are {extra!r}; give a tuple of the arguments of its functions after x.")
    fun, jac = (_with_arguments(constraint.get(key), tuple(extra)) for key in ("fun", "jac"))
    assert fun is not None
    return Given(fun, jac, None, name)


def _with_arguments(function: Callable[..., Any] | None, extra: tuple[Any, ...]) -> Callable[[Any], Any] | None:
    return function if function is None or not extra else lambda x: function(x, *extra)


def _numbers(matrix: Any, name: str) -> np.ndarray[Any, Any]:
    try:
        return np.atleast_2d(np.asarray(matrix, np.float64))
    except (TypeError, ValueError):
        raise InputError(f"the matrix A of {name} is not numeric; give a float64 array (m, n).") from None


def _linear(constraint: scipy.optimize.LinearConstraint, name: str, x0: Tensor) -> Function:
    matrix = constraint.A
    if not scipy.sparse.issparse(matrix):
        matrix = _numbers(matrix, name)
    A = as_matrix(matrix, f"the matrix A of {name}", (matrix.shape[0], len(x0)), x0.device)
    level = np.broadcast_to(np.atleast_1d(_level(constraint.lb, constraint.ub, name)), (matrix.shape[0],))
    b = torch.from_numpy(level.copy()).to(x0)
    n = len(x0)
    zero = csr_tensor(scipy.sparse.csr_array((n, n)), device=x0.device)
    return Function(Given(lambda x: A @ x - b, lambda x: A, lambda x, v: zero, name), x0, tensors_first=True)
