"""Randomised eigenvalue decomposition: the largest eigenvalues of a symmetric operator from a few random products.

A typical use are reduced Hessians of problems with differential equations: a multiple of the identity plus a part whose
eigenvalues decay fast, since data hardly depend on oscillating components. That part is numerically of low rank, and a
few products, of two solves each, suffice to find it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sciml_bounds.arrays import require_count, require_finite, require_seed
from sciml_bounds.errors import InputError
from sciml_bounds.operators._linear_operator import aslinearoperator

__all__ = ["randomised_eigenpairs"]

#: The projected operator counts as symmetric up to this times eps times its size.
SYMMETRY_SLACK = 1e5


def randomised_eigenpairs(
    A: Any, count: int, *, oversampling: int = 10, like: Tensor | None = None, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Approximate the eigenvalues of largest magnitude of a symmetric operator, and their eigenvectors.

    Parameters
    ----------
    A : LinearOperator, matrix or callable
        Symmetric operator; a callable maps vectors (..., n) to vectors (..., n).
    count : int
        Number r of eigenpairs.
    oversampling : int
        Number p of additional random vectors: A is multiplied by 2 (r + p) vectors.
    like : Tensor or None
        A vector (n,) with the length, dtype and device of vectors; needed if A is a callable.
    seed : int
        Random seed.

    Returns
    -------
    tuple
        Eigenvalues (r,), in order of decreasing magnitude, and orthonormal eigenvectors (r, n).

    Raises
    ------
    InputError
        If a number is out of range, `count` is larger than n, A is not symmetric, or its products are not finite.

    Notes
    -----
    Halko, Martinsson and Tropp, SIAM Review 53 (2011), algorithms 4.1 and 5.3. The eigenvalues are those of A on a
    subspace, so their magnitudes do not exceed the true ones. If eigenvalues decay fast, the error of the approximation
    of A is close to that of the best one of rank r. If they do not, use Lanczos instead.

    Examples
    --------
    >>> import torch
    >>> from sciml_bounds.sketching._low_rank import randomised_eigenpairs
    >>> A = torch.diag(10.0 ** -torch.arange(50, dtype=torch.float64))
    >>> values, vectors = randomised_eigenpairs(A, 3)
    >>> values, vectors.shape
    (tensor([1.0000, 0.1000, 0.0100], dtype=torch.float64), torch.Size([3, 50]))
    """
    require_count(count, "count", 1)
    require_count(oversampling, "oversampling", 0)
    seed = require_seed(seed)
    operator = aslinearoperator(A, like)
    n = operator.shape[0]
    if count > n:
        raise InputError(f"count={count} is larger than the number of eigenpairs of A, {n}; use a smaller count.")
    shape = (min(n, count + oversampling), n)
    vectors = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    products = operator.matvec(vectors.to(operator.device, operator.dtype))
    require_finite(products, "the product of A with random vectors")
    basis, _ = torch.linalg.qr(products.mT)
    small = operator.matvec(basis.mT.contiguous()) @ basis
    size = float(small.abs().max())  # so that squares stay in range
    limit = SYMMETRY_SLACK * torch.finfo(small.dtype).eps * len(small)
    if size > 0 and float((small / size - small.mT / size).norm()) > limit:
        raise InputError("A is not symmetric; give (A + A^T) / 2, or use torch.svd_lowrank.")
    values, rotation = torch.linalg.eigh((small + small.mT) / 2)
    largest = values.abs().argsort(descending=True)[:count]
    return values[largest], (basis @ rotation[:, largest]).mT
