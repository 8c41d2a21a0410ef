"""Trigonometric interpolation of samples on a periodic lattice, in up to three dimensions."""

from __future__ import annotations

import math
from typing import Any

import torch

from sciml_bounds.arrays import require_count, require_finite, require_number, to_tensor
from sciml_bounds.barron._moments import ORDERS, Moments
from sciml_bounds.barron._series import FourierSeries, Sides, checked_lengths
from sciml_bounds.errors import InputError

__all__ = ["interpolant", "unresolved_moments"]


def interpolant(values: Any, periods: Sides) -> FourierSeries:
    """Return the trigonometric interpolant of values (n_1, ..., n_d) at x_i = P_i j_i / n_i, d <= 3."""
    field = to_tensor(values, "values").detach().cpu().double()
    if field.ndim not in (1, 2, 3) or field.numel() == 0:
        raise InputError(f"values has shape {tuple(field.shape)}; give samples on a lattice of 1, 2 or 3 axes.")
    require_finite(field, "values")
    axes = [torch.fft.fftfreq(n, 1 / n, dtype=torch.float64).round().to(torch.int64) for n in field.shape]
    modes = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, field.ndim)
    coefficients = torch.fft.fftn(field, norm="forward").reshape(-1)
    return FourierSeries.real_part(modes, coefficients, periods)


def unresolved_moments(shape: tuple[int, ...], periods: Sides, decay: tuple[int, float]) -> Moments:
    """Bound the moments of the unresolved part of a sampled function, given (s, T) with m_s <= T.

    Frequencies that the lattice does not resolve have |w| >= W = min pi n_i / P_i, so they contribute at most
    T / W^(s - k) to m_k. The contribution counts twice, because sampling aliases it to a smaller frequency.
    """
    if not isinstance(decay, tuple | list) or len(decay) != 2:
        raise InputError(
            f"decay is {decay!r}; give an order s and a number T with int |w|^s |F| <= T, such as (2, 50.0)."
        )
    order, moment = decay
    require_count(order, "the order in decay", 1)
    moment = require_number(moment, "the moment in decay")
    if moment < 0:
        raise InputError(
            f"the moment in decay is {moment}, but the integral of |w|^s |F| is never negative; give a bound of it."
        )
    sides = checked_lengths(periods, len(shape), "periods")
    resolved = min(math.pi * n / side for n, side in zip(shape, sides))
    return tuple(2 * moment / resolved ** (order - k) if k <= order else math.inf for k in range(ORDERS))
