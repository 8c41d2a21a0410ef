"""The L2 bound, and the two parts of an error: that of the mesh and that of the model."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.bounds._energy import EnergyForm
from sciml_bounds.bounds._parts import model_interval


def rough_problem(batch: tuple[int, ...] = (), n: int = 8) -> sb.Diffusion:
    """Two dimensions, coefficients 12 and 3 per cell, one Neumann and one Robin side, reaction on some cells."""
    rng = np.random.default_rng(5)
    a = np.where(rng.random((*batch, n, n)) < 0.5, 12.0, 3.0)
    sides = {"x0": sb.Dirichlet(0.2), "x1": sb.Robin(1.0, 0.5), "y0": sb.Dirichlet(0.2), "y1": sb.Neumann(0.3)}
    c = rng.random((n, n)) * (rng.random((n, n)) > 0.5)
    return sb.Diffusion(sb.Grid((n, n)), a, rng.standard_normal((n, n)), boundary=sides, reaction=c)


def noisy(problem: sb.Diffusion, *batch: int, size: float = 0.05) -> torch.Tensor:
    v = sb.solve(problem).values
    noise = torch.randn(*batch, *problem.node_shape, dtype=v.dtype, generator=torch.Generator().manual_seed(1))
    return problem.impose_boundary(v + size * v.abs().max() * noise)


@pytest.mark.parametrize(
    ("sides", "reaction", "mu"),
    [
        (("D", "D"), 0.0, math.pi**2),
        (("D", "N"), 0.0, math.pi**2 / 4),
        (("R", "D"), 3.0, math.pi**2 / 4 + 3.0),
        (("N", "N"), 2.0, 2.0),
        (("N", "N"), 0.0, 0.0),
    ],
)
def test_l2_constant_is_the_smallest_eigenvalue(sides, reaction, mu):
    """On a box: (pi / l)^2 a between two Dirichlet sides, a quarter with one, and c; infinite where it is zero."""
    make = {"D": sb.Dirichlet(0.0), "N": sb.Neumann(0.0), "R": sb.Robin(1.0)}
    ends = {f"x{end}": make[kind] for end, kind in enumerate(sides)} | {"y0": sb.Neumann(0.0), "y1": sb.Neumann(0.0)}
    source = torch.as_tensor(np.random.default_rng(0).standard_normal((6, 4)))
    grid = sb.Grid((6, 4), lengths=(2.0, 1.0))
    problem = sb.Diffusion(grid, 4.0, source - source.mean(), boundary=ends, reaction=reaction)  # a / l^2 = 1
    certificate = sb.certify(problem, torch.zeros(problem.node_shape, dtype=torch.float64))
    expected = certificate.upper.item() / math.sqrt(mu) if mu else math.inf
    assert certificate.l2_upper.item() == pytest.approx(expected, rel=1e-12)


def test_l2_constant_of_a_diagonal_coefficient():
    """a = (1, 9) on a box of sides 1 and 3: pi^2 (1 + 9 / 9); the smallest coefficient of each axis counts."""
    a = torch.ones(4, 4, dtype=torch.float64)
    problem = sb.Diffusion(sb.Grid((4, 4), lengths=(1.0, 3.0)), (a + a.cumsum(0) - 1, 9 * a), 1.0)
    certificate = sb.certify(problem, torch.zeros(5, 5, dtype=torch.float64))
    expected = certificate.upper.item() / (math.sqrt(2) * math.pi)
    assert certificate.l2_upper.item() == pytest.approx(expected, rel=1e-12)


def test_l2_bound_holds_and_is_sharp_for_the_lowest_mode(exact_line, gauss):
    """The exact error on a line, with a field that is off on the boundary too."""
    problem = sb.Diffusion(sb.Grid(40), 2.0, lambda x: torch.sin(math.pi * x))
    exact, quadrature = exact_line(problem), gauss(problem, 6)
    for v in (torch.zeros(41, dtype=torch.float64), torch.full((41,), 0.02, dtype=torch.float64)):
        difference = exact.at(quadrature.local) - quadrature.value(v)
        error = math.sqrt(quadrature.integral(difference**2))
        assert error <= sb.certify(problem, v).l2_upper.item() <= 3 * error
    zero = sb.certify(problem, torch.zeros(41, dtype=torch.float64))
    error = math.sqrt(quadrature.integral(exact.at(quadrature.local) ** 2))
    assert zero.l2_upper.item() == pytest.approx(error, rel=2e-3)  # u is the lowest mode up to O(h^2)


def test_l2_bound_is_infinite_where_no_constant_is_known():
    solid = np.zeros((4, 4), dtype=bool)
    solid[1, 1] = True
    zero = torch.zeros(5, 5, dtype=torch.float64)
    walls = sb.Diffusion(sb.Grid((4, 4)), 1.0, 1.0, solid=solid)
    assert sb.certify(walls, zero).l2_upper.item() == math.inf
    assert sb.certify(walls.replace(reaction=2.0), zero).l2_upper.item() < math.inf
    nothing_happens = sb.Diffusion(sb.Grid((4, 4)), 1.0, 0.0, boundary=sb.Neumann(0.0))
    assert sb.certify(nothing_happens, zero).l2_upper.item() == math.inf  # u is known up to a constant only


def test_model_interval_is_the_distance_to_the_discrete_solution(gauss):
    problem = rough_problem()
    exact, discrete = gauss(problem), sb.solve(problem, method="direct").values
    certificate = sb.certify(problem, discrete)
    assert certificate.model.lower.item() <= 1e-12
    assert certificate.model.upper.item() <= 1e-6 * certificate.upper.item()
    v = noisy(problem)
    distance = exact.norm(exact.function(v - discrete))
    lower, upper = sb.certify(problem, v).model
    assert lower.item() <= distance * (1 + 1e-12)
    assert distance <= upper.item() * (1 + 1e-12)
    assert upper.item() - lower.item() <= 1e-6 * distance


@pytest.mark.parametrize("solids", [False, True])
def test_mesh_interval_contains_the_error_of_the_discrete_solution(solids, gauss):
    """Its square lies between 2 (J(u_h) - J(w)) and that plus the squared bound of w, w from a grid of h / 4."""
    problem = rough_problem(n=6)
    if solids:
        solid = np.zeros((6, 6), dtype=bool)
        solid[3, :4] = True
        problem = problem.replace(solid=solid)
    discrete = sb.solve(problem, rtol=1e-12).values
    mesh = sb.certify(problem, noisy(problem)).mesh  # the same, whatever the field
    fine = problem.refine(4)
    w = sb.solve(fine, rtol=1e-12)
    gain = 2 * (gauss(problem).functional(discrete) - gauss(fine).functional(w.values))
    left = sb.certify(fine, w).upper.item()
    assert mesh.lower.item() <= math.sqrt(gain + left**2)
    assert math.sqrt(gain) <= mesh.upper.item()
    assert mesh.upper.item() <= 2 * math.sqrt(gain)
    assert mesh.lower.item() >= 0.5 * math.sqrt(gain)


def test_model_interval_allows_for_what_the_solver_left():
    """A discrete solution that is off by d, and is known to be by |||d|||: the true distances lie at the ends."""
    problem = rough_problem()
    exact = sb.solve(problem, method="direct").values
    d = noisy(problem)[None] - exact
    left = EnergyForm(problem).norm(d)
    for size, ends in ((0.0, (0.0, 2.0)), (2.0, (0.0, 2.0)), (4.0, (2.0, 4.0)), (-2.0, (2.0, 4.0))):
        interval = model_interval(problem, exact + size * d, exact + d, left)  # seems |size - 1| |||d||| away
        for end, expected in zip(interval, ends):
            assert end.item() == pytest.approx(expected * left.item(), rel=1e-12, abs=1e-12 * left.item())


def test_l2_bound_of_a_field_that_is_off_on_the_boundary_only():
    """v = x y where u = 0: its lifting is - x y, after which nothing is left, so the bound is ||x y|| = 1 / 3.

    The lifting is solved to 1e-8.
    """
    problem = sb.Diffusion(sb.Grid((4, 5)), 1.0, 0.0)
    v = problem.grid.nodes(0)[:, None] * problem.grid.nodes(1)
    assert sb.certify(problem, v).l2_upper.item() == pytest.approx(1 / 3, rel=1e-7)
