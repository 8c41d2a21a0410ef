"""Poisson's equation on two meshes by DOLFINx and PETSc on all processes; rank 0 prints what came out as JSON."""

from __future__ import annotations

import json
import math

from sciml_bounds.fem import require_dolfinx

require_dolfinx()

import ufl
from dolfinx import fem, mesh
from dolfinx.fem.petsc import LinearProblem
from mpi4py import MPI

OPTIONS = {"ksp_type": "cg", "pc_type": "gamg", "ksp_rtol": 1e-10, "ksp_error_if_not_converged": True}


def solve(n: int) -> tuple[float, int]:
    """L2 error and iterations for the solution sin(pi x) sin(pi y), by linear elements on n x n x 2 triangles."""
    domain = mesh.create_unit_square(MPI.COMM_WORLD, n, n)
    space = fem.functionspace(domain, ("Lagrange", 1))
    u, v, x = ufl.TrialFunction(space), ufl.TestFunction(space), ufl.SpatialCoordinate(domain)
    exact = ufl.sin(math.pi * x[0]) * ufl.sin(math.pi * x[1])
    domain.topology.create_connectivity(1, 2)
    boundary = fem.locate_dofs_topological(space, 1, mesh.exterior_facet_indices(domain.topology))
    problem = LinearProblem(
        ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx,
        2 * math.pi**2 * exact * v * ufl.dx,
        bcs=[fem.dirichletbc(0.0, boundary, space)],
        petsc_options_prefix="poisson_",
        petsc_options=OPTIONS,
    )
    solution = problem.solve()
    error = fem.assemble_scalar(fem.form((solution - exact) ** 2 * ufl.dx))
    return math.sqrt(domain.comm.allreduce(error)), problem.solver.getIterationNumber()


errors, iterations = zip(*(solve(n) for n in (16, 32)))
if MPI.COMM_WORLD.rank == 0:
    print(json.dumps({"processes": MPI.COMM_WORLD.size, "errors": errors, "iterations": iterations}))
