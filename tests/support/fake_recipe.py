"""A recipe that costs nothing, in a module that workers can import."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sciml_bounds.errors import ConvergenceError
from sciml_bounds.recipes._recipe import Recipe, Variable, sample_rng


@dataclass(frozen=True, repr=False)
class FakeRecipe(Recipe):
    """Cells in, nodes out, four samples per chunk.

    `log` gets a line for each chunk; from the third chunk on, each waits until the file `gate` exists, if one is named.
    """

    name: str = "fake"
    title: str = "A fake"
    description: str = "Numbers that depend on the seed and the index."
    reference: str = "none"
    resolution: int = 4
    samples: int = 10
    inputs: tuple[str, ...] = ("coefficient",)
    targets: tuple[str, ...] = ("solution",)
    layout: str = "cells->nodes"
    scale: float = 1.0
    log: Path | None = None
    gate: Path | None = None
    failing: dict[int, str] = field(default_factory=dict)  # by the first sample of a chunk

    def chunk(self, resolution):
        return 4

    def parameters(self, resolution):
        return {"scale": self.scale, "shape": [resolution, resolution]}

    def coordinates(self, resolution):
        cells, nodes = (np.arange(resolution) + 0.5) / resolution, np.arange(resolution + 1) / resolution
        return {"x": (cells, "1"), "y": (cells, "1"), "x_node": (nodes, "1"), "y_node": (nodes, "1")}

    def variables(self, resolution):
        return {
            "coefficient": Variable(("x", "y"), "coefficient", dtype="float32"),
            "solution": Variable(("x_node", "y_node"), "solution", dtype="float64"),
            "label_error": Variable((), "relative error, guaranteed", dtype="float64"),
        }

    def generate(self, seed, first, count, resolution, device):
        self._misbehave(first)
        draws = [sample_rng(seed, i) for i in range(first, first + count)]
        coefficient = np.stack([draw.uniform(1, 2, (resolution, resolution)) for draw in draws]) * self.scale
        solution = np.stack([draw.standard_normal((resolution + 1, resolution + 1)) for draw in draws])
        if self.failing.get(first) == "nan":
            solution[1, 2, 3] = np.nan
        if self.failing.get(first) == "shape":
            solution = solution[:, 1:]
        index = np.arange(first, first + count, dtype=np.float64)
        return {"coefficient": coefficient.astype(np.float32), "solution": solution, "label_error": index / 100}

    def _misbehave(self, first):
        if self.log is not None:
            with self.log.open("a") as file:
                print(first, os.getpid(), os.environ.get("OMP_NUM_THREADS"), file=file)
        while self.gate is not None and first >= 8 and not self.gate.exists():
            time.sleep(0.01)
        match self.failing.get(first):
            case "sentence":
                raise ConvergenceError("the equation of sample 5 was not solved.")
            case "bug":
                raise ZeroDivisionError("a bug")
            case "die":
                os.kill(os.getpid(), 9)
