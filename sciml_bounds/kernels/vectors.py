"""The vectors of an iteration: flat batches (b, n)."""

from __future__ import annotations

import numba
from numba import prange
from torch import Tensor

from sciml_bounds.kernels._backend import NumbaKernel, backend_for, require_batches

__all__ = ["advance", "scaled_copy"]

#: Entries that are one piece of work, and of which sums are formed that do not depend on the number of threads.
BLOCK = 4096

#: So many sums are formed side by side, as the vectors of a processor do.
LANES = 32


def advance(alpha: Tensor, d: Tensor, q: Tensor, x: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """Take a step of conjugate gradients in place, x + alpha d and r - alpha q, and return the norms of both, (b,).

    Parameters
    ----------
    alpha
        Length of the step of each sample, shape (b,).
    d, q, x, r
        Direction, its product with A, iterate and residual, shape (b, n).
    """
    require_batches(len(x), d, q, r)
    if backend_for(x) != "numba" or x.is_complex():
        x.addcmul_(alpha.unsqueeze(1), d)
        r.addcmul_(alpha.unsqueeze(1), q, value=-1)
        return x.norm(dim=1), r.norm(dim=1)
    B, n = x.shape
    sums, total = x.new_zeros((2, B, -(-n // BLOCK), LANES)), x.new_zeros((2, B))
    _advance_numba(x.numel(), alpha, d, q, x, r, sums, total)
    size, norm = total.sqrt()
    return size, norm


def scaled_copy(u: Tensor, scale: Tensor, out: Tensor) -> Tensor:
    """Write scale u into `out`, both (b, ...) and of whatever dtypes, with one number `scale` (b,) a sample."""
    require_batches(len(u), scale)
    if backend_for(u) == "numba":
        flat = (len(u), u.shape[1:].numel())
        _scaled_copy_numba(u.numel(), u.view(flat), scale.expand(len(u)).contiguous(), out.view(flat))
    else:
        out.copy_(u * scale.view(-1, *(1,) * (u.ndim - 1)))
    return out


# --- numba ------------------------------------------------------------------------------------------------------------


@NumbaKernel
def _advance_numba(alpha, d, q, x, r, sums, total):
    B, n = x.shape
    blocks = sums.shape[2]
    for k in prange(B * blocks):
        i = k // blocks
        block = k % blocks
        start = block * BLOCK
        for first in range(start, min(start + BLOCK, n), LANES):
            _advance(alpha[i], d[i, first:], q[i, first:], x[i, first:], r[i, first:], sums[:, i, block])
    for i in range(B):  # in one order for any number of samples and threads
        for block in range(blocks):
            for j in range(LANES):
                total[0, i] += sums[0, i, block, j]
                total[1, i] += sums[1, i, block, j]


@numba.njit(inline="always")
def _advance(a, d, q, x, r, sums):
    """Advance the first LANES entries, or those that there are, and add the squares of each to its own sum."""
    if x.size >= LANES:
        for j in range(LANES):
            x[j] += a * d[j]
            r[j] -= a * q[j]
            sums[0, j] += x[j] * x[j]
            sums[1, j] += r[j] * r[j]
    else:
        for j in range(x.size):
            x[j] += a * d[j]
            r[j] -= a * q[j]
            sums[0, j] += x[j] * x[j]
            sums[1, j] += r[j] * r[j]


@NumbaKernel
def _scaled_copy_numba(u, scale, out):
    B, N = u.shape
    blocks = (N + BLOCK - 1) // BLOCK
    for k in prange(B * blocks):
        n = k // blocks
        start = (k % blocks) * BLOCK
        source = u[n, start : start + BLOCK]
        target = out[n, start : start + BLOCK]
        for i in range(source.size):
            target[i] = scale[n] * source[i]
