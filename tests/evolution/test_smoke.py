"""The simulation: stationary states, symmetries, balances, solids, and independence of the linear solver."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from refusals import refused

import sciml_bounds as sb
from sciml_bounds._linear_methods import Multigrid
from sciml_bounds.errors import ConvergenceError
from sciml_bounds.evolution.bodies import Ball, Block, Body, Star
from sciml_bounds.evolution.smoke import Smoke, Source
from sciml_bounds.evolution.smoke_state import SmokeState, StepReport
from sciml_bounds.evolution.staggered import cell_points, divergence, face_points
from sciml_bounds.grid import Grid
from sciml_bounds.pressure import Preconditioned, PressureSolver

SCHEMES = ["semi-lagrangian", "maccormack"]


def simulation(shape: tuple[int, ...], **arguments) -> Smoke:
    options = {"dt": 0.05, "pressure": PressureSolver(), "tolerance": 1e-10} | arguments
    return Smoke(Grid(shape), **options)


def last(smoke: Smoke, state: SmokeState, steps: int) -> tuple[SmokeState, StepReport]:
    *_, (state, report) = smoke.run(state, steps)
    return state, report


def swirl(grid: Grid) -> list[torch.Tensor]:
    """A smooth velocity of speed about one."""
    return [
        torch.sin(3 * face_points(grid, a)[..., (a + 1) % grid.dim] + a) * torch.cos(2 * face_points(grid, a)[..., a])
        for a in range(grid.dim)
    ]


# --- states that stay -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("shape", [(12, 16), (6, 7, 8)], ids=["2-D", "3-D"])
@pytest.mark.parametrize("opened", [False, True], ids=["closed", "open top"])
def test_a_hydrostatic_column_stays_at_rest(scheme, shape, opened):
    """The force changes with the height only, so that it is a gradient, and the pressure carries it.

    What is left of a step are speeds of the tolerance over dt and spacing; thirty of them are far below the speed of
    one that the force would give.
    """
    up = f"{'xyz'[len(shape) - 1]}1"
    smoke = simulation(shape, weight=1.0, advection=scheme, open_sides=[up] if opened else [])
    height = cell_points(smoke.grid)[..., -1]
    state, _ = last(smoke, smoke.initial(density=1.0 - height, temperature=height**2), 30)
    assert max(float(part.abs().max()) for part in state.velocity) < 1e-8
    assert torch.allclose(state.density, 1.0 - height, rtol=0, atol=1e-7)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("shape", "axis"), [((12, 10), 0), ((12, 10), 1), ((6, 8, 5), 1)], ids=["x", "y", "3-D"])
def test_uniform_flow_through_open_sides_stays_uniform(scheme, shape, axis):
    smoke = simulation(shape, advection=scheme, open_sides=[f"{'xyz'[axis]}0", f"{'xyz'[axis]}1"])
    uniform = [1.3 * float(a == axis) for a in range(len(shape))]
    state, report = last(smoke, smoke.initial(velocity=uniform), 10)
    for speed, part in zip(uniform, state.velocity):
        assert torch.allclose(part, torch.full_like(part, speed), rtol=0, atol=1e-13)
    assert report.courant == pytest.approx(1.3 * 0.05 * shape[axis])


def test_a_body_at_rest_changes_nothing():
    smoke = simulation((12, 12), bodies=[Body(Ball(0.2), (0.4, 0.5))])
    state, report = last(smoke, smoke.initial(), 3)
    assert not any(bool(part.any()) for part in state.velocity)
    assert report.iterations == 0
    assert report.energy == 0.0


# --- symmetries and balances ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("cells", [32, 33])
def test_a_symmetric_plume_stays_symmetric(scheme, cells):
    """Round-off and the solver tolerance (1e-11) are amplified by the flow, by a factor of some hundreds here."""
    source = Source(Ball(0.12), (0.5, 0.2))
    smoke = simulation(
        (cells, cells), sources=[source], open_sides=["y1"], advection=scheme, tolerance=1e-11, buoyancy=2.0
    )
    state, report = last(smoke, smoke.initial(), 20)
    assert report.courant > 1.0
    assert torch.allclose(state.density, state.density.flip(0), rtol=0, atol=1e-8)
    assert torch.allclose(state.velocity[0], -state.velocity[0].flip(0), rtol=0, atol=1e-8)
    assert torch.allclose(state.velocity[1], state.velocity[1].flip(0), rtol=0, atol=1e-8)


def test_a_plume_along_the_third_axis_has_the_symmetries_of_the_square():
    """Both horizontal axes are alike; tolerances as in the plane."""
    smoke = simulation((12, 12, 16), sources=[Source(Ball(0.2), (0.5, 0.5, 0.25))], open_sides=["z1"], tolerance=1e-11)
    state, _ = last(smoke, smoke.initial(), 12)
    assert float(state.velocity[2].max()) > 0.2
    for turned in (state.density.flip(0), state.density.flip(1), state.density.transpose(0, 1)):
        assert torch.allclose(state.density, turned, rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", [(24, 24), (10, 10, 10)], ids=["2-D", "3-D"])
def test_energy_does_not_grow_without_forces(shape):
    """Interpolation and the projection, which is orthogonal, only take from it."""
    smoke = simulation(shape, advection="semi-lagrangian", dt=0.02)
    state = smoke.initial(velocity=swirl(smoke.grid))
    energies = [report.energy for _, report in smoke.run(state, 20)]
    assert all(after <= before for before, after in itertools.pairwise(energies))
    assert energies[-1] > 0.05 * energies[0]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_density_keeps_its_bounds_and_never_enters_solids(scheme):
    body = Body(Star(0.2), lambda t: (0.4 + 0.3 * t, 0.5), spin=3.0)
    smoke = simulation(
        (24, 24), bodies=[body], advection=scheme, tolerance=1e-7, sources=[Source(Ball(0.1), (0.5, 0.15))]
    )
    density = torch.rand(24, 24, dtype=torch.float64)
    for state, _ in smoke.run(smoke.initial(velocity=swirl(smoke.grid), density=density), 12):
        assert bool(state.solid.any())
        assert not bool(state.density[state.solid].any() or state.temperature[state.solid].any())
        assert float(state.density.max()) <= 1.0 + 1e-13
        assert float(state.density.min()) >= 0.0


@pytest.mark.parametrize("shape", [(32, 32), (14, 14, 14)], ids=["2-D", "3-D"])
def test_divergence_and_solids_at_every_step(shape):
    """The report of a step agrees with its state; bodies keep their volume, and faces have their speed."""
    dim = len(shape)
    body = Body(Ball(0.2), lambda t: (0.4 + 0.3 * t, *(0.5,) * (dim - 1)))
    smoke = simulation(shape, bodies=[body], sources=[Source(Ball(0.1), (*(0.5,) * (dim - 1), 0.12))], tolerance=1e-6)
    volume = np.pi * 0.04 if dim == 2 else 4 / 3 * np.pi * 0.008
    surface = 2 * np.pi * 0.2 if dim == 2 else 4 * np.pi * 0.04
    start, points = smoke.initial(), cell_points(smoke.grid)
    assert torch.equal(start.solid, body.covers(points, 0.0))
    for state, report in smoke.run(start, 8):
        assert torch.equal(state.solid, body.covers(points, report.time))
        left = divergence(state.velocity, smoke.grid)[~state.solid].abs().max() * smoke.dt
        assert float(left) <= 1e-6
        assert report.divergence == pytest.approx(float(left), rel=1e-6, abs=1e-13)
        assert report.imbalance < 1e-13
        assert abs(report.solid_volume - volume) < surface / shape[0] / 2
        moving = torch.diff(state.solid.int(), dim=0) != 0  # faces across x between fluid and solid
        speeds = state.velocity[0][1:-1][moving]
        assert torch.allclose(speeds, torch.full_like(speeds, 0.3), rtol=0, atol=1e-12)
        assert report.smoke == pytest.approx(float(state.density.sum()) * smoke.grid.cell_volume)


def test_air_in_a_source_is_blown():
    smoke = simulation(
        (16, 16), open_sides=["y1"], sources=[Source(Block((0.25, 0.3)), (0.5, 0.0), velocity=(0.0, 2.0))]
    )
    start = smoke.initial()
    state, _ = smoke.step(start)
    assert not bool(start.velocity[1][:, 0].any() or state.velocity[1][:, 0].any())  # not through the closed side
    assert float(state.velocity[1][7:9, 4].min()) > 0.2
    assert bool((state.density[6:10, :2] == 1.0).all())


# --- the linear solver ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(24, 24), (10, 10, 10)], ids=["2-D", "3-D"])
def test_no_method_changes_the_physics(shape):
    """Five steps to 1e-10 with each solver: the fields differ by the tolerance times the amplification by the flow.

    That is measured: the same solver with a tolerance ten times as large differs by ten times as much.
    """
    dim = len(shape)
    body = Body(Star(0.15), (*(0.5,) * (dim - 1), 0.55), spin=2.0)
    others = {"bodies": [body], "sources": [Source(Ball(0.15), (*(0.5,) * (dim - 1), 0.2))], "buoyancy": 2.0}
    results = {}
    for name in ("multigrid-pcg", "cg", "pyamg", Multigrid(sweeps=1)):
        smoke = simulation(shape, pressure=PressureSolver(name), open_sides=[f"{'xyz'[dim - 1]}1"], **others)
        results[str(name)], _ = last(smoke, smoke.initial(), 5)
    reference = results.pop("multigrid-pcg")
    assert float(reference.velocity[-1].abs().max()) > 0.2
    for state in results.values():
        assert torch.equal(state.solid, reference.solid)
        assert torch.allclose(state.density, reference.density, rtol=0, atol=1e-7)
        for a, b in zip(state.velocity, reference.velocity):
            assert torch.allclose(a, b, rtol=0, atol=1e-7)


def network(dim: int, weights: float | None = None) -> PressureSolver:
    """A network of directions with random weights, or with the same number everywhere."""
    torch.manual_seed(0)
    net = sb.LearnedDirections("dcdm", dim=dim, channels=4, before=1, coarse=1, after=1)
    if weights is not None:
        for parameter in net.parameters():
            torch.nn.init.constant_(parameter, weights)
    return PressureSolver(Preconditioned(net.as_preconditioner, memory=2))


@pytest.mark.parametrize("weights", [None, 0.0, float("nan")], ids=["random", "zero", "NaN"])
@pytest.mark.parametrize("open_sides", [(), ("x1",)], ids=["closed", "open"])
def test_no_network_changes_the_physics(weights, open_sides):
    """A wall divides the fluid; both parts agree with multigrid up to the amplified tolerance, as above."""
    wall = Body(Block((0.1, 2.0)), (0.5, 0.5))
    others = {"bodies": [wall], "sources": [Source(Ball(0.15), (0.25, 0.3))], "buoyancy": 2.0, "open_sides": open_sides}
    states = []
    for solver in (PressureSolver(), network(2, weights)):
        smoke = simulation((16, 16), pressure=solver, **others)
        states.append(last(smoke, smoke.initial(), 3)[0])
    assert float(states[0].velocity[1].abs().max()) > 0.1
    for name in ("density", "pressure"):
        a, b = (getattr(state, name) for state in states)
        assert torch.allclose(a, b, rtol=0, atol=1e-7), name


def test_weights_for_another_dimension_are_refused():
    smoke = simulation((8, 8), pressure=network(3), sources=[Source(Ball(0.15), (0.25, 0.3))])
    refused("network 3 axes vectors lattice 8x8", lambda: smoke.step(smoke.initial()))


def test_the_exported_systems_are_those_that_are_solved():
    """Solved exactly and applied, each gives the next state of the simulation."""
    source = Source(Ball(0.15), (0.5, 0.2))
    smoke = simulation(
        (16, 16), sources=[source], bodies=[Body(Ball(0.1), lambda t: (0.3 + t, 0.6))], open_sides=["y1"]
    )
    states = dict(enumerate([smoke.initial(), *(state for state, _ in smoke.run(smoke.initial(), 5))]))
    found = dict(smoke.pressure_systems(states[0], [2, 5]))
    assert list(found) == [2, 5]
    for number, system in found.items():
        x = PressureSolver("cg")(system, None, 1e-13).x.view(16, 16)
        assert torch.allclose(torch.where(states[number].solid, 0.0, x), states[number].pressure, rtol=0, atol=1e-9)
        assert system.components is None
    refused("step 2 increasing", lambda: list(smoke.pressure_systems(states[2], [2])))


def test_a_failed_solve_is_an_error_and_leaves_the_state():
    smoke = simulation((16, 16), sources=[Source(Ball(0.15), (0.5, 0.2))], pressure=PressureSolver("cg", maxiter=1))
    state = smoke.initial()
    with pytest.raises(ConvergenceError, match=r"divergence.*projection"):
        smoke.step(state)
    assert state.step == 0


def test_every_device_gives_the_same_flow(device):
    body = Body(Star(0.15), (0.5, 0.55), spin=2.0)
    results = []
    for place in ("cpu", device):
        smoke = simulation((24, 24), bodies=[body], sources=[Source(Ball(0.15), (0.5, 0.2))], device=place)
        results.append(last(smoke, smoke.initial(), 10)[0])
    assert results[1].density.device == device
    assert torch.allclose(results[1].density.cpu(), results[0].density, rtol=0, atol=1e-8)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "arguments", "sentence"),
    [
        ((8,), {}, "grid 8 cells axes 4"),
        ((8, 3), {}, "grid 8 x 3 cells"),
        ((200_000, 200_000), {}, "200000 x cells GiB memory"),
        ((8, 8), {"dt": 0.0}, "dt 0.0 positive number"),
        ((8, 8), {"dt": float("nan")}, "dt nan positive number"),
        ((8, 8), {"tolerance": 1e-14}, "tolerance 1e-14 1e-12"),
        ((8, 8), {"advection": "upwind"}, "advection 'upwind'"),
        ((8, 8), {"open_sides": ["z1"]}, "side 'z1' sides grid x0 x1"),
        ((8, 8), {"bodies": [Body(Ball(0.1), (0.5,))]}, "body (0.5,) 2 finite numbers"),
        ((8, 8), {"sources": [Source(Ball(0.1), (0.5, float("inf")))]}, "source 0.5"),
        (
            (8, 8),
            {"sources": [Source(Ball(0.1), (0.5, 0.5), velocity=(1.0,))]},
            "velocity source (1.0,)",
        ),
        ((8, 8), {"sources": [Source(Ball(0.1), (2.0, 0.5))]}, "source (2.0, 0.5) cell"),
        ((8, 8), {"bodies": [Body(Ball(0.1), (2.0, 0.5))]}, "body (2.0, 0.5) cell"),
        ((8, 8), {"bodies": [Ball(0.1)]}, "bodies [Ball(radius=0.1)] list Body(...)"),
        ((8, 8), {"sources": None}, "sources None list Source(...)"),
        ((8, 8), {"pressure": None}, "pressure None solver PressureSolver"),
        ((8, 8), {"pressure": "cg"}, "pressure 'cg' solver PressureSolver"),
        ((8, 8), {"open_sides": None}, "open_sides None list sides ['y1']"),
        ((8, 8), {"open_sides": "y1"}, "open_sides 'y1' list sides"),
        ((8, 8), {"pressure": PressureSolver}, "pressure PressureSolver'> solver"),
        (
            (8, 8),
            {"pressure": sb.LearnedDirections("multigrid", dim=2, levels=1)},
            "pressure LearnedDirections PressureSolver Preconditioned as_precondit",
        ),
        ((8, 8), {"device": "gpu"}, "device='gpu' device 'cpu' 'cuda'"),
    ],
)
def test_a_simulation_that_cannot_be_is_refused(shape, arguments, sentence):
    refused(sentence, simulation, shape, **arguments)


def test_initial_fields_that_do_not_fit_are_refused():
    smoke = simulation((8, 6))
    refused("density shape (6, 8) grid (8, 6)", lambda: smoke.initial(density=np.zeros((6, 8))))
    refused("velocity 1 components grid 2 axes", smoke.initial, velocity=[0.0])
    refused("velocity shape (8, 6) grid (9, 6)", lambda: smoke.initial(velocity=[np.zeros((8, 6)), 0.0]))
    refused("velocity 0.0 field axis", smoke.initial, velocity=0.0)
    refused("temperature nan finite", lambda: smoke.initial(temperature=float("nan")))


def ways(smoke: Smoke) -> tuple[Callable[[SmokeState], object], ...]:
    """What takes a state."""
    systems, run = smoke.pressure_systems, smoke.run
    return smoke.step, lambda state: list(run(state, 1)), lambda state: list(systems(state, [9]))


NO_STATES = [
    ({"density": torch.zeros(8, 8).double()}, "density float64 shape (8, 8) cpu"),
    ({"temperature": torch.zeros(8, 6)}, "float32 shape (8, 6) cpu"),
    ({"pressure": None}, "pressure NoneType simulation float64 shape (8, 6)"),
    ({"solid": torch.zeros(8, 6).long()}, "solid int64 bool shape (8, 6) cpu"),
    ({"velocity": torch.zeros(2).double()}, "velocity x float64 shape cpu"),
    ({"velocity": 1.0}, "velocity 1.0 field axis"),
    ({"velocity": (torch.zeros(9, 6).double(),)}, "velocity 1 components grid 2"),
    ({"step": -1}, "step -1 integer"),
    ({"density": torch.full((8, 6), torch.nan).double()}, "density 48 entries NaN"),
]


@pytest.mark.parametrize(("changed", "sentence"), NO_STATES, ids=[f"{sentence}"[:40] for _, sentence in NO_STATES])
def test_a_state_that_is_not_its_own_is_refused(changed, sentence):
    smoke = simulation((8, 6))
    state = dataclasses.replace(smoke.initial(), **changed)
    for use in ways(smoke):
        refused(sentence, use, state)


@pytest.mark.parametrize("given", [None, "start", 3, ()], ids=str)
def test_what_is_no_state_is_refused(given):
    smoke = simulation((8, 6))
    sentence = f"state {type(given).__name__} SmokeState"
    for use in ways(smoke):
        refused(sentence, use, given)


@pytest.mark.parametrize("given", [3, None, np.array(3)], ids=["number", "none", "array of one"])
def test_steps_whose_systems_are_asked_for_are_a_list(given):
    smoke = simulation((8, 6))
    refused("steps list integers [3 7]", lambda: list(smoke.pressure_systems(smoke.initial(), given)))


def test_a_solver_that_gives_no_solution_is_refused():
    smoke = simulation((8, 6), pressure=lambda system, guess, atol: None)
    refused("solver pressure NoneType LinearSolution", smoke.initial)


@pytest.mark.parametrize("name", ["density", "temperature"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "warm"], ids=str)
def test_sources_of_no_finite_number_are_refused(name, value):
    refused(f"{name} source {value!r} finite number", lambda: Source(Ball(0.1), (0.5, 0.5), **{name: value}))


def test_a_body_that_moves_may_be_outside_for_a_time():
    smoke = simulation((16, 16), bodies=[Body(Ball(0.1), lambda t: (10.0 * t - 0.7, 0.5))])  # at -0.2, 0.3, 0.8, 1.3
    covered = [bool(state.solid.any()) for state, _ in smoke.run(smoke.initial(), 4)]
    assert covered == [False, True, True, False]


def test_a_flow_beyond_double_precision_is_said():
    smoke = simulation((8, 8), sources=[Source(Ball(0.2), (0.5, 0.3), temperature=1e300)])
    refused("divergence projection square", lambda: smoke.step(smoke.initial()))


def test_a_body_that_comes_to_fill_the_box_is_refused():
    smoke = simulation((8, 8), bodies=[Body(Block((2.0, 2.0)), lambda t: (-1.0 + 20 * t, 0.5))])
    refused("cell solid fluid", lambda: last(smoke, smoke.initial(), 3))
