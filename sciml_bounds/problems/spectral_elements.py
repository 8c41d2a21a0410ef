"""Lagrange elements of any degree on a rectangular grid with variable spacing, with a direct solver.

Index letters: x, y for cells; q, r for Gauss points of a cell; i, j (test) and k, l (trial) for nodes of a cell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from numpy.polynomial import legendre
from numpy.typing import NDArray

from sciml_bounds.errors import ConvergenceError

__all__ = ["SpectralElements"]

_Floats = NDArray[np.float64]
_Integers = NDArray[np.intp]

#: Relative residual, after iterative refinement, above which the matrix counts as singular (at a resonance).
_MAX_RELATIVE_RESIDUAL = 1e-9


@dataclass(frozen=True, eq=False)
class SpectralElements:
    """Continuous functions that are polynomials of a given degree along each axis of every cell.

    Attributes
    ----------
    lines : (array, array)
        Increasing coordinates of the grid lines along x and y.
    degree : int
        Degree of the polynomials; 1 gives bilinear elements. The nodes of a cell are Gauss-Lobatto points, and
        integrals use degree + 2 Gauss points along each axis.
    """

    lines: tuple[_Floats, _Floats]
    degree: int

    @property
    def shape(self) -> tuple[int, int]:
        """Number of nodes along each axis."""
        return (len(self.lines[0]) - 1) * self.degree + 1, (len(self.lines[1]) - 1) * self.degree + 1

    @cached_property
    def gauss_points(self) -> tuple[_Floats, _Floats]:
        """Coordinates of the Gauss points along each axis, ordered by cell."""
        rule, _ = _gauss(self.degree)
        return self._on_cells(0, rule), self._on_cells(1, rule)

    def _on_cells(self, axis: int, points: _Floats) -> _Floats:
        lines = self.lines[axis]
        return (lines[:-1, None] + np.diff(lines)[:, None] * (points + 1) / 2).ravel()

    def interpolation(self, axis: int, points: _Floats) -> scipy.sparse.csr_array:
        """Return the matrix (points, nodes) that evaluates a function at points along one axis."""
        return _interpolation(self.lines[axis], self.degree, points)

    def matrix_of_cells(self, reaction: _Floats) -> _Floats:
        """Return the element matrices of the bilinear form grad u . grad v + c u v.

        Parameters
        ----------
        reaction : array (Gauss points along x, Gauss points along y)
            Reaction c at the Gauss points.

        Returns
        -------
        array (cells, nodes of a cell, nodes of a cell)
            Element matrices. Cells and nodes are numbered in row-major order, x first.
        """
        rule, weights = _gauss(self.degree)
        values, slopes = _basis(self.degree, rule)
        stiffness, mass = slopes.T @ (weights[:, None] * slopes), values.T @ (weights[:, None] * values)
        hx, hy = np.diff(self.lines[0])[:, None], np.diff(self.lines[1])
        q, n = len(rule), self.degree + 1
        scaled = reaction.reshape(len(hx), q, len(hy), q).transpose(0, 2, 1, 3) * (weights[:, None] * weights)
        scaled *= (hx * hy / 4)[:, :, None, None]
        pairs = (values[:, :, None] * values[:, None, :]).reshape(q, n * n)
        total = (pairs.T @ scaled @ pairs).reshape(len(hx), len(hy), n, n, n, n)  # x, y, i, k, j, l
        total += (hy / hx)[:, :, None, None, None, None] * (stiffness[:, :, None, None] * mass)
        total += (hx / hy)[:, :, None, None, None, None] * (mass[:, :, None, None] * stiffness)
        return total.transpose(0, 1, 2, 4, 3, 5).reshape(-1, n * n, n * n)

    def load_of_side(self, axis: int, end: int, data: Callable[[_Floats], _Floats], low: float, high: float) -> _Floats:
        """Integrate side data times basis functions over the segment [low, high], whose ends need not be grid lines."""
        along = 1 - axis
        lines = self.lines[along]
        rule, weights = _gauss(self.degree)
        left, right = np.clip(lines[:-1], low, high), np.clip(lines[1:], low, high)
        points = ((left + right)[:, None] + (right - left)[:, None] * rule).ravel() / 2
        masses = ((right - left)[:, None] / 2 * weights).ravel() * data(points)
        load = np.zeros(self.shape)
        edge = np.moveaxis(load, axis, 0)[-end]
        edge += self.interpolation(along, points).T @ masses
        return load

    def solve(self, matrix_of_cells: _Floats, load: _Floats) -> tuple[_Floats, float]:
        """Solve for the nodal values by static condensation and a sparse factorisation.

        Parameters
        ----------
        matrix_of_cells : array (cells, nodes of a cell, nodes of a cell)
            Element matrices.
        load : array (nodes along x, nodes along y)
            Right-hand side; it must be zero at nodes inside cells.

        Returns
        -------
        (array, float)
            Nodal values, and the largest residual of the condensed system relative to the largest load.

        Raises
        ------
        ConvergenceError
            If the matrix is singular to working precision.
        """
        layout = _layout(len(self.lines[0]) - 1, len(self.lines[1]) - 1, self.degree)
        inside, border = layout.inside, layout.border
        to_border = matrix_of_cells[:, inside][:, :, border]
        eliminated = np.linalg.solve(matrix_of_cells[:, inside][:, :, inside], to_border)
        condensed = matrix_of_cells[:, border][:, :, border] - to_border.transpose(0, 2, 1) @ eliminated
        on_border, residual = _solve_symmetric(layout.assemble(condensed), load.ravel()[layout.skeleton])
        values = np.zeros(load.size)
        values[layout.skeleton] = on_border
        known = values[layout.nodes[:, border]][:, :, None]
        values[layout.nodes[:, inside]] = -(eliminated @ known)[:, :, 0]
        return values.reshape(self.shape), residual


@dataclass(frozen=True, eq=False)
class _Layout:
    """Node numbers of the cells, and the sparsity pattern of the matrix of nodes on cell borders."""

    nodes: _Integers  # (cells, nodes of a cell): number in the mesh
    inside: _Integers  # local numbers of the nodes inside a cell
    border: _Integers  # local numbers of the nodes on the border of a cell
    skeleton: _Integers  # nodes of the mesh on borders
    columns: _Integers  # the sparsity pattern, by columns
    rows: _Integers
    places: _Integers  # position in the pattern of each entry of each cell

    def assemble(self, condensed: _Floats) -> scipy.sparse.csc_array:
        entries = np.bincount(self.places, weights=condensed.ravel(), minlength=len(self.rows))
        size = len(self.skeleton)
        return scipy.sparse.csc_array((entries, self.rows, self.columns), shape=(size, size))


@lru_cache(maxsize=8)
def _layout(nx: int, ny: int, degree: int) -> _Layout:
    n = degree + 1
    first = np.arange(nx)[:, None] * degree + np.arange(n), np.arange(ny)[:, None] * degree + np.arange(n)
    nodes = (first[0][:, None, :, None] * (ny * degree + 1) + first[1][None, :, None, :]).reshape(nx * ny, n * n)
    local = np.arange(n * n).reshape(n, n)
    inside = local[1:-1, 1:-1].ravel()
    border = np.setdiff1d(local, inside)
    skeleton, numbers = np.unique(nodes[:, border], return_inverse=True)
    numbers = numbers.reshape(nx * ny, len(border))
    size = len(skeleton)
    flat = (numbers[:, None, :] * size + numbers[:, :, None]).ravel()  # column-major
    entries, places = np.unique(flat, return_inverse=True)
    columns = np.searchsorted(entries, np.arange(size + 1) * size)
    return _Layout(nodes, inside, border, skeleton, columns, entries % size, places)


def _solve_symmetric(matrix: scipy.sparse.csc_array, load: _Floats) -> tuple[_Floats, float]:
    """Solve by a factorisation with nearly diagonal pivoting, which limits fill-in, and two steps of refinement."""
    try:
        options: dict[str, Any] = {"SymmetricMode": True}
        factors = scipy.sparse.linalg.splu(matrix, "MMD_AT_PLUS_A", diag_pivot_thresh=1e-3, options=options)
    except RuntimeError as error:  # "Factor is exactly singular"
        raise ConvergenceError(_resonance(str(error))) from None
    solution = factors.solve(load)
    for _ in range(2):
        solution = solution + factors.solve(load - matrix @ solution)
    largest = float(np.abs(load).max())
    residual = float(np.abs(load - matrix @ solution).max()) / largest if largest > 0 else 0.0
    if not residual <= _MAX_RELATIVE_RESIDUAL:
        raise ConvergenceError(_resonance(f"a residual of {residual:.1e} remains"))
    return solution, residual


def _resonance(reason: str) -> str:
    return (
        f"the discrete equation is singular to working precision ({reason}), since the frequency is near a resonance; "
        "change the frequency or the mesh."
    )


# --- one axis ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=32)
def _lobatto(degree: int) -> _Floats:
    """Return the Gauss-Lobatto points: -1, 1 and the roots of the derivative of the Legendre polynomial."""
    inner = legendre.legroots(legendre.legder([0.0] * degree + [1.0])) if degree > 1 else np.empty(0)
    return np.concatenate([[-1.0], np.sort(inner.real), [1.0]])


@lru_cache(maxsize=32)
def _gauss(degree: int) -> tuple[_Floats, _Floats]:
    points, weights = legendre.leggauss(degree + 2)
    return points, weights


def _basis(degree: int, points: _Floats) -> tuple[_Floats, _Floats]:
    """Return values and derivatives (points, nodes) of the Lagrange polynomials on the reference cell (-1, 1).

    The polynomials are computed from Legendre polynomials, since this change of basis is well conditioned at any
    degree.
    """
    to_lagrange = np.linalg.inv(legendre.legvander(_lobatto(degree), degree))
    slopes = [legendre.legval(points, legendre.legder(row)) for row in np.eye(degree + 1)]
    return legendre.legvander(points, degree) @ to_lagrange, np.stack(slopes, axis=1) @ to_lagrange


def _interpolation(lines: _Floats, degree: int, points: _Floats) -> scipy.sparse.csr_array:
    cell = np.clip(np.searchsorted(lines, points, side="right") - 1, 0, len(lines) - 2)
    local = 2 * (points - lines[cell]) / np.diff(lines)[cell] - 1
    values, _ = _basis(degree, local)
    columns = cell[:, None] * degree + np.arange(degree + 1)
    starts = np.arange(len(points) + 1) * (degree + 1)
    shape = (len(points), (len(lines) - 1) * degree + 1)
    return scipy.sparse.csr_array((values.ravel(), columns.ravel(), starts), shape=shape)
