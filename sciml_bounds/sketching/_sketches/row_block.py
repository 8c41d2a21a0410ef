"""Row-block sketches: several equations per step, the block Kaczmarz method."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml_bounds.arrays import require_count
from sciml_bounds.sketching._sketches.sketch import ExpectedRate, mean_projection

__all__ = ["RowBlock"]


@dataclass(frozen=True)
class RowBlock:
    """S = a block of unit vectors, drawn uniformly from a fixed partition of the rows.

    Row i belongs to block i mod K, so that blocks of a KKT system contain rows of both kinds (Needell and Tropp, Linear
    Algebra Appl. 441, 2014). A step costs O(N size^2).

    Parameters
    ----------
    size : int
        Maximum number q of rows per block.
    """

    size: int = 8

    def __post_init__(self) -> None:
        require_count(self.size, "size", 1)

    def _blocks(self, n: int) -> Tensor:
        """Return the row numbers of the blocks, shape (K, q); blocks that are one row short repeat a row."""
        count = math.ceil(n / self.size)
        q = math.ceil(n / count)
        numbers = torch.arange(q).mul(count) + torch.arange(count).unsqueeze(1)
        return torch.where(numbers < n, numbers, numbers - count)

    def draw(self, A: Tensor, b: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw blocks of rows of A, shape (count, q, N), and of b, shape (count, q)."""
        blocks = self._blocks(len(A))
        chosen = blocks[torch.randint(len(blocks), (count,), generator=generator)].to(A.device)
        return A[chosen], b[chosen]

    def expected_rate(self, A: Tensor) -> ExpectedRate:
        """Compute gamma from the mean of the K projections."""
        blocks = self._blocks(len(A)).to(A.device)
        mean = mean_projection(A.to_dense()[blocks], A.new_full((len(blocks),), 1 / len(blocks)))
        return ExpectedRate(float(torch.linalg.eigvalsh(mean)[0].clamp_min(0.0)), "bound")
