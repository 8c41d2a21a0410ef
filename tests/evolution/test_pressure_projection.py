"""The projection: identities of the discrete operators, compatibility, solids, and the remaining divergence."""

from __future__ import annotations

import pytest
import torch
from refusals import refused

from sciml_bounds.errors import ConvergenceError
from sciml_bounds.evolution.bodies import Ball, Block, Body, Solids, Star
from sciml_bounds.evolution.pressure_projection import PressureEquations
from sciml_bounds.evolution.staggered import divergence, face_shape
from sciml_bounds.grid import AXES, Grid
from sciml_bounds.operators._lattice_operator import LatticeSystem
from sciml_bounds.operators._linear_operator import Identity
from sciml_bounds.pressure import Preconditioned, PressureSolver

CPU = torch.device("cpu")
GRIDS = [Grid((14, 11), (1.0, 0.9)), Grid((6, 8, 7), (1.0, 1.2, 0.8))]
OPEN = [(), ("x0",), ("x1", "y0", "y1")]
#: No solver is asked for less: residuals of the systems here are of size one.
TOLERANCE = 1e-11


def solve_exactly(system, guess, atol):
    return PressureSolver("multigrid-pcg")(system, guess, atol)


def random_velocity(grid: Grid) -> tuple[torch.Tensor, ...]:
    return tuple(torch.randn(face_shape(grid, axis), dtype=torch.float64) for axis in range(grid.dim))


def random_solid(grid: Grid) -> torch.Tensor:
    return torch.rand(grid.shape) < 0.25


def equations_of(grid: Grid, open_sides: tuple[str, ...]) -> PressureEquations:
    return PressureEquations(grid, random_solid(grid), open_sides)


def at_rest(equations: PressureEquations, velocity: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Let nothing pass through closed sides and solids."""
    fluid, result = equations.fluid, []
    for axis, component in enumerate(equations.close(velocity)):
        wall = ~torch.cat([fluid.narrow(axis, 0, 1), fluid], axis) | ~torch.cat(
            [fluid, fluid.narrow(axis, fluid.shape[axis] - 1, 1)], axis
        )
        result.append(torch.where(wall, 0.0, component))
    return tuple(result)


def inner(u: tuple[torch.Tensor, ...], v: tuple[torch.Tensor, ...], grid: Grid) -> float:
    """Integral of u . v, in which a face on a side stands for half a cell."""
    total = 0.0
    for axis, (a, b) in enumerate(zip(u, v)):
        product = a * b
        total += float(product.sum() - (product.select(axis, 0).sum() + product.select(axis, -1).sum()) / 2)
    return total * grid.cell_volume


@pytest.fixture(params=[(g, o) for g in GRIDS for o in OPEN], ids=lambda p: f"{p[0].dim}-D, {len(p[1])} open")
def equations(request) -> PressureEquations:
    return equations_of(*request.param)


# --- identities -------------------------------------------------------------------------------------------------------


def test_divergence_and_gradient_are_negative_adjoints(equations):
    """(grad p, u) = -(p, div u) for velocities that stand still at walls; sums of some hundred terms of size one."""
    grid = equations.grid
    p = torch.where(equations.fluid, torch.randn(grid.shape, dtype=torch.float64), 0.0)
    u = at_rest(equations, random_velocity(grid))
    left = inner(equations.gradient(p), u, grid)
    right = float((p * divergence(u, grid)).sum()) * grid.cell_volume
    assert left == pytest.approx(-right, abs=1e-12)


def test_the_operator_is_minus_the_divergence_of_the_gradient(equations):
    grid = equations.grid
    p = torch.where(equations.fluid, torch.randn(grid.shape, dtype=torch.float64), 0.0)
    product = equations.operator.matvec(p.reshape(1, -1)).view(grid.shape)
    expected = -equations.scale * divergence(equations.gradient(p), grid)
    coupled = equations.fluid & (expected != 0)  # a cell without neighbours has an equation of its own
    assert torch.allclose(product[coupled], expected[coupled], rtol=0, atol=1e-13)
    assert int(coupled.sum()) > 0.8 * int(equations.fluid.sum())


def test_conductances_are_zero_or_one_on_cubic_cells():
    equations = equations_of(Grid((8, 8, 8)), ("z1",))
    assert set(equations.operator.conductance.unique().tolist()) == {0.0, 1.0}


def test_the_decomposition_is_orthogonal(equations):
    """Helmholtz: u = v + grad phi with div v = 0 and (v, grad phi) = 0, so that |u|^2 = |v|^2 + |grad phi|^2."""
    grid = equations.grid
    u = at_rest(equations, random_velocity(grid))
    projected = equations.project(u, solve_exactly, tolerance=TOLERANCE)
    v, g = projected.velocity, equations.gradient(projected.pressure)
    assert projected.divergence <= TOLERANCE
    # the error of (v, grad phi) = -(phi, div v) is the tolerance times the mean of |phi|, which is below one
    assert abs(inner(v, g, grid)) < TOLERANCE
    assert inner(u, u, grid) == pytest.approx(inner(v, v, grid) + inner(g, g, grid), rel=1e-10)


def test_a_projection_is_idempotent(equations):
    """What changes the second time is the gradient of the solution for a divergence below the tolerance.

    The inverse of the operator is below 10^3 on lattices of this size (the square of their length in cells).
    """
    u = at_rest(equations, random_velocity(equations.grid))
    once = equations.project(u, solve_exactly, tolerance=TOLERANCE)
    twice = equations.project(once.velocity, solve_exactly, tolerance=TOLERANCE / 1e3)
    for a, b in zip(once.velocity, twice.velocity):
        assert torch.allclose(a, b, rtol=0, atol=1e3 * TOLERANCE)


def test_gradients_are_removed_entirely(equations):
    grid = equations.grid
    p = torch.where(equations.fluid, torch.randn(grid.shape, dtype=torch.float64), 0.0)
    projected = equations.project(equations.gradient(p), solve_exactly, tolerance=TOLERANCE)
    assert max(float(part.abs().max()) for part in projected.velocity) < 1e3 * TOLERANCE


# --- solids and what floats -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [2, 3])
def test_the_normal_velocity_at_solid_faces_is_that_of_the_solid(dim):
    grid = Grid((16,) * dim)
    body = Body(Star(0.2), lambda t: (0.5 + 0.3 * t, *(0.5,) * (dim - 1)), spin=3.0)
    solids = Solids.at([body], grid, 0.01, (0.0, 0.01), CPU)
    equations = PressureEquations(grid, solids.mask)
    velocity = solids.impose(equations.close(random_velocity(grid)))
    projected = equations.project(velocity, solve_exactly, tolerance=1e-9)
    assert projected.imbalance < 1e-12
    for axis, part in enumerate(projected.velocity):
        assert torch.equal(part.view(-1)[solids.faces[axis]], solids.speeds[axis])
        assert not bool(part.select(axis, 0).any() or part.select(axis, -1).any())


def test_a_moving_body_in_a_closed_box_is_compatible():
    """A rigid body takes in as much as it gives off; the box floats, and its pressure has mean zero."""
    grid = Grid((24, 24))
    for number in range(5):
        body = Body(Ball(0.15), lambda t: (0.3 + t, 0.5), spin=1.0)
        solids = Solids.at([body], grid, 0.05 * (number + 1), (0.05 * number, 0.05 * (number + 1)), CPU)
        equations = PressureEquations(grid, solids.mask)
        zero = tuple(torch.zeros(face_shape(grid, axis), dtype=torch.float64) for axis in range(2))
        projected = equations.project(solids.impose(zero), solve_exactly, tolerance=1e-9)
        assert projected.imbalance < 1e-12
        assert projected.divergence <= 1e-9
        assert abs(float(projected.pressure.sum())) < 1e-10


def test_what_a_piston_squeezes_is_reported_for_each_part_of_the_fluid():
    """A wall that moves at speed 1 leaves chambers of 5 and 9 columns; into each flows 1 a row."""
    grid = Grid((16, 8), (16.0, 8.0))
    wall = Body(Block((2.0, 100.0)), lambda t: (6.0 + t, 4.0))
    solids = Solids.at([wall], grid, 0.0, (-1.0, 0.0), CPU)
    equations = PressureEquations(grid, solids.mask)
    zero = tuple(torch.zeros(face_shape(grid, axis), dtype=torch.float64) for axis in range(2))
    projected = equations.project(solids.impose(zero), solve_exactly, tolerance=1e-10)
    rest = divergence(projected.velocity, grid)
    assert torch.allclose(rest[:5], torch.full((5, 8), 1 / 5, dtype=torch.float64), rtol=0, atol=1e-10)
    assert torch.allclose(rest[7:], torch.full((9, 8), -1 / 9, dtype=torch.float64), rtol=0, atol=1e-10)
    assert projected.imbalance == pytest.approx(1 / 5)
    assert projected.divergence <= 1e-10
    opened = PressureEquations(grid, solids.mask, ("x0", "x1"))
    assert opened.project(solids.impose(zero), solve_exactly, tolerance=1e-10).imbalance == 0.0


@pytest.mark.parametrize("method", ["multigrid-pcg", "cg", "pyamg"])
def test_several_chambers_and_lone_cells(method):
    """Two rooms without a door, one cell walled in, and a room that is open: each is balanced by itself."""
    grid = Grid((17, 12))
    solid = torch.zeros(17, 12, dtype=torch.bool)
    solid[5] = solid[11] = True
    solid[0:2, 0:2] = True
    solid[0, 0] = False
    equations = PressureEquations(grid, solid, ("x1",))
    u = at_rest(equations, random_velocity(grid))
    projected = equations.project(u, PressureSolver(method), tolerance=1e-10)
    assert projected.divergence <= 1e-10
    assert projected.imbalance < 1e-13
    assert abs(float(projected.pressure[:5].sum())) < 1e-10
    assert abs(float(projected.pressure[6:11].sum())) < 1e-10
    assert float(projected.pressure[12:].sum()) != 0.0
    assert not bool(projected.pressure[solid].any())


def test_right_hand_sides_are_balanced_in_each_part_that_floats():
    """Whoever solves the systems need not know of it; cells without neighbours have the right-hand side zero."""
    solid = torch.zeros(9, 8, dtype=torch.bool)
    solid[4] = solid[0:2, 0:2] = True
    solid[0, 0] = False
    system = PressureEquations(Grid((9, 8)), solid).system(random_velocity(Grid((9, 8))))
    rhs = system.rhs.view(9, 8)
    assert abs(float(rhs[:4].sum())) < 1e-13
    assert abs(float(rhs[5:].sum())) < 1e-13
    assert float(rhs[0, 0]) == 0.0
    assert float(rhs.abs().max()) > 0.01


def test_velocities_of_other_programs_are_taken():
    """Lists of numpy arrays in single precision, the solids as numpy has them."""
    grid = GRIDS[0]
    solid, velocity = random_solid(grid), random_velocity(grid)
    equations = PressureEquations(grid, solid.numpy(), ["y1"])
    single = [component.float().numpy() for component in velocity]
    found = equations.project(single, solve_exactly, tolerance=1e-9)
    expected = equations.project([component.float().double() for component in velocity], solve_exactly, tolerance=1e-9)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found.velocity, expected.velocity))


@pytest.mark.parametrize(
    ("solid", "open_sides", "components", "sentence"),
    [
        (torch.zeros(14, 11), (), None, "array solid cells float32"),
        (
            torch.zeros(11, 14, dtype=torch.bool),
            (),
            None,
            "array solid cells (11, 14) 14 x",
        ),
        (torch.zeros(14, 11, dtype=torch.bool), ("top",), None, "side 'top' sides"),
        (torch.zeros(14, 11, dtype=torch.bool), (), 1, "velocity 1 components 2 fields axis"),
        (torch.zeros(14, 11, dtype=torch.bool), (), 3, "velocity y shape (14, 11) grid"),
    ],
)
def test_what_does_not_fit_the_grid_is_refused(solid, open_sides, components, sentence):
    grid = GRIDS[0]
    given = {1: random_velocity(grid)[:1], 3: [random_velocity(grid)[0], torch.zeros(14, 11)]}
    refused(
        sentence,
        lambda: PressureEquations(grid, solid, open_sides).system(given.get(components, random_velocity(grid))),
    )


def test_closing_leaves_the_given_velocity_as_it_is():
    grid = GRIDS[0]
    velocity = random_velocity(grid)
    before = [component.clone() for component in velocity]
    closed = PressureEquations(grid, random_solid(grid), ["x1"]).close(velocity)
    assert all(torch.equal(now, then) for now, then in zip(velocity, before))
    assert torch.equal(closed[0][1:], velocity[0][1:])
    assert not closed[0][0].any()
    assert not closed[1][:, [0, -1]].any()


def test_what_cannot_project_is_refused():
    grid = GRIDS[0]
    equations, velocity = PressureEquations(grid, random_solid(grid)), random_velocity(grid)
    refused(
        "pressure 'learned-cycle' solver PressureSolver", equations.project, velocity, "learned-cycle", tolerance=1e-6
    )
    refused(
        "guess shape (11, 14) grid (14, 11) cells",
        lambda: equations.project(velocity, solve_exactly, tolerance=1e-6, guess=torch.zeros(11, 14)),
    )
    refused("grid tuple sb.Grid", lambda: PressureEquations((14, 11), random_solid(grid)))


def test_a_box_full_of_solids_is_refused():
    refused("cell solid fluid", lambda: PressureEquations(Grid((4, 4)), torch.ones(4, 4, dtype=torch.bool)))


def test_a_solver_that_does_not_reach_the_tolerance_is_an_error():
    equations = equations_of(GRIDS[0], ("x0",))
    u = at_rest(equations, random_velocity(equations.grid))

    def identity(system: LatticeSystem) -> Identity:
        return Identity(system.operator.shape[0], torch.float64, CPU)

    short = PressureSolver(Preconditioned(identity), maxiter=2)
    with pytest.raises(ConvergenceError, match=r"divergence.*projection"):
        equations.project(u, short, tolerance=1e-6)


def test_a_guess_is_used():
    equations = equations_of(GRIDS[0], (f"{AXES[1]}1",))
    u = at_rest(equations, random_velocity(equations.grid))
    first = equations.project(u, solve_exactly, tolerance=1e-8)
    again = equations.project(u, solve_exactly, tolerance=1e-8, guess=first.pressure)
    assert int(again.solution.iterations.max()) == 0
    assert torch.equal(again.pressure, first.pressure)
