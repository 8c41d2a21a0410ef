"""Inner solvers for KKT systems: each starts from zero, and can be continued to a smaller residual."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from scipy.linalg import lapack
from torch import Tensor
from torch.linalg import vector_norm

from sciml_bounds.errors import InputError
from sciml_bounds.optimize._kkt import is_sparse
from sciml_bounds.optimize._kkt_minres import Minres, MinresSolver
from sciml_bounds.optimize._products import Matrix, Products
from sciml_bounds.optimize._sparse_factors import sparse_factors
from sciml_bounds.sketching._accelerated_kaczmarz import AcceleratedSolve
from sciml_bounds.sketching._sketch_and_project import SketchedSolve
from sciml_bounds.sketching._sketches.gaussian_vector import GaussianVector
from sciml_bounds.sketching._sketches.rows import Rows
from sciml_bounds.sketching._sketches.sketch import Sketch

__all__ = ["InnerSolve", "InnerSolver", "as_inner", "sparse_factors"]

#: A matrix counts as singular if its smallest pivot is below this fraction of the largest.
SINGULAR_PIVOT_RATIO = 1e-14

#: Residuals below this fraction of the right-hand side are not refined.
REFINEMENT_TOL = 1e-15

#: Sparse matrices with a larger fraction of nonzeros are factorised as dense ones, which is several times faster.
MAX_SPARSE_DENSITY = 0.1

#: Block size of the LAPACK factorisation.
LAPACK_BLOCK_SIZE = 64

Array = np.ndarray[Any, Any]


class InnerSolve(Protocol):
    """The state of the solution of a symmetric system A z = b.

    Attributes
    ----------
    z : Tensor
        Current solution.
    residual_norm : float
        ||A z - b|| in the norm that the solver minimises; NaN if A is singular.
    rhs_norm : float
        ||b|| in the same norm.
    steps : int
        Number of steps so far; zero for direct solvers.
    negative : int or None
        Number of negative eigenvalues of A; None if the solver does not compute it.
    capped : bool
        Whether the solver stopped at its maximum number of steps.
    """

    z: Tensor
    negative: int | None
    rhs_norm: float

    @property
    def steps(self) -> int:
        """Number of steps so far."""
        ...

    @property
    def residual_norm(self) -> float:
        """||A z - b||."""
        ...

    @property
    def capped(self) -> bool:
        """Whether the solver stopped at its maximum number of steps."""
        ...

    def refine(self, tolerance: float) -> None:
        """Continue until the residual norm is at most `tolerance`, or cannot be reduced further."""
        ...


#: Function of matrix, right-hand side and maximum number of steps that starts a solve.
InnerSolver = Callable[[Matrix, Tensor, int], InnerSolve]


class DirectSolve:
    """Direct solve with one refinement step: L D L^T, which counts negative eigenvalues, or LU if that fails."""

    steps = 0
    capped = False

    def __init__(self, A: Tensor, b: Tensor, cap: int) -> None:
        self.negative: int | None = None
        self.rhs_norm = float(vector_norm(b))
        sparse = is_sparse(A) and A.values().numel() <= MAX_SPARSE_DENSITY * A.shape[0] ** 2
        substitute = self._sparse_factors(A) if sparse else self._dense_factors(A.to_dense())
        self.substitute: Callable[[Tensor], Tensor] | None = substitute
        if substitute is None:
            self.z, self.residual_norm = torch.full_like(b, math.nan), math.nan
            return
        self.z = substitute(b)
        residual = b - A @ self.z
        if not float(vector_norm(residual)) <= REFINEMENT_TOL * self.rhs_norm:
            self.z = self.z + substitute(residual)
            residual = b - A @ self.z
        self.residual_norm = float(vector_norm(residual))

    def _sparse_factors(self, A: Tensor) -> Callable[[Tensor], Tensor] | None:
        factors = sparse_factors(A)
        self.negative = None if factors is None else factors.negative
        return factors

    def _dense_factors(self, A: Tensor) -> Callable[[Tensor], Tensor] | None:
        n = len(A)
        if n == 0:
            self.negative = 0
            return torch.zeros_like
        LD, pivots, _ = lapack.dsytrf(A.cpu().numpy(), lower=True, lwork=LAPACK_BLOCK_SIZE * n)
        eigenvalues = _pivot_eigenvalues(LD, pivots)
        sizes = np.abs(eigenvalues)
        if not sizes.min() > SINGULAR_PIVOT_RATIO * sizes.max():
            return None
        self.negative = int((eigenvalues < 0).sum())  # Sylvester's law of inertia
        return lambda rhs: torch.from_numpy(lapack.dsytrs(LD, pivots, rhs.cpu().numpy(), lower=True)[0]).to(rhs)

    def refine(self, tolerance: float) -> None:
        """Do nothing: a direct solution is as accurate as possible already."""


def _pivot_eigenvalues(LD: Array, pivots: Array) -> Array:
    """Return the eigenvalues of D; LAPACK marks its 2 x 2 blocks by negative pivot indices."""
    values = LD.diagonal().copy()
    pairs = np.flatnonzero(pivots < 0)[::2]
    if len(pairs):
        a, d, off = values[pairs], values[pairs + 1], LD.diagonal(-1)[pairs]
        middle, radius = (a + d) / 2, np.hypot((a - d) / 2, off)
        values[pairs], values[pairs + 1] = middle - radius, middle + radius
    return values


def as_inner(inner: str | Sketch | Minres, seed: int) -> InnerSolver:
    """Return the inner solver for a name, a sketch, or MINRES with a preconditioner.

    Parameters
    ----------
    inner : str, Sketch or Minres
        "direct", "minres", "kaczmarz" (uniform rows), "gaussian" (Gaussian vectors), "accelerated" (blocks of mixed
        rows, with momentum), "auto" (direct for matrices, MINRES for operators), a `Minres`, or any `Sketch`.
    seed : int
        Random seed of sketches.

    Raises
    ------
    InputError
        If the name is unknown; or later, if the solver needs matrix entries, but a derivative is an operator.
    """
    if isinstance(inner, Minres) or inner == "minres":
        return (inner if isinstance(inner, Minres) else Minres()).solver()
    if inner == "auto":
        by_products = MinresSolver(Minres())
        return lambda A, b, cap: by_products(A, b, cap) if isinstance(A, Products) else DirectSolve(A, b, cap)
    if inner == "direct":
        return lambda A, b, cap: DirectSolve(_entries(A, inner), b, cap)
    generator = torch.Generator().manual_seed(seed)
    if inner == "accelerated":
        return lambda A, b, cap: AcceleratedSolve(_entries(A, inner), b, generator, cap)
    sketches: dict[str, Sketch] = {"kaczmarz": Rows(), "gaussian": GaussianVector()}
    sketch = sketches.get(inner) if isinstance(inner, str) else inner
    if sketch is None or not hasattr(sketch, "draw"):
        raise InputError(
            f"unknown inner solver {inner!r}; choose from 'auto', 'direct', 'minres', 'kaczmarz', 'gaussian', "
            "'accelerated', sb.optimize.Minres(preconditioner), or a sketch of sciml_bounds.sketching._sketches."
        )
    return lambda A, b, cap: SketchedSolve(_entries(A, inner), b, sketch, generator, cap)


def _entries(A: Matrix, inner: str | Sketch) -> Tensor:
    if isinstance(A, Products):
        raise InputError(
            f"inner={inner!r} needs matrix entries, but a derivative is an operator; return matrices, or use "
            "inner='minres' or sb.optimize.Minres(preconditioner)."
        )
    return A
