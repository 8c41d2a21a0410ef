"""Our matrix solved by PETSc, PETSc's matrix solved by us, and our cycle as a preconditioner inside a PETSc solver."""

from __future__ import annotations

import numpy as np
import pytest
from refusals import refused

import sciml_bounds as sb
from sciml_bounds.errors import MissingExtraError
from sciml_bounds.fem import require_dolfinx

try:
    require_dolfinx()
except MissingExtraError as missing:
    pytest.skip(str(missing), allow_module_level=True)

from petsc4py import PETSc

pytestmark = pytest.mark.fem

RTOL = 1e-10


@pytest.fixture(scope="module")
def solver() -> sb.Solver:
    """A jumping coefficient with an obstacle, every node of which keeps its place in the matrix."""
    rng = np.random.default_rng(1)
    solid = np.zeros((40, 33), dtype=bool)
    solid[10:20, 5:25] = True
    boundary = {"x0": sb.Dirichlet(1.0), "x1": sb.Dirichlet(0.0), "y0": sb.Neumann(0.0), "y1": sb.Neumann(0.0)}
    coefficient = np.where(rng.uniform(size=(40, 33)) < 0.5, 12.0, 3.0)
    return sb.prepare(
        sb.Diffusion(sb.Grid((40, 33)), coefficient, 1.0, boundary=boundary, solid=solid), method="multigrid"
    )


@pytest.fixture(scope="module")
def matrix(solver) -> PETSc.Mat:
    """Our matrix as one of PETSc."""
    csr = solver.operator.to_csr()
    matrix = PETSc.Mat().createAIJ(size=csr.shape, csr=(csr.indptr, csr.indices, csr.data), comm=PETSc.COMM_SELF)
    matrix.assemble()
    return matrix


def solve(matrix: PETSc.Mat, b: np.ndarray, pc_type: str, context: object = None) -> tuple[np.ndarray, PETSc.KSP]:
    """Solve by conjugate gradients of PETSc to a relative residual in the 2-norm."""
    ksp = PETSc.KSP().create(PETSc.COMM_SELF)
    ksp.setOperators(matrix)
    ksp.setType(PETSc.KSP.Type.CG)
    ksp.setNormType(PETSc.KSP.NormType.UNPRECONDITIONED)
    ksp.setTolerances(rtol=RTOL, max_it=100)
    ksp.getPC().setType(pc_type)
    if context is not None:
        ksp.getPC().setPythonContext(context)
    right, x = PETSc.Vec().createWithArray(b, comm=PETSc.COMM_SELF), matrix.createVecRight()
    ksp.solve(right, x)
    return x.getArray().copy(), ksp


def test_conjugate_gradients_with_gamg_agree(solver, matrix):
    ours = solver.solve(rtol=RTOL).linear.x.view(-1).numpy()
    theirs, ksp = solve(matrix, solver.rhs[0].numpy(), PETSc.PC.Type.GAMG)
    assert ksp.getConvergedReason() > 0
    np.testing.assert_allclose(
        ours, theirs, atol=1e-7 * np.abs(theirs).max()
    )  # 1e-10 times the condition number of 1e3


def test_our_cycle_inside_their_loop_takes_our_iterations(solver, matrix):
    """The same method on both sides, so the counts are equal; one apart is left to round-off at the tolerance."""
    ours = solver.solve(rtol=RTOL)
    x, ksp = solve(matrix, solver.rhs[0].numpy(), PETSc.PC.Type.PYTHON, sb.fem.PetscPreconditioner(solver))
    assert ksp.getConvergedReason() > 0
    assert abs(ksp.getIterationNumber() - int(ours.iterations)) <= 1
    np.testing.assert_allclose(ours.linear.x.view(-1), x, atol=1e-7 * np.abs(x).max())


def test_matrices_of_another_shape_are_refused(matrix):
    other = sb.prepare(sb.Diffusion(sb.Grid((4, 4)), source=1.0))
    with pytest.raises(PETSc.Error) as caught:
        solve(matrix, np.ones(1394), PETSc.PC.Type.PYTHON, sb.fem.PetscPreconditioner(other))
    assert "(1394, 1394)" in str(caught.value.__cause__)
    refused("ndarray sb.prepare", sb.fem.PetscPreconditioner, np.eye(3))


def test_their_matrix_inside_our_loop(solver, matrix):
    b = solver.rhs[0]
    theirs, _ = solve(matrix, b.numpy(), PETSc.PC.Type.LU)
    ours = sb.cg(matrix, b, M=solver.as_preconditioner(), rtol=RTOL)
    assert bool(ours.converged)
    np.testing.assert_allclose(ours.x, theirs, atol=1e-7 * np.abs(theirs).max())
