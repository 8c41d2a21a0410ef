"""Variational problems: energies with known values, gradients against differences, data at points, bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from refusals import refusals, refused

import sciml_bounds as sb
from sciml_bounds.barron import Box
from sciml_bounds.bounds._energy import EnergyForm
from sciml_bounds.variational import (
    EnergyDensity,
    GinzburgLandau,
    MinimalSurface,
    PLaplacian,
    QuadraticEnergy,
    ShearThinning,
    VariationalProblem,
)

DENSITIES = {
    "quadratic": QuadraticEnergy(2.0, 1.0),
    "p = 3": PLaplacian(3, reaction=0.5, power=4),
    "p = 1.5": PLaplacian(1.5),
    "minimal surface": MinimalSurface(3.0, 1.0),
    "shear thinning": ShearThinning(3.0),
    "two phases": GinzburgLandau(0.1),
    "general": EnergyDensity(lambda x, u, p: (1 + x[..., 0]) * p.square().sum(-1) / 2 + u**4 / 4, convex=True),
}
MIXED = {"x0": sb.Dirichlet(1.0), "x1": sb.Neumann(0.5), "y0": sb.Periodic(), "y1": sb.Periodic()}


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- energies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DENSITIES)
@pytest.mark.parametrize("boundary", [sb.Dirichlet(0.0), MIXED], ids=["held", "mixed"])
def test_the_gradient_is_the_limit_of_differences(name, boundary):
    """Central differences with h = 1e-5: h^2 of third derivatives (for p = 1.5 near zero gradients: 1e-5 of all)."""
    problem = VariationalProblem(sb.Grid((5, 4)), DENSITIES[name], lambda x, y: 1 + x, boundary=boundary)
    v = problem.impose_boundary(rand(*problem.node_shape))
    d, h = problem.free * rand(*problem.node_shape, seed=1), 1e-5
    difference = (problem.energy(v + h * d) - problem.energy(v - h * d)) / (2 * h)
    assert float((problem.gradient(v) * d).sum()) == pytest.approx(float(difference), rel=1e-5, abs=1e-6)
    assert not (problem.gradient(v) * (1 - problem.free)).any()


def test_the_energy_of_a_linear_problem_is_that_of_the_bilinear_form():
    grid = sb.Grid((5, 4), lengths=(1.0, 2.0))
    a, c, f = rand(5, 4).exp(), rand(5, 4, seed=1).exp(), rand(5, 4, seed=2)
    problem = VariationalProblem(grid, QuadraticEnergy(a, c), f, boundary=MIXED)
    form = EnergyForm(problem.as_diffusion())
    v = problem.impose_boundary(rand(*problem.node_shape))
    nodes = torch.cat([v, v[:, :1]], 1).unsqueeze(0)
    expected = form.norm(nodes) ** 2 / 2 - (form.load * nodes).sum()
    torch.testing.assert_close(problem.energy(v), expected[0])


def test_the_energy_of_a_plane_is_known():
    """u = 2 x: |grad u| = 2 everywhere, int u = 1."""
    problem = VariationalProblem(sb.Grid((3, 3)), MinimalSurface(), 3.0, boundary=sb.Dirichlet(lambda x, y: 2 * x))
    x = torch.linspace(0, 2, 4, dtype=torch.float64).unsqueeze(1).expand(4, 4)
    assert float(problem.energy(x)) == pytest.approx(math.sqrt(5) - 3)


def test_a_refined_problem_has_the_same_energy():
    """Of a linear problem, whose integrals are exact."""
    problem = VariationalProblem(sb.Grid((4, 3)), QuadraticEnergy(rand(4, 3).exp(), 1.0), rand(4, 3), boundary=MIXED)
    fine = problem.refine(2)
    v = problem.impose_boundary(rand(*problem.node_shape))
    full = torch.cat([v, v[:, :1]], 1)
    rows = torch.cat([torch.stack([full[:-1], (full[:-1] + full[1:]) / 2], 1).flatten(0, 1), full[-1:]])
    columns = torch.stack([rows[:, :-1], (rows[:, :-1] + rows[:, 1:]) / 2], 2).flatten(1, 2)
    torch.testing.assert_close(fine.energy(columns), problem.energy(v))


# --- what is known ----------------------------------------------------------------------------------------------------


def test_linear_problems_are_recognised():
    grid, box = sb.Grid((4, 4)), Box([1.0] * 3)
    assert VariationalProblem(grid, QuadraticEnergy(2.0, 1.0)).linear
    assert VariationalProblem(grid, QuadraticEnergy(reaction=np.zeros((4, 4)), power=4)).linear
    assert VariationalProblem(box, QuadraticEnergy(power=4)).linear
    assert not VariationalProblem(box, QuadraticEnergy(reaction=1.0, power=4)).linear
    assert not VariationalProblem(grid, ShearThinning(1.0)).linear


def test_ellipticity_counts_the_coefficient():
    grid = sb.Grid((2, 2))
    a = np.array([[0.5, 1.0], [2.0, 3.0]])
    assert VariationalProblem(grid, ShearThinning(3.0, a)).ellipticity == (0.5, 12.0)
    assert VariationalProblem(grid, MinimalSurface(a)).ellipticity == (0.0, 3.0)
    low, high = VariationalProblem(Box([1.0]), QuadraticEnergy(lambda x: 1 + x[..., 0])).ellipticity
    assert 1.0 <= low < 1.01
    assert 1.99 < high <= 2.0


# --- at points --------------------------------------------------------------------------------------------------------


def test_data_at_points_are_those_of_the_cells():
    grid = sb.Grid((2, 3), lengths=(1.0, 3.0), origin=(-1.0, 0.0))
    f = torch.arange(6.0, dtype=torch.float64).view(2, 3)
    problem = VariationalProblem(grid, QuadraticEnergy(1 + f, 2.0), f)
    x = torch.tensor([[-0.9, 0.5], [-0.1, 2.5], [0.0, 3.0]], dtype=torch.float64)
    assert problem.source_at(x).tolist() == [0.0, 5.0, 5.0]
    assert problem.coefficient_at(x).tolist() == [1.0, 6.0, 6.0]
    assert problem.reaction_at(x).tolist() == [2.0] * 3
    u, p = torch.ones(3).double(), torch.ones(3, 2).double()
    assert problem.integrand(x, u, p).tolist() == pytest.approx([2.0, 2.0, 2.0])  # (1 + f) 2 / 2 + 2 / 2 - f


def test_gradients_flow_through_the_integrand_in_ten_dimensions():
    problem = VariationalProblem(Box([1.0] * 10), ShearThinning(2.0, lambda x: 1 + x[..., 0]), lambda x: x.sum(-1))
    x, u, p = rand(7, 10), rand(7, seed=1).requires_grad_(), rand(7, 10, seed=2).requires_grad_()
    by_u, by_p = torch.autograd.grad(problem.integrand(x, u, p).sum(), (u, p))
    torch.testing.assert_close(by_u, -x.sum(-1))
    expected = (1 + x[:, :1]) * p * (1 + 2 / torch.sqrt(1 + p.square().sum(-1, keepdim=True)))
    torch.testing.assert_close(by_p, expected)


def test_points_may_be_lists():
    problem = VariationalProblem(Box([1.0, 1.0]), QuadraticEnergy(lambda x: 1 + x[..., 0]), 2.0)
    assert problem.coefficient_at([[0.5, 0.0], [1.0, 1.0]]).tolist() == [1.5, 2.0]
    assert problem.source_at([0.5, 0.5]).item() == 2.0


def test_dirichlet_values_of_a_box_are_known_at_points():
    box = Box([1.0, 1.0])
    problem = VariationalProblem(box, MinimalSurface(), boundary=sb.Dirichlet(lambda x: x[..., 0]))
    assert problem.boundary_at(torch.tensor([[1.0, 0.5]])).tolist() == [1.0]
    refused(
        "value",
        lambda: VariationalProblem(box, MinimalSurface(), boundary=sb.Periodic()).boundary_at(torch.zeros(1, 2)),
    )


# --- bad input --------------------------------------------------------------------------------------------------------


GRID, BOX = sb.Grid((4, 3)), Box([1.0] * 5)


test_bad_input = refusals(
    ("the domain is a tuple", lambda: VariationalProblem((4, 4), QuadraticEnergy())),
    ("the energy density is a builtin", lambda: VariationalProblem(GRID, torch.square)),
    ("coefficient must be positive", lambda: VariationalProblem(GRID, QuadraticEnergy(-1.0))),
    ("reaction must not be negative", lambda: VariationalProblem(GRID, QuadraticEnergy(reaction=-1.0))),
    ("source nan finite", lambda: VariationalProblem(GRID, QuadraticEnergy(), math.nan)),
    ("coefficient has a batch (2,)", lambda: VariationalProblem(GRID, QuadraticEnergy(np.ones((2, 4, 3))))),
    ("the data have a batch (2,)", lambda: VariationalProblem(GRID, QuadraticEnergy(), np.ones((2, 4, 3)))),
    ("Robin condition", lambda: VariationalProblem(GRID, QuadraticEnergy(), boundary=sb.Robin(1.0))),
    ("must sum to zero", lambda: VariationalProblem(GRID, PLaplacian(3), 1.0, boundary=sb.Neumann(0.0))),
    ("coefficient is of shape (3,)", lambda: VariationalProblem(BOX, QuadraticEnergy(np.ones(3)))),
    ("source is inf", lambda: VariationalProblem(BOX, QuadraticEnergy(), math.inf)),
    ("boundary dict", lambda: VariationalProblem(BOX, QuadraticEnergy(), boundary={"x0": sb.Dirichlet(0.0)})),
    ("Neumann flux zero", lambda: VariationalProblem(BOX, QuadraticEnergy(), boundary=sb.Neumann(1.0))),
    ("on a box without cells", lambda: VariationalProblem(BOX, QuadraticEnergy()).energy(0.0)),
    ("on a box without cells", lambda: VariationalProblem(BOX, QuadraticEnergy()).refine()),
    ("the refinement factor is 0", lambda: VariationalProblem(GRID, QuadraticEnergy()).refine(0)),
    (
        "source shape (256, 5) one number",
        lambda: VariationalProblem(BOX, QuadraticEnergy(), lambda x: x).source_at(torch.zeros(2, 5)),
    ),
    ("shape (4, 3) node field (5, 4)", lambda: VariationalProblem(GRID, QuadraticEnergy()).energy(np.ones((4, 3)))),
    ("NaN", lambda: VariationalProblem(GRID, QuadraticEnergy()).energy(np.full((5, 4), np.nan))),
    ("not linear sb.Diffusion", lambda: VariationalProblem(GRID, MinimalSurface()).as_diffusion()),
    (
        "has no coefficient",
        lambda: VariationalProblem(GRID, EnergyDensity(lambda x, u, p: u)).coefficient_at(torch.zeros(1, 2)),
    ),
    ("flux zero", lambda: VariationalProblem(BOX, QuadraticEnergy(), boundary=sb.Neumann(np.ones(2)))),
    ("'a' (str); on a box", lambda: VariationalProblem(BOX, QuadraticEnergy(), boundary=sb.Dirichlet("a"))),
    ("source is of shape (40, 40)", lambda: VariationalProblem(BOX, QuadraticEnergy(), np.ones((40, 40)))),
    (
        "p has shape (3, 4); gradients 5 entries",
        lambda: VariationalProblem(BOX, QuadraticEnergy()).integrand(
            torch.zeros(3, 5), torch.zeros(3), torch.zeros(3, 4)
        ),
    ),
    ("x cannot be read as an array", lambda: VariationalProblem(BOX, QuadraticEnergy()).source_at("a")),
    ("points 5 coordinates", lambda: VariationalProblem(BOX, QuadraticEnergy()).source_at([0.0] * 4)),
    ("points 2 coordinates", lambda: VariationalProblem(GRID, QuadraticEnergy()).reaction_at(1.0)),
)


UNBALANCED = [1.0, lambda x: 0 * x[..., 0] - 1e-9, lambda x: (3 * x[..., 0]).cos()]
BALANCED = [0.0, lambda x: (math.pi * x).cos().sum(-1), lambda x: 1e-3 * (256 * math.pi * x).cos().prod(-1)]


@pytest.mark.parametrize("boundary", [sb.Neumann(0.0), sb.Periodic()])
@pytest.mark.parametrize("density", [QuadraticEnergy(), PLaplacian(3.0, reaction=lambda x: 0 * x[..., 0])])
def test_sources_on_boxes_must_balance_where_nothing_fixes_the_level(density, boundary):
    """Otherwise the energy is unbounded below, and solvers would return different numbers."""
    for source in UNBALANCED:
        refused(
            "source mean level",
            VariationalProblem,
            Box([1.0, 1.0]),
            density,
            source,
            boundary=boundary,
        )
    for source in BALANCED:
        VariationalProblem(Box([1.0, 1.0]), density, source, boundary=boundary)
    for source in UNBALANCED:
        VariationalProblem(Box([1.0, 1.0]), QuadraticEnergy(reaction=1.0), source, boundary=boundary)
        VariationalProblem(Box([1.0, 1.0]), density, source)


@pytest.mark.parametrize(
    ("density", "source", "said"),
    [
        (QuadraticEnergy(-1.0), 0.0, "coefficient positive"),
        (QuadraticEnergy(lambda x: x[..., 0] - 0.5), 0.0, "coefficient positive"),
        (QuadraticEnergy(reaction=-50.0), 0.0, "reaction negative"),
        (QuadraticEnergy(lambda x: x[..., 0] * math.nan), 0.0, "coefficient 256 entries NaN"),
        (QuadraticEnergy(), lambda x: x[..., 0] * math.nan, "source 256 entries NaN"),
    ],
)
def test_data_on_boxes_are_checked_at_points(density, source, said):
    refused(said, lambda: VariationalProblem(Box([1.0]), density, source))
