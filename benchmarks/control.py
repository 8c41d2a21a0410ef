"""Optimisation that an elliptic equation constrains: steps, seconds, and how many forward solves that is.

    python benchmarks/control.py [--sizes 3 32 64 128 256 512] [--weights 1e-1 1e-2 1e-4 1e-6] [--largest-lu 256]

Poisson control of Hong, Na, Mahoney, Kolar (2023): N x N free nodes of (-1, 1)^2, min 1/2 |w - w_d|^2 + weight/2 |z|^2
subject to -Lap w = z; published for N = 3 and weight 0.1 only. Objectives are printed as published, without the h^2
that sums of squares carry here. Columns: Newton steps ("outer") and steps of the inner solver ("inner"), of conjugate
gradients for the multipliers (the default) and of MINRES, both with the preconditioner of multigrid cycles; seconds of
both and of sparse LU of the KKT matrix (scipy), set-up counted. "forward" is the cost of the default over that of one
solve of the equation by conjugate gradients with a cycle, to the same relative residual: counted in cycles, and in
seconds. Then the same with -Lap w + w^3 = z, where inner solves are only as accurate as a step is worth, and where they
are as good as exact; and a Darcy coefficient estimated from observations.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import sciml_bounds as sb
from sciml_bounds.newton.control import RTOL
from sciml_bounds.newton.range_space import RangeSpace
from sciml_bounds.operators.linear_operator import CallableOperator

#: Objectives with weight 0.1, by sparse LU.
KNOWN = {3: 9.64444205, 32: 1177.82129923, 64: 4067.77371213, 128: 9538.72015339}

#: Relative KKT residual that all are solved to, and with which inner solves count as exact.
TOLERANCE, EXACT = 1e-8, 1e-9


def problem_of(n: int, weight: float, nonlinearity: Callable[[Tensor], Tensor] | None = None) -> sb.DistributedControl:
    """Make the published problem with n x n free nodes."""
    wave = 0.1 / math.sqrt(15) * (torch.arange(n + 2, dtype=torch.float64) - (n + 1) / 2)
    target = torch.sin(4 + wave)[:, None] + torch.cos(3 + wave)
    problem = sb.Diffusion(sb.Grid((n + 1, n + 1), lengths=(2.0, 2.0), origin=(-1.0, -1.0)))
    return sb.DistributedControl(problem, target, weight=weight, nonlinearity=nonlinearity)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


class Counted:
    """Preconditioners that count how often they are applied."""

    def __init__(self, give: Callable[..., Any]) -> None:
        self._give, self.calls = give, 0

    def __call__(self, *arguments: Any) -> CallableOperator:
        """Make one."""
        operator = self._give(*arguments)

        def apply(x: Tensor) -> Tensor:
            self.calls += 1
            return operator.matvec(x)

        return CallableOperator(apply, operator.shape[0], symmetric=True, linear=True)


def forward(n: int) -> tuple[float, int]:
    """Solve the equation once, and return seconds and the number of cycles."""
    problem = problem_of(n, 1.0).grid_stiffness.problem.replace(source=1.0)

    def solve() -> int:
        solver = sb.prepare(problem, method="multigrid")
        counted = Counted(solver.as_preconditioner)
        sb.cg(solver.operator, solver.rhs, M=counted(), rtol=TOLERANCE)
        return counted.calls

    solve()  # kernels are compiled
    return timed(solve)


@dataclass(frozen=True)
class Run:
    """An optimisation: what came out, seconds with set-up, and cycles."""

    result: sb.OptimizeResult
    seconds: float
    cycles: int

    @property
    def inner(self) -> int:
        """Steps of the inner solver."""
        return sum(step.inner_steps for step in self.result.history)


def run(n: int, weight: float, method: type[sb.Minres] | None, rtol: float = RTOL, phi: Any = None) -> Run:
    """Minimise with the preconditioner of cycles, or with sparse LU where no method is named."""
    start = time.perf_counter()
    control = problem_of(n, weight, phi)
    counted = Counted(control.preconditioner)
    result = control.minimize(inner="direct" if method is None else method(counted, rtol=rtol), rtol=TOLERANCE)
    return Run(result, time.perf_counter() - start, 2 * counted.calls)


def poisson(options: argparse.Namespace) -> None:
    """Print the table of the linear equation."""
    print("-Lap w = z to a relative KKT residual of 1e-8")
    print(f"{'':39}|   steps             |  seconds                  | forward solves")
    print("   N  weight        objective    known | outer inner  MINRES |  default  MINRES       LU |  cycles  seconds")
    for n in options.sizes:
        alone, cycles = forward(n)
        for weight in options.weights:
            ours, minres = run(n, weight, RangeSpace), run(n, weight, sb.Minres)
            lu = run(n, weight, None).seconds if n <= options.largest_lu else math.nan
            objective = ours.result.fun / (2 / (n + 1)) ** 2
            known = f"{abs(objective - KNOWN[n]):.0e}" if weight == 0.1 and n in KNOWN else "-"
            steps = f"{ours.result.nit:5} {ours.inner:5} {minres.inner:7}"
            times = f"{ours.seconds:8.3f} {minres.seconds:7.3f} {lu:8.3f}"
            solves = f"{ours.cycles / cycles:7.1f} {ours.seconds / alone:8.1f}"
            print(f"{n:4} {weight:7.0e} {objective:16.8f} {known:>8} | {steps} | {times} | {solves}", flush=True)


def semilinear(options: argparse.Namespace) -> None:
    """Print what inexactness saves with -Lap w + w^3 = z."""
    print(
        f"\n-Lap w + w^3 = z: inner solves to {RTOL:g} or as accurate as a step is worth, and as good as exact (1e-9)"
    )
    print("   N  weight | outer inner forward  seconds | outer inner forward  seconds |  saved")
    for n in options.sizes:
        if n > options.largest_semilinear:
            continue
        _, cycles = forward(n)
        for weight in options.weights:
            runs = [run(n, weight, RangeSpace, rtol, lambda u: u**3) for rtol in (RTOL, EXACT)]
            columns = " | ".join(
                f"{one.result.nit:5} {one.inner:5} {one.cycles / cycles:7.1f} {one.seconds:8.3f}" for one in runs
            )
            print(f"{n:4} {weight:7.0e} | {columns} | {1 - runs[0].cycles / runs[1].cycles:6.0%}", flush=True)


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
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", sb.ConvergenceWarning)  # it is printed
                    seconds, r = timed(estimation.minimize)
                _, a = estimation.fields(r.x)
                error = float((a / truth.coefficient[0]).log().norm() / truth.coefficient[0].log().norm())
                case = f"{cells:6} {part:8.0%} {noise:6.1%} {hessian:>13}"
                print(f"{case} {r.nit:5} {error:14.3f} {seconds:8.2f}  {'' if r.success else r.reason}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[3, 32, 64, 128, 256, 512])
    parser.add_argument("--weights", type=float, nargs="+", default=[1e-1, 1e-2, 1e-4, 1e-6])
    parser.add_argument("--largest-lu", type=int, default=256, help="largest N that sparse LU is timed at")
    parser.add_argument("--largest-semilinear", type=int, default=128, help="largest N of the semilinear equation")
    parser.add_argument("--cells", type=int, nargs="+", default=[16, 32, 64], help="of the Darcy problem")
    options = parser.parse_args()
    poisson(options)
    semilinear(options)
    darcy(options)


if __name__ == "__main__":
    main()
