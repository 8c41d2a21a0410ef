"""Fluxes for the gap: in equilibrium, improved step by step, and nearly the best there is."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import torch

import sciml_bounds as sb
from sciml_bounds.bounds._dual_flux import DualFlux
from sciml_bounds.bounds._fenchel import Fenchel
from sciml_bounds.bounds._flux import divergence

SIDES = {
    "held": dict.fromkeys(("x0", "x1", "y0", "y1"), sb.Dirichlet(0.0)),
    "mixed": {"x0": sb.Dirichlet(1.0), "x1": sb.Neumann(0.4), "y0": sb.Periodic(), "y1": sb.Periodic()},
    "floating": dict.fromkeys(("x0", "x1", "y0", "y1"), sb.Neumann(0.0)),
}
DENSITIES = {
    "shear thinning": sb.variational.ShearThinning(3.0, lambda x, y: 1 + x),
    "p = 3": sb.variational.PLaplacian(3),
    "p = 1.5, reaction": sb.variational.PLaplacian(1.5, reaction=lambda x, y: 5.0 * (x > 0.5), power=4),
    "surface": sb.variational.MinimalSurface(2.0),
}


def made(density: str, sides: str) -> tuple[sb.variational.VariationalProblem, DualFlux]:
    grid = sb.Grid((4, 3))
    source = np.cos(np.pi * (np.arange(4) + 0.5) / 4)[:, None] * np.ones(3)
    problem = sb.variational.VariationalProblem(grid, DENSITIES[density], source, boundary=SIDES[sides])
    generator = torch.Generator().manual_seed(0)
    v = problem.impose_boundary(torch.randn(problem.node_shape, generator=generator, dtype=torch.float64) / 4)
    nodes = torch.cat([v, v[:, :1]], 1) if problem.frame.periodic[1] else v
    return problem, DualFlux(Fenchel(problem), nodes)


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("density", DENSITIES)
def test_fluxes_are_in_equilibrium_and_steps_lower_the_gap(density, sides):
    problem, dual = made(density, sides)
    first, best = dual.linearised(1e-3), dual.compute(1e-3)
    for faces in (first, best):
        left = divergence(tuple(f.unsqueeze(0) for f in faces), problem.grid.spacing)[0] + problem.source
        held = torch.where(dual.fenchel.c > 0, 0.0, left)
        assert float(held.abs().max()) < 1e-11
        if sides == "mixed":
            torch.testing.assert_close(faces[0][-1], torch.full((3,), 0.4, dtype=torch.float64))
            torch.testing.assert_close(faces[1][:, 0], faces[1][:, -1])
    assert 0 < dual.gap(best) <= dual.gap(first)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("shear thinning", "p = 1.5, reaction")]


@pytest.mark.parametrize("density", ["p = 3", *SLOW])
def test_the_gap_is_nearly_the_least_of_all_fluxes(density):
    """Against scipy, which minimises over circulations (and divergences where there is a reaction)."""
    _, dual = made(density, "held")
    best = dual.compute(1e-3)
    shapes = [face.shape for face in best]
    moves = admissible_moves(dual, shapes)

    def fun(z: np.ndarray) -> float:
        step = torch.as_tensor(moves @ z)
        parts = step.split([shape.numel() for shape in shapes])
        return dual.gap(tuple(face + part.view(face.shape) for face, part in zip(best, parts)))

    least = scipy.optimize.minimize(fun, np.zeros(moves.shape[1]), method="BFGS", options={"maxiter": 60}).fun
    assert dual.gap(best) <= 1.03 * least  # steps end at gains of 2 %, and the last one was taken


def admissible_moves(dual: DualFlux, shapes: list[torch.Size]) -> np.ndarray:
    """A basis of the fluxes whose divergence vanishes where there is no reaction."""
    sizes = [shape.numel() for shape in shapes]
    rows = []
    for k in range(sum(sizes)):
        unit = torch.eye(sum(sizes), dtype=torch.float64)[k].split(sizes)
        faces = tuple(part.view(1, *shape) for part, shape in zip(unit, shapes))
        rows.append(divergence(faces, dual.grid.spacing)[0][dual.fenchel.c == 0])
    return scipy.linalg.null_space(torch.stack(rows, 1).numpy())


@pytest.mark.parametrize("sides", ["held", "mixed"])
@pytest.mark.parametrize("density", DENSITIES)
def test_the_derivative_is_that_of_the_gap(density, sides):
    """Central differences with h = 1e-6, in directions that keep prescribed fluxes."""
    _, dual = made(density, sides)
    faces, h = dual.compute(1e-3), 1e-6
    gradient, W, _ = dual._derivatives(faces)
    generator = torch.Generator().manual_seed(1)
    moves = [torch.randn(face.shape, generator=generator, dtype=torch.float64) * (w > 0) for face, w in zip(faces, W)]
    if sides == "mixed":
        moves[1][:, -1] = moves[1][:, 0]
    ends = [dual.gap(tuple(face + sign * h * move for face, move in zip(faces, moves))) for sign in (1, -1)]
    slope = sum(
        float((g * z).sum())
        for g, z in zip(dual._without_periodic_copies(gradient), dual._without_periodic_copies(tuple(moves)))
    )
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-4, abs=1e-6)
