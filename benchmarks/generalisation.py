"""How far learned solvers carry: sizes and geometries they were not trained on, beside classical solvers.

    python benchmarks/generalisation.py [--sizes 16 32 48 64] [--cases box ...] [--only METHOD ...] [--threads 2]
                                        [--picture generalisation.png]

The network poisson3d-64 was trained on closed boxes of fluid, of 16 and then 32 cells along an edge,
poisson3d-multigrid on such of 16, and the learned cycle (cycle3d) on boxes of 32 cells with other bodies than these;
none saw coefficients.
Every case is a cube of N cells along an edge, for the pressure of a flow, or a diffusion with walls all around; each is
another step away:

  box                       as in the training: a closed box without solids, with a source in a ball
  plume, sphere, rotating   systems of the simulation below an open top, with bodies in two of them
  closed                    the one past the ball in a closed box
  thin walls                three plates of one cell across the box, each with a slit at another end
  darcy 12/3                two materials, a Gaussian field above and below its mean
  checkerboard 1000         8 x 8 x 8 blocks with coefficients 1 and 1000 in turns

Printed are iterations to ||b - A x|| <= 1e-4 ||b|| and 1e-6 ||b||, from zero (multigrid-pcg and learned-cycle from full
multigrid), and for networks of directions the fallback rate: the part of the iterations in which the best step along
the network's direction alone lowers the energy by less than steepest descent does. A solve is given up after 2000
iterations, with such a network after 100. An iteration with the network takes about a second at 64^3, which makes about
an hour with the defaults.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from _solvers import LEARNED, METHODS, RTOLS, SCENES, most, systems
from iterations import gaussian

import sciml_bounds as sb
from sciml_bounds.operators._lattice_operator import LatticeSystem
from sciml_bounds.operators._linear_operator import LinearOperator
from sciml_bounds.pressure import Preconditioned, PressureSolver
from sciml_bounds.problems.discretization import cell_fluxes

STEPS = (32,)  # of the simulations, on the grid that `systems` counts on
BLOCKS = 8
SHOWN = ("multigrid-pcg", "learned-cycle", "cg", "jacobi", *LEARNED)

# --- cases ------------------------------------------------------------------------------------------------------------


def box(n: int) -> LatticeSystem:
    return diffusion(n)


def thin_walls(n: int) -> LatticeSystem:
    solid = np.zeros((n, n, n), dtype=bool)
    slit = max(1, n // 8)
    for k, plate in enumerate((n // 4, n // 2, 3 * n // 4)):
        solid[:, :, plate] = True
        solid[slice(slit) if k % 2 else slice(-slit, None), :, plate] = False
    return diffusion(n, solid=solid)


def two_materials(n: int) -> LatticeSystem:
    return diffusion(n, coefficient=np.where(gaussian((n, n, n), 0) >= 0, 12.0, 3.0))


def checkerboard(n: int) -> LatticeSystem:
    block = np.arange(n) * BLOCKS // n
    odd = (block[:, None, None] + block[:, None] + block) % 2
    return diffusion(n, coefficient=np.where(odd == 1, 1000.0, 1.0))


def diffusion(n: int, coefficient: np.ndarray | float = 1.0, solid: np.ndarray | None = None) -> LatticeSystem:
    """Assemble cell-centred equations with walls all around, fed from a ball and drained everywhere."""
    x, y, z = np.meshgrid(*[(np.arange(n) + 0.5) / n] * 3, indexing="ij", sparse=True)
    source = np.where((x - 0.35) ** 2 + (y - 0.4) ** 2 + (z - 0.3) ** 2 < 0.04, 1.0, 0.0)
    if solid is not None:
        source[solid] = 0.0
    source = source - source.mean() / (1.0 if solid is None else 1.0 - solid.mean())
    problem = sb.Diffusion(sb.Grid((n,) * 3), coefficient, source, boundary=sb.Neumann(), solid=solid)
    return cell_fluxes(problem).system


def simulated(name: str) -> Callable[[int], LatticeSystem]:
    return lambda n: next(systems(name, n, STEPS))


CASES: dict[str, Callable[[int], LatticeSystem]] = {
    "box": box,
    **{name: simulated(name) for name in SCENES},
    "thin walls": thin_walls,
    "darcy 12/3": two_materials,
    "checkerboard 1000": checkerboard,
}

# --- measurement ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Count:
    """Iterations to each residual, inf where it was not reached, and the fallback rate (nan: no network)."""

    iterations: tuple[float, ...]
    fallback: float


def gain(A: LinearOperator, d: torch.Tensor, r: torch.Tensor) -> float:
    """Compute twice the energy that the best step along a direction takes off."""
    curvature = float((d * A.matvec(d)).sum())
    return float((d * r).sum()) ** 2 / curvature if curvature > 0 else 0.0


def watched(method: Preconditioned, worse: list[bool]) -> Preconditioned:
    """Note for each residual whether the direction is worse than the residual itself."""

    def make(system: LatticeSystem) -> LinearOperator:
        M, A = method.make(system), system.operator
        answer = M.matvec

        def matvec(r: torch.Tensor) -> torch.Tensor:
            z = answer(r)
            worse.append(gain(A, z, r) < gain(A, r, r))
            return z

        M.matvec = matvec
        return M

    return replace(method, make=make)


def count(name: str, system: LatticeSystem) -> Count:
    """Solve once to the smallest residual, and look up when the others were reached."""
    worse: list[bool] = []
    method = watched(LEARNED[name], worse) if name in LEARNED else METHODS[name]
    norm = float(system.into_range(system.rhs).norm())
    solution = PressureSolver(method, maxiter=most(name))(system, None, RTOLS[-1] * norm)
    relative = solution.residual_norms.view(-1).numpy() / norm
    reached = [np.flatnonzero(relative <= rtol) for rtol in RTOLS]
    return Count(
        tuple(float(places[0]) if len(places) else np.inf for places in reached),
        np.mean(worse) if worse else np.nan,
    )


def entry(found: Count, name: str) -> str:
    counts = " / ".join(f">{most(name)}" if np.isinf(k) else f"{k:.0f}" for k in found.iterations)
    return counts if np.isnan(found.fallback) else f"{counts} ({found.fallback:.0%})"


# --- run --------------------------------------------------------------------------------------------------------------


def study(case: str, sizes: Sequence[int], names: Sequence[str]) -> dict[str, list[Count]]:
    """Count for all methods and sizes, and print a table."""
    goals = " / ".join(f"{rtol:.0e}" for rtol in RTOLS)
    print(f"\n{case}: iterations to {goals} (fallback rate)")
    print(f"{'N':16}" + "".join(f"{n:>20}" for n in sizes))
    made = [CASES[case](n) for n in sizes]
    found = {}
    for name in names:
        found[name] = [count(name, system) for system in made]
        print(f"{name:16}" + "".join(f"{entry(each, name):>20}" for each in found[name]), flush=True)
    return found


def draw(path: Path, sizes: Sequence[int], found: dict[str, dict[str, list[Count]]]) -> None:
    """Draw iterations to the smallest residual against the size, a panel for each case."""
    from matplotlib.figure import Figure

    columns = min(4, len(found))
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(1.8 + 3.2 * columns, 0.4 + 2.8 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).reshape(-1)
    for panel in panels[len(found) :]:
        panel.set_axis_off()
    for panel, (case, counts) in zip(panels, found.items()):
        for name, of_sizes in counts.items():
            panel.loglog(sizes, [each.iterations[-1] for each in of_sizes], "o-", label=name)
        panel.set_xticks(sizes, list(map(str, sizes)))
        panel.minorticks_off()
        panel.set(title=case, xlabel="cells along an axis")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel(f"iterations to {RTOLS[-1]:.0e}")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 32, 48, 64], help="cells along an axis")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES), help="what is solved")
    parser.add_argument("--only", nargs="+", choices=list(METHODS), default=list(SHOWN), help="with which methods")
    parser.add_argument("--threads", type=int, default=2, help="threads of solvers and networks (default 2)")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw iterations against the size")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = {case: study(case, arguments.sizes, arguments.only) for case in arguments.cases}
    if arguments.picture is not None:
        draw(arguments.picture, arguments.sizes, found)


if __name__ == "__main__":
    main()
