"""The vectors of the hypercircle: their norms are the majorant, their products what quadrature says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.bounds._flux import equilibrated_flux
from sciml_bounds.bounds._hypercircle import hypercircle_vector
from sciml_bounds.bounds._majorant import majorant


def problem_of(shape: tuple[int, ...], *, reaction: bool, solids: bool = False) -> sb.Diffusion:
    rng = np.random.default_rng(len(shape))
    sides = {
        "x0": sb.Robin(0.8, 0.3), "x1": sb.Dirichlet(0.5), "y0": sb.Neumann(0.2), "y1": sb.Robin(2.0, -1.0),
        "z0": sb.Dirichlet(0.5), "z1": sb.Robin(0.0, 0.1),
    }  # fmt: skip
    grid = sb.Grid(shape, lengths=(1.0, 0.6, 1.5)[: len(shape)])
    solid = rng.random(shape) < 0.2 if solids else None
    return sb.Diffusion(
        grid, tuple(np.exp(rng.standard_normal(shape)) for _ in shape), rng.standard_normal(shape), solid=solid,
        boundary={side: sides[side] for side in grid.sides}, reaction=2 * rng.random(shape) * reaction,
    )  # fmt: skip


def nodal(problem: sb.Diffusion, seed: int) -> torch.Tensor:
    field = torch.randn(problem.node_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return problem.impose_boundary(torch.where(problem.active_nodes[0], field, 0.0))


SHAPES = pytest.mark.parametrize("shape", [(6,), (5, 4), (3, 4, 3)], ids=["1d", "2d", "3d"])


@SHAPES
def test_norm_is_the_majorant_without_oscillation(shape):
    problem = problem_of(shape, reaction=False, solids=len(shape) > 1)
    v, faces = nodal(problem, 0).unsqueeze(0), equilibrated_flux(problem)
    vector = hypercircle_vector(problem, v, faces)
    assert vector.norm.item() == pytest.approx(majorant(problem, v, faces).total.item(), rel=1e-13)
    assert vector.oscillation.item() == 0


@SHAPES
def test_products_are_the_integrals(shape, gauss):
    """(y - a grad v, z - a grad w) / a + (r', s') / c + (rho, sigma) / alpha on Robin sides; m ||r - r'|| is apart."""
    problem = problem_of(shape, reaction=True)
    rng = np.random.default_rng(3)
    exact = gauss(problem)
    volume = problem.grid.cell_volume
    vectors, parts = [], []
    for seed in range(2):
        v = nodal(problem, seed)
        faces = [rng.standard_normal([n + (k == axis) for k, n in enumerate(shape)]) for axis in range(len(shape))]
        vectors.append(hypercircle_vector(problem, v.unsqueeze(0), tuple(torch.as_tensor(y)[None] for y in faces)))
        mismatch = [y - a * dv for y, a, dv in zip(exact.flux(faces), exact.a, exact.gradient(v))]
        residual = exact.f + exact.divergence(faces) - exact.c * exact.value(v)
        sides = {}
        for side, condition in problem.boundary.items():
            if isinstance(condition, sb.Robin) and condition.alpha.max() > 0:
                axis, end = "xyz".index(side[0]), int(side[1])
                outward = exact.side_data(faces[axis].take(-end, axis)) * (1 if end else -1)
                alpha, g = exact.side_data(condition.alpha), exact.side_data(condition.g)
                sides[side] = (g - alpha * exact.at_side(side, v) - outward) / np.sqrt(alpha)
        parts.append((mismatch, exact.cells(exact.per_cell(residual) / volume), sides, residual))
    for i, k in ((0, 0), (0, 1), (1, 1)):
        (p, r, rho, full), (q, s, sigma, _) = parts[i], parts[k]
        expected = sum(exact.integral(x * y / a) for x, y, a in zip(p, q, exact.a))
        expected += exact.integral(r * s / exact.c)
        expected += sum(exact.side_integral(side, rho[side] * sigma[side]) for side in rho)
        assert vectors[i].dot(vectors[k]).item() == pytest.approx(expected, rel=1e-11)
        if i == k:
            m = np.max([h / np.pi / np.sqrt(a) for h, a in zip(problem.grid.spacing, exact.a)], axis=0)
            size = np.sqrt(exact.integral(m**2 * (full - r) ** 2))
            assert vectors[i].oscillation.item() == pytest.approx(size, rel=1e-11)
