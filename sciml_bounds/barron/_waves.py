"""Series as waves that can be drawn one by one, in any dimension: what networks are sampled from.

A term is c_j cos(w_j . x + h_j), or a product of cosines or sines: the mean over all signs s of cos((s w) . x), or of
prod s cos((s w) . x - d pi / 2), so that drawing signs draws a wave, and nothing is written out. Waves of a term share
|w|, |w_i| and their reach r_j = max |w_j . (x - x_0)| over the box, x_0 its centre.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sciml_bounds.barron._barron_function import BarronFunction
from sciml_bounds.barron._box_distance import product_of_others
from sciml_bounds.barron._series import FourierSeries, ProductSeries, Symmetry
from sciml_bounds.errors import InputError

__all__ = ["Drawn", "Waves", "waves_of"]


@dataclass(frozen=True)
class Drawn:
    """Waves sign cos(w . (x - x_0) + phase): w (k, d), phase (k,), sign (k,), and the term of each (k,)."""

    frequencies: Tensor
    phases: Tensor
    signs: Tensor
    terms: Tensor


@dataclass(frozen=True)
class Waves:
    """The m terms of a function that move.

    Attributes
    ----------
    frequencies, coefficients
        w (m, d), and c (m,), real.
    phases
        Those at the centre, (m,); not used for products.
    symmetry
        Of products; None for single waves.
    mean
        The constant term.
    lengths
        Of the box [0, l].
    """

    frequencies: Tensor
    coefficients: Tensor
    phases: Tensor
    symmetry: Symmetry | None
    mean: float
    lengths: tuple[float, ...]

    @property
    def centre(self) -> Tensor:
        """x_0, shape (d,)."""
        return torch.tensor(self.lengths, dtype=torch.float64) / 2

    @property
    def reach(self) -> Tensor:
        """r, shape (m,)."""
        return self.frequencies.abs() @ self.centre

    def at_centre(self) -> tuple[Tensor, Tensor]:
        """Values (m,) and gradients (m, d) of the terms at the centre."""
        c, w = self.coefficients, self.frequencies
        if self.symmetry is None:
            return c * self.phases.cos(), -(c * self.phases.sin())[:, None] * w
        t = w * self.centre
        factors, slopes = (t.sin(), t.cos()) if self.symmetry == "sine" else (t.cos(), -t.sin())
        return c * factors.prod(-1), c[:, None] * w * slopes * product_of_others(factors)

    def drawn(self, probabilities: Tensor, count: int, generator: torch.Generator) -> Drawn:
        """Draw waves of terms with given probabilities (m,), and of each term with equal ones."""
        terms = torch.multinomial(probabilities, count, replacement=True, generator=generator)
        w, signs = self.frequencies[terms], self.coefficients[terms].sign()
        if self.symmetry is None:
            return Drawn(w, self.phases[terms], signs, terms)
        turns = 1.0 - 2.0 * torch.randint(0, 2, w.shape, generator=generator)
        w = w * turns
        phases = w @ self.centre
        if self.symmetry == "sine":
            signs, phases = signs * turns.prod(-1), phases - math.pi / 2 * w.shape[1]
        return Drawn(w, phases, signs, terms)


def waves_of(function: Any) -> Waves:
    """Return the waves of a series.

    Raises
    ------
    InputError
        If the function is none.
    """
    if not isinstance(function, BarronFunction) or not isinstance(function.value, FourierSeries | ProductSeries):
        raise InputError("The function is not known as a series; make it by fourier, sine, cosine or sampled.")
    series = function.value
    if isinstance(series, ProductSeries):
        moving = (series.modes != 0).any(-1)
        w, c = series.frequencies[moving], series.coefficients[moving]
        mean = float(series.coefficients[~moving].sum())
        return Waves(w, c, torch.zeros_like(c), series.symmetry, mean, series.lengths)
    w, phases, c = series.cosines()
    centre = torch.tensor(series.periods, dtype=torch.float64) / 2
    return Waves(w, c, phases + w @ centre, None, series.mean, series.periods)
