"""Energies and gaps of cells, against numpy with many Gauss points."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.bounds._convex_sums import CellFlux, bubbles_of, gauss
from sciml_bounds.bounds._fenchel import Fenchel
from sciml_bounds.problems.scalar_functions import Regularised
from sciml_bounds.variational import MinimalSurface, PLaplacian, QuadraticEnergy, VariationalProblem

#: Density, and numpy functions of |p|, |y|, u, s for a = c = 1: g, g*, h, h*.
DENSITIES = {
    "quadratic": (QuadraticEnergy, {}, lambda r: r**2 / 2, lambda t: t**2 / 2, 2.0),
    "cubic reaction": (QuadraticEnergy, {"power": 4}, lambda r: r**2 / 2, lambda t: t**2 / 2, 4.0),
    "p = 3": (lambda **k: PLaplacian(3, **k), {}, lambda r: r**3 / 3, lambda t: t**1.5 / 1.5, 2.0),
    "p = 1.5": (lambda **k: PLaplacian(1.5, **k), {"power": 1.5}, lambda r: r**1.5 / 1.5, lambda t: t**3 / 3, 1.5),
    "minimal surface": (
        MinimalSurface, {}, lambda r: np.sqrt(1 + r**2), lambda t: -np.sqrt(1 - np.minimum(t, 1) ** 2), 2.0,
    ),
}  # fmt: skip


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(name: str, reaction: float) -> tuple[Fenchel, torch.Tensor, CellFlux, torch.Tensor, torch.Tensor]:
    grid = sb.Grid((3, 2), lengths=(1.0, 0.8))
    kind, more, *_ = DENSITIES[name]
    a, c = rand(3, 2, seed=1).exp(), reaction * rand(3, 2, seed=2).exp()
    density = kind(coefficient=a, reaction=c, **(more if reaction else {}))
    problem = VariationalProblem(grid, density, rand(3, 2, seed=3))
    nodes = rand(4, 3, seed=4)
    faces = (0.3 * rand(4, 2, seed=5) * a.min(), 0.3 * rand(3, 3, seed=6) * a.min())
    bubbles = {bits: 0.2 * mode for bits, mode in bubbles_of(nodes, 2).items()} if reaction else {}
    flux = CellFlux(grid, faces, bubbles)
    if not reaction:  # s = 0 is what the bound takes for granted
        problem.source = -flux.divergence
    return Fenchel(problem), nodes, flux, a, c


def by_numpy(name: str, fenchel: Fenchel, nodes: torch.Tensor, flux: CellFlux, a, c) -> tuple[np.ndarray, np.ndarray]:
    """The energy and the gap of each cell, by 12 Gauss points along each axis in 4 pieces."""
    _, more, g, conjugate, power = DENSITIES[name]
    power = power if more or name == "quadratic" else 2.0
    x, w = np.polynomial.legendre.leggauss(12)
    t = np.concatenate([(k + (x + 1) / 2) / 4 for k in range(4)])
    weights = np.tile(w / 8, 4)
    v, grid = nodes.numpy(), fenchel.grid
    energies, gaps = np.zeros(grid.shape), np.zeros(grid.shape)
    X, Y = np.meshgrid(t, t, indexing="ij")
    W = np.outer(weights, weights) * grid.cell_volume
    points = torch.as_tensor(np.stack([X, Y], -1).reshape(-1, 2))
    y = flux.at(points).numpy()
    s = flux.dual_at(points, fenchel.problem.source).numpy()
    for i, j in np.ndindex(*grid.shape):
        l, r, d, e = v[i, j], v[i + 1, j], v[i, j + 1], v[i + 1, j + 1]
        u = l * (1 - X) * (1 - Y) + r * X * (1 - Y) + d * (1 - X) * Y + e * X * Y
        px = ((r - l) * (1 - Y) + (e - d) * Y) / grid.spacing[0]
        py = ((d - l) * (1 - X) + (e - r) * X) / grid.spacing[1]
        yx, yy = (y[:, i, j, k].reshape(X.shape) for k in range(2))
        A, C, S = float(a[i, j]), float(c[i, j]), s[:, i, j].reshape(X.shape)
        energy = A * g(np.hypot(px, py)) + C * np.abs(u) ** power / power
        dual = A * conjugate(np.hypot(yx, yy) / A)
        if C > 0:
            q = power / (power - 1)
            dual = dual + C * np.abs(S / C) ** q / q
        energies[i, j] = (W * energy).sum()
        gaps[i, j] = (W * (energy + dual - yx * px - yy * py - S * u)).sum()
    return energies, gaps


@pytest.mark.parametrize("name", DENSITIES)
@pytest.mark.parametrize("reaction", [0.0, 1.0])
def test_energies_and_gaps_are_those_of_numpy(name, reaction):
    """Gauss points in 16 pieces are off by 1e-4 at most where powers have kinks, and bounds lie on their sides."""
    fenchel, nodes, flux, a, c = made(name, reaction)
    energies, gaps = (torch.as_tensor(q) for q in by_numpy(name, fenchel, nodes, flux, a, c))
    torch.testing.assert_close(fenchel.energy_estimate(nodes, 16), energies, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fenchel.gap_estimate(nodes, flux, gauss(16)), gaps, rtol=1e-3, atol=1e-4)
    slack = 1e-6 * energies.abs()
    excess = []
    for count in (1, 2, 8):
        above, below = fenchel.energy_above(nodes, count), fenchel.energy_below(nodes, count)
        gap = above + fenchel.dual_above(nodes, flux, count)
        assert (above >= energies - slack).all()
        assert (below <= energies + slack).all()
        assert (gap >= gaps - slack).all()
        excess.append([float(q.sum()) for q in (above - energies, energies - below, gap - gaps)])
    for first, last in zip(excess[0], excess[-1]):
        assert last <= first / 16 + 1e-6  # second order: a sixty-fourth, kinks apart


def test_of_quadratic_energies_one_subcell_is_exact():
    fenchel, nodes, flux, a, c = made("quadratic", 1.0)
    energies, gaps = (torch.as_tensor(q) for q in by_numpy("quadratic", fenchel, nodes, flux, a, c))
    torch.testing.assert_close(fenchel.energy_above(nodes, 1), energies, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(fenchel.energy_below(nodes, 1), energies, rtol=1e-12, atol=1e-12)
    gap = fenchel.energy_above(nodes, 1) + fenchel.dual_above(nodes, flux, 1)
    torch.testing.assert_close(gap, gaps, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("count", [1, 3])
def test_round_off_is_on_the_safe_side(count):
    """Quadratic energies of 256 cells in rational numbers: a (r - l)^2 / (2 h) + c h (l^2 + l r + r^2) / 6."""
    n, h = 256, Fraction(1, 64)
    a, c, v = rand(n, seed=1).exp(), rand(n, seed=2).exp(), rand(n + 1, seed=3)
    grid = sb.Grid(n, lengths=4.0)
    fenchel = Fenchel(VariationalProblem(grid, QuadraticEnergy(a, c), boundary=sb.Neumann(0.0)))
    above, below = fenchel.energy_above(v, count), fenchel.energy_below(v, count)
    energies = []
    for A, C, l, r in zip(*([Fraction(x) for x in part.tolist()] for part in (a, c, v[:-1], v[1:]))):
        energies.append(A * (r - l) ** 2 / (2 * h) + C * h * (l * l + l * r + r * r) / 6)
    assert all(Fraction(x) >= energy for x, energy in zip(above.tolist(), energies))
    assert all(Fraction(x) <= energy for x, energy in zip(below.tolist(), energies))
    torch.testing.assert_close(above, below, rtol=1e-13, atol=0.0)
    flux = CellFlux(grid, (rand(n + 1, seed=4),), {})  # y = a p and s = c v have no gap, and others have a known one
    dual = []
    for A, C, l, r, y, z in zip(
        *([Fraction(x) for x in part.tolist()] for part in (a, c, v[:-1], v[1:], flux.faces[0][:-1], flux.faces[0][1:]))
    ):
        s = (z - y) / h
        conjugates = h * (y * y + y * z + z * z) / (6 * A) + h * s * s / (2 * C)
        dual.append(conjugates - (y + z) * (r - l) / 2 - h * s * (l + r) / 2)
    assert all(Fraction(x) >= part for x, part in zip(fenchel.dual_above(v, flux, count).tolist(), dual))


def test_a_flux_out_of_reach_has_an_infinite_gap():
    fenchel, nodes, flux, *_ = made("minimal surface", 0.0)
    large = CellFlux(flux.grid, tuple(100 * face for face in flux.faces), {})
    assert fenchel.dual_above(nodes, large, 2).isinf().any()
    firmer = fenchel.with_profile(Regularised(fenchel.profile, 0.1))
    assert firmer.dual_above(nodes, large, 2).isfinite().all()
