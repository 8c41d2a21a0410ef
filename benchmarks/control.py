"""Optimisation that an elliptic equation constrains: steps, seconds, and how many forward solves that is.

    python benchmarks/control.py [--sizes 3 32 64 128 256 512] [--weights 1e-1 1e-2 1e-4 1e-6] [--largest-lu 256]

Poisson control of Hong, Na, Mahoney, Kolar (2023): N x N free nodes of (-1, 1)^2, min 1/2 |w - w_d|^2 + weight/2 |z|^2
subject to -Lap w = z; published for N = 3 and weight 0.1 only. Objectives are printed as published, without the h^2
that sums of squares carry here. Accuracy is 1e-8 in the norm of the energy, which is the same on any mesh (N = 2^k - 1
halves its cells down to the coarsest mesh; other N leave half a cell somewhere, where cycles are less accurate).

Columns: Newton steps ("outer"); steps of conjugate gradients for the state ("inner") and the factor by which the
residual falls in each; the same for MINRES on the KKT matrix, with the block preconditioner of multigrid cycles;
seconds with set-up, of sparse LU of the KKT matrix (scipy) too; and what that is in solves of the equation alone
(`sb.prepare(problem, method="multigrid").solve(rtol=1e-8)`, with set-up), in cycles and in seconds of the same run.
Cycles here smooth 4 times, those of the solve 3 times, and are weighted so; full multigrid counts as one. Then the same
with -Lap w + w^3 = z, where inner solves are only as accurate as a step is worth, and where they are as good as exact;
and a Darcy coefficient estimated from observations.
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
from sciml_bounds.control._coefficient_objective import CoefficientObjective
from sciml_bounds.control._constraint_equations import SWEEPS
from sciml_bounds.control._reduced_newton import minimize_reduced
from sciml_bounds.operators._linear_operator import CallableOperator, LinearOperator
from sciml_bounds.stopping import StoppingCriteria

#: Objectives with weight 0.1, by sparse LU.
KNOWN = {3: 9.64444205, 32: 1177.82129923, 64: 4067.77371213, 128: 9538.72015339}

#: Relative residual that all are solved to, and with which inner solves count as exact.
TOLERANCE, EXACT = 1e-8, 1e-9

#: The same for coefficients, which observations know far less well.
COARSE = 1e-6

#: Each run is timed so often, and the fastest counts.
REPEATS = 5


def problem_of(
    n: int, weight: float, nonlinearity: Callable[[Tensor], Tensor] | None = None
) -> sb.control.DistributedControl:
    """Make the published problem with n x n free nodes."""
    wave = 0.1 / math.sqrt(15) * (torch.arange(n + 2, dtype=torch.float64) - (n + 1) / 2)
    target = torch.sin(4 + wave)[:, None] + torch.cos(3 + wave)
    problem = sb.Diffusion(sb.Grid((n + 1, n + 1), lengths=(2.0, 2.0), origin=(-1.0, -1.0)))
    return sb.control.DistributedControl(problem, target, weight=weight, nonlinearity=nonlinearity)


def timed(work: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Return the seconds of the fastest run, and what the last one gave."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


@dataclass(frozen=True)
class Forward:
    """One solve of the equation, with set-up: seconds, and smoothing steps before or after each coarse correction."""

    seconds: float
    sweeps: float


def forward(n: int) -> Forward:
    """Solve the equation alone."""
    problem = problem_of(n, 1.0).grid_stiffness.problem.replace(source=1.0)

    def solve() -> int:
        return int(sb.prepare(problem, method="multigrid").solve(rtol=TOLERANCE).iterations)

    solve()  # kernels are compiled
    seconds, iterations = timed(solve, REPEATS)
    return Forward(seconds, sb.Multigrid().sweeps * (iterations + 1))


def counted(control: sb.control.DistributedControl) -> list[int]:
    """Count from now on how often cycles are applied, in the list that is returned."""
    give, calls = control.stiffness.cycle, [0]

    def cycle(diagonal: Tensor) -> LinearOperator:
        operator = give(diagonal)

        def apply(x: Tensor) -> Tensor:
            calls[0] += 1
            return operator.matvec(x)

        return CallableOperator(apply, operator.shape[0], symmetric=True, linear=True)

    control.stiffness.cycle = cycle  # type: ignore[method-assign]
    return calls


@dataclass(frozen=True)
class Run:
    """An optimisation: what came out, seconds with set-up, and smoothing steps."""

    result: sb.optimize.OptimizeResult
    seconds: float
    sweeps: int

    @property
    def inner(self) -> int:
        """Steps of the inner solver."""
        return sum(step.inner_steps for step in self.result.history)

    @property
    def factor(self) -> float:
        """What an inner step leaves of the residual, on the mean."""
        left = math.prod(step.inner_residual for step in self.result.history)
        return left ** (1 / self.inner)


def run(n: int, weight: float, phi: Any = None, **options: Any) -> Run:
    """Minimise, once with cycles counted, and then with time taken."""

    def work() -> sb.optimize.OptimizeResult:
        return problem_of(n, weight, phi).minimize(rtol=TOLERANCE, **options)

    control = problem_of(n, weight, phi)
    calls = counted(control)
    result = control.minimize(rtol=TOLERANCE, **options)
    return Run(result, timed(work, REPEATS)[0], SWEEPS * calls[0])


def minres(n: int, weight: float) -> sb.results.LinearSolution:
    """Solve the KKT system of the linear equation by MINRES with the block preconditioner."""
    control = problem_of(n, weight)
    x, zero = control.load.new_zeros(2 * control.n), torch.zeros_like(control.load)
    H, J = control.hess(x), control.equation_jac(x)

    def apply(v: Tensor) -> Tensor:
        u, multipliers = v.view(-1).split([len(x), control.n])
        return torch.cat([H @ u + J.mT @ multipliers, J @ u]).view(v.shape)

    A = CallableOperator(apply, 3 * control.n, symmetric=True, linear=True)
    b = -torch.cat([control.jac(x), control.equation(x)])
    return sb.minres(A, b, M=control.preconditioner(x, zero), rtol=TOLERANCE)


def factorised(n: int, weight: float) -> float:
    """Return the seconds of sparse LU."""
    return timed(lambda: problem_of(n, weight).minimize(inner="direct"))[0]


def poisson(options: argparse.Namespace) -> None:
    """Print the table of the linear equation."""
    print("-Lap w = z to a relative residual of 1e-8, in the norm of the energy")
    print(f"{'':47}| steps         | MINRES        |  seconds                  | forward solves")
    print(
        "   N  weight        objective    known | outer | inner  factor | steps  factor |      all  forward       LU |"
        "  cycles  seconds"
    )
    for n in options.sizes:
        alone = forward(n)
        for weight in options.weights:
            ours, other = run(n, weight), minres(n, weight)
            lu = factorised(n, weight) if n <= options.largest_lu else math.nan
            objective = ours.result.fun / (2 / (n + 1)) ** 2
            known = f"{abs(objective - KNOWN[n]):.0e}" if weight == 0.1 and n in KNOWN else "-"
            steps = int(other.iterations)
            factor = float(other.residual_norms[-1] / other.residual_norms[0]) ** (1 / steps)
            print(
                f"{n:4} {weight:7.0e} {objective:16.8f} {known:>8} | {ours.result.nit:5} | {ours.inner:5} "
                f"{ours.factor:7.3f} | {steps:5} {factor:7.3f} | {ours.seconds:8.3f} {alone.seconds:8.3f} {lu:8.3f} | "
                f"{ours.sweeps / alone.sweeps:7.1f} {ours.seconds / alone.seconds:8.1f}", flush=True,
            )  # fmt: skip


def semilinear(options: argparse.Namespace) -> None:
    """Print what inexactness saves with -Lap w + w^3 = z."""
    print("\n-Lap w + w^3 = z: inner solves as accurate as a step is worth, and as good as exact (1e-9)")
    print(
        "   N  weight | outer inner  cycles seconds (forward solves) | outer inner  cycles seconds (forward solves) |"
        "  saved"
    )
    for n in options.sizes:
        alone = forward(n)
        for weight in options.weights:
            runs = [run(n, weight, lambda u: u**3, forcing=forcing) for forcing in (None, EXACT)]
            columns = " | ".join(
                f"{one.result.nit:5} {one.inner:5} {one.sweeps / alone.sweeps:7.1f} "
                f"{one.seconds / alone.seconds:7.1f}{'':16}"
                for one in runs
            )
            print(f"{n:4} {weight:7.0e} | {columns} | {1 - runs[0].sweeps / runs[1].sweeps:6.0%}", flush=True)


def observed(cells: int, part: float, noise: float) -> tuple[sb.control.CoefficientEstimation, Tensor, sb.Diffusion]:
    """Observe flow through a disc that conducts e times better than what is around it; return its log a too."""
    flow = {"x0": sb.Dirichlet(0.0), "x1": sb.Dirichlet(1.0), "y0": sb.Neumann(0.0), "y1": sb.Neumann(0.0)}
    random = torch.Generator().manual_seed(0)
    guess = sb.Diffusion(sb.Grid((cells, cells)), source=10.0, boundary=flow)
    truth = guess.replace(coefficient=lambda x, y: torch.exp((torch.hypot(x - 0.6, y - 0.5) < 0.25).double()))
    u = sb.solve(truth).values
    size = noise * float(u.std())
    data = u + size * torch.randn(u.shape, generator=random, dtype=torch.float64)
    seen = torch.rand(u.shape, generator=random) <= part
    estimation = sb.control.CoefficientEstimation(guess, data, observed=seen, smoothing=size**2 / cells**2)
    return estimation, truth.coefficient[0].log(), truth


def estimate(
    estimation: sb.control.CoefficientEstimation, forcing: float | None
) -> tuple[float, int, sb.optimize.OptimizeResult]:
    """Minimise, and return seconds, cycles and the result."""
    objective = CoefficientObjective(estimation, exact=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sb.ConvergenceWarning)  # it is printed
        seconds, r = timed(lambda: minimize_reduced(objective, StoppingCriteria(COARSE, 0.0, 100), forcing=forcing))
    return seconds, objective.cycles, r


def solved(problem: sb.Diffusion) -> tuple[float, int]:
    """Solve the equation with the true coefficient, and return seconds and cycles."""
    sb.solve(problem, method="multigrid")  # kernels are compiled
    seconds, solution = timed(lambda: sb.solve(problem, method="multigrid", rtol=TOLERANCE), REPEATS)
    return seconds, int(solution.iterations) + 1


def described(run: tuple[float, int, sb.optimize.OptimizeResult], alone: float, cycles: int) -> str:
    """Put a run into words, given seconds and cycles of a solve."""
    seconds, count, r = run
    inner = sum(step.inner_steps for step in r.history)
    missed = "" if r.success else " not conv."
    return f"{r.nit:5} {inner:5} {count / cycles:7.1f} {seconds / alone:7.1f}{missed:11}"


def estimated_by_factors(estimation: sb.control.CoefficientEstimation) -> float:
    """Return the seconds of sparse LU."""
    return timed(lambda: estimation.minimize(inner="direct", rtol=COARSE))[0]


def darcy(options: argparse.Namespace) -> None:
    """Print how a coefficient is found again, and what that costs."""
    print(
        "\nDarcy coefficient: a disc that conducts e times better, from noisy values at a part of the nodes, to 1e-6\n"
        f"{'':25}| as accurate as it is worth             | as good as exact (1e-9)                | saved |      LU |"
    )
    print(
        " cells observed   noise   | outer inner  cycles seconds (forw. s.) | outer inner  cycles seconds (forw. s.) |"
        "       | seconds | error of log a"
    )
    for cells in options.cells:
        for part, noise in ((1.0, 0.1), (0.1, 0.01)):
            estimation, known, truth = observed(cells, part, noise)
            alone, cycles = solved(truth)
            runs = [estimate(estimation, forcing) for forcing in (None, EXACT)]
            columns = " | ".join(described(one, alone, cycles) for one in runs)
            lu = estimated_by_factors(estimation) if cells <= options.largest_darcy_lu else math.nan
            _, a = estimation.fields(runs[0][2].x)
            error = float((a.log() - known).norm() / known.norm())
            saved = 1 - runs[0][1] / runs[1][1]
            print(
                f"{cells:6} {part:8.0%} {noise:7.1%} | {columns} | {saved:5.0%} | {lu:7.2f} | {error:.3f}", flush=True
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[3, 32, 64, 128, 256, 512])
    parser.add_argument("--weights", type=float, nargs="+", default=[1e-1, 1e-2, 1e-4, 1e-6])
    parser.add_argument("--largest-lu", type=int, default=256, help="largest N that sparse LU is timed at")
    parser.add_argument("--cells", type=int, nargs="+", default=[16, 32], help="of the Darcy problem")
    parser.add_argument("--largest-darcy-lu", type=int, default=64, help="largest number of those with sparse LU")
    options = parser.parse_args()
    poisson(options)
    semilinear(options)
    darcy(options)


if __name__ == "__main__":
    main()
