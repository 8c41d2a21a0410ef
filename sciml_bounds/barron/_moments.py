"""Bounds of the moments of Fourier transforms, which determine Barron norms, under sums, products and derivatives.

m_k = int |w|^k |F(w)| dw, k = 0 ... 4, for f(x) = int F(w) exp(i w . x) dw. The spectral Barron norm is m_0 + m_1; the
higher moments bound derivatives. For frequencies in the box |w_i| <= W_i, m_(k+1) <= |W| m_k.
"""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor

__all__ = ["ORDERS", "Moments", "of_derivative", "of_product", "of_resolvent", "of_sum", "of_terms", "within_band"]

Moments = tuple[float, ...]

#: Number of moments: order 2 is needed for two derivatives, orders 3 and 4 for products of derivatives.
ORDERS = 5


def _times_or_zero(a: float, b: float) -> float:
    """Multiply bounds, where zero times infinity is zero."""
    return 0.0 if a == 0 or b == 0 else a * b


def of_terms(frequencies: Tensor, magnitudes: Tensor) -> Moments:
    """Return the moments of a series with frequencies (m, d) and magnitudes (m,)."""
    size = frequencies.square().sum(-1).sqrt()
    return tuple(float(size**k @ magnitudes) for k in range(ORDERS))


def of_sum(f: Moments, g: Moments) -> Moments:
    """Bound the moments of f + g by the triangle inequality."""
    return tuple(a + b for a, b in zip(f, g))


def of_product(f: Moments, g: Moments) -> Moments:
    """Bound the moments of f g, a convolution of transforms, by the binomial theorem for (|v| + |w - v|)^k >= |w|^k."""
    return tuple(
        math.fsum(math.comb(k, j) * _times_or_zero(f[j], g[k - j]) for j in range(k + 1))
        if k
        else _times_or_zero(f[0], g[0])
        for k in range(ORDERS)
    )


def of_derivative(f: Moments, width: float) -> Moments:
    """Bound the moments of a derivative along axis i with |w_i| <= `width`, using also |w_i| <= |w|."""
    return tuple(min(_times_or_zero(width, low), high) for low, high in pairwise((*f, math.inf)))


def of_resolvent(f: Moments) -> Moments:
    """Bound the moments of (I - Laplace)^-1 f by |w| / (1 + |w|^2) <= 1/2 and |w|^2 / (1 + |w|^2) <= 1."""
    by_one = (math.inf, *(m / 2 for m in f))
    by_two = (math.inf, math.inf, *f)
    return tuple(min(bounds) for bounds in zip(f, by_one, by_two))


def within_band(f: Moments, band: tuple[float, ...]) -> Moments:
    """Tighten moments by the band limits W of the axes: m_(k+1) <= |W| m_k."""
    size, moments = math.hypot(*band), [f[0]]
    for moment in f[1:]:
        moments.append(min(moment, _times_or_zero(size, moments[-1])))
    return tuple(moments)
