"""Right-hand sides of the pressure of a fluid among random bodies, to train learned cycles on."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from sciml_bounds.krylov._multigrid_shaped import AIR, FLUID, SOLID
from sciml_bounds.recipes._recipe import JSON, Array, sample_rng
from sciml_bounds.recipes._residuals import ResidualRecipe

__all__ = ["PRESSURE_2D", "PRESSURE_3D"]

#: A sample has fewer bodies than this.
BODIES = 5
#: Probability that a side is open, and that the right-hand side is zero but for some points.
OPEN, SPARSE = 0.25, 0.4
#: What is left of a sparse right-hand side, and the least part of a box that is fluid.
KEPT, ROOM = 0.02, 0.2
#: Sizes of the blotches of right-hand sides, in cells; single cells are twice as likely.
BLOTCHES = (1, 1, 2, 4, 8)

Mask = NDArray[np.bool_]


class PressureRecipe(ResidualRecipe):
    """b of norm one and the geometry of a box with bodies in it and some sides open."""

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
            "The geometry is a box of cells with up to four bodies that may overlap: balls, boxes and ellipsoids, "
            "turned at random, with half axes of 0.03 to 0.3 of the box (boxes may be thin plates). Each side is open "
            "with probability 1/4: its outermost cells are air then, where the pressure is zero; elsewhere walls "
            "surround the box. At least a fifth of the cells is fluid. The right-hand side is white noise of cells or "
            "of blotches of 2, 4 or 8 cells, in two of five samples zero but for 2 % of the cells; its mean over each "
            "part of the fluid that touches no air is zero, and its norm one. geometry says what a cell is: 0 solid, 1 "
            "fluid, 2 air. A network is judged by what it leaves of b (losses line-search and contraction). The "
            "resolution counts cells along an axis."
        )

    def chunk(self, resolution: int) -> int:
        """Take few samples at a time: they are independent of each other."""
        return 8

    def parameters(self, resolution: int) -> dict[str, JSON]:
        """Give everything that determines the numbers, beside seed and resolution."""
        return {
            "equation": "sum over neighbours j that are not solid of p_i - p_j = b_i, p = 0 in air",
            "bodies": {"fewer than": BODIES, "least fluid": ROOM, "probability of an open side": OPEN},
            "rhs": {"blotches": list(BLOTCHES), "probability of few points": SPARSE, "points": KEPT},
            "random numbers": "numpy.random.default_rng([seed, sample])",
            "chunk": self.chunk(resolution),
        }

    def generate(self, seed: int, first: int, count: int, resolution: int, device: torch.device) -> dict[str, Array]:
        """Generate the samples `first` to `first + count - 1`, on the CPU whatever the device."""
        self.check(resolution)
        drawn = [self._sample(sample_rng(seed, index), resolution) for index in range(first, first + count)]
        rhs, geometry = (np.stack(both).astype(np.float32) for both in zip(*drawn))
        return {"rhs": rhs, "geometry": geometry}

    def _sample(self, rng: np.random.Generator, n: int) -> tuple[Array, Array]:
        while True:
            geometry = self._geometry(rng, n)
            rhs = self._rhs(rng, geometry)
            size = np.linalg.norm(rhs)
            if size > 0 and (geometry == FLUID).mean() >= ROOM:
                return rhs / size, geometry

    def _geometry(self, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
        places = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) / n] * self.dim, indexing="ij"))
        solid = np.zeros((n,) * self.dim, dtype=bool)
        for _ in range(rng.integers(BODIES)):
            solid |= self._body(rng, places)
        geometry = np.where(solid, SOLID, FLUID)
        for axis in range(self.dim):
            for end in (0, -1):
                if rng.random() < OPEN:
                    np.moveaxis(geometry, axis, 0)[end] = AIR
        return geometry

    def _body(self, rng: np.random.Generator, places: NDArray[np.float64]) -> Mask:
        turn, _ = np.linalg.qr(rng.standard_normal((self.dim, self.dim)))
        column = (-1, *(1,) * self.dim)
        inside = np.tensordot(turn, places - rng.uniform(0.0, 1.0, self.dim).reshape(column), 1)
        kind = rng.integers(3)
        if kind == 0:
            return (inside**2).sum(0) < rng.uniform(0.05, 0.25) ** 2
        if kind == 1:
            half = rng.uniform(0.03, 0.3, self.dim)
            half[0] *= rng.uniform(0.2, 1.0)
            return (np.abs(inside) < half.reshape(column)).all(0)
        return ((inside / rng.uniform(0.05, 0.3, self.dim).reshape(column)) ** 2).sum(0) < 1

    def _rhs(self, rng: np.random.Generator, geometry: NDArray[np.int64]) -> Array:
        n, size = len(geometry), int(rng.choice(BLOTCHES))
        noise = rng.standard_normal((-(-n // size),) * self.dim)
        if size > 1:
            noise = ndimage.zoom(noise, size, order=1)[(slice(n),) * self.dim]
        if rng.random() < SPARSE:
            noise = noise * (rng.random(geometry.shape) < KEPT)
        return _balanced(np.where(geometry == FLUID, noise, 0.0), geometry)


def _balanced(rhs: Array, geometry: NDArray[np.int64]) -> Array:
    """Take the mean off each part of the fluid that touches no air."""
    parts, count = ndimage.label(geometry == FLUID)
    held = np.unique(parts[ndimage.binary_dilation(geometry == AIR)])
    for part in np.setdiff1d(np.arange(1, count + 1), held):
        inside = parts == part
        rhs[inside] -= rhs[inside].mean()
    return rhs


PRESSURE_2D, PRESSURE_3D = PressureRecipe(2), PressureRecipe(3)
