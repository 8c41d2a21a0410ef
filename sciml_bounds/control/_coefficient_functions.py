"""Objective and constraint of coefficient estimation, with their derivatives."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import numpy as np
import scipy.optimize
import scipy.sparse
import scipy.sparse.linalg
import torch
from scipy.sparse import csr_array

from sciml_bounds.arrays import convert, require_choice, require_finite, require_number, to_mask
from sciml_bounds.control._constraint_equations import GridStiffness
from sciml_bounds.errors import InputError
from sciml_bounds.grid import Grid
from sciml_bounds.problems.diffusion import Diffusion

__all__ = ["CoefficientFunctions"]


class CoefficientFunctions:
    """The functions of `CoefficientEstimation`, with the same parameters."""

    def __init__(
        self,
        problem: Diffusion,
        observations: Any,
        *,
        observed: Any = None,
        smoothing: float,
        hessian: str = "gauss-newton",
    ) -> None:
        here = problem.to("cpu") if isinstance(problem, Diffusion) else problem
        self.grid_stiffness = stiffness = GridStiffness(here)
        self.problem = problem = stiffness.problem
        _require_plain(problem)
        self.smoothing = require_number(smoothing, "smoothing", positive=True)
        require_choice(hessian, "hessian", ("gauss-newton", "exact"))
        self._exact = hessian == "exact"
        self.n = len(stiffness.free)
        self._observe(observations, observed)
        free = stiffness.free.numpy()
        edges, self._sums = _edges(problem.grid)
        self._differences = csr_array(edges[:, free])
        self._boundary_drops = edges @ problem.dirichlet_values.reshape(-1).numpy()
        self.guess = problem.coefficient[0].expand(problem.grid.shape).reshape(-1).log().numpy()
        T = self._sums @ np.exp(self.guess)
        self._absorption = stiffness.to_csr().diagonal() - self._stiffness(T).diagonal()
        self._load = stiffness.load.numpy() + self._differences.T @ (T * self._boundary_drops)
        self._prior = self.smoothing * _prior(problem.grid)

    def _observe(self, observations: Any, observed: Any) -> None:
        problem, free = self.problem, self.grid_stiffness.free
        seen = torch.ones(problem.node_shape, dtype=torch.bool) if observed is None else to_mask(observed, "observed")
        values = convert(observations, "the observations", torch.float64, problem.device)
        for name, field in (("the observations have", values), ("observed has", seen)):
            if field.shape != problem.node_shape:
                raise InputError(
                    f"{name} shape {tuple(field.shape)}; give a nodal field of shape {problem.node_shape}."
                )
        values = torch.where(seen, values, 0.0)
        require_finite(values, "the observations")
        self.weights = (seen.reshape(-1)[free] * self.grid_stiffness.mass).numpy()
        self.data = values.reshape(-1)[free].numpy()

    def _stiffness(self, T: Any) -> csr_array:
        return csr_array(self._differences.T @ scipy.sparse.diags_array(T) @ self._differences)

    def split(self, x: Any) -> tuple[Any, Any]:
        """Split x into the free values of the state and the logarithms of the coefficient."""
        return x[: self.n], x[self.n :]

    # --- edges --------------------------------------------------------------------------------------------------------

    def drops(self, u: Any, multipliers: Any) -> tuple[Any, Any]:
        """Return the differences along the edges of a state (with its prescribed values) and of multipliers."""
        return self._differences @ u + self._boundary_drops, self._differences @ multipliers

    def pushed(self, drop: Any, change: Any) -> Any:
        """Return the change of the equations (n,) due to a change of the coefficient (cells,).

        `drop` are the differences of the field along the edges.
        """
        return self._differences.T @ (drop * (self._sums @ change))

    def pulled(self, drop: Any, y: Any) -> Any:
        """Apply the transpose of `pushed` to y (n,); returns (cells,)."""
        return self.summed(drop * (self._differences @ y))

    def summed(self, along: Any) -> Any:
        """Sum edge values over the edges of each cell; returns (cells,)."""
        return self._sums.T @ along

    # --- objective ----------------------------------------------------------------------------------------------------

    def fun(self, x: np.ndarray[Any, Any]) -> float:
        """Return the objective."""
        u, q = self.split(x)
        misfit, change = u - self.data, q - self.guess
        return float(misfit @ (self.weights * misfit) + change @ (self._prior @ change)) / 2

    def jac(self, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the gradient of the objective."""
        u, q = self.split(x)
        return np.concatenate([self.weights * (u - self.data), self._prior @ (q - self.guess)])

    def hess(self, x: np.ndarray[Any, Any]) -> csr_array:
        """Return the Hessian of the objective."""
        return csr_array(scipy.sparse.block_diag([scipy.sparse.diags_array(self.weights), self._prior]))

    # --- constraint ---------------------------------------------------------------------------------------------------

    def equation(self, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return K(q) u - load, shape (n,)."""
        u, q = self.split(x)
        flux = (self._sums @ np.exp(q)) * (self._differences @ u + self._boundary_drops)
        left: np.ndarray[Any, Any] = self._differences.T @ flux + self._absorption * u - self._load
        return left

    def equation_jac(self, x: np.ndarray[Any, Any]) -> csr_array:
        """Return the Jacobian of the equation, (K(q), D^T diag(D u) C diag(exp q))."""
        u, q = self.split(x)
        a = np.exp(q)
        K = self._stiffness(self._sums @ a) + scipy.sparse.diags_array(self._absorption)
        return csr_array(scipy.sparse.hstack([K, self._along(self._differences @ u + self._boundary_drops, a)]))

    def _along(self, drop: Any, a: Any) -> csr_array:
        """Return D^T diag(drop) C diag(a), the derivative of the equations by q."""
        return csr_array(
            self._differences.T @ scipy.sparse.diags_array(drop) @ self._sums @ scipy.sparse.diags_array(a)
        )

    def equation_hess(self, x: np.ndarray[Any, Any], multipliers: np.ndarray[Any, Any]) -> csr_array:
        """Return the Hessian of the product of the equation with multipliers (n,), or zero for Gauss-Newton."""
        if not self._exact:
            return csr_array((len(x), len(x)))
        u, q = self.split(x)
        a = np.exp(q)
        drop, adjoint_drop = self._differences @ u + self._boundary_drops, self._differences @ multipliers
        mixed = self._along(adjoint_drop, a)
        twice = scipy.sparse.diags_array(a * (self._sums.T @ (drop * adjoint_drop)))
        return csr_array(scipy.sparse.block_array([[None, mixed], [mixed.T, twice]]))

    @property
    def constraints(self) -> scipy.optimize.NonlinearConstraint:
        """The equation, with its derivatives."""
        return scipy.optimize.NonlinearConstraint(
            self.equation, 0.0, 0.0, jac=self.equation_jac, hess=self.equation_hess
        )


def _require_plain(problem: Diffusion) -> None:
    if not problem.has_scalar_coefficient or problem.solid is not None or any(problem.periodic):
        raise InputError(
            "coefficient estimation needs a scalar coefficient, without solids and periodic sides; change the problem."
        )


def _difference(n: int) -> csr_array:
    """Return the matrix of differences of n + 1 points, shape (n, n + 1)."""
    return csr_array(scipy.sparse.diags_array([-np.ones(n), np.ones(n)], offsets=[0, 1], shape=(n, n + 1)))


def _product(parts: list[Any]) -> csr_array:
    return csr_array(reduce(scipy.sparse.kron, parts))


def _edges(grid: Grid) -> tuple[csr_array, csr_array]:
    """Return D (edges, nodes) and C (edges, cells), stacked over the axes."""
    D, C = [], []
    for axis, h in enumerate(grid.spacing):
        scale = grid.cell_volume / h**2 / 2 ** (grid.dim - 1)
        own = [other == axis for other in range(grid.dim)]
        D.append(_product([_difference(n) if on else scipy.sparse.eye_array(n + 1) for n, on in zip(grid.shape, own)]))
        C.append(
            scale
            * _product([scipy.sparse.eye_array(n) if on else _adjacent_cells(n) for n, on in zip(grid.shape, own)])
        )
    return csr_array(scipy.sparse.vstack(D)), csr_array(scipy.sparse.vstack(C))


def _adjacent_cells(n: int) -> csr_array:
    """Return the matrix that sums the cells adjacent to each of n + 1 nodes, shape (n + 1, n)."""
    return csr_array(abs(_difference(n)).T)


def _prior(grid: Grid) -> csr_array:
    """Return the matrix of ||grad q||^2 + ||q||^2 for cell fields, shape (cells, cells)."""
    total: Any = grid.cell_volume * scipy.sparse.eye_array(math.prod(grid.shape))
    for axis, h in enumerate(grid.spacing):
        across = _product(
            [_difference(n - 1) if k == axis else scipy.sparse.eye_array(n) for k, n in enumerate(grid.shape)]
        )
        total = total + grid.cell_volume / h**2 * (across.T @ across)
    return csr_array(total)
