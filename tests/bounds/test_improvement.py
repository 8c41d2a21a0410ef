"""Local improvement of a flux: circulations only, and only where they help."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.bounds._flux import divergence, equilibrated_flux
from sciml_bounds.bounds._improvement import improve_flux
from sciml_bounds.bounds._majorant import majorant
from sciml_bounds.problems.transfers import with_periodic_copies


def problem_of(kind: str, shape: tuple[int, ...]) -> sb.Diffusion:
    rng = np.random.default_rng(2)
    names = [f"{axis}{end}" for axis in "xyz"[: len(shape)] for end in (0, 1)]
    sides: dict[str, sb.Boundary] = dict.fromkeys(names, sb.Dirichlet(0.0))
    if kind == "mixed":
        sides |= {"x1": sb.Robin(1.0, 0.3), "y0": sb.Neumann(0.2)}
    if kind == "periodic":
        sides |= {"y0": sb.Periodic(), "y1": sb.Periodic()}
    solid = rng.random(shape) < 0.15 if kind == "solids" else None
    a = np.where(rng.random(shape) < 0.5, 100.0, 1.0)
    return sb.Diffusion(sb.Grid(shape), a, rng.standard_normal(shape), boundary=sides, solid=solid)


@pytest.mark.parametrize("shape", [(7, 6), (4, 3, 4)], ids=["2d", "3d"])
@pytest.mark.parametrize("kind", ["plain", "mixed", "periodic", "solids"])
def test_circulations_lower_the_bound_and_change_no_divergence(kind, shape):
    """Fluxes through walls, Neumann and Robin faces stay as they are, and so do all divergences, to round-off."""
    problem = problem_of(kind, shape)
    v = with_periodic_copies(problem.samples(sb.solve(problem).values), problem.periodic)
    faces = equilibrated_flux(problem)
    before = majorant(problem, v, faces)
    totals = [before.total.item()]
    for steps in (1, 2, 4, 16):
        better = improve_flux(problem, v, faces, before.squared, steps)
        totals.append(majorant(problem, v, better).total.item())
        change = tuple(new - old for new, old in zip(better, faces))
        assert sum(float(c.abs().max()) for c in change) > 1e-4
        size = max(float(c.abs().max()) / h for c, h in zip(change, problem.grid.spacing))
        assert float(divergence(change, problem.grid.spacing).abs().max()) <= 1e-14 * size
        for axis, face in enumerate(change):
            fluid = problem.fluid[0].movedim(axis, 0)
            closed = torch.zeros(len(fluid) + 1, *fluid.shape[1:], dtype=torch.bool)
            closed[1:] |= ~fluid
            closed[:-1] |= ~fluid
            for end in (0, 1):
                if isinstance(problem.boundary[f"{'xyz'[axis]}{end}"], sb.Neumann | sb.Robin):
                    closed[-end] = True
            assert float(face[0].movedim(axis, 0)[closed].abs().max()) == 0 if closed.any() else True
            if problem.periodic[axis]:
                assert torch.equal(face[0].select(axis, 0), face[0].select(axis, -1))
    assert all(after < before for before, after in pairwise(totals))


def test_many_steps_over_all_loops_reach_the_best_flux():
    """Dense least squares over all the loops of a box gives the smallest flux term; marking leaves little of it."""
    n = 4
    problem = problem_of("plain", (n, n))
    v = sb.solve(problem).values.unsqueeze(0)
    faces = equilibrated_flux(problem)
    start = majorant(problem, v, faces)
    columns = []
    for i in range(n + 1):
        for k in range(n + 1):
            loop = torch.zeros(1, n + 1, n + 1, dtype=torch.float64)
            loop[0, i, k] = 1.0
            columns.append((torch.diff(loop, dim=2), -torch.diff(loop, dim=1)))

    def squared(y: tuple[torch.Tensor, ...]) -> float:
        return majorant(problem, v, y).flux.sum().item()

    # The flux term is quadratic: its matrix and slope by polarisation.
    count = len(columns)
    base = squared(faces)
    single = [squared(tuple(f + c for f, c in zip(faces, column))) for column in columns]
    homogeneous = problem.replace(source=0.0)
    zero = torch.zeros_like(v)

    def energy(y: tuple[torch.Tensor, ...]) -> float:
        return majorant(homogeneous, zero, y).flux.sum().item()

    own = [energy(column) for column in columns]
    gram = np.empty((count, count))
    for i in range(count):
        for k in range(i + 1):
            both = energy(tuple(p + q for p, q in zip(columns[i], columns[k])))
            gram[i, k] = gram[k, i] = (both - own[i] - own[k]) / 2
    slope = np.array([(s - base - o) / 2 for s, o in zip(single, own)])
    best = base - slope @ np.linalg.lstsq(gram, slope, rcond=1e-10)[0]
    everywhere = torch.ones_like(start.squared)
    found = squared(improve_flux(problem, v, faces, everywhere, 100))
    assert best * (1 - 1e-9) <= found <= base
    assert found <= best + 0.1 * (base - best)  # the marked share of 90 %


def test_nothing_circulates_on_a_line():
    problem = sb.Diffusion(sb.Grid(6), 1.0, 1.0)
    faces = equilibrated_flux(problem)
    v = torch.zeros(1, 7, dtype=torch.float64)
    assert improve_flux(problem, v, faces, torch.ones(1, 6), 3) is faces
