"""The largest eigenvalues of a symmetric operator from its products with a few random vectors.

Reduced Hessians of problems with differential equations are a multiple of the identity and a part whose eigenvalues
fall fast, since data tell little of what oscillates: that part has low rank but for a remainder, and products with it,
each of two solves of the equation, are all that it takes to find it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sciml_bounds.arrays import require_count, require_finite, require_seed
from sciml_bounds.errors import InputError
from sciml_bounds.operators._linear_operator import aslinearoperator

__all__ = ["randomised_eigenpairs"]

#: An operator is called symmetric if u.Av and v.Au differ by less than this many round-offs of the largest.
SLACK = 1e5


def randomised_eigenpairs(
    A: Any, count: int, *, oversampling: int = 10, like: Tensor | None = None, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Approximate the eigenvalues of largest magnitude, and their eigenvectors, of a symmetric operator.

    Parameters
    ----------
    A
        A symmetric operator: a `LinearOperator`, a matrix, or a callable of vectors (..., n).
    count
        Number of eigenpairs, r.
    oversampling
        Random vectors beside the `count`, p: A is multiplied by 2 (r + p) vectors.
    like
        A vector (n,) that gives length, dtype and device, where A is a function.
    seed
        Of the random vectors.

    Returns
    -------
    tuple
        Values (r,), by falling magnitude, and orthonormal vectors (r, n).

    Raises
    ------
    InputError
        If a number is out of range, more vectors are asked for than there are unknowns, A is found not to be symmetric,
        or its products are not finite.

    Notes
    -----
    Halko, Martinsson and Tropp, SIAM Review 53 (2011), algorithms 4.1 and 5.3. The eigenvalues are those of A on a
    space, so that their magnitudes are not above the true ones, and errors of A are about those of its best
    approximation of rank r where eigenvalues fall fast. Where they do not, nothing is gained: use Lanczos.

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
        raise InputError(f"count={count} eigenpairs are asked for, and A has {n}; ask for fewer.")
    shape = (min(n, count + oversampling), n)
    vectors = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    products = operator.matvec(vectors.to(operator.device, operator.dtype))
    require_finite(products, "the product of A with random vectors")
    basis, _ = torch.linalg.qr(products.mT)
    small = operator.matvec(basis.mT.contiguous()) @ basis
    size = float(small.abs().max())  # so that squares stay in range
    if size > 0 and float((small / size - small.mT / size).norm()) > SLACK * torch.finfo(small.dtype).eps * len(small):
        raise InputError("A is not symmetric; give (A + A^T) / 2, or use torch.svd_lowrank.")
    values, rotation = torch.linalg.eigh((small + small.mT) / 2)
    largest = values.abs().argsort(descending=True)[:count]
    return values[largest], (basis @ rotation[:, largest]).mT
