"""Deep Ritz: energies against those of classical solutions, norms within the ball, all kinds of densities."""

from __future__ import annotations

import math

import pytest
import torch
from refusals import refusals

import sciml_bounds as sb
from sciml_bounds.barron import Box
from sciml_bounds.network_solvers import random_feature_network, ritz_network
from sciml_bounds.variational import GinzburgLandau, QuadraticEnergy, ShearThinning, VariationalProblem, minimize_energy

PI = math.pi


@pytest.fixture(scope="module")
def thinning():
    """A nonlinear problem and its least energy to 1e-4: multilinear minima on 64^2 and 128^2 cells, extrapolated."""
    problem = VariationalProblem(sb.Grid((64, 64)), ShearThinning(3.0), source=20.0)
    coarse, fine = (minimize_energy(p).energy for p in (problem, problem.refine(2)))
    return problem, fine + (fine - coarse) / 3


def test_training_lowers_the_energy(thinning):
    problem, least = thinning
    solution = ritz_network(problem, 20, steps=100)
    drawn = random_feature_network(problem, 20)
    assert least - 1e-4 * abs(least) < solution.energy < least + 5e-3 * abs(least)
    assert solution.energy < drawn.energy
    assert len(solution.history) == 20
    assert solution.history[-1].energy < solution.history[0].energy


@pytest.mark.slow
def test_norms_stay_within_their_balls(thinning):
    """And larger balls have less energy; energies are negative, and all but the smallest reach 90 % of the decrease."""
    problem, least = thinning
    energies = []
    for bound in (3.0, 10.0, 100.0):
        solution = ritz_network(problem, 20, bound=bound, steps=100)
        assert solution.network.barron_norm <= bound * (1 + 1e-12)
        assert max(step.norm for step in solution.history) <= bound * (1 + 1e-12)
        energies.append(solution.energy)
    assert energies == sorted(energies, reverse=True)
    assert least < energies[2] < energies[1] < 0.9 * least


def test_energies_that_are_not_convex():
    """Two phases with u = -1 and u = 1 at the ends: J of the layer tanh(x / (w sqrt 2)) is w 2 sqrt(2) / 3."""
    width = 0.1
    problem = VariationalProblem(Box(2.0, -1.0), GinzburgLandau(width), boundary=sb.Dirichlet(lambda x: x[..., 0]))
    ramp = sb.BarronNetwork.of(torch.zeros(0, 1).double(), [], [], slope=[1.0])
    solution = ritz_network(problem, 20, steps=400, lifting=ramp)
    exact = width * 2 * math.sqrt(2) / 3
    assert exact * (1 - 1e-6) < solution.energy < exact * 1.02


def test_five_dimensions():
    """u = sum cos(pi x_i); the excess of energy, relative to J(u), is the square of the relative H1 error."""
    source = lambda x: (1 + PI**2) * (PI * x).cos().sum(-1)  # noqa: E731
    density = QuadraticEnergy(reaction=1.0)
    problem = VariationalProblem(Box([1.0] * 5), density, source, boundary=sb.Neumann(0.0))
    solution = ritz_network(problem, 40, steps=150, scale=1.5)
    exact = -5 * (1 + PI**2) / 4
    assert (solution.energy - exact) / -exact < 0.05


LINE = VariationalProblem(sb.Grid(8), QuadraticEnergy(), 1.0)


def bounded_with_relu_lifting():
    problem = VariationalProblem(Box([1.0, 1.0]), QuadraticEnergy(), boundary=sb.Dirichlet(lambda x: x.sum(-1) ** 2))
    lifting = sb.BarronNetwork.of([[1.0, 1.0]], [0.0], [1.0], activation="relu", power=2)
    return ritz_network(problem, 5, bound=5.0, lifting=lifting)


test_bad_input = refusals(
    ("sb.variational.VariationalProblem", lambda: ritz_network(sb.Diffusion(sb.Grid(8)), 5)),
    ("activation 'step'", lambda: ritz_network(LINE, 5, activation="step")),
    ("bound -1", lambda: ritz_network(LINE, 5, bound=-1.0)),
    ("steps 0", lambda: ritz_network(LINE, 5, steps=0)),
    ("seed 'a'", lambda: ritz_network(LINE, 5, seed="a")),
    ("energy finite 1 steps learning_rate", lambda: ritz_network(LINE, 5, steps=5, learning_rate=1e300)),
    ("variation norm cosine", lambda: ritz_network(LINE, 5, activation="relu", bound=1.0)),
    ("Barron norm infinite neurons lifting", bounded_with_relu_lifting),
)
