"""Waves of a series that can be drawn at random, in any dimension, for sampling networks.

A term is c_j cos(w_j . x + h_j), or a product of cosines or sines. A product is the mean over all sign vectors s of
cos((s w) . x), or of prod s cos((s w) . x - d pi / 2). Drawing signs therefore draws a wave, without expanding the
product. All waves of a term have the same |w|, |w_i| and reach r_j = max |w_j . (x - x_0)| over the box with centre
x_0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sciml_bounds.barron._barron_function import series_of
from sciml_bounds.barron._box_distance import product_of_others
from sciml_bounds.barron._series import ProductSeries, Symmetry

__all__ = ["DrawnWaves", "Waves", "waves_of"]


@dataclass(frozen=True)
class DrawnWaves:
    """Random waves sign cos(w . (x - x_0) + phase): w (k, d), phase (k,), sign (k,), and index of the term (k,)."""

    frequencies: Tensor
    phases: Tensor
    signs: Tensor
    terms: Tensor


@dataclass(frozen=True)
class Waves:
    """The m non-constant terms of a series, and its mean.

    Attributes
    ----------
    frequencies : Tensor, shape (m, d)
        Frequencies w.
    coefficients : Tensor, shape (m,)
        Real coefficients c.
    phases : Tensor, shape (m,)
        Phases at the centre of the box; not used for products.
    symmetry : {"cosine", "sine"} or None
        Symmetry of products; None for single waves.
    mean : float
        Constant term.
    lengths : tuple of float
        Side lengths of the box [0, l].
    """

    frequencies: Tensor
    coefficients: Tensor
    phases: Tensor
    symmetry: Symmetry | None
    mean: float
    lengths: tuple[float, ...]

    @property
    def centre(self) -> Tensor:
        """Centre x_0 of the box, shape (d,)."""
        return torch.tensor(self.lengths, dtype=torch.float64) / 2

    @property
    def reach(self) -> Tensor:
        """Largest |w . (x - x_0)| over the box for each term, shape (m,)."""
        return self.frequencies.abs() @ self.centre

    def at_centre(self) -> tuple[Tensor, Tensor]:
        """Return values (m,) and gradients (m, d) of the terms at the centre."""
        c, w = self.coefficients, self.frequencies
        if self.symmetry is None:
            return c * self.phases.cos(), -(c * self.phases.sin())[:, None] * w
        t = w * self.centre
        factors, slopes = (t.sin(), t.cos()) if self.symmetry == "sine" else (t.cos(), -t.sin())
        return c * factors.prod(-1), c[:, None] * w * slopes * product_of_others(factors)

    def draw(self, probabilities: Tensor, count: int, generator: torch.Generator) -> DrawnWaves:
        """Draw terms with given probabilities (m,), and a wave of each term with equal probabilities."""
        terms = torch.multinomial(probabilities, count, replacement=True, generator=generator)
        w, signs = self.frequencies[terms], self.coefficients[terms].sign()
        if self.symmetry is None:
            return DrawnWaves(w, self.phases[terms], signs, terms)
        flips = 1.0 - 2.0 * torch.randint(0, 2, w.shape, generator=generator)
        w = w * flips
        phases = w @ self.centre
        if self.symmetry == "sine":
            signs, phases = signs * flips.prod(-1), phases - math.pi / 2 * w.shape[1]
        return DrawnWaves(w, phases, signs, terms)


def waves_of(function: Any) -> Waves:
    """Return the waves of a series.

    Raises
    ------
    InputError
        If the function is not a series.
    """
    series = series_of(function)
    if isinstance(series, ProductSeries):
        nonzero = (series.modes != 0).any(-1)
        w, c = series.frequencies[nonzero], series.coefficients[nonzero]
        mean = float(series.coefficients[~nonzero].sum())
        return Waves(w, c, torch.zeros_like(c), series.symmetry, mean, series.lengths)
    w, phases, c = series.cosines()
    centre = torch.tensor(series.periods, dtype=torch.float64) / 2
    return Waves(w, c, phases + w @ centre, None, series.mean, series.periods)
