"""How fast problems are solved and certified, beside PyAMG, PETSc and scipy, all measured in this one run.

    python benchmarks/speed.py [--repeats 3] [--box 128] [--square 1024] [--only solve batch ...]

Seconds are medians over the repeats, in which the methods take turns (ours before each of the others). All solve to the
same relative residual (1e-8 unless a table says more), which is computed anew from the answer. Ours starts from the
coefficient: its set-up contains the assembly, which the others, who are given the assembled matrix, are not charged
for. Certificates and their solves take turns three times as often.
PETSc runs on two ranks, ours and the transforms of scipy on two threads; PyAMG and the products of scipy use one.
"""

from __future__ import annotations

import argparse
import json
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its threads and those of OpenMP wait for each other's cores
import multiprocessing
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyamg
import scipy.fft
import scipy.sparse
import scipy.sparse.linalg
import torch

import sciml_bounds as sb
from sciml_bounds.kernels import lattice
from sciml_bounds.problems.discretization import node_system

RTOL = 1e-8

# --- media ------------------------------------------------------------------------------------------------------------


def gaussian(shape: tuple[int, ...]) -> np.ndarray:
    """Draw the cosine series of a Gaussian field with covariance (-Laplace + 9)^-2 and unit variance."""
    k2 = sum(k**2 for k in np.meshgrid(*[np.arange(n) for n in shape], indexing="ij", sparse=True))
    series = np.random.default_rng(0).standard_normal(shape) / (np.pi**2 * k2 + 9.0)
    series[(0,) * len(shape)] = 0.0
    field = scipy.fft.idctn(series, norm="ortho", workers=2)
    return field / field.std()


MEDIA: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "12/3": lambda g: np.where(g >= 0, 12.0, 3.0),
    "log-normal": np.exp,
}


def problem_of(medium: str, shape: tuple[int, ...]) -> sb.Diffusion:
    return sb.Diffusion(sb.Grid(shape), MEDIA[medium](gaussian(shape)), 1.0)


# --- clocks -----------------------------------------------------------------------------------------------------------


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def median_seconds(works: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Let the works take turns; everything has been run once before."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            times[name].append(seconds(work)[0])
    return {name: median(found) for name, found in times.items()}


def copy_seconds(numbers: int) -> float:
    """Median time of copying so many float64 numbers beyond the cache."""
    source, target = torch.rand(numbers, dtype=torch.float64), torch.empty(numbers, dtype=torch.float64)
    return median(seconds(lambda: target.copy_(source))[0] for _ in range(9))


def judge(name: str, value: float, bar: float, *, at_least: bool) -> None:
    good = value >= bar if at_least else value <= bar
    print(
        f"  {'PASS' if good else 'MISS'}  {name}: {value:.3g} (bar: {'>=' if at_least else '<='} {bar:g})", flush=True
    )


# --- one solve --------------------------------------------------------------------------------------------------------


def ours(problem: sb.Diffusion) -> dict[str, float]:
    setup, solver = seconds(lambda: sb.prepare(problem, method="multigrid"))
    solve, solution = seconds(lambda: solver.solve(rtol=RTOL))
    relative = float(solution.residual_norm / solver.rhs.norm())
    return {"setup": setup, "solve": solve, "iterations": int(solution.iterations), "residual": relative}


def pyamg_solve(build: Callable[[Any], Any], A: Any, b: np.ndarray) -> dict[str, float]:
    setup, hierarchy = seconds(lambda: build(A))
    M = hierarchy.aspreconditioner()
    count = []
    solve, (x, _) = seconds(
        lambda: scipy.sparse.linalg.cg(A, b, M=M, rtol=RTOL, maxiter=200, callback=lambda _: count.append(1))
    )
    relative = float(np.linalg.norm(b - A @ x) / np.linalg.norm(b))
    return {"setup": setup, "solve": solve, "iterations": len(count), "residual": relative}


def gamg(system: Path, repeats: int) -> list[dict[str, float]]:
    """Run PETSc on two ranks; an empty list where it is not installed."""
    mpiexec = Path(sys.executable).with_name("mpiexec")
    command = [
        mpiexec,
        "-n",
        "2",
        sys.executable,
        Path(__file__).with_name("_gamg.py"),
        system,
        str(RTOL),
        str(repeats),
    ]
    if not mpiexec.exists():
        return []
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in result.stdout.splitlines()]


HIERARCHIES = {
    "PyAMG, smoothed aggregation": pyamg.smoothed_aggregation_solver,
    "PyAMG, Ruge-Stuben": pyamg.ruge_stuben_solver,
}


def compare(medium: str, shape: tuple[int, ...], repeats: int) -> None:
    """Print one table: set-up and solve of every method, and the ratios to ours."""
    problem = problem_of(medium, shape)
    system = node_system(problem)
    csr = scipy.sparse.csr_matrix(system.operator.to_csr())
    b = system.rhs.reshape(-1).numpy()
    found: dict[str, list[dict[str, float]]] = {"ours": [], **{name: [] for name in HIERARCHIES}, "PETSc GAMG": []}
    ours(problem)  # the first one fetches memory
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "system.npz"
        np.savez(path, indptr=csr.indptr, indices=csr.indices, data=csr.data, rhs=b)
        for _ in range(repeats):  # ours is the shortest and scatters most: it is run between all others
            for name, build in HIERARCHIES.items():
                found["ours"].append(ours(problem))
                found[name].append(pyamg_solve(build, csr, b))
            found["ours"].append(ours(problem))
            found["PETSc GAMG"] += gamg(path, 1)
    print(f"\n{medium}, {' x '.join(map(str, shape))}: seconds, and the ratio to ours")
    print(f"{'':30}{'set-up':>9}{'solve':>9}{'total':>9}{'steps':>7}{'residual':>10}{'total':>9}{'solve':>9}")
    base = {key: median(run[key] for run in found["ours"]) for key in ("setup", "solve")}
    ratios = {}
    for name, runs in found.items():
        if not runs:
            print(f"{name:30}  not installed (extra `fem`)")
            continue
        setup, solve, residual = (median(run[key] for run in runs) for key in ("setup", "solve", "residual"))
        ratios[name] = ((setup + solve) / (base["setup"] + base["solve"]), solve / base["solve"])
        print(
            f"{name:30}{setup:9.3f}{solve:9.3f}{setup + solve:9.3f}{runs[0]['iterations']:7}{residual:10.1e}"
            f"{ratios[name][0]:9.1f}{ratios[name][1]:9.1f}",
            flush=True,
        )
    if len(shape) == 3:
        fastest = min((ratios[name] for name in HIERARCHIES), key=lambda pair: pair[0])
        judge("set-up and solve over the faster PyAMG", fastest[0], 30, at_least=True)
        judge("solve alone over the same", fastest[1], 10, at_least=True)
        if "PETSc GAMG" in ratios:
            judge("set-up and solve over PETSc", ratios["PETSc GAMG"][0], 15, at_least=True)
            judge("solve alone over PETSc", ratios["PETSc GAMG"][1], 3, at_least=True)


def solves(arguments: argparse.Namespace) -> None:
    for medium in MEDIA:
        compare(medium, (arguments.box,) * 3, arguments.repeats)
    for medium in MEDIA:
        compare(medium, (arguments.square,) * 2, arguments.repeats)


# --- constant coefficients --------------------------------------------------------------------------------------------


def constant(arguments: argparse.Namespace) -> None:
    n = arguments.box
    f = np.random.default_rng(0).standard_normal((n,) * 3)
    problem = sb.Diffusion(sb.Grid((n,) * 3), 1.0, f)
    b = node_system(problem).rhs[0, 1:-1, 1:-1, 1:-1].numpy()
    line = 4 * n * np.sin(np.pi / (2 * n) * np.arange(1, n)) ** 2 / n**2
    eigenvalues = line[:, None, None] + line[:, None] + line

    def sine() -> np.ndarray:
        spectrum = scipy.fft.dstn(b, 1, norm="ortho", workers=2)
        return scipy.fft.idstn(spectrum / eigenvalues, 1, norm="ortho", workers=2)

    works: dict[str, Callable[[], Any]] = {
        "scipy: sine transform of the assembled right-hand side": sine,
        "ours: auto": lambda: sb.solve(problem, rtol=RTOL),
        "ours: multigrid": lambda: sb.solve(problem, rtol=RTOL, method="multigrid"),
    }
    answers = {name: work() for name, work in works.items()}
    times = median_seconds(works, arguments.repeats)
    gap = float(np.abs(answers["ours: auto"].values[1:-1, 1:-1, 1:-1].numpy() - answers[next(iter(works))]).max())
    print(f"\nconstant coefficient, {n}^3 (answers of the first two differ by {gap:.1e})")
    for name, found in times.items():
        print(f"  {name:58}{found:9.3f} s")


# --- growth, memory, bandwidth ----------------------------------------------------------------------------------------


def growth(arguments: argparse.Namespace) -> None:
    sizes = [arguments.box // 4, arguments.box // 2, arguments.box, 2 * arguments.box]
    print("\ngrowth (12/3): seconds of set-up and solve, and of copying a vector")
    total, copied = [], []
    for n in sizes:
        problem = problem_of("12/3", (n,) * 3)
        ours(problem)
        runs = [ours(problem) for _ in range(arguments.repeats)]
        total.append(median(run["setup"] + run["solve"] for run in runs))
        copied.append(copy_seconds((n + 1) ** 3))
        print(f"  {n:4}^3 {total[-1]:9.3f} {copied[-1]:9.5f}   {runs[0]['iterations']} iterations", flush=True)
    ratio = (total[-1] / total[-2]) / (copied[-1] / copied[-2])
    judge(f"growth from {sizes[-2]}^3 to {sizes[-1]}^3 over that of copying", ratio, 1.3, at_least=False)


def _peak(n: int, pipe: Any) -> None:
    problem_of("12/3", (n,) * 3)
    ours(problem_of("12/3", (40,) * 3))  # loads what is loaded once
    problem = problem_of("12/3", (n,) * 3)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    before = int(status["VmRSS"].split()[0])
    ours(problem)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    pipe.send(1024 * (int(status["VmHWM"].split()[0]) - before))


def memory(arguments: argparse.Namespace) -> None:
    n = arguments.box
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_peak, args=(n, sender))
    process.start()
    process.join()
    vectors = receiver.recv() / (8 * (n + 1) ** 3)
    print(f"\nmemory, 12/3, {n}^3")
    judge("peak of set-up and solve beyond what was there, in vectors of float64", vectors, 20, at_least=False)


def bandwidth(arguments: argparse.Namespace) -> None:
    n = arguments.box
    operator = node_system(problem_of("12/3", (n,) * 3)).operator
    print(f"\nfine-level kernels, {n}^3: bytes that must move over time, relative to copying as many")
    for dtype in (torch.float64, torch.float32):
        A = operator.to(dtype)
        s, u, b, out = (torch.rand(1, *A.lattice, dtype=dtype) for _ in range(4))
        kernels: dict[str, tuple[int, Callable[[], Any]]] = {
            "apply": (6, lambda A=A, u=u, out=out: lattice.apply(A.offsets, A.conductance, A.absorption, u, out)),
            "residual": (
                7, lambda A=A, u=u, b=b, out=out: lattice.residual(A.offsets, A.conductance, A.absorption, u, b, out)
            ),
            "relax": (
                8,
                lambda A=A, s=s, u=u, b=b, out=out: lattice.relax(
                    A.offsets, A.conductance, A.absorption, s, u, b, 0.5, out
                ),
            ),
        }  # fmt: skip
        for name, (vectors, kernel) in kernels.items():
            kernel()
            source = torch.rand(vectors * out.numel() // 2, dtype=dtype)
            target = torch.empty_like(source)
            times = median_seconds({"kernel": kernel, "copy": lambda s=source, t=target: t.copy_(s)}, 15)
            label = f"{name}, {str(dtype).removeprefix('torch.')}"
            judge(f"{label} ({1e3 * times['kernel']:.2f} ms)", times["copy"] / times["kernel"], 0.6, at_least=True)


# --- the first answer, and the next ones ------------------------------------------------------------------------------

_FIRST_USE = """
import sys, time, numpy, torch
field = numpy.load(sys.argv[1])
start = time.perf_counter()
import sciml_bounds as sb
imported = time.perf_counter()
problem = sb.Diffusion(sb.Grid(field.shape), field, 1.0)
sb.certify(problem, sb.solve(problem))
print(imported - start, time.perf_counter() - imported)
"""


def first(arguments: argparse.Namespace) -> None:
    field = MEDIA["12/3"](gaussian((256, 256)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "field.npy"
        np.save(path, field)
        command = [sys.executable, "-c", _FIRST_USE, str(path)]
        runs = [
            [float(word) for word in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()]
            for _ in range(arguments.repeats)
        ]
    importing, answering = (median(column) for column in zip(*runs))
    print("\nfirst solve and certificate of a new process, 12/3, 256^2, after torch is imported")
    judge("seconds of importing the package", importing, 0.2, at_least=False)
    judge("seconds of both, importing included", importing + answering, 3, at_least=False)


def prepared(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    print("\nprepared solve with a new source, 12/3, one thread: milliseconds")
    for n, bar in ((32, 2), (64, 4)):
        problem = problem_of("12/3", (n, n))
        cycles, system = sb.prepare(problem, method="multigrid"), node_system(problem)
        solver = sb.prepare(problem)
        free = system.rhs.reshape(-1).numpy() != 0  # all but prescribed nodes: the source is positive
        factors = scipy.sparse.linalg.splu(scipy.sparse.csc_matrix(system.operator.to_csr())[free][:, free])
        source = torch.rand(n, n, dtype=torch.float64)
        b = sb.prepare(problem.replace(source=source)).rhs.reshape(-1).numpy()[free]
        works: dict[str, Callable[[], Any]] = {
            "ours": lambda s=solver, f=source: s.solve(source=f, rtol=RTOL),
            "multigrid": lambda s=cycles, f=source: s.solve(source=f, rtol=RTOL),
            "scipy": lambda f=factors, b=b: f.solve(b),
        }
        gap = np.abs(works["ours"]().values.reshape(-1).numpy()[free] - works["scipy"]()).max()
        times = median_seconds(works, 100)
        judge(f"ours, {n}^2", 1e3 * times["ours"], bar, at_least=False)
        print(f"        ours with method='multigrid', {n}^2: {1e3 * times['multigrid']:.2f}")
        print(f"        scipy, splu of before, {n}^2: {1e3 * times['scipy']:.2f}; answers differ by {gap:.1e}")
    torch.set_num_threads(2)


# --- batches, certificates, gradients ---------------------------------------------------------------------------------


def batches(arguments: argparse.Namespace) -> None:
    n, count, rtol = arguments.batch_grid, arguments.samples, 1e-10
    fields = np.random.default_rng(0).standard_normal((count, 8, 8))
    a = np.where(np.kron(fields, np.ones((1, n // 8, n // 8))) > 0, 12.0, 3.0)
    group = 16
    grid = sb.Grid((n, n))

    def batched() -> None:
        for start in range(0, count, group):
            sb.solve(sb.Diffusion(grid, a[start : start + group], 1.0), rtol=rtol, method="multigrid")

    def direct(samples: int) -> None:
        for k in range(samples):
            system = node_system(sb.Diffusion(grid, a[k], 1.0))
            scipy.sparse.linalg.spsolve(system.operator.to_csr(), system.rhs.reshape(-1).numpy())

    batched()
    some = min(count, 20)
    ours_seconds, scipy_seconds = seconds(batched)[0], seconds(lambda: direct(some))[0]
    print(f"\n{count} Darcy problems of {n}^2 to {rtol:g}, {group} a batch: samples per second")
    print(f"  ours {count / ours_seconds:9.1f}   scipy, sparse direct ({some} of them) {some / scipy_seconds:9.1f}")
    many = arguments.small
    print(f"small problems, {many} of each size: microseconds a problem, one by one and in one batch")
    for size in (16, 32, 64):
        small = np.exp(np.random.default_rng(1).standard_normal((many, size, size)))
        one = sb.Grid((size, size))
        works = {
            "one": lambda small=small, one=one: [
                sb.solve(sb.Diffusion(one, q, 1.0), method="multigrid") for q in small
            ],
            "batch": lambda small=small, one=one: sb.solve(sb.Diffusion(one, small, 1.0), method="multigrid"),
        }
        works["batch"]()
        times = median_seconds(works, 1)
        print(f"  {size:3}^2 {1e6 * times['one'] / many:10.0f} {1e6 * times['batch'] / many:10.0f}", flush=True)


def certificates(arguments: argparse.Namespace) -> None:
    for shape in ((arguments.square,) * 2, (arguments.box,) * 3):
        problem = problem_of("12/3", shape)
        solution = sb.solve(problem, rtol=RTOL, method="multigrid")
        flux = sb.certify(problem, solution).flux
        works: dict[str, Callable[[], Any]] = {
            "solve": lambda p=problem: sb.solve(p, rtol=RTOL, method="multigrid"),
            "upper": lambda p=problem, s=solution: sb.certify(p, s, lower=False),
            "both": lambda p=problem, s=solution: sb.certify(p, s),
            "again": lambda p=problem, s=solution, y=flux: sb.certify(p, s, flux=y, lower=False),
        }
        times = median_seconds(works, 3 * arguments.repeats)  # each takes a moment, and moments differ
        print(f"\ncertificate, 12/3, {' x '.join(map(str, shape))}: solve {times['solve']:.3f} s")
        judge("new flux, upper bound, over the solve", times["upper"] / times["solve"], 1.2, at_least=False)
        judge("new flux, both bounds, over the solve", times["both"] / times["solve"], 1.2, at_least=False)
        judge("flux at hand, upper bound, over the solve", times["again"] / times["solve"], 0.1, at_least=False)


def gradients(arguments: argparse.Namespace) -> None:
    shape = (arguments.square // 2,) * 2
    a = torch.as_tensor(MEDIA["log-normal"](gaussian(shape))).requires_grad_()
    times: dict[str, list[float]] = {"forward": [], "backward": []}
    for _ in range(arguments.repeats + 1):
        forward, solution = seconds(lambda: sb.solve(sb.Diffusion(sb.Grid(shape), a, 1.0), method="multigrid"))
        times["forward"].append(forward)
        times["backward"].append(seconds(solution.values.mean().backward)[0])
    forward, backward = (median(found[1:]) for found in times.values())
    print(f"\ndifferentiable solve, log-normal, {shape[0]}^2: forward {forward:.3f} s, backward {backward:.3f} s")
    judge("backward over forward", backward / forward, 1.5, at_least=False)


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "first": first, "prepared": prepared, "solve": solves, "constant": constant, "growth": growth, "memory": memory,
    "bandwidth": bandwidth, "batch": batches, "certificate": certificates, "gradient": gradients,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each method (default 3)")
    parser.add_argument("--box", type=int, default=128, help="cells along an axis in 3-D (default 128)")
    parser.add_argument("--square", type=int, default=1024, help="cells along an axis in 2-D (default 1024)")
    parser.add_argument("--batch-grid", type=int, default=256, help="cells along an axis of batched problems")
    parser.add_argument("--samples", type=int, default=1000, help="batched problems (default 1000)")
    parser.add_argument("--small", type=int, default=256, help="small problems of each size (default 256)")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="parts to run")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    warnings.simplefilter("ignore", scipy.sparse.SparseEfficiencyWarning)
    for name in arguments.only:
        PARTS[name](arguments)


if __name__ == "__main__":
    main()
