"""Dictionaries of neurons, and the search for the neuron that a residual sees best.

With a residual sum_q A_q g(x_q) + B_q . grad g(x_q) and t = w . x_q,

    <r, (t + b)_+^k> = sum over t_q > -b of A_q (t_q + b)^k + k B_q . w (t_q + b)^(k - 1),

a sum of powers of b times moments of the points beyond the kink. One pass over the points sorted into bins between
kinks gives it for all b: the price of a direction is that of its points, however many b there are.

Legend: q points, m directions, n kinks; d axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml_bounds.grid import Box

__all__ = ["Neuron", "Ridges", "circle", "random_directions"]


@dataclass(frozen=True)
class Neuron:
    """s(w . x + b), and what the residual makes of it.

    Attributes
    ----------
    weight, bias
        w (d,) and b.
    seen
        <r, g>.
    """

    weight: Tensor
    bias: float
    seen: float


def circle(count: int) -> Tensor:
    """Return unit vectors at equal angles, (count, 2)."""
    angles = torch.arange(count, dtype=torch.float64) * (2 * math.pi / count)
    return torch.stack([angles.cos(), angles.sin()], -1)


def random_directions(count: int, dim: int, generator: torch.Generator) -> Tensor:
    """Draw unit vectors, (count, d)."""
    drawn = torch.randn((count, dim), generator=generator, dtype=torch.float64)
    return drawn / drawn.square().sum(-1, keepdim=True).sqrt()


class Ridges:
    """The neurons (w . x + b)_+^k with |w| = 1, whose kinks divide the width of the box along w into equal parts.

    Parameters
    ----------
    box
        The box.
    points
        Where residuals are given, (q, d).
    power
        k.
    kinks
        How many for each direction, the near end of the box among them.
    """

    def __init__(self, box: Box, points: Tensor, power: int, kinks: int) -> None:
        half = torch.tensor(box.lengths, dtype=torch.float64) / 2
        self._centre, self._half = torch.tensor(box.origin, dtype=torch.float64) + half, half
        self._points, self._power, self._kinks = points - self._centre, power, kinks

    def best(self, directions: Tensor, A: Tensor, B: Tensor) -> Neuron:
        """Find the neuron with the largest |<r, g>| among all kinks of some directions (m, d)."""
        best = Neuron(directions[0], 0.0, 0.0)
        for w in directions:
            reach = float(w.abs() @ self._half)
            seen = self._seen(w, reach, A, B @ w)
            place = int(seen.abs().argmax())
            if abs(float(seen[place])) > abs(best.seen):
                bias = reach - place * (2 * reach / self._kinks)
                best = Neuron(w, bias - float(w @ self._centre), float(seen[place]))
        return best

    def _seen(self, w: Tensor, reach: float, A: Tensor, slope: Tensor) -> Tensor:
        """Return <r, g> for the kinks at t = -reach + j 2 reach / n, j = 0 ... n - 1."""
        t = self._points @ w
        step = 2 * reach / self._kinks
        bins = ((t + reach) / step).floor().long().clamp(0, self._kinks - 1)
        kinks = torch.arange(self._kinks, dtype=torch.float64) * step - reach
        return self._side(A, t, bins, kinks, self._power) + self._power * self._side(
            slope, t, bins, kinks, self._power - 1
        )

    def _side(self, values: Tensor, t: Tensor, bins: Tensor, kinks: Tensor, power: int) -> Tensor:
        """Sum values times (t - kink)^power over the points beyond each kink.

        Within the bin of a kink, points lie beyond it, since bins begin at kinks.
        """
        total = torch.zeros_like(kinks)
        moment = values
        for p in range(power + 1):
            sums = torch.bincount(bins, moment, self._kinks).flip(0).cumsum(0).flip(0)
            total = total + math.comb(power, p) * (-kinks) ** (power - p) * sums
            moment = moment * t
        return total
