"""Bubbles against their integrals: Gauss quadrature of products of lines, assembled densely."""

from __future__ import annotations

import functools
from itertools import product

import numpy as np
import pytest
import torch

from sciml_bounds.kernels import use_backend
from sciml_bounds.kernels.bubbles import (
    bubble_products,
    bubble_residual,
    bubble_scales,
    nodal_products,
    relax_bubbles,
)

SHAPES = [(5,), (3, 4), (2, 3, 2), (2, 600)]
BACKENDS = pytest.mark.parametrize("backend", ["torch", "compiled"])
POINTS, WEIGHTS = np.polynomial.legendre.leggauss(5)  # exact for polynomials of degree 9, and these have degree 4


class Line:
    """Hats and bubbles of one axis at the quadrature points of its cells: (functions, points), values and slopes."""

    def __init__(self, n: int, h: float) -> None:
        x, self.n, self.weights = POINTS / 2, n, np.tile(WEIGHTS / 2 * h, n)
        size = n * len(x)
        self.hats, self.bubbles = np.zeros((2, n + 1, size)), np.zeros((2, n, size))
        for cell in range(n):
            at = slice(cell * len(x), (cell + 1) * len(x))
            for end in (0, 1):
                sign = 2 * end - 1
                self.hats[0, cell + end, at] = 0.5 + sign * x
                self.hats[1, cell + end, at] = sign / h
            self.bubbles[0, cell, at] = 1 - 4 * x**2
            self.bubbles[1, cell, at] = -8 * x / h


class Quadrature:
    """Functions are (values, derivative along each axis) at the points of the box."""

    def __init__(self, data, spacing) -> None:
        self.a, self.c, self.f = data
        self.dim = len(spacing)
        self.lines = [Line(n, h) for n, h in zip(self.c.shape, spacing)]
        self.weights = functools.reduce(np.multiply.outer, [line.weights for line in self.lines])

    def at_points(self, cells: np.ndarray) -> np.ndarray:
        for axis in range(self.dim):
            cells = np.repeat(cells, len(POINTS), axis)
        return cells

    def expand(self, numbers: np.ndarray, bubble_axis: int | None) -> list[np.ndarray]:
        found = []
        for derivative in (None, *range(self.dim)):
            field = numbers
            for axis, line in enumerate(self.lines):
                table = line.bubbles if axis == bubble_axis else line.hats
                field = np.moveaxis(np.tensordot(table[int(axis == derivative)], field, (0, axis)), 0, axis)
            found.append(field)
        return found

    def product(self, u, w) -> float:
        total = (self.at_points(self.c) * u[0] * w[0] * self.weights).sum()
        for axis in range(self.dim):
            total += (self.at_points(self.a[axis]) * u[1 + axis] * w[1 + axis] * self.weights).sum()
        return float(total)

    def load(self, w) -> float:
        return float((self.at_points(self.f) * w[0] * self.weights).sum())


def case(shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    draw = functools.partial(torch.rand, generator=g, dtype=torch.float64)
    spacing = (0.3, 0.2, 0.5)[: len(shape)]
    fluid = draw(1, *shape) < 0.8
    a = tuple(torch.where(fluid, 0.1 + draw(1, *shape), 0.0) for _ in shape)
    c = torch.where(fluid, draw(1, *shape), 0.0)
    f = torch.where(fluid, draw(1, *shape) - 0.5, 0.0)
    v, e = (draw(1, *(n + 1 for n in shape)) - 0.5 for _ in range(2))
    w = tuple(draw(1, *(n + (k != i) for k, n in enumerate(shape))) - 0.5 for i in range(len(shape)))
    quadrature = Quadrature(([q[0].numpy() for q in a], c[0].numpy(), f[0].numpy()), spacing)
    return (a, c, f), v, e, w, spacing, quadrature


def sum_of_bubbles(quadrature, w):
    parts = [quadrature.expand(part[0].numpy(), axis) for axis, part in enumerate(w)]
    return [sum(q) for q in zip(*parts)]


@BACKENDS
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_are_the_integrals(backend, shape):
    data, v, e, w, spacing, quadrature = case(shape)
    functions = [quadrature.expand(q[0].numpy(), None) for q in (v, e)]
    bubbles = sum_of_bubbles(quadrature, w)
    level = v.abs().flatten(1).amax(1)
    with use_backend(backend):
        nodal = nodal_products(data, v, e, level, spacing)[0].tolist()
        mixed = bubble_products(data, v, e, w, level, spacing)[0].tolist()
    right = [quadrature.load(q) - quadrature.product(functions[0], q) for q in (functions[1], bubbles)]
    assert nodal[:2] == pytest.approx([right[0], quadrature.product(functions[1], functions[1])], rel=1e-11)
    energies = [quadrature.product(q, bubbles) for q in (functions[1], bubbles)]
    assert mixed[:3] == pytest.approx([right[1], *energies], rel=1e-11)


@BACKENDS
@pytest.mark.parametrize("shape", SHAPES[:3], ids=str)
def test_one_test_function_serves_all_samples(backend, shape):
    data, v, e, w, spacing, _ = case(shape)
    v = torch.cat([v, 2 * v, 3 * v])
    level = v.abs().flatten(1).amax(1)
    with use_backend(backend):
        found = nodal_products(data, v, e, level, spacing), bubble_products(data, v, e, w, level, spacing)
        for i in range(3):
            one = data, v[i : i + 1], e
            for both, expected in zip(
                found,
                (nodal_products(*one, level[i], spacing), bubble_products(*one, w, level[i], spacing)),
                strict=True,
            ):
                torch.testing.assert_close(both[i : i + 1], expected, rtol=1e-12, atol=1e-12)


@BACKENDS
@pytest.mark.parametrize("shape", SHAPES[:3], ids=str)
def test_residual_and_scales_are_those_of_every_single_bubble(backend, shape):
    data, v, _, w, spacing, quadrature = case(shape)
    function = quadrature.expand(v[0].numpy(), None)
    with use_backend(backend):
        residual = bubble_residual(data, v, spacing)
        relaxed = relax_bubbles(data, tuple(part.clone() for part in w), spacing, (False,) * len(shape))
        scales = bubble_scales(data, spacing, (False,) * len(shape))
    for axis in range(len(shape)):
        for edge in np.ndindex(*residual[axis].shape[1:]):
            unit = np.zeros(residual[axis].shape[1:])
            unit[edge] = 1.0
            bubble = quadrature.expand(unit, axis)
            expected = quadrature.load(bubble) - quadrature.product(function, bubble)
            assert residual[axis][(0, *edge)].item() == pytest.approx(expected, rel=1e-11, abs=1e-13)
            energy = quadrature.product(bubble, bubble)
            if energy > 0:  # there is a cell that is not solid
                assert scales[axis][(0, *edge)].item() == pytest.approx(energy, rel=1e-12)
                quotient = w[axis][(0, *edge)].item() / energy
                assert relaxed[axis][(0, *edge)].item() == pytest.approx(quotient, rel=1e-12)


@BACKENDS
def test_edges_of_a_seam_have_the_cells_of_both_sides(backend):
    """As on a grid that repeats the cells."""
    (a, c, f), _, _, w, spacing, _ = case((2, 3, 2))
    periodic = (True, False, True)
    repeated = tuple(torch.cat([torch.cat([q, q], 1)] * 2, 3) for q in (*a, c, f))
    longer = repeated[:3], repeated[3], repeated[4]
    ones = tuple(torch.ones_like(part) for part in w)
    ones_longer = tuple(
        torch.ones(1, *(n + (k != i) for k, n in enumerate((4, 3, 4))), dtype=c.dtype) for i in range(3)
    )
    with use_backend(backend):
        found = relax_bubbles((a, c, f), ones, spacing, periodic)
        expected = relax_bubbles(longer, ones_longer, spacing, periodic)
    for part, other in zip(found, expected):
        for k in (0, 2):
            other = other.narrow(1 + k, 0, part.shape[1 + k])
        torch.testing.assert_close(part, other, rtol=1e-13, atol=0)


@BACKENDS
@pytest.mark.parametrize("level", [0.0, 1e6])
@pytest.mark.parametrize("shape", SHAPES[:3], ids=str)
def test_round_off_is_within_what_is_stated(backend, shape, level):
    """Against the same sums of numbers that are exact in extended precision, by the quadrature in it."""
    data, v, e, w, spacing, quadrature = case(shape, 1)
    v = v + level
    exact = Quadrature(([q[0].numpy() for q in data[0]], data[1][0].numpy(), data[2][0].numpy()), spacing)
    with use_backend(backend):
        bound = v.abs().flatten(1).amax(1)
        nodal = nodal_products(data, v, e, bound, spacing)[0]
        mixed = bubble_products(data, v, e, w, bound, spacing)[0]
    shift = quadrature.expand(np.full(v.shape[1:], level), None)
    rest = exact.expand(v[0].numpy() - level, None)
    function = [one + other for one, other in zip(shift, rest)]
    function[1:] = rest[1:]  # a constant has no gradient
    eps = torch.finfo(torch.float64).eps
    for found, test, noise in (
        (nodal[0], exact.expand(e[0].numpy(), None), nodal[2]),
        (mixed[0], sum_of_bubbles(exact, w), mixed[3]),
    ):
        expected = exact.load(test) - exact.product(function, test)
        assert abs(found.item() - expected) <= 64 * eps * noise.item()


def test_energies_are_never_negative():
    """Every term is a square times a positive weight; a field of hats and bubbles that nearly cancel has some left."""
    for shape, backend in product(SHAPES, ("torch", "compiled")):
        data, v, e, w, spacing, _ = case(shape, 2)
        with use_backend(backend):
            sums = bubble_products(data, v, e, tuple(1e-200 * part for part in w), v.new_ones(1), spacing)
        assert bool((sums[0, 2:] >= 0).all())
