"""Bounds and estimates of the A-norm error of conjugate gradients.

Notation: x_k is the k-th iterate, r_k its residual, d_k the search direction, alpha_k the step length, and M the
preconditioner, an approximate inverse of A.

Lower bound: ||x - x_k||_A^2 >= sum over the computed steps j >= k of alpha_j r_j.d_j, for any directions with exact
line search; each term is the decrease of the energy in one step. Upper bound: Gauss-Radau quadrature with a node mu
below the spectrum of M A, updated as in Meurant, Tichy, "On computing quadrature-based bounds for the A-norm of the
error in conjugate gradients", Numer. Algorithms 62 (2013) 163-191, formula (3.6). It is not a bound if mu lies above
the smallest eigenvalue.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["energy_lower_bounds", "gauss_radau", "residual_bound", "smallest_ritz_value"]


#: Safety margin below mu, in units of eps ||M A||: round-off in conjugate gradients acts like a small perturbation of
#: the spectrum. Measured for mu within 1e-8 of the smallest eigenvalue: with a margin of 1e3, 3 of 1480 bounds were too
#: small; with 1e4 none.
SPECTRUM_MARGIN = 1e4


def energy_lower_bounds(decreases: Tensor) -> Tensor:
    """Return lower bounds on the A-norm error at the m + 1 iterates, from energy decreases alpha_j r_j.d_j (m, b)."""
    with_zero = torch.cat([decreases, decreases.new_zeros(1, decreases.shape[1])])
    return with_zero.flip(0).cumsum(0).flip(0).sqrt()


def gauss_radau(alphas: Tensor, betas: Tensor, rz: Tensor, mu: Tensor) -> Tensor:
    """Return upper bounds on the A-norm error at each iterate of (preconditioned) conjugate gradients.

    Parameters
    ----------
    alphas, betas : Tensor
        Step lengths and direction coefficients of the m steps, shape (m, b); `betas[k]` belongs to direction k + 1.
    rz : Tensor
        Inner products r.M r of the residual r and the preconditioned residual at the m + 1 iterates, shape (m + 1, b).
    mu : Tensor
        Lower bound on the spectrum of M A, shape (b,).

    Returns
    -------
    Tensor
        Upper bounds, shape (m + 1, b).
    """
    # In floating point, the coefficients are those of a slightly perturbed spectrum: Greenbaum, Linear Algebra Appl.
    # 113 (1989) 7-63. The largest 1 / alpha estimates the norm of M A.
    inverse = torch.where(alphas > 0, 1 / torch.where(alphas > 0, alphas, 1.0), 0.0)
    largest = torch.cat([inverse, torch.zeros_like(rz[:1])]).amax(0)
    below = mu - SPECTRUM_MARGIN * torch.finfo(mu.dtype).eps * largest
    mu = torch.where(below > 0, below, 0.0)
    gamma = 1 / mu
    bounds = [gamma * rz[0]]
    for alpha, beta, weight in zip(alphas, betas, rz[1:]):
        excess = gamma - alpha
        updated = torch.where(excess > 0, excess / (mu * excess + beta), torch.inf)
        updated = torch.where(torch.isfinite(gamma), updated, torch.inf)
        gamma = torch.where(alpha > 0, updated, gamma)  # a sample that has ended keeps its value
        bounds.append(gamma * weight)
    stacked = torch.stack(bounds)
    return torch.where(stacked.isnan(), torch.inf, stacked).clamp_min(0).sqrt()


def smallest_ritz_value(alphas: Tensor, betas: Tensor, steps: Tensor) -> Tensor:
    """Return the smallest eigenvalue of the Lanczos matrix of each sample, shape (b,).

    `alphas` and `betas` (m, b) are as in `gauss_radau`, and `steps` (b,) is the number of steps of each sample. The
    eigenvalue is larger than the smallest eigenvalue of M A, so error bounds computed from it are estimates only.
    """
    smallest, device = [], alphas.device
    together = torch.cat([alphas, betas, steps.to(alphas)[None]]).cpu()  # one transfer from the device
    alphas, betas, counts = together.split([len(alphas), len(betas), 1])
    for row, count in enumerate(counts[0].tolist()):
        m = int(count)
        if m == 0:
            smallest.append(alphas.new_tensor(1.0))
            continue
        alpha, beta = alphas[:m, row], betas[: m - 1, row]
        diagonal = 1 / alpha
        diagonal[1:] += beta / alpha[:-1]
        off = beta.clamp_min(0).sqrt() / alpha[:-1]
        matrix = torch.diag(diagonal) + torch.diag(off, 1) + torch.diag(off, -1)
        smallest.append(torch.linalg.eigvalsh(matrix)[0].clamp_min(torch.finfo(matrix.dtype).tiny))
    return torch.stack(smallest).to(device)


def residual_bound(residual_norm: Tensor, round_off: Tensor, eigenvalue_lower: Tensor) -> Tensor:
    """Return the upper bound (||b - A x|| + round-off) / sqrt(mu) on the A-norm error, shape (b,).

    `round_off` bounds the rounding error of the computed residual, and mu is a lower bound on the spectrum of A.
    """
    return (residual_norm + round_off) / eigenvalue_lower.sqrt()
