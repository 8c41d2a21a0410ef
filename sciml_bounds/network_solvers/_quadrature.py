"""Quadrature over a box: Gauss points on cells in up to three dimensions, Sobol points in more."""

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

#: Gauss points per axis in each cell, by dimension. In one dimension, ReLU kinks lie between cells, and 4 points
#: integrate squares of cubics exactly.
POINTS = {1: 4, 2: 3, 3: 2}
#: Cells per axis, by dimension; POINTS times CELLS is the minimum number of points per axis.
CELLS = {1: 512, 2: 32, 3: 8}
#: Maximum number of points per axis in each cell for functions without kinks. For a given number of points, few cells
#: with many points integrate products of hundreds of smooth neurons far better, so fits cannot exploit integration
#: errors.
MAX_POINTS = {1: 4, 2: 12, 3: 16}
#: Minimum number of points per function of a fit.
OVERSAMPLING = 8
#: Number of points in more than three dimensions.
N_SAMPLES = 2**13


@dataclass(frozen=True)
class Quadrature:
    """Quadrature rule sum_q w_q f(x_q) for the integral of f over a box.

    Attributes
    ----------
    points : Tensor, shape (q, d)
        Points x.
    weights : Tensor, shape (q,)
        Weights w.
    cells : tuple of int
        Number of cells along each axis for Gauss points; empty for Sobol points.
    words : str
        Description of the rule.
    """

    points: Tensor
    weights: Tensor
    cells: tuple[int, ...]
    words: str


def gauss(box: Box, cells: tuple[int, ...], count: int | None = None) -> Quadrature:
    """Return the Gauss rule on equal cells, with `count` points along each axis of a cell."""
    count = count or POINTS[box.dim]
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(count))
    axes = [((torch.arange(n)[:, None] + (nodes + 1) / 2) / n).flatten() for n in cells]
    shares = [(weights / (2 * n)).repeat(n) for n in cells]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, box.dim)
    products = torch.stack(torch.meshgrid(*shares, indexing="ij"), -1).reshape(-1, box.dim).prod(-1)
    words = f"{count} Gauss points per axis in {' x '.join(map(str, cells))} cells"
    return Quadrature(box.points(points), products * box.volume, cells, words)


def sobol(box: Box, count: int, seed: int) -> Quadrature:
    """Return scrambled Sobol points with equal weights."""
    engine = torch.quasirandom.SobolEngine(box.dim, scramble=True, seed=seed % 2**64)  # callers may pass seed + 1
    points = box.points(engine.draw(count, dtype=torch.float64))
    weights = torch.full((count,), box.volume / count, dtype=torch.float64)
    return Quadrature(points, weights, (), f"{count} scrambled Sobol points")


def quadrature_of(
    problem: VariationalProblem, *, least: int = 0, kinked: bool = False, fineness: int = 1, seed: int = 0
) -> Quadrature:
    """Choose a quadrature rule for a problem; its cells subdivide the cells of the grid, on which data are constant.

    Parameters
    ----------
    problem : VariationalProblem
        The problem.
    least : int
        Minimum number of points.
    kinked : bool
        Whether to use more cells with fewer points each, for functions with kinks.
    fineness : int
        Factor of the number of points along each axis, or of the number of samples in more than three dimensions.
    seed : int
        Seed of Sobol points.
    """
    dim = problem.dim
    if dim > 3:
        doublings = math.ceil(math.log2(max(least / N_SAMPLES, 1)))
        return sobol(problem.box, N_SAMPLES * 2**doublings * fineness, seed)
    own = problem.grid.shape if problem.grid is not None else (1,) * dim
    wanted = max(POINTS[dim] * CELLS[dim], math.ceil(least ** (1 / dim))) * fineness
    most = POINTS[dim] if kinked else MAX_POINTS[dim]
    cells = tuple(n * math.ceil(wanted / (most * n)) for n in own)
    return gauss(problem.box, cells, max(POINTS[dim], *(math.ceil(wanted / n) for n in cells)))


def points_for(
    problem: VariationalProblem, network: BarronNetwork, *, times: int = 1, fineness: int = 1, seed: int = 0
) -> Quadrature:
    """Choose a quadrature rule for a fit of outer weights and affine part, with `times` the usual number of points."""
    least = times * OVERSAMPLING * (1 + network.dimension + network.width)
    kinked = network.activation.name in ("relu", "step")
    return quadrature_of(problem, least=least, kinked=kinked, fineness=fineness, seed=seed)
