"""Row sketches: one random equation per step, the randomised Kaczmarz method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sciml_bounds.arrays import require_choice
from sciml_bounds.sketching._sketches.sketch import ExpectedRate, mean_projection

__all__ = ["Rows"]


@dataclass(frozen=True)
class Rows:
    """S = e_i, with i uniform ("RK" of Hong, Na, Mahoney, Kolar, ICML 2023) or with probability ||A_i||^2 / ||A||_F^2.

    A step costs O(N). The weighted form has gamma = sigma_min^2 / ||A||_F^2 (Strohmer and Vershynin, J. Fourier Anal.
    Appl. 15, 2009, theorem 2).

    Parameters
    ----------
    weights : {"uniform", "norms"}
        Distribution of i: "uniform", or "norms" for probabilities ||A_i||^2 / ||A||_F^2.
    """

    weights: Literal["uniform", "norms"] = "uniform"

    def __post_init__(self) -> None:
        require_choice(self.weights, "weights", ("uniform", "norms"))

    def _probabilities(self, A: Tensor) -> Tensor:
        if self.weights == "uniform":
            return A.new_full((len(A),), 1 / len(A))
        squares = A.square().sum(1)
        return squares / squares.sum()

    def draw(self, A: Tensor, b: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw rows of A, shape (count, 1, N), and the entries of b, shape (count, 1)."""
        if self.weights == "uniform":
            chosen = torch.randint(len(A), (count,), generator=generator)
        else:
            chosen = torch.multinomial(self._probabilities(A).cpu(), count, replacement=True, generator=generator)
        chosen = chosen.to(A.device)
        return A[chosen].unsqueeze(1), b[chosen].unsqueeze(1)

    def expected_rate(self, A: Tensor) -> ExpectedRate:
        """Compute gamma from the mean of the M projections."""
        mean = mean_projection(A.to_dense().unsqueeze(1), self._probabilities(A.to_dense()))
        return ExpectedRate(float(torch.linalg.eigvalsh(mean)[0].clamp_min(0.0)), "bound")
