"""Values of DOLFINx functions at the nodes of a grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml_bounds.errors import InputError
from sciml_bounds.fem._dolfinx import require_dolfinx
from sciml_bounds.grid import Grid

__all__ = ["nodal_values"]

#: Padding of the bounding boxes of cells, relative to the box of the grid, so that nodes on the boundary are found.
BOX_PADDING = 1e-10


def nodal_values(function: Any, grid: Grid) -> Tensor:
    """Evaluate a DOLFINx function at the nodes of a grid.

    A certificate of these values bounds the error of their multilinear interpolant. Between the nodes, this interpolant
    differs from the finite-element function.

    Parameters
    ----------
    function : dolfinx.fem.Function
        A real scalar function on a mesh of one process that covers the box of the grid.
    grid : Grid
        Grid with the same dimension as the mesh.

    Returns
    -------
    Tensor, shape (nodes)
        Nodal values in float64. At a node where the function is discontinuous, the value comes from one of the cells.

    Raises
    ------
    InputError
        If the function is not real and scalar, or its mesh has another dimension, is distributed, or does not cover a
        node.
    MissingExtraError
        If DOLFINx is not installed.

    Examples
    --------
    With `uh` from DOLFINx on the unit square: `sb.certify(problem, sb.fem.nodal_values(uh, problem.grid))`.
    """
    require_dolfinx()
    from dolfinx import geometry

    mesh = _mesh_of(function, grid)
    points = np.zeros((np.prod([n + 1 for n in grid.shape]), 3))
    axes = np.meshgrid(*(grid.nodes(axis).numpy() for axis in range(grid.dim)), indexing="ij")
    points[:, : grid.dim] = np.stack([axis.ravel() for axis in axes], axis=-1)
    tree = geometry.bb_tree(mesh, mesh.topology.dim, padding=BOX_PADDING * max(grid.lengths))
    colliding = geometry.compute_colliding_cells(mesh, geometry.compute_collisions_points(tree, points), points)
    found = np.diff(colliding.offsets) > 0
    if not found.all():
        place = tuple(points[~found][0, : grid.dim].tolist())
        raise InputError(
            f"the mesh of the function does not contain the node {place} of the grid; choose a grid inside the mesh."
        )
    cells = colliding.array[colliding.offsets[:-1]]
    values = np.asarray(function.eval(points, cells)).reshape(len(points), -1)
    return torch.from_numpy(values[:, 0].astype(np.float64).reshape([n + 1 for n in grid.shape]))


def _mesh_of(function: Any, grid: Grid) -> Any:
    """Return the mesh of a function, after checking that it can be evaluated on the grid."""
    from dolfinx import fem

    if not isinstance(function, fem.Function):
        raise InputError(f"function is of type {type(function).__name__}; give a dolfinx.fem.Function.")
    mesh = function.function_space.mesh
    if function.ufl_shape != () or np.iscomplexobj(function.x.array):
        raise InputError(
            f"the function has the shape {function.ufl_shape}; give a real scalar function or a component."
        )
    if mesh.geometry.dim != grid.dim or mesh.topology.dim != grid.dim:
        raise InputError(
            f"the mesh has dimension {mesh.geometry.dim}, but the grid has dimension {grid.dim}; give a grid of "
            f"dimension {mesh.geometry.dim}."
        )
    if mesh.comm.size > 1:
        raise InputError(f"the mesh is distributed over {mesh.comm.size} processes; create the mesh on MPI.COMM_SELF.")
    return mesh
