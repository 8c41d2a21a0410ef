"""Vorticity of a forced flow on the torus, for three viscosities."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sciml_bounds.evolution.navier_stokes import CFL, FIELDS_AT_WORK, NavierStokes, diagonal_forcing
from sciml_bounds.memory import require_memory
from sciml_bounds.problems.random_fields import torus_field
from sciml_bounds.recipes._recipe import JSON, Array, Recipe, Variable, sample_rng

__all__ = ["NAVIER_STOKES_1E3", "NAVIER_STOKES_1E4", "NAVIER_STOKES_1E5", "NavierStokesRecipe"]

TAU, ALPHA = 7.0, 2.5

#: Refinement per axis of the grid on which the flow is solved, relative to the stored grid.
REFINEMENT = 4

#: Samples per chunk: a few minutes of one core at the published resolution.
CHUNK_SAMPLES = 10


class NavierStokesRecipe(Recipe):
    """Recipe for w_t + u . grad w = nu Laplace w + f on the torus, with Gaussian initial vorticity.

    One frame is stored per time unit. The resolution is that of the stored grid; the flow is solved on a grid
    `REFINEMENT` times finer per axis.
    """

    smallest = 8
    inputs = ("vorticity",)
    targets = ("vorticity",)
    layout = "time"
    reference = (
        "Li, Kovachki, Azizzadenesheli, Liu, Bhattacharya, Stuart, Anandkumar, Fourier neural operator for parametric "
        "partial differential equations, ICLR 2021, arXiv:2010.08895"
    )
    resolution = 64

    def __init__(self, viscosity: float, last: int, samples: int) -> None:
        exponent = round(-np.log10(viscosity))
        self.viscosity = viscosity
        self.last = last
        self.samples = samples
        self.name = f"navier-stokes-1e-{exponent}"
        self.title = f"Vorticity on the torus, viscosity 1e-{exponent}, times 1 to {last}"
        self.description = (
            f"w_t + u . grad w = nu Laplace w + 0.1 (sin 2 pi (x + y) + cos 2 pi (x + y)) on the unit torus, nu = "
            f"1e-{exponent}. The vorticity at time 0 is a Gaussian field with zero mean and covariance "
            "343 (-Laplace + 49)^(-5/2), with the amplitude in the code of the authors (standard deviation 0.185), not "
            "in their text. The resolution is the number of stored points per axis, every fourth point of the grid on "
            f"which the flow is solved (256 x 256 as published). Frames at times 1, 2, ..., {last}. Differences from "
            "the published data: the modes removed by the 2/3 rule are zero at time 0 too, and the time scheme is of "
            "fourth order, with errors below those of the published scheme at the published resolution. All frames of "
            "a sample belong to one flow: split by samples, not by frames."
        )

    def chunk(self, resolution: int) -> int:
        """Return the number of samples per chunk; samples are solved independently of each other."""
        return CHUNK_SAMPLES

    def parameters(self, resolution: int) -> dict[str, JSON]:
        """Return everything that determines the numbers, except seed and resolution."""
        return {
            "equation": "w_t + u . grad w = nu Laplace w + f, u = (psi_y, -psi_x), -Laplace psi = w, torus (0, 1)^2",
            "viscosity": self.viscosity,
            "forcing": "0.1 (sin 2 pi (x + y) + cos 2 pi (x + y))",
            "initial field": "Gaussian, covariance tau^(2 alpha - 2) (-Laplace + tau^2)^(-alpha), zero mean",
            "tau": TAU,
            "alpha": ALPHA,
            "random numbers": "numpy.random.default_rng([seed, sample])",
            "discretization": "Fourier pseudo-spectral, waves |k| <= K on each axis, K the largest with 3 K < n",
            "solved resolution": REFINEMENT * resolution,
            "time scheme": "integrating-factor Runge-Kutta of order 4, h 2 pi max(min(K, s / (2 pi nu)), 20) s <= cfl, "
            "s = max(|u| + |v|)",
            "cfl": CFL,
            "chunk": self.chunk(resolution),
        }

    def coordinates(self, resolution: int) -> dict[str, tuple[Array, str]]:
        """Return the times 1, 2, ... and the stored points i / n."""
        points = np.arange(resolution) / resolution
        return {"time": (np.array(self._times()), "1"), "x": (points, "1"), "y": (points.copy(), "1")}

    def variables(self, resolution: int) -> dict[str, Variable]:
        """Return the only variable, the vorticity."""
        return {"vorticity": Variable(("time", "x", "y"), "vorticity w at the points", dtype="float32")}

    def generate(self, seed: int, first: int, count: int, resolution: int, device: torch.device) -> dict[str, Array]:
        """Generate the samples `first` to `first + count - 1`; see `Recipe.generate`."""
        self.check(resolution)
        points = (REFINEMENT * resolution) ** 2
        require_memory(
            8 * points * (count + self.last + FIELDS_AT_WORK), f"a chunk of {self.name} at resolution {resolution}"
        )
        flow = self.flow(resolution, device)
        initial = self.initial(seed, first, count, resolution)
        # one by one on the CPU, so that results do not depend on the chunk; a GPU needs more than one sample to be busy
        pieces = initial.split(1 if flow.device.type == "cpu" else CHUNK_SAMPLES)
        frames = [flow.evolve(piece, self._times())[..., ::REFINEMENT, ::REFINEMENT].float().cpu() for piece in pieces]
        return {"vorticity": torch.cat(frames).numpy()}

    def time_error(self, seed: int, sample: int, resolution: int, device: torch.device | str = "cpu") -> float:
        """Estimate the relative time-stepping error of the last frame of a sample by a second solve with half steps.

        The second solve is taken as exact, so this is an estimate, not a bound.
        """
        initial = self.initial(seed, sample, 1, resolution)
        last = [float(self.last)]
        coarse, fine = (self.flow(resolution, device, cfl).evolve(initial, last) for cfl in (CFL, CFL / 2.0))
        return float((coarse - fine).norm() / fine.norm())

    def flow(self, resolution: int, device: torch.device | str = "cpu", cfl: float = CFL) -> NavierStokes:
        """Return the flow solver, on the fine grid."""
        return NavierStokes(REFINEMENT * resolution, self.viscosity, diagonal_forcing, device=device, cfl=cfl)

    def initial(self, seed: int, first: int, count: int, resolution: int) -> Tensor:
        """Return the random vorticity at time 0 on the fine grid, (count, n, n) in double precision."""
        shape = (REFINEMENT * resolution, REFINEMENT * resolution)
        sources = [sample_rng(seed, index) for index in range(first, first + count)]
        field: NDArray[np.float64] = torus_field(sources, shape, tau=TAU, alpha=ALPHA)
        return torch.from_numpy(field)

    def _times(self) -> list[float]:
        return [float(t) for t in range(1, self.last + 1)]


NAVIER_STOKES_1E3 = NavierStokesRecipe(1e-3, last=50, samples=5000)
NAVIER_STOKES_1E4 = NavierStokesRecipe(1e-4, last=30, samples=10000)
NAVIER_STOKES_1E5 = NavierStokesRecipe(1e-5, last=20, samples=1200)
