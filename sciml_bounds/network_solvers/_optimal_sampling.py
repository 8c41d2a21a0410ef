"""Points for least squares: drawn by the Christoffel function, one by one or by projection determinantal processes.

With an orthonormal basis phi_1 ... phi_m of the space and K = sum phi_j^2, points of density K / m with weights
m / (n K) make the Gram matrix G of the samples the identity in the mean. Independent points need n of the order
m log m for G to be close to it. Those of a determinantal process repel each other, and each alone has the same density;
repeated independently n / m times, the error obeys the same bounds with fewer points (Nouy and Michel, arXiv
2312.14057).

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

#: Directions whose singular value is below this part of the largest are no part of the space.
RANK = 1e-10


@dataclass(frozen=True, repr=False, eq=False)
class OptimalSample:
    """Points for least squares with their weights.

    Attributes
    ----------
    indices
        Places in the pool, (n,); a point may occur more than once.
    weights
        sum_i weights_i g(x_i) is the integral of g in the mean, (n,): rows of the least squares problem are multiplied
        by their square roots.
    rank
        m, the dimension of the space of the features.
    stability
        ||G - I|| in the spectral norm. Below 1 the fit is at most 1 / sqrt(1 - stability) times as far from a function
        as the norm of its values on the samples allows.
    method
        "dpp" or "iid".
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
    """Draw points of a pool for least squares with given features.

    Parameters
    ----------
    features
        Values of functions at the points of the pool, (M, k); they need not be independent.
    count
        n, at least the dimension m of their span.
    weights
        Of the pool, positive, (M,): the measure in which the error counts; equal ones of sum 1 by default.
    method
        "dpp": as many independent projection determinantal processes of m points as fit in, and points that are drawn
        from one more. "iid": independent points.
    seed
        Of the random numbers.

    Returns
    -------
    OptimalSample

    Raises
    ------
    InputError
        If shapes do not fit, numbers are not finite, weights not positive, or points are too few.

    Notes
    -----
    With K the sum of squares of an orthonormal basis of the span, each point has the density K / m and the weight
    m / (n K), so that the Gram matrix of the samples is the identity in the mean. Independent points need n of the
    order m log m; repeated determinantal processes have the same bounds of the error with fewer (Nouy and Michel,
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
    table = given.detach().double().cpu()  # points are drawn one by one
    if table.ndim != 2:
        raise InputError(f"features has shape {tuple(table.shape)}; give a row for each point of the pool.")
    require_finite(table, "features")
    measure = torch.full((len(table),), 1 / len(table)).double() if weights is None else to_tensor(weights, "weights")
    measure = measure.detach().double().cpu()
    if measure.shape != (len(table),) or not bool((measure > 0).all()):
        raise InputError(f"weights must be {len(table)} positive numbers, one for each point of the pool.")
    require_count(count, "count", 1)
    seed = require_seed(seed)
    require_choice(method, "method", get_args(SamplingMethod))
    basis, _ = orthonormal(table * measure.sqrt()[:, None])
    rank = basis.shape[1]
    if count < rank:
        raise InputError(f"count is {count}, and the features span {rank} dimensions; draw at least so many points.")
    generator = torch.Generator().manual_seed(seed)
    leverage = basis.square().sum(1)
    draw = _repeated if method == "dpp" else _independent
    indices = draw(basis, leverage, count, generator)
    shares = rank / (count * leverage[indices])  # m / (n K), and leverage = K times the weight in the pool
    sampled = basis[indices]
    gram = sampled.T @ (shares[:, None] * sampled)
    stability = float(torch.linalg.matrix_norm(gram - torch.eye(rank).double(), 2))
    found = indices.to(given.device), (shares * measure[indices]).to(given.device)
    return OptimalSample(*found, rank, stability, method)


def orthonormal(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return Q (M, m) with orthonormal columns and T (k, m) with Q = rows T, without directions of round-off."""
    triangle: Tensor
    columns, triangle = torch.linalg.qr(rows)
    left, sizes, right = torch.linalg.svd(triangle, full_matrices=False)
    kept = sizes > RANK * sizes[0]
    if not bool(kept.any()):
        raise InputError("the features are zero at all points of the pool.")
    return columns @ left[:, kept], right[kept].T / sizes[kept]


def _independent(basis: Tensor, leverage: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return torch.multinomial(leverage, count, replacement=True, generator=generator)


def _repeated(basis: Tensor, leverage: Tensor, count: int, generator: torch.Generator) -> Tensor:
    rank = basis.shape[1]
    draws = [_determinantal(basis, leverage, generator) for _ in range(-(-count // rank))]
    left = count - rank * (len(draws) - 1)
    kept = torch.randperm(rank, generator=generator)[:left]  # a part of one process: each point has the same density
    return torch.cat([*draws[:-1], draws[-1][kept]])


def _determinantal(basis: Tensor, leverage: Tensor, generator: torch.Generator) -> Tensor:
    """Draw m points with probability det(basis of them)^2: each by what is left orthogonal to those before."""
    left, chosen = leverage.clone(), []
    directions = torch.zeros((basis.shape[1], basis.shape[1]), dtype=torch.float64)
    for k in range(basis.shape[1]):
        place = int(torch.multinomial(left, 1, generator=generator))
        row = basis[place]
        for _ in range(2):  # Gram-Schmidt twice: once loses digits where points are close
            row = row - (directions[:k] @ row) @ directions[:k]
        directions[k] = row / row.norm()
        left = (left - (basis @ directions[k]).square()).clamp_min(0)
        left[place] = 0
        chosen.append(place)
    return torch.tensor(chosen)
