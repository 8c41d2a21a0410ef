"""Right-hand sides of the pressure equation around random bodies, for training learned multigrid cycles."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from sciml_bounds.krylov._multigrid_shaped import AIR, FLUID, SOLID
from sciml_bounds.recipes._recipe import JSON, Array, sample_rng
from sciml_bounds.recipes._residuals import ResidualRecipe

__all__ = ["PRESSURE_2D", "PRESSURE_3D"]

#: The number of bodies is below this.
BODY_LIMIT = 5
#: Probability that a side is open.
OPEN_PROBABILITY = 0.25
#: Probability of a sparse right-hand side, and its density of nonzero cells.
SPARSE_PROBABILITY, SPARSE_DENSITY = 0.4, 0.02
#: Smallest fraction of fluid cells.
MIN_FLUID = 0.2
#: Correlation lengths of right-hand sides, in cells, drawn with equal probability; 1 is white noise.
CORRELATION_LENGTHS = (1, 1, 2, 4, 8)

Mask = NDArray[np.bool_]


class PressureRecipe(ResidualRecipe):
    """Recipe for right-hand sides of norm one and cell types of a box with random bodies and open sides."""

    inputs = ("rhs", "geometry")
    reference = "ours, for learned cycles"
    resolution = 32
    samples = 400
    smallest = 8

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.name = f"pressure-{dim}d"
        self.title = f"Pressure of a fluid among random bodies in {dim}-D"
        self.description = (
            "The geometry is a box of cells with up to four bodies that may overlap: balls, boxes and ellipsoids with "
            "random rotations and half axes of 0.03 to 0.3 of the box (boxes may be thin plates). Each side is open "
            "with probability 1/4: its outermost cells are air, where the pressure is zero; all other sides are walls. "
            "At least a fifth of the cells are fluid. The right-hand side b is white noise or noise with a correlation "
            "length of 2, 4 or 8 cells; in two of five samples it is zero except in 2 % of the cells. Its mean over "
            "each connected part of the fluid without contact to air is zero, and its norm is one. geometry is the "
            "cell type: 0 solid, 1 fluid, 2 air. A network is judged by the remaining residual (losses line-search and "
            "contraction). The resolution is the number of cells per axis."
        )

    def chunk(self, resolution: int) -> int:
        """Return the number of samples per chunk; samples are independent of each other."""
        return 8

    def parameters(self, resolution: int) -> dict[str, JSON]:
        """Return everything that determines the numbers, except seed and resolution."""
        return {
            "equation": "sum over neighbours j that are not solid of p_i - p_j = b_i, p = 0 in air",
            "bodies": {
                "fewer than": BODY_LIMIT,
                "least fluid": MIN_FLUID,
                "probability of an open side": OPEN_PROBABILITY,
            },
            "rhs": {
                "blotches": list(CORRELATION_LENGTHS),
                "probability of few points": SPARSE_PROBABILITY,
                "points": SPARSE_DENSITY,
            },
            "random numbers": "numpy.random.default_rng([seed, sample])",
            "chunk": self.chunk(resolution),
        }

    def generate(self, seed: int, first: int, count: int, resolution: int, device: torch.device) -> dict[str, Array]:
        """Generate the samples `first` to `first + count - 1`, on the CPU for every device."""
        self.check(resolution)
        drawn = [self._sample(sample_rng(seed, index), resolution) for index in range(first, first + count)]
        rhs, geometry = (np.stack(both).astype(np.float32) for both in zip(*drawn))
        return {"rhs": rhs, "geometry": geometry}

    def _sample(self, rng: np.random.Generator, n: int) -> tuple[Array, Array]:
        while True:
            geometry = self._geometry(rng, n)
            rhs = self._rhs(rng, geometry)
            size = np.linalg.norm(rhs)
            if size > 0 and (geometry == FLUID).mean() >= MIN_FLUID:
                return rhs / size, geometry

    def _geometry(self, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
        places = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) / n] * self.dim, indexing="ij"))
        solid = np.zeros((n,) * self.dim, dtype=bool)
        for _ in range(rng.integers(BODY_LIMIT)):
            solid |= self._body(rng, places)
        geometry = np.where(solid, SOLID, FLUID)
        for axis in range(self.dim):
            for end in (0, -1):
                if rng.random() < OPEN_PROBABILITY:
                    np.moveaxis(geometry, axis, 0)[end] = AIR
        return geometry

    def _body(self, rng: np.random.Generator, places: NDArray[np.float64]) -> Mask:
        rotation, _ = np.linalg.qr(rng.standard_normal((self.dim, self.dim)))
        column = (-1, *(1,) * self.dim)
        inside = np.tensordot(rotation, places - rng.uniform(0.0, 1.0, self.dim).reshape(column), 1)
        kind = rng.integers(3)
        if kind == 0:
            return (inside**2).sum(0) < rng.uniform(0.05, 0.25) ** 2
        if kind == 1:
            half = rng.uniform(0.03, 0.3, self.dim)
            half[0] *= rng.uniform(0.2, 1.0)
            return (np.abs(inside) < half.reshape(column)).all(0)
        return ((inside / rng.uniform(0.05, 0.3, self.dim).reshape(column)) ** 2).sum(0) < 1

    def _rhs(self, rng: np.random.Generator, geometry: NDArray[np.int64]) -> Array:
        n, size = len(geometry), int(rng.choice(CORRELATION_LENGTHS))
        noise = rng.standard_normal((-(-n // size),) * self.dim)
        if size > 1:
            noise = ndimage.zoom(noise, size, order=1)[(slice(n),) * self.dim]
        if rng.random() < SPARSE_PROBABILITY:
            noise = noise * (rng.random(geometry.shape) < SPARSE_DENSITY)
        return _balanced(np.where(geometry == FLUID, noise, 0.0), geometry)


def _balanced(rhs: Array, geometry: NDArray[np.int64]) -> Array:
    """Subtract the mean on each connected part of the fluid without contact to air."""
    parts, count = ndimage.label(geometry == FLUID)
    touching_air = np.unique(parts[ndimage.binary_dilation(geometry == AIR)])
    for part in np.setdiff1d(np.arange(1, count + 1), touching_air):
        inside = parts == part
        rhs[inside] -= rhs[inside].mean()
    return rhs


PRESSURE_2D, PRESSURE_3D = PressureRecipe(2), PressureRecipe(3)
