"""Fields that are known at the points of a periodic lattice only, in up to three dimensions."""

from __future__ import annotations

import math
from typing import Any

import torch

from sciml_bounds.arrays import require_count, require_finite, require_number, to_tensor
from sciml_bounds.barron._moments import ORDERS, Moments
from sciml_bounds.barron._series import FourierSeries, Sides, checked_lengths
from sciml_bounds.errors import InputError

__all__ = ["interpolant", "tails"]


def interpolant(values: Any, periods: Sides) -> FourierSeries:
    """Return the trigonometric interpolant of values at x_i = P_i j_i / n_i, shape (n_1, ..., n_d), d <= 3."""
    field = to_tensor(values, "values").detach().cpu().double()
    if field.ndim not in (1, 2, 3) or field.numel() == 0:
        raise InputError(f"values has shape {tuple(field.shape)}; give samples on a lattice of 1, 2 or 3 axes.")
    require_finite(field, "values")
    axes = [torch.fft.fftfreq(n, 1 / n, dtype=torch.float64).round().to(torch.int64) for n in field.shape]
    modes = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, field.ndim)
    coefficients = torch.fft.fftn(field, norm="forward").reshape(-1)
    return FourierSeries.real_part(modes, coefficients, periods)


def tails(shape: tuple[int, ...], periods: Sides, decay: tuple[int, float]) -> Moments:
    """Bound what samples leave out of the moments of a function, given (s, T) with m_s <= T.

    A frequency that the lattice does not resolve has |w| >= W = min pi n_i / P_i, so that their part of m_k is at most
    T / W^(s - k). It counts twice, since samples show it at a smaller frequency.
    """
    if not isinstance(decay, tuple | list) or len(decay) != 2:
        raise InputError(
            f"decay is {decay!r}; give an order s and a number T with int |w|^s |F| <= T, such as (2, 50.0)."
        )
    order, moment = decay
    require_count(order, "the order in decay", 1)
    moment = require_number(moment, "the moment in decay")
    if moment < 0:
        raise InputError(f"the moment in decay is {moment}; it is the integral of |w|^s |F|, and never negative.")
    sides = checked_lengths(periods, len(shape), "periods")
    resolved = min(math.pi * n / side for n, side in zip(shape, sides))
    return tuple(2 * moment / resolved ** (order - k) if k <= order else math.inf for k in range(ORDERS))
