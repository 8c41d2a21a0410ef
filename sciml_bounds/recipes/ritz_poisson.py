"""Right-hand sides for learned conjugate directions: random mixtures of eigenvectors of a closed box."""

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

#: Maximum number of eigenvectors in a mixture: the number of Lanczos steps in the publication.
MAX_VECTORS = 10_000

#: Target number of cells per chunk, and maximum number of samples per chunk.
CHUNK_CELLS, MAX_CHUNK_SAMPLES = 2**21, 64

#: Peak memory per cell of a sample, to draw and transform it.
BYTES_PER_CELL = 40


class RitzPoissonRecipe(ResidualRecipe):
    """Recipe for b = sum of c_j q_j of norm one, with random c_j and eigenvectors q_j of the pressure matrix."""

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
            f"Right-hand sides b of norm one on the cells of a {shape} of fluid with walls on all sides: random "
            "mixtures of eigenvectors of the pressure matrix (number of neighbours on the diagonal, -1 for each "
            "neighbour), with normally distributed coefficients, nine times as large for the lower 55 % of the "
            "vectors. A mixture has 10,000 vectors, the number of Lanczos steps in the publication, or all except the "
            "constant one if there are fewer. Difference from the publication: the vectors are exact eigenvectors "
            "(cosines) with eigenvalues closest to the limit distribution of Ritz values (the arcsine law, but at most "
            "all eigenvalues), instead of the Ritz vectors of one Lanczos run, which need 21 GB for a cube of 64 cells "
            "per edge. The input is the target: a network is judged by the residual after a step along its direction "
            "(loss line-search). geometry is 1 (fluid) in every cell. The resolution is the number of cells per axis."
        )

    def chunk(self, resolution: int) -> int:
        """Return the number of samples per chunk, limited by memory; samples are independent of each other."""
        fitting: int = CHUNK_CELLS // resolution**self.dim
        return max(1, min(MAX_CHUNK_SAMPLES, fitting))

    def parameters(self, resolution: int) -> dict[str, JSON]:
        """Return everything that determines the numbers, except seed and resolution."""
        count = len(self.places(resolution))
        return {
            "equation": "sum over neighbours j of p_i - p_j = b_i in the cells of a box with walls",
            "mixture": {"vectors": count, "low": low_count(count), "amplitude of low": float(mixing_weights(count)[0])},
            "random numbers": "numpy.random.default_rng([seed, sample])",
            "chunk": self.chunk(resolution),
        }

    def generate(self, seed: int, first: int, count: int, resolution: int, device: torch.device) -> dict[str, Array]:
        """Generate the samples `first` to `first + count - 1`, on the CPU for every device."""
        self.check(resolution)
        cells = resolution**self.dim
        require_memory(BYTES_PER_CELL * cells * count, f"a chunk of {self.name} at resolution {resolution}")
        places = self.places(resolution)
        rhs = np.stack([self._sample(seed, index, resolution, places) for index in range(first, first + count)])
        return {"rhs": rhs, "geometry": np.full_like(rhs, FLUID)}

    def places(self, resolution: int) -> NDArray[np.int64]:
        """Return flat indices of the mixed eigenvectors in the transformed spectrum, by ascending eigenvalue."""
        line = self._axis(resolution).eigenvalues().numpy()
        total = functools.reduce(np.add.outer, [line] * self.dim).reshape(-1)
        order = np.argsort(total, kind="stable")[1:]  # without the constant
        chosen: NDArray[np.int64] = order[spread_over(total[order], min(MAX_VECTORS, len(order)))]
        return chosen

    def _axis(self, resolution: int) -> AxisKind:
        return AxisKind(resolution, False, "neumann", "neumann")

    def _sample(self, seed: int, index: int, resolution: int, places: NDArray[np.int64]) -> NDArray[np.float32]:
        spectrum = np.zeros(resolution**self.dim)
        spectrum[places] = sample_rng(seed, index).standard_normal(len(places)) * mixing_weights(len(places)).numpy()
        spectrum /= math.sqrt(float(np.square(spectrum).sum()))  # the transform is orthogonal
        field = spectrum.reshape((resolution,) * self.dim)
        for axis in range(self.dim):
            field = self._axis(resolution).transform(field, axis, 1, back=True)
        single: NDArray[np.float32] = field.astype(np.float32)
        return single


def spread_over(eigenvalues: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Return the indices of `count` of the ascending eigenvalues, distributed like the Ritz values of `count` steps.

    Ritz values tend to the arcsine law on the interval of the spectrum, but are nowhere denser than the eigenvalues
    (Kuijlaars, SIAM J. Matrix Anal. Appl. 22 (2000) 306-321).
    """
    numbers = np.arange(count)
    low, high = eigenvalues[0], eigenvalues[-1]
    wanted = low + (high - low) * np.sin(np.pi * (numbers + 0.5) / (2 * count)) ** 2
    near = np.searchsorted(eigenvalues, wanted)
    ascending = np.maximum.accumulate(near - numbers) + numbers  # each eigenvalue at most once, else the next one
    chosen: NDArray[np.int64] = np.minimum(ascending, len(eigenvalues) - count + numbers)
    return chosen


RITZ_POISSON_2D = RitzPoissonRecipe(2)
RITZ_POISSON_3D = RitzPoissonRecipe(3)
