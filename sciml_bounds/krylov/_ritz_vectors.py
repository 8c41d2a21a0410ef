"""Lanczos with full reorthogonalisation, and training right-hand sides mixed from Ritz vectors.

Reference for the mixing: Kaneda, Akar, Chen, Kala, Hyde, Teran, "A deep conjugate direction method for iteratively
solving linear systems", ICML 2023, and the code of its authors. Ritz vectors in the lower part of the spectrum, where
conjugate gradients converge most slowly, get nine times the weight.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sciml_bounds.arrays import require_count, require_seed
from sciml_bounds.errors import InputError
from sciml_bounds.krylov._system import require_symmetric
from sciml_bounds.memory import require_memory
from sciml_bounds.operators._linear_operator import LinearOperator, aslinearoperator

__all__ = ["lanczos", "low_count", "mixed_right_hand_sides", "mixing_weights", "ritz_pairs"]

#: Weight of the low part of the spectrum relative to the rest.
LOW_WEIGHT = 9.0
#: The low part of the spectrum is its lower half and this fraction of all vectors: 500 of 10,000.
LOW_EXTRA_FRACTION = 0.05
#: Ritz values below this fraction of the largest one belong to the null space.
NULL_SPACE_TOL = 1e-9


def lanczos(operator: LinearOperator, start: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Compute an orthonormal basis of a Krylov space of a symmetric operator.

    Parameters
    ----------
    operator : LinearOperator
        Symmetric operator A.
    start : Tensor
        First vector, shape (n,), not zero.
    steps : int
        Dimension m of the space. The result has a smaller m if the Krylov space of `start` has fewer dimensions.

    Returns
    -------
    tuple
        The basis (m, n), and the diagonal (m,) and off-diagonal (m - 1,) of the tridiagonal matrix of A in this basis.

    Notes
    -----
    Each vector is orthogonalised twice against all previous ones. Without this, Ritz values would appear more than once
    (Parlett, "The symmetric eigenvalue problem", 1980, chapter 13).

    Examples
    --------
    >>> import torch
    >>> import sciml_bounds as sb
    >>> A = sb.operators.aslinearoperator(torch.diag(torch.arange(1.0, 5.0)))
    >>> basis, diagonal, off = lanczos(A, torch.ones(4), 9)
    >>> basis.shape, diagonal.shape
    (torch.Size([4, 4]), torch.Size([4]))
    """
    steps = min(steps, len(start))
    require_memory(steps * len(start) * start.element_size(), f"{steps} vectors of {len(start)} numbers")
    basis = start.new_zeros(steps, len(start))
    basis[0] = start / start.norm()
    diagonal, off = start.new_zeros(steps), start.new_zeros(steps)
    for k in range(steps):
        w = operator.matvec(basis[k])
        diagonal[k] = basis[k].dot(w)
        for _ in range(2):
            w = w - basis[: k + 1].mT @ (basis[: k + 1] @ w)
        off[k] = w.norm()
        scale = torch.finfo(w.dtype).eps * len(w) ** 0.5 * (diagonal[: k + 1].abs().amax() + off[: k + 1].amax())
        if k + 1 == steps or bool(off[k] <= scale):
            break
        basis[k + 1] = w / off[k]
    return basis[: k + 1], diagonal[: k + 1], off[:k]


def ritz_pairs(A: Any, count: int, *, like: Tensor | None = None, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Compute Ritz values and Ritz vectors of a positive semi-definite operator, spread over its spectrum.

    Parameters
    ----------
    A : LinearOperator, matrix or callable
        Symmetric operator in any of the forms that `cg` takes.
    count : int
        Number of Lanczos steps, starting from A g with a random vector g, as in the paper. Each step gives one pair of
        a Ritz value and a Ritz vector; pairs in the null space are dropped.
    like : Tensor or None
        A vector (n,) with the length, dtype and device of the vectors of A; needed if A is a callable.
    seed : int
        Random seed for g.

    Returns
    -------
    tuple
        Ritz values (m,), ascending and positive, and orthonormal Ritz vectors (m, n).

    Raises
    ------
    InputError
        If A is a batch, not symmetric or indefinite, or its products are zero or not finite, or `count` or `seed` is
        out of range.
    """
    require_count(count, "count", 1)
    seed = require_seed(seed)
    operator = aslinearoperator(A, like)
    if operator.batch != 1:
        raise InputError(f"A is a batch of {operator.batch} operators; give a single one.")
    g = torch.randn(operator.shape[0], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    start = operator.matvec(g.to(operator.device, operator.dtype))
    require_symmetric(operator, start)
    if not 0 < float(start.norm()) < torch.inf:
        raise InputError("A maps a random vector to zero, NaN or infinity; give a finite operator that is not zero.")
    basis, diagonal, off = lanczos(operator, start, count)
    values, vectors = torch.linalg.eigh(torch.diag(diagonal) + torch.diag(off, 1) + torch.diag(off, -1))
    null = NULL_SPACE_TOL * float(values.abs().max())
    if bool(values[0] < -null):
        raise InputError(
            f"A is indefinite: it has a Ritz value of {float(values[0]):.3g}; give a positive semi-definite operator."
        )
    kept = values > null
    return values[kept], vectors.mT[kept] @ basis


def low_count(count: int) -> int:
    """Return how many of `count` vectors, ordered by eigenvalue, belong to the low part of the spectrum: 55 percent."""
    require_count(count, "count", 0)
    return count // 2 + round(LOW_EXTRA_FRACTION * count)


def mixing_weights(count: int) -> Tensor:
    """Return the standard deviations (count,) of the random coefficients of Ritz vectors in ascending order."""
    low = low_count(count)
    weights = torch.ones(count, dtype=torch.float64)
    weights[:low] = LOW_WEIGHT
    return weights


def mixed_right_hand_sides(vectors: Tensor, count: int, *, seed: int = 0) -> Tensor:
    """Return random right-hand sides of norm one: combinations of Ritz vectors with Gaussian coefficients.

    Parameters
    ----------
    vectors : Tensor
        Ritz vectors or eigenvectors (m, n), in ascending order of their eigenvalues.
    count : int
        Number of right-hand sides.
    seed : int
        Random seed. The k-th right-hand side does not depend on `count`.

    Returns
    -------
    Tensor
        Right-hand sides, shape (count, n).

    Raises
    ------
    InputError
        If `vectors` is not a matrix of floating-point numbers, or `count` or `seed` is out of range.
    """
    require_count(count, "count", 1)
    seed = require_seed(seed)
    if not isinstance(vectors, Tensor) or vectors.ndim != 2 or not vectors.is_floating_point():
        shape = f" of shape {tuple(vectors.shape)}" if isinstance(vectors, Tensor) else ""
        raise InputError(f"vectors is {_kind(vectors)}{shape}; give a torch tensor (m, n) of floating-point numbers.")
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randn(len(vectors), generator=generator, dtype=torch.float64) for _ in range(count)]
    mixed = (torch.stack(rows) * mixing_weights(len(vectors))).to(vectors) @ vectors
    unit: Tensor = mixed / mixed.norm(dim=1, keepdim=True)
    return unit


def _kind(value: Any) -> str:
    """Return the name of the torch dtype of an object, or of its type if it has none."""
    dtype = getattr(value, "dtype", None)
    return str(dtype).removeprefix("torch.") if isinstance(dtype, torch.dtype) else f"a {type(value).__name__}"
