"""Moments of Fourier transforms, and how they grow: the numbers behind a Barron norm.

m_k = int |w|^k |F(w)| dw, k = 0 ... 4, for f(x) = int F(w) exp(i w . x) dw. The spectral Barron norm is m_0 + m_1; the
others say what derivatives cost. Two of them differ by a factor |W| at most for frequencies in the box |w_i| <= W_i.
"""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor

__all__ = ["ORDERS", "Moments", "of_derivative", "of_product", "of_resolvent", "of_sum", "of_terms", "within_band"]

Moments = tuple[float, ...]

#: How many moments are kept: those of order 2 are what two derivatives need, the rest is for products of derivatives.
ORDERS = 5


def _times(a: float, b: float) -> float:
    """Multiply bounds: nothing times what has no bound is nothing."""
    return 0.0 if a == 0 or b == 0 else a * b


def of_terms(frequencies: Tensor, magnitudes: Tensor) -> Moments:
    """Return the moments of a series: of frequencies (m, d) and magnitudes (m,)."""
    size = frequencies.square().sum(-1).sqrt()
    return tuple(float(size**k @ magnitudes) for k in range(ORDERS))


def of_sum(f: Moments, g: Moments) -> Moments:
    """Return those of f + g: the triangle inequality."""
    return tuple(a + b for a, b in zip(f, g))


def of_product(f: Moments, g: Moments) -> Moments:
    """Return those of f g, whose transform is a convolution: |w|^k <= (|v| + |w - v|)^k, by the binomial theorem."""
    return tuple(
        math.fsum(math.comb(k, j) * _times(f[j], g[k - j]) for j in range(k + 1)) if k else _times(f[0], g[0])
        for k in range(ORDERS)
    )


def of_derivative(f: Moments, width: float) -> Moments:
    """Return those of a derivative along an axis on which frequencies are at most `width`: |w_i| <= |w|."""
    return tuple(min(_times(width, low), high) for low, high in pairwise((*f, math.inf)))


def of_resolvent(f: Moments) -> Moments:
    """Return those of (I - Laplace)^-1 f: |w| / (1 + |w|^2) <= 1/2 and |w|^2 / (1 + |w|^2) <= 1 gain two orders."""
    by_one = (math.inf, *(m / 2 for m in f))
    by_two = (math.inf, math.inf, *f)
    return tuple(min(bounds) for bounds in zip(f, by_one, by_two))


def within_band(f: Moments, band: tuple[float, ...]) -> Moments:
    """Improve moments by what the band limits of the axes say: m_(k+1) <= |W| m_k."""
    size, kept = math.hypot(*band), [f[0]]
    for moment in f[1:]:
        kept.append(min(moment, _times(size, kept[-1])))
    return tuple(kept)
