"""Block projections with momentum: the block Kaczmarz method, accelerated by conjugate gradients.

Rows of a system are mixed by a random rotation, so that all are alike, and dealt into K blocks. A sweep projects on the
solutions of each block, there and back, z -> z - E(z); without right-hand side it is a fixed symmetric operator with
eigenvalues in [0, 1), of which conjugate gradients find the fixed point (Bjoerck and Elfving, "Accelerated projection
methods for computing pseudoinverse solutions of systems of linear equations", BIT 19, 1979; Gordon and Gordon, Parallel
Comput. 31, 2005).

From Kaczmarz++ (Derezinski, Needell, Rebrova and Yang, arXiv 2501.11673) come the rotation, projections that are
regularised and whose factors are computed once for each block, and the aim, momentum whose size need not be given.
There it is estimated from the decay of residuals; conjugate gradients choose the best one at each sweep.
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

#: Rows of a block: a larger one takes fewer sweeps, of the same cost each, and more work before the first.
SIZE = 16

#: Singular values of a block below this part of its largest are damped in its projection.
DAMPED = 1e-8

#: Conjugate gradients start anew when their recursion has fallen to this part of what it was: it tells no more then.
FALLEN = 1e-12

ADVICE = {
    Reason.MAXITER: "Raise maxiter, or take larger blocks.",
    Reason.STAGNATED: "That is round-off, or b is not in the range of A; ask for a larger rtol, or use least squares.",
}


class AcceleratedSolve:
    """A system that is solved a little further each time it is asked to, as `SketchedSolve`.

    Parameters
    ----------
    A, b
        Matrix, shape (M, N), and right-hand side, shape (M,).
    generator
        Of the random rotation.
    cap
        Largest number of steps, which are projections on one block, in all.
    size
        Largest number of rows of a block.
    z
        Initial guess; zero by default.
    """

    def __init__(
        self, A: Tensor, b: Tensor, generator: torch.Generator, cap: int, size: int = SIZE, z: Tensor | None = None
    ) -> None:
        self.A, self.b, self.cap = A.to_dense(), b, cap
        self.z = b.new_zeros(self.A.shape[1]) if z is None else z
        self.steps = 0
        self.capped = False
        self.negative: int | None = None  # number of negative eigenvalues, which projections do not find
        self.rhs_norm = float(b.norm())
        self.residual_norms = [(self.A @ self.z - b).norm()]
        self._blocks, self._values = _dealt(self.A, b, size, generator)
        self._projections = _regularised_inverses(self._blocks)
        there = list(range(len(self._blocks)))
        self._order = there + there[-2::-1]
        self._x = self.z  # where conjugate gradients are; z is the best that was seen, since residuals may grow
        self._r: Tensor | None = None  # what a sweep changes in x, by recursion; None where that is to be computed
        self._p = self.z
        self._square = self._first = math.inf  # ||r||^2, now and at the start

    @property
    def residual_norm(self) -> float:
        """||A z - b||, computed anew after each sweep; it never grows."""
        return float(self.residual_norms[-1])

    def refine(self, tolerance: float) -> None:
        """Go on until ||A z - b|| <= tolerance, the cap is reached, or z stays as it is."""
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
        """Take the first direction, along what a sweep changes."""
        self._x = self.z
        self._r = self._p = self._swept(self._x, self._values) - self._x
        self._square = self._first = float(self._r @ self._r)

    def _step(self) -> None:
        """Go along a direction as far as is best, and find the next one."""
        assert self._r is not None
        moved = self._p - self._swept(self._p, None)
        curvature = float(self._p @ moved)
        if not curvature > 0:  # nothing is left but round-off
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
        if square <= FALLEN**2 * self._first:
            self._r = None

    def _swept(self, z: Tensor, values: Tensor | None) -> Tensor:
        """Project on the solutions of W_j z = beta_j for all blocks, there and back; beta is zero without `values`."""
        z = z.clone()
        for j in self._order:
            left = self._blocks[j] @ z if values is None else self._blocks[j] @ z - values[j]
            z.sub_(self._projections[j] @ left)
        self.steps += len(self._order)
        return z


def _dealt(A: Tensor, b: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mix rows and deal them into K blocks of at most `size`: (K, q, N) and (K, q); zeros fill the last ones up."""
    mixed = mixed_rows(torch.cat([A, b.unsqueeze(1)], 1), 1, generator)[0]
    order = torch.randperm(len(mixed), generator=generator).to(A.device)
    count = math.ceil(len(mixed) / size)
    q = math.ceil(len(mixed) / count)
    dealt = torch.cat([mixed[order], mixed.new_zeros(count * q - len(mixed), mixed.shape[1])]).view(count, q, -1)
    return dealt[..., :-1].contiguous(), dealt[..., -1].contiguous()


def _regularised_inverses(blocks: Tensor) -> Tensor:
    """Return W^T (W W^T + e^2 ||W||^2 I)^-1 for each W of (K, q, N): (K, N, q)."""
    left, sizes, right = torch.linalg.svd(blocks, full_matrices=False)
    part = max(DAMPED, 10 * torch.finfo(sizes.dtype).eps)
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
    """Solve a consistent system A x = b by projections on random blocks of equations, with momentum.

    Parameters
    ----------
    A
        Matrix, shape (M, N), M >= N: a tensor, an array or a scipy sparse matrix, float64 or float32.
    b
        Right-hand side, shape (M,), in the range of A.
    size
        Largest number of equations of a block.
    x0
        Initial guess; zero by default.
    rtol, atol
        Stop when ||b - A x|| <= max(rtol ||b||, atol), which is looked at after each sweep over the blocks.
    maxiter
        Largest number of steps, which are projections on one block.
    seed
        Of the random rotation that mixes the equations.

    Returns
    -------
    LinearSolution
        `iterations` counts steps; `residual_norms` has the norms after each sweep.

    Raises
    ------
    InputError
        If shapes do not fit, A has fewer rows than columns, or an entry is not finite.

    Notes
    -----
    A `ConvergenceWarning` says that the tolerance was not reached. The number of steps grows like cond(A), where that
    of `sketch_and_project` grows like cond(A)^2, and a few singular values apart from the others cost few steps.

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
