"""Products of parabolas that vanish on sides of a box; factors of networks with prescribed values there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sciml_bounds.barron._interval_moments import half_moments, parabola_moments
from sciml_bounds.errors import InputError

__all__ = ["BoxDistance", "Sides", "checked_sides", "product_of_others"]

#: Sides of a box: (axis, end) with end 0 where the coordinate is smallest, and 1 where it is largest.
Sides = tuple[tuple[int, int], ...]


class BoxDistance:
    """Product D = prod_i f_i(x_i) that vanishes on given sides of a box and lies between 0 and 1 inside.

    With s = (x_i - o_i) / l_i: f_i = 4 s (1 - s) if both sides of axis i are given, f_i = s or 1 - s if one side is
    given, and f_i = 1 otherwise.

    Parameters
    ----------
    origin, lengths : tuple of float
        Lower corner o and side lengths l of the box.
    sides : tuple of (axis, end)
        Sides on which the product is zero.
    """

    def __init__(self, origin: tuple[float, ...], lengths: tuple[float, ...], sides: Sides) -> None:
        self.origin, self.lengths, self.sides = origin, lengths, sides
        rows = [self._polynomial(axis) for axis in range(len(lengths))]
        self.polynomials = torch.tensor(rows, dtype=torch.float64)

    def _polynomial(self, axis: int) -> tuple[float, float, float]:
        """Return the coefficients of f_i in powers of s."""
        low, high = (axis, 0) in self.sides, (axis, 1) in self.sides
        if low and high:
            return 0.0, 4.0, -4.0
        return (0.0, 1.0, 0.0) if low else (1.0, -1.0, 0.0) if high else (1.0, 0.0, 0.0)

    def factors(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Evaluate f_i, f_i' and f_i'' at points (..., d), shape (..., d) each."""
        a, b, c = self.polynomials.to(x).unbind(-1)
        length = x.new_tensor(self.lengths)
        s = (x - x.new_tensor(self.origin)) / length
        return a + s * (b + s * c), (b + 2 * s * c) / length, (2 * c / length**2).expand_as(x)

    def jet(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Evaluate the product (...), its gradient (..., d) and its Laplacian (...)."""
        f, slope, second = self.factors(x)
        others = product_of_others(f)
        return f.prod(-1), slope * others, (second * others).sum(-1)

    @property
    def moments(self) -> tuple[float, float]:
        """Bounds of the spectral moments m_0 and m_1 on the box."""
        m0, m1 = 1.0, 0.0
        for axis, length in enumerate(self.lengths):
            ends = [end for side_axis, end in self.sides if side_axis == axis]
            if ends:
                f0, f1 = parabola_moments(length) if len(ends) == 2 else half_moments(length)
                m0, m1 = m0 * f0, m0 * f1 + m1 * f0
        return m0, m1


def product_of_others(f: Tensor) -> Tensor:
    """Return the product of all other entries for each entry of the last axis, without division."""
    one = torch.ones_like(f[..., :1])
    before = torch.cat([one, f[..., :-1]], -1).cumprod(-1)
    after = torch.cat([f[..., 1:], one], -1).flip(-1).cumprod(-1).flip(-1)
    return before * after


def checked_sides(sides: Any, dimension: int) -> Sides:
    """Return sides as sorted pairs (axis, end); "all" stands for all sides.

    Raises
    ------
    InputError
        If an entry is not a pair of an axis and an end.
    """
    if isinstance(sides, str):
        if sides != "all":
            raise InputError(
                f"dirichlet_sides is {sides!r}; give 'all', or pairs such as (0, 1) for the upper side of the first "
                "axis."
            )
        return tuple((axis, end) for axis in range(dimension) for end in (0, 1))
    every = tuple((axis, end) for axis in range(dimension) for end in (0, 1))
    pairs = tuple(sides) if isinstance(sides, list | tuple | set | frozenset) else (sides,)
    pairs = tuple(tuple(pair) if isinstance(pair, list) else pair for pair in pairs)  # model files contain lists
    if len(pairs) == 2 and all(isinstance(entry, int) for entry in pairs):
        raise InputError(f"dirichlet_sides is {sides!r}, a single side; give a list, [{pairs!r}].")
    for pair in pairs:
        if not isinstance(pair, tuple) or pair not in every:
            raise InputError(
                f"dirichlet_sides contains {pair!r}; a side is a pair of an axis below {dimension} and an end, 0 or 1."
            )
    return tuple(side for side in every if side in pairs)
