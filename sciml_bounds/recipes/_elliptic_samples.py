"""Base classes of the recipes for -div(a grad u) = f: one random field per sample, solved and certified in chunks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sciml_bounds._linear_methods import Automatic, Multigrid
from sciml_bounds._solve import solve
from sciml_bounds.bounds._certify import certify
from sciml_bounds.bounds._energy import EnergyForm
from sciml_bounds.errors import ConvergenceError
from sciml_bounds.grid import Grid
from sciml_bounds.memory import require_memory
from sciml_bounds.problems.batch_axes import known_batch
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.problem_records import problem_record
from sciml_bounds.problems.random_fields import cosine_field
from sciml_bounds.recipes._recipe import JSON, Array, Recipe, Variable, sample_rng

__all__ = ["GAUSSIAN", "METHOD", "RTOL", "STORED", "DiffusionRecipe", "TwoPhaseRecipe", "relative_error_bound"]

#: Relative residual of every solution, or the round-off level if that is higher.
RTOL = 1e-10

#: Transforms for constant coefficients, otherwise multigrid; here two smoothing steps are 4 to 13 % faster than three.
METHOD = Automatic(Multigrid(sweeps=2))

#: Target number of cells per chunk: enough to keep two cores or a GPU busy, and less than 1 GiB during the solve.
CHUNK_CELLS = 2**21

#: Peak CPU memory per cell of a chunk, to draw, solve and certify it, and to draw it only.
BYTES_PER_CELL, FIELD_BYTES_PER_CELL = 250, 70

#: Maximum number of samples per chunk. A data set of one sample costs a whole chunk.
MAX_CHUNK_SAMPLES = 32

LONG_NAMES = {
    "coefficient": "coefficient a, constant on each cell",
    "source": "source f, constant on each cell",
    "solution": "solution u at the nodes",
    "label_error": "guaranteed upper bound of the relative energy error of the stored solution",
}

#: Description of the field of `cosine_field` in two dimensions.
GAUSSIAN = "Gaussian, covariance tau^(2 alpha - 2) (-Laplace + tau^2)^(-alpha), zero normal derivative, zero mean"

#: Part of the description that all recipes of this kind share.
STORED = (
    "Equations are solved to a relative residual of 1e-10, or to round-off if that is larger. "
    "The field is rounded to single precision before the solve, so the stored problem is the one that is solved. The "
    "solution is rounded after the solve, and label_error bounds the energy error of the rounded solution."
)


class DiffusionRecipe(Recipe):
    """Base class of recipes for -div(a grad u) = f on the unit square, u = 0 on its boundary, with random a or f.

    `inputs` names the random field; the other one is 1. The resolution is the number of cells per axis; the solution is
    stored at the nodes, one more per axis.
    """

    targets = ("solution",)
    layout = "cells->nodes"
    source: ClassVar[float] = 1.0
    coefficient: ClassVar[float] = 1.0

    @abstractmethod
    def draw(self, sources: Sequence[np.random.Generator], resolution: int) -> NDArray[np.float64]:
        """Return one random cell field per generator, shape (len(sources), resolution, resolution)."""

    @abstractmethod
    def drawing(self) -> dict[str, JSON]:
        """Return the parameters of the random field."""

    def chunk(self, resolution: int) -> int:
        """Return the largest power of two of samples with at most `CHUNK_CELLS` cells, and at least two."""
        # A sum over a single sample would be split among the threads, and its rounding depend on their number.
        fitting = max(2, min(MAX_CHUNK_SAMPLES, CHUNK_CELLS // resolution**2))
        return 1 << (fitting.bit_length() - 1)

    def parameters(self, resolution: int) -> dict[str, JSON]:
        fixed = {name: getattr(self, name) for name in ("coefficient", "source") if name not in self.inputs}
        return {
            "equation": "-div(a grad u) = f in (0, 1)^2, u = 0 on the boundary",
            "problem": problem_record(self.problem(torch.ones(2, 2)), self.inputs),
            "discretization": "a and f constant on cells, u at nodes: multilinear elements, trapezoidal rule",
            "random numbers": "numpy.random.default_rng([seed, sample])",
            "rtol": RTOL,
            "chunk": self.chunk(resolution),
            **fixed,
            **self.drawing(),
        }

    def coordinates(self, resolution: int) -> dict[str, tuple[Array, str]]:
        grid = Grid((resolution, resolution))
        cells = {axis: (grid.centers(i).numpy(), "1") for i, axis in enumerate(("x", "y"))}
        return cells | {f"{axis}_node": (grid.nodes(i).numpy(), "1") for i, axis in enumerate(("x", "y"))}

    def variables(self, resolution: int) -> dict[str, Variable]:
        (drawn,) = self.inputs
        return {
            drawn: Variable(("x", "y"), LONG_NAMES[drawn], dtype="float32"),
            "solution": Variable(("x_node", "y_node"), LONG_NAMES["solution"], dtype="float32"),
            "label_error": Variable((), LONG_NAMES["label_error"]),
        }

    def problem(self, field: Tensor) -> Diffusion:
        """Return the problem of fields (batch..., n, n), in double precision."""
        grid, drawn = Grid(tuple(field.shape[-2:])), field.double()
        if self.inputs == ("source",):
            return Diffusion(grid, self.coefficient, drawn)
        with known_batch():
            return Diffusion(grid, drawn, self.source)

    def generate(self, seed: int, first: int, count: int, resolution: int, device: torch.device) -> dict[str, Array]:
        self.check(resolution)
        size = self.chunk(resolution)
        bytes_per_cell = BYTES_PER_CELL if device.type == "cpu" else FIELD_BYTES_PER_CELL
        require_memory(bytes_per_cell * size * resolution**2, f"a chunk of {self.name} at resolution {resolution}")
        start = first - first % size
        chunks = [self._chunk(seed, begin, resolution, device) for begin in range(start, first + count, size)]
        wanted = slice(first - start, first - start + count)
        return {name: np.concatenate([chunk[name] for chunk in chunks])[wanted] for name in chunks[0]}

    def _chunk(self, seed: int, first: int, resolution: int, device: torch.device) -> dict[str, Array]:
        """Generate one whole chunk; its samples are solved together, so results are reproducible bit for bit."""
        indices = range(first, first + self.chunk(resolution))
        field = self.draw([sample_rng(seed, index) for index in indices], resolution).astype(np.float32)
        problem = self.problem(torch.from_numpy(field).to(device))
        try:
            solution = solve(problem, method=METHOD, rtol=RTOL, throw=True)
        except ConvergenceError as error:
            raise ConvergenceError(
                f"recipe {self.name}, samples {indices[0]} to {indices[-1]} of seed {seed}: {error}"
            ) from None
        stored = solution.values.float()
        label_error = relative_error_bound(problem, stored)
        return {
            self.inputs[0]: field,
            "solution": stored.cpu().numpy(),
            "label_error": label_error.cpu().numpy(),
        }


def relative_error_bound(problem: Diffusion, values: Tensor) -> Tensor:
    """Return a guaranteed bound of |||u - v||| / |||u||| for nodal values v that are zero on the boundary.

    Since f(v) = a(u, v), |||u||| is at least f(v) / |||v|||. This is sharper than the |||v||| - |||u - v||| of the
    certificate, and positive even on grids where the error is as large as the solution.
    """
    certificate, form = certify(problem, values, lower=False), EnergyForm(problem)
    field = values.double()
    least = (form.load * field).sum((-2, -1)) / certificate.energy
    return torch.minimum(certificate.relative_upper, torch.where(least > 0, certificate.upper / least, torch.inf))


class TwoPhaseRecipe(DiffusionRecipe):
    """Base class of recipes for Darcy flow through two materials: `high` where a Gaussian field is >= 0, else `low`.

    For one seed and sample the field has the same cosine modes at every resolution that represents them.
    """

    inputs = ("coefficient",)
    tau: ClassVar[float]
    alpha: ClassVar[float] = 2.0
    high: ClassVar[float]
    low: ClassVar[float]

    def draw(self, sources: Sequence[np.random.Generator], resolution: int) -> NDArray[np.float64]:
        field = cosine_field(sources, (resolution, resolution), tau=self.tau, alpha=self.alpha)
        return np.where(field >= 0, self.high, self.low)

    def drawing(self) -> dict[str, JSON]:
        return {
            "field": GAUSSIAN,
            "tau": self.tau,
            "alpha": self.alpha,
            "coefficient where the field is >= 0": self.high,
            "coefficient where the field is < 0": self.low,
        }
