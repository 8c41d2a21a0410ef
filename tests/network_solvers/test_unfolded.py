"""The gradient iteration by networks: contraction against the theorem, iterates against series, the minimum."""

from __future__ import annotations

import math

import pytest
import torch
from refusals import refusals

import sciml_bounds as sb
from sciml_bounds.barron import BarronFunction, Box
from sciml_bounds.barron._norm_growth import linear_growth
from sciml_bounds.network_solvers import random_feature_network, unfolded_network
from sciml_bounds.variational import (
    GinzburgLandau,
    MinimalSurface,
    PLaplacian,
    QuadraticEnergy,
    ShearThinning,
    VariationalProblem,
)

B = BarronFunction


@pytest.mark.parametrize(
    ("density", "source"),
    [
        (ShearThinning(1.0), 20.0),
        (ShearThinning(3.0), 20.0),
        (ShearThinning(2.0, reaction=0.5), 5.0),
        (QuadraticEnergy(lambda x: 1 + x[..., 0], 3.0), 1.0),
    ],
)
@pytest.mark.parametrize("activation", ["tanh", "cosine"])
def test_steps_contract_as_proven(density, source, activation):
    """Once no neurons are added, in the space of the network: with a margin for round-off only."""
    problem = VariationalProblem(Box([1.0, 1.0]), density, source)
    solution = unfolded_network(problem, 30, steps=10, activation=activation)
    assert solution.observed_contraction <= solution.proven_contraction * (1 + 1e-6)
    assert solution.observed_contraction > 0.1 * solution.proven_contraction  # the theorem is not idle
    assert [step.width for step in solution.history] == [6, 12, 18, 24, 30, 30, 30, 30, 30, 30]
    energies = [step.energy for step in solution.history]
    assert energies == sorted(energies, reverse=True)


def test_it_converges_to_the_best_outer_weights():
    problem = VariationalProblem(Box([1.0, 1.0]), ShearThinning(1.0), 20.0)
    best = random_feature_network(problem, 20)
    solution = unfolded_network(problem, 20, steps=24)
    # the excess of energy falls by 0.355^2 in each of 12 steps: 2e-11 of that in the middle of the run
    assert solution.energy == pytest.approx(best.energy, rel=1e-9)
    assert "proven 0.355" in repr(solution)


def test_norms_that_theory_allows_hold_for_the_exact_iterates():
    """-div grad u + 2 u = f with free sides, by series: u - h (I - Laplace)^-1 (2 u - Laplace u - f)."""
    f = B.cosine([[1, 0], [1, 2], [0, 0]], [5.0, -3.0, 1.0])
    problem = VariationalProblem(Box([1.0, 1.0]), QuadraticEnergy(reaction=2.0), f, boundary=sb.Neumann(0.0))
    solution = unfolded_network(problem, 20, steps=6)
    h = 2 / (1 + 2)  # mu = 1 and L = 2
    coefficients, norms = torch.zeros(3).double(), []
    squares = f.value.frequencies.square().sum(-1)
    for _ in range(6):
        applied = (2 + squares) * coefficients - f.value.coefficients
        coefficients = coefficients - h * applied / (1 + squares)
        norms.append(float(coefficients.abs() @ (1 + squares.sqrt())))
    allowed = [step.allowed for step in solution.history]
    assert all(norm <= bound * (1 + 1e-12) for norm, bound in zip(norms, allowed))
    assert allowed[0] == pytest.approx(norms[0])  # from zero the first iterate is h (I - Laplace)^-1 f
    assert allowed[1] < 10 * norms[1]


def test_the_least_reaction_holds_free_sides():
    """c from 1 / 4 to 3 / 4, a = 1: mu = 1 / 4 and L = 1, up to what samples miss of the ends; step 2 / (mu + L)."""
    density = QuadraticEnergy(reaction=lambda x: 0.25 + x[..., 0] / 2)
    problem = VariationalProblem(Box(1.0), density, 1.0, boundary=sb.Neumann(0.0))
    solution = unfolded_network(problem, 6, steps=6)
    assert solution.proven_contraction == pytest.approx(0.6, rel=0.01)
    assert solution.observed_contraction <= solution.proven_contraction * (1 + 1e-6)


def test_norms_that_theory_allows_grow_from_that_of_the_lifting():
    """u_0 = 2 has the Barron norm 2; mu = pi^2 / (1 + pi^2) and L = 1."""
    f = B.sine([[1]], [1.0])
    problem = VariationalProblem(Box(1.0), QuadraticEnergy(), f, boundary=sb.Dirichlet(2.0))
    growth = linear_growth(1.0, f, 2 / (1 + math.pi**2 / (1 + math.pi**2)))[1]
    allowed = [step.allowed for step in unfolded_network(problem, 4, steps=2).history]
    assert allowed == pytest.approx([growth.after(1, 2.0), growth.after(2, 2.0)])


def test_no_norm_is_allowed_where_none_is_known():
    problem = VariationalProblem(Box(1.0), ShearThinning(1.0), 1.0)
    assert all(math.isnan(step.allowed) for step in unfolded_network(problem, 4, steps=2).history)


def test_mixed_sides_and_liftings():
    boundary = {"x0": sb.Dirichlet(1.0), "x1": sb.Neumann(0.0)}
    problem = VariationalProblem(sb.Grid(32), ShearThinning(1.0), 3.0, boundary=boundary)
    solution = unfolded_network(problem, 12, steps=60)
    assert solution.observed_contraction <= solution.proven_contraction
    assert solution.network([0.0]).item() == pytest.approx(1.0, abs=1e-12)
    # Poincare with one side: mu = 1 / (1 + 4 / pi^2), and L = 2
    mu = 1 / (1 + 4 / math.pi**2)
    assert solution.proven_contraction == pytest.approx((2 - mu) / (2 + mu))
    assert solution.energy == pytest.approx(random_feature_network(problem, 12).energy, rel=1e-8)


def unfold(density):
    return unfolded_network(VariationalProblem(Box([1.0, 1.0]), density, 0.1), 4)


test_bad_input = refusals(
    ("= 0", lambda: unfold(PLaplacian(3))),
    ("sb.network_solvers.ritz_network", lambda: unfold(MinimalSurface())),
    ("= inf", lambda: unfold(QuadraticEnergy(reaction=1.0, power=4))),
    ("convex energy", lambda: unfold(GinzburgLandau(0.1))),
)


def test_neurons_that_depend_on_others_add_no_noise():
    """On an interval 100 tanh neurons span some 38 dimensions; the neurons of the second half add only round-off."""
    problem = VariationalProblem(Box([1.0]), ShearThinning(3.0, reaction=5.0), lambda x: 10 * x[..., 0])
    solution = unfolded_network(problem, 100, steps=20)
    best = random_feature_network(problem, 100)
    assert solution.energy == pytest.approx(best.energy, rel=1e-6)
    assert solution.observed_contraction <= solution.proven_contraction * (1 + 1e-6)
    assert solution.network.path_norm < 10 * best.network.path_norm
