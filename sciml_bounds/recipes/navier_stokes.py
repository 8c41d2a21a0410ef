"""Vorticity of a forced flow on the torus, at three viscosities."""

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

#: Points of the grid on which a flow is solved for each point that is stored, along an axis.
FINER = 4

#: Samples of a chunk: a few minutes of one core at the published resolution.
CHUNK = 10


class NavierStokesRecipe(Recipe):
    """w_t + u . grad w = nu Laplace w + f on the torus from a Gaussian initial vorticity, a frame each time unit.

    The resolution is the one that is stored; it is solved on a grid `FINER` times as fine.
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
            f"1e-{exponent}; at time 0 a Gaussian field with zero mean and covariance 343 (-Laplace + 49)^(-5/2), the "
            "amplitude of the code of its authors (its standard deviation is 0.185; their text has another). The "
            "resolution counts stored points along an axis: every fourth one of the grid on which the flow is solved, "
            f"which is 256 x 256 as published. Frames at times 1, 2, ..., {last}. Other than published: the waves that "
            "the 2/3 rule leaves out are missing at time 0 too, and the scheme is of fourth order in time; at the "
            "published resolution its errors are below those of the published scheme. Frames of one sample belong to "
            "one flow: split by samples, not by frames."
        )

    def chunk(self, resolution: int) -> int:
        """Take the same few at every resolution; they are solved independently of each other."""
        return CHUNK

    def parameters(self, resolution: int) -> dict[str, JSON]:
        """Give everything that determines the numbers, beside seed and resolution."""
        return {
            "equation": "w_t + u . grad w = nu Laplace w + f, u = (psi_y, -psi_x), -Laplace psi = w, torus (0, 1)^2",
            "viscosity": self.viscosity,
            "forcing": "0.1 (sin 2 pi (x + y) + cos 2 pi (x + y))",
            "initial field": "Gaussian, covariance tau^(2 alpha - 2) (-Laplace + tau^2)^(-alpha), zero mean",
            "tau": TAU,
            "alpha": ALPHA,
            "random numbers": "numpy.random.default_rng([seed, sample])",
            "discretization": "Fourier pseudo-spectral, waves |k| <= K on each axis, K the largest with 3 K < n",
            "solved resolution": FINER * resolution,
            "time scheme": "integrating-factor Runge-Kutta of order 4, h 2 pi max(min(K, s / (2 pi nu)), 20) s <= cfl, "
            "s = max(|u| + |v|)",
            "cfl": CFL,
            "chunk": self.chunk(resolution),
        }

    def coordinates(self, resolution: int) -> dict[str, tuple[Array, str]]:
        """Give the times 1, 2, ... and the stored points i / n."""
        points = np.arange(resolution) / resolution
        return {"time": (np.array(self._times()), "1"), "x": (points, "1"), "y": (points.copy(), "1")}

    def variables(self, resolution: int) -> dict[str, Variable]:
        """Give the one variable, the vorticity."""
        return {"vorticity": Variable(("time", "x", "y"), "vorticity w at the points", dtype="float32")}

    def generate(self, seed: int, first: int, count: int, resolution: int, device: torch.device) -> dict[str, Array]:
        """Generate the samples `first` to `first + count - 1`; see `Recipe.generate`."""
        self.check(resolution)
        points = (FINER * resolution) ** 2
        require_memory(
            8 * points * (count + self.last + FIELDS_AT_WORK), f"a chunk of {self.name} at resolution {resolution}"
        )
        flow = self.flow(resolution, device)
        initial = self.initial(seed, first, count, resolution)
        # one by one on the CPU, so that no bit depends on the others; a GPU is too fast for a single sample
        pieces = initial.split(1 if flow.device.type == "cpu" else CHUNK)
        frames = [flow.evolve(piece, self._times())[..., ::FINER, ::FINER].float().cpu() for piece in pieces]
        return {"vorticity": torch.cat(frames).numpy()}

    def time_error(self, seed: int, sample: int, resolution: int, device: torch.device | str = "cpu") -> float:
        """Estimate the relative error in time of a sample's last frame, from a second solve with half the steps.

        It is an estimate: the second solve is taken for the exact flow of this grid.
        """
        initial = self.initial(seed, sample, 1, resolution)
        last = [float(self.last)]
        coarse, fine = (self.flow(resolution, device, cfl).evolve(initial, last) for cfl in (CFL, CFL / 2.0))
        return float((coarse - fine).norm() / fine.norm())

    def flow(self, resolution: int, device: torch.device | str = "cpu", cfl: float = CFL) -> NavierStokes:
        """Return the flow, on the grid on which it is solved."""
        return NavierStokes(FINER * resolution, self.viscosity, diagonal_forcing, device=device, cfl=cfl)

    def initial(self, seed: int, first: int, count: int, resolution: int) -> Tensor:
        """Draw the vorticity at time 0 on the grid on which it is solved, (count, n, n) in double precision."""
        shape = (FINER * resolution, FINER * resolution)
        sources = [sample_rng(seed, index) for index in range(first, first + count)]
        field: NDArray[np.float64] = torus_field(sources, shape, tau=TAU, alpha=ALPHA)
        return torch.from_numpy(field)

    def _times(self) -> list[float]:
        return [float(t) for t in range(1, self.last + 1)]


NAVIER_STOKES_1E3 = NavierStokesRecipe(1e-3, last=50, samples=5000)
NAVIER_STOKES_1E4 = NavierStokesRecipe(1e-4, last=30, samples=10000)
NAVIER_STOKES_1E5 = NavierStokesRecipe(1e-5, last=20, samples=1200)
