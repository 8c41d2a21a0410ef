"""Preconditioners of this package for PETSc solvers."""

from __future__ import annotations

from typing import Any

import torch

from sciml_bounds._cell_solver import CellSolver
from sciml_bounds._solver import Solver
from sciml_bounds.errors import InputError
from sciml_bounds.operators import LinearOperator

__all__ = ["PetscPreconditioner"]


class PetscPreconditioner:
    """Context of a PETSc preconditioner of type `python`, which applies a preconditioner of this package.

    Parameters
    ----------
    preconditioner : Solver, CellSolver or LinearOperator
        A solver from `sb.prepare`, whose `as_preconditioner()` is applied, or any approximate inverse, shape (n, n).

    Raises
    ------
    InputError
        If the argument is neither of the two.

    Notes
    -----
    The vectors must have n entries and lie on one process. A nonlinear preconditioner, such as a network, needs a
    flexible method: `ksp.setType("fcg")` or `"fgmres"`.

    Examples
    --------
    With a matrix `A` of petsc4py that is assembled from `solver.operator.to_csr()`::

        ksp.setOperators(A)
        ksp.getPC().setType("python")
        ksp.getPC().setPythonContext(sb.fem.PetscPreconditioner(solver))
    """

    def __init__(self, preconditioner: Solver | CellSolver | LinearOperator) -> None:
        if isinstance(preconditioner, Solver | CellSolver):
            preconditioner = preconditioner.as_preconditioner()
        if not isinstance(preconditioner, LinearOperator):
            kind = type(preconditioner).__name__
            raise InputError(f"preconditioner is of type {kind}; give a solver from sb.prepare or a LinearOperator.")
        self._operator = preconditioner

    def setUp(self, pc: Any) -> None:
        """Check that the PETSc matrix has the shape of the preconditioner and lies on one process."""
        matrix = pc.getOperators()[1]
        shape, local = tuple(matrix.getSize()), matrix.getLocalSize()[0]
        if shape != self._operator.shape or local != shape[0]:
            raise InputError(
                f"the PETSc matrix has shape {shape} with {local} rows on this process, but the preconditioner has "
                f"shape {self._operator.shape} and runs on one process; assemble the matrix of the same solver on one "
                "process."
            )

    def apply(self, pc: Any, x: Any, y: Any) -> None:
        """Write M x into the PETSc vector y."""
        given = torch.from_numpy(x.getArray(readonly=True).copy())
        vector = given.to(self._operator.device, self._operator.dtype)
        y.setArray(self._operator.matvec(vector).to("cpu", given.dtype).numpy())
