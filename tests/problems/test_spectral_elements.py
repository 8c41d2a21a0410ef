"""Elements of any degree integrate, interpolate and solve exactly for polynomials of their degree."""

from __future__ import annotations

import numpy as np
import pytest

from sciml_bounds.problems.spectral_elements import SpectralElements

LINES = (np.array([0.0, 0.2, 0.5, 1.0]), np.array([0.0, 0.6, 1.0]))


def nodes(elements: SpectralElements, axis: int) -> np.ndarray:
    """The coordinates of the nodes, found by fitting what interpolation does to the identity map.

    Interpolation at many points reproduces x if and only if the nodal values are the coordinates of the nodes.
    """
    points = np.linspace(0.0, 1.0, 200)
    return np.linalg.lstsq(elements.interpolation(axis, points).toarray(), points)[0]


@pytest.mark.parametrize("degree", [1, 2, 5, 9])
def test_interpolation_reproduces_polynomials_of_the_degree(degree):
    elements = SpectralElements(LINES, degree)
    points = np.random.default_rng(0).uniform(size=20)
    for axis in range(2):
        found = elements.interpolation(axis, points) @ nodes(elements, axis) ** degree
        np.testing.assert_allclose(found, points**degree, atol=1e-12)


@pytest.mark.parametrize("degree", [1, 2, 5, 9])
def test_cells_integrate_the_energy_of_a_polynomial(degree):
    """u = x^p y^p: the integral of |grad u|^2 + (1 + x) u^2 by hand."""
    elements = SpectralElements(LINES, degree)
    u = np.multiply.outer(nodes(elements, 0) ** degree, nodes(elements, 1) ** degree)
    x, y = elements.gauss_points
    cells = elements.matrix_of_cells(np.broadcast_to((1 + x)[:, None], (len(x), len(y))).copy())
    energy, n = 0.0, degree + 1
    for number, matrix in enumerate(cells):
        i, j = divmod(number, len(LINES[1]) - 1)
        local = u[i * degree : i * degree + n, j * degree : j * degree + n].ravel()
        energy += local @ matrix @ local
    p = degree
    slope, mass = p**2 / (2 * p - 1), 1 / (2 * p + 1)
    assert energy == pytest.approx(2 * slope * mass + mass * (mass + 1 / (2 * p + 2)), rel=1e-12)


@pytest.mark.parametrize("degree", [1, 4])
def test_matrices_of_cells_are_symmetric(degree):
    elements = SpectralElements(LINES, degree)
    reaction = np.random.default_rng(1).uniform(-3, 1, size=[len(points) for points in elements.gauss_points])
    cells = elements.matrix_of_cells(reaction)
    np.testing.assert_allclose(cells, cells.transpose(0, 2, 1), atol=1e-14)


@pytest.mark.parametrize(("axis", "end"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_load_of_a_part_of_a_side_is_cut_exactly(axis, end):
    """Against v = s^2 on the side, where s runs along it; the ends of the part lie within cells."""
    elements = SpectralElements(LINES, 2)
    load = elements.load_of_side(axis, end, lambda s: 1 + s, 0.3, 0.9)
    edge = load[-end] if axis == 0 else load[:, -end]
    integral = (0.9**3 - 0.3**3) / 3 + (0.9**4 - 0.3**4) / 4
    assert edge @ nodes(elements, 1 - axis) ** 2 == pytest.approx(integral, rel=1e-13)
    assert load.sum() == pytest.approx(edge.sum(), rel=1e-13)


@pytest.mark.parametrize("degree", [1, 2, 3, 7])
def test_elimination_solves_the_whole_system(degree):
    """Against the assembled dense matrix of all nodes."""
    elements = SpectralElements(LINES, degree)
    x, y = elements.gauss_points
    cells = elements.matrix_of_cells(-2.0 - np.multiply.outer(x, y))
    load = elements.load_of_side(1, 1, np.ones_like, 0.0, 0.4)
    numbers = np.arange(load.size).reshape(load.shape)
    dense, n = np.zeros((load.size, load.size)), degree + 1
    for number, matrix in enumerate(cells):
        i, j = divmod(number, len(LINES[1]) - 1)
        local = numbers[i * degree : i * degree + n, j * degree : j * degree + n].ravel()
        dense[np.ix_(local, local)] += matrix
    values, residual = elements.solve(cells, load)
    np.testing.assert_allclose(values.ravel(), np.linalg.solve(dense, load.ravel()), rtol=1e-9, atol=1e-9)
    assert residual < 1e-12
