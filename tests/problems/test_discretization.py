"""Both lattices against exact solutions, against matrices assembled cell by cell, and against their own promises."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.sparse.linalg
import torch

import sciml_bounds as sb
from sciml_bounds.operators._lattice_operator import to_lattice
from sciml_bounds.problems.discretization import box_eigenvalue, cell_fluxes, lifting_system, node_system
from sciml_bounds.problems.transfers import without_periodic_copies

AXES = "xyz"
D, N, R, P = "dirichlet", "neumann", "robin", "periodic"


def _solve(system):
    """One sample by a direct method, shaped like the lattice."""
    x = scipy.sparse.linalg.spsolve(system.operator.to_csr().tocsc(), system.rhs.reshape(-1).numpy())
    return x.reshape(system.operator.lattice)


def _nodal(problem):
    """The vertex-centred solution with its Dirichlet values."""
    system = node_system(problem)
    return _solve(system).reshape(problem.node_shape) + problem.dirichlet_values[0].numpy()


def _faces(problem, pressure):
    return [y[0].numpy() for y in cell_fluxes(problem).faces(torch.as_tensor(pressure).reshape(1, *problem.grid.shape))]


def _coordinates(grid, place):
    return np.meshgrid(*[getattr(grid, place)(a).numpy() for a in range(grid.dim)], indexing="ij")


# --- exact solutions --------------------------------------------------------------------------------------------------

SLOPES = (0.7, -0.5, 0.4)
ALPHA, REACTION = 2.0, 1.5


def _u(*x):
    return torch.exp(sum(k * q for k, q in zip(SLOPES, x)))


def _a(axis, *x):
    return (1 + axis) * (1 + 0.5 * sum(x))


def _source(*x):
    """-div(a grad u) + c u for the functions above."""
    terms = [(1 + i) * (0.5 * k + (1 + 0.5 * sum(x)) * k**2) for i, (k, _) in enumerate(zip(SLOPES, x))]
    return (REACTION - sum(terms)) * _u(*x)


def _condition(kind, side):
    axis, sign = AXES.index(side[0]), 1.0 if side[1] == "1" else -1.0

    def flux(*x):
        return sign * _a(axis, *x) * SLOPES[axis] * _u(*x)

    if kind == D:
        return sb.Dirichlet(_u)
    if kind == N:
        return sb.Neumann(flux)
    return sb.Robin(ALPHA, lambda *x: flux(*x) + ALPHA * _u(*x))


def _manufactured(shape, kinds):
    dim = len(shape)
    grid = sb.Grid(shape, lengths=(1.0, 1.3, 0.8)[:dim], origin=(0.2, -0.1, 0.3)[:dim])
    boundary = {side: _condition(kind, side) for side, kind in zip(grid.sides, kinds)}
    coefficient = tuple(lambda *x, i=i: _a(i, *x) for i in range(dim))
    return sb.Diffusion(grid, coefficient, _source, boundary=boundary, reaction=REACTION)


def _errors(problem):
    """Discrete L2 errors of nodal values, cell pressures and face fluxes."""
    grid = problem.grid
    nodes = _nodal(problem) - _u(*map(torch.as_tensor, _coordinates(grid, "nodes"))).numpy()
    flux = cell_fluxes(problem)
    pressure = _solve(flux.system).reshape(grid.shape)
    cells = pressure - _u(*map(torch.as_tensor, _coordinates(grid, "centers"))).numpy()
    faces = []
    for axis, y in enumerate(_faces(problem, pressure)):
        at = [grid.nodes(a) if a == axis else grid.centers(a) for a in range(grid.dim)]
        x = torch.meshgrid(*at, indexing="ij")
        faces.append(((y - (_a(axis, *x) * SLOPES[axis] * _u(*x)).numpy()) ** 2).mean())
    return np.sqrt([(nodes**2).sum() * grid.cell_volume, (cells**2).mean(), sum(faces)])


KINDS = {
    1: [(D, D), (D, N), (N, N), (R, D), (R, R), (N, R)],
    2: [(D,) * 4, (N,) * 4, (R,) * 4, (D, R, N, D), (N, D, R, R)],
    3: [(D,) * 6, (N,) * 6, (R,) * 6, (D, N, R, D, N, R)],
}
CASES = [(dim, kinds) for dim, many in KINDS.items() for kinds in many]


@pytest.mark.parametrize(
    ("dim", "kinds"), CASES, ids=lambda v: "".join(k[0] for k in v) if isinstance(v, tuple) else f"{v}d"
)
def test_both_lattices_converge_with_order_two(dim, kinds):
    coarse = {1: (20,), 2: (12, 14), 3: (5, 6, 7)}[dim]
    fine = tuple(2 * n for n in coarse)
    rates = np.log2(_errors(_manufactured(coarse, kinds)) / _errors(_manufactured(fine, kinds)))
    assert rates[0] >= 1.8  # nodal values, with data that are constant on each cell and face
    assert rates[1] >= 1.8  # pressures
    assert rates[2] >= 1.4  # fluxes: two inside, less at the sides


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_periodic_axes_converge_with_order_two(dim):
    def u(*x):
        return torch.cos(2 * np.pi * x[0]) * math.prod(torch.exp(k * q) for k, q in zip(SLOPES, x[1:]))

    def source(*x):
        return (4 * np.pi**2 - sum(k**2 for k in SLOPES[: dim - 1]) + REACTION) * u(*x)

    errors = []
    for n in (8, 16):
        grid = sb.Grid((2 * n, n, n)[:dim])
        sides = {side: sb.Dirichlet(u) for side in grid.sides[2:]} | {"x0": sb.Periodic(), "x1": sb.Periodic()}
        problem = sb.Diffusion(grid, 1.0, source, boundary=sides, reaction=REACTION)
        points = [torch.as_tensor(q) for q in _coordinates(grid, "nodes")]
        exact = without_periodic_copies(u(*points), problem.periodic)
        cells = _solve(cell_fluxes(problem).system).reshape(grid.shape)
        centers = [torch.as_tensor(q) for q in _coordinates(grid, "centers")]
        errors.append(
            [np.abs(_nodal(problem) - exact.numpy()).max(), np.sqrt(np.mean((cells - u(*centers).numpy()) ** 2))]
        )
    assert (np.log2(np.divide(*errors)) >= 1.75).all()


@pytest.mark.parametrize("kinds", [(D, D, D, D), (D, N, N, N), (R, D, N, N), (R, R, N, N)], ids=str)
def test_linear_solutions_are_exact(kinds):
    """Robin data are constant on each face, so there u must be constant along the side for g to be exact."""
    grid = sb.Grid((5, 7), lengths=(2.0, 0.7), origin=(-1.0, 3.0))
    slopes, a = (1.5, 0.0 if R in kinds else -0.4), (2.0, 5.0)

    def u(x, y):
        return 0.3 + slopes[0] * x + slopes[1] * y

    boundary = {}
    for side, kind in zip(grid.sides, kinds):
        axis, sign = AXES.index(side[0]), 1.0 if side[1] == "1" else -1.0
        outward = sign * a[axis] * slopes[axis]
        boundary[side] = {
            D: sb.Dirichlet(u),
            N: sb.Neumann(outward),
            R: sb.Robin(ALPHA, lambda x, y, q=outward: q + ALPHA * u(x, y)),
        }[kind]
    problem = sb.Diffusion(grid, a, 0.0, boundary=boundary)
    np.testing.assert_allclose(_nodal(problem), u(*_coordinates(grid, "nodes")), rtol=0, atol=1e-12)
    pressure = _solve(cell_fluxes(problem).system).reshape(grid.shape)
    np.testing.assert_allclose(pressure, u(*_coordinates(grid, "centers")), rtol=0, atol=1e-12)
    for axis, y in enumerate(_faces(problem, pressure)):
        np.testing.assert_allclose(y, a[axis] * slopes[axis], rtol=0, atol=1e-11)


def test_layers_of_different_conductivity_are_exact_on_a_line():
    # u' = q / a on each cell: continuous, piecewise linear
    a = np.array([1.0, 100.0, 0.01, 3.0, 7.0])
    problem = sb.Diffusion(sb.Grid(5), a, 0.0, boundary={"x0": sb.Dirichlet(1.0), "x1": sb.Dirichlet(4.0)})
    resistance = np.concatenate([[0], np.cumsum(0.2 / a)])
    q = 3 / resistance[-1]
    np.testing.assert_allclose(_nodal(problem), 1 + q * resistance, rtol=1e-12)
    (y,) = _faces(problem, _solve(cell_fluxes(problem).system))
    np.testing.assert_allclose(y, q, rtol=1e-11)


# --- assembled matrices -----------------------------------------------------------------------------------------------


def _random_problem(seed, dim, solid, kinds):
    """Random data in every field, for a given kind on every side."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(2, 6, dim))
    grid = sb.Grid(shape, lengths=tuple(0.5 + rng.random(dim)))

    def condition(side, kind):
        axis = AXES.index(side[0])
        faces = shape[:axis] + shape[axis + 1 :]
        if kind == D:
            return sb.Dirichlet(0.7)
        if kind == P:
            return sb.Periodic()
        if kind == N:
            return sb.Neumann(rng.standard_normal(faces))
        return sb.Robin(rng.random(faces), rng.standard_normal(faces))

    boundary = {side: condition(side, kind) for side, kind in zip(grid.sides, kinds)}
    mask = rng.random(shape) < 0.25 if solid else None
    if solid:
        mask[(0,) * dim] = False
    return sb.Diffusion(
        grid,
        tuple(0.1 + rng.random(shape) for _ in range(dim)),
        rng.standard_normal(shape),
        boundary=boundary,
        reaction=0.1 + rng.random(shape),
        solid=mask,
    )


def _side_faces(problem, side):
    """The cells behind a side, and their number among the faces of the side."""
    axis, end = AXES.index(side[0]), int(side[1])
    shape = problem.grid.shape
    for face in np.ndindex(*(shape[:axis] + shape[axis + 1 :])):
        yield (*face[:axis], (shape[axis] - 1) * end, *face[axis:]), face


def _by_cells(problem):
    """Vertex-centred equations over all nodes (periodic ones once), one cell and one edge at a time."""
    grid, shape, periodic = problem.grid, problem.grid.shape, problem.periodic
    dim, nodes = grid.dim, problem.node_shape
    fluid = problem.fluid[0].numpy()
    size = int(np.prod(nodes))
    A, b = np.zeros((size, size)), np.zeros(size)

    def number(point):
        return np.ravel_multi_index(tuple(q % n if p else q for q, n, p in zip(point, nodes, periodic)), nodes)

    for cell in itertools.compress(np.ndindex(*shape), fluid.reshape(-1)):
        corners = list(itertools.product((0, 1), repeat=dim))
        for corner in corners:
            i = number(np.add(cell, corner))
            A[i, i] += float(problem.reaction[cell]) * grid.cell_volume / len(corners)
            b[i] += float(problem.source[cell]) * grid.cell_volume / len(corners)
            for axis in range(dim):
                if corner[axis] == 0:
                    j = number(np.add(cell, corner) + np.eye(dim, dtype=int)[axis])
                    k = float(problem.coefficient[axis][cell]) * grid.cell_volume / grid.spacing[axis] ** 2
                    k /= len(corners) / 2
                    A[np.ix_([i, j], [i, j])] += k * np.array([[1, -1], [-1, 1]])
    for side, condition in problem.boundary.items():
        axis, end = AXES.index(side[0]), int(side[1])
        if isinstance(condition, sb.Neumann | sb.Robin):
            for cell, face in _side_faces(problem, side):
                if not fluid[cell]:
                    continue
                for corner in itertools.product((0, 1), repeat=dim - 1):
                    i = number(np.add(cell, (*corner[:axis], end, *corner[axis:])))
                    share = grid.face_area(axis) / 2 ** (dim - 1)
                    if isinstance(condition, sb.Neumann):
                        b[i] += float(condition.flux[face]) * share
                    else:
                        A[i, i] += float(condition.alpha[face]) * share
                        b[i] += float(condition.g[face]) * share
    return A, b


def _by_faces(problem):
    """Cell-centred equations over all cells, one face at a time."""
    grid, shape = problem.grid, problem.grid.shape
    fluid = problem.fluid[0].numpy()
    size = int(np.prod(shape))
    A, b = np.zeros((size, size)), np.zeros(size)
    for cell in np.ndindex(*shape):
        i = np.ravel_multi_index(cell, shape)
        if not fluid[cell]:
            continue
        A[i, i] += float(problem.reaction[cell]) * grid.cell_volume
        b[i] += float(problem.source[cell]) * grid.cell_volume
        for axis in range(grid.dim):
            after = list(cell)
            after[axis] += 1
            if after[axis] == shape[axis] and not problem.periodic[axis]:
                continue
            after[axis] %= shape[axis]
            if fluid[tuple(after)]:
                one, other = (float(problem.coefficient[axis][q]) for q in (cell, tuple(after)))
                k = grid.face_area(axis) / (grid.spacing[axis] / 2 * (1 / one + 1 / other))
                j = np.ravel_multi_index(tuple(after), shape)
                A[np.ix_([i, j], [i, j])] += k * np.array([[1, -1], [-1, 1]])
    for side, condition in problem.boundary.items():
        axis = AXES.index(side[0])
        for cell, face in [] if isinstance(condition, sb.Periodic) else _side_faces(problem, side):
            if not fluid[cell]:
                continue
            i = np.ravel_multi_index(cell, shape)
            area = grid.face_area(axis)
            half = float(problem.coefficient[axis][cell]) * 2 * area / grid.spacing[axis]
            if isinstance(condition, sb.Neumann):
                b[i] += float(condition.flux[face]) * area
            elif isinstance(condition, sb.Dirichlet):
                A[i, i] += half
                b[i] += half * 0.7
            elif float(condition.alpha[face]) > 0:  # resistances of half the cell and of the exchange in a row
                A[i, i] += 1 / (1 / half + 1 / (float(condition.alpha[face]) * area))
                outside = float(condition.g[face]) / float(condition.alpha[face])
                b[i] += outside / (1 / half + 1 / (float(condition.alpha[face]) * area))
    return A, b


SIDES = [(D, D), (D, N), (N, N), (R, N), (R, R), (P, P)]


@pytest.mark.parametrize("solid", [False, True], ids=["", "solid"])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_both_lattices_are_what_is_assembled_cell_by_cell(dim, solid):
    choices = list(itertools.product(SIDES, repeat=dim))
    rng = np.random.default_rng(dim)
    for seed in range(30):
        kinds = sum(choices[rng.integers(len(choices))], ())
        problem = _random_problem(seed, dim, solid, kinds)
        system = node_system(problem)
        A, b = _by_cells(problem)
        known = (~problem.active_nodes | problem.dirichlet_nodes)[0].numpy().reshape(-1)
        values = problem.dirichlet_values[0].numpy().reshape(-1)
        ours = system.operator.to_csr().toarray()
        # sums of some ten numbers of order one
        np.testing.assert_allclose(ours[np.ix_(~known, ~known)], A[np.ix_(~known, ~known)], rtol=0, atol=1e-12)
        assert not (ours[np.ix_(known, known)] - np.diag(np.diag(ours)[known])).any()
        assert (np.diag(ours)[known] > 0).all()
        assert not ours[np.ix_(known, ~known)].any()
        rhs = system.rhs.reshape(-1).numpy()
        np.testing.assert_allclose(rhs[~known], (b - A @ values)[~known], rtol=0, atol=1e-12)
        assert not rhs[known].any()
        cells = cell_fluxes(problem).system
        A, b = _by_faces(problem)
        open_cells = problem.fluid[0].numpy().reshape(-1)
        ours = cells.operator.to_csr().toarray()
        np.testing.assert_allclose(
            ours[np.ix_(open_cells, open_cells)], A[np.ix_(open_cells, open_cells)], rtol=0, atol=1e-12
        )
        np.testing.assert_allclose(cells.rhs.reshape(-1), b, rtol=0, atol=1e-12)


def test_the_equations_of_held_points_are_scaled_like_the_others():
    shape = (6, 5)
    mask = np.zeros(shape, dtype=bool)
    mask[2:4, 2:5] = True
    for size in (1e-12, 1.0, 1e12):
        problem = sb.Diffusion(sb.Grid(shape), size * (1 + np.random.default_rng(0).random(shape)), solid=mask)
        for system in (node_system(problem), cell_fluxes(problem).system):
            A = system.operator.to_csr().toarray()
            free = (np.abs(A) > 0).sum(1) > 1
            eigenvalues = np.linalg.eigvalsh(A[np.ix_(free, free)])
            held = np.diag(A)[~free]
            assert held.size > 0
            assert (held >= eigenvalues[0]).all()
            assert (held <= eigenvalues[-1]).all()


def test_other_dirichlet_values_are_lifted_without_any_load():
    problem = _random_problem(5, 2, False, (D, N, R, D))
    known = torch.where(problem.dirichlet_nodes, torch.randn(problem.dirichlet_nodes.shape, dtype=torch.float64), 0.0)
    A, _ = _by_cells(problem)
    system = lifting_system(problem, known)
    w = _solve(system).reshape(-1) + known.numpy().reshape(-1)
    free = ~problem.dirichlet_nodes[0].numpy().reshape(-1)
    np.testing.assert_allclose((A @ w)[free], 0, atol=1e-12)


# --- fluxes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solid", [False, True], ids=["", "solid"])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_fluxes_balance_in_every_cell_and_obey_every_side(dim, solid):
    choices = list(itertools.product(SIDES, repeat=dim))
    rng = np.random.default_rng(10 + dim)
    for seed in range(30):
        kinds = sum(choices[rng.integers(len(choices))], ())
        problem = _random_problem(seed, dim, solid, kinds)
        grid, fluid = problem.grid, problem.fluid[0].numpy()
        pressure = _solve(cell_fluxes(problem).system).reshape(grid.shape)
        faces = _faces(problem, pressure)
        divergence = sum(np.diff(y, axis=axis) / h for axis, (y, h) in enumerate(zip(faces, grid.spacing)))
        defect = problem.source.numpy() + divergence - problem.reaction.numpy() * pressure
        size = max(1.0, *(np.abs(y).max() / min(grid.spacing) for y in faces))
        assert np.abs(defect[fluid]).max() <= 1e-12 * size
        for axis, y in enumerate(faces):
            low, high = np.moveaxis(y, axis, 0)[[0, -1]]
            if problem.periodic[axis]:
                np.testing.assert_array_equal(low, high)
            inner = np.moveaxis(y, axis, 0)[1:-1]
            cells = np.moveaxis(fluid, axis, 0)
            assert not inner[~(cells[1:] & cells[:-1])].any()  # walls
        for side, condition in problem.boundary.items():
            axis, end = AXES.index(side[0]), int(side[1])
            if isinstance(condition, sb.Periodic):
                continue
            for cell, face in _side_faces(problem, side):
                at = list(cell)
                at[axis] += end
                outward = faces[axis][tuple(at)] * (1 if end else -1)
                if not fluid[cell]:
                    assert outward == 0
                    continue
                # the value on the face that half a cell of resistance leaves
                value = pressure[cell] + outward * grid.spacing[axis] / 2 / float(problem.coefficient[axis][cell])
                if isinstance(condition, sb.Neumann):
                    assert outward == pytest.approx(float(condition.flux[face]), abs=1e-12)
                elif isinstance(condition, sb.Robin):
                    assert outward + float(condition.alpha[face]) * value == pytest.approx(
                        float(condition.g[face]), abs=1e-11
                    )
                else:
                    assert value == pytest.approx(0.7, abs=1e-11)


# --- null spaces ------------------------------------------------------------------------------------------------------


def test_floating_parts_are_numbered_on_both_lattices():
    solid = np.zeros((8, 5), dtype=bool)
    solid[3] = True  # two chambers; the left one touches no Dirichlet side
    f = np.where(np.arange(8)[:, None] > 3, 1.0, np.where(np.arange(8)[:, None] == 0, 1.0, 0.0) - np.eye(8, 5, -1) * 5)
    f = np.broadcast_to(f, (8, 5)).copy()
    f[:3] -= f[:3].mean()
    sides = {"x0": sb.Neumann(), "x1": sb.Dirichlet(0.0), "y0": sb.Neumann(), "y1": sb.Neumann()}
    problem = sb.Diffusion(sb.Grid((8, 5)), 1.0, f, boundary=sides, solid=solid)
    for system, left, right in (
        (node_system(problem), np.s_[:4], np.s_[4:]),
        (cell_fluxes(problem).system, np.s_[:3], np.s_[4:]),
    ):
        labels = system.components[0, 0].numpy()
        assert (labels[left] == labels[left][0, 0]).all()
        assert labels[left][0, 0] >= 0
        assert (labels[right] == -1).all()
        A = system.operator.to_csr()
        ones = (labels >= 0).astype(float).reshape(-1)
        assert np.abs(A @ ones).max() <= 1e-14
        assert abs(system.rhs.reshape(-1).numpy() @ ones) <= 1e-13
    # every node of the left chamber stands for its share of the cells around it
    weights = node_system(problem).weights[0, 0, :4].numpy()
    assert weights.sum() == pytest.approx(3 * 5 * problem.grid.cell_volume)


def test_a_regular_system_has_no_null_space_to_tell():
    problem = _random_problem(0, 2, False, (D, N, N, N))
    for system in (node_system(problem), cell_fluxes(problem).system):
        assert system.components is None
        assert system.weights is None


# --- spectrum ---------------------------------------------------------------------------------------------------------


def _free_eigenvalues(problem, nodal):
    """Eigenvalues without those of Dirichlet points."""
    system = node_system(problem) if nodal else cell_fluxes(problem).system
    A = system.operator.to_csr().toarray()
    if nodal:
        free = ~problem.dirichlet_nodes[0].numpy().reshape(-1)
        return np.linalg.eigvalsh(A)[0], np.linalg.eigvalsh(A[np.ix_(free, free)])
    return np.linalg.eigvalsh(A)[0], np.linalg.eigvalsh(A)


@pytest.mark.parametrize("nodal", [True, False], ids=["nodes", "cells"])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_the_box_formula_is_below_the_spectrum_whatever_the_sides_and_data(dim, nodal):
    choices = list(itertools.product(SIDES, repeat=dim))
    rng = np.random.default_rng(dim)
    seen = 0
    for seed in range(80):
        kinds = sum(choices[rng.integers(len(choices))], ())
        problem = _random_problem(seed, dim, False, kinds)
        if seed % 2:
            size = 10.0 ** rng.integers(-8, 9)
            problem = problem.replace(reaction=0.0, coefficient=tuple(size * a for a in problem.coefficient),
                                      source=0.0, boundary={s: sb.Neumann() if isinstance(c, sb.Neumann) else c
                                                            for s, c in problem.boundary.items()})  # fmt: skip
        bound = box_eigenvalue(problem, nodal=nodal)
        whole, free = _free_eigenvalues(problem, nodal)
        if bool(problem.components.floating.any()):
            smallest = free[1]  # beside the constants
            assert abs(free[0]) <= 1e-12 * free[-1]
        else:
            smallest = whole  # of the matrix as it is, with the equations of held points
        if bound is not None:
            seen += 1
            assert float(bound) <= smallest * (1 + 1e-10)
    assert seen > 40


@pytest.mark.parametrize("kinds", [(D, D), (D, N), (N, D), (P, P)], ids=lambda k: k[0][0] + k[1][0])
@pytest.mark.parametrize("nodal", [True, False], ids=["nodes", "cells"])
def test_the_box_formula_is_exact_for_constant_coefficients(kinds, nodal):
    for shape in ((5,), (4, 7)):
        second = (D, D) if len(shape) == 2 else ()
        kind = dict(zip(sb.Grid(shape).sides, kinds + second))
        boundary = {
            side: {D: sb.Dirichlet(0.0), N: sb.Neumann(), P: sb.Periodic()}[name] for side, name in kind.items()
        }
        problem = sb.Diffusion(sb.Grid(shape, lengths=(1.0, 2.0)[: len(shape)]), 3.0, 0.0, boundary=boundary)
        bound = float(box_eigenvalue(problem, nodal=nodal))
        _, free = _free_eigenvalues(problem, nodal)
        smallest = free[1] if bool(problem.components.floating.any()) else free[0]
        if nodal and N in kinds:  # the last node stands for half a cell: a factor between one and two is given away
            assert smallest / 2 - 1e-12 <= bound <= smallest
        else:
            assert bound == pytest.approx(smallest, rel=1e-10)


def test_the_box_formula_is_told_sample_by_sample():
    # one sample floats, the others are held by a weak reaction or a weak exchange: their smallest eigenvalues are small
    grid = sb.Grid((6, 5))
    weak = torch.tensor([0.0, 1e-3]).view(2, 1, 1).expand(2, 6, 5).double()
    for reaction, side in ((weak, sb.Neumann()), (0.0, sb.Robin(weak[:, 0], 0.0))):
        sides = {"x0": side, "x1": sb.Neumann(), "y0": sb.Neumann(), "y1": sb.Neumann()}
        batch = sb.Diffusion(grid, 1.0, 0.0, boundary=sides, reaction=reaction)
        for nodal in (True, False):
            system = node_system(batch) if nodal else cell_fluxes(batch).system
            bound = box_eigenvalue(batch, nodal=nodal)
            if bound is None:
                continue
            for sample, floats in enumerate((True, False)):
                eigenvalues = np.linalg.eigvalsh(system.operator.to_csr(sample).toarray())
                assert float(bound.expand(2)[sample]) <= eigenvalues[1 if floats else 0] * (1 + 1e-10)


def test_systems_of_batches_are_those_of_their_samples():
    rng = np.random.default_rng(0)
    grid = sb.Grid((4, 5))
    a, f, g = 0.5 + rng.random((3, 4, 5)), rng.standard_normal((3, 4, 5)), rng.standard_normal((3, 5))
    sides = {"x0": sb.Neumann(g), "x1": sb.Dirichlet(0.5), "y0": sb.Neumann(), "y1": sb.Dirichlet(0.5)}
    batch = sb.Diffusion(grid, a, f, boundary=sides)
    for build in (node_system, lambda p: cell_fluxes(p).system):
        together = build(batch)
        for k in range(3):
            alone = build(sb.Diffusion(grid, a[k], f[k], boundary=sides | {"x0": sb.Neumann(g[k])}))
            np.testing.assert_allclose(together.rhs[k], alone.rhs[0], rtol=0, atol=1e-14)
            np.testing.assert_allclose(
                together.operator.to_csr(k).toarray(), alone.operator.to_csr().toarray(), rtol=0, atol=1e-13
            )
    assert to_lattice(torch.as_tensor(f), 2).shape == (3, 1, 4, 5)
