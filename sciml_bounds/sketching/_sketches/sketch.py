"""Interface of the sketches, and their common parts.

Notation: M rows and N <= M columns of A, q columns of a sketch S (M, q), t sketches drawn at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from sciml_bounds._certificate import Kind
from sciml_bounds.arrays import require_count
from sciml_bounds.errors import InputError

__all__ = ["BlockSketch", "ExpectedRate", "Sketch", "mean_projection", "random_signs", "require_sketch"]

#: Number of random sketches for the estimate of a rate; its error is then a few per cent.
RATE_SAMPLES = 4000


@dataclass(frozen=True)
class ExpectedRate:
    """The rate gamma in E ||z_t - z*||^2 <= (1 - gamma)^t ||z_0 - z*||^2; `kind` is "bound" or "estimate"."""

    gamma: float
    kind: Kind


class Sketch(Protocol):
    """A distribution of matrices S with q columns, drawn independently of each other."""

    def draw(self, A: Tensor, b: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw `count` sketches, and return S^T A, shape (count, q, N), and S^T b, shape (count, q)."""
        ...

    def expected_rate(self, A: Tensor) -> ExpectedRate:
        """Return gamma = lambda_min(E[A^T S (S^T A A^T S)^+ S^T A]) for a matrix A (M, N)."""
        ...


def require_sketch(sketch: Any) -> Sketch:
    """Check that an object is a sketch, not a name or a class, and return it.

    Raises
    ------
    InputError
        If it is not a sketch.
    """
    if isinstance(sketch, type) or not hasattr(sketch, "draw"):
        raise InputError(f"the sketch is {sketch!r}; give one of sciml_bounds.sketching._sketches, such as Rows().")
    return cast("Sketch", sketch)


def mean_projection(rows: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of the orthogonal projections onto the row spaces of (t, q, N), shape (N, N)."""
    projections = torch.linalg.pinv(rows) @ rows
    mean: Tensor = (weights.view(-1, 1, 1) * projections).sum(0)
    return mean


@dataclass(frozen=True)
class BlockSketch:
    """A sketch with `size` columns whose rate has no known closed form.

    Parameters
    ----------
    size : int
        Number of columns, q.
    """

    size: int = 8

    def __post_init__(self) -> None:
        require_count(self.size, "size", 1)

    def draw(self, A: Tensor, b: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw sketches: S^T A, shape (count, q, N), and S^T b, shape (count, q)."""
        raise NotImplementedError

    def expected_rate(self, A: Tensor) -> ExpectedRate:
        """Estimate gamma by the smallest eigenvalue of a mean of random projections, which is biased low."""
        generator = torch.Generator().manual_seed(0)
        rows, _ = self.draw(A.to_dense(), A.new_zeros(len(A)), RATE_SAMPLES, generator)
        mean = mean_projection(rows, A.new_full((RATE_SAMPLES,), 1 / RATE_SAMPLES))
        return ExpectedRate(float(torch.linalg.eigvalsh(mean)[0].clamp_min(0.0)), "estimate")


def random_signs(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    """Draw independent random signs, -1 or 1 with equal probability."""
    return torch.randint(2, shape, generator=generator).mul(2).sub(1).to(like)
