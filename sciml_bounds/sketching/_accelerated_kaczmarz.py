"""Accelerated block Kaczmarz method: block projections with momentum, chosen by conjugate gradients.

A random rotation mixes the rows of the system, so that all rows are similar, and the mixed rows are divided into K
blocks. A sweep projects onto the solutions of each block, in forward and then in reverse order, z -> z - E(z). For b =
0 it is a fixed symmetric operator with eigenvalues in [0, 1), whose fixed point conjugate gradients find (Bjoerck and
Elfving, "Accelerated projection methods for computing pseudoinverse solutions of systems of linear equations", BIT 19,
1979; Gordon and Gordon, Parallel Comput. 31, 2005).

The rotation and the regularised projections, factorised once per block, are those of Kaczmarz++ (Derezinski, Needell,
Rebrova and Yang, arXiv 2501.11673). Kaczmarz++ estimates the momentum from the decay of residuals; conjugate gradients
choose the optimal one at each sweep.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor

from sciml_bounds.arrays import require_count, require_seed
from sciml_bounds.reports import Reason
from sciml_bounds.results import LinearSolution
from sciml_bounds.sketching._sketch_and_project import read_system, report, require_tolerances
from sciml_bounds.sketching._sketches.srht import mixed_rows

__all__ = ["SIZE", "AcceleratedSolve", "accelerated_kaczmarz"]

#: Default number of rows per block. Larger blocks need fewer sweeps, of the same cost each, and a longer set-up.
SIZE = 16

#: Singular values of a block below this fraction of its largest one are damped in the projection.
DAMPING_TOL = 1e-8

#: Conjugate gradients restart when their recursive residual has fallen to this fraction of its first value: it is
#: inaccurate then.
RESTART_REDUCTION = 1e-12

ADVICE = {
    Reason.MAXITER: "Raise maxiter, or use larger blocks.",
    Reason.STAGNATED: "The rest is round-off, or b is not in the range of A; use a larger rtol, or least squares.",
}


class AcceleratedSolve:
    """The state of a solve, which can be continued to a smaller residual at any time, as `SketchedSolve`.

    Parameters
    ----------
    A, b : Tensor
        Matrix, shape (M, N), and right-hand side, shape (M,).
    generator : torch.Generator
        Random numbers for the rotation.
    cap : int
        Maximum total number of steps, each a projection onto one block.
    size : int
        Maximum number of rows per block.
    z : Tensor or None
        Initial guess; zero by default.
    """

    def __init__(
        self, A: Tensor, b: Tensor, generator: torch.Generator, cap: int, size: int = SIZE, z: Tensor | None = None
    ) -> None:
        self.A, self.b, self.cap = A.to_dense(), b, cap
        self.z = b.new_zeros(self.A.shape[1]) if z is None else z
        self.steps = 0
        self.capped = False
        self.negative: int | None = None  # number of negative eigenvalues, unknown here
        self.rhs_norm = float(b.norm())
        self.residual_norms = [(self.A @ self.z - b).norm()]
        self._blocks, self._values = _mixed_blocks(self.A, b, size, generator)
        self._projections = _regularised_inverses(self._blocks)
        forward = list(range(len(self._blocks)))
        self._order = forward + forward[-2::-1]
        self._x = self.z  # current iterate; z is the best one so far, since residuals may grow
        self._r: Tensor | None = None  # change of x by a sweep, by recursion; None before a restart
        self._p = self.z
        self._square = self._first = math.inf  # ||r||^2, now and at the start

    @property
    def residual_norm(self) -> float:
        """||A z - b||, recomputed after each sweep; it never grows."""
        return float(self.residual_norms[-1])

    def refine(self, tolerance: float) -> None:
        """Continue until ||A z - b|| <= tolerance, the cap is reached, or z does not improve."""
        at_restart = math.inf
        while tolerance < self.residual_norm < torch.inf:
            if self._r is None:
                if not self.residual_norm < 0.5 * at_restart:
                    return
                at_restart = self.residual_norm
            self.capped = self.steps + len(self._order) > self.cap
            if self.capped:
                return
            if self._r is None:
                self._start()
            else:
                self._step()
        self.capped = False

    def _start(self) -> None:
        """Set the first search direction: the change of x by a sweep."""
        self._x = self.z
        self._r = self._p = self._sweep(self._x, self._values) - self._x
        self._square = self._first = float(self._r @ self._r)

    def _step(self) -> None:
        """Do one conjugate-gradient step, and compute the next direction."""
        assert self._r is not None
        moved = self._p - self._sweep(self._p, None)
        curvature = float(self._p @ moved)
        if not curvature > 0:  # round-off
            self._r = None
            return
        length = self._square / curvature
        self._x = self._x + length * self._p
        self._r = self._r - length * moved
        square = float(self._r @ self._r)
        self._p = self._r + square / self._square * self._p
        self._square = square
        norm = (self.A @ self._x - self.b).norm()
        if norm < self.residual_norms[-1]:
            self.z = self._x
        self.residual_norms.append(torch.minimum(norm, self.residual_norms[-1]))
        if square <= RESTART_REDUCTION**2 * self._first:
            self._r = None

    def _sweep(self, z: Tensor, values: Tensor | None) -> Tensor:
        """Project onto the solutions of W_j z = beta_j of all blocks, forward and back; without `values`, beta = 0."""
        z = z.clone()
        for j in self._order:
            left = self._blocks[j] @ z if values is None else self._blocks[j] @ z - values[j]
            z.sub_(self._projections[j] @ left)
        self.steps += len(self._order)
        return z


def _mixed_blocks(A: Tensor, b: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mix the rows and divide them into K blocks of at most `size` rows, padded with zeros: (K, q, N) and (K, q)."""
    mixed = mixed_rows(torch.cat([A, b.unsqueeze(1)], 1), 1, generator)[0]
    order = torch.randperm(len(mixed), generator=generator).to(A.device)
    count = math.ceil(len(mixed) / size)
    q = math.ceil(len(mixed) / count)
    blocks = torch.cat([mixed[order], mixed.new_zeros(count * q - len(mixed), mixed.shape[1])]).view(count, q, -1)
    return blocks[..., :-1].contiguous(), blocks[..., -1].contiguous()


def _regularised_inverses(blocks: Tensor) -> Tensor:
    """Return W^T (W W^T + e^2 ||W||^2 I)^-1 for each W of (K, q, N): (K, N, q)."""
    left, sizes, right = torch.linalg.svd(blocks, full_matrices=False)
    part = max(DAMPING_TOL, 10 * torch.finfo(sizes.dtype).eps)
    damping = (part * sizes[:, :1]).clamp_min(torch.finfo(sizes.dtype).tiny ** 0.5)
    inverted = sizes / (sizes.square() + damping.square())
    inverses: Tensor = (right.mT * inverted.unsqueeze(1)) @ left.mT
    return inverses


def accelerated_kaczmarz(
    A: Any,
    b: Any,
    *,
    size: int = SIZE,
    x0: Any = None,
    rtol: float = 1e-8,
    atol: float = 0.0,
    maxiter: int = 100_000,
    seed: int = 0,
) -> LinearSolution:
    """Solve a consistent system A x = b by projections onto random blocks of equations, with momentum.

    Parameters
    ----------
    A : array, Tensor or scipy sparse matrix, shape (M, N)
        Matrix with M >= N, float64 or float32.
    b : array or Tensor, shape (M,)
        Right-hand side, in the range of A.
    size : int
        Maximum number of equations per block.
    x0 : array or Tensor, shape (N,), optional
        Initial guess; zero by default.
    rtol, atol : float
        Stop when ||b - A x|| <= max(rtol ||b||, atol), checked after each sweep over the blocks.
    maxiter : int
        Maximum number of steps, each a projection onto one block.
    seed : int
        Random seed of the rotation that mixes the equations.

    Returns
    -------
    LinearSolution
        The solution; `iterations` counts steps, and `residual_norms` has the norms after each sweep. If the tolerance
        is not reached, a `ConvergenceWarning` is issued.

    Raises
    ------
    InputError
        If shapes do not match, A has fewer rows than columns, or an entry is not finite.

    Notes
    -----
    The number of steps is proportional to cond(A), compared with cond(A)^2 for `sketch_and_project`. A few isolated
    singular values cost few steps.

    Examples
    --------
    >>> import torch
    >>> from sciml_bounds.sketching._accelerated_kaczmarz import accelerated_kaczmarz
    >>> A = torch.diag(torch.linspace(1.0, -10.0, 99, dtype=torch.float64))
    >>> s = accelerated_kaczmarz(A, torch.ones(99, dtype=torch.float64), rtol=1e-10)
    >>> bool(s.converged), s.x[-1]
    (True, tensor(-0.1000, dtype=torch.float64))
    """
    start = time.perf_counter()
    matrix, rhs, guess = read_system(A, b, x0)
    require_count(size, "size", 1)
    require_count(maxiter, "maxiter", 0)
    seed = require_seed(seed)
    require_tolerances(rtol, atol)
    solve = AcceleratedSolve(matrix, rhs, torch.Generator().manual_seed(seed), maxiter, size, guess)
    tolerance = max(rtol * float(rhs.norm()), atol)
    solve.refine(tolerance)
    method = f"accelerated Kaczmarz with blocks of {size}"
    return report(solve, torch.stack(solve.residual_norms), tolerance, method, start, ADVICE)
