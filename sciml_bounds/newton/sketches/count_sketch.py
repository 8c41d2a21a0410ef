"""One random sign a row: the cheapest sketch of which every equation is a part."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml_bounds.arrays import require_count
from sciml_bounds.newton.sketches.sketch import ExpectedRate, estimated_rate
from sciml_bounds.newton.sketches.sparse_sign import draw_in_bands

__all__ = ["CountSketch"]


@dataclass(frozen=True)
class CountSketch:
    """S with one entry +-1 a row, in a column that is drawn uniformly; E[S S^T] = I.

    Charikar, Chen and Farach-Colton (2004); Clarkson and Woodruff, "Low-rank approximation and regression in input
    sparsity time", J. ACM 63 (2017). A sketch costs O(M N), whatever its size; to keep the lengths of all A x it needs
    about N^2 columns in the worst case, where `SparseSign` needs a few times N.

    Parameters
    ----------
    size
        Number of columns, q.
    """

    size: int = 8

    def __post_init__(self) -> None:
        require_count(self.size, "size", 1)

    def draw(self, A: Tensor, b: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw sketches: S^T A, shape (count, q, N), and S^T b, shape (count, q)."""
        return draw_in_bands(A, b, (count, min(self.size, len(A))), 1, generator)

    def expected_rate(self, A: Tensor) -> ExpectedRate:
        """Estimate gamma by the smallest eigenvalue of a mean of projections, which is too small on average."""
        return estimated_rate(self, A)
