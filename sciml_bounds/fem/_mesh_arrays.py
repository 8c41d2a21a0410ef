"""Geometry and connectivity of a DOLFINx mesh as arrays, and finite-element functions on the mesh."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciml_bounds.errors import InputError
from sciml_bounds.fem._flux_element import FluxElement, flux_element

__all__ = ["CellField", "MeshArrays"]

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

#: Corners that, with the first corner, span a cell, in the order of basix.
_SPANNING_CORNERS = {"triangle": (1, 2), "quadrilateral": (1, 2), "tetrahedron": (1, 2, 3), "hexahedron": (1, 2, 4)}
#: Largest distance of a corner from the affine image of the reference cell, relative to the diameter, by round-off.
_AFFINE_TOLERANCE = 1e-10


class MeshArrays:
    """Arrays of a mesh of affine cells on one process.

    Parameters
    ----------
    mesh : dolfinx.mesh.Mesh
        Triangles, quadrilaterals, tetrahedra or hexahedra.

    Attributes
    ----------
    cell : str
        Cell type.
    cell_vertices : ndarray of int (cells, corners)
    corners : ndarray (cells, corners, d)
        Coordinates of the corners.
    jacobian : ndarray (cells, d, d)
        Column i is the image of unit vector i of the reference cell.
    scale : ndarray (cells,)
        Absolute value of the Jacobian determinant, |det J|.
    cell_facets : ndarray of int (cells, facets per cell)
    facet_cells : ndarray of int (facets, 2)
        The cells on both sides of a facet; -1 outside of the mesh.
    facet_signs : ndarray (cells, facets per cell)
        1 if the normal of the facet points out of the cell, else -1.
    boundary_facets : ndarray of int

    Raises
    ------
    InputError
        If the cells are not affine, the mesh is a surface, or it is distributed over several processes.
    """

    def __init__(self, mesh: Any) -> None:
        topology = mesh.topology
        dim = topology.dim
        if mesh.comm.size > 1:
            raise InputError(
                f"the mesh is distributed over {mesh.comm.size} processes; create the mesh on MPI.COMM_SELF."
            )
        self.cell = str(topology.cell_type.name)
        if self.cell not in _SPANNING_CORNERS:
            raise InputError(
                f"no bound is known for cells of type {self.cell}; use triangles, quadrilaterals, tetrahedra or "
                "hexahedra."
            )
        if mesh.geometry.dim != dim:
            raise InputError(
                f"the mesh is a surface: cells of dimension {dim} in {mesh.geometry.dim} dimensions; give a flat mesh."
            )
        geometry = mesh.geometry.cmaps[0] if hasattr(mesh.geometry, "cmaps") else mesh.geometry.cmap
        if geometry.degree != 1:
            raise InputError(
                "the mesh has curved cells, but bounds need straight cells; create the mesh with a geometry of degree "
                "1."
            )
        self.mesh = mesh
        for pair in ((dim, dim - 1), (dim - 1, dim), (dim, 0)):
            topology.create_connectivity(*pair)
        self.cell_vertices = _regular(topology.connectivity(dim, 0))
        self.cell_facets = _regular(topology.connectivity(dim, dim - 1))
        nodes = mesh.geometry.dofmaps[0] if hasattr(mesh.geometry, "dofmaps") else mesh.geometry.dofmap
        self.corners = mesh.geometry.x[nodes][..., :dim].astype(float)
        spanning = self.corners[:, _SPANNING_CORNERS[self.cell], :] - self.corners[:, :1]
        self.jacobian = np.ascontiguousarray(spanning.transpose(0, 2, 1))
        self.scale = np.abs(np.linalg.det(self.jacobian))
        self._require_affine()
        self._connect_facets()

    def _require_affine(self) -> None:
        import basix

        reference = basix.geometry(basix.CellType[self.cell])
        images = self.corners[:, :1] + np.einsum("cij,vj->cvi", self.jacobian, reference)
        gap = np.abs(images - self.corners).max((1, 2)) / self.diameters
        if gap.max() > _AFFINE_TOLERANCE:
            raise InputError(
                f"cell {int(gap.argmax())} is not a parallelogram or parallelepiped, but bounds need affine cells; use "
                "triangles or tetrahedra."
            )
        if not (self.scale > 0).all():
            raise InputError(f"cell {int(self.scale.argmin())} has zero volume; repair the mesh.")

    def _connect_facets(self) -> None:
        count = int(self.cell_facets.max()) + 1
        cells = np.repeat(np.arange(len(self.cell_facets)), self.cell_facets.shape[1])
        facets = self.cell_facets.ravel()
        order = np.argsort(facets, kind="stable")
        first = np.searchsorted(facets[order], np.arange(count))
        multiplicity = np.bincount(facets, minlength=count)
        self.facet_cells = np.full((count, 2), -1)
        self.facet_cells[:, 0] = cells[order][first]
        inner = multiplicity == 2
        self.facet_cells[inner, 1] = cells[order][first[inner] + 1]
        self.boundary_facets = np.flatnonzero(~inner)
        owner = self.facet_cells[self.cell_facets, 0]
        self.facet_signs = np.where(owner == np.arange(len(self.cell_facets))[:, None], 1.0, -1.0)

    @cached_property
    def diameters(self) -> Array:
        """Diameters of the cells (cells,)."""
        differences = self.corners[:, :, None] - self.corners[:, None]
        return np.asarray(np.linalg.norm(differences, axis=-1).max((1, 2)))

    @cached_property
    def volumes(self) -> Array:
        """Volumes of the cells (cells,)."""
        return np.asarray(self.scale * flux_element(self.cell, 1).volume)

    @cached_property
    def facet_measures(self) -> Array:
        """Lengths or areas of the facets (facets,)."""
        element = flux_element(self.cell, 1)
        cells = self.facet_cells[:, 0]
        local = (self.cell_facets[cells] == np.arange(len(cells))[:, None]).argmax(1)
        points = self.corners[cells[:, None], np.array(element.facets)[local]]
        spanning = points[:, 1 : self.jacobian.shape[-1]] - points[:, :1]
        area = np.sqrt(np.linalg.det(spanning @ spanning.transpose(0, 2, 1)))
        return np.asarray(area / (2 if self.cell == "tetrahedron" else 1))

    def gram(self, tensor: Array) -> Array:
        """Return J^T B J / |det J| per cell for a matrix B per cell (cells, d, d), with which fluxes are multiplied."""
        return np.asarray(
            np.einsum("cki,ckl,clj->cij", self.jacobian, tensor, self.jacobian) / self.scale[:, None, None]
        )

    @cached_property
    def inverse_jacobian(self) -> Array:
        """Inverses of the Jacobians (cells, d, d)."""
        return np.linalg.inv(self.jacobian)

    def facet_transformations(self, element: FluxElement, cells: Indices, local: Indices) -> Array:
        """Return the matrices from global to local moments, without the sign, of the facets `local` of `cells`.

        Parameters
        ----------
        cells, local : ndarray of int (...)
            Cells, and positions of the facets in them.

        Returns
        -------
        ndarray (..., n, n)
            The matrices; n is the number of polynomials on a facet.
        """
        table = np.stack(list(element.orientations.values()))
        return np.asarray(table[self._orientation_numbers(element)[cells, local]])

    def _orientation_numbers(self, element: FluxElement) -> Indices:
        """Return the positions of the orientations of all facets (cells, facets) in `element.orientations`."""
        if not hasattr(self, "_orientations"):
            corners = np.array(element.facets)
            vertices = self.cell_vertices[:, corners]
            ranks = np.argsort(np.argsort(vertices, axis=-1), axis=-1)
            keys = list(element.orientations)
            base = corners.shape[1] ** np.arange(corners.shape[1])
            codes = np.array([np.dot(key, base) for key in keys])
            position = np.full(codes.max() + 1, -1)
            position[codes] = np.arange(len(keys))
            self._orientations = position[ranks @ base]
        return np.asarray(self._orientations)


class CellField:
    """Scalar finite-element function, given by coefficients per cell.

    Parameters
    ----------
    function : dolfinx.fem.Function
    name : str
        Name of the function for error messages.
    """

    def __init__(self, function: Any, name: str) -> None:
        space = function.function_space
        element = space.element
        if tuple(element.value_shape) != () or space.dofmap.bs != 1:
            raise InputError(f"{name} is not a scalar function; give one of its components, {name}.sub(i).collapse().")
        basix = element.basix_element
        if element.needs_dof_transformations or basix.family.name != "P":
            raise InputError(
                f"{name} is not in a Lagrange or discontinuous Lagrange space; interpolate it into such a space."
            )
        if np.iscomplexobj(function.x.array):
            raise InputError(f"{name} has complex values; give the real part.")
        if not np.isfinite(function.x.array).all():
            raise InputError(f"{name} has values that are NaN or infinite; solve again, or set these values.")
        self.function = function
        self.dofs = np.asarray(space.dofmap.list)
        self.element = basix
        self.coefficients = function.x.array.astype(float)[self.dofs]

    def replace(self, values: Array) -> CellField:
        """Return the field with other values at the degrees of freedom (n,)."""
        other = copy.copy(self)
        other.coefficients = values[self.dofs]
        return other

    @property
    def degree(self) -> int:
        """Polynomial degree; on quadrilaterals and hexahedra, the degree in each variable."""
        return int(self.element.degree)

    def values(self, points: Array) -> Array:
        """Return the values (cells, q) at reference points (q, d)."""
        return np.asarray(self.coefficients @ self.element.tabulate(0, points)[0, :, :, 0].T)

    def reference_gradients(self, points: Array) -> Array:
        """Return the gradients (cells, q, d) in reference coordinates."""
        table = self.element.tabulate(1, points)[1:, :, :, 0]
        return np.asarray(np.einsum("cn,dqn->cqd", self.coefficients, table))


def _regular(connectivity: Any) -> Indices:
    """Return the connectivity of a mesh with one cell type as a matrix of int."""
    offsets = connectivity.offsets
    return np.asarray(connectivity.array).reshape(len(offsets) - 1, -1).astype(np.int64)
