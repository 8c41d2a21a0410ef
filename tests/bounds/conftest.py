"""Oracles for the bounds, written without the package's kernels: Gauss quadrature, and exact solutions on a line."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

import sciml_bounds as sb


class Gauss:
    """Integrals over the fluid cells of a problem without batch, by Gauss points on every cell.

    Fields at the points have shape (n_x q, n_y q, ...). With q points polynomials of degree 2 q - 1 along each axis are
    integrated exactly, so q = 3 is exact for squares of multilinear functions and of their gradients.
    """

    def __init__(self, problem: sb.Diffusion, points: int = 3) -> None:
        self.problem, self.q, self.dim = problem, points, problem.grid.dim
        reference, weights = np.polynomial.legendre.leggauss(points)
        self.local, self.weight = (reference + 1) / 2, weights / 2  # on [0, 1]
        self.hats = [self._hats(n) for n in problem.grid.shape]
        self.slopes = [self._slopes(n) / h for n, h in zip(problem.grid.shape, problem.grid.spacing)]
        self.points = [
            origin + h * (np.arange(n)[:, None] + self.local).reshape(-1)
            for n, h, origin in zip(problem.grid.shape, problem.grid.spacing, problem.grid.origin)
        ]
        fluid = np.ones(problem.grid.shape) if problem.solid is None else 1.0 - problem.solid.numpy()
        self.weights = self.cells(fluid)
        for axis, (n, h) in enumerate(zip(problem.grid.shape, problem.grid.spacing)):
            self.weights = self.weights * self._along(np.tile(self.weight * h, n), axis)
        self.a = [self.cells(a) for a in problem.coefficient]
        self.c, self.f = self.cells(problem.reaction), self.cells(problem.source)

    def _hats(self, n: int) -> np.ndarray:
        """Values of the n + 1 hat functions at the points of a line of n cells."""
        matrix = np.zeros((n, self.q, n + 1))
        for cell in range(n):
            matrix[cell, :, cell], matrix[cell, :, cell + 1] = 1 - self.local, self.local
        return matrix.reshape(n * self.q, n + 1)

    def _slopes(self, n: int) -> np.ndarray:
        matrix = np.zeros((n, self.q, n + 1))
        for cell in range(n):
            matrix[cell, :, cell], matrix[cell, :, cell + 1] = -1.0, 1.0
        return matrix.reshape(n * self.q, n + 1)

    def _along(self, line: np.ndarray, axis: int) -> np.ndarray:
        return line.reshape([-1 if k == axis else 1 for k in range(self.dim)])

    def cells(self, field) -> np.ndarray:
        """A cell field at the points."""
        field = _array(field)
        for axis in range(self.dim):
            field = np.repeat(field, self.q, axis)
        return field

    def _all_nodes(self, nodes) -> np.ndarray:
        nodes = _array(nodes)
        for axis, n in enumerate(self.problem.grid.shape):
            if nodes.shape[axis] == n:  # periodic
                nodes = np.concatenate([nodes, nodes.take([0], axis)], axis)
        return nodes

    def value(self, nodes) -> np.ndarray:
        """A multilinear function at the points, from its nodal values."""
        field = self._all_nodes(nodes)
        for axis in range(self.dim):
            field = np.moveaxis(np.tensordot(self.hats[axis], field, (1, axis)), 0, axis)
        return field

    def gradient(self, nodes) -> list[np.ndarray]:
        """The gradient of a multilinear function at the points."""
        parts = []
        for direction in range(self.dim):
            field = self._all_nodes(nodes)
            for axis in range(self.dim):
                matrix = self.slopes[axis] if axis == direction else self.hats[axis]
                field = np.moveaxis(np.tensordot(matrix, field, (1, axis)), 0, axis)
            parts.append(field)
        return parts

    def flux(self, faces) -> list[np.ndarray]:
        """A Raviart-Thomas flux at the points: linear along its own axis, constant along the others."""
        parts = []
        for direction, face in enumerate(faces):
            field = np.moveaxis(np.tensordot(self.hats[direction], _array(face), (1, direction)), 0, direction)
            for axis in range(self.dim):
                field = field if axis == direction else np.repeat(field, self.q, axis)
            parts.append(field)
        return parts

    def divergence(self, faces) -> np.ndarray:
        """The divergence of a Raviart-Thomas flux at the points."""
        spacing = self.problem.grid.spacing
        return self.cells(sum(np.diff(_array(y), axis=k) / h for k, (y, h) in enumerate(zip(faces, spacing))))

    def integral(self, field: np.ndarray) -> float:
        """Integral over the fluid."""
        return float((self.weights * field).sum())

    def per_cell(self, field: np.ndarray) -> np.ndarray:
        """Integral over each cell."""
        field = self.weights * field
        for axis, n in enumerate(self.problem.grid.shape):
            shape = (*field.shape[:axis], n, self.q, *field.shape[axis + 1 :])
            field = field.reshape(shape).sum(axis + 1)
        return field

    def at_side(self, side: str, nodes) -> np.ndarray:
        """A multilinear function at the points of a side."""
        axis, end = "xyz".index(side[0]), int(side[1])
        field = self._all_nodes(nodes).take(-end, axis)
        for position, other in enumerate(k for k in range(self.dim) if k != axis):
            field = np.moveaxis(np.tensordot(self.hats[other], field, (1, position)), 0, position)
        return field

    def side_data(self, data) -> np.ndarray:
        """Data per face of a side at its points."""
        field = _array(data)
        for axis in range(self.dim - 1):
            field = np.repeat(field, self.q, axis)
        return field

    def side_integral(self, side: str, field: np.ndarray) -> float:
        """Integral over the part of a side that is not solid."""
        axis, end = "xyz".index(side[0]), int(side[1])
        along = self.weights.take([0 if end == 0 else -1], axis) / (self.weight[-end] * self.problem.grid.spacing[axis])
        return float((along.squeeze(axis) * field).sum())

    def product(self, u: tuple, v: tuple) -> float:
        """a(u, v) of two functions given as (value, gradient, {Robin side: trace}) at the points."""
        total = sum(self.integral(a * du * dv) for a, du, dv in zip(self.a, u[1], v[1]))
        total += self.integral(self.c * u[0] * v[0])
        for side, condition in self.problem.boundary.items():
            if isinstance(condition, sb.Robin):
                total += self.side_integral(side, self.side_data(condition.alpha) * u[2][side] * v[2][side])
        return total

    def function(self, nodes) -> tuple:
        """A multilinear function in the form that `product` takes."""
        return self.value(nodes), self.gradient(nodes), {s: self.at_side(s, nodes) for s in self.problem.grid.sides}

    def load(self, nodes) -> float:
        """The load: f and the Neumann and Robin data against a multilinear function."""
        total = self.integral(self.f * self.value(nodes))
        for side, condition in self.problem.boundary.items():
            if isinstance(condition, sb.Neumann | sb.Robin):
                data = condition.flux if isinstance(condition, sb.Neumann) else condition.g
                total += self.side_integral(side, self.side_data(data) * self.at_side(side, nodes))
        return total

    def norm(self, u: tuple) -> float:
        """The energy norm."""
        return math.sqrt(self.product(u, u))

    def functional(self, nodes) -> float:
        """J(v) = a(v, v) / 2 - load(v): twice its excess over the minimum is the square of the energy error."""
        v = self.function(nodes)
        return self.product(v, v) / 2 - self.load(nodes)


@dataclass
class ExactLine:
    """The exact solution of a problem whose data vary along one axis only, with nothing happening across it.

    On each cell u is the sum of a particular solution and of two exponentials (c > 0), or a quadratic (c = 0); the
    coefficients follow from the continuity of u and a u' and the two ends, by dense linear algebra.
    """

    problem: sb.Diffusion
    axis: int = 0

    def __post_init__(self) -> None:
        def line(field) -> np.ndarray:
            field = np.moveaxis(_array(field), self.axis, 0)
            return field.reshape(len(field), -1)[:, 0]

        problem = self.problem
        self.a, self.c = line(problem.coefficient[self.axis]), line(problem.reaction)
        self.f, self.h, self.n = line(problem.source), problem.grid.spacing[self.axis], problem.grid.shape[self.axis]
        rows, right = [], []

        def row(*terms: tuple[float, int, float, bool], data: float = 0.0) -> None:
            entries = np.zeros(2 * self.n)
            for factor, cell, s, derivative in terms:
                particular, first, second = self._basis(cell, s)[derivative]
                entries[2 * cell] += factor * first
                entries[2 * cell + 1] += factor * second
                data -= factor * particular
            rows.append(entries)
            right.append(data)

        for cell in range(self.n - 1):
            row((1.0, cell, self.h, False), (-1.0, cell + 1, 0.0, False))
            row((self.a[cell], cell, self.h, True), (-self.a[cell + 1], cell + 1, 0.0, True))
        self._ends(row)
        solution = np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0]
        self.coefficients = solution.reshape(self.n, 2)

    def _ends(self, row) -> None:
        last = self.n - 1
        if isinstance(self.problem.boundary[f"{'xyz'[self.axis]}0"], sb.Periodic):
            row((1.0, last, self.h, False), (-1.0, 0, 0.0, False))
            row((self.a[last], last, self.h, True), (-self.a[0], 0, 0.0, True))
            return
        for end, cell, s, sign in ((0, 0, 0.0, -1.0), (1, last, self.h, 1.0)):
            condition = self.problem.boundary[f"{'xyz'[self.axis]}{end}"]
            if isinstance(condition, sb.Dirichlet):
                row((1.0, cell, s, False), data=_first(condition.value))
            elif isinstance(condition, sb.Neumann):
                row((sign * self.a[cell], cell, s, True), data=_first(condition.flux))
            else:
                terms = ((sign * self.a[cell], cell, s, True), (_first(condition.alpha), cell, s, False))
                row(*terms, data=_first(condition.g))

    def _basis(self, cell: int, s) -> tuple[tuple, tuple]:
        """A particular solution and two homogeneous ones, then their derivatives, at the distance s into the cell."""
        a, c, f, h = self.a[cell], self.c[cell], self.f[cell], self.h
        s = np.asarray(s, dtype=float)
        if c == 0:
            return (-f / (2 * a) * s**2, 1.0 + 0 * s, s), (-f / a * s, 0 * s, 1.0 + 0 * s)
        k = math.sqrt(c / a)
        down, up = np.exp(-k * s), np.exp(-k * (h - s))
        return (f / c + 0 * s, down, up), (0 * s, -k * down, k * up)

    def at(self, local: np.ndarray, *, derivative: bool = False) -> np.ndarray:
        """u or u' at the given places (in [0, 1]) of every cell, one after the other."""
        values = []
        for cell in range(self.n):
            particular, first, second = self._basis(cell, local * self.h)[derivative]
            values.append(particular + self.coefficients[cell, 0] * first + self.coefficients[cell, 1] * second)
        return np.concatenate(values)

    def function(self, gauss: Gauss) -> tuple:
        """The solution in the form that `Gauss.product` takes."""
        shape = gauss.weights.shape
        value = np.broadcast_to(gauss._along(self.at(gauss.local), self.axis), shape)
        slope = np.broadcast_to(gauss._along(self.at(gauss.local, derivative=True), self.axis), shape)
        gradient = [slope if axis == self.axis else np.zeros(shape) for axis in range(gauss.dim)]
        traces = {}
        for side in self.problem.grid.sides:
            axis, end = "xyz".index(side[0]), int(side[1])
            if axis == self.axis:
                edge = self.at(np.array([float(end)]))[-1 if end else 0]
                traces[side] = np.full(shape[:axis] + shape[axis + 1 :], edge)
            else:
                traces[side] = value.take(-end, axis)
        return value, gradient, traces

    def error(self, nodes, points: int = 12) -> float:
        """|||u - v||| for a nodal field v."""
        gauss = Gauss(self.problem, points)
        return gauss.norm(subtract(self.function(gauss), gauss.function(nodes)))


def subtract(u: tuple, v: tuple) -> tuple:
    """u - v for functions in the form that `Gauss.product` takes."""
    gradient = [du - dv for du, dv in zip(u[1], v[1])]
    return u[0] - v[0], gradient, {side: u[2][side] - v[2][side] for side in u[2]}


def _array(field) -> np.ndarray:
    return field.detach().numpy() if hasattr(field, "detach") else np.asarray(field, dtype=float)


def _first(data) -> float:
    return float(_array(data).reshape(-1)[0])


@pytest.fixture(scope="session")
def gauss() -> type[Gauss]:
    """Gauss quadrature for a problem: `gauss(problem, points)`."""
    return Gauss


@pytest.fixture(scope="session")
def exact_line() -> type[ExactLine]:
    """The exact solution of a problem whose data vary along one axis: `exact_line(problem, axis)`."""
    return ExactLine
