"""What an iterative solve left, bounded by flows on a spanning forest: against dense linear algebra."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.bounds._thomson import energy_error_bound
from sciml_bounds.operators._lattice_operator import LatticeOperator
from sciml_bounds.problems.discretization import cell_fluxes, node_system


def true_error(operator: LatticeOperator, rhs: torch.Tensor, x: torch.Tensor, sample: int) -> float:
    """||x - A^+ b||_A by a dense eigenvalue decomposition, through the range of A."""
    matrix = operator.to_csr(sample if operator.batch > 1 else 0).toarray()
    values, vectors = np.linalg.eigh(matrix)
    residual = vectors.T @ (rhs[sample].numpy() - matrix @ x[sample].numpy())
    kept = values > 1e-12 * values.max()
    return float(np.sqrt((residual[kept] ** 2 / values[kept]).sum()))


def random_problem(seed: int, *, float_freely: bool) -> sb.Diffusion:
    """Jumps of 1e4, a third of the cells solid, reaction here and there, or nothing that holds the level."""
    rng = np.random.default_rng(seed)
    shape = [(9, 7), (4, 3, 4), (12,)][seed % 3]
    solid = rng.random((2, *shape)) < 0.33
    solid[:, *[0] * len(shape)] = False
    a = 10.0 ** rng.integers(-2, 3, (2, *shape))
    if float_freely:
        return sb.Diffusion(sb.Grid(shape), a, 0.0, boundary=sb.Neumann(0.0), solid=solid)
    sides = {side: sb.Neumann(0.0) for side in sb.Grid(shape).sides} | {"x0": sb.Dirichlet(0.0), "x1": sb.Robin(0.5)}
    c = rng.random(shape) * (rng.random(shape) > 0.6) + 1e-3
    return sb.Diffusion(sb.Grid(shape), a, rng.standard_normal(shape), boundary=sides, solid=solid, reaction=c)


@pytest.mark.parametrize("float_freely", [False, True])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("nodal", [True, False])
def test_bound_holds_for_any_x(nodal, seed, float_freely):
    problem = random_problem(seed, float_freely=float_freely)
    system = node_system(problem) if nodal else cell_fluxes(problem).system
    operator = system.operator
    rng = np.random.default_rng(seed)
    solution = torch.as_tensor(rng.standard_normal((2, operator.shape[0])))
    rhs = operator.matvec(solution)  # in the range, whatever floats
    for size in (1.0, 1e-6):
        x = solution + size * torch.as_tensor(rng.standard_normal(solution.shape))
        bound = energy_error_bound(operator, rhs.view(system.rhs.shape), x)
        for sample in range(2):
            error = true_error(operator, rhs, x, sample)
            assert error <= bound[sample].item() * (1 + 1e-9)
            assert bound[sample].item() <= 100 * error  # wasteful, but not without limit on so few points


def test_on_a_chain_the_bound_is_exact():
    """There is one way out, so the flow is the one of the solution."""
    n = 20
    rng = np.random.default_rng(0)
    T = torch.as_tensor(10.0 ** rng.uniform(-3, 3, (1, 1, 1, 1, n)))
    T[..., -1] = 0.0
    c = torch.zeros(1, 1, 1, n, dtype=torch.float64)
    c[..., 0] = 0.7
    operator = LatticeOperator(((0, 0, 1),), T, c)
    x, b = (torch.as_tensor(rng.standard_normal((1, n))) for _ in range(2))
    bound = energy_error_bound(operator, b, x).item()
    assert bound == pytest.approx(true_error(operator, b, x, 0), rel=1e-9)


def test_exact_solution_leaves_only_round_off():
    problem = random_problem(0, float_freely=False)
    system = node_system(problem)
    matrices = [system.operator.to_csr(i).toarray() for i in range(2)]
    rhs = system.rhs.flatten(1)
    x = torch.stack([torch.as_tensor(np.linalg.solve(A, b.numpy())) for A, b in zip(matrices, rhs)])
    bound = energy_error_bound(system.operator, system.rhs, x)
    energy = torch.stack([(b * q).sum().sqrt() for b, q in zip(rhs, x)])
    assert bool((bound > 0).all())
    assert bool((bound < 1e-8 * energy).all())


def test_the_bound_covers_the_round_off_of_the_residual():
    """x is exact up to round-off, which a residual in double precision does not measure; fractions are exact.

    On a chain with one way out the flow is that of the solution: A e = s with |e|_A^2 = sum flow^2 / T + outflow^2 / c.
    """
    n, samples = 30, 8
    rng = np.random.default_rng(0)
    T = rng.uniform(0.5, 2.0, n)
    T[-1] = 0.0
    c = np.zeros(n)
    c[0] = 0.7
    operator = LatticeOperator(
        ((0, 0, 1),), torch.as_tensor(T).view(1, 1, 1, 1, n), torch.as_tensor(c).view(1, 1, 1, n)
    )
    x = torch.as_tensor(1 + rng.random((samples, n)))
    b = operator @ x
    bound = energy_error_bound(operator, b, x)
    exact_T, out = [Fraction(t) for t in T], Fraction(0.7)
    for computed, values, loads in zip(bound.tolist(), x.tolist(), b.tolist()):
        u = [Fraction(v) for v in values]
        steps = [t * (low - high) for t, low, high in zip(exact_T, u, u[1:])] + [Fraction(0)]  # flow to the right
        inflow = [out * u[0] * -1, *steps[:-1]]  # into each point from its left: what leaves through c is negative
        residual = [Fraction(load) - (step - into) for load, step, into in zip(loads, steps, inflow)]
        flows = [sum(residual[k:]) for k in range(n)]  # all that is supplied at k and beyond passes there
        conductances = [out, *exact_T]
        error = math.sqrt(sum(flow**2 / t for flow, t in zip(flows, conductances)))
        # at most 4 eps (8.7 * 2 + 5.4) = 2e-14 is added a point, 6e-13 flows, and 30 such flows have 5e-12 in energy
        assert 0 < error <= computed <= 5e-12
