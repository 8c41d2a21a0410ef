"""Solvers for the pressure: names, preconditioners of one's own, and that a set-up is kept as long as it serves."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
import torch

import sciml_bounds as sb
from sciml_bounds._linear import Multigrid
from sciml_bounds.errors import InputError
from sciml_bounds.evolution.projection import PressureEquations
from sciml_bounds.grid import Grid
from sciml_bounds.multigrid.geometric import lattice_cycle
from sciml_bounds.operators.lattice import LatticeSystem
from sciml_bounds.operators.linear_operator import CallableOperator, Diagonal, LinearOperator
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


def test_the_network_that_ships_is_for_three_dimensions():
    with pytest.raises(InputError, match="the weights of 'dcdm' are for three dimensions, and the lattice is 15x12"):
        PressureSolver("dcdm")(system_of(()), None, 1e-8)


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


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            {"method": "jacobi"},
            "unknown method 'jacobi'; the choices are 'multigrid-pcg', 'learned-cycle', 'cg', 'pyamg', 'dcdm'",
        ),
        ({"method": 7}, r"the method is a int; give a name, a method, or Preconditioned\(...\)"),
        ({"maxiter": -1}, "maxiter is -1; it must be a non-negative integer"),
    ],
    ids=["name", "number", "maxiter"],
)
def test_a_solver_that_cannot_be_is_refused(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        PressureSolver(**arguments)


def test_a_preconditioner_that_cannot_be_is_refused():
    with pytest.raises(InputError, match="a preconditioner is made by a int; give a function of a system"):
        Preconditioned(7)
    with pytest.raises(InputError, match="made by a LearnedDirections; give its method as_preconditioner, without"):
        Preconditioned(sb.LearnedDirections("multigrid", dim=2, levels=1))
    with pytest.raises(InputError, match="memory is 0; it must be a positive integer"):
        Preconditioned(jacobi, memory=0)


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


def unbalanced(system: LatticeSystem) -> LatticeSystem:
    return replace(system, rhs=system.rhs + 1.0)


@pytest.mark.parametrize("method", ["multigrid-pcg", "cg", Preconditioned(learned)], ids=["multigrid", "cg", "learned"])
@pytest.mark.parametrize(
    ("change", "guess", "atol", "sentence"),
    [
        (
            lambda s: replace(s, rhs=s.rhs * math.nan),
            None,
            1e-8,
            "the right-hand side of the pressure has 180 entries ",
        ),
        (unbalanced, None, 1e-8, "the source does not balance in a part of the fluid that floats: "),
        (
            lambda s: replace(s, rhs=s.rhs.flip(-1)[..., 1:]),
            None,
            1e-8,
            "the pressure has shape (1, 1, 15, 11); the latt",
        ),
        (lambda s: s, torch.zeros(15, 12), 1e-8, "the guess of the pressure has shape (15, 12); the lattice of one"),
        (lambda s: s, torch.full((1, 1, 15, 12), math.inf), 1e-8, "the guess of the pressure has 180 entries that are"),
        (lambda s: s, None, 0.0, "atol is 0.0; it must be a positive number"),
        (lambda s: s, None, math.nan, "atol is nan; it must be a positive number"),
        (lambda s: s, [0.0], 1e-8, "the guess of the pressure is a list; give a tensor of the shape of the lattice"),
        (lambda s: s.rhs, None, 1e-8, "the system is a Tensor; give a LatticeSystem, as pressure_systems does"),
    ],
    ids=[
        "NaN",
        "source",
        "shape",
        "shape of guess",
        "infinite guess",
        "list as guess",
        "zero",
        "NaN as tolerance",
        "no system",
    ],
)
def test_a_system_that_cannot_be_solved_is_refused(method, change, guess, atol, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        PressureSolver(method)(change(system_of(())), guess, atol)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda system: torch.eye(9, dtype=torch.float64),
            "the preconditioner has shape (9, 9), but b has 180 entries",
        ),
        (lambda system: torch.eye(180), "the preconditioner works in float32, but b is float64; convert one of them"),
        (lambda system: sb.LearnedDirections(dim=2), "a LearnedDirections is not an operator by itself; give what its"),
        (
            lambda system: sb.LearnedDirections(dim=3).as_preconditioner(system),
            "the network is for 3 axes, and the vec",
        ),
        (lambda system: None, "a NoneType is not an operator"),
    ],
    ids=["shape", "dtype", "network", "dimension", "nothing"],
)
def test_a_preconditioner_that_does_not_fit_is_refused(make, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        PressureSolver(Preconditioned(make))(system_of(()), None, 1e-8)


def test_preconditioners_are_made_for_systems_only():
    for make in (learned_cycle, learned_directions, PressureSolver().prepare):
        with pytest.raises(
            InputError, match="the system is a NoneType; give a LatticeSystem, as pressure_systems does"
        ):
            make(None)


def test_there_is_no_learned_cycle_of_a_line():
    system = node_system(sb.Diffusion(sb.Grid((16,)), 1.0, 1.0))
    with pytest.raises(InputError, match="in two and three dimensions, and the system has one; take 'multigrid-pcg'"):
        PressureSolver("learned-cycle")(system, None, 1e-8)
