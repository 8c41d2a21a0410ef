"""Ways to solve a KKT system: each starts at zero and goes on from where it is when more accuracy is asked for."""

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

#: A pivot this much smaller than the largest is one of a singular matrix.
SINGULAR = 1e-14

#: A residual this small, relative to the right-hand side, is not refined.
ACCURATE = 1e-15

#: Sparse matrices with more entries than this part of all are factorised as dense ones, which is several times faster.
FILLED = 0.1

#: Columns that LAPACK eliminates at once.
BLOCK = 64

Array = np.ndarray[Any, Any]


class InnerSolve(Protocol):
    """A symmetric system A z = b that is being solved.

    Attributes
    ----------
    z
        What has been found so far.
    residual_norm
        ||A z - b|| in the norm that the solver minimises; NaN where A is found singular.
    rhs_norm
        ||b|| in that norm.
    steps
        Steps of the solver so far; zero for direct ones.
    negative
        Number of negative eigenvalues of A, where the solver finds it out.
    capped
        Whether it ended because it may take no more steps.
    """

    z: Tensor
    negative: int | None
    rhs_norm: float

    @property
    def steps(self) -> int:
        """Steps so far."""
        ...

    @property
    def residual_norm(self) -> float:
        """||A z - b||."""
        ...

    @property
    def capped(self) -> bool:
        """Whether it ended because it may take no more steps."""
        ...

    def refine(self, tolerance: float) -> None:
        """Go on until the residual is that small, or as small as it gets."""
        ...


#: Starts on a system: matrix, right-hand side, and the largest number of steps.
InnerSolver = Callable[[Matrix, Tensor, int], InnerSolve]


class DirectSolve:
    """L D L^T, dense or sparse, which counts negative eigenvalues, or LU where that fails, with one refinement."""

    steps = 0
    capped = False

    def __init__(self, A: Tensor, b: Tensor, cap: int) -> None:
        self.negative: int | None = None
        self.rhs_norm = float(vector_norm(b))
        sparse = is_sparse(A) and A.values().numel() <= FILLED * A.shape[0] ** 2
        substitute = self._sparse_factors(A) if sparse else self._dense_factors(A.to_dense())
        self.substitute: Callable[[Tensor], Tensor] | None = substitute
        if substitute is None:
            self.z, self.residual_norm = torch.full_like(b, math.nan), math.nan
            return
        self.z = substitute(b)
        residual = b - A @ self.z
        if not float(vector_norm(residual)) <= ACCURATE * self.rhs_norm:
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
        LD, pivots, _ = lapack.dsytrf(A.cpu().numpy(), lower=True, lwork=BLOCK * n)
        eigenvalues = _pivot_eigenvalues(LD, pivots)
        sizes = np.abs(eigenvalues)
        if not sizes.min() > SINGULAR * sizes.max():
            return None
        self.negative = int((eigenvalues < 0).sum())  # Sylvester's law of inertia
        return lambda rhs: torch.from_numpy(lapack.dsytrs(LD, pivots, rhs.cpu().numpy(), lower=True)[0]).to(rhs)

    def refine(self, tolerance: float) -> None:
        """Leave it: it is as accurate as it gets."""


def _pivot_eigenvalues(LD: Array, pivots: Array) -> Array:
    """Return the eigenvalues of D, whose blocks of two are where LAPACK notes negative pivots."""
    values = LD.diagonal().copy()
    pairs = np.flatnonzero(pivots < 0)[::2]
    if len(pairs):
        a, d, off = values[pairs], values[pairs + 1], LD.diagonal(-1)[pairs]
        middle, radius = (a + d) / 2, np.hypot((a - d) / 2, off)
        values[pairs], values[pairs + 1] = middle - radius, middle + radius
    return values


def as_inner(inner: str | Sketch | Minres, seed: int) -> InnerSolver:
    """Turn a name, a sketch, or MINRES with its preconditioner into an inner solver.

    Parameters
    ----------
    inner
        "direct", "minres", "kaczmarz" (uniform rows), "gaussian" (vectors), "accelerated" (blocks of mixed rows, with
        momentum), "auto" (direct for matrices, MINRES where there are products only), a `Minres`, or any `Sketch`.
    seed
        Of the random numbers.

    Raises
    ------
    InputError
        If the name is unknown; or later, if the solver needs matrices, and there are products only.
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
            f"unknown inner solver {inner!r}; the choices are 'auto', 'direct', 'minres', 'kaczmarz', 'gaussian', "
            "'accelerated', sb.optimize.Minres(preconditioner), or a sketch of sciml_bounds.sketching._sketches."
        )
    return lambda A, b, cap: SketchedSolve(_entries(A, inner), b, sketch, generator, cap)


def _entries(A: Matrix, inner: str | Sketch) -> Tensor:
    if isinstance(A, Products):
        raise InputError(
            f"inner={inner!r} needs the entries of matrices, and a derivative is an operator; return matrices, or use "
            "inner='minres' or sb.optimize.Minres(preconditioner)."
        )
    return A
