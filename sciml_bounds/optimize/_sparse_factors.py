"""Factorisation of sparse symmetric matrices, with their inertia if possible.

SuperLU in symmetric mode takes pivots from the diagonal, in minimum-degree order. P A P^T = L U is then L D L^T, and
the signs of the diagonal of U are those of the eigenvalues (Sylvester's law). The lower right block of a KKT matrix is
zero, so pivots may vanish: small diagonal entries are shifted by 1e-10 of the largest entry, and iterative refinement
removes the error. If refinement fails, a factorisation with pivoting is used, which does not give the inertia.
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

#: Shift of diagonal entries that are smaller than it, relative to the largest entry.
DIAGONAL_SHIFT = 1e-10

#: The symmetric factorisation is accepted if at most `MAX_REFINEMENTS` refinement steps reduce relative residuals to
#: `REFINEMENT_TOL`.
REFINEMENT_TOL, MAX_REFINEMENTS = 1e-10, 4

Vector = np.ndarray[Any, Any]


class SparseFactors:
    """Factors of a matrix, with its number of negative eigenvalues; None if unknown."""

    def __init__(self, substitute: Callable[[Vector], Vector], negative: int | None) -> None:
        self._substitute, self.negative = substitute, negative

    def __call__(self, rhs: Tensor) -> Tensor:
        """Solve for one right-hand side, shape (n,)."""
        return torch.from_numpy(self._substitute(rhs.cpu().numpy())).to(rhs)


def sparse_factors(A: Tensor) -> SparseFactors | None:
    """Factorise a symmetric CSR tensor; return None if it is singular."""
    matrix = scipy_matrix(A).tocsc()
    return _symmetric(matrix) or _pivoting(matrix)


def _symmetric(matrix: scipy.sparse.csc_array) -> SparseFactors | None:
    """Factorise with pivots from the diagonal; return None if that is not stable."""
    diagonal, least = matrix.diagonal(), DIAGONAL_SHIFT * float(abs(matrix).max())
    shifted = matrix - scipy.sparse.diags_array(np.where(np.abs(diagonal) < least, least + diagonal, 0.0))
    try:
        factors = scipy.sparse.linalg.splu(
            shifted.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
        )
    except RuntimeError:  # a zero pivot
        return None
    if not np.array_equal(factors.perm_r, factors.perm_c):
        return None

    def substitute(rhs: Vector) -> Vector:
        x, size = factors.solve(rhs), np.linalg.norm(rhs)
        for _ in range(MAX_REFINEMENTS):
            residual = rhs - matrix @ x
            if not np.linalg.norm(residual) > REFINEMENT_TOL * size:
                break
            x = x + factors.solve(residual)
        return np.asarray(x)

    probe = matrix @ np.ones(matrix.shape[0])
    if not np.linalg.norm(probe - matrix @ substitute(probe)) <= REFINEMENT_TOL * np.linalg.norm(probe):
        return None
    return SparseFactors(substitute, int((factors.U.diagonal() < 0).sum()))


def _pivoting(matrix: scipy.sparse.csc_array) -> SparseFactors | None:
    try:
        factors = scipy.sparse.linalg.splu(matrix)
    except RuntimeError:  # exactly singular
        return None
    return SparseFactors(factors.solve, None)
