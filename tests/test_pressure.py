"""Solvers for the pressure: names, preconditioners of one's own, and that a set-up is kept as long as it serves."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from refusals import refusals

import sciml_bounds as sb
from sciml_bounds._linear_methods import Multigrid
from sciml_bounds.evolution.pressure_projection import PressureEquations
from sciml_bounds.grid import Grid
from sciml_bounds.multigrid._geometric import lattice_cycle
from sciml_bounds.operators._lattice_operator import LatticeSystem
from sciml_bounds.operators._linear_operator import CallableOperator, Diagonal, LinearOperator
from sciml_bounds.pressure import METHODS, Preconditioned, PressureSolver, learned_cycle, learned_directions
from sciml_bounds.problems.discretization import node_system
from sciml_bounds.reports import Reason


def jacobi(system: LatticeSystem) -> LinearOperator:
    return Diagonal(system.operator.diagonal().flatten(1).reciprocal())


def plain(system: LatticeSystem) -> LinearOperator:
    """The same, but nothing is known of it, as of a network."""
    entries = system.operator.diagonal().flatten(1).reciprocal()
    return CallableOperator(lambda r: r * entries, entries.shape[1])


def system_of(open_sides: tuple[str, ...], seed: int = 0, equations: PressureEquations | None = None) -> LatticeSystem:
    grid = Grid((15, 12))
    torch.manual_seed(seed)
    if equations is None:
        equations = PressureEquations(grid, torch.rand(grid.shape) < 0.2, open_sides)
    return equations.system(tuple(torch.randn(s, dtype=torch.float64) for s in ((16, 12), (15, 13))))


def residual(system: LatticeSystem, x: torch.Tensor) -> float:
    return float((system.rhs.flatten(1) - system.operator.matvec(x)).norm())


#: Every kind of method, with what is called what it is.
CASES = {name: name for name in METHODS if name != "dcdm"} | {"V-cycles": Multigrid(cycle="V")}
CASES |= {"jacobi": Preconditioned(jacobi), "plain": Preconditioned(plain, memory=2)}


@pytest.mark.parametrize("method", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("open_sides", [(), ("y1",)], ids=["closed", "open"])
def test_every_method_reaches_what_is_asked(method, open_sides):
    system = system_of(open_sides)
    solution = PressureSolver(method)(system, None, 1e-10)
    assert residual(system, solution.x) <= 1e-10 * (1 + 1e-3)  # recomputed in another order
    again = PressureSolver(method)(system, solution.x.view(system.rhs.shape), 1e-10)
    assert int(again.iterations.max()) == 0
    exact = PressureSolver("cg")(system, None, 1e-13).x
    # the inverse of the operator is below 10^3 on a lattice of this size
    assert torch.allclose(solution.x, exact, rtol=0, atol=1e3 * 1e-10)


def test_a_preconditioner_of_which_nothing_is_known_runs_the_flexible_loop():
    system = system_of(("y1",))
    assert PressureSolver(Preconditioned(plain))(system, None, 1e-8).flexible
    assert not PressureSolver(Preconditioned(jacobi))(system, None, 1e-8).flexible
    # in exact arithmetic both are conjugate gradients
    methods = (Preconditioned(plain), Preconditioned(jacobi), "cg")
    counts = [int(PressureSolver(m)(system, None, 1e-8).iterations.max()) for m in methods]
    assert max(counts) - min(counts) <= 1


def test_a_cycle_is_a_preconditioner_like_any_other():
    system = system_of(())
    solution = PressureSolver(Preconditioned(lambda system: lattice_cycle(system.operator)))(system, None, 1e-10)
    assert residual(system, solution.x) <= 1e-10 * (1 + 1e-3)
    assert int(solution.iterations.max()) < 20


@pytest.mark.parametrize("open_sides", [(), ("z1",)], ids=["closed", "open"])
def test_the_network_that_ships_reaches_what_is_asked_beside_solids_in_three_dimensions(open_sides):
    grid = Grid((9, 8, 7))
    torch.manual_seed(0)
    equations = PressureEquations(grid, torch.rand(grid.shape) < 0.1, open_sides)
    shapes = [tuple(n + (k == axis) for k, n in enumerate(grid.shape)) for axis in range(3)]
    system = equations.system(tuple(torch.randn(shape, dtype=torch.float64) for shape in shapes))
    solution = PressureSolver("dcdm")(system, None, 1e-10)
    assert solution.flexible
    assert residual(system, solution.x) <= 1e-10 * (1 + 1e-3)
    exact = PressureSolver("cg")(system, None, 1e-13).x
    # the inverse of the operator is below 10^3 on a lattice of this size
    assert torch.allclose(solution.x, exact, rtol=0, atol=1e3 * 1e-10)


def test_the_set_up_is_kept_while_the_geometry_is():
    made = []

    def counted(system: LatticeSystem) -> LinearOperator:
        made.append(system)
        return jacobi(system)

    solver = PressureSolver(Preconditioned(counted))
    equations = PressureEquations(Grid((15, 12)), torch.zeros(15, 12, dtype=torch.bool), ("y1",))
    for seed in range(3):
        solver(system_of((), seed, equations), None, 1e-8)
    assert len(made) == 1
    other = system_of(("x0",))
    solver.prepare(other)
    assert len(made) == 2
    solver(other, None, 1e-8)
    assert len(made) == 2


def test_iterations_are_limited():
    solution = PressureSolver("cg", maxiter=3)(system_of(("y1",)), None, 1e-10)
    assert solution.reason == (Reason.MAXITER,)
    assert int(solution.iterations.max()) == 3


def learned(system: LatticeSystem) -> LinearOperator:
    """A network with random weights."""
    torch.manual_seed(0)
    network = sb.LearnedDirections("dcdm", dim=2, channels=4, before=1, coarse=1, after=1)
    return network.as_preconditioner(system)


@pytest.mark.parametrize("open_sides", [(), ("x0",)], ids=["closed", "one part open"])
def test_a_network_gives_every_part_of_the_fluid_the_pressure_that_multigrid_gives(open_sides):
    solid = torch.zeros(15, 12, dtype=torch.bool)
    solid[7] = solid[2:4, 3:6] = True
    system = system_of((), equations=PressureEquations(Grid((15, 12)), solid, open_sides))
    tolerance = 1e-9
    x = PressureSolver(Preconditioned(learned, memory=2))(system, None, tolerance).x
    assert residual(system, x) <= tolerance * (1 + 1e-3)
    exact = PressureSolver()(system, None, 1e-12).x
    # the inverse of the operator is below 10^3 on a lattice of this size, and means are zero by construction
    assert torch.allclose(x, exact, rtol=0, atol=1e3 * tolerance)
    floats = [slice(8, None)] if open_sides else [slice(8, None), slice(None, 7)]
    for rows in floats:
        part = x.view(15, 12)[rows]
        assert abs(float(part.sum())) < 1e-11


# --- what is refused --------------------------------------------------------------------------------------------------

CLOSED = system_of(())
LINE = node_system(sb.Diffusion(sb.Grid((16,)), 1.0, 1.0))
GUESS = torch.full((1, 1, 15, 12), math.inf)


def preconditioned_by(make):
    """Solve with what a function of the system returns in place of a preconditioner."""
    return PressureSolver(Preconditioned(make))(CLOSED, None, 1e-8)


test_bad_solvers = refusals(
    ("'jacobi' 'multigrid-pcg' 'learned-cycle' 'cg' 'pyamg' 'dcdm'", lambda: PressureSolver("jacobi")),
    ("int Preconditioned", lambda: PressureSolver(7)),
    ("maxiter -1", lambda: PressureSolver(maxiter=-1)),
    ("preconditioner int function", lambda: Preconditioned(7)),
    ("LearnedDirections as_preconditioner", lambda: Preconditioned(sb.LearnedDirections(dim=2))),
    ("memory 0 positive", lambda: Preconditioned(jacobi, memory=0)),
    ("'dcdm' dimensions 15x12", lambda: PressureSolver("dcdm")(CLOSED, None, 1e-8)),
    ("dimensions 'multigrid-pcg'", lambda: PressureSolver("learned-cycle")(LINE, None, 1e-8)),
    *[
        ("system NoneType LatticeSystem", lambda make=make: make(None))
        for make in (learned_cycle, learned_directions, PressureSolver().prepare)
    ],
    ("preconditioner (9, 9) 180", lambda: preconditioned_by(lambda s: torch.eye(9, dtype=torch.float64))),
    ("preconditioner float32 float64", lambda: preconditioned_by(lambda s: torch.eye(180))),
    ("LearnedDirections operator", lambda: preconditioned_by(lambda s: sb.LearnedDirections(dim=2))),
    ("network 3 axes", lambda: preconditioned_by(lambda s: sb.LearnedDirections(dim=3).as_preconditioner(s))),
    ("NoneType operator", lambda: preconditioned_by(lambda s: None)),
)
test_bad_systems = refusals(
    *[
        (words, lambda arguments=arguments, method=method: PressureSolver(method)(*arguments))
        for words, *arguments in [
            ("right-hand side 180", replace(CLOSED, rhs=CLOSED.rhs * math.nan), None, 1e-8),
            ("source sum zero floating", replace(CLOSED, rhs=CLOSED.rhs + 1.0), None, 1e-8),
            ("shape (1, 1, 15, 11)", replace(CLOSED, rhs=CLOSED.rhs.flip(-1)[..., 1:]), None, 1e-8),
            ("guess shape (15, 12)", CLOSED, torch.zeros(15, 12), 1e-8),
            ("guess 180", CLOSED, GUESS, 1e-8),
            ("atol 0.0 positive", CLOSED, None, 0.0),
            ("atol nan positive", CLOSED, None, math.nan),
            ("guess list tensor", CLOSED, [0.0], 1e-8),
            ("system Tensor LatticeSystem", CLOSED.rhs, None, 1e-8),
        ]
        for method in ("multigrid-pcg", Preconditioned(learned))
    ],
)
