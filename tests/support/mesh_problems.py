"""Random meshes, and problems on them with known solutions."""

from __future__ import annotations

from typing import Any

import basix.ufl
import numpy as np
from dolfinx import fem, mesh
from mpi4py import MPI
from scipy.spatial import Delaunay

from sciml_bounds.fem._flux_element import quadrature
from sciml_bounds.fem._mesh_arrays import CellField, MeshArrays

CELLS = ("triangle", "quadrilateral", "tetrahedron", "hexahedron")
DIMENSION = {"triangle": 2, "quadrilateral": 2, "tetrahedron": 3, "hexahedron": 3}


def unit_box(cell: str, n: tuple[int, ...]) -> mesh.Mesh:
    """Return a regular mesh of the unit square or cube."""
    dim = DIMENSION[cell]
    make = {2: mesh.create_rectangle, 3: mesh.create_box}[dim]
    return make(MPI.COMM_SELF, [np.zeros(dim), np.ones(dim)], n[:dim], mesh.CellType[cell])


def random_mesh(rng: np.random.Generator, cell: str) -> mesh.Mesh:
    """Return an irregular mesh of the unit square or cube; a third of the simplicial ones have thin cells."""
    dim = DIMENSION[cell]
    if cell in ("quadrilateral", "hexahedron"):
        return unit_box(cell, tuple(int(rng.integers(1, 5 if dim == 2 else 3)) for _ in range(dim)))
    n = int(rng.integers(2, 6 if dim == 2 else 4))
    points = np.stack(np.meshgrid(*[np.linspace(0, 1, n + 1)] * dim, indexing="ij"), -1).reshape(-1, dim)
    moves = rng.uniform(-0.45, 0.45, points.shape) / n * rng.choice([0.1, 0.5, 1.0])
    moves[(points == 0) | (points == 1)] = 0.0
    points = points + moves
    if rng.random() < 1 / 3:
        points[:, 0] **= rng.integers(2, 4)
    cells = Delaunay(points).simplices
    volumes = np.abs(np.linalg.det(points[cells[:, 1:]] - points[cells[:, :1]]))
    element = basix.ufl.element("Lagrange", cell, 1, shape=(dim,))
    return mesh.create_mesh(MPI.COMM_SELF, cells[volumes > 1e-9].astype(np.int64), element, points)


def zero_on_boundary(space: Any) -> Any:
    """Return the condition u = 0 on the whole boundary."""
    domain = space.mesh
    facets = boundary_facets(domain)
    return fem.dirichletbc(0.0, fem.locate_dofs_topological(space, domain.topology.dim - 1, facets), space)


def boundary_facets(domain: mesh.Mesh) -> np.ndarray:
    domain.topology.create_connectivity(domain.topology.dim - 1, domain.topology.dim)
    return mesh.exterior_facet_indices(domain.topology)


def as_function(field: CellField, space: Any) -> Any:
    """Return a field as a DOLFINx function in its space."""
    function = fem.Function(space)
    function.x.array[field.dofs] = field.coefficients
    return function


class BubblePolynomial:
    """u = p + B q on the unit square or cube, with B the product of all x_i (1 - x_i), and p and q random and linear.

    The constant coefficient a is a matrix, the reaction has one value per cell, and f = -div(a grad u) + c u.
    """

    def __init__(self, rng: np.random.Generator, domain: mesh.Mesh) -> None:
        self.domain, self.arrays = domain, MeshArrays(domain)
        dim = self.dim = domain.topology.dim
        self.p, self.q = rng.standard_normal((2, dim + 1)) * [[rng.choice([0.0, 1.0])], [1.0]]
        root = rng.standard_normal((dim, dim)) * rng.choice([0.0, 1.0])
        self.a = (root @ root.T + 10.0 ** rng.uniform(-2, 1) * np.eye(dim)) * 10.0 ** rng.uniform(-4, 4)
        cells = len(self.arrays.corners)
        size = rng.choice([0.0, 1.0]) * 10.0 ** rng.uniform(-3, 3) * self.a.max()
        self.c = size * rng.random(cells) * (rng.random(cells) < rng.choice([0.3, 1.0]))

    def boundary_values(self, x: np.ndarray) -> np.ndarray:
        return self.p[0] + sum(self.p[1 + i] * x[i] for i in range(self.dim))

    def _bubble(self, x: np.ndarray, orders: dict[int, int]) -> np.ndarray:
        """Return B, differentiated `orders[i]` times with respect to x_i."""
        tables = {0: lambda t: t * (1 - t), 1: lambda t: 1 - 2 * t, 2: lambda t: -2.0 + 0 * t}
        return np.prod([tables[orders.get(i, 0)](x[i]) for i in range(self.dim)], axis=0)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        linear = self.q[0] + sum(self.q[1 + i] * x[i] for i in range(self.dim))
        return self.boundary_values(x) + self._bubble(x, {}) * linear

    def gradient(self, x: np.ndarray) -> np.ndarray:
        linear = self.q[0] + sum(self.q[1 + i] * x[i] for i in range(self.dim))
        bubble = self._bubble(x, {})
        return np.stack(
            [self.p[1 + i] + self._bubble(x, {i: 1}) * linear + bubble * self.q[1 + i] for i in range(self.dim)]
        )

    def _divergence(self, x: np.ndarray) -> np.ndarray:
        linear = self.q[0] + sum(self.q[1 + i] * x[i] for i in range(self.dim))
        total = 0.0
        for i in range(self.dim):
            for j in range(self.dim):
                second = self._bubble(x, {i: 2} if i == j else {i: 1, j: 1}) * linear
                first = self._bubble(x, {i: 1}) * self.q[1 + j] + self._bubble(x, {j: 1}) * self.q[1 + i]
                total = total + self.a[i, j] * (second + first)
        return total

    def source(self) -> Any:
        space = fem.functionspace(self.domain, ("DG", 2 * self.dim + 1))
        f, u = fem.Function(space), fem.Function(space)
        f.interpolate(lambda x: -self._divergence(x))
        u.interpolate(self)
        dofs = space.dofmap.list
        f.x.array[dofs] += self.c[:, None] * u.x.array[dofs]
        return f

    def data(self, space: Any) -> dict[str, Any]:
        """Return the arguments of `certify` but the function."""
        values = fem.Function(space)
        values.interpolate(self.boundary_values)
        dim = self.domain.topology.dim
        dofs = fem.locate_dofs_topological(space, dim - 1, boundary_facets(self.domain))
        a = np.broadcast_to(self.a, (len(self.c), dim, dim))
        return {"a": a, "f": self.source(), "c": self.c, "bcs": [fem.dirichletbc(values, dofs)]}

    def energy_error(self, v: Any) -> float:
        """Return |||u - v|||, by quadrature that is exact for these polynomials."""
        field, arrays = CellField(v, "v"), self.arrays
        points, weights = quadrature(arrays.cell, 2 * (2 * self.dim + 1))
        x = np.moveaxis(arrays.corners[:, :1] + np.einsum("cij,qj->cqi", arrays.jacobian, points), -1, 0)
        slope = np.einsum("cqd,cde->ecq", field.reference_gradients(points), arrays.inverse_jacobian) - self.gradient(x)
        measure = arrays.scale[:, None] * weights
        square = np.einsum("dcq,de,ecq,cq->", slope, self.a, slope, measure)
        square += (self.c[:, None] * (field.values(points) - self(x)) ** 2 * measure).sum()
        return float(np.sqrt(square))
