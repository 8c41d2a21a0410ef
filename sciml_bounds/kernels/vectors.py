"""The vectors of an iteration: flat batches (b, n), whose samples have factors of their own."""

from __future__ import annotations

import numba
import torch
from numba import prange
from torch import Tensor

from sciml_bounds.kernels._backend import NumbaKernel, backend_for, require_batches

__all__ = ["combine", "scaled_copy"]

#: Entries that are one piece of work, and of which sums are formed that do not depend on the number of threads.
BLOCK = 4096

#: So many sums are formed side by side, as the vectors of a processor do.
LANES = 32


def combine(alpha: Tensor, u: Tensor, beta: Tensor, out: Tensor, *, norms: bool = True) -> Tensor:
    """Write alpha u + beta out into `out`, and return its norms (b,), or nothing of meaning without `norms`.

    Parameters
    ----------
    alpha, beta
        Factors of each sample, shape (b,). Where beta is zero, it does not matter what `out` holds.
    u, out
        Shape (b, n), of whatever dtypes.
    norms
        Whether they are wanted.
    """
    require_batches(len(out), u)
    if backend_for(out) != "numba" or out.is_complex():
        kept = torch.where(beta.unsqueeze(1) == 0, 0.0, beta.unsqueeze(1) * out)
        out.copy_(alpha.unsqueeze(1) * u + kept)
        return out.norm(dim=1)
    B, n = out.shape
    sums, total = out.new_empty((B, -(-n // BLOCK), LANES if norms else 0)), out.new_empty(B)
    _combine_numba(out.numel(), alpha, u, beta, out, sums, total)
    return total.sqrt()


def scaled_copy(u: Tensor, scale: Tensor, out: Tensor) -> Tensor:
    """Write scale u into `out`, both (b, ...) and of whatever dtypes, with one number `scale` (b,) a sample."""
    scale = scale.expand(len(out)).contiguous()
    n = out.shape[1:].numel()
    combine(scale, u.reshape(len(out), n), torch.zeros_like(scale), out.view(len(out), n), norms=False)
    return out


# --- numba ------------------------------------------------------------------------------------------------------------


@NumbaKernel
def _combine_numba(alpha, u, beta, out, sums, total):
    B, blocks, lanes = sums.shape
    for k in prange(B * blocks):
        i = k // blocks
        block = k % blocks
        source = u[i, block * BLOCK : (block + 1) * BLOCK]
        target = out[i, block * BLOCK : (block + 1) * BLOCK]
        if beta[i] == 0:
            for j in range(target.size):
                target[j] = alpha[i] * source[j]
        else:
            for j in range(target.size):
                target[j] = alpha[i] * source[j] + beta[i] * target[j]
        if lanes > 0:
            _write_squares(target, sums[i, block])
    for i in range(B):  # in one order for any number of samples and threads
        total[i] = 0
        for block in range(blocks):
            for j in range(lanes):
                total[i] += sums[i, block, j]


@numba.njit(inline="always")
def _write_squares(u, sums):
    """Write the sums of every LANES-th square."""
    for j in range(LANES):
        sums[j] = 0
    whole = u.size // LANES * LANES
    for first in range(0, whole, LANES):
        part = u[first : first + LANES]
        for j in range(LANES):
            sums[j] += part[j] * part[j]
    for j in range(u.size - whole):
        sums[j] += u[whole + j] * u[whole + j]
