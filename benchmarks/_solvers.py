"""Solvers for the pressure, and systems of simulations, which the comparisons share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import pyamg
import scipy.sparse
from _incomplete import incomplete_cholesky

import sciml_bounds as sb
from sciml_bounds.evolution.scenes import make_scene
from sciml_bounds.evolution.smoke import Smoke
from sciml_bounds.operators._lattice_operator import LatticeOperator, LatticeSystem
from sciml_bounds.operators._linear_operator import Diagonal, Identity, LinearOperator, aslinearoperator
from sciml_bounds.pressure import Preconditioned, PressureSolver, learned_cycle

RTOLS = (1e-4, 1e-6)
STEPS_AT = 64  # cells along an axis of the grid that `--steps` counts on; other grids go to the same times

#: Iterations after which a solve is given up, with a network as in the published tests: each takes a second at 64^3.
MOST, MOST_LEARNED = 2000, 100

# --- methods ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def matrix(operator: LatticeOperator) -> scipy.sparse.csr_matrix:
    """Assemble the matrix of the system at hand, once for all methods."""
    return scipy.sparse.csr_matrix(operator.to_csr())


def plain(system: LatticeSystem) -> LinearOperator:
    return Identity(system.operator.shape[0], system.rhs.dtype, system.rhs.device)


def jacobi(system: LatticeSystem) -> LinearOperator:
    return Diagonal(system.operator.diagonal().flatten(1).reciprocal())


def modified_incomplete_cholesky(system: LatticeSystem) -> LinearOperator:
    return incomplete_cholesky(system, 0.97)


def pyamg_cycle(build: Callable[[scipy.sparse.csr_matrix], Any]) -> Callable[[LatticeSystem], LinearOperator]:
    """Make V-cycles from the matrix; with a symmetric smoother they are symmetric, so that no flexible loop is due."""

    def make(system: LatticeSystem) -> LinearOperator:
        cycle = aslinearoperator(build(matrix(system.operator)).aspreconditioner())
        cycle.symmetric = cycle.linear = True
        return cycle

    return make


OURS: dict[str, sb.Multigrid] = {
    "multigrid-pcg": sb.Multigrid(),
    "multigrid-v-pcg": sb.Multigrid(cycle="V"),
    "multigrid-6-pcg": sb.Multigrid(sweeps=6),
}
ON_LATTICE: dict[str, Preconditioned] = {
    "learned-cycle": Preconditioned(learned_cycle),
    "cg": Preconditioned(plain),
    "jacobi": Preconditioned(jacobi),
    "ic": Preconditioned(incomplete_cholesky),
    "mic": Preconditioned(modified_incomplete_cholesky),
}
ON_MATRIX: dict[str, Preconditioned] = {
    "pyamg-sa": Preconditioned(pyamg_cycle(pyamg.smoothed_aggregation_solver)),
    "pyamg-rs": Preconditioned(pyamg_cycle(pyamg.ruge_stuben_solver)),
}


@lru_cache
def network(name: str) -> sb.LearnedDirections:
    return sb.LearnedDirections.load(name)


def directions(name: str, *, published: bool = False) -> Callable[[LatticeSystem], LinearOperator]:
    """Make the preconditioner of a network that ships: open sides are seen by images, solids not at all."""
    return lambda system: network(name).as_preconditioner(system, published=published)


#: Networks of directions, one line each: "name": Preconditioned(make, memory=2).
LEARNED: dict[str, Preconditioned] = {
    "dcdm": Preconditioned(directions("poisson3d-64", published=True), memory=2),
    "dcdm-safe": Preconditioned(directions("poisson3d-64"), memory=2),
    "multigrid-shaped": Preconditioned(directions("poisson3d-multigrid"), memory=2),
}
METHODS = OURS | ON_LATTICE | ON_MATRIX | LEARNED


def most(name: str) -> int:
    """Tell after how many iterations a method gives up."""
    return MOST_LEARNED if name in LEARNED else MOST


# --- systems ----------------------------------------------------------------------------------------------------------

TOP = ("z1",)
#: What is in the box, and which of its sides are open.
SCENES: dict[str, tuple[str, tuple[str, ...]]] = {
    "plume": ("plume", TOP),
    "sphere": ("sphere", TOP),
    "rotating": ("rotating", TOP),
    "closed": ("sphere", ()),
}


def systems(name: str, cells: int, steps: Sequence[int]) -> Iterator[LatticeSystem]:
    """Simulate a scene, and give its systems at the times of these steps."""
    scene, open_sides = SCENES[name]
    setting = make_scene(scene, 3, cells)
    arguments = setting.arguments() | {"open_sides": open_sides}
    simulation = Smoke(setting.grid, dt=setting.dt, pressure=PressureSolver(), **arguments)
    here = sorted({max(1, round(step * cells / STEPS_AT)) for step in steps})
    for _, system in simulation.pressure_systems(simulation.initial(), here):
        yield system
