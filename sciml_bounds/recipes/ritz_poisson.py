"""Right-hand sides for learned conjugate directions: eigenvectors of a box with walls, mixed as published."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from numpy.typing import NDArray

from sciml_bounds.krylov._multigrid_shaped import FLUID
from sciml_bounds.krylov._ritz_vectors import low_count, mixing_weights
from sciml_bounds.memory import require_memory
from sciml_bounds.operators._transform import AxisKind
from sciml_bounds.recipes._recipe import JSON, Array, sample_rng
from sciml_bounds.recipes._residuals import ResidualRecipe

__all__ = ["RITZ_POISSON_2D", "RITZ_POISSON_3D", "spread_over"]

#: Steps of Lanczos of the publication: as many eigenvectors are mixed, where there are so many.
VECTORS = 10_000

#: Cells of a chunk, and its most samples.
CHUNK_CELLS, CHUNK_SAMPLES = 2**21, 64

#: What a cell of a sample takes while it is drawn and transformed.
BYTES_A_CELL = 40


class RitzPoissonRecipe(ResidualRecipe):
    """b = sum of c_j q_j, of norm one, with eigenvectors q_j of the pressure matrix of a closed box."""

    inputs = ("rhs",)
    reference = (
        "Kaneda, Akar, Chen, Kala, Hyde, Teran, A deep conjugate direction method for iteratively solving linear "
        "systems, ICML 2023, arXiv:2205.10763"
    )
    resolution = 64
    samples = 20_000

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.name = f"ritz-poisson-{dim}d"
        self.title = f"Right-hand sides for learned directions, closed box in {dim}-D"
        shape = "square" if dim == 2 else "cube"
        self.description = (
            f"b of norm one on the cells of a {shape} of fluid with walls all around: a random mixture of eigenvectors "
            "of the pressure matrix (neighbours of a cell on the diagonal, -1 beside it), with coefficients of normal "
            "distribution that are nine times as large for the lower 55 % of the vectors. As many vectors are mixed as "
            "the publication takes steps of Lanczos, 10,000, or all but the constant one where there are fewer. Other "
            "than published: they are the exact eigenvectors, cosines, whose eigenvalues lie closest to the "
            "distribution to which Ritz values tend (the arcsine law, and every eigenvalue where that is denser), in "
            "place of the Ritz vectors of one run of Lanczos, which for a cube of 64 cells along an edge take 21 GB. "
            "The input is the target: a network is judged by what a step along its direction leaves of b (loss "
            "line-search). geometry says of each cell that it is fluid (1). The resolution counts cells along an axis."
        )

    def chunk(self, resolution: int) -> int:
        """Take what fits into some memory; samples are independent of each other."""
        fitting: int = CHUNK_CELLS // resolution**self.dim
        return max(1, min(CHUNK_SAMPLES, fitting))

    def parameters(self, resolution: int) -> dict[str, JSON]:
        """Give everything that determines the numbers, beside seed and resolution."""
        count = len(self.places(resolution))
        return {
            "equation": "sum over neighbours j of p_i - p_j = b_i in the cells of a box with walls",
            "mixture": {"vectors": count, "low": low_count(count), "amplitude of low": float(mixing_weights(count)[0])},
            "random numbers": "numpy.random.default_rng([seed, sample])",
            "chunk": self.chunk(resolution),
        }

    def generate(self, seed: int, first: int, count: int, resolution: int, device: torch.device) -> dict[str, Array]:
        """Generate the samples `first` to `first + count - 1`, on the CPU whatever the device."""
        self.check(resolution)
        cells = resolution**self.dim
        require_memory(BYTES_A_CELL * cells * count, f"a chunk of {self.name} at resolution {resolution}")
        places = self.places(resolution)
        rhs = np.stack([self._sample(seed, index, resolution, places) for index in range(first, first + count)])
        return {"rhs": rhs, "geometry": np.full_like(rhs, FLUID)}

    def places(self, resolution: int) -> NDArray[np.int64]:
        """Give the eigenvectors that are mixed, ascending, as places in the flat spectrum of the transform."""
        line = self._axis(resolution).eigenvalues().numpy()
        total = functools.reduce(np.add.outer, [line] * self.dim).reshape(-1)
        order = np.argsort(total, kind="stable")[1:]  # without the constant
        chosen: NDArray[np.int64] = order[spread_over(total[order], min(VECTORS, len(order)))]
        return chosen

    def _axis(self, resolution: int) -> AxisKind:
        return AxisKind(resolution, False, "free", "free")

    def _sample(self, seed: int, index: int, resolution: int, places: NDArray[np.int64]) -> NDArray[np.float32]:
        spectrum = np.zeros(resolution**self.dim)
        spectrum[places] = sample_rng(seed, index).standard_normal(len(places)) * mixing_weights(len(places)).numpy()
        spectrum /= math.sqrt(float(np.square(spectrum).sum()))  # the transform keeps norms
        field = spectrum.reshape((resolution,) * self.dim)
        for axis in range(self.dim):
            field = self._axis(resolution).transform(field, axis, 1, back=True)
        single: NDArray[np.float32] = field.astype(np.float32)
        return single


def spread_over(eigenvalues: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Choose so many of ascending eigenvalues, as Ritz values of so many steps of Lanczos spread over them.

    These tend to the arcsine law on the interval of the spectrum, but nowhere are there more of them than eigenvalues
    (Kuijlaars, SIAM J. Matrix Anal. Appl. 22 (2000) 306-321).
    """
    numbers = np.arange(count)
    low, high = eigenvalues[0], eigenvalues[-1]
    wanted = low + (high - low) * np.sin(np.pi * (numbers + 0.5) / (2 * count)) ** 2
    near = np.searchsorted(eigenvalues, wanted)
    ascending = np.maximum.accumulate(near - numbers) + numbers  # no eigenvalue twice: the next free one
    found: NDArray[np.int64] = np.minimum(ascending, len(eigenvalues) - count + numbers)
    return found


RITZ_POISSON_2D = RitzPoissonRecipe(2)
RITZ_POISSON_3D = RitzPoissonRecipe(3)
