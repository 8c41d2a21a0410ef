"""Gaussian sketches: one vector of independent normal numbers, in which every equation takes part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.integrate
import torch
from torch import Tensor

from sciml_bounds.sketching._sketches.sketch import ExpectedRate

__all__ = ["GaussianVector"]


@dataclass(frozen=True)
class GaussianVector:
    """S = s with s ~ N(0, I): the sketch "GV" of Hong, Na, Mahoney, Kolar (ICML 2023).

    A step costs O(M N), for the product s^T A.
    """

    def draw(self, A: Tensor, b: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw sketches: S^T A, shape (count, 1, N), and S^T b, shape (count, 1)."""
        s = torch.randn((count, len(A)), generator=generator, dtype=A.dtype).to(A.device)
        return (s @ A).unsqueeze(1), (s @ b).unsqueeze(1)

    def expected_rate(self, A: Tensor) -> ExpectedRate:
        """Compute gamma by one quadrature.

        In the basis of the singular vectors, the mean projection is diagonal with entries
        E[w_i g_i^2 / sum_j w_j g_j^2], where w_i are the squared singular values and g_i independent normal numbers.
        The entries grow with w_i, so gamma belongs to the smallest one, w. With 1 / y = integral of exp(-t y) over
        t > 0, gamma is the integral of w / (1 + 2 w t) prod_j (1 + 2 w_j t)^(-1/2). The quadrature uses
        t = exp(u) / (2 max w_j).
        """
        squares = torch.linalg.svdvals(A.to_dense()).square().cpu().numpy()
        if squares[-1] == 0:
            return ExpectedRate(0.0, "bound")
        squares = squares / squares[0]

        def integrand(u: float) -> float:
            grown = squares * np.exp(u)
            return float(0.5 * grown[-1] / (1 + grown[-1]) * np.exp(-0.5 * np.log1p(grown).sum()))

        # Outside these limits the integrand is below 1e-20 of its maximum: it grows like exp(u) on the left, and decays
        # at least like exp(-u / 2) on the right, where u exceeds the logarithms of all 1 / w_j.
        right = 100.0 - float(np.log(squares[-1]))
        value, _ = scipy.integrate.quad(integrand, -60.0, right, limit=500, points=[0.0])
        return ExpectedRate(value, "bound")
