"""Stiffness matrices of linear elements on a DOLFINx mesh, for PDE-constrained optimisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml_bounds.control._constraint_equations import MatrixStiffness
from sciml_bounds.errors import InputError
from sciml_bounds.fem._dolfinx import require_dolfinx

__all__ = ["MeshStiffness"]


class MeshStiffness(MatrixStiffness):
    """Stiffness and lumped mass matrices of linear elements for -div(a grad u), with u = 0 on parts of the boundary.

    The matrices act on the free degrees of freedom. They are the elliptic operator of
    `sciml_bounds.control._distributed_control.TrackingProgram`.

    Parameters
    ----------
    space : dolfinx.fem.FunctionSpace
        Space of continuous scalar linear elements, on a mesh of one process.
    dirichlet_dofs : array of int
        Degrees of freedom with the Dirichlet value zero, for example from `dolfinx.fem.locate_dofs_topological`.
    coefficient : float or UFL expression, default 1.0
        Coefficient a, positive.

    Attributes
    ----------
    free : ndarray of int, shape (n,)
        The free degrees of freedom.

    Raises
    ------
    InputError
        If the space does not have these elements or this mesh, or every degree of freedom is prescribed.
    MissingExtraError
        If DOLFINx is not installed.
    """

    def __init__(self, space: Any, dirichlet_dofs: Any, *, coefficient: Any = 1.0) -> None:
        require_dolfinx()
        import ufl
        from dolfinx import fem

        element = space.ufl_element()
        if element.degree != 1 or element.discontinuous or element.block_size != 1:
            raise InputError("the space does not have continuous linear elements; give functionspace(mesh, ('P', 1)).")
        if space.mesh.comm.size > 1:
            raise InputError(
                f"the mesh is distributed over {space.mesh.comm.size} processes; create the mesh on MPI.COMM_SELF."
            )
        u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
        matrix = fem.assemble_matrix(fem.form(ufl.inner(coefficient * ufl.grad(u), ufl.grad(v)) * ufl.dx)).to_scipy()
        mass = fem.assemble_vector(fem.form(v * ufl.dx)).array
        self._count = len(mass)
        self.free = np.setdiff1d(np.arange(self._count), dirichlet_dofs)
        if len(self.free) == 0:
            raise InputError("all degrees of freedom are prescribed; leave some of them free, or refine the mesh.")
        super().__init__(matrix.tocsr()[self.free][:, self.free], mass[self.free])

    def values(self, u: Tensor) -> np.ndarray[Any, Any]:
        """Return the values of all degrees of freedom, given the free values u (n,); prescribed values are zero."""
        full = np.zeros(self._count)
        full[self.free] = torch.as_tensor(u).numpy()
        return full
