"""Methods of other packages: scipy, PyAMG and PETSc."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from sciml_bounds.comparison.equations import Array, Equations, Solve, Watch
from sciml_bounds.errors import MissingExtraError
from sciml_bounds.fem import require_dolfinx

__all__ = ["load_petsc", "petsc_cg", "pyamg_cg", "scipy_cg", "scipy_spsolve"]


def scipy_cg(equations: Equations) -> Solve:
    """Set up scipy's conjugate gradients with Jacobi preconditioning."""
    A, b = equations.matrix, equations.rhs
    M = scipy.sparse.diags_array(1 / equations.positive_diagonal())

    def solve(rtol: float, maxiter: int, watch: Watch | None) -> tuple[Array, int]:
        count = 0

        def callback(x: Array) -> None:
            nonlocal count
            count += 1
            if watch is not None:
                watch(x)

        x, _ = scipy.sparse.linalg.cg(A, b, rtol=rtol, maxiter=maxiter, M=M, callback=callback)
        return x, count

    return solve


def scipy_spsolve(equations: Equations) -> Solve:
    """Set up scipy's sparse LU factorisation (SuperLU)."""
    A = equations.matrix.tocsc()
    return lambda rtol, maxiter, watch: (scipy.sparse.linalg.spsolve(A, equations.rhs), 0)


def pyamg_cg(builder: str, equations: Equations) -> Solve:
    """Set up PyAMG's conjugate gradients, preconditioned by the hierarchy that the PyAMG function `builder` returns."""
    import pyamg

    A = scipy.sparse.csr_matrix(equations.matrix)
    A.indptr, A.indices = A.indptr.astype(np.int32), A.indices.astype(np.int32)  # PyAMG needs 32-bit indices
    hierarchy = getattr(pyamg, builder)(A)

    def solve(rtol: float, maxiter: int, watch: Watch | None) -> tuple[Array, int]:
        norms: list[float] = []
        x = hierarchy.solve(
            equations.rhs, tol=rtol, maxiter=maxiter, accel="cg", residuals=norms, callback=watch
        )  # fmt: skip
        return x, len(norms) - 1

    return solve


def petsc_cg(preconditioner: str, equations: Equations) -> Solve:
    """Set up PETSc's conjugate gradients with one of the PETSc preconditioners, on one process.

    Raises
    ------
    MissingExtraError
        If petsc4py is not installed.
    """
    PETSc = load_petsc()
    A, b = equations.matrix, equations.rhs
    index = PETSc.IntType
    structure = (A.indptr.astype(index), A.indices.astype(index), A.data)
    matrix = PETSc.Mat().createAIJ(size=A.shape, csr=structure, comm=PETSc.COMM_SELF)
    matrix.setOption(PETSc.Mat.Option.SPD, True)
    ksp = PETSc.KSP().create(PETSc.COMM_SELF)
    ksp.setOperators(matrix)
    ksp.setType(PETSc.KSP.Type.CG)
    ksp.setNormType(PETSc.KSP.NormType.UNPRECONDITIONED)
    ksp.getPC().setType(preconditioner)
    ksp.setUp()

    def solve(rtol: float, maxiter: int, watch: Watch | None) -> tuple[Array, int]:
        ksp.setTolerances(rtol=rtol, atol=0.0, max_it=maxiter)
        if watch is not None:
            ksp.setMonitor(lambda ksp, count, norm: watch(ksp.buildSolution().getArray()) if count else None)
        right, x = PETSc.Vec().createWithArray(b, comm=PETSc.COMM_SELF), matrix.createVecRight()
        ksp.solve(right, x)
        ksp.cancelMonitor()
        return x.getArray().copy(), ksp.getIterationNumber()

    return solve


def load_petsc() -> Any:
    """Import PETSc.

    Raises
    ------
    MissingExtraError
        If petsc4py is not installed.
    """
    try:
        require_dolfinx()
        from petsc4py import PETSc
    except (MissingExtraError, ModuleNotFoundError):
        raise MissingExtraError(
            "the PETSc methods need petsc4py, which is not installed; run pip install 'sciml-bounds[fem]' on Linux "
            "x86-64, or conda install -c conda-forge petsc4py elsewhere."
        ) from None
    return PETSc
