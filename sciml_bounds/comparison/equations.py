"""The linear system that methods are compared on, and what a method makes of it."""

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
#: Told every iterate.
Watch = Callable[[Array], None]
#: Solves from zero, to a relative residual or for so many iterations; gives x, and how many it did (0: it is direct).
Solve = Callable[[float, int, Watch | None], tuple[Array, int]]


@dataclass(frozen=True)
class Equations:
    """A linear system, and what it comes from.

    Attributes
    ----------
    matrix, rhs
        A and b in float64.
    system
        The lattice system, which geometric methods need; None for a matrix from elsewhere.
    energy_error
        Gives the relative energy error of a solution; None where no reference is known.
    """

    matrix: scipy.sparse.csr_array
    rhs: Array
    system: LatticeSystem | None = None
    energy_error: Callable[[Array], float] | None = None

    @cached_property
    def _norms(self) -> tuple[float, float]:
        return float(abs(self.matrix).sum(axis=1).max()), float(np.linalg.norm(self.rhs))

    def relative_residual(self, x: Array) -> float:
        """Compute ||b - A x|| / ||b|| anew."""
        return float(np.linalg.norm(self.rhs - self.matrix @ x) / self._norms[1])

    def round_off(self, x: Array) -> float:
        """Relative residual below which it means nothing: 10 eps ||A|| ||x|| / ||b||, at most 0.1.

        Where that is larger, x is hardly better than zero: the matrix is singular, and no x is a solution.
        """
        size, start = self._norms
        return float(min(0.1, 10 * np.finfo(float).eps * size * np.linalg.norm(x) / start))

    def positive_diagonal(self) -> Array:
        """Take the diagonal of the matrix.

        Raises
        ------
        InputError
            If an entry of it is not positive.
        """
        diagonal: Array = self.matrix.diagonal()
        if not (diagonal > 0).all():
            raise InputError("the diagonal of the matrix is not positive, so that the matrix is not positive definite.")
        return diagonal


def from_problem(problem: Diffusion, reference: Any = None) -> Equations:
    """Take the equations of a problem without batch.

    Parameters
    ----------
    problem
        The problem; it is solved in float64.
    reference
        A nodal field that the energy error of solutions is measured against; None leaves that out.

    Raises
    ------
    InputError
        If the problem is a batch, nothing drives it, or no error can be measured against the reference.
    """
    if problem.batch_shape:
        raise InputError(f"this is a batch of {tuple(problem.batch_shape)} problems; choose one of them (--sample I).")
    exact = problem.to(torch.float64)
    system = node_system(exact)
    rhs = system.into_range(system.rhs).reshape(-1).numpy()
    _require_drive(rhs)
    error = None if reference is None else _energy_error(exact, reference)
    return Equations(system.operator.to_csr(), rhs, system, error)


def from_matrix(matrix: Any, rhs: Any = None) -> Equations:
    """Take a square real matrix from elsewhere.

    Parameters
    ----------
    matrix
        Any scipy sparse matrix.
    rhs
        Right-hand side, shape (n,) or (n, 1); ones by default.

    Raises
    ------
    InputError
        If shapes do not fit, or an entry is not finite.
    """
    csr = scipy.sparse.csr_array(matrix, dtype=np.float64)
    n = csr.shape[0]
    if csr.shape != (n, n):
        raise InputError(f"the matrix has shape {csr.shape}; a square one is needed.")
    b = np.ones(n) if rhs is None else np.asarray(rhs, dtype=np.float64)
    if b.shape not in ((n,), (n, 1)):
        raise InputError(f"the matrix has {n} rows, but the right-hand side has shape {b.shape}.")
    _require_finite(csr, b.reshape(-1))
    _require_drive(b)
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
            f"the {what} is {numbers[first]} in {where} (counted from 0), and NaN or infinite in "
            f"{counted(len(bad), 'place')} altogether; give finite entries."
        )


def _require_drive(rhs: Array) -> None:
    if not rhs.any():
        raise InputError("the right-hand side is zero, and so is the solution; there is nothing to compare.")


def _energy_error(problem: Diffusion, reference: Any) -> Callable[[Array], float]:
    nodes = torch.as_tensor(reference, dtype=torch.float64)
    if tuple(nodes.shape) != problem.node_shape:
        raise InputError(f"the reference has shape {tuple(nodes.shape)}, but nodal values are {problem.node_shape}.")
    form, free = EnergyForm(problem), problem.free_nodes

    def norm(field: torch.Tensor) -> float:
        return float(form.norm(with_periodic_copies(field.view(1, *problem.node_shape), problem.periodic)))

    size = norm(nodes)
    if not 0 < size < math.inf:
        raise InputError(
            f"the energy norm of the reference is {size:g}; give one of finite values whose energy is not zero."
        )

    def error(x: Array) -> float:
        unknowns = torch.from_numpy(x).view(1, *problem.node_shape)
        return norm(torch.where(free, unknowns, problem.dirichlet_values) - nodes) / size

    return error
