"""Deep Ritz: energies against those of classical solutions, norms within the ball, all kinds of densities."""

from __future__ import annotations

import math

import pytest
import torch
from refusals import refused

import sciml_bounds as sb

PI = math.pi


@pytest.fixture(scope="module")
def thinning():
    """A nonlinear problem and its least energy to 1e-4: multilinear minima on 64^2 and 128^2 cells, extrapolated."""
    problem = sb.variational.VariationalProblem(sb.Grid((64, 64)), sb.variational.ShearThinning(3.0), source=20.0)
    coarse, fine = (sb.variational.minimize_energy(p).energy for p in (problem, problem.refine(2)))
    return problem, fine + (fine - coarse) / 3


def test_training_lowers_the_energy(thinning):
    problem, least = thinning
    solution = sb.network_solvers.ritz_network(problem, 20, steps=100)
    drawn = sb.network_solvers.random_feature_network(problem, 20)
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
        solution = sb.network_solvers.ritz_network(problem, 20, bound=bound, steps=100)
        assert solution.network.barron_norm <= bound * (1 + 1e-12)
        assert max(step.norm for step in solution.history) <= bound * (1 + 1e-12)
        energies.append(solution.energy)
    assert energies == sorted(energies, reverse=True)
    assert least < energies[2] < energies[1] < 0.9 * least


def test_energies_that_are_not_convex():
    """Two phases with u = -1 and u = 1 at the ends: J of the layer tanh(x / (w sqrt 2)) is w 2 sqrt(2) / 3."""
    width = 0.1
    problem = sb.variational.VariationalProblem(
        sb.barron.Box(2.0, -1.0), sb.variational.GinzburgLandau(width), boundary=sb.Dirichlet(lambda x: x[..., 0])
    )
    ramp = sb.BarronNetwork.of(torch.zeros(0, 1).double(), [], [], slope=[1.0])
    solution = sb.network_solvers.ritz_network(problem, 20, steps=400, lifting=ramp)
    exact = width * 2 * math.sqrt(2) / 3
    assert exact * (1 - 1e-6) < solution.energy < exact * 1.02


def test_five_dimensions():
    """u = sum cos(pi x_i); the excess of energy, relative to J(u), is the square of the relative H1 error."""
    source = lambda x: (1 + PI**2) * (PI * x).cos().sum(-1)  # noqa: E731
    density = sb.variational.QuadraticEnergy(reaction=1.0)
    problem = sb.variational.VariationalProblem(sb.barron.Box([1.0] * 5), density, source, boundary=sb.Neumann(0.0))
    solution = sb.network_solvers.ritz_network(problem, 40, steps=150, scale=1.5)
    exact = -5 * (1 + PI**2) / 4
    assert (solution.energy - exact) / -exact < 0.05


@pytest.mark.parametrize(
    ("problem", "arguments", "message"),
    [
        (sb.Diffusion(sb.Grid(8)), {}, "sb.variational.VariationalProblem"),
        (
            sb.variational.VariationalProblem(sb.Grid(8), sb.variational.QuadraticEnergy()),
            {"activation": "step"},
            "activation 'step'",
        ),
        (sb.variational.VariationalProblem(sb.Grid(8), sb.variational.QuadraticEnergy()), {"bound": -1.0}, "bound -1"),
        (sb.variational.VariationalProblem(sb.Grid(8), sb.variational.QuadraticEnergy()), {"steps": 0}, "steps 0"),
        (sb.variational.VariationalProblem(sb.Grid(8), sb.variational.QuadraticEnergy()), {"seed": "a"}, "seed 'a'"),
        (
            sb.variational.VariationalProblem(sb.Grid(8), sb.variational.QuadraticEnergy(), 1.0),
            {"steps": 5, "learning_rate": 1e300},
            "energy finite 1 steps learning_rate",
        ),
        (
            sb.variational.VariationalProblem(sb.Grid(8), sb.variational.QuadraticEnergy(), 1.0),
            {"activation": "relu", "bound": 1.0},
            "variation norm cosine",
        ),
        (
            sb.variational.VariationalProblem(
                sb.barron.Box([1.0, 1.0]),
                sb.variational.QuadraticEnergy(),
                boundary=sb.Dirichlet(lambda x: x.sum(-1) ** 2),
            ),
            {"bound": 5.0, "lifting": sb.BarronNetwork.of([[1.0, 1.0]], [0.0], [1.0], activation="relu", power=2)},
            "Barron norm infinite neurons lifting",
        ),
    ],
)
def test_bad_input(problem, arguments, message):
    refused(message, sb.network_solvers.ritz_network, problem, 5, **arguments)
