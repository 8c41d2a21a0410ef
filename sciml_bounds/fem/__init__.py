"""DOLFINx meshes and PETSc (extra `fem`): values at grid nodes, mesh matrices for control, preconditioners for PETSc.

Call `sb.fem.require_dolfinx()` before any import of `dolfinx`, `mpi4py` or `petsc4py`: the wheel `dolfinx-solver-real`
contains its own MPI and PETSc, and its module `dolfinx_solver` must load them first.

`nodal_values` evaluates a DOLFINx function at the nodes of an `sb.Grid`, where `sb.certify` can bound its error.
`MeshStiffness` is the constraint of a control problem on a mesh. `PetscPreconditioner` makes a multigrid cycle of this
package a preconditioner of a PETSc solver. `certify` bounds the error of any conforming function on the mesh itself.
"""

from sciml_bounds.fem._certify import MeshCertificate, MeshFlux, certify
from sciml_bounds.fem._dolfinx import require_dolfinx
from sciml_bounds.fem._mesh_stiffness import MeshStiffness
from sciml_bounds.fem._nodal_values import nodal_values
from sciml_bounds.fem._petsc import PetscPreconditioner

__all__ = [
    "MeshCertificate",
    "MeshFlux",
    "MeshStiffness",
    "PetscPreconditioner",
    "certify",
    "nodal_values",
    "require_dolfinx",
]
