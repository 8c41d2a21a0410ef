"""CountSketch: one random sign per row, the cheapest sketch in which every equation takes part."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml_bounds.sketching._sketches.sketch import BlockSketch
from sciml_bounds.sketching._sketches.sparse_sign import draw_in_bands

__all__ = ["CountSketch"]


@dataclass(frozen=True)
class CountSketch(BlockSketch):
    """S with one entry +-1 per row, in a uniformly random column; E[S S^T] = I.

    Charikar, Chen and Farach-Colton (2004); Clarkson and Woodruff, "Low-rank approximation and regression in input
    sparsity time", J. ACM 63 (2017). A sketch costs O(M N) for any size. To preserve the lengths of all A x, it needs
    about N^2 columns in the worst case; `SparseSign` needs a few times N.

    Parameters
    ----------
    size : int
        Number of columns, q.
    """

    def draw(self, A: Tensor, b: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw sketches: S^T A, shape (count, q, N), and S^T b, shape (count, q)."""
        return draw_in_bands(A, b, (count, min(self.size, len(A))), 1, generator)
