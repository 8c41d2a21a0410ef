"""Estimation of a diffusion coefficient from observations of the solution.

Notation: u state (n,), q = log a (cells,), x = (u, q), l multipliers (n,); e edges between nodes; D differences along
edges (e, n), C sums over the cells adjacent to an edge (e, cells), so that K(q) = D^T diag(C exp q) D + diag(c).
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
from sciml_bounds.control._minimize_options import MinimizeOptions
from sciml_bounds.optimize._optimize_result import OptimizeResult
from sciml_bounds.stopping import StoppingCriteria

__all__ = ["CoefficientEstimation"]

#: KKT residuals below this fraction of the data are round-off.
ROUND_OFF = 100 * np.finfo(np.float64).eps


class CoefficientEstimation(CoefficientFunctions):
    """Estimation of the coefficient a = exp(q) of a diffusion problem from observations at nodes.

        min 1/2 ||u - d||^2 + smoothing/2 (||grad (q - q0)||^2 + ||q - q0||^2)
        subject to -div(exp(q) grad u) + c u = f

    with L2 norms, the first over observed nodes only, and q0 = log a of the given problem. q has one value per cell;
    its gradient consists of differences across faces.

    Parameters
    ----------
    problem : Diffusion
        Problem with a scalar coefficient, without solids and periodic sides; not a batch. Its coefficient defines the
        prior guess q0.
    observations : array or Tensor, nodal field
        Observed values d; entries at nodes that are not observed are ignored.
    observed : boolean array or Tensor, nodal field, optional
        Mask of the observed nodes; all by default. Dirichlet nodes are ignored.
    smoothing : float
        Weight of the prior, positive. For independent observation errors with standard deviation s, in d dimensions
        with spacing h, a suitable value is s^2 h^d times the inverse variance of log a.
    hessian : {"gauss-newton", "exact"}
        "gauss-newton" omits the second derivatives of the equation; "exact" includes them.

    Raises
    ------
    InputError
        If the problem is of another kind, or the data do not fit it.

    Notes
    -----
    Without observations, the minimiser is q0. The discrete equations are those of `sb.solve`; all computations are on
    the CPU. With inner="multigrid", the coefficient changes by at most a factor of 150 per step.

    With "gauss-newton", the Hessian is positive definite, and steps are equally good if the observations are fitted
    well. With "exact", convergence is quadratic at the end, but with very small `smoothing` the first steps are short.

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
        """Return x = (u, q0) with the state u for q0."""
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
        """Minimise, starting from q0 and its state.

        Parameters
        ----------
        inner : str, Sketch or Minres
            "multigrid": Newton's method for the coefficient alone. The state is computed by multigrid solves, and steps
            by conjugate gradients with the prior as preconditioner; no matrix is factorised. Otherwise `sb.minimize`
            for state and coefficient together, with sparse LU ("auto", "direct") or another of its inner solvers.
        rtol, atol : float
            Stop when the residual is at most max(rtol times its initial value, atol). With "multigrid" the residual is
            the norm of the reduced gradient, dual to the norm of the prior; otherwise the Euclidean norm of the KKT
            residual.
        maxiter : int
            Maximum number of Newton steps.
        forcing : float or None
            With "multigrid", the relative residual of each inner solve; the products in it are ten times as accurate.
            By default 0.1 at first, decreasing with the residual.
        callback, throw : callable or None, bool
            As in `sb.minimize`.
        **options
            Further options of `sb.minimize`; not with "multigrid".

        Returns
        -------
        OptimizeResult
            The result, with x = (u, q).
        """
        # if q0 is exact, the initial residual is round-off of the data and cannot be reduced
        least = ROUND_OFF * float(np.linalg.norm(self.weights * self.data) + np.linalg.norm(self._load))
        reduced = isinstance(inner, str) and inner == "multigrid"
        stop = StoppingCriteria(rtol, atol if reduced or atol < 0 else max(atol, least), maxiter, callback)
        chosen = MinimizeOptions(inner=inner, stop=stop, forcing=forcing, throw=throw, further=options)
        if chosen.selects_reduced("multigrid"):
            return chosen.minimize_reduced(CoefficientObjective(self, exact=self._exact))
        return chosen.minimize(
            self.fun, self.start(), jac=self.jac, hess=self.hess, constraints=self.constraints,
            multipliers=np.zeros(self.n),
        )  # fmt: skip

    def fields(self, x: Any) -> tuple[Tensor, Tensor]:
        """Return the state (nodal field) and the coefficient exp(q) (cell field) of x."""
        u, q = self.split(torch.as_tensor(x, dtype=torch.float64))
        return self.grid_stiffness.values(u), q.exp().view(self.problem.grid.shape)
