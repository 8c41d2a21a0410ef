"""Bounds and estimates of the A-norm error of conjugate gradients.

Lower bound: ||x - x_k||_A^2 >= sum over the following steps of alpha_j r_j.d_j, for any directions with exact line
search (each step lowers the energy by exactly that). Upper bound: Gauss-Radau quadrature with a node mu below the
spectrum of M^-1 A, updated as in Meurant, Tichy, "On computing quadrature-based bounds for the A-norm of the error in
conjugate gradients", Numer. Algorithms 62 (2013) 163-191, formula (3.6). With a mu that is not below the spectrum it is
no bound.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["energy_lower_bounds", "gauss_radau", "residual_bound", "smallest_ritz_value"]


#: Round-offs of the norm by which the points of a spectrum spread in conjugate gradients. Measured for numbers within
#: 1e-8 of the smallest eigenvalue: with 1e3 of them 3 of 1480 bounds were too small; with 1e4 none.
SPREAD = 1e4


def energy_lower_bounds(decreases: Tensor) -> Tensor:
    """Turn the energy decreases alpha_j r_j.d_j, shape (m, b), into lower bounds at the m + 1 iterates."""
    with_zero = torch.cat([decreases, decreases.new_zeros(1, decreases.shape[1])])
    return with_zero.flip(0).cumsum(0).flip(0).sqrt()


def gauss_radau(alphas: Tensor, betas: Tensor, rz: Tensor, mu: Tensor) -> Tensor:
    """Upper bounds of the A-norm error at each iterate of (preconditioned) conjugate gradients.

    Parameters
    ----------
    alphas, betas
        Step lengths and direction coefficients of the m steps, shape (m, b); `betas[k]` forms direction k + 1.
    rz
        r.M r at the m + 1 iterates.
    mu
        A number below the spectrum of M^-1 A, shape (b,).

    Returns
    -------
    Tensor
        Shape (m + 1, b).
    """
    # In floating point the coefficients are those of a spectrum whose points have spread a little: Greenbaum, Linear
    # Algebra Appl. 113 (1989) 7-63. The largest 1 / alpha stands for the norm.
    inverse = torch.where(alphas > 0, 1 / torch.where(alphas > 0, alphas, 1.0), 0.0)
    largest = torch.cat([inverse, torch.zeros_like(rz[:1])]).amax(0)
    below = mu - SPREAD * torch.finfo(mu.dtype).eps * largest
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
    """Smallest eigenvalue of the Lanczos matrix that the coefficients define, one a sample: shape (b,).

    `alphas` and `betas` (m, b) are as in `gauss_radau`, and `steps` (b,) says how many each sample took. It
    lies above the smallest eigenvalue of M^-1 A, so what is built on it is an estimate.
    """
    smallest, device = [], alphas.device
    known = torch.cat([alphas, betas, steps.to(alphas)[None]]).cpu()  # at once, since the host waits for it
    alphas, betas, counts = known.split([len(alphas), len(betas), 1])
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
    """Upper bound (||b - A x|| + round-off of computing it) / sqrt(mu), shape (b,), with mu below the spectrum of A."""
    return (residual_norm + round_off) / eigenvalue_lower.sqrt()
