"""Networks with drawn neurons: known solutions, conditions on sides, and points of collocation."""

from __future__ import annotations

import math

import pytest
import torch
from refusals import refusals

import sciml_bounds as sb
import sciml_bounds.network_solvers._random_features as module
from sciml_bounds.barron import Box
from sciml_bounds.network_solvers import random_feature_network
from sciml_bounds.variational import (
    GinzburgLandau,
    MinimalSurface,
    PLaplacian,
    QuadraticEnergy,
    ShearThinning,
    VariationalProblem,
    minimize_energy,
)

PI = math.pi


def sines(reaction=0.0):
    """-Laplace u + c u = f on the unit square, whose solution is sin(pi x) sin(pi y)."""
    source = lambda x: (reaction + 2 * PI**2) * (PI * x).sin().prod(-1)  # noqa: E731
    return VariationalProblem(Box([1.0, 1.0]), QuadraticEnergy(reaction=reaction), source)


def largest_error(network, dim=2):
    x = torch.rand((500, dim), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        return float((network(x) - (PI * x).sin().prod(-1)).abs().max())


@pytest.mark.parametrize("arguments", [{}, {"fit": "collocation"}, {"activation": "cosine"}])
def test_a_known_solution(arguments):
    few, many = (random_feature_network(sines(1.0), width, **arguments) for width in (12, 48))
    assert largest_error(many.network) < 5e-3
    assert largest_error(many.network) < 0.5 * largest_error(few.network)
    exact = -(1 + 2 * PI**2) / 8
    assert many.energy - exact > -1e-9  # no network is better than the solution
    assert few.energy > many.energy


def test_the_projection_is_the_best_network_with_these_neurons():
    """Any change of an outer weight raises the energy, by the points of the solver."""
    from sciml_bounds.network_solvers._quadrature import quadrature_of
    from sciml_bounds.network_solvers._trial_space import energy_of

    problem = sines()
    solution = random_feature_network(problem, 10)
    rule = quadrature_of(problem)
    network, least = solution.network, energy_of(solution.network, problem, rule)
    for j in range(10):
        for change in (1e-2, -1e-2):
            with torch.no_grad():
                network.outer[j] += change
                assert energy_of(network, problem, rule) > least
                network.outer[j] -= change


def test_collocation_minimises_the_weighted_sum_of_squares(monkeypatch):
    """Residuals at the points drawn, with the weights of the sample, are orthogonal to what neurons change."""
    seen = {}

    def keeping(name, place):
        function = getattr(module, name)

        def kept(*arguments, **named):
            result = function(*arguments, **named)
            seen[name] = result if place is None else arguments[place]
            return result

        monkeypatch.setattr(module, name, kept)

    keeping("_collocate", 2)
    keeping("optimal_sample", None)
    network = random_feature_network(sines(), 12, fit="collocation").network.requires_grad_(False)
    pool, sample = seen["_collocate"], seen["optimal_sample"]
    x = pool.points[sample.indices]
    residuals = 2 * PI**2 * (PI * x).sin().prod(-1) + network.laplacian(x)
    changes = network.feature_laplacians(x)
    slopes, sizes = (sample.weights * r @ c for r, c in ((residuals, changes), (residuals.abs(), changes.abs())))
    assert float((slopes.abs() / sizes).max()) < 1e-8
    assert float((residuals @ changes).abs().max()) > 1e-3 * float((residuals.abs() @ changes.abs()).max())


def test_free_sides_and_values_on_sides():
    """u = cos(pi x) has free sides; 1 + x has values on both ends that only the lifting knows."""
    source = lambda x: (1 + PI**2) * (PI * x[..., 0]).cos()  # noqa: E731
    free = VariationalProblem(Box(1.0), QuadraticEnergy(reaction=1.0), source, boundary=sb.Neumann(0.0))
    x = torch.linspace(0, 1, 50, dtype=torch.float64)[:, None]
    network = random_feature_network(free, 30).network.requires_grad_(False)
    assert float((network(x) - (PI * x[:, 0]).cos()).abs().max()) < 1e-6
    ramp = sb.BarronNetwork.of(torch.zeros(0, 1).double(), [], [], slope=[1.0], offset=1.0)
    held = VariationalProblem(Box(1.0), QuadraticEnergy(), boundary=sb.Dirichlet(lambda x: 1 + x[..., 0]))
    for fit in ("energy", "collocation"):
        network = random_feature_network(held, 10, fit=fit, lifting=ramp).network.requires_grad_(False)
        assert float((network(x) - 1 - x[:, 0]).abs().max()) < 1e-9


def test_five_dimensions_are_sampled():
    source = lambda x: (1 + PI**2) * (PI * x).cos().sum(-1)  # noqa: E731
    problem = VariationalProblem(Box([1.0] * 5), QuadraticEnergy(reaction=1.0), source, boundary=sb.Neumann(0.0))
    solution = random_feature_network(problem, 100, scale=1.5)
    exact = -5 * (1 + PI**2) / 4
    assert (solution.energy - exact) / -exact < 0.3
    assert "Sobol" in repr(solution)


def test_values_on_sides_as_constraints():
    """exp(x) sin(y) is harmonic; its values on the sides are a function, and no lifting is needed."""
    exact = lambda x: x[..., 0].exp() * x[..., 1].sin()  # noqa: E731
    problem = VariationalProblem(Box([1.0, 1.0]), QuadraticEnergy(), boundary=sb.Dirichlet(exact))
    x = torch.rand((500, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    errors = []
    for width in (40, 80):
        solution = random_feature_network(problem, width, sides="constraints")
        with torch.no_grad():
            errors.append(float((solution.network(x) - exact(x)).abs().max()))
    assert errors[1] < 0.01
    assert errors[1] < 0.5 * errors[0]
    assert "40 points of the sides as constraints" in solution.method
    assert float(solution.method.split()[-1]) < 1e-10


def test_constraints_of_nonlinear_problems_and_of_grids():
    boundary = {"x0": sb.Dirichlet(1.0), "x1": sb.Neumann(0.0)}
    problem = VariationalProblem(sb.Grid(40), ShearThinning(3.0), 20.0, boundary=boundary)
    by_factor, by_constraint = (random_feature_network(problem, 20, sides=s) for s in ("factor", "constraints"))
    # in one dimension there is one point, and both are the same minimum over nearly the same functions
    assert by_constraint.network([0.0]).item() == pytest.approx(1.0, abs=1e-10)
    assert by_constraint.energy == pytest.approx(by_factor.energy, rel=1e-6)


@pytest.mark.slow
def test_many_neurons_in_three_dimensions():
    """604 unknowns once made use of the errors of 4096 points: the energy was above that of u = 0."""
    solution = random_feature_network(VariationalProblem(Box([1.0] * 3), QuadraticEnergy(), 1.0), 600)
    assert solution.energy < -0.0100
    assert solution.energy_change < 1e-5
    assert solution.converged


def test_a_fit_that_other_points_deny_is_made_again_on_finer_ones(monkeypatch):
    monkeypatch.setattr("sciml_bounds.network_solvers._quadrature.CELLS", {2: 2})
    monkeypatch.setattr("sciml_bounds.network_solvers._quadrature.OVERSAMPLING", 1)
    problem = VariationalProblem(Box([1.0, 1.0]), QuadraticEnergy(), lambda x: 10 * (9 * x).sin().prod(-1))
    least = minimize_energy(
        VariationalProblem(sb.Grid((64, 64)), QuadraticEnergy(), lambda x, y: 10 * (9 * x).sin() * (9 * y).sin())
    )
    solution = random_feature_network(problem, 100)
    assert "9 Gauss points per axis in 2 x 2 cells" in solution.integrals  # 18^2 >= 3 * 103 points, after 11^2
    assert solution.energy == pytest.approx(least.energy, rel=0.05)


def test_energies_without_a_minimum_are_not_called_converged():
    """Of the area of a graph, a load beyond Cheeger's constant 3.77 pulls it down without end."""
    problem = VariationalProblem(Box([1.0, 1.0]), MinimalSurface(), 50.0)
    with pytest.warns(sb.ConvergenceWarning, match=r"did not converge: a gradient of .* is left after the fit"):
        solution = random_feature_network(problem, 10)
    assert not solution.converged
    assert "converged    no: a gradient" in repr(solution)


ZERO = sb.Dirichlet(0.0)


def drawn(domain, density, boundary=ZERO, **options):
    return random_feature_network(VariationalProblem(domain, density, 1.0, boundary=boundary), 5, **options)


LINE, HYPERCUBE = Box(1.0), Box([1.0] * 4)
REACTING, VARYING = QuadraticEnergy(reaction=1.0), QuadraticEnergy(lambda x: 1 + x[..., 0])

test_bad_input = refusals(
    ("linear", lambda: drawn(sb.Grid(8), PLaplacian(3), fit="collocation")),
    ("convex", lambda: drawn(sb.Grid(8), GinzburgLandau(0.1))),
    ("choices 'factor' 'constraints'", lambda: drawn(LINE, REACTING, sides="penalty")),
    ("fit='energy'", lambda: drawn(LINE, REACTING, sides="constraints", fit="collocation")),
    ("dimensions", lambda: drawn(HYPERCUBE, REACTING, sides="constraints")),
    ("choices 'energy' 'collocation'", lambda: drawn(LINE, REACTING, fit="galerkin")),
    ("Dirichlet values sides", lambda: drawn(LINE, REACTING, fit="collocation", boundary=sb.Neumann(0.0))),
    ("number coefficient", lambda: drawn(LINE, VARYING, fit="collocation")),
)
