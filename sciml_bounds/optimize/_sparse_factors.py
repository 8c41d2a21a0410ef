"""Factors of sparse symmetric matrices, with their inertia where it can be had.

SuperLU in its symmetric mode takes its pivots from the diagonal, in an order of minimum degree: P A P^T = L U is then
L D L^T with the signs of D on the diagonal of U, and these are those of the eigenvalues (Sylvester). The corner of a
KKT matrix is zero, so that pivots may be: there the diagonal is moved by 1e-10 of the largest entry, and refinement
with the matrix itself takes the error out again. Where it does not, factors with pivoting serve, which tell no inertia.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from sciml_bounds.optimize._kkt import scipy_matrix

__all__ = ["SparseFactors", "sparse_factors"]

#: What diagonal entries are moved by, relative to the largest entry, where they are smaller than that.
MOVED = 1e-10

#: The inertia is believed where refinement makes residuals this small, relative to the right-hand side, and so soon.
BELIEVED, REFINEMENTS = 1e-10, 4

Vector = np.ndarray[Any, Any]


class SparseFactors:
    """A substitution, and the number of negative eigenvalues, None where it is not known."""

    def __init__(self, substitute: Callable[[Vector], Vector], negative: int | None) -> None:
        self._substitute, self.negative = substitute, negative

    def __call__(self, rhs: Tensor) -> Tensor:
        """Solve for one right-hand side, shape (n,)."""
        return torch.from_numpy(self._substitute(rhs.cpu().numpy())).to(rhs)


def sparse_factors(A: Tensor) -> SparseFactors | None:
    """Factorise a symmetric CSR tensor; None where it is singular."""
    matrix = scipy_matrix(A).tocsc()
    return _symmetric(matrix) or _pivoting(matrix)


def _symmetric(matrix: scipy.sparse.csc_array) -> SparseFactors | None:
    """Factorise with pivots from the diagonal; None where that is not stable."""
    diagonal, least = matrix.diagonal(), MOVED * float(abs(matrix).max())
    moved = matrix - scipy.sparse.diags_array(np.where(np.abs(diagonal) < least, least + diagonal, 0.0))
    try:
        factors = scipy.sparse.linalg.splu(
            moved.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
        )
    except RuntimeError:  # a zero where a pivot should be
        return None
    if not np.array_equal(factors.perm_r, factors.perm_c):
        return None

    def substitute(rhs: Vector) -> Vector:
        x, size = factors.solve(rhs), np.linalg.norm(rhs)
        for _ in range(REFINEMENTS):
            residual = rhs - matrix @ x
            if not np.linalg.norm(residual) > BELIEVED * size:
                break
            x = x + factors.solve(residual)
        return np.asarray(x)

    probe = matrix @ np.ones(matrix.shape[0])
    if not np.linalg.norm(probe - matrix @ substitute(probe)) <= BELIEVED * np.linalg.norm(probe):
        return None
    return SparseFactors(substitute, int((factors.U.diagonal() < 0).sum()))


def _pivoting(matrix: scipy.sparse.csc_array) -> SparseFactors | None:
    try:
        factors = scipy.sparse.linalg.splu(matrix)
    except RuntimeError:  # exactly singular
        return None
    return SparseFactors(factors.solve, None)
