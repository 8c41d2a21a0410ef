"""What random sketches are good for in optimisation, measured: four tasks, each beside what is best without them.

    python benchmarks/sketching.py [--rows 100000] [--columns 500] [--tasks least-squares multipliers ...] [--threads 1]

least-squares: ||b - A x||, A tall and dense, well and ill conditioned, with a planted solution and a residual of 1e-3
of A x. multipliers: ||g + G^T l|| for many unknowns and few constraints. reduced-hessian: Newton systems and eigenpairs
of a control problem with the Poisson equation, by counts of products, each of two solves of the equation. kkt: square
symmetric indefinite systems. Every task ends with what follows from its figures. Some minutes of one core.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

import sciml_bounds as sb
from sciml_bounds.optimize._inner_solvers import InnerSolve, InnerSolver, as_inner
from sciml_bounds.sketching._least_squares import sketched_least_squares
from sciml_bounds.sketching._low_rank import randomised_eigenpairs
from sciml_bounds.sketching._sketches.row_block import RowBlock

#: A method wins where it takes at most this part of the other's time.
WINS = 0.9

#: What has been said, by the title of the table.
VERDICTS: list[str] = []


@dataclass(frozen=True)
class Row:
    """What one method took."""

    name: str
    seconds: float
    error: float
    left: float
    work: str


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    found = work()
    return found, time.perf_counter() - start


def print_rows(title: str, rows: list[Row], error: str, left: str) -> None:
    print(f"\n{title}\n  {'method':34} {'seconds':>9} {error:>12} {left:>14}  work")
    for row in rows:
        print(f"  {row.name:34} {row.seconds:9.3f} {row.error:12.1e} {row.left:14.1e}  {row.work}", flush=True)


def say(title: str, sentence: str) -> None:
    """Print what follows from a table, and keep it for the end."""
    print(f"  {sentence}", flush=True)
    VERDICTS.append(f"{title}: {sentence}")


def verdict(title: str, ours: Row, others: list[Row], accuracy: float) -> None:
    """Say whether sketching wins against the fastest method that is as accurate as `accuracy` says."""
    fair = [row for row in others if row.error <= accuracy]
    if not fair:
        say(title, f"WINS: no other method has an error below {accuracy:.0e}")
        return
    best = min(fair, key=lambda row: row.seconds)
    ratio = ours.seconds / best.seconds
    word = "WINS" if ratio <= WINS else "DRAWS" if ratio <= 1 / WINS else "LOSES"
    say(title, f"{word}: sketching takes {ratio:.2f} times as long as {best.name}")


# --- tall least squares -----------------------------------------------------------------------------------------------


def planted(rows: int, columns: int, condition: float) -> tuple[Tensor, Tensor, Tensor]:
    """Make A with that condition number, x, and b with a residual orthogonal to A that is 1e-3 of A x."""
    generator = torch.Generator().manual_seed(0)
    Q, _ = torch.linalg.qr(torch.randn((rows, columns + 1), generator=generator, dtype=torch.float64))
    V, _ = torch.linalg.qr(torch.randn((columns, columns), generator=generator, dtype=torch.float64))
    A = (Q[:, :columns] * torch.logspace(0, -np.log10(condition), columns, dtype=torch.float64)) @ V.T
    x = torch.randn(columns, generator=generator, dtype=torch.float64)
    return A, x, A @ x + 1e-3 * (A @ x).norm() * Q[:, columns]


def of_normal_equations(A: Tensor, b: Tensor) -> Tensor:
    """Solve A^T A x = A^T b by Cholesky, with one refinement; NaN where rounding has made it indefinite."""
    L, failed = torch.linalg.cholesky_ex(A.mT @ A)
    if bool(failed):
        return b.new_full((A.shape[1],), torch.nan)
    x = torch.cholesky_solve((A.mT @ b).unsqueeze(1), L)
    return (x + torch.cholesky_solve(A.mT @ (b.unsqueeze(1) - A @ x), L)).squeeze(1)


def compare_least_squares(title: str, A: Tensor, b: Tensor, exact: Tensor, limit: int) -> None:
    """Print errors relative to `exact`, and the lengths of residuals beyond that of `exact`, relative to it."""
    arrays = A.numpy(), b.numpy()
    smallest = float((b - A @ exact).norm())

    def row(name: str, x: Tensor, seconds: float, work: str) -> Row:
        error = float((x - exact).norm() / exact.norm())
        return Row(name, seconds, error, float((b - A @ x).norm()) / smallest - 1, work)

    solution, seconds = timed(lambda: sketched_least_squares(A, b))
    ours = row("sketched, LSQR (ours)", solution.x, seconds, f"{int(solution.iterations)} iterations")
    others = []
    for driver in ("gels", "gelsy"):
        found, seconds = timed(partial(torch.linalg.lstsq, A, b.unsqueeze(1), driver=driver))
        others.append(row(f"torch.linalg.lstsq, {driver}", found.solution.squeeze(1), seconds, "QR"))
    x, seconds = timed(lambda: of_normal_equations(A, b))
    others.append(row("normal equations", x, seconds, "Cholesky"))
    found, seconds = timed(lambda: scipy.sparse.linalg.lsqr(*arrays, 1e-14, 1e-14, iter_lim=limit))
    others.append(row("scipy lsqr", torch.from_numpy(found[0]), seconds, f"{found[2]} iterations, at most {limit}"))
    print_rows(title, [ours, *others], "error", "residual - 1")
    verdict(title, ours, others, 10 * ours.error)


def least_squares(options: argparse.Namespace) -> None:
    for condition in (1e1, 1e8):
        A, x, b = planted(options.rows, options.columns, condition)
        title = f"Tall least squares, {options.rows} x {options.columns}, condition number {condition:.0e}"
        compare_least_squares(title, A, b, x, options.limit)


def multipliers(options: argparse.Namespace) -> None:
    """Estimate l from g + G^T l, G as Jacobians are stored: a row for each constraint."""
    for unknowns, constraints in ((options.rows, options.columns // 5), (options.rows, options.columns // 50)):
        generator = torch.Generator().manual_seed(1)
        G = torch.randn((constraints, unknowns), generator=generator, dtype=torch.float64)
        exact = torch.randn(constraints, generator=generator, dtype=torch.float64)
        Q, _ = torch.linalg.qr(G.mT)
        g = torch.randn(unknowns, generator=generator, dtype=torch.float64)
        g = g - Q @ (Q.mT @ g) - G.mT @ exact
        title = f"Multipliers, {unknowns} unknowns, {constraints} constraints"
        compare_least_squares(title, G.mT, -g, exact, options.limit)


# --- reduced Hessians -------------------------------------------------------------------------------------------------


class ReducedHessian:
    """weight I + K^-1 K^-1, with K the five-point operator on (-1, 1)^2, and a count of products."""

    def __init__(self, side: int, weight: float) -> None:
        second = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(side, side))
        K = scipy.sparse.kronsum(second, second) * ((side + 1) / 2) ** 2
        self.n, self.weight, self.count = side**2, weight, 0
        self._solve = scipy.sparse.linalg.splu(scipy.sparse.csc_matrix(K)).solve

    def data_part(self, x: Tensor) -> Tensor:
        """Multiply K^-1 K^-1 by vectors (..., n)."""
        self.count += x.numel() // self.n
        return torch.from_numpy(self._solve(self._solve(x.reshape(-1, self.n).numpy().T)).T.copy()).view_as(x)

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply by vectors (..., n)."""
        return self.data_part(x) + self.weight * x

    def counted(self) -> int:
        """Return the count, and start it anew."""
        count, self.count = self.count, 0
        return count


def reduced_hessian(options: argparse.Namespace) -> None:
    for weight in (1e-3, 1e-5):
        compare_eigenpairs(ReducedHessian(options.side, weight))


def compare_eigenpairs(H: ReducedHessian) -> None:
    """Find the eigenvalues of the data's part that are above the weight."""
    (all_values, _), seconds = timed(lambda: torch.linalg.eigh(H.data_part(torch.eye(H.n, dtype=torch.float64))))
    full = Row("all products, eigh", seconds, 0.0, 0.0, f"{H.counted()} products")
    true = all_values.flip(0)
    rank = min(H.n // 2, int((true > H.weight).sum()))

    def row(name: str, values: Tensor, seconds: float) -> Row:
        error = float((values - true[:rank]).abs().max())
        return Row(name, seconds, error / float(true[0]), error / H.weight, f"{H.counted()} products")

    like = torch.zeros(H.n, dtype=torch.float64)
    (values, vectors), seconds = timed(lambda: randomised_eigenpairs(H.data_part, rank, like=like))
    ours = row("randomised, in two blocks (ours)", values, seconds)
    operator = scipy.sparse.linalg.LinearOperator(
        (H.n, H.n), lambda v: H.data_part(torch.from_numpy(np.ascontiguousarray(v).reshape(-1))).numpy()
    )
    found, seconds = timed(lambda: scipy.sparse.linalg.eigsh(operator, rank, tol=1e-3))
    lanczos = row("scipy eigsh, one by one", torch.from_numpy(found[0]).flip(0), seconds)
    title = f"Reduced Hessian, {H.n} controls, weight {H.weight:.0e}: {rank} eigenvalues above it"
    print_rows(title, [ours, lanczos, full], "error", "error / weight")
    solve_newton(title, H, values, vectors)


def solve_newton(title: str, H: ReducedHessian, values: Tensor, vectors: Tensor) -> None:
    """Count the products of conjugate gradients for one right-hand side, without and with the eigenpairs as M."""
    b = torch.randn(H.n, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    made = values.clamp_min(0.0) / (values.clamp_min(0.0) + H.weight)

    def woodbury(r: Tensor) -> Tensor:
        return (r - ((r @ vectors.mT) * made) @ vectors) / H.weight

    H.counted()
    sb.cg(H, b, rtol=1e-8)
    plain = H.counted()
    sb.cg(H, b, M=woodbury, flexible=False, rtol=1e-8)
    preconditioned = H.counted()
    once = 2 * (len(values) + 10)
    print(f"  one Newton system to 1e-8: conjugate gradients {plain} products, with these eigenpairs {preconditioned}")
    if plain <= preconditioned:
        say(title, "LOSES: the eigenpairs do not help conjugate gradients")
        return
    needed = -(-once // (plain - preconditioned))
    say(title, f"{'WINS' if needed == 1 else 'LOSES'} for one system; pays from {needed} systems with this Hessian on")


# --- square systems ---------------------------------------------------------------------------------------------------


def kkt_system(n: int, m: int, condition: float) -> tuple[Tensor, Tensor, Tensor]:
    """Make a KKT matrix whose Hessian has eigenvalues from 1 / condition to 1, a solution and a right-hand side."""
    generator = torch.Generator().manual_seed(3)
    rotation, _ = torch.linalg.qr(torch.randn((n, n), generator=generator, dtype=torch.float64))
    H = (rotation * torch.logspace(0, -np.log10(condition), n, dtype=torch.float64)) @ rotation.T
    G = torch.randn((m, n), generator=generator, dtype=torch.float64) / n**0.5
    A = torch.cat([torch.cat([H, G.T], 1), torch.cat([G, G.new_zeros(m, m)], 1)])
    z = torch.randn(n + m, generator=generator, dtype=torch.float64)
    return A, z, A @ z


def kkt(options: argparse.Namespace) -> None:
    for n, m, condition in ((12, 6, 1e1), (120, 60, 1e2), (480, 240, 1e4)):
        compare_solvers(*kkt_system(n, m, condition))


def compare_solvers(A: Tensor, exact: Tensor, b: Tensor) -> None:
    """Solve to a residual of 1e-8, with as many steps as take some seconds at most."""
    solvers = {name: as_inner(name, 0) for name in ("direct", "minres", "kaczmarz", "gaussian")}
    solvers["blocks of 16 rows"] = as_inner(RowBlock(16), 0)
    solvers["accelerated, blocks of 16 (ours)"] = as_inner("accelerated", 0)
    # of one step: a product with A or with a few of its rows, and with their transpose.
    flops = {"minres": 2 * len(A), "gaussian": 2 * len(A), "kaczmarz": 4}
    rows = []
    for name, solver in solvers.items():
        many = len(A) < 100 or name == "minres" or name.startswith("accelerated")

        def solve(solver: InnerSolver = solver, cap: int = 100_000 if many else 10_000) -> InnerSolve:
            started = solver(A, b, cap)
            started.refine(1e-8 * float(b.norm()))
            return started

        found, seconds = timed(solve)
        error = float((found.z - exact).norm() / exact.norm())
        count = found.steps * flops.get(name, 4 * 16) * len(A)
        cap = " (cap)" if found.capped else ""
        work = f"{found.steps} steps, {count:.1e} flops{cap}" if found.steps else "L D L^T"
        rows.append(Row(name, seconds, error, found.residual_norm / float(b.norm()), work))
    title = f"KKT system of size {len(A)}, condition number {float(torch.linalg.cond(A)):.0e}"
    print_rows(title, rows, "error", "residual")
    verdict(title, rows[-1], rows[:2], 1e-4)


TASKS = {
    "least-squares": least_squares, "multipliers": multipliers, "reduced-hessian": reduced_hessian, "kkt": kkt,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--rows", type=int, default=100_000, help="of A, and unknowns of the multipliers' problem")
    parser.add_argument("--columns", type=int, default=500, help="of A; a fifth and a fiftieth of that are constraints")
    parser.add_argument("--side", type=int, default=32, help="points along a side of the control problem")
    parser.add_argument("--limit", type=int, default=200, help="most iterations of scipy's lsqr")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore", sb.ConvergenceWarning)  # what is not reached stands in the table
    print(f"{options.threads} thread(s), torch {torch.__version__}, scipy {scipy.__version__}")
    for name in options.tasks:
        TASKS[name](options)
    print("\nWhere sketching wins and where it loses:", *VERDICTS, sep="\n  ")


if __name__ == "__main__":
    main()
