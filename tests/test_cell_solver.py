"""The two-point finite-volume solver, against a scheme assembled cell by cell with numpy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from refusals import refusals

import sciml_bounds as sb
from sciml_bounds.simulation import Well, with_wells

SHAPE, LENGTHS = (7, 5, 4), (2.0, 1.0, 0.5)
SIDES = {"x0": sb.Dirichlet(3.0), "x1": sb.Neumann(-0.4), "y0": sb.Neumann(0.7)}
WELLS = [
    Well((1, 2, 3), rate=2.0),
    Well((5, 3, slice(1, 4)), index=[1.0, 2.0, 3.0], pressure=-4.0),
    Well((5, 3, 2), rate=-0.5),  # in a cell of the well before
]


def _case(shape, lengths, seed=0, contrast=3.0):
    """Return the data of a problem: coefficient per axis, solids, and cell sources."""
    rng = np.random.default_rng(seed)
    coefficient = tuple(np.exp(contrast * rng.standard_normal(shape)) for _ in shape)
    solid = rng.random(shape) < 0.1
    solid[tuple(n // 2 for n in shape)] = True
    for well in WELLS if len(shape) == 3 else ():
        solid[well.cells] = False
    return coefficient, solid, rng.standard_normal(shape)


def _two_point(shape, lengths, coefficient, solid, source, sides):
    """Assemble matrix and right-hand side over the fluid cells, face by face, with half-cell transmissibilities."""
    h = [length / n for n, length in zip(shape, lengths)]
    index = np.arange(math.prod(shape)).reshape(shape)
    A, b = np.zeros((index.size, index.size)), (source * math.prod(h)).reshape(-1)
    for axis, cell in itertools.product(range(len(shape)), np.ndindex(*shape)):
        area = math.prod(h) / h[axis]
        half = 2 * coefficient[axis][cell] * area / h[axis]
        neighbour = tuple(i + (k == axis) for k, i in enumerate(cell))
        ends = [end for end, place in enumerate((0, shape[axis] - 1)) if cell[axis] == place]
        for side in (sides.get(f"{'xyz'[axis]}{end}") for end in ends if not solid[cell]):
            if isinstance(side, sb.Dirichlet):
                A[index[cell], index[cell]] += half
                b[index[cell]] += half * side.value
            elif side is not None:
                b[index[cell]] += side.flux * area
        if neighbour[axis] < shape[axis] and not solid[cell] and not solid[neighbour]:
            other = 2 * coefficient[axis][neighbour] * area / h[axis]
            T, i, j = 1 / (1 / half + 1 / other), index[cell], index[neighbour]
            A[[i, j], [i, j]] += T
            A[[i, j], [j, i]] -= T
    return A, b


def _boundary(dim):
    return {f"{axis}{end}": SIDES.get(f"{axis}{end}", sb.Neumann(0.0)) for axis in "xyz"[:dim] for end in (0, 1)}


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("method", ["auto", "multigrid", "algebraic", "cg"])
def test_pressures_are_those_of_the_scheme(dim, method):
    shape, lengths = SHAPE[:dim], LENGTHS[:dim]
    coefficient, solid, source = _case(shape, lengths)
    if dim == 1:
        solid[:] = False
    A, b = _two_point(shape, lengths, coefficient, solid, source, SIDES)
    fluid = ~solid.reshape(-1) & (np.diag(A) > 0)
    expected = np.zeros(A.shape[0])
    problem = sb.Diffusion(
        sb.Grid(shape, lengths), coefficient, source, reaction=1e-3, boundary=_boundary(dim), solid=solid
    )
    A[fluid, fluid] += 1e-3 * problem.grid.cell_volume  # isolated cells have a solution as well
    expected[fluid] = np.linalg.solve(A[np.ix_(fluid, fluid)], b[fluid])
    s = sb.prepare(problem, method=method, unknowns="cells").solve(rtol=1e-12)
    found = s.pressure.reshape(-1).numpy()
    np.testing.assert_allclose(found[fluid], expected[fluid], rtol=0, atol=1e-8 * np.abs(expected).max())


def _reservoir(**changes):
    coefficient, _, source = _case(SHAPE, LENGTHS)
    fields = {"source": 0 * source, "boundary": _boundary(3), "solid": None} | changes
    return sb.Diffusion(sb.Grid(SHAPE, LENGTHS), coefficient, **fields)


def test_rates_balance_sources_and_wells_in_every_cell():
    problem = with_wells(_reservoir(), WELLS)
    s = sb.prepare(problem, unknowns="cells").solve(rtol=1e-13)
    outflow = sum(torch.diff(rate, dim=axis) for axis, rate in enumerate(s.rates))
    expected = torch.zeros(SHAPE, dtype=torch.float64)
    for well in WELLS:
        expected[well.cells] += well.rates(s.pressure)
    torch.testing.assert_close(outflow, expected, rtol=0, atol=1e-9)
    area = problem.grid.face_area(0)
    torch.testing.assert_close(s.rates[0][-1], torch.full(SHAPE[1:], 0.4 * area, dtype=torch.float64))
    assert bool((s.rates[2][..., 0] == 0).all())
    torch.testing.assert_close(s.flux[1] * -problem.grid.face_area(1), s.rates[1])


def test_wells_act_as_in_the_equations_of_the_cells():
    """A rate is a right-hand side; an index couples the cell to the pressure in the well."""
    coefficient, _, source = _case(SHAPE, LENGTHS)
    A, b = _two_point(SHAPE, LENGTHS, coefficient, np.zeros(SHAPE, dtype=bool), 0 * source, SIDES)
    index = np.arange(math.prod(SHAPE)).reshape(SHAPE)
    b[index[1, 2, 3]] += 2.0
    b[index[5, 3, 2]] -= 0.5
    for cell, w in zip(index[5, 3, 1:], (1.0, 2.0, 3.0)):
        A[cell, cell] += w
        b[cell] -= 4.0 * w
    solver = sb.prepare(with_wells(_reservoir(), WELLS), unknowns="cells")
    np.testing.assert_allclose(solver.operator.to_csr().toarray(), A, rtol=0, atol=1e-12 * np.abs(A).max())
    np.testing.assert_allclose(solver.rhs.reshape(-1), b, rtol=0, atol=1e-12 * np.abs(b).max())
    s = solver.solve(rtol=1e-13)
    np.testing.assert_allclose(s.pressure.reshape(-1), np.linalg.solve(A, b), rtol=1e-7)
    assert float(WELLS[0].rates(s.pressure)) == 2.0


def test_a_cycle_preconditions_ones_own_matrix():
    shape = (40, 30)
    coefficient, _, source = _case(shape, (1.0, 1.0), contrast=1.5)
    solid = np.zeros(shape, dtype=bool)
    A, b = _two_point(shape, (1.0, 1.0), coefficient, solid, source, SIDES)
    A = scipy.sparse.csr_array(A)
    problem = sb.Diffusion(sb.Grid(shape), coefficient, boundary=_boundary(2))
    M = sb.prepare(problem, method="multigrid", unknowns="cells").as_preconditioner().to_scipy()
    counts = []
    for preconditioner in (M, None):
        iterates = []
        x, info = scipy.sparse.linalg.cg(A, b, M=preconditioner, rtol=1e-8, callback=iterates.append, maxiter=10_000)
        assert info == 0
        counts.append(len(iterates))
    np.testing.assert_allclose(A @ x, b, rtol=0, atol=1e-7 * np.linalg.norm(b))
    assert 5 * counts[0] < counts[1]


def test_a_right_hand_side_steps_in_time():
    """Implicit Euler with unit storage conserves the volume in a closed box, and converges to the mean."""
    dt, shape = 0.05, (9, 8)
    closed = sb.Diffusion(sb.Grid(shape), np.exp(np.random.default_rng(1).standard_normal(shape)),
                          boundary=sb.Neumann(0.0), reaction=1 / dt)  # fmt: skip
    solver = sb.prepare(closed, unknowns="cells")
    p = torch.zeros(shape, dtype=torch.float64)
    p[2, 3] = 72.0
    for _ in range(200):
        p = solver.solve(rhs=solver.rhs + p * closed.grid.cell_volume / dt, x0=p, rtol=1e-12).pressure
    torch.testing.assert_close(p, torch.ones(shape, dtype=torch.float64), rtol=0, atol=1e-6)


def test_batches_and_updates_equal_single_problems():
    a = torch.exp(torch.randn(3, 12, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    problem = sb.Diffusion(sb.Grid((12, 10)), a, 1.0)
    solver = sb.prepare(problem, unknowns="cells")
    s = solver.solve(rtol=1e-12)
    assert s.pressure.shape == (3, 12, 10)
    assert [rate.shape for rate in s.rates] == [(3, 13, 10), (3, 12, 11)]
    assert s.iterations.shape == (3,)
    single = solver.update(coefficient=a[1]).solve(rtol=1e-12)
    torch.testing.assert_close(single.pressure, s.pressure[1], rtol=1e-9, atol=0)
    assert "CellSolution" in repr(s)


def test_a_closed_box_needs_balanced_sources():
    closed = sb.Diffusion(sb.Grid((6, 6)), boundary=sb.Neumann(0.0))
    s = sb.prepare(with_wells(closed, [Well((0, 0), rate=1.0), Well((5, 5), rate=-1.0)]), unknowns="cells").solve()
    assert abs(float(s.pressure.mean())) < 1e-12
    assert float(s.pressure[0, 0]) > 0


@pytest.mark.parametrize("method", ["auto", "multigrid", "algebraic", "cg", "direct"])
def test_a_cell_among_solids_has_pressure_zero(method):
    solid = np.zeros((9, 8), dtype=bool)
    solid[3:6, 3:6] = True
    solid[4, 4] = False
    source = np.where(solid | ~np.roll(solid, 1, 0), 1.0, 0.0)
    source[4, 4] = 0.0
    problem = sb.Diffusion(sb.Grid((9, 8)), 1.0, source, solid=solid)
    s = sb.prepare(problem, method=method, unknowns="cells").solve()
    assert bool(s.converged)
    assert float(s.pressure[4, 4]) == 0.0
    assert float(s.pressure[0, 0]) > 0


CUBE = sb.Diffusion(sb.Grid((4, 4)), solid=np.eye(4, dtype=bool))
CLOSED = sb.Diffusion(sb.Grid((4, 4)), boundary=sb.Neumann(0.0))

test_invalid_wells_and_right_hand_sides = refusals(
    ("rate index pressure", lambda: Well((0, 0))),
    ("rate index pressure", lambda: Well((0, 0), rate=1.0, index=1.0, pressure=0.0)),
    ("rate index pressure", lambda: Well((0, 0), index=1.0)),
    ("cells tuple", lambda: Well(3, rate=1.0)),
    ("well 0 (4, 0) (4, 4)", lambda: with_wells(CUBE, [Well((4, 0), rate=1.0)])),
    ("well 0 (2,) (4, 4)", lambda: with_wells(CUBE, [Well((2,), rate=1.0)])),
    ("well 1 solid (1, 1)", lambda: with_wells(CUBE, [Well((0, 1), rate=1.0), Well((1, 1), rate=1.0)])),
    ("index well 0 positive -2", lambda: with_wells(CUBE, [Well((0, 1), index=-2.0, pressure=0.0)])),
    ("rate well 0 (2,) ()", lambda: with_wells(CUBE, [Well((0, 1), rate=[1.0, 2.0])])),
    ("pressure well 0 finite", lambda: with_wells(CUBE, [Well((0, 1), index=1.0, pressure=math.nan)])),
    ("zero mean", lambda: sb.prepare(CLOSED, unknowns="cells").solve(rhs=np.ones((4, 4)))),
    ("rhs (5, 5) (4, 4)", lambda: sb.prepare(CUBE, unknowns="cells").solve(rhs=np.ones((5, 5)))),
    ("x0 (3,) (4, 4)", lambda: sb.prepare(CUBE, unknowns="cells").solve(x0=np.ones(3))),
    ("unknowns 'faces' 'cells'", lambda: sb.prepare(CUBE, unknowns="faces")),
    ("problem Diffusion", lambda: sb.prepare(np.ones(3), unknowns="cells")),
)
