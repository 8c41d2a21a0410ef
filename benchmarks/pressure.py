"""Solvers for the pressure of a flow on the systems of a simulation, all measured in this one run.

    python benchmarks/pressure.py [--sizes 64] [--scenes plume sphere rotating closed] [--steps 8 32] [--repeats 3]
                                  [--only METHOD ...] [--threads 2] [--picture growth.png]

The systems come out of `Smoke.pressure_systems` in three dimensions: a plume, one past a swinging ball, one past a
turning body with arms, all below an open top, and the one past the ball in a closed box. Every method solves them from
zero, in the same loop (flexible where it must be), until ||b - A x|| <= 1e-4 ||b|| and 1e-6 ||b||, which is computed
anew from the answer with the assembled matrix. Every system is set up for as if its geometry were new, once for both
solves. Seconds are medians over the repeats, in which the methods take turns, and means over the steps; iterations are
the largest over the steps. Networks of directions, which take minutes where the others take seconds, solve once.

  multigrid-pcg         ours, as the simulation uses it: the guess comes from full multigrid, which is no iteration
  multigrid-v-pcg       ours, V-cycles from zero
  multigrid-6-pcg       as the first, with six smoothing steps in place of three, as many as the learned cycle has
  learned-cycle         coarse operators and smoothing steps from a training, the rest as in the first (cycle3d)
  cg, jacobi            conjugate gradients without preconditioner, and with the diagonal
  ic, mic               incomplete Cholesky without fill, and modified with 0.97 as fluid solvers do (_incomplete.py)
  pyamg-sa, pyamg-rs    smoothed aggregation and Ruge-Stuben of PyAMG as they are by default
  dcdm                  directions of the network poisson3d-64 and the last two, as published (Kaneda et al., ICML 2023)
  dcdm-safe             the same and the residual in the span, as `--method dcdm` of the simulation has it
  multigrid-shaped      the linear network poisson3d-multigrid (as of Lan et al., ICML 2024), the residual in the span

The network is evaluated in single precision, on twice the cells where the top is open (an image stands for it). Solves
with it are given up after 100 iterations, as in the published tests, all others after 2000: at 64^3 an iteration takes
a second, and where the network is no use nothing is learned from more.

PyAMG is given the assembled matrix, and not charged for the assembly; everything else works on the lattice itself.
Ours, the networks and the loop of all run on the given number of threads; PyAMG and the factors use one. Memory,
told of more than 40^3 cells, is what a process of its own takes at its peak beyond the system;
the matrix of PyAMG counts.

In the closed box the matrix is singular. Its right-hand side has mean zero in each part of the fluid that floats, every
method works on the singular matrix as it is, and the mean is taken off the answer.

At the end: iterations against the number of cells, from 16^3 to the largest size, as a table and as a picture. About
half an hour with the defaults, most of it for the networks, and ten minutes without (`--only cg jacobi ...`); up to
sixteen times as long for twice the size.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its threads and those of OpenMP wait for each other's cores
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", "65536")  # of processes started here: what is freed is given back
import multiprocessing
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import scipy.sparse
import torch
from _solvers import LEARNED, METHODS, ON_MATRIX, OURS, RTOLS, SCENES, STEPS_AT, matrix, most, systems
from speed import judge, seconds

from sciml_bounds.operators._lattice_operator import LatticeSystem
from sciml_bounds.pressure import PressureSolver

BAR = 15  # iterations of our multigrid to the smaller residual
GAIN = 1.3  # what the learned cycle should be ahead of it in time
SMALLEST = 16  # where the growth of the iterations begins
LOADS_AT = 40  # enough cells for the kernels with threads


def relative_residual(system: LatticeSystem, x: torch.Tensor) -> float:
    b = system.rhs.reshape(-1).numpy()
    return float(np.linalg.norm(b - matrix(system.operator) @ x.reshape(-1).numpy()) / np.linalg.norm(b))


# --- measurement ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """What a method took: seconds of the set-up, then seconds and iterations to each residual; inf: not reached."""

    setup: float
    solve: tuple[float, ...]
    iterations: tuple[float, ...]

    def total(self, goal: int) -> float:
        """Seconds of the set-up and of the solve."""
        return self.setup + self.solve[goal]


def attempt(name: str, system: LatticeSystem) -> Cost:
    """Set up and solve once."""
    solver = PressureSolver(METHODS[name], maxiter=most(name))
    norm = float(system.rhs.norm())
    setup, _ = seconds(lambda: solver.prepare(system))
    times, counts = [], []
    for rtol in RTOLS:
        took, solution = seconds(lambda rtol=rtol: solver(system, None, rtol * norm))
        reached = relative_residual(system, solution.x) <= rtol * (1 + 1e-6)  # summed in another order
        times.append(took)
        counts.append(float(solution.iterations.max()) if reached else np.inf)
    return Cost(setup, tuple(times), tuple(counts))


def put_together(costs: list[Cost], center: Callable[[list[float]], float]) -> Cost:
    return Cost(
        center([cost.setup for cost in costs]),
        tuple(center(list(times)) for times in zip(*(cost.solve for cost in costs))),
        tuple(max(counts) for counts in zip(*(cost.iterations for cost in costs))),
    )


def measure(cases: list[LatticeSystem], names: Sequence[str], repeats: int) -> dict[str, Cost]:
    """Let the methods take turns on every system."""
    found: dict[str, list[Cost]] = {name: [] for name in names}
    for system in cases:
        matrix(system.operator)
        turns: dict[str, list[Cost]] = {name: [] for name in names}
        for repeat in range(repeats):
            for name in names:
                if repeat == 0 or name not in LEARNED:
                    turns[name].append(attempt(name, system))
        for name in names:
            found[name].append(put_together(turns[name], median))
    return {name: put_together(costs, fmean) for name, costs in found.items()}


def _peak(name: str, system: LatticeSystem, threads: int, pipe: Any) -> None:
    torch.set_num_threads(threads)
    attempt(name, next(systems("closed", LOADS_AT, [1])))  # loads what is loaded once
    system.operator.matvec(system.rhs.flatten(1))  # what the system holds is there already, and so is its matrix
    given = matrix(system.operator) if name in ON_MATRIX else scipy.sparse.csr_matrix((1, 1))
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    before = int(status["VmRSS"].split()[0])
    PressureSolver(METHODS[name], maxiter=most(name))(system, None, RTOLS[-1] * float(system.rhs.norm()))
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    held = given.data.nbytes + given.indices.nbytes + given.indptr.nbytes
    pipe.send(1024 * (int(status["VmHWM"].split()[0]) - before) + held)


def peak_bytes(name: str, system: LatticeSystem) -> int:
    """Measure in a new process what set-up and solve take at their peak beyond the system; the matrix counts."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_peak, args=(name, system, torch.get_num_threads(), sender))
    process.start()
    sender.close()  # so that a process that dies is an error here and no wait
    found: int = receiver.recv()
    process.join()
    return found


# --- tables -----------------------------------------------------------------------------------------------------------


def written(count: float, name: str) -> str:
    return f">{most(name)}" if np.isinf(count) else f"{count:.0f}"


def print_costs(title: str, costs: dict[str, Cost]) -> None:
    ours = costs["multigrid-pcg"]
    goals = range(len(RTOLS))
    print(f"\n{title}: iterations, seconds, and the ratio of set-up and solve to ours")
    heads = [f"{what} {rtol:.0e}" for what in ("iter.", "solve", "ratio") for rtol in RTOLS]
    print(f"{'':18}" + "".join(f"{head:>13}" for head in (*heads[:2], "set-up", *heads[2:])))
    for name, cost in costs.items():
        counts = "".join(f"{written(count, name):>13}" for count in cost.iterations)
        times = "".join(f"{took:13.4f}" for took in (cost.setup, *cost.solve))
        print(
            f"{name:18}{counts}{times}" + "".join(f"{cost.total(g) / ours.total(g):13.2f}" for g in goals), flush=True
        )


def print_memory(title: str, system: LatticeSystem, names: Sequence[str]) -> None:
    print(f"\n{title}: memory at the peak of set-up and solve beyond the system, and in vectors of float64")
    for name in names:
        found = peak_bytes(name, system)
        print(f"{name:18}{found / 2**20:10.1f} MiB{found / (8 * system.rhs.numel()):9.1f}", flush=True)


@dataclass(frozen=True)
class Growth:
    """The largest iterations of each method over all scenes and steps, one a size."""

    sizes: list[int]
    counts: dict[str, list[tuple[float, ...]]]

    def exponent(self, name: str, goal: int) -> float:
        """Fit C N^p by least squares of the logarithms, and return p to two digits; nan if a solve was given up."""
        counts = np.array([of_size[goal] for of_size in self.counts[name]])
        if len(counts) < 2 or not np.isfinite(counts).all():
            return np.nan
        slope = np.polyfit(np.log(self.sizes), np.log(np.maximum(counts, 1)), 1)[0]
        return round(float(slope), 2) + 0.0  # no minus before zeros

    def print(self) -> None:
        """Print a table for each residual."""
        for goal, rtol in enumerate(RTOLS):
            print(f"\niterations to {rtol:.0e} on N^3 cells, the largest over scenes and steps; p of N^p")
            print(f"{'N':18}" + "".join(f"{n:8}" for n in self.sizes) + f"{'p':>8}")
            for name, counts in self.counts.items():
                entries = "".join(f"{written(of_size[goal], name):>8}" for of_size in counts)
                print(f"{name:18}{entries}{self.exponent(name, goal):8.2f}")

    def draw(self, path: Path) -> None:
        """Draw a panel for each residual."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 4.2), layout="constrained")
        panels = figure.subplots(1, len(RTOLS), sharey=True)
        for goal, (panel, rtol) in enumerate(zip(panels, RTOLS)):
            for name, counts in self.counts.items():
                panel.loglog(self.sizes, [of_size[goal] for of_size in counts], "o-", label=name)
            panel.set_xticks(self.sizes, list(map(str, self.sizes)))
            panel.minorticks_off()
            panel.set(title=f"relative residual {rtol:.0e}", xlabel="cells along an axis")
            panel.grid(alpha=0.3)
        panels[0].set_ylabel("iterations")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
        figure.savefig(path, dpi=150)


# --- run --------------------------------------------------------------------------------------------------------------


def study(cells: int, arguments: argparse.Namespace, names: Sequence[str]) -> list[dict[str, Cost]]:
    """Measure all scenes at one size, and print what is found at the sizes that are asked for."""
    asked = cells in arguments.sizes
    found = []
    for scene in arguments.scenes:
        cases = list(systems(scene, cells, arguments.steps))
        found.append(measure(cases, names, arguments.repeats if asked else 1))
        if asked:
            print_costs(f"{scene}, {cells}^3", found[-1])
    if asked and cells > LOADS_AT:  # memory of what was loaded before is partly used again
        print_memory(f"{scene}, {cells}^3", cases[-1], names)
    return found


def judge_cycle(found: list[dict[str, Cost]]) -> None:
    """Hold the learned cycle against our multigrid, on every scene at the sizes that are asked for."""
    goal = len(RTOLS) - 1
    pairs = [(costs["learned-cycle"], costs["multigrid-pcg"]) for costs in found]
    more = max(cycle.iterations[goal] - ours.iterations[goal] for cycle, ours in pairs)
    judge(f"learned-cycle: iterations to {RTOLS[-1]:.0e} beyond those of multigrid-pcg", more, -1, at_least=False)
    gain = min(ours.total(goal) / cycle.total(goal) for cycle, ours in pairs)
    judge("multigrid-pcg over learned-cycle, seconds of set-up and solve", gain, GAIN, at_least=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64], help="cells along an axis (default 64)")
    parser.add_argument("--scenes", nargs="+", choices=list(SCENES), default=list(SCENES), help="what is simulated")
    parser.add_argument(
        "--steps", type=int, nargs="+", default=[8, 32],
        help=f"when: steps of a grid of {STEPS_AT}^3, in proportion on others (default 8 32)",
    )  # fmt: skip
    parser.add_argument("--repeats", type=int, default=3, help="runs of each method (default 3)")
    parser.add_argument("--only", nargs="+", choices=list(METHODS), default=list(METHODS), help="beside multigrid-pcg")
    parser.add_argument("--threads", type=int, default=2, help="threads of ours and of the loop (default 2)")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw iterations against the size")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore", scipy.sparse.SparseEfficiencyWarning)
    names = [name for name in METHODS if name == "multigrid-pcg" or name in arguments.only]
    measure(list(systems("closed", LOADS_AT, [1])), names, 1)  # loads what is loaded once
    print(f"threads: {torch.get_num_threads()}, steps of {STEPS_AT}^3: {arguments.steps}, repeats: {arguments.repeats}")
    doubled = takewhile(lambda n: n <= max(arguments.sizes), (SMALLEST * 2**k for k in range(10)))
    sizes = sorted({*doubled, *arguments.sizes})
    found = {cells: study(cells, arguments, names) for cells in sizes}
    worst = {
        name: [tuple(max(counts) for counts in zip(*(scene[name].iterations for scene in found[n]))) for n in sizes]
        for name in names
    }
    growth = Growth(sizes, worst)
    growth.print()
    if arguments.picture is not None:
        growth.draw(arguments.picture)
    print()
    for name in OURS:
        if name in names:
            most = max(counts[-1] for counts in worst[name])
            judge(f"{name}: iterations to {RTOLS[-1]:.0e} on every system", most, BAR, at_least=False)
    if "learned-cycle" in names:
        judge_cycle([costs for n in arguments.sizes for costs in found[n]])


if __name__ == "__main__":
    main()
