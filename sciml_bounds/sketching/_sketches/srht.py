"""Subsampled randomised Hadamard transform: random rows after random signs and a Walsh-Hadamard transform."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sciml_bounds.sketching._sketches.sketch import BlockSketch, random_signs

__all__ = ["SRHT", "mixed_rows", "walsh_hadamard"]

#: Number of entries transformed together, which determines the number of sketches.
CHUNK_ENTRIES = 2**22


@dataclass(frozen=True)
class SRHT(BlockSketch):
    """S^T = sqrt(M' / q) R H D with random signs D, the Hadamard transform H, and q random rows R; E[S S^T] = I.

    H acts on the rows padded to M' = 2^k. Ailon and Chazelle (2006); Tropp, "Improved analysis of the subsampled
    randomized Hadamard transform", Adv. Adapt. Data Anal. 3 (2011). A sketch costs O(M' N log M') for any size.

    Parameters
    ----------
    size : int
        Number of columns, q.
    """

    def draw(self, A: Tensor, b: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw sketches: S^T A, shape (count, q, N), and S^T b, shape (count, q)."""
        q = min(self.size, len(A))
        system = torch.cat([A, b.unsqueeze(1)], 1)
        together = max(1, CHUNK_ENTRIES // (2 * system.numel()))
        drawn = [_draw_sketches(system, min(together, count - k), q, generator) for k in range(0, count, together)]
        sketched = torch.cat(drawn)
        return sketched[..., :-1], sketched[..., -1]


def _draw_sketches(system: Tensor, count: int, q: int, generator: torch.Generator) -> Tensor:
    """Draw sketches of a matrix (M, N), shape (count, q, N)."""
    mixed = mixed_rows(system, count, generator)
    chosen = torch.rand(mixed.shape[:2], generator=generator).topk(q, dim=1).indices.to(system.device)
    sketched: Tensor = mixed.take_along_dim(chosen.unsqueeze(2), 1) * math.sqrt(mixed.shape[1] / q)
    return sketched


def mixed_rows(system: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Apply `count` random rotations to the rows of a matrix (M, N) padded to M' = 2^k rows; shape (count, M', N)."""
    rows = len(system)
    signs = random_signs((count, rows, 1), generator, system)
    padding = 2 ** math.ceil(math.log2(rows)) - rows
    return walsh_hadamard(functional.pad(signs * system, (0, 0, 0, padding)))


def walsh_hadamard(x: Tensor) -> Tensor:
    """Multiply x (..., M, N), M a power of two, by the orthogonal Hadamard matrix of size M, in O(M N log M)."""
    rows = x.shape[-2]
    half = 1
    while half < rows:
        first, second = x.unflatten(-2, (rows // (2 * half), 2, half)).unbind(-3)
        x = torch.stack([first + second, first - second], -3).flatten(-4, -2)
        half *= 2
    return x / math.sqrt(rows)
