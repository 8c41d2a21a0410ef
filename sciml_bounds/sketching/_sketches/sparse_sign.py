"""Sparse sign sketches: a few random signs per row, at little more cost than reading the matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from sciml_bounds.arrays import require_count
from sciml_bounds.errors import InputError
from sciml_bounds.operators._linear_operator import csr_tensor
from sciml_bounds.sketching._sketches.sketch import BlockSketch, random_signs

__all__ = ["SparseSign", "draw_in_bands"]


@dataclass(frozen=True)
class SparseSign(BlockSketch):
    """S with `nonzeros` entries +-1 / sqrt(nonzeros) per row, one in each of as many bands of columns; E[S S^T] = I.

    Kane and Nelson, "Sparser Johnson-Lindenstrauss transforms", J. ACM 61 (2014), the second construction. A sketch
    costs O(M N nonzeros). With `size` a few times N and 8 nonzeros, it nearly preserves the lengths of all A x
    (Martinsson and Tropp, Acta Numerica 29, 2020, section 9.2).

    Parameters
    ----------
    size : int
        Number of columns, q.
    nonzeros : int
        Number of nonzero entries per row, at most `size`.
    """

    nonzeros: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count(self.nonzeros, "nonzeros", 1)
        if self.nonzeros > self.size:
            raise InputError(
                f"nonzeros={self.nonzeros} per row exceed size={self.size}, the number of columns; use fewer."
            )

    def draw(self, A: Tensor, b: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw sketches: S^T A, shape (count, q, N), and S^T b, shape (count, q)."""
        q = min(self.size, len(A))
        return draw_in_bands(A, b, (count, q), min(self.nonzeros, q), generator)


def draw_in_bands(
    A: Tensor, b: Tensor, shape: tuple[int, int], bands: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw sparse sign sketches: S^T A, shape (count, q, N), and S^T b, shape (count, q).

    The q columns of S are divided into bands. Each row has one entry +-1 / sqrt(bands) in a random column of each band.
    `shape` is (count, q).
    """
    count, q = shape
    edges = torch.arange(bands + 1) * q // bands
    widths = edges.diff().view(1, -1, 1)
    # double precision, so that rounding does not leave a band
    within = (torch.rand((count, bands, len(A)), generator=generator, dtype=torch.float64) * widths).long()
    sums = torch.arange(count).view(-1, 1, 1) * q + edges[:-1].view(1, -1, 1) + within
    signs = random_signs((count, bands, len(A)), generator, A.new_zeros(0, device="cpu")) / bands**0.5
    columns = np.tile(np.arange(len(A)), count * bands)
    entries = scipy.sparse.coo_array((signs.view(-1).numpy(), (sums.view(-1).numpy(), columns)), (count * q, len(A)))
    S = csr_tensor(entries, dtype=A.dtype, device=A.device)
    return (S @ A).view(count, q, -1), (S @ b).view(count, q)
