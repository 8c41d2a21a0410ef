"""How fast data sets are generated, beside one sparse direct solve of scipy a sample, all measured in this one run.

    python benchmarks/generators.py [--cells 420] [--samples 16] [--repeats 3] [--growth 105] [--threads 2]

Seconds are medians over the repeats, in which the methods take turns. Both solve the same equations of the nodes for
the same samples of darcy-smooth: ours from the coefficient, in chunks, to a relative residual of 1e-8, which is
computed anew; scipy is given the assembled matrix and is not charged for that. Ours runs on the given number of
threads; the factorisation of scipy uses one.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its threads and those of OpenMP wait for each other's cores
import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch

import sciml_bounds as sb
from sciml_bounds.problems.discretization import node_system
from sciml_bounds.recipes._elliptic_samples import METHOD
from sciml_bounds.recipes._recipe import sample_rng
from sciml_bounds.recipes._registry import find_recipe
from sciml_bounds.recipes.darcy_smooth import DARCY_SMOOTH

RTOL = 1e-8
#: How scipy solves: as it does by itself, and with the ordering for symmetric patterns, which is faster here.
DIRECT: dict[str, Callable[[Any, np.ndarray], np.ndarray]] = {
    "spsolve": scipy.sparse.linalg.spsolve,
    "spsolve, MMD_AT_PLUS_A": lambda A, b: scipy.sparse.linalg.spsolve(A, b, permc_spec="MMD_AT_PLUS_A"),
}


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def judge(name: str, value: float, bar: float, *, at_least: bool) -> None:
    good = value >= bar if at_least else value <= bar
    print(
        f"  {'PASS' if good else 'MISS'}  {name}: {value:.3g} (bar: {'>=' if at_least else '<='} {bar:g})", flush=True
    )


def draw(samples: int, cells: int) -> torch.Tensor:
    return torch.from_numpy(DARCY_SMOOTH.draw([sample_rng(0, i) for i in range(samples)], cells))


def in_chunks(fields: torch.Tensor) -> list[torch.Tensor]:
    return list(fields.split(DARCY_SMOOTH.chunk(fields.shape[-1])))


def solve(fields: torch.Tensor) -> list[sb.Solution]:
    """Solve all fields, chunk by chunk, set-up included."""
    return [sb.solve(DARCY_SMOOTH.problem(chunk), method=METHOD, rtol=RTOL, throw=True) for chunk in in_chunks(fields)]


def certify(fields: torch.Tensor, solutions: list[sb.Solution]) -> list[sb.Certificate]:
    pairs = zip(in_chunks(fields), solutions)
    return [sb.certify(DARCY_SMOOTH.problem(chunk), solution, lower=False) for chunk, solution in pairs]


def direct(field: torch.Tensor, name: str) -> tuple[float, np.ndarray]:
    """Factor and solve; the seconds are those of scipy alone."""
    system = node_system(DARCY_SMOOTH.problem(field))
    matrix = scipy.sparse.csc_matrix(system.operator.to_csr())
    load = system.rhs.reshape(-1).numpy()
    return seconds(lambda: DIRECT[name](matrix, load))


def darcy(arguments: argparse.Namespace) -> None:
    fields = draw(arguments.samples, arguments.cells)
    certify(fields, solve(fields))  # loads what is loaded once
    times: dict[str, list[float]] = {name: [] for name in ("draw", "solve", "certify", *DIRECT)}
    for repeat in range(arguments.repeats):
        times["draw"].append(seconds(lambda: draw(arguments.samples, arguments.cells))[0] / len(fields))
        spent, solutions = seconds(lambda: solve(fields))
        times["solve"].append(spent / len(fields))
        times["certify"].append(seconds(lambda found=solutions: certify(fields, found))[0] / len(fields))
        for name in DIRECT:
            spent, answer = direct(fields[repeat % len(fields)], name)
            times[name].append(spent)
    found = {name: median(values) for name, values in times.items()}
    values = torch.cat([solution.values for solution in solutions])
    gap = float(np.abs(values[repeat % len(fields)].reshape(-1).numpy() - answer).max() / np.abs(answer).max())
    residual = max(float((s.residual_norm / s.tolerance).max()) * RTOL for s in solutions)
    print(f"\ndarcy-smooth, {arguments.cells} x {arguments.cells} cells, {len(fields)} samples: seconds a sample")
    print(f"  drawing {found['draw']:.4f}   solving {found['solve']:.4f}   certifying {found['certify']:.4f}", end="")
    print("".join(f"   {name} {found[name]:.3f}" for name in DIRECT))
    print(f"  largest relative residual {residual:.1e}; the answers differ by {gap:.1e} of the largest value")
    print(f"  {1 / found['solve']:.1f} samples a second", end="")
    print(f", {1 / (found['draw'] + found['solve'] + found['certify']):.1f} with drawing and certificate")
    first, *others = DIRECT
    for name in others:
        print(f"  {found[name] / found['solve']:.1f} samples of ours in the time of one by {name}")
    judge(f"samples of ours in the time of one by {first}", found[first] / found["solve"], 20, at_least=True)


def growth(arguments: argparse.Namespace) -> None:
    sizes = [arguments.growth * factor for factor in (1, 2, 4)]
    print(
        "\ngrowth: whole samples of darcy-smooth (drawn, solved to 1e-10, certified), milliseconds and a million cells"
    )
    cost = []
    for cells in sizes:
        recipe, count = find_recipe("darcy-smooth"), DARCY_SMOOTH.chunk(cells)

        def generate(cells: int = cells, count: int = count, recipe: Any = recipe) -> Any:
            return recipe.generate(0, 0, count, cells, torch.device("cpu"))

        generate()
        spent = median(seconds(generate)[0] for _ in range(arguments.repeats)) / count
        cost.append(spent / cells**2)
        print(f"  {cells:5}^2 {1e3 * spent:9.1f} {1e9 * cost[-1]:9.1f}   {count} a chunk", flush=True)
    judge(f"time a cell, {sizes[2]}^2 over {sizes[1]}^2", cost[2] / cost[1], 1.3, at_least=False)


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {"darcy": darcy, "growth": growth}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=420, help="cells along an axis (default 420)")
    parser.add_argument("--samples", type=int, default=16, help="samples of ours (default 16)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each method (default 3)")
    parser.add_argument(
        "--growth", type=int, default=105, help="smallest of three grids, each twice as fine as the last"
    )
    parser.add_argument("--threads", type=int, default=2, help="threads of ours (default 2)")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="parts to run")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore", scipy.sparse.SparseEfficiencyWarning)
    for name in arguments.only:
        PARTS[name](arguments)


if __name__ == "__main__":
    main()
