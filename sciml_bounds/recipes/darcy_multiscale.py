"""Darcy flow with a trigonometric coefficient of six scales."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sciml_bounds.recipes._elliptic_samples import STORED, DiffusionRecipe
from sciml_bounds.recipes._recipe import JSON

__all__ = ["DARCY_MULTISCALE", "trigonometric_coefficient"]

#: The frequency of scale k is uniform between these multiples of 2^(k - 1).
FREQUENCIES = (1.0, 1.5)
SCALES = 6


class _DarcyMultiscale(DiffusionRecipe):
    name = "darcy-multiscale"
    title = "Darcy flow, trigonometric coefficient of six scales"
    description = (
        "-div(a grad u) = 1, u = 0 on the boundary of the unit square; a is the product over k = 1..6 of "
        "(1 + cos(a_k pi (x + y)) / 2) (1 + sin(a_k pi (y - 3 x)) / 2) with a_k uniform in [2^(k-1), 1.5 2^(k-1)], "
        "evaluated at the cell centres. The published files are not public; this follows the description of their "
        "authors. The resolution is the number of cells per axis: 1024 gives the published 1023 interior nodes. Below "
        "about 300 cells per axis the finest scale is not resolved: solutions then are correct for the cellwise "
        "coefficient, but not for the formula. 1,250 samples contain the published 1,000 for training. " + STORED
    )
    reference = "Liu, Xu, Cao, Zhang (2024), HANO, J. Comput. Phys.; Owhadi (2017), SIAM Review 59 (the coefficient)"
    resolution = 1024
    samples = 1250
    inputs = ("coefficient",)

    def draw(self, sources: Sequence[np.random.Generator], resolution: int) -> NDArray[np.float64]:
        centers = (np.arange(resolution) + 0.5) / resolution
        scales = 2.0 ** np.arange(SCALES)
        frequencies = np.stack([source.uniform(*FREQUENCIES, SCALES) * scales for source in sources])
        return trigonometric_coefficient(frequencies, centers[:, None], centers)

    def drawing(self) -> dict[str, JSON]:
        return {"scales": SCALES, "frequencies over 2^(k-1)": list(FREQUENCIES), "at": "cell centres"}


def trigonometric_coefficient(
    frequencies: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the coefficient for frequencies (b, scales) at points x, y that broadcast, shape (b, points)."""
    value = np.ones((len(frequencies), *np.broadcast_shapes(x.shape, y.shape)))
    for scale in frequencies.T:
        a = np.pi * scale.reshape(-1, *(1,) * (value.ndim - 1))
        value *= (1 + 0.5 * np.cos(a * (x + y))) * (1 + 0.5 * np.sin(a * (y - 3 * x)))
    return value


DARCY_MULTISCALE = _DarcyMultiscale()
