"""Poisson's equation with smooth random sources."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sciml_bounds.problems.random_fields import cosine_field
from sciml_bounds.recipes._elliptic_samples import GAUSSIAN, STORED, DiffusionRecipe
from sciml_bounds.recipes._recipe import JSON

__all__ = ["POISSON"]

TAU, ALPHA, AMPLITUDE = 3.0, 2.0, 4.0


class _Poisson(DiffusionRecipe):
    name = "poisson"
    title = "Poisson's equation, smooth random sources"
    description = (
        "-Laplace u = f, u = 0 on the boundary of the unit square; f is 4 times a Gaussian field with covariance "
        "9 (-Laplace + 9)^-2 and zero mean, with a standard deviation of 1.17. The map is linear, which separates "
        "training errors of a network from errors of representation. The resolution is the number of cells per axis. "
        + STORED
    )
    reference = "this package"
    resolution = 256
    samples = 1250
    smallest = 3  # with 2 x 2 cells the load of the only node is the mean of the source, which is zero
    inputs = ("source",)

    def draw(self, sources: Sequence[np.random.Generator], resolution: int) -> NDArray[np.float64]:
        return AMPLITUDE * cosine_field(sources, (resolution, resolution), tau=TAU, alpha=ALPHA)

    def drawing(self) -> dict[str, JSON]:
        return {"field": GAUSSIAN, "tau": TAU, "alpha": ALPHA, "amplitude": AMPLITUDE}


POISSON = _Poisson()
