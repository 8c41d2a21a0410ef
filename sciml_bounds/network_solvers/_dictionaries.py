"""Dictionaries of neurons, and the search for the neuron with the largest residual.

Let the residual be <r, g> = sum_q A_q g(x_q) + B_q . grad g(x_q), and t = w . x_q. Then

    <r, (t + b)_+^k> = sum over t_q > -b of A_q (t_q + b)^k + k B_q . w (t_q + b)^(k - 1)

is a sum of powers of b times moments of the points beyond the kink. One pass over the points, sorted into bins between
kinks, yields it for all b. The cost of a direction is proportional to the number of points, for any number of kinks.

Legend: q points, m directions, n kinks; d axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml_bounds.grid import Box

__all__ = ["Neuron", "Ridges", "half_circle", "random_directions"]


@dataclass(frozen=True)
class Neuron:
    """A neuron g = s(w . x + b), and its residual.

    Attributes
    ----------
    weight : Tensor, shape (d,)
        Direction w.
    bias : float
        Bias b.
    seen : float
        Residual <r, g>.
    """

    weight: Tensor
    bias: float
    seen: float


def half_circle(count: int) -> Tensor:
    """Return unit vectors at equal angles on a half circle, shape (count, 2)."""
    angles = torch.arange(count, dtype=torch.float64) * (math.pi / count)
    return torch.stack([angles.cos(), angles.sin()], -1)


def random_directions(count: int, dim: int, generator: torch.Generator) -> Tensor:
    """Draw random unit vectors, shape (count, d)."""
    drawn = torch.randn((count, dim), generator=generator, dtype=torch.float64)
    return drawn / drawn.square().sum(-1, keepdim=True).sqrt()


class Ridges:
    """Neurons (w . x + b)_+^k with |w| = 1, whose kinks divide the extent of the box along w into equal parts.

    Parameters
    ----------
    box : Box
        The box.
    points : Tensor, shape (q, d)
        Points of the residuals.
    power : int
        Power k.
    kinks : int
        Number n of parts; there are n + 1 kinks per direction, including the ends of the box.
    """

    def __init__(self, box: Box, points: Tensor, power: int, kinks: int) -> None:
        half = torch.tensor(box.lengths, dtype=torch.float64) / 2
        self._centre, self._half = torch.tensor(box.origin, dtype=torch.float64) + half, half
        self._points, self._power, self._kinks = points - self._centre, power, kinks

    def best(self, directions: Tensor, A: Tensor, B: Tensor) -> Neuron:
        """Return the neuron with the largest |<r, g>| among all kinks of directions (m, d) and their opposites."""
        best = Neuron(directions[0], 0.0, 0.0)
        for w in directions:
            reach = float(w.abs() @ self._half)
            seen = self._residuals(w, reach, A, B @ w)
            place = int(seen.abs().argmax())
            if abs(float(seen.flatten()[place])) > abs(best.seen):
                side, kink = divmod(place, self._kinks + 1)
                bias = reach - kink * (2 * reach / self._kinks) - float(w @ self._centre)
                sign = -1 if side else 1
                best = Neuron(sign * w, sign * bias, float(seen[side, kink]))
        return best

    def _residuals(self, w: Tensor, reach: float, A: Tensor, slope: Tensor) -> Tensor:
        """Return <r, g> for g = (t - kink)_+^k and (kink - t)_+^k with kinks in [-reach, reach], shape (2, n + 1)."""
        t = self._points @ w
        step = 2 * reach / self._kinks
        bins = ((t + reach) / step).floor().long().clamp(0, self._kinks - 1)
        kinks = torch.arange(self._kinks + 1, dtype=torch.float64) * step - reach
        values = self._sides(A, t, bins, kinks, self._power)
        slopes = self._sides(slope, t, bins, kinks, self._power - 1)
        seen = values + self._power * slopes
        return torch.stack([seen[0], (-1) ** self._power * seen[1]])

    def _sides(self, values: Tensor, t: Tensor, bins: Tensor, kinks: Tensor, power: int) -> Tensor:
        """Sum values times (t - kink)^power over the points on either side of each kink, shape (2, n + 1)."""
        total = torch.zeros((2, len(kinks)), dtype=torch.float64)
        moment = values
        for p in range(power + 1):
            below = torch.zeros_like(kinks)
            below[1:] = torch.bincount(bins, moment, self._kinks).cumsum(0)
            factor = math.comb(power, p) * (-kinks) ** (power - p)
            total[0] += factor * (below[-1] - below)
            total[1] += factor * below
            moment = moment * t
        return total
