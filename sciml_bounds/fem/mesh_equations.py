"""Stiffness matrices of linear elements on a mesh of DOLFINx, for optimisation that an equation on it constrains."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml_bounds.control._constraint_equations import MatrixStiffness
from sciml_bounds.errors import InputError
from sciml_bounds.fem import require_dolfinx

__all__ = ["MeshStiffness"]


class MeshStiffness(MatrixStiffness):
    """-div(a grad u) with u = 0 on parts of the boundary, by linear elements with lumped masses, for free values.

    Parameters
    ----------
    space
        A `dolfinx.fem.FunctionSpace` of continuous linear elements with one component, on a mesh of one process.
    held
        Numbers of the values that are zero, as `dolfinx.fem.locate_dofs_topological` finds them.
    coefficient
        a, a number or an expression of UFL, positive.

    Attributes
    ----------
    free
        Numbers of the free values, shape (n,).

    Raises
    ------
    InputError
        If the space is another one, or nothing is free.
    MissingExtraError
        If DOLFINx is not installed.

    Notes
    -----
    Hand it to `sciml_bounds.control._distributed_control.TrackingProgram`.
    """

    def __init__(self, space: Any, held: Any, *, coefficient: Any = 1.0) -> None:
        require_dolfinx()
        import ufl
        from dolfinx import fem

        element = space.ufl_element()
        if element.degree != 1 or element.discontinuous or element.block_size != 1:
            raise InputError("the space is not one of continuous linear elements; give functionspace(mesh, ('P', 1)).")
        if space.mesh.comm.size > 1:
            raise InputError(f"the mesh is shared by {space.mesh.comm.size} processes; make it on MPI.COMM_SELF.")
        u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
        matrix = fem.assemble_matrix(fem.form(ufl.inner(coefficient * ufl.grad(u), ufl.grad(v)) * ufl.dx)).to_scipy()
        mass = fem.assemble_vector(fem.form(v * ufl.dx)).array
        self._count = len(mass)
        self.free = np.setdiff1d(np.arange(self._count), held)
        if len(self.free) == 0:
            raise InputError("all values are held; leave some of them free, or refine the mesh.")
        super().__init__(matrix.tocsr()[self.free][:, self.free], mass[self.free])

    def values(self, u: Tensor) -> np.ndarray[Any, Any]:
        """Put free values (n,) into the array of all values of the space, zero elsewhere."""
        found = np.zeros(self._count)
        found[self.free] = torch.as_tensor(u).numpy()
        return found
