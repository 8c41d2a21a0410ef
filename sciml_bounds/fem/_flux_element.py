"""Raviart-Thomas elements in a basis of facet moments, cell divergences and divergence-free bubbles.

A flux of degree k is in RT_k: on each cell, its divergence is a polynomial of degree k, and on each facet, its normal
component is a polynomial of degree k. On the reference cell the basis has three groups:

- *facet* functions, one per facet and facet polynomial; their divergence is constant;
- *divergence* functions without normal component, one per polynomial of degree k except the constant;
- *bubbles* without normal component and divergence.

Fluxes are mapped by the contravariant Piola map with |det J|, which preserves outward fluxes; J is the Jacobian.

Axis letters: q quadrature point, j flux basis function, m polynomial of the divergence, f facet, d space axis.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciml_bounds.fem._dolfinx import require_dolfinx

__all__ = ["FluxElement", "facet_quadrature", "flux_element", "quadrature"]

Array = NDArray[np.float64]

#: Corners of a facet that span its parametrisation, in the order of basix, by the number of corners.
_SPANNING_CORNERS = {2: (1,), 3: (1, 2), 4: (1, 2)}
_FACET_NAMES = {
    "triangle": "interval",
    "quadrilateral": "interval",
    "tetrahedron": "triangle",
    "hexahedron": "quadrilateral",
}
#: Relative size below which a singular value counts as zero. The spectra of the matrices below have gaps of ten
#: decades.
_RANK_TOLERANCE = 1e-8


@dataclass(frozen=True)
class FluxElement:
    """The reference element RT_k of one cell type, as returned by `flux_element`.

    Attributes
    ----------
    cell : str
        Name of the cell type, as in basix.
    degree : int
        Degree k of divergence and normal components.
    facets : tuple of tuple of int
        Corners of each facet.
    volume : float
        Volume of the reference cell.
    facet_polynomials : int
        Number of polynomials of degree k on a facet.
    polynomials : int
        Number of polynomials of degree k on the cell.
    transformation : ndarray (dim, dim)
        Transformation of the basis: row j contains the coefficients of basis function j in the basis of basix.
    facet_count, divergence_count : int
        Number of basis functions in the first two groups.
    flux_factor : float
        Factor between the first moment on a facet and the flux through this facet.
    """

    cell: str
    degree: int
    facets: tuple[tuple[int, ...], ...]
    volume: float
    facet_polynomials: int
    polynomials: int
    transformation: Array
    facet_count: int
    divergence_count: int
    flux_factor: float

    @cached_property
    def _basix(self) -> Any:
        return _raviart_thomas(self.cell, self.degree)

    @property
    def dimension(self) -> int:
        """Number of space axes."""
        return int(self._basix.value_shape[0])

    def tabulate(self, points: Array) -> tuple[Array, Array]:
        """Return values (q, j, d) and divergences (q, j) of the basis at reference points (q, d)."""
        table = self._basix.tabulate(1, points)
        values = np.einsum("ji,qid->qjd", self.transformation, table[0])
        divergence = sum(table[1 + axis][:, :, axis] for axis in range(self.dimension))
        return values, divergence @ self.transformation.T

    def polynomial_values(self, points: Array) -> Array:
        """Return the orthonormal polynomials of degree k (m, q) at reference points (q, d); the first is constant."""
        return _polynomials(self.cell, self.degree, points)

    def facet_polynomial_values(self, points: Array) -> Array:
        """Return the orthonormal polynomials on a facet (j, q) at points (q, d - 1) of the reference facet."""
        return _polynomials(_FACET_NAMES[self.cell], self.degree, points)

    def facet_hats(self, points: Array) -> Array:
        """Return the hat functions of the corners of a facet (r, q), by the position r of the corner."""
        if len(self.facets[0]) < 4:
            return np.vstack([1 - points.sum(1), points.T])
        x, y = points.T
        return np.stack([(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y])

    def global_positions(self, corners: NDArray[np.int64], vertices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the positions of vertices (n,) among the corners (n, corners) in the global parametrisation."""
        rank = (corners < vertices[:, None]).sum(1)
        if corners.shape[1] < 4:
            return rank
        ranks = np.argsort(np.argsort(corners, axis=1), axis=1)
        own = (corners == vertices[:, None]).argmax(1)
        order = np.array([_quadrilateral_order(tuple(row)) for row in ranks])
        return np.asarray((order == own[:, None]).argmax(1))

    @cached_property
    def orientations(self) -> dict[tuple[int, ...], Array]:
        """Matrices from facet moments in the global parametrisation to moments in the parametrisation of a cell.

        A key lists the corners of the facet by their order of global numbers: entry i is the rank of corner i.
        """
        name = _FACET_NAMES[self.cell]
        count = len(self.facets[0])
        points, weights = quadrature(name, 2 * self.degree + 2)
        local = _polynomials(name, self.degree, points)
        return {
            rank: np.einsum(
                "q,iq,jq->ij", weights, local, _polynomials(name, self.degree, _global_points(points, rank))
            )
            for rank in itertools.permutations(range(count))
        }


def _global_points(points: Array, rank: tuple[int, ...]) -> Array:
    """Map points (q, d) in the parametrisation of a cell to the global one, in which corners are sorted by number.

    On quadrilaterals the global parametrisation starts at the corner with the lowest number, and its first axis points
    to the neighbour of this corner with the lower number.
    """
    if len(rank) < 4:
        weights = np.column_stack([1 - points.sum(1), points])  # barycentric coordinates of the corners
        ordered = weights[:, np.argsort(rank)]
        return np.ascontiguousarray(ordered[:, 1:])
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], dtype=float)
    origin, first, second, _ = _quadrilateral_order(rank)
    axes = np.stack([corners[first] - corners[origin], corners[second] - corners[origin]])
    return np.ascontiguousarray((points - corners[origin]) @ axes.T)


@cache
def _quadrilateral_order(rank: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return the corners of a quadrilateral in the order of the global parametrisation: origin, axes, opposite."""
    origin = int(np.argmin(rank))
    opposite = 3 - origin
    first, second = sorted(set(range(4)) - {origin, opposite}, key=lambda corner: rank[corner])
    return origin, first, second, opposite


@cache
def flux_element(cell: str, degree: int) -> FluxElement:
    """Return the reference element of RT_k, k = `degree`, on a basix cell type.

    Parameters
    ----------
    cell : {"triangle", "quadrilateral", "tetrahedron", "hexahedron"}
    degree : int
        Degree k >= 0.
    """
    require_dolfinx()
    import basix

    kind = basix.CellType[cell]
    facets = tuple(tuple(corners) for corners in basix.topology(kind)[-2])
    vertices = basix.geometry(kind)
    normals, scales = basix.cell.facet_outward_normals(kind), _facet_scales(vertices, facets)
    element = _raviart_thomas(cell, degree)

    # Moments of the outward normal component with the facet polynomials, in the parametrisation of the cell.
    points, weights = quadrature(_FACET_NAMES[cell], 2 * degree + 2)
    tests = _polynomials(_FACET_NAMES[cell], degree, points)
    rows = []
    for corners, normal, scale in zip(facets, normals, scales, strict=True):
        spanning = np.stack([vertices[corners[i]] - vertices[corners[0]] for i in _SPANNING_CORNERS[len(corners)]])
        values = element.tabulate(0, vertices[corners[0]] + points @ spanning)[0]
        rows.append(np.einsum("q,mq,qjd,d->mj", weights * scale, tests, values, normal))
    moments = np.concatenate(rows)

    # Moments of the divergence with the polynomials on the cell.
    points, weights = quadrature(cell, 2 * degree + 2)
    table = element.tabulate(1, points)
    divergence = sum(table[1 + axis][:, :, axis] for axis in range(len(vertices[0])))
    polynomials = _polynomials(cell, degree, points)
    divergences = np.einsum("q,mq,qj->mj", weights, polynomials, divergence)

    # Unit moments, with all other moments zero: the smallest coefficients with this property.
    constraints = np.concatenate([moments, divergences[1:]])
    inverse = np.linalg.pinv(constraints, rcond=_RANK_TOLERANCE)
    _, sizes, right = np.linalg.svd(constraints)
    bubbles = right[int((sizes > _RANK_TOLERANCE * sizes[0]).sum()) :]
    assert len(constraints) + len(bubbles) == element.dim, "the constraints of RT_k are independent"
    return FluxElement(
        cell=cell,
        degree=degree,
        facets=facets,
        volume=float(weights.sum()),
        facet_polynomials=len(tests),
        polynomials=len(polynomials),
        transformation=np.concatenate([inverse.T, bubbles]),
        facet_count=len(moments),
        divergence_count=len(polynomials) - 1,
        flux_factor=float(1 / tests[0, 0]),
    )


@cache
def _raviart_thomas(cell: str, degree: int) -> Any:
    import basix

    family, kind = basix.ElementFamily.RT, basix.CellType[cell]
    return basix.create_element(family, kind, degree + 1, lagrange_variant=basix.LagrangeVariant.legendre)


def facet_quadrature(element: FluxElement, degree: int) -> tuple[Array, Array]:
    """Return points (q, d - 1) and weights (q,) on the reference facet of an element."""
    return quadrature(_FACET_NAMES[element.cell], degree)


def quadrature(cell: str, degree: int) -> tuple[Array, Array]:
    """Return points (q, d) and weights (q,) that integrate polynomials of a degree exactly on a reference cell."""
    import basix

    points, weights = basix.make_quadrature(basix.CellType[cell], degree)
    return points, weights


def _polynomials(cell: str, degree: int, points: Array) -> Array:
    import basix

    values = basix.tabulate_polynomials(basix.PolynomialType.legendre, basix.CellType[cell], degree, points)
    return np.asarray(values)


def _facet_scales(vertices: Array, facets: tuple[tuple[int, ...], ...]) -> list[float]:
    """Return the ratio of the size of each reference facet to the size of its parametrisation."""
    scales = []
    for corners in facets:
        spanning = np.stack([vertices[corners[i]] - vertices[corners[0]] for i in _SPANNING_CORNERS[len(corners)]])
        scales.append(float(np.sqrt(np.linalg.det(spanning @ spanning.T))))
    return scales
