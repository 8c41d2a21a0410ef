"""How many iterations conjugate gradients need with geometric multigrid, beside PyAMG's hierarchies.

    python benchmarks/iterations.py [--seeds 3] [--squares 64 128 211 256 512 1024] [--boxes 32 64 128]

Problem: -div(a grad u) = f on a box, u = 0 on its boundary (unless a row says more), as it is solved ("nodes") or as it
gives fluxes ("cells"). Each number is the largest over the seeds, which draw the coefficient (the same medium at every
size), and over two sources: f = 1 and cell-wise normal noise.

Every method preconditions the same loop on the same matrix with the same right-hand sides and the same stop rule:
||b - A x|| <= max(1e-8 ||b||, 10 eps ||A|| ||x||). All cycles are V-cycles. Ours has two Chebyshev steps before and
after each coarse correction; PyAMG's has a symmetric Gauss-Seidel sweep (its default), forwards and backwards, in their
place: the same number of passes over the matrix, each of them stronger.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Container
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyamg
import scipy.fft
import scipy.ndimage
import scipy.sparse
import torch

import sciml_bounds as sb
from sciml_bounds.multigrid._geometric import lattice_cycle
from sciml_bounds.operators._lattice_operator import LatticeSystem
from sciml_bounds.problems.discretization import cell_fluxes, node_system

RTOL = 1e-8
MOST = 200  # iterations after which a solve is given up
GROWTH = 2  # bar for the growth of the iterations from the smallest to the largest size

Shape = tuple[int, ...]
Field = Callable[[Shape, int], np.ndarray]
Data = dict[str, Any]  # arguments of sb.Diffusion, and `lengths` of the grid
Draw = Callable[[Shape, int], Data]
Build = Callable[[scipy.sparse.csr_matrix, int], Any]  # from the matrix and the dimension to M of `sb.cg`


def ruge_stuben(A: scipy.sparse.csr_matrix, dim: int) -> Any:
    """Set up with a second pass of coarsening, which saves up to two thirds of the iterations."""
    return pyamg.ruge_stuben_solver(A, CF=("RS", {"second_pass": True})).aspreconditioner()


def smoothed_aggregation(A: scipy.sparse.csr_matrix, dim: int) -> Any:
    """Set up with a threshold for strong couplings, which in some rows saves nine tenths of the iterations.

    It does best constant in two dimensions, and halved from level to level in three.
    """
    thresholds = [0.1 / (1 if dim == 2 else 2**level) for level in range(10)]
    strength = [("symmetric", {"theta": theta}) for theta in thresholds]
    return pyamg.smoothed_aggregation_solver(A, strength=strength).aspreconditioner()


#: PyAMG's two classical hierarchies, each with the settings that did best on these problems.
PEERS: dict[str, Build] = {"RS": ruge_stuben, "SA": smoothed_aggregation}
METHODS = ("ours", *PEERS)

# --- media ------------------------------------------------------------------------------------------------------------

FINEST = {2: 1024, 3: 128}  # modes along an axis that are drawn, whatever the size


@cache
def modes(dim: int, seed: int) -> np.ndarray:
    """Draw the cosine series of a Gaussian field with covariance (-Laplace + 9)^-2 and unit variance."""
    k2 = sum(k**2 for k in np.meshgrid(*[np.arange(FINEST[dim])] * dim, indexing="ij", sparse=True))
    series = np.random.default_rng(seed).standard_normal(k2.shape) / (np.pi**2 * k2 + 9.0)
    series[(0,) * dim] = 0.0
    return series / np.linalg.norm(series)


def gaussian(shape: Shape, seed: int) -> np.ndarray:
    """Evaluate the field of a seed, the same at every size, at the centres of the cells."""
    series = modes(len(shape), seed)[tuple(slice(n) for n in shape)]
    series = np.pad(series, [(0, n - m) for n, m in zip(shape, series.shape)])
    return np.sqrt(np.prod(shape)) * scipy.fft.idctn(series, norm="ortho")


def centres(shape: Shape) -> list[np.ndarray]:
    return np.meshgrid(*[(np.arange(n) + 0.5) / n for n in shape], indexing="ij", sparse=True)


def discs(shape: Shape, seed: int, count: int = 12) -> np.ndarray:
    """Mark the cells inside discs (balls) of random size and place."""
    rng = np.random.default_rng(seed)
    inside = np.zeros(shape, dtype=bool)
    for _ in range(count):
        middle, radius = rng.random(len(shape)), rng.uniform(0.03, 0.12)
        inside |= sum((x - m) ** 2 for x, m in zip(centres(shape), middle)) < radius**2
    return inside


def log_normal(shape: Shape, seed: int) -> np.ndarray:
    return np.exp(2 * gaussian(shape, seed))


def thresholded(high: float, low: float) -> Field:
    return lambda shape, seed: np.where(gaussian(shape, seed) >= 0, high, low)


def inclusions(value: float) -> Field:
    return lambda shape, seed: np.where(discs(shape, seed), value, 1.0)


def coin_flips(high: float) -> Field:
    return lambda shape, seed: np.where(np.random.default_rng(seed).random(shape) < 0.5, high, 1.0)


def decades(shape: Shape, seed: int) -> np.ndarray:
    return 10 ** np.random.default_rng(seed).uniform(-2, 2, shape)


def stripes(high: float, shift: int) -> Field:
    """Layers of two cells, the first of `shift` cells; the seed turns them."""

    def draw(shape: Shape, seed: int) -> np.ndarray:
        axis = seed % len(shape)
        layer = (np.arange(shape[axis]) + shift) // 2 % 2
        return np.broadcast_to(np.expand_dims(np.where(layer, high, 1.0), tuple(range(1, len(shape) - axis))), shape)

    return draw


def isotropic(field: Field) -> Draw:
    return lambda shape, seed: {"coefficient": field(shape, seed)}


def anisotropic(field: Field) -> Draw:
    """Divide a coefficient by a thousand along one axis, which the seed chooses."""

    def draw(shape: Shape, seed: int) -> Data:
        a = field(shape, seed)
        return {"coefficient": tuple(a * (1e-3 if axis == seed % len(shape) else 1.0) for axis in range(len(shape)))}

    return draw


def turning(shape: Shape, seed: int) -> Data:
    """Put the strong axis where the phase of a medium says: no axis is the right one to coarsen everywhere."""
    along_x = gaussian(shape, seed) >= 0
    return {"coefficient": (np.where(along_x, 1.0, 1e-3), np.where(along_x, 1e-3, 1.0))}


def stretched(shape: Shape, seed: int) -> Data:
    """Stretch the cells by the root of a thousand, so that their couplings are in proportion 1:1000."""
    axis = seed % len(shape)
    return {"lengths": tuple(n * (1000**0.5 if a == axis else 1.0) / shape[0] for a, n in enumerate(shape))}


def open_to_the_sides(fluid: np.ndarray) -> np.ndarray:
    """Keep the fluid that is connected with the boundary; without it nothing would hold the solution."""
    labels, _ = scipy.ndimage.label(fluid)
    ends = [labels.take(end, axis) for axis in range(fluid.ndim) for end in (0, -1)]
    return fluid & np.isin(labels, np.unique(np.concatenate([end.ravel() for end in ends])))


def solid_discs(shape: Shape, seed: int) -> Data:
    return {"solid": ~open_to_the_sides(~discs(shape, seed, count=40))}


def solid_cells(shape: Shape, seed: int) -> Data:
    return {"solid": ~open_to_the_sides(np.random.default_rng(seed).random(shape) >= 0.3)}


def winding_channel(shape: Shape, seed: int) -> Data:
    """Lead a channel to and fro between walls of one to three cells; only its mouth is held."""
    solid = np.zeros(shape, dtype=bool)
    turns, width = 8, shape[1] // 8
    for turn in range(1, turns):
        wall = slice(turn * shape[0] // turns, turn * shape[0] // turns + 1 + seed % 3)
        solid[wall, (width if turn % 2 else 0) : (shape[1] if turn % 2 else shape[1] - width)] = True
    sides = {"x0": sb.Dirichlet(0.0), "x1": sb.Neumann(), "y0": sb.Neumann(), "y1": sb.Neumann()}
    return {"solid": solid, "boundary": sides}


# --- cases ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A kind of problem, where it is solved, and its bar.

    Attributes
    ----------
    lattice
        "nodes": the equations that are solved; "cells": those of the two-point flux.
    largest
        Cells along an axis up to which it is measured.
    bar
        Largest number of iterations; None where nothing is promised.
    """

    name: str
    draw: Draw
    largest: int
    bar: int | None = None
    lattice: str = "nodes"


def one(shape: Shape, seed: int) -> np.ndarray:
    return np.ones(shape)


MILD: dict[str, Field] = {"constant": one, "log-normal": log_normal, "thresholded 12/3": thresholded(12.0, 3.0)}
JUMPS: dict[str, Field] = {
    "thresholded 1e4": thresholded(1e4, 1.0),
    "thresholded 1e6": thresholded(1e6, 1.0),
    "inclusions 1e6": inclusions(1e6),
    "inclusions 1e-6": inclusions(1e-6),
}
ROUGH: dict[str, Field] = {"cellwise 50/50, 1e4": coin_flips(1e4), "cellwise over 4 decades": decades}
OTHERS: dict[str, Draw] = {
    "2-cell stripes 1e4": isotropic(stripes(1e4, 0)),
    "2-cell stripes 1e4, odd offset": isotropic(stripes(1e4, 1)),
    "anisotropy 1:1000": anisotropic(one),
    "anisotropy 1:1000, log-normal": anisotropic(log_normal),
    "anisotropy 1:1000, turning": turning,
    "stretched cells, 1:1000": stretched,
    "solid discs": solid_discs,
    "solid cells, 30 %": solid_cells,
    "winding channel": winding_channel,
}

SQUARES = [
    *(Case(name, isotropic(field), 1024, 8) for name, field in MILD.items()),
    *(Case(name, isotropic(field), 512, 15) for name, field in JUMPS.items()),
    *(Case(name, isotropic(field), 512) for name, field in ROUGH.items()),
    *(Case(name, draw, 512) for name, draw in OTHERS.items()),
]
SQUARES_OF_CELLS = [
    *(Case(name, isotropic(field), 512, 8, "cells") for name, field in MILD.items()),
    *(Case(name, isotropic(field), 512, 15, "cells") for name, field in JUMPS.items()),
    *(Case(name, isotropic(field), 256, lattice="cells") for name, field in ROUGH.items()),
    *(Case(name, OTHERS[name], 256, lattice="cells") for name in ("solid cells, 30 %", "winding channel")),
]
BOXES = [
    *(Case(name, isotropic(field), 128, 10) for name, field in MILD.items()),
    *(Case(name, isotropic(field), 64) for name, field in (JUMPS | ROUGH).items()),
]

# --- measurement ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """Iterations of one case: one list a method, one entry a size; inf if some solve was given up, nan if not run."""

    case: Case
    counts: dict[str, list[float]]
    seconds: dict[str, float]

    @property
    def growth(self) -> float:
        """Growth of our iterations from the smallest to the largest size."""
        ours = [count for count in self.counts["ours"] if not np.isnan(count)]
        return ours[-1] - ours[0]


def system(case: Case, shape: Shape, seed: int) -> LatticeSystem:
    """Assemble the equations of a case with both right-hand sides."""
    data = case.draw(shape, seed)
    grid = sb.Grid(shape, lengths=data.pop("lengths", (1.0,) * len(shape)))
    noise = np.random.default_rng([seed, 1]).standard_normal(shape)
    problem = sb.Diffusion(grid, source=np.stack([np.ones(shape), noise]), **data)
    return node_system(problem) if case.lattice == "nodes" else cell_fluxes(problem).system


def matrix(equations: LatticeSystem) -> scipy.sparse.csr_matrix:
    return scipy.sparse.csr_matrix(equations.operator.to_csr())


def iterate(equations: LatticeSystem, M: Any, sources: int = 2) -> float:
    """Solve, and return the largest number of iterations."""
    b = equations.rhs[:sources].flatten(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sb.ConvergenceWarning)
        solution = sb.cg(equations.operator, b, M=M, rtol=RTOL, maxiter=MOST, flexible=False)
    return float(solution.iterations.max()) if bool(solution.converged.all()) else np.inf


def measure(case: Case, shape: Shape, seeds: int, with_peers: bool) -> dict[str, float]:
    """Count the iterations of every method; the largest over the seeds."""
    worst: dict[str, float] = {}
    for seed in range(seeds):
        equations = system(case, shape, seed)
        counts = {"ours": iterate(equations, lattice_cycle(equations.operator))}
        if with_peers:
            A = matrix(equations)
            counts |= {name: iterate(equations, build(A, len(shape))) for name, build in PEERS.items()}
        worst = {name: max(count, worst.get(name, 0.0)) for name, count in counts.items()}
    return worst


def seconds(case: Case, shape: Shape) -> dict[str, float]:
    """Time set-up and solve with f = 1 for every method."""
    equations = system(case, shape, 0)
    A = matrix(equations)

    def timed(build: Callable[[], Any]) -> float:
        start = time.perf_counter()
        iterate(equations, build(), sources=1)
        return time.perf_counter() - start

    iterate(equations, lattice_cycle(equations.operator), sources=1)
    found = {"ours": timed(lambda: lattice_cycle(equations.operator))}
    return found | {name: timed(lambda build=build: build(A, len(shape))) for name, build in PEERS.items()}


# --- table ------------------------------------------------------------------------------------------------------------


def written(count: float) -> str:
    return "-" if np.isnan(count) else f">{MOST}" if np.isinf(count) else f"{count:.0f}"


def print_head(title: str, sizes: list[int], dim: int, timed_at: int) -> None:
    """Print the names of the columns."""
    names = "".join(f"{name:>5} " for name in METHODS)
    print(f"\n{title:32}" + "".join(f"{f'{n}^{dim}':>18} " for n in sizes) + f"{f'seconds at {timed_at}^{dim}':>28}")
    print(f"{'':32}" + f" {names}" * len(sizes) + f"{'growth':>8}  " + "".join(f"{name:>6}" for name in METHODS))


def print_row(row: Row) -> None:
    """Print one line of the table."""
    text = f"{row.case.name:32}"
    for counts in zip(*row.counts.values()):
        text += " " + "".join(f"{written(count):>5}{'*' if count < counts[0] else ' '}" for count in counts)
    print(f"{text}{written(row.growth):>8}  " + "".join(f"{s:6.2f}" for s in row.seconds.values()), flush=True)


def table(title: str, cases: list[Case], dim: int, sizes: list[int], seeds: int, peers: Container[int]) -> list[Row]:
    """Measure and print all rows; PyAMG takes part at the sizes `peers`."""
    timed_at = max((n for n in sizes if n in peers), default=sizes[0])
    print_head(title, sizes, dim, timed_at)
    rows = []
    for case in cases:
        found = [measure(case, (n,) * dim, seeds, n in peers) if n <= case.largest else {} for n in sizes]
        counts = {name: [at_size.get(name, np.nan) for at_size in found] for name in METHODS}
        rows.append(Row(case, counts, seconds(case, (timed_at,) * dim)))
        print_row(rows[-1])
    return rows


def print_bars(title: str, rows: list[Row]) -> None:
    """Judge the rows that have bars."""
    for row in rows:
        if row.case.bar is not None:
            most = float(np.nanmax(row.counts["ours"]))
            for what, value, limit in (("iterations", most, row.case.bar), ("growth", row.growth, GROWTH)):
                verdict = "PASS" if value <= limit else "MISS"
                print(f"  {verdict}  {title}, {row.case.name}: {what} {written(value)} (bar: <= {limit})")


def print_comparison(rows: list[Row]) -> None:
    """Count the entries where PyAMG needs fewer iterations, as many, or more."""
    for name in PEERS:
        pairs = [pair for row in rows for pair in zip(row.counts[name], row.counts["ours"]) if not np.isnan(pair[0])]
        fewer, more = sum(p < o for p, o in pairs), sum(p > o for p, o in pairs)
        print(f"  {name}: fewer than ours in {fewer}, as many in {len(pairs) - fewer - more}, more in {more} entries")


NOTES = """
Largest number of iterations over {seeds} seeds and two sources. ours: geometric multigrid; RS, SA: Ruge-Stuben and
smoothed aggregation of PyAMG, * where they need fewer iterations than ours; >{most}: not solved by then; -: not run.
growth: of ours, from the smallest size to the largest. seconds: set-up and solve for one source, kernels compiled
before and the matrix assembled, for orientation only (threads: {threads}; PyAMG's cycles use one).

Where ours takes most: coarse points are chosen by place, so parts that conduct much better than what parts them from
each other, by less than a coarse cell, become one on the coarse level. Conjugate gradients spend 3 or 4 iterations on
each such pair, which is why inclusions with gaps of one cell cost up to 15, and cell-wise noise far more."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="media of each kind (default 3)")
    parser.add_argument("--squares", type=int, nargs="+", default=[64, 128, 211, 256, 512, 1024], help="sizes in 2-D")
    parser.add_argument("--boxes", type=int, nargs="+", default=[32, 64, 128], help="sizes in 3-D")
    arguments = parser.parse_args()
    squares, boxes, seeds = arguments.squares, arguments.boxes, arguments.seeds
    tables = {
        "2-D, nodes": table("2-D, nodes", SQUARES, 2, squares, seeds, peers=(64, 128, 256)),
        "2-D, cells": table("2-D, cells", SQUARES_OF_CELLS, 2, squares, seeds, peers=(128,)),
        "3-D, nodes": table("3-D, nodes", BOXES, 3, boxes, seeds, peers=(32,)),
    }
    print(NOTES.format(seeds=seeds, most=MOST, threads=torch.get_num_threads()))
    print("\nbars")
    for title, rows in tables.items():
        print_bars(title, rows)
    print("\niterations of PyAMG")
    print_comparison([row for rows in tables.values() for row in rows])


if __name__ == "__main__":
    main()
