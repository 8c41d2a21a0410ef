"""A reservoir of 60 x 220 x 85 cells: two-point pressures with wells, ours next to PyAMG and PETSc GAMG.

    python benchmarks/reservoir.py [--shape 60 220 85] [--repeats 1] [--threads 2] [--without pyamg-sa ...]

The permeability is log-normal on two scales (layers and channels of tens of cells, and a fine texture), between 1e-3
and 1e3, and ten times smaller along the vertical, in cells of 20 x 10 x 2. An injector in the middle has a rate, the
producers at the four corners have well indices and a bottom-hole pressure; they go through all layers, as in the
five-spot of the tenth SPE comparative solution project (Christie, Blunt, SPE 66599, 2001), whose file is not used here.
All sides are closed. Every method solves the same matrix until ||b - A x|| <= 1e-8 ||b||, recomputed from the answer.
PyAMG and PETSc are given the assembled matrix and not charged for its assembly; ours is charged for its own. PETSc runs
on one process.

Then the answer is certified: the guaranteed relative error of pressures and fluxes as they are, and that of the nodal
solution, whose certificate solves for a flux. The last table does so on layers of 128 x 128 cells with three wells,
with lower bounds too: the upper bound exceeds the error by at most the factor upper / lower. Seconds are for the upper
bound; those of the nodal route include the solve for the nodal values, which a cell-centred simulator does not have.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pyamg
import scipy.ndimage
import scipy.sparse
import torch
from speed import judge, pyamg_solve, seconds

import sciml_bounds as sb
from sciml_bounds.simulation import Well, with_wells

RTOL = 1e-8  # of `speed.pyamg_solve` as well
CONTRAST = 1e6
HIERARCHIES = {"pyamg-sa": pyamg.smoothed_aggregation_solver, "pyamg-rs": pyamg.ruge_stuben_solver}


def permeability(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Return a log-normal field on two scales, with values from 1e-3 to 1e3."""
    rng = np.random.default_rng(seed)

    def smooth(lengths: tuple[float, ...]) -> np.ndarray:
        field = scipy.ndimage.gaussian_filter(rng.standard_normal(shape), lengths, mode="reflect")
        return field / field.std()

    scale = np.array(shape) / (60, 220, 85)
    coarse, fine = smooth(tuple(scale * (12, 30, 4))), smooth((1.0, 1.0, 0.5))
    logarithm = coarse + 0.7 * fine
    logarithm -= logarithm.min()
    return np.sqrt(CONTRAST) ** (2 * logarithm / logarithm.max() - 1)


def reservoir(shape: tuple[int, ...]) -> sb.Diffusion:
    """Return the problem with its five wells."""
    k = permeability(shape)
    cells = np.array((20.0, 10.0, 2.0)) * (60, 220, 85) / shape
    closed = sb.Diffusion(sb.Grid(shape, lengths=tuple(cells * shape)), (k, k, 0.1 * k), boundary=sb.Neumann(0.0))
    x, y, layers = shape[0] - 1, shape[1] - 1, slice(None)
    share = k[shape[0] // 2, shape[1] // 2]
    wells = [Well((shape[0] // 2, shape[1] // 2, layers), rate=1e3 * share / share.sum())]
    for i, j in ((0, 0), (0, y), (x, 0), (x, y)):
        wells.append(Well((i, j, layers), index=2 * np.pi * cells[2] * k[i, j] / 5.0, pressure=0.0))
    return with_wells(closed, wells)


def ours(problem: sb.Diffusion) -> tuple[dict[str, float], Any, Any]:
    setup, solver = seconds(lambda: sb.prepare(problem, method="multigrid", unknowns="cells"))
    solve, solution = seconds(lambda: solver.solve(rtol=RTOL))
    relative = float(solution.linear.residual_norm / solver.rhs.norm())
    record = {"setup": setup, "solve": solve, "iterations": int(solution.iterations), "residual": relative}
    return record, solver, solution


def gamg(A: scipy.sparse.csr_matrix, b: np.ndarray, repeats: int) -> list[dict[str, float]]:
    """Run PETSc on one process; an empty list where it is not installed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "system.npz"
        np.savez(path, indptr=A.indptr, indices=A.indices, data=A.data, rhs=b)
        command = [sys.executable, Path(__file__).with_name("_gamg.py"), path, str(RTOL), str(repeats)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    return [json.loads(line) for line in result.stdout.splitlines()] if result.returncode == 0 else []


def solves(problem: sb.Diffusion, arguments: argparse.Namespace) -> Any:
    """Print a table of all methods, and return the solution."""
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(arguments.repeats):
        record, solver, solution = ours(problem)
        found.setdefault("ours", []).append(record)
    A, b = scipy.sparse.csr_matrix(solver.operator.to_csr()), solver.rhs.reshape(-1).numpy()
    peers: dict[str, Callable[[], list[dict[str, float]]]] = {
        name: lambda build=build: [pyamg_solve(build, A, b) for _ in range(arguments.repeats)]
        for name, build in HIERARCHIES.items()
    }
    peers["petsc-gamg"] = lambda: gamg(A, b, arguments.repeats)
    for name, solve in peers.items():
        if name not in arguments.without:
            found[name] = solve()
    print(f"{'':14}{'set-up':>9}{'solve':>9}{'total':>9}{'iterations':>12}{'residual':>10}{'over ours':>11}")
    totals: dict[str, float] = {}
    for name, runs in found.items():
        if not runs:
            print(f"{name:14}  not installed")
            continue
        setup, solve, residual = (median(run[key] for run in runs) for key in ("setup", "solve", "residual"))
        totals[name] = setup + solve
        missed = "" if residual <= 1.001 * RTOL else "  not reached"
        print(
            f"{name:14}{setup:9.2f}{solve:9.2f}{setup + solve:9.2f}{runs[0]['iterations']:12}{residual:10.1e}"
            f"{totals[name] / totals['ours']:11.2f}{missed}",
            flush=True,
        )
    rest = [total for name, total in totals.items() if name != "ours"]
    if rest:
        judge("set-up and solve of the fastest other method over ours", min(rest) / totals["ours"], 1.0, at_least=True)
    return solution


def certificates(problem: sb.Diffusion, solution: Any) -> None:
    """Print the bounds of both routes, and their seconds."""
    solving, nodal = seconds(lambda: sb.solve(problem, method="multigrid"))
    for _ in range(2):  # the first ones fetch memory, which they give back
        cells = nodes = None
        took, cells = seconds(lambda: sb.certify(problem, solution, lower=False))
        certifying, nodes = seconds(lambda: sb.certify(problem, nodal, lower=False))
    print(f"\n{'certificate':30}{'seconds':>9}{'bound':>12}{'relative':>11}")
    for name, duration, certificate in (
        ("cell pressures and fluxes", took, cells),
        ("nodal values", certifying, nodes),
    ):
        bounds = f"{float(certificate.upper):12.4g}{float(certificate.relative_upper):11.4f}"
        print(f"{name:30}{duration:9.2f}{bounds}")
    print(f"{'(solve for the nodal values)':30}{solving:9.2f}")


def layers(cells: int, seed: int = 1) -> dict[str, sb.Diffusion]:
    """Return two-dimensional problems with wells on several media."""
    rng = np.random.default_rng(seed)
    smooth = scipy.ndimage.gaussian_filter(rng.standard_normal((cells, cells)), cells / 16, mode="reflect")
    blocks = np.kron(rng.uniform(-3, 3, (8, 8)), np.ones((cells // 8,) * 2))
    media = {
        "smooth log-normal": np.exp(smooth / smooth.std()),
        "reservoir, contrast 1e6": permeability((cells, cells, 8), seed)[..., 4],
        "log-normal cell by cell": np.exp(rng.standard_normal((cells, cells))),
        "blocks, contrast 1e6": 10**blocks,
    }
    middle = cells // 2
    wells = [Well((middle, middle), rate=1.0)] + [
        Well((i, j), index=1.0, pressure=0.0) for i, j in ((0, 0), (cells - 1, middle))
    ]
    closed = sb.Diffusion(sb.Grid((cells, cells)), boundary=sb.Neumann(0.0))
    return {name: with_wells(closed.replace(coefficient=k), wells) for name, k in media.items()}


def tightness(cells: int) -> None:
    """Print bounds of cell pressures next to those of nodal values on several media."""
    print(
        f"\n{cells} x {cells} cells{'':16}{'seconds':>9}{'lower':>10}{'upper':>10}{'upper / lower':>15}{'relative':>11}"
    )
    for name, problem in layers(cells).items():
        found = sb.prepare(problem, method="multigrid", unknowns="cells").solve(rtol=RTOL)
        routes: dict[str, Callable[[bool], sb.Certificate]] = {
            "cells": lambda lower, p=problem, s=found: sb.certify(p, s, lower=lower),
            "nodes": lambda lower, p=problem: sb.certify(p, sb.solve(p, method="multigrid"), lower=lower),
        }
        for route, certify in routes.items():
            certificate = certify(True)
            took = median(seconds(lambda certify=certify: certify(False))[0] for _ in range(3))
            lower, upper = float(certificate.lower), float(certificate.upper)
            bounds = f"{lower:10.4f}{upper:10.4f}{upper / lower:15.3f}{float(certificate.relative_upper):11.4f}"
            print(f"{name:26}{route:7}{took:9.4f}{bounds}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=[60, 220, 85], help="cells (default 60 220 85)")
    parser.add_argument("--layer", type=int, default=128, help="cells along a side of the layers (default 128)")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each method (default 1)")
    parser.add_argument("--threads", type=int, default=2, help="threads of ours (default 2)")
    parser.add_argument("--without", nargs="+", default=[], choices=[*HIERARCHIES, "petsc-gamg"], help="leave out")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    shape = tuple(arguments.shape)
    ours(reservoir((8, 8, 8)))  # loads what is loaded once
    problem = reservoir(shape)
    k = problem.coefficient[0]
    print(f"{' x '.join(map(str, shape))} cells, permeability {float(k.min()):.1e} ... {float(k.max()):.1e}, "
          f"threads: {torch.get_num_threads()}, repeats: {arguments.repeats}")  # fmt: skip
    solution = solves(problem, arguments)
    certificates(problem, solution)
    tightness(arguments.layer)


if __name__ == "__main__":
    main()
