"""How fast and how exact flows on the torus are evolved, beside the scheme that made the published data.

    python benchmarks/navier_stokes.py [--duration 1] [--spin-up 10] [--sizes 64:1e-3 256:1e-5] [--threads 1]

Both start from the same vorticity, twice: as drawn at time 0, and after a spin-up, when the forcing has made the flow
fast. Errors are relative, against the fourth-order scheme with steps an eighth as long; how far that is from steps a
quarter as long is printed as "converged to". The published scheme (Crank-Nicolson and Euler, step 1e-4) is given real
transforms, which its authors' code lacks, and runs all of its steps where they take less than `--limit` seconds; else
its first steps are timed and multiplied, and its error is that of steps 1e-3, divided by ten, as for a scheme of first
order (a star marks both). Seconds are for one sample; at 64 x 64 also for a batch of 16.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml_bounds.evolution.navier_stokes import CFL, NavierStokes, crank_nicolson_euler, diagonal_forcing
from sciml_bounds.problems.random_fields import torus_field

#: Least ratio of times by resolution; other resolutions are printed without a bar.
BARS = {64: 60.0, 256: 25.0}

STEP = 1e-4


@dataclass(frozen=True)
class Result:
    """What one scheme took and how far it ended from the exact flow of this grid."""

    seconds: float
    error: float
    scaled: bool = False


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def initial(n: int, samples: int) -> Tensor:
    sources = [np.random.default_rng([0, index]) for index in range(samples)]
    return torch.from_numpy(torus_field(sources, (n, n), tau=7.0, alpha=2.5))


def flow_of(n: int, viscosity: float, cfl: float = CFL) -> NavierStokes:
    return NavierStokes(n, viscosity, diagonal_forcing, cfl=cfl)


def ours(flow: NavierStokes, start: Tensor, duration: float, exact: Tensor, repeats: int) -> Result:
    runs = [seconds(lambda: flow.evolve(start, [duration])[..., 0, :, :]) for _ in range(repeats)]
    return Result(median(took for took, _ in runs), relative(runs[0][1], exact))


def published(flow: NavierStokes, start: Tensor, duration: float, exact: Tensor, limit: float) -> Result:
    steps = round(duration / STEP)
    some = min(steps, 200)
    took = seconds(lambda: crank_nicolson_euler(flow, start, some * STEP, STEP))[0] * steps / some
    if took <= limit:
        took, end = seconds(lambda: crank_nicolson_euler(flow, start, duration, STEP))
        return Result(took, relative(end, exact))
    end = crank_nicolson_euler(flow, start, duration, 10.0 * STEP)
    return Result(took, relative(end, exact) / 10.0, scaled=True)


def judge(name: str, value: float, bar: float, *, at_least: bool) -> None:
    good = value >= bar if at_least else value <= bar
    print(
        f"  {'PASS' if good else 'MISS'}  {name}: {value:.3g} (bar: {'>=' if at_least else '<='} {bar:.3g})", flush=True
    )


def compare(label: str, n: int, viscosity: float, start: Tensor, options: argparse.Namespace) -> None:
    """Print one row for each scheme, and judge their ratio."""
    flow = flow_of(n, viscosity)
    exact, half = (flow_of(n, viscosity, CFL / q).evolve(start, [options.duration])[..., 0, :, :] for q in (8, 4))
    here = ours(flow, start, options.duration, exact, options.repeats)
    there = published(flow, start, options.duration, exact, options.limit)
    print(f"\n{label} (the exact flow converged to {relative(half, exact):.1e})")
    for name, result in (("Runge-Kutta", here), ("published", there)):
        mark = "*" if result.scaled else " "
        print(f"  {name:12} {result.seconds:9.3f} s{mark}   error {result.error:.2e}{mark}")
    ratio = there.seconds / here.seconds
    if n in BARS:
        judge(f"{label}: ratio of times", ratio, BARS[n], at_least=True)
    else:
        print(f"  ratio of times {ratio:.3g}")
    judge(f"{label}: error beside the published scheme's", here.error, there.error, at_least=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["64:1e-3", "256:1e-5"], help="resolution:viscosity")
    parser.add_argument("--duration", type=float, default=1.0)
    parser.add_argument("--spin-up", type=float, default=10.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, default=40.0, help="most seconds of one run of the published scheme")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"duration {options.duration:g}, {options.threads} thread(s), torch {torch.__version__}")
    for size in options.sizes:
        n, viscosity = int(size.split(":")[0]), float(size.split(":")[1])
        drawn = initial(n, 1)
        compare(f"{n}^2, viscosity {viscosity:g}, time 0", n, viscosity, drawn, options)
        later = flow_of(n, viscosity).evolve(drawn, [options.spin_up])[..., 0, :, :]
        compare(f"{n}^2, viscosity {viscosity:g}, time {options.spin_up:g}", n, viscosity, later, options)
        if n <= 64:
            compare(f"{n}^2, viscosity {viscosity:g}, 16 samples", n, viscosity, initial(n, 16), options)


if __name__ == "__main__":
    main()
