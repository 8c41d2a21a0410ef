"""Helmholtz equation with random wave speed, solved by bilinear elements as published, and to high accuracy."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sciml_bounds.problems.helmholtz import Helmholtz, Strip
from sciml_bounds.recipes._recipe import JSON, Array, Recipe, Variable, sample_rng

__all__ = ["HELMHOLTZ", "HELMHOLTZ_CONVERGED", "modes", "wave_speed"]

_FREQUENCY = 1000.0
_FLUX = {"y1": Strip(0.35, 0.65)}
_MODES = 100
_TAU = 3.0
_MEAN = 20.0

#: Element degrees of the labels of helmholtz-converged, and of the reference solutions for their error estimate.
_DEGREE, _REFINED_DEGREE = 8, 10

#: Distances of additional mesh lines from the ends of the strip, where du/dn jumps: 15 % and 2.25 % of a cell.
_GRADING = (0.0075, 0.001125)


def modes() -> tuple[Array, Array, Array]:
    """Return the Karhunen-Loeve expansion of the Gaussian field g, lowest modes first.

    Its covariance is (-Lap + tau^2)^-2 with Neumann sides; the mode (l1, l2) is cos(l1 pi x) cos(l2 pi y), normalised.

    Returns
    -------
    (array, array, array)
        Indices (100, 2), sorted by l1^2 + l2^2 and then by l1, without (0, 0); eigenvalues (100,) of the covariance;
        factors (100,) that normalise the modes.
    """
    pairs = [(k, m) for k in range(_MODES) for m in range(_MODES) if 0 < k * k + m * m <= 2 * _MODES]
    pairs.sort(key=lambda pair: (pair[0] ** 2 + pair[1] ** 2, pair))
    indices = np.array(pairs[:_MODES])
    eigenvalues = (math.pi**2 * (indices**2).sum(1) + _TAU**2) ** -2.0
    factors = np.where((indices == 0).any(1), math.sqrt(2.0), 2.0)
    return indices, eigenvalues, factors


def wave_speed(seed: int, index: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the wave speed c = 20 + tanh(g) of one sample, as a function of `ij`-indexed lattice coordinates."""
    indices, eigenvalues, factors = modes()
    theta = sample_rng(seed, index).standard_normal(_MODES)
    size = int(indices.max()) + 1
    series = np.zeros((size, size))
    series[indices[:, 0], indices[:, 1]] = theta * np.sqrt(eigenvalues) * factors

    def speed(x: Tensor, y: Tensor) -> Tensor:
        along = torch.arange(size, dtype=torch.float64) * math.pi
        along_x, along_y = torch.cos(x[:, :1] * along), torch.cos(y[0, :, None] * along)
        return _MEAN + torch.tanh(along_x @ torch.from_numpy(series) @ along_y.T)

    return speed


class _Waves(Recipe):
    """Base class of both recipes: random wave speeds and locations of the values."""

    reference = (
        "M. V. de Hoop, D. Z. Huang, E. Qian, A. M. Stuart: The cost-accuracy trade-off in operator learning with "
        "neural networks, Journal of Machine Learning 1 (2022)"
    )
    resolution = 100
    samples = 4000
    inputs = ("wave_speed",)
    targets = ("solution",)
    layout = "nodes->nodes"

    def chunk(self, resolution: int) -> int:
        return 8

    def parameters(self, resolution: int) -> dict[str, JSON]:
        return {
            "frequency": _FREQUENCY,
            "flux": {"side": "y1", "low": _FLUX["y1"].low, "high": _FLUX["y1"].high, "value": _FLUX["y1"].value},
            "wave_speed": {"mean": _MEAN, "modes": _MODES, "tau": _TAU, "power": 2},
            "elements": self._elements(resolution),
        }

    @abstractmethod
    def _elements(self, resolution: int) -> dict[str, JSON]:
        """Return the parameters of the finite elements."""

    def coordinates(self, resolution: int) -> dict[str, tuple[Array, str]]:
        lines = np.linspace(0.0, 1.0, resolution + 1)
        return {"x_node": (lines, "1"), "y_node": (lines, "1")}

    def variables(self, resolution: int) -> dict[str, Variable]:
        nodes = ("x_node", "y_node")
        return {"wave_speed": Variable(nodes, "wave speed"), "solution": Variable(nodes, "pressure")}

    def generate(self, seed: int, first: int, count: int, resolution: int, device: torch.device) -> dict[str, Array]:
        """Solve the samples one by one by sparse factorisations, on the CPU for every device."""
        solved = [self._sample(wave_speed(seed, index), resolution) for index in range(first, first + count)]
        return {name: np.stack([sample[name] for sample in solved]) for name in self.variables(resolution)}

    @abstractmethod
    def _sample(self, speed: Callable[[Tensor, Tensor], Tensor], resolution: int) -> dict[str, Array]:
        """Solve one sample."""


class _BilinearWaves(_Waves):
    name = "helmholtz"
    title = "Helmholtz, the published discrete map (bilinear elements)"
    description = (
        "-Lap u - (1000 / c)^2 u = 0 on the unit square; du/dn is 1 on the part 0.35 <= x <= 0.65 of the side y = 1 "
        "and 0 elsewhere; c = 20 + tanh(g) with g a Gaussian field of 100 cosine modes. The label is the solution of "
        "bilinear elements on resolution x resolution cells with 3 x 3 Gauss points and c bilinear between the nodes, "
        "as the authors computed it. At the published 100 cells the labels are far from the solution of the "
        "differential equation: they differ by 59 to 107 % in 150 samples (pollution error: the discrete waves are "
        "slightly too long, which adds up over eight wave lengths). A network trained on them learns this "
        "discretisation, which differs at every resolution. The recipe helmholtz-converged has the same wave speeds "
        "and the solution of the equation. Two modes tie for the hundredth place: (4, 10) is included, (10, 4) is not. "
        "The resolution is the number of cells per axis."
    )

    def _elements(self, resolution: int) -> dict[str, JSON]:
        return {"degree": 1, "cells": resolution, "gauss_points": 3}

    def _sample(self, speed: Callable[[Tensor, Tensor], Tensor], resolution: int) -> dict[str, Array]:
        nodal = speed(*_lattice(resolution))
        solution = Helmholtz(resolution, nodal, frequency=_FREQUENCY, flux=_FLUX).solve()
        return {"wave_speed": nodal.numpy(), "solution": solution.values.numpy()}


class _ConvergedWaves(_Waves):
    name = "helmholtz-converged"
    title = "Helmholtz, the solution of the differential equation"
    description = (
        "The wave speeds of the recipe helmholtz with the solution of the differential equation as the label: elements "
        "of degree 8 on 28 x 22 cells, graded towards the ends of the strip where du/dn jumps, with c from its cosine "
        "series, evaluated at the nodes of the published lattice. Each sample stores refinement_error, the relative l2 "
        "difference at those nodes to a solution of degree 10: an estimate of the error of the label, not a bound. The "
        "resolution is the number of lattice cells per axis and does not change the solution."
    )

    def _elements(self, resolution: int) -> dict[str, JSON]:
        x, y = _graded_lines()
        return {"degree": _DEGREE, "refined_degree": _REFINED_DEGREE, "x_lines": x, "y_lines": y}

    def variables(self, resolution: int) -> dict[str, Variable]:
        words = "relative l2 difference at the nodes to a solution of higher degree (estimate)"
        return {**super().variables(resolution), "refinement_error": Variable((), words)}

    def _sample(self, speed: Callable[[Tensor, Tensor], Tensor], resolution: int) -> dict[str, Array]:
        problem = Helmholtz(_graded_lines(), speed, frequency=_FREQUENCY, flux=_FLUX)
        nodes = torch.linspace(0, 1, resolution + 1, dtype=torch.float64)
        label, refined = (problem.solve(degree).at(nodes, nodes) for degree in (_DEGREE, _REFINED_DEGREE))
        difference = (label - refined).norm() / refined.norm()
        return {
            "wave_speed": speed(*_lattice(resolution)).numpy(),
            "solution": label.numpy(),
            "refinement_error": difference.numpy(),
        }


def _lattice(cells: int) -> tuple[Tensor, ...]:
    nodes = torch.from_numpy(np.linspace(0.0, 1.0, cells + 1))
    return torch.meshgrid(nodes, nodes, indexing="ij")


def _graded_lines() -> tuple[list[float], list[float]]:
    """Return mesh lines along x and y: 20 equal cells, and two more lines on each side of each end of the strip.

    Where du/dn jumps, u behaves like r log r, which polynomials on a uniform mesh approximate poorly.
    """
    uniform = [line / 20 for line in range(21)]
    strip = _FLUX["y1"]
    near_ends = [end + sign * step for end in (strip.low, strip.high) for sign in (-1, 1) for step in _GRADING]
    return sorted(uniform + near_ends), sorted(uniform + [1 - step for step in _GRADING])


HELMHOLTZ = _BilinearWaves()
HELMHOLTZ_CONVERGED = _ConvergedWaves()
