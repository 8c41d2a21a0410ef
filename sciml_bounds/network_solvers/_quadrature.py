"""Points and weights of integrals over a box: Gauss points of cells in up to three dimensions, Sobol points above."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sciml_bounds.barron._barron_network import BarronNetwork
from sciml_bounds.grid import Box
from sciml_bounds.problems.variational_problem import VariationalProblem

__all__ = ["Quadrature", "gauss", "points_for", "quadrature_of", "sobol"]

#: Gauss points an axis in each cell, and cells an axis, by dimension: at least so many points along an axis. In one
#: dimension kinks of ReLUs lie between cells, and 4 points integrate squares of cubics exactly.
POINTS = {1: 4, 2: 3, 3: 2}
CELLS = {1: 512, 2: 32, 3: 8}
#: Points an axis in each cell at most where functions have no kinks. Of as many points, those of few cells with many
#: integrate products of hundreds of smooth neurons far better, and fits cannot make use of errors of integrals.
ORDER = {1: 4, 2: 12, 3: 16}
#: Points for each function of a fit at least.
OVERSAMPLING = 8
#: Points above three dimensions.
SAMPLES = 2**13


@dataclass(frozen=True)
class Quadrature:
    """sum_q w_q f(x_q), for the integral of f over a box.

    Attributes
    ----------
    points, weights
        x (q, d) and w (q,).
    cells
        Cells along each axis, for Gauss points; empty otherwise.
    words
        What it is, in words.
    """

    points: Tensor
    weights: Tensor
    cells: tuple[int, ...]
    words: str


def gauss(box: Box, cells: tuple[int, ...], count: int | None = None) -> Quadrature:
    """Take Gauss points of equal cells, `count` along each axis of a cell."""
    count = count or POINTS[box.dim]
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(count))
    axes = [((torch.arange(n)[:, None] + (nodes + 1) / 2) / n).flatten() for n in cells]
    shares = [(weights / (2 * n)).repeat(n) for n in cells]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, box.dim)
    products = torch.stack(torch.meshgrid(*shares, indexing="ij"), -1).reshape(-1, box.dim).prod(-1)
    words = f"{count} Gauss points an axis in {' x '.join(map(str, cells))} cells"
    return Quadrature(box.points(points), products * box.volume, cells, words)


def sobol(box: Box, count: int, seed: int) -> Quadrature:
    """Take scrambled Sobol points of equal weights."""
    engine = torch.quasirandom.SobolEngine(box.dim, scramble=True, seed=seed % 2**64)  # solvers ask for the next one
    points = box.points(engine.draw(count, dtype=torch.float64))
    weights = torch.full((count,), box.volume / count, dtype=torch.float64)
    return Quadrature(points, weights, (), f"{count} scrambled Sobol points")


def quadrature_of(
    problem: VariationalProblem, *, least: int = 0, kinked: bool = False, fineness: int = 1, seed: int = 0
) -> Quadrature:
    """Choose points for a problem: cells divide those of its grid, on which data are constant.

    `least` is the smallest number of points, `kinked` takes more cells with fewer points each, and `fineness`
    multiplies the points along each axis, or the samples above three dimensions.
    """
    dim = problem.dim
    if dim > 3:
        doublings = math.ceil(math.log2(max(least / SAMPLES, 1)))
        return sobol(problem.box, SAMPLES * 2**doublings * fineness, seed)
    own = problem.grid.shape if problem.grid is not None else (1,) * dim
    wanted = max(POINTS[dim] * CELLS[dim], math.ceil(least ** (1 / dim))) * fineness
    most = POINTS[dim] if kinked else ORDER[dim]
    cells = tuple(n * math.ceil(wanted / (most * n)) for n in own)
    return gauss(problem.box, cells, max(POINTS[dim], *(math.ceil(wanted / n) for n in cells)))


def points_for(
    problem: VariationalProblem, network: BarronNetwork, *, times: int = 1, fineness: int = 1, seed: int = 0
) -> Quadrature:
    """Choose points for fits of outer weights and affine part: some for each, or `times` as many."""
    least = times * OVERSAMPLING * (1 + network.dimension + network.width)
    kinked = network.activation.name in ("relu", "step")
    return quadrature_of(problem, least=least, kinked=kinked, fineness=fineness, seed=seed)
