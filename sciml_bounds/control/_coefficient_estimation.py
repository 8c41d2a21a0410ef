"""Estimation of a diffusion coefficient from what is observed of the solution.

Legend: u state (n,), q = log a (cells,), x = (u, q), l multipliers (n,); e edges between nodes; D differences along
edges (e, n), C sums of the cells beside an edge (e, cells), so that K(q) = D^T diag(C exp q) D + diag(c).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from sciml_bounds.control._coefficient_functions import CoefficientFunctions
from sciml_bounds.control._coefficient_objective import CoefficientObjective
from sciml_bounds.control._reduced_newton import Ending, minimize_reduced
from sciml_bounds.errors import InputError
from sciml_bounds.optimize._minimize import minimize
from sciml_bounds.optimize._optimize_result import OptimizeResult

__all__ = ["CoefficientEstimation"]

#: KKT residuals below this part of the data are round-off.
ROUND_OFF = 100 * np.finfo(np.float64).eps


class CoefficientEstimation(CoefficientFunctions):
    """Estimate the coefficient a = exp(q) of a diffusion problem from values observed at nodes.

        min 1/2 ||u - d||^2 + smoothing/2 (||grad (q - q0)||^2 + ||q - q0||^2)
        subject to -div(exp(q) grad u) + c u = f

    with L2 norms, the first over the nodes that are observed only, and q0 = log a of the problem as it is given. q is
    one number a cell, and its gradient a difference across a face.

    Parameters
    ----------
    problem
        `sb.Diffusion` with a scalar coefficient, without solids and periodic sides; not a batch. Its coefficient is the
        guess that q is drawn to.
    observations
        d, a nodal field; entries that are not observed are ignored.
    observed
        Which nodes are observed, truth values of the shape of a nodal field; all by default. Those with prescribed
        values tell nothing and are left out.
    smoothing
        Weight of what is known beforehand, positive. Independent errors of the observations with standard deviation s,
        in d dimensions with spacing h, call for s^2 h^d times the inverse variance of log a.
    hessian
        "gauss-newton" leaves out the second derivatives of the equation, "exact" keeps them.

    Raises
    ------
    InputError
        If the problem is none of this kind, or data do not fit.

    Notes
    -----
    Without observations the minimiser is q0. The equations are those of `sb.solve`, and all is computed on the CPU. A
    coefficient changes by a factor of 150 at most in one step.
    Without the second derivatives of the equation the Hessian is positive definite, and steps are as good where
    observations are fitted well; with them convergence is quadratic at the end, but where `smoothing` is very small
    steps are short on the way.

    Examples
    --------
    >>> import sciml_bounds as sb
    >>> problem = sb.Diffusion(sb.Grid((8, 8)), coefficient=1.0, source=1.0)
    >>> truth = sb.solve(problem.replace(coefficient=2.0)).values
    >>> estimation = sb.control.CoefficientEstimation(problem, truth, smoothing=1e-8)
    >>> r = estimation.minimize()
    >>> state, coefficient = estimation.fields(r.x)
    >>> round(float(coefficient.mean()), 1)
    2.0
    """

    # --- solving ------------------------------------------------------------------------------------------------------

    def start(self) -> np.ndarray[Any, Any]:
        """Return x with q0 and the state that belongs to it."""
        K = self.equation_jac(np.concatenate([np.zeros(self.n), self.guess]))[:, : self.n]
        at_zero = self.equation(np.concatenate([np.zeros(self.n), self.guess]))
        return np.concatenate([-scipy.sparse.linalg.spsolve(K.tocsc(), at_zero), self.guess])

    def minimize(
        self,
        *,
        inner: Any = "auto",
        rtol: float = 1e-8,
        atol: float = 0.0,
        maxiter: int = 100,
        forcing: float | None = None,
        callback: Callable[[Any], bool | None] | None = None,
        throw: bool = False,
        **options: Any,
    ) -> OptimizeResult:
        """Start from q0 and its state and minimise.

        Parameters
        ----------
        inner
            "multigrid": Newton's method for the coefficient alone, whose states come from solves by multigrid, and
            whose steps are found by conjugate gradients with what is known beforehand as preconditioner; no matrix is
            factorised. Otherwise `sb.minimize` for state and coefficient, by sparse LU ("auto", "direct") or another of
            its solvers.
        rtol, atol
            Stop when the residual is at most max(rtol times that at the start, atol): with "multigrid" the norm of the
            reduced gradient that is dual to that of the smoothing, otherwise the Euclidean norm of the KKT residual.
        maxiter
            Largest number of Newton steps.
        forcing
            With "multigrid", relative residual of each inner solve, and ten times that of each product in it; by
            default 0.1 at first, and as much smaller as the residual has fallen.
        callback, throw
            As in `sb.minimize`.
        options
            Of `sb.minimize`, where that is called.
        """
        if isinstance(inner, str) and inner == "multigrid":
            if options:
                raise InputError(f"inner='multigrid' takes no {next(iter(options))}; leave it out.")
            return minimize_reduced(
                CoefficientObjective(self, exact=self._exact), Ending(rtol, atol, maxiter, callback), forcing=forcing,
                throw=throw,
            )  # fmt: skip
        if forcing is not None:
            raise InputError(f"forcing={forcing!r} is for inner='multigrid'; leave it out.")
        # q0 may be right: then the residual at the start is round-off of the data, and no part of it can be reached
        least = ROUND_OFF * float(np.linalg.norm(self.weights * self.data) + np.linalg.norm(self._load))
        return minimize(
            self.fun, self.start(), jac=self.jac, hess=self.hess, constraints=self.constraints,
            multipliers=np.zeros(self.n), inner=inner, rtol=rtol, atol=max(atol, least) if atol >= 0 else atol,
            maxiter=maxiter, callback=callback, throw=throw, **options,
        )  # fmt: skip

    def fields(self, x: Any) -> tuple[Tensor, Tensor]:
        """Return the state, a nodal field, and the coefficient exp(q), a cell field."""
        u, q = self.split(torch.as_tensor(x, dtype=torch.float64))
        return self.grid_stiffness.values(u), q.exp().view(self.problem.grid.shape)
