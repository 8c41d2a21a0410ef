"""Optimisation that an elliptic equation constrains: steps, seconds, and how many forward solves that is.

    python benchmarks/control.py [--sizes 3 32 64 128 256 512] [--weights 1e-1 1e-2 1e-4 1e-6] [--largest-lu 256]

Poisson control of Hong, Na, Mahoney, Kolar (2023): N x N free nodes of (-1, 1)^2, min 1/2 |w - w_d|^2 + weight/2 |z|^2
subject to -Lap w = z; published for N = 3 and weight 0.1 only. Objectives are printed as published, without the h^2 that
sums of squares carry here. "outer" are Newton steps, "inner" those of MINRES with the preconditioner
of multigrid cycles, two for each step; "forward" is the whole cost over that of one solve of the equation by conjugate
gradients with the same cycle, to the same relative residual: counted in cycles, and in seconds. Beside it: sparse LU of
the KKT matrix (scipy), set-up counted for both. Then the same with -Lap w + w^3 = z, where inner solves are only as
accurate as a step is worth, and where they are as good as exact; and a Darcy coefficient estimated from observations.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

import sciml_bounds as sb
from sciml_bounds.newton.control import RTOL

#: Objectives with weight 0.1, by sparse LU.
KNOWN = {3: 9.64444205, 32: 1177.82129923, 64: 4067.77371213, 128: 9538.72015339}

#: Relative KKT residual that all are solved to, and with which inner solves count as exact.
TOLERANCE, EXACT = 1e-8, 1e-9


def problem_of(n: int, weight: float, nonlinearity: Callable[[Tensor], Tensor] | None = None) -> sb.DistributedControl:
    """The published problem with n x n free nodes."""
    wave = 0.1 / math.sqrt(15) * (torch.arange(n + 2, dtype=torch.float64) - (n + 1) / 2)
    target = torch.sin(4 + wave)[:, None] + torch.cos(3 + wave)
    problem = sb.Diffusion(sb.Grid((n + 1, n + 1), lengths=(2.0, 2.0), origin=(-1.0, -1.0)))
    return sb.DistributedControl(problem, target, weight=weight, nonlinearity=nonlinearity)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def forward(n: int) -> tuple[float, int]:
    """Seconds and cycles of one solve of the equation."""
    problem = problem_of(n, 1.0).grid_stiffness.problem.replace(source=1.0)

    def solve() -> sb.LinearSolution:
        solver = sb.prepare(problem, method="multigrid")
        return sb.cg(solver.operator, solver.rhs, M=solver.as_preconditioner(), rtol=TOLERANCE)

    solve()  # kernels are compiled
    seconds, solution = timed(solve)
    return seconds, max(1, int(solution.iterations))


def inner_steps(result: sb.OptimizeResult) -> int:
    return sum(step.inner_steps for step in result.history)


def poisson(options: argparse.Namespace) -> None:
    """Print the table of the linear equation."""
    print("Poisson control; forward solves to 1e-8 by conjugate gradients with a cycle")
    print(f"{'N':>4} {'weight':>7} {'objective':>16} {'known':>9} {'outer':>5} {'inner':>5} {'KKT':>8} {'seconds':>8} "
          f"{'LU':>8} {'forward: cycles':>15} {'seconds':>8}")  # fmt: skip
    for n in options.sizes:
        alone, cycles = forward(n)
        for weight in options.weights:
            control = problem_of(n, weight)
            seconds, r = timed(lambda control=control: control.minimize(rtol=TOLERANCE))
            objective = r.fun / (2 / (n + 1)) ** 2
            known = f"{abs(objective - KNOWN[n]):9.0e}" if weight == 0.1 and n in KNOWN else f"{'-':>9}"
            lu = math.nan
            if n <= options.largest_lu:
                lu, exact = timed(lambda control=control: problem_like(control).minimize(inner="direct"))
                assert abs(exact.fun - r.fun) <= 1e-6 * exact.fun, "MINRES and LU differ"
            print(
                f"{n:4} {weight:7.0e} {objective:16.8f} {known} {r.nit:5} {inner_steps(r):5} "
                f"{r.kkt_residual / r.tolerance * TOLERANCE:8.0e} {seconds:8.3f} {lu:8.3f} "
                f"{2 * inner_steps(r) / cycles:15.1f} {seconds / alone:8.1f}",
                flush=True,
            )


def problem_like(control: sb.DistributedControl) -> sb.DistributedControl:
    """The same again, with nothing set up."""
    problem = control.grid_stiffness.problem
    return sb.DistributedControl(
        problem, control.target_field, weight=control.weight, nonlinearity=control.nonlinearity
    )  # fmt: skip


def semilinear(options: argparse.Namespace) -> None:
    """Print what inexactness saves with -Lap w + w^3 = z."""
    print("\n-Lap w + w^3 = z: inner solves as accurate as a step is worth, and as good as exact (1e-9)")
    print(f"{'N':>4} {'weight':>7} | {'outer':>5} {'inner':>5} {'forward':>7} {'seconds':>8} | {'outer':>5} {'inner':>5} "
          f"{'forward':>7} {'seconds':>8} | {'saved':>6}")  # fmt: skip
    for n in options.sizes:
        if n > options.largest_semilinear:
            continue
        _, cycles = forward(n)
        for weight in options.weights:
            cells = []
            for rtol in (RTOL, EXACT):
                control = problem_of(n, weight, lambda u: u**3)
                inner = sb.Minres(control.preconditioner, rtol=rtol)
                seconds, r = timed(lambda control=control, inner=inner: control.minimize(inner=inner, rtol=TOLERANCE))
                cells.append((r.nit, inner_steps(r), 2 * inner_steps(r) / cycles, seconds))
            columns = " | ".join(f"{outer:5} {inner:5} {solves:7.1f} {s:8.3f}" for outer, inner, solves, s in cells)
            print(f"{n:4} {weight:7.0e} | {columns} | {1 - cells[0][1] / cells[1][1]:6.0%}", flush=True)


def darcy(options: argparse.Namespace) -> None:
    """Print how a coefficient is found again."""
    print(
        "\nDarcy coefficient: a disc that conducts e times better, from noisy values at a part of the nodes; sparse LU"
    )
    print(
        f"{'cells':>6} {'observed':>8} {'noise':>6} {'hessian':>13} {'outer':>5} {'error of log a':>14} {'seconds':>8}"
    )
    flow = {"x0": sb.Dirichlet(0.0), "x1": sb.Dirichlet(1.0), "y0": sb.Neumann(0.0), "y1": sb.Neumann(0.0)}
    random = torch.Generator().manual_seed(0)
    for cells in options.cells:
        guess = sb.Diffusion(sb.Grid((cells, cells)), source=10.0, boundary=flow)
        truth = guess.replace(coefficient=lambda x, y: torch.exp((torch.hypot(x - 0.6, y - 0.5) < 0.25).double()))
        u = sb.solve(truth).values
        for part, noise in ((1.0, 0.001), (1.0, 0.01), (0.1, 0.01)):
            data = u + noise * float(u.std()) * torch.randn(u.shape, generator=random, dtype=torch.float64)
            seen = torch.rand(u.shape, generator=random) <= part
            for hessian in ("gauss-newton", "exact"):
                estimation = sb.CoefficientEstimation(
                    guess, data, observed=seen, smoothing=(noise * float(u.std())) ** 2 / cells**2, hessian=hessian
                )  # fmt: skip
                seconds, r = timed(estimation.minimize)
                _, a = estimation.fields(r.x)
                error = float((a / truth.coefficient[0]).log().norm() / truth.coefficient[0].log().norm())
                print(f"{cells:6} {part:8.0%} {noise:6.1%} {hessian:>13} {r.nit:5} {error:14.3f} {seconds:8.2f}",
                      flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[3, 32, 64, 128, 256, 512])
    parser.add_argument("--weights", type=float, nargs="+", default=[1e-1, 1e-2, 1e-4, 1e-6])
    parser.add_argument("--largest-lu", type=int, default=256, help="largest N that sparse LU is timed at")
    parser.add_argument("--largest-semilinear", type=int, default=128, help="largest N of the semilinear equation")
    parser.add_argument("--cells", type=int, nargs="+", default=[16, 32, 64], help="of the Darcy problem")
    options = parser.parse_args()
    np.set_printoptions(precision=3)
    poisson(options)
    semilinear(options)
    darcy(options)


if __name__ == "__main__":
    main()
