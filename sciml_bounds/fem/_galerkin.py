"""Galerkin matrices of Lagrange elements on a mesh, as sums over cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from numpy.typing import NDArray

from sciml_bounds.fem._equilibrated_flux import MeshProblem
from sciml_bounds.fem._flux_element import facet_quadrature, flux_element, quadrature
from sciml_bounds.fem._mesh_arrays import CellField

__all__ = ["GalerkinSystem"]

Array = NDArray[np.float64]

#: Number of unknowns above which the system is solved by conjugate gradients with algebraic multigrid.
_MAX_FACTORISED = {2: 200_000, 3: 15_000}


class GalerkinSystem:
    """Matrix and load vector of a problem in the space of a field.

    Parameters
    ----------
    problem : MeshProblem
    u : CellField
        Continuous Lagrange function that defines the space and the Dirichlet values.
    prescribed : ndarray of int
        Degrees of freedom with prescribed values.
    """

    def __init__(self, problem: MeshProblem, u: CellField, prescribed: NDArray[np.int64]) -> None:
        self.problem, self.u, self.prescribed = problem, u, prescribed
        self.size = int(u.dofs.max()) + 1
        self.free = np.ones(self.size, dtype=bool)
        self.free[prescribed] = False
        if self.free.all() and not problem.reaction.any():
            self.free[0] = False  # the solution is determined up to a constant

    def _tables(self) -> tuple[Array, Array, Array, Array]:
        degree = 2 * self.u.degree + self.problem.source_degree
        points, weights = quadrature(self.problem.mesh.cell, degree)
        table = self.u.element.tabulate(1, points)[..., 0]
        return points, weights, table[0], table[1:]

    def load(self) -> Array:
        """Return the integrals of f w plus the boundary flux times w, for all basis functions w."""
        points, weights, values, _ = self._tables()
        mesh = self.problem.mesh
        cells = (self.problem.source_values(points) * weights) @ values * mesh.scale[:, None]
        load = np.bincount(self.u.dofs.ravel(), cells.ravel(), self.size)
        return load + self._boundary_load()

    def _boundary_load(self) -> Array:
        problem, mesh = self.problem, self.problem.mesh
        load = np.zeros(self.size)
        element = flux_element(mesh.cell, 1)
        active = np.flatnonzero(problem.flux)
        cells = mesh.facet_cells[active, 0]
        local = (mesh.cell_facets[cells] == active[:, None]).argmax(1)
        for number, points, weights in facet_points(element, self.u.degree):
            chosen = local == number
            values = self.u.element.tabulate(0, points)[0, :, :, 0]
            integrals = (weights / weights.sum()) @ values
            sizes = problem.flux[active[chosen]] * mesh.facet_measures[active[chosen]]
            np.add.at(load, self.u.dofs[cells[chosen]], sizes[:, None] * integrals)
        return load

    def apply(self, coefficients: Array) -> Array:
        """Return the product of the matrix and a vector, which is given by coefficients per cell (cells, n)."""
        return np.bincount(
            self.u.dofs.ravel(), np.einsum("cij,cj->ci", self._cell_matrices(), coefficients).ravel(), self.size
        )

    def diagonal(self) -> Array:
        """Return the diagonal of the matrix."""
        return np.bincount(self.u.dofs.ravel(), np.einsum("cii->ci", self._cell_matrices()).ravel(), self.size)

    def _cell_matrices(self) -> Array:
        _, weights, values, gradients = self._tables()
        mesh = self.problem.mesh
        inverse = mesh.inverse_jacobian
        metric = np.einsum("cij,cjk,clk,c->cil", inverse, self.problem.tensor, inverse, mesh.scale)
        stiffness = np.einsum("q,aqi,bqj->abij", weights, gradients, gradients, optimize=True)
        mass = np.einsum("q,qi,qj->ij", weights, values, values)
        reaction = self.problem.reaction * mesh.scale
        return np.asarray(np.einsum("cab,abij->cij", metric, stiffness, optimize=True) + reaction[:, None, None] * mass)

    def matrix(self) -> Any:
        """Return the matrix for all degrees of freedom in CSR format."""
        dofs = self.u.dofs
        rows = np.repeat(dofs[:, :, None], dofs.shape[1], 2).ravel()
        columns = np.repeat(dofs[:, None, :], dofs.shape[1], 1).ravel()
        return scipy.sparse.csr_matrix((self._cell_matrices().ravel(), (rows, columns)), (self.size, self.size))

    def solve(self) -> Array:
        """Return the Galerkin solution (n,) that has the prescribed values of the field."""
        matrix = self.matrix()
        full = np.zeros(self.size)
        full[self.u.dofs] = self.u.coefficients
        full[self.free] = 0.0
        right = (self.load() - matrix @ full)[self.free]
        inner = matrix[self.free][:, self.free].tocsr()
        full[self.free] = _solve_spd(inner, right, self.problem.mesh.jacobian.shape[-1])
        return full


def _solve_spd(matrix: Any, right: Array, dim: int) -> Array:
    if matrix.shape[0] <= _MAX_FACTORISED[dim]:
        return np.asarray(scipy.sparse.linalg.spsolve(matrix.tocsc(), right)).reshape(-1)
    import pyamg

    hierarchy = pyamg.smoothed_aggregation_solver(matrix)
    return np.asarray(hierarchy.solve(right, tol=1e-10, accel="cg", maxiter=200))


def facet_points(element: Any, degree: int) -> list[tuple[int, Array, Array]]:
    """Return (facet, points in the reference cell, weights) for quadrature on each facet of the reference cell."""
    import basix

    vertices = basix.geometry(basix.CellType[element.cell])
    points, weights = facet_quadrature(element, degree)
    found = []
    for number, corners in enumerate(element.facets):
        spanning = np.stack([vertices[corners[1 + i]] - vertices[corners[0]] for i in range(points.shape[1])])
        found.append((number, vertices[corners[0]] + points @ spanning, weights))
    return found
