"""Vector updates of the iterative solvers, on batches (b, n) with one factor per sample."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sciml_bounds.kernels._backend import backend_for, require_batches, run_compiled

__all__ = ["advance", "combine", "scaled_copy"]

#: Entries per piece of work, as in `vectors.cpp`. Sums are formed per piece, so they do not depend on the threads.
BLOCK = 4096


def combine(alpha: Tensor, u: Tensor, beta: Tensor, out: Tensor, *, norms: bool = True) -> Tensor:
    """Write alpha u + beta out into `out`, and return the norms (b,) of the result.

    Parameters
    ----------
    alpha, beta : Tensor (b,)
        Factor of each sample. Where beta is zero, `out` may be uninitialised.
    u, out : Tensor (b, n)
        Vectors, of any dtypes.
    norms : bool
        Whether to compute the norms; if False, the returned numbers are meaningless.
    """
    require_batches(len(out), u)
    if backend_for(out) != "compiled" or out.is_complex():
        kept = torch.where(beta.unsqueeze(1) == 0, 0.0, beta.unsqueeze(1) * out)
        out.copy_(alpha.unsqueeze(1) * u + kept)
        return out.norm(dim=1)
    B, n = out.shape
    sums, found = np.empty((B, -(-n // BLOCK) if norms else 0)), np.empty(B)
    alpha, u, beta = alpha.double().contiguous(), u.contiguous(), beta.double().contiguous()
    run_compiled("combine", out.numel(), alpha, u, beta, out, sums, found)
    norm = torch.from_numpy(found)
    return norm if out.dtype == torch.float64 else norm.to(out.dtype)


def advance(alpha: Tensor, d: Tensor, product: Tensor, x: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """Update x += alpha d and r -= alpha product, all (b, n), and return the norms (b,) of x and r.

    `alpha` has one factor per sample, shape (b,).
    """
    if backend_for(x) != "compiled" or x.is_complex():
        one = torch.ones_like(alpha)
        return combine(alpha, d, one, x), combine(-alpha, product, one, r)
    require_batches(len(x), d, product, r)
    B, n = x.shape
    sums, norms = np.empty((2, B, -(-n // BLOCK))), np.empty((2, B))
    alpha, d, product = alpha.double().contiguous(), d.contiguous(), product.contiguous()
    run_compiled("advance", x.numel(), alpha, d, product, x, r, sums, norms)
    size, norm = torch.from_numpy(norms).to(x.dtype)
    return size, norm


def scaled_copy(u: Tensor, scale: Tensor, out: Tensor) -> Tensor:
    """Write scale u into `out`, both (b, ...) and of any dtypes; `scale` (b,) has one factor per sample."""
    scale = scale.expand(len(out)).contiguous()
    n = out.shape[1:].numel()
    combine(scale, u.reshape(len(out), n), torch.zeros_like(scale), out.view(len(out), n), norms=False)
    return out
