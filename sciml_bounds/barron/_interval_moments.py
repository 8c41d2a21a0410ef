"""Spectral moments of functions of one variable on an interval.

A function on an interval is extended to a function on the line with finite moments m_k = sum |w|^k |F(w)|. Each
routine returns bounds of (m_0, m_1) for one extension.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["Pair", "half_moments", "linear_moments", "parabola_moments", "tanh_moments"]

Pair = tuple[Tensor, Tensor]

#: t on [-T, T] is extended to a wave of period 8 T whose slope is trapezoidal: 1 on [-T, T], falling to -1 on [T, 3 T].
#: The slope has coefficients 16 |sin(m pi / 4)| / (pi m)^2 for odd m, whose sum is sqrt 2. The coefficients of the wave
#: are these times 4 T / (pi m), and the sum of m^-3 over odd m is 7 zeta(3) / 8.
_ODD_CUBES = 7 * 1.2020569031595943 / 8
_LINEAR = (64 / (math.sqrt(2) * math.pi**3) * _ODD_CUBES, math.sqrt(2))

#: 4 x (l - x) / l^2 on [0, l], extended to an odd function: 32 / pi^3 sum over odd m of sin(m pi x / l) / m^3.
_PARABOLA = 32 / math.pi**3 * _ODD_CUBES

#: Largest value of the frequency d in `tanh_moments`.
_MAX_LOW_FREQUENCY = 0.5


def linear_moments(reach: Tensor) -> Pair:
    """Bound the moments of t on [-reach, reach]: 1.535 reach and sqrt 2."""
    return _LINEAR[0] * reach, torch.full_like(reach, _LINEAR[1])


def parabola_moments(length: float) -> tuple[float, float]:
    """Bound the moments of 4 x (l - x) / l^2 on [0, l]: 1.0855 and 4 / l."""
    return _PARABOLA, 4 / length


def half_moments(length: float) -> tuple[float, float]:
    """Bound the moments of x / l on [0, l], split into 1/2 + (x - l / 2) / l."""
    return 0.5 + _LINEAR[0] / 2, _LINEAR[1] / length


def tanh_moments(reach: Tensor) -> Pair:
    """Bound the moments of tanh on [-reach, reach]; they grow like the logarithm of the reach.

    tanh t = int_0^inf sin(z t) / sinh(pi z / 2) dz, where the part z < d does not have a finite norm. There, t is
    replaced by its extension in `linear_moments`, with moments (p, q): then m_0 of sin(z t) is at most sinh(z p), and
    m_1 is at most z q cosh(z p). Since 1 / sinh(pi z / 2) <= 2 / (pi z), this part contributes at most
    2 / pi sinh(d p) to m_0 and 2 / pi (q / p) sinh(d p) to m_1. The part z > d has m_0 = 2 / pi log coth(pi d / 4) and
    m_1 <= 1.
    """
    p, q = linear_moments(reach)
    low = torch.clamp(math.asinh(1.0) / p.clamp_min(1e-300), max=_MAX_LOW_FREQUENCY)
    sinh = torch.sinh(low * p)
    tail = -2 / math.pi * torch.log(torch.tanh(math.pi / 4 * low))
    ratio = torch.where(p > 0, sinh / p.clamp_min(1e-300), low)
    return 2 / math.pi * sinh + tail, 2 / math.pi * q * ratio + 1
