"""Optimal sampling for least squares: independent points or determinantal processes with Christoffel density.

Let phi_1 ... phi_m be an orthonormal basis of the space and K = sum phi_j^2. For points of density K / m with weights
m / (n K), the expected Gram matrix G of the samples is the identity. Independent points need n of order m log m for G
to be close to the identity. The points of a projection determinantal process have the same density, but repel each
other. With n / m independent repetitions of such a process, the same error bounds are valid for fewer points (Nouy and
Michel, arXiv 2312.14057).

Legend: M points of the pool, m basis functions, n samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from sciml_bounds.arrays import require_choice, require_count, require_finite, require_seed, to_tensor
from sciml_bounds.errors import InputError
from sciml_bounds.reports import summary_table

__all__ = ["OptimalSample", "SamplingMethod", "optimal_sample", "orthonormal"]

SamplingMethod = Literal["dpp", "iid"]

#: Singular values below this fraction of the largest one do not count for the rank.
RANK_TOL = 1e-10


@dataclass(frozen=True, repr=False, eq=False)
class OptimalSample:
    """Sample points and weights for least squares.

    Attributes
    ----------
    indices : Tensor of int, shape (n,)
        Indices of the points in the pool; a point may occur more than once.
    weights : Tensor, shape (n,)
        Weights; the expectation of sum_i weights_i g(x_i) is the integral of g. Multiply the rows of the least squares
        problem by their square roots.
    rank : int
        Dimension m of the span of the features.
    stability : float
        ||G - I|| in the spectral norm. If it is below 1, the norm of a function of the span is at most
        1 / sqrt(1 - stability) times its weighted norm on the samples.
    method : {"dpp", "iid"}
        Sampling method.
    """

    indices: Tensor
    weights: Tensor
    rank: int
    stability: float
    method: SamplingMethod

    def __repr__(self) -> str:
        words = {"dpp": "repeated projection determinantal process", "iid": "independent points"}
        rows = {
            "points": str(len(self.indices)),
            "dimension": str(self.rank),
            "method": words[self.method],
            "stability": f"||G - I|| = {self.stability:.3g}",
        }
        return summary_table("OptimalSample", rows)


def optimal_sample(
    features: Any, count: int, *, weights: Any = None, method: SamplingMethod = "dpp", seed: int = 0
) -> OptimalSample:
    """Draw points from a pool for least squares with given features.

    Parameters
    ----------
    features : array, shape (M, k)
        Values of k functions at the M points of the pool; the functions may be linearly dependent.
    count : int
        Number n of samples, at least the dimension m of the span of the features.
    weights : array, shape (M,), optional
        Positive weights of the pool, which define the norm of the error; equal weights of sum 1 by default.
    method : {"dpp", "iid"}
        "dpp": independent repetitions of a projection determinantal process of m points, the last one truncated.
        "iid": independent points.
    seed : int
        Seed of the random numbers.

    Returns
    -------
    OptimalSample
        Indices and weights of the samples, and their stability.

    Raises
    ------
    InputError
        If shapes do not fit, numbers are not finite, weights are not positive, or there are too few samples.

    Notes
    -----
    Let K be the sum of squares of an orthonormal basis of the span. Each point has the density K / m and the weight
    m / (n K), so the expected Gram matrix of the samples is the identity. Independent points need n of order m log m;
    for repeated determinantal processes, the same error bounds are valid with fewer points (Nouy and Michel,
    arXiv 2312.14057).

    Examples
    --------
    >>> import numpy as np
    >>> x, w = np.polynomial.legendre.leggauss(1000)
    >>> sample = optimal_sample(np.polynomial.legendre.legvander(x, 9), 20, weights=w / 2)
    >>> sample.rank, len(sample.indices), sample.stability < 1
    (10, 20, True)
    """
    given = to_tensor(features, "features")
    table = given.detach().double().cpu()  # sequential sampling is faster on the CPU
    if table.ndim != 2:
        raise InputError(f"features has shape {tuple(table.shape)}; give a matrix with one row per point of the pool.")
    require_finite(table, "features")
    measure = torch.full((len(table),), 1 / len(table)).double() if weights is None else to_tensor(weights, "weights")
    measure = measure.detach().double().cpu()
    if measure.shape != (len(table),) or not bool((measure > 0).all()):
        raise InputError(f"weights must be {len(table)} positive numbers, one per point of the pool.")
    require_count(count, "count", 1)
    seed = require_seed(seed)
    require_choice(method, "method", get_args(SamplingMethod))
    basis, _ = orthonormal(table * measure.sqrt()[:, None])
    rank = basis.shape[1]
    if count < rank:
        raise InputError(f"count is {count}, but the features span {rank} dimensions; draw at least {rank} points.")
    generator = torch.Generator().manual_seed(seed)
    leverage = basis.square().sum(1)
    draw = _repeated if method == "dpp" else _independent
    indices = draw(basis, leverage, count, generator)
    shares = rank / (count * leverage[indices])  # m / (n K) divided by the pool weight: leverage = K times that weight
    sampled = basis[indices]
    gram = sampled.T @ (shares[:, None] * sampled)
    stability = float(torch.linalg.matrix_norm(gram - torch.eye(rank).double(), 2))
    found = indices.to(given.device), (shares * measure[indices]).to(given.device)
    return OptimalSample(*found, rank, stability, method)


def orthonormal(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return Q (M, m) with orthonormal columns and T (k, m) with Q = rows T, where m is the numerical rank."""
    triangle: Tensor
    columns, triangle = torch.linalg.qr(rows)
    left, sizes, right = torch.linalg.svd(triangle, full_matrices=False)
    kept = sizes > RANK_TOL * sizes[0]
    if not bool(kept.any()):
        raise InputError("the features are zero at all points of the pool; give features with nonzero values.")
    return columns @ left[:, kept], right[kept].T / sizes[kept]


def _independent(basis: Tensor, leverage: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return torch.multinomial(leverage, count, replacement=True, generator=generator)


def _repeated(basis: Tensor, leverage: Tensor, count: int, generator: torch.Generator) -> Tensor:
    rank = basis.shape[1]
    draws = [_determinantal(basis, leverage, generator) for _ in range(-(-count // rank))]
    left = count - rank * (len(draws) - 1)
    kept = torch.randperm(rank, generator=generator)[:left]  # a random subset keeps the density of each point
    return torch.cat([*draws[:-1], draws[-1][kept]])


def _determinantal(basis: Tensor, leverage: Tensor, generator: torch.Generator) -> Tensor:
    """Draw m points with probability proportional to det(basis at the points)^2, one by one.

    The next point is drawn with the leverage scores of the basis orthogonal to the previous points.
    """
    left, chosen = leverage.clone(), []
    directions = torch.zeros((basis.shape[1], basis.shape[1]), dtype=torch.float64)
    for k in range(basis.shape[1]):
        place = int(torch.multinomial(left, 1, generator=generator))
        row = basis[place]
        for _ in range(2):  # twice, since a single Gram-Schmidt pass loses digits if points are close
            row = row - (directions[:k] @ row) @ directions[:k]
        directions[k] = row / row.norm()
        left = (left - (basis @ directions[k]).square()).clamp_min(0)
        left[place] = 0
        chosen.append(place)
    return torch.tensor(chosen)
