"""Sketch-and-project: each step projects onto the solutions of a few random combinations of the equations.

    z+ = z - A^T S (S^T A A^T S)^+ S^T (A z - b)

Gower and Richtarik, "Randomized iterative methods for linear systems", SIAM J. Matrix Anal. Appl. 36 (2015) 1660-1690.

Single-vector sketches are drawn in chunks, whose steps are taken together. Successive projections onto rows w_1, w_2,
... are a Gauss-Seidel sweep for W W^T y = W z - S^T b with z+ = z - W^T y: one substitution with the lower triangle of
W W^T. With row sketches, a step costs O(CHUNK_SIZE N), and the residual costs O(N^2) once per chunk.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from sciml_bounds.arrays import convert, require_count, require_finite, require_number, require_seed, to_tensor
from sciml_bounds.errors import InputError
from sciml_bounds.operators._linear_operator import csr_tensor
from sciml_bounds.reports import Reason, report_failure
from sciml_bounds.results import LinearSolution
from sciml_bounds.sketching._sketches.sketch import ExpectedRate, Sketch, require_sketch

__all__ = [
    "CHUNK_SIZE",
    "SketchedSolve",
    "expected_rate",
    "read_system",
    "report",
    "require_tolerances",
    "sketch_and_project",
]

#: Number of steps between two computations of the residual, which cost as much as a step with a Gaussian vector.
CHUNK_SIZE = 64


class SolveByProjections(Protocol):
    """Interface of a solve by projections, for `report`."""

    z: Tensor
    steps: int
    capped: bool

    @property
    def residual_norm(self) -> float:
        """||A z - b||."""
        ...


class SketchedSolve:
    """The state of a solve, which can be continued to a smaller residual at any time.

    Parameters
    ----------
    A, b : Tensor
        Matrix, shape (M, N), and right-hand side, shape (M,).
    sketch : Sketch
        Distribution of the sketches.
    generator : torch.Generator
        Random numbers for the sketches.
    cap : int
        Maximum total number of steps.
    z : Tensor or None
        Initial guess; zero by default.
    """

    def __init__(
        self, A: Tensor, b: Tensor, sketch: Sketch, generator: torch.Generator, cap: int, z: Tensor | None = None
    ) -> None:
        self.A, self.b = A.to_dense(), b
        self.sketch, self.generator, self.cap = sketch, generator, cap
        self.z = b.new_zeros(self.A.shape[1]) if z is None else z
        self.steps = 0
        self.capped = False
        self.rhs_norm = float(b.norm())
        self.negative: int | None = None  # number of negative eigenvalues, unknown here
        self.residual_norms = [(self.A @ self.z - b).norm()]

    @property
    def residual_norm(self) -> float:
        """||A z - b||, recomputed at the end of the last chunk."""
        return float(self.residual_norms[-1])

    def refine(self, tolerance: float) -> None:
        """Continue until ||A z - b|| <= tolerance, the cap is reached, or z is not finite."""
        while tolerance < self.residual_norm < torch.inf and self.steps < self.cap:
            count = min(CHUNK_SIZE, self.cap - self.steps)
            W, beta = self.sketch.draw(self.A, self.b, count, self.generator)
            self.z = _project_singly(W[:, 0], beta[:, 0], self.z) if W.shape[1] == 1 else _project(W, beta, self.z)
            self.steps += count
            self.residual_norms.append((self.A @ self.z - self.b).norm())
        self.capped = self.steps >= self.cap and self.residual_norm > tolerance


def _project_singly(W: Tensor, beta: Tensor, z: Tensor) -> Tensor:
    """Project z onto the solutions of w_j.z = beta_j for all j in turn; zero rows have no effect."""
    gram = W @ W.mT
    diagonal = gram.diagonal()
    diagonal[diagonal == 0] = 1.0
    y: Tensor = torch.linalg.solve_triangular(gram, (W @ z - beta).unsqueeze(1), upper=False).squeeze(1)
    return z - W.mT @ y


def _project(W: Tensor, beta: Tensor, z: Tensor) -> Tensor:
    """Project z onto the solutions of W_j z = beta_j for all j in turn, W (t, q, N), beta (t, q)."""
    inverses = torch.linalg.pinv(W)
    for rows, inverse, value in zip(W, inverses, beta):
        z = z - inverse @ (rows @ z - value)
    return z


def sketch_and_project(
    A: Any,
    b: Any,
    sketch: Sketch,
    *,
    x0: Any = None,
    rtol: float = 1e-8,
    atol: float = 0.0,
    maxiter: int = 100_000,
    seed: int = 0,
) -> LinearSolution:
    """Solve a consistent system A x = b by random projections.

    Parameters
    ----------
    A : array, Tensor or scipy sparse matrix, shape (M, N)
        Matrix with M >= N, float64 or float32.
    b : array or Tensor, shape (M,)
        Right-hand side, in the range of A.
    sketch : Sketch
        `GaussianVector()`, `Rows()`, `GaussianBlock()`, `RowBlock()`, `CountSketch()`, `SparseSign()` or `SRHT()` of
        `sciml_bounds.sketching._sketches`, or any `Sketch`.
    x0 : array or Tensor, shape (N,), optional
        Initial guess; zero by default.
    rtol, atol : float
        Stop when ||b - A x|| <= max(rtol ||b||, atol), checked every 64 steps.
    maxiter : int
        Maximum number of steps.
    seed : int
        Random seed.

    Returns
    -------
    LinearSolution
        The solution; `iterations` counts steps, and `residual_norms` has the norms after every 64 steps. If the
        tolerance is not reached, a `ConvergenceWarning` is issued.

    Raises
    ------
    InputError
        If shapes do not match, A has fewer rows than columns, an entry is not finite, or squares of entries overflow or
        underflow.

    Notes
    -----
    Each step reduces the mean square error by the factor 1 - `expected_rate(A, sketch).gamma`, which is about
    1 - 1 / cond(A)^2. So the method is not suitable for ill-conditioned systems.

    Examples
    --------
    >>> import torch
    >>> from sciml_bounds.sketching._sketches.rows import Rows
    >>> from sciml_bounds.sketching._sketch_and_project import sketch_and_project
    >>> A = torch.tensor([[4.0, 1.0], [1.0, -3.0]], dtype=torch.float64)
    >>> s = sketch_and_project(A, [5.0, -2.0], Rows(), rtol=1e-10)
    >>> s.x, bool(s.converged)
    (tensor([1.0000, 1.0000], dtype=torch.float64), True)
    """
    start = time.perf_counter()
    matrix, rhs, guess = read_system(A, b, x0)
    require_count(maxiter, "maxiter", 0)
    seed = require_seed(seed)
    require_tolerances(rtol, atol)
    solve = SketchedSolve(matrix, rhs, require_sketch(sketch), torch.Generator().manual_seed(seed), maxiter, guess)
    tolerance = max(rtol * float(rhs.norm()), atol)
    solve.refine(tolerance)
    advice = {Reason.MAXITER: "Raise maxiter, or use another solver: this one needs about cond(A)^2 steps."}
    norms = torch.stack(solve.residual_norms)
    return report(solve, norms, tolerance, f"sketch-and-project with {sketch}", start, advice)


def require_tolerances(rtol: float, atol: float) -> None:
    """Check that tolerances are nonnegative numbers."""
    require_number(rtol, "rtol", least=0)
    require_number(atol, "atol", least=0)


def read_system(A: Any, b: Any, x0: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    """Check and convert a matrix (M, N), M >= N, a right-hand side (M,) and an initial guess (N,) or None."""
    matrix = _matrix(A)
    rhs = convert(b, "the right-hand side b", matrix.dtype, matrix.device)
    if rhs.shape != (len(matrix),):
        raise InputError(f"b has shape {tuple(rhs.shape)}, but A has {len(matrix)} rows; give a vector of that length.")
    require_finite(rhs, "the right-hand side b")
    for numbers, name in ((matrix, "the matrix A"), (rhs, "the right-hand side b")):
        _require_squares(numbers, name)
    guess = None if x0 is None else convert(x0, "the initial guess x0", matrix.dtype, matrix.device)
    if guess is not None and guess.shape != matrix.shape[1:]:
        raise InputError(f"x0 has shape {tuple(guess.shape)}, but A has {matrix.shape[1]} columns; they must agree.")
    if guess is not None:
        require_finite(guess, "the initial guess x0")
    return matrix, rhs, guess


def _require_squares(numbers: Tensor, name: str) -> None:
    """Check that squares of residuals at a tolerance stay in the range of the dtype."""
    if numbers.numel() == 0:
        return
    size = max(abs(float(end)) for end in numbers.aminmax())
    info = torch.finfo(numbers.dtype)
    least, most = info.tiny**0.5 / info.eps, info.max**0.5 * info.eps
    if size > 0 and not least < size < most:
        raise InputError(
            f"{name} has entries of size {size:.3g}, so that squares of residuals leave the range of "
            f"{str(numbers.dtype).removeprefix('torch.')}; scale it to size 1, and scale x back."
        )


def report(
    solve: SolveByProjections, norms: Tensor, tolerance: float, method: str, start: float, advice: Mapping[Reason, str]
) -> LinearSolution:
    """Return the solution of a completed solve, and warn if it has not reached the tolerance.

    `start` is its starting time; `method` describes it, up to the word "with" in warnings.
    """
    reason = _reason(solve, tolerance)
    solution = LinearSolution(
        x=solve.z, converged=torch.tensor(reason is Reason.CONVERGED), reason=reason,
        iterations=torch.tensor(solve.steps), residual_norms=norms, residual_norm=norms[-1],
        tolerance=torch.tensor(tolerance, dtype=norms.dtype), method=method, seconds=time.perf_counter() - start,
    )  # fmt: skip
    if reason is not Reason.CONVERGED:
        what = method.partition(" with ")[0]
        report_failure(what, reason, solution.progress, throw=False, advice=advice)
    return solution


def _reason(solve: SolveByProjections, tolerance: float) -> Reason:
    if solve.residual_norm <= tolerance:
        return Reason.CONVERGED
    if not solve.residual_norm < torch.inf:
        return Reason.NOT_FINITE
    return Reason.MAXITER if solve.capped else Reason.STAGNATED


def expected_rate(A: Any, sketch: Sketch) -> ExpectedRate:
    """Return the convergence rate gamma of sketch-and-project: E ||x_t - x*||^2 <= (1 - gamma)^t ||x_0 - x*||^2.

    Parameters
    ----------
    A : array, Tensor or scipy sparse matrix, shape (M, N)
        The matrix. The computation needs a dense eigenvalue decomposition of its size.
    sketch : Sketch
        Distribution of the sketches, as in `sketch_and_project`.

    Returns
    -------
    ExpectedRate
        `gamma` and `kind`: "bound" if gamma is computed, so that the inequality holds; "estimate" if it is a mean over
        random sketches (`GaussianBlock`, `CountSketch`, `SparseSign`, `SRHT`).

    Notes
    -----
    gamma = lambda_min(E[A^T S (S^T A A^T S)^+ S^T A]) (Gower and Richtarik, 2015, theorem 4.6).

    Examples
    --------
    >>> import torch
    >>> from sciml_bounds.sketching._sketches.rows import Rows
    >>> from sciml_bounds.sketching._sketch_and_project import expected_rate
    >>> expected_rate(torch.eye(4, dtype=torch.float64), Rows())
    ExpectedRate(gamma=0.25, kind='bound')
    """
    return require_sketch(sketch).expected_rate(_matrix(A))


def _matrix(A: Any) -> Tensor:
    matrix = (csr_tensor(A) if hasattr(A, "tocsr") else to_tensor(A, "the matrix A")).to_dense()
    if matrix.ndim != 2 or not matrix.shape[0] >= matrix.shape[1] > 0:
        raise InputError(
            f"the matrix A has shape {tuple(matrix.shape)}; it needs at least one column, and at least as many rows as "
            "columns."
        )
    require_finite(matrix, "the matrix A")
    return matrix
