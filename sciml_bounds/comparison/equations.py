"""The linear system on which methods are compared."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse
import torch

from sciml_bounds.bounds._energy import EnergyForm
from sciml_bounds.errors import InputError
from sciml_bounds.operators._lattice_operator import LatticeSystem
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.discretization import node_system
from sciml_bounds.problems.transfers import with_periodic_copies
from sciml_bounds.reports import counted

__all__ = ["Array", "Equations", "Solve", "Watch", "from_matrix", "from_problem"]

type Array = np.ndarray[Any, np.dtype[np.float64]]
#: Called with each iterate x of a method.
Watch = Callable[[Array], None]
#: Solver from a zero guess, called with rtol, maxiter and a watch; returns x and the number of iterations (0 if
#: direct).
Solve = Callable[[float, int, Watch | None], tuple[Array, int]]


@dataclass(frozen=True)
class Equations:
    """A linear system A x = b and its origin.

    Attributes
    ----------
    matrix : scipy.sparse.csr_array
        Matrix A in float64, shape (n, n).
    rhs : ndarray
        Right-hand side b in float64, shape (n,).
    system : LatticeSystem or None
        The same system on a lattice, which geometric methods need; None if only a matrix was given.
    energy_error : callable or None
        Function that returns the relative energy error of a solution; None if there is no reference solution.
    """

    matrix: scipy.sparse.csr_array
    rhs: Array
    system: LatticeSystem | None = None
    energy_error: Callable[[Array], float] | None = None

    @cached_property
    def _norms(self) -> tuple[float, float]:
        return float(abs(self.matrix).sum(axis=1).max()), float(np.linalg.norm(self.rhs))

    def relative_residual(self, x: Array) -> float:
        """Compute ||b - A x|| / ||b||."""
        return float(np.linalg.norm(self.rhs - self.matrix @ x) / self._norms[1])

    def round_off(self, x: Array) -> float:
        """Return the round-off level of the relative residual: 10 eps ||A|| ||x|| / ||b||, at most 0.1.

        The limit 0.1 is reached only for numerically singular matrices, where x is hardly better than zero.
        """
        size, start = self._norms
        return float(min(0.1, 10 * np.finfo(float).eps * size * np.linalg.norm(x) / start))

    def positive_diagonal(self) -> Array:
        """Return the diagonal of the matrix, after checking that it is positive.

        Raises
        ------
        InputError
            If an entry is not positive.
        """
        diagonal: Array = self.matrix.diagonal()
        if not (diagonal > 0).all():
            raise InputError(
                "the diagonal of the matrix has entries that are not positive, so the matrix is not positive "
                "definite; choose a method that does not need this, such as scipy-spsolve."
            )
        return diagonal


def from_problem(problem: Diffusion, reference: Any = None) -> Equations:
    """Assemble the equations of a problem without batch axes.

    Parameters
    ----------
    problem : Diffusion
        The problem, without a batch; it is solved in float64.
    reference : array (nodes), optional
        Nodal values of a reference solution, from which energy errors are measured. By default errors are not measured.

    Raises
    ------
    InputError
        If the problem is a batch, its right-hand side is zero, or the reference has the wrong shape or a zero or
        infinite energy norm.
    """
    if problem.batch_shape:
        raise InputError(
            f"the problem is a batch of shape {tuple(problem.batch_shape)}; choose one sample (--sample I)."
        )
    exact = problem.to(torch.float64)
    system = node_system(exact)
    rhs = system.into_range(system.rhs).reshape(-1).numpy()
    _require_nonzero(rhs)
    error = None if reference is None else _energy_error(exact, reference)
    return Equations(system.operator.to_csr(), rhs, system, error)


def from_matrix(matrix: Any, rhs: Any = None) -> Equations:
    """Return the equations of a square real matrix.

    Parameters
    ----------
    matrix : scipy sparse array or matrix (n, n)
        The matrix A.
    rhs : array (n,) or (n, 1), optional
        Right-hand side; ones by default.

    Raises
    ------
    InputError
        If shapes disagree, an entry is not finite, or the right-hand side is zero.
    """
    csr = scipy.sparse.csr_array(matrix, dtype=np.float64)
    n = csr.shape[0]
    if csr.shape != (n, n):
        raise InputError(f"the matrix has shape {csr.shape}; give a square matrix.")
    b = np.ones(n) if rhs is None else np.asarray(rhs, dtype=np.float64)
    if b.shape not in ((n,), (n, 1)):
        raise InputError(f"the matrix has {n} rows, but the right-hand side has shape {b.shape}; give {n} entries.")
    _require_finite(csr, b.reshape(-1))
    _require_nonzero(b)
    return Equations(csr, b.reshape(-1))


def _require_finite(matrix: scipy.sparse.csr_array, rhs: Array) -> None:
    for what, numbers in (("matrix", matrix.data), ("right-hand side", rhs)):
        bad = np.flatnonzero(~np.isfinite(numbers))
        if len(bad) == 0:
            continue
        first = int(bad[0])
        where = f"row {first}"
        if what == "matrix":
            where = f"row {np.searchsorted(matrix.indptr, first, 'right') - 1}, column {matrix.indices[first]}"
        raise InputError(
            f"the {what} has {counted(len(bad), 'non-finite value')}, the first {numbers[first]} in {where} (counted "
            "from 0); give finite entries."
        )


def _require_nonzero(rhs: Array) -> None:
    if not rhs.any():
        raise InputError(
            "the right-hand side is zero, so the solution is zero; give a nonzero source or right-hand side."
        )


def _energy_error(problem: Diffusion, reference: Any) -> Callable[[Array], float]:
    nodes = torch.as_tensor(reference, dtype=torch.float64)
    if tuple(nodes.shape) != problem.node_shape:
        raise InputError(
            f"the reference has shape {tuple(nodes.shape)}, but nodal values of this problem have shape "
            f"{problem.node_shape}; give one value per node."
        )
    form, free = EnergyForm(problem), problem.free_nodes

    def norm(field: torch.Tensor) -> float:
        return float(form.norm(with_periodic_copies(field.view(1, *problem.node_shape), problem.periodic)))

    size = norm(nodes)
    if not 0 < size < math.inf:
        raise InputError(
            f"the energy norm of the reference is {size:g}; give a reference of finite values that is not constant."
        )

    def error(x: Array) -> float:
        unknowns = torch.from_numpy(x).view(1, *problem.node_shape)
        return norm(torch.where(free, unknowns, problem.dirichlet_values) - nodes) / size

    return error
