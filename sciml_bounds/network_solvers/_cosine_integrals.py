"""Integrals over boxes of cosines whose half periods divide the side lengths, as products of integrals over lines.

With s_i = x_i - o_i, where o is the corner of the box, and w_i = pi k_i / l_i,

    int e^(i w . s) = V prod_i phi(k_i),    phi(0) = 1,  phi(k) = 2 i / (pi k) for odd k and 0 for even k.

Legend: n and m modes, d axes; modes k are integers (n, d); V is the volume.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml_bounds.barron._barron_function import BarronFunction
from sciml_bounds.barron._series import FourierSeries, ProductSeries
from sciml_bounds.grid import Box

__all__ = ["cosine_products", "cosine_squares", "frequencies", "series_load"]

#: Number of entries of a block that is processed at a time.
BLOCK_SIZE = 2**22


def frequencies(modes: Tensor, box: Box) -> Tensor:
    """Return the frequencies w of modes, shape (n, d)."""
    return modes * (math.pi / torch.tensor(box.lengths, dtype=torch.float64))


def cosine_products(modes: Tensor, others: Tensor, box: Box) -> tuple[Tensor, Tensor]:
    """Return int cos cos' and int grad cos . grad cos' over the box, shape (n, m) each."""
    differ, add = _mean_waves(modes, -others), _mean_waves(modes, others)
    slopes = frequencies(modes, box) @ frequencies(others, box).T
    half = box.volume / 2
    return half * (differ + add), half * slopes * (differ - add)


def cosine_squares(modes: Tensor, box: Box) -> tuple[Tensor, Tensor]:
    """Return int cos^2 and int |grad cos|^2, the diagonals of `cosine_products`, shape (n,) each."""
    constant = (modes == 0).all(-1).to(torch.float64)
    half = box.volume / 2
    return half * (1 + constant), half * frequencies(modes, box).square().sum(-1)


def _mean_waves(modes: Tensor, others: Tensor) -> Tensor:
    """Return the real part of prod_i phi(k_i + k'_i), shape (n, m); it is zero for an odd number of odd sums."""
    largest = sum(int(part.abs().max()) for part in (modes, others) if len(part))
    k = torch.arange(-largest, largest + 1, dtype=torch.float64)
    size = torch.where(k % 2 == 1, 2 / (math.pi * k), (k == 0).to(k))
    turns = k % 2
    means = torch.empty((len(modes), len(others)), dtype=torch.float64)
    rows = max(1, BLOCK_SIZE // max(len(others), 1))
    for first in range(0, len(modes), rows):
        part = slice(first, first + rows)
        product, odd = torch.ones_like(means[part]), torch.zeros_like(means[part])
        for axis in range(modes.shape[1]):
            sums = modes[part, axis, None] + others[:, axis] + largest
            product *= size[sums]
            odd += turns[sums]
        means[part] = product * torch.cos(odd * (math.pi / 2)).round()
    return means


def series_load(function: BarronFunction, modes: Tensor, box: Box) -> Tensor:
    """Return int f cos(w . s) over the box for a series f, shape (n,)."""
    series = function.value
    assert isinstance(series, FourierSeries | ProductSeries)
    w, v = frequencies(modes, box), series.frequencies
    tables = [_line(series, w[:, i], v[:, i], box.origin[i], box.lengths[i]) for i in range(box.dim)]
    coefficients = series.coefficients.to(torch.complex128)
    load = torch.empty(len(modes), dtype=torch.float64)
    rows = max(1, BLOCK_SIZE // max(len(v), 1))
    for first in range(0, len(modes), rows):
        part = slice(first, first + rows)
        product = torch.ones((), dtype=torch.complex128)
        for table, at_w, at_v in tables:
            product = product * table[at_w[part]][:, at_v]
        load[part] = (product @ coefficients).real
    return load


def _line(
    series: FourierSeries | ProductSeries, w: Tensor, v: Tensor, origin: float, length: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Integrate the factor of one axis times e^(i w s); return a table over distinct frequencies and its indices."""
    (w, at_w), (v, at_v) = torch.unique(w, return_inverse=True), torch.unique(v, return_inverse=True)

    def wave(sign: int) -> Tensor:
        q = w[:, None] + sign * v
        mean = torch.sinc(q * (length / (2 * math.pi))) * length
        return mean * torch.exp(1j * (q * (length / 2) + sign * v * origin))

    if isinstance(series, FourierSeries):
        return wave(1), at_w, at_v
    table = (wave(1) + wave(-1)) / 2 if series.symmetry == "cosine" else (wave(1) - wave(-1)) / 2j
    return table, at_w, at_v
