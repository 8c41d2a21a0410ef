"""Lanczos with full re-orthogonalisation, and right-hand sides mixed of its Ritz vectors, to train directions on.

Reference for the mixing: Kaneda, Akar, Chen, Kala, Hyde, Teran, "A deep conjugate direction method for iteratively
solving linear systems", ICML 2023, and the code of its authors: the lower part of the spectrum, which takes conjugate
gradients longest, is nine times as strong.
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

#: How much stronger the low part is.
AMPLITUDE = 9.0
#: The part of all vectors beyond the lower half that counts as low: 500 of 10,000.
BEYOND_HALF = 0.05
#: Ritz values below this part of the largest belong to the null space.
NULL = 1e-9


def lanczos(A: Any, start: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Make an orthonormal basis of the Krylov space of a symmetric operator.

    Parameters
    ----------
    A
        Any symmetric operator that `cg` takes.
    start
        The first vector, shape (n,), of any size but zero.
    steps
        Dimension m of the space; it is smaller where the space of `start` is exhausted.

    Returns
    -------
    tuple
        The basis (m, n), and diagonal (m,) and off-diagonal (m - 1,) of the tridiagonal matrix of A in it.

    Raises
    ------
    InputError
        If A is not symmetric, does not fit, or `start` is no vector of floating-point numbers, zero or not finite.

    Notes
    -----
    Every vector is made orthogonal to all before it, twice: without that, Ritz values appear more than once (Parlett,
    "The symmetric eigenvalue problem", 1980, chapter 13).

    Examples
    --------
    >>> import torch
    >>> basis, diagonal, off = lanczos(torch.diag(torch.arange(1.0, 5.0)), torch.ones(4), 9)
    >>> basis.shape, diagonal.shape
    (torch.Size([4, 4]), torch.Size([4]))
    """
    require_count(steps, "steps", 1)
    if not isinstance(start, Tensor) or not start.is_floating_point():
        raise InputError(f"start is {_kind(start)}; it must be a vector of floating-point numbers, a torch tensor.")
    size = start.norm()
    if start.ndim != 1 or not bool(size > 0) or not bool(torch.isfinite(size)):
        raise InputError(f"start of shape {tuple(start.shape)} must be one finite vector that is not zero.")
    operator = _symmetric(A, start)
    steps = min(steps, len(start))
    require_memory(steps * len(start) * start.element_size(), f"{steps} vectors of {len(start)} numbers")
    basis = start.new_zeros(steps, len(start))
    basis[0] = start / size
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
    """Approximate eigenvalues and eigenvectors of a positive semi-definite operator, spread over its spectrum.

    Parameters
    ----------
    A
        Any symmetric operator that `cg` takes.
    count
        Steps of Lanczos, from A g with random g, as published: so many pairs, less those of the null space.
    like
        A vector (n,) that gives length, dtype and device, where A is a function.
    seed
        Of g.

    Returns
    -------
    tuple
        Ritz values (m,), ascending and positive, and Ritz vectors (m, n), orthonormal.

    Raises
    ------
    InputError
        If A is not symmetric or indefinite, or a number is out of range.
    """
    seed = require_seed(seed)
    operator = aslinearoperator(A, like)
    n = operator.shape[0]
    g = torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    basis, diagonal, off = lanczos(operator, operator.matvec(g.to(operator.device, operator.dtype)), count)
    values, vectors = torch.linalg.eigh(torch.diag(diagonal) + torch.diag(off, 1) + torch.diag(off, -1))
    null = NULL * float(values.abs().max())
    if bool(values[0] < -null):
        raise InputError(f"A is indefinite: it has a Ritz value of {float(values[0]):.3g}; give a positive one.")
    kept = values > null
    return values[kept], vectors.mT[kept] @ basis


def low_count(count: int) -> int:
    """Tell how many of so many vectors, ordered by their eigenvalues, count as low: half of them and five percent."""
    require_count(count, "count", 0)
    return count // 2 + round(BEYOND_HALF * count)


def mixing_weights(count: int) -> Tensor:
    """Give the standard deviations of the coefficients of Ritz vectors in ascending order, (count,)."""
    low = low_count(count)
    weights = torch.ones(count, dtype=torch.float64)
    weights[:low] = AMPLITUDE
    return weights


def mixed_right_hand_sides(vectors: Tensor, count: int, *, seed: int = 0) -> Tensor:
    """Mix vectors to right-hand sides of norm one, with coefficients of normal distribution as published.

    Parameters
    ----------
    vectors
        Ritz vectors or eigenvectors (m, n) in ascending order of their values.
    count
        How many right-hand sides.
    seed
        Of the coefficients; the k-th right-hand side is the same for any count.

    Returns
    -------
    Tensor
        Shape (count, n).

    Raises
    ------
    InputError
        If the vectors are no matrix of floating-point numbers, or a number is out of range.
    """
    require_count(count, "count", 1)
    seed = require_seed(seed)
    if not isinstance(vectors, Tensor) or vectors.ndim != 2 or not vectors.is_floating_point():
        shape = f" of shape {tuple(vectors.shape)}" if isinstance(vectors, Tensor) else ""
        raise InputError(
            f"the vectors are {_kind(vectors)}{shape}; give a torch tensor (m, n) of floating-point numbers."
        )
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randn(len(vectors), generator=generator, dtype=torch.float64) for _ in range(count)]
    mixed = (torch.stack(rows) * mixing_weights(len(vectors))).to(vectors) @ vectors
    unit: Tensor = mixed / mixed.norm(dim=1, keepdim=True)
    return unit


def _symmetric(A: Any, like: Tensor) -> LinearOperator:
    operator = aslinearoperator(A, like)
    if operator.shape[0] != len(like) or operator.batch != 1:
        raise InputError(f"A has shape {operator.shape}, and start has {len(like)} entries; they must agree.")
    if (operator.dtype, operator.device) != (like.dtype, like.device):
        ours, theirs = (f"{_kind(part)} on {part.device}" for part in (operator, like))
        raise InputError(f"A works in {ours}, and start is {theirs}; convert one of them.")
    require_symmetric(operator, like)
    return operator


def _kind(value: Any) -> str:
    """Name the dtype of what has one of torch, and the type of all else."""
    dtype = getattr(value, "dtype", None)
    return str(dtype).removeprefix("torch.") if isinstance(dtype, torch.dtype) else f"a {type(value).__name__}"
