"""Gaussian block sketches: several vectors of independent normal numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml_bounds.sketching._sketches.sketch import BlockSketch

__all__ = ["GaussianBlock"]


@dataclass(frozen=True)
class GaussianBlock(BlockSketch):
    """S with `size` columns of independent normal numbers.

    A step costs O(M N size). Rebrova and Needell (Numer. Algorithms 86, 2021) found it more expensive than blocks of
    rows for most systems.

    Parameters
    ----------
    size : int
        Number of columns, q.
    """

    def draw(self, A: Tensor, b: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw sketches: S^T A, shape (count, q, N), and S^T b, shape (count, q)."""
        q = min(self.size, len(A))
        s = torch.randn((count * q, len(A)), generator=generator, dtype=A.dtype).to(A.device)
        return (s @ A).view(count, q, -1), (s @ b).view(count, q)
