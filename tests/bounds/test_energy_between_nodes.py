"""Certificates of networks in variational problems: exact solutions, quadrature, sampled suprema, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from refusals import refused

import sciml_bounds as sb
import sciml_bounds.bounds._energy_between_nodes as module
from sciml_bounds.bounds._convex_sums import CellFlux, bubbles_of, gauss
from sciml_bounds.bounds._dual_flux import DualFlux
from sciml_bounds.bounds._fenchel import Fenchel
from sciml_bounds.bounds._interpolation_error import CellBounds
from sciml_bounds.problems.elements import elements_on
from sciml_bounds.variational import certify_energy

DENSITIES = {
    "quadratic": sb.variational.QuadraticEnergy(1.0, 2.0),
    "reaction": sb.variational.QuadraticEnergy(1.0, 10.0, power=4),
    "root reaction": sb.variational.QuadraticEnergy(1.0, 3.0, power=1.5),
    "shear thinning": sb.variational.ShearThinning(3.0),
    "thick": sb.variational.PLaplacian(3.0, reaction=1.0),
    "thin": sb.variational.PLaplacian(1.5),
    "surface": sb.variational.MinimalSurface(2.0),
    "own": sb.variational.IsotropicEnergy(lambda r: torch.cosh(r) - 1, convex=True, lower=1.0),
}
SIDES = {"x0": sb.Dirichlet(0.3), "x1": sb.Neumann(0.4), "y0": sb.Neumann(0.0), "y1": sb.Dirichlet(0.3)}
HELD = [(0, 0), (1, 1)]


def level(value, dim=2):
    return sb.BarronNetwork.of(np.zeros((0, dim)), [], [], offset=value)


def drawn(activation="tanh", power=1, seed=0):
    return sb.BarronNetwork(
        2,
        8,
        activation,
        power=power,
        dirichlet_sides=HELD,
        lifting=level(0.3),
        lengths=(1.0, 1.5),
        scale=2.0,
        seed=seed,
    )


def problem_of(density, n, sides=SIDES):
    return sb.variational.VariationalProblem(
        sb.Grid((n, n + 1), (1.0, 1.5)), density, lambda x, y: 1 + x * y, boundary=sides
    )


def energy(problem, network):
    """J of a network: 8 Gauss points a cell and axis for L and the source, 8 a face for the Neumann side x1."""
    rule = elements_on(problem.grid, gauss(4))
    x = rule.coordinates()
    u, p = network(x).detach(), network.gradient(x).detach()
    inside = problem.density.value(problem.quadrature_data_of(rule), u, p) - problem.source * u
    t, w = np.polynomial.legendre.leggauss(40)
    y = torch.as_tensor(0.75 + 0.75 * t)
    side = torch.as_tensor(0.75 * w) @ network(torch.stack([torch.ones_like(y), y], -1)).detach()
    return float(rule.integrate(inside)) - 0.4 * float(side)


# --- bounds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_the_exact_solution_has_no_error(dim):
    """-Laplace u = 1 between two plates: x (1 - x) / 2, whose flux is that of the cells, on any grid."""
    sides = {side: sb.Neumann(0.0) for side in sb.Grid((2,) * dim).sides} | {"x0": sb.Dirichlet(), "x1": sb.Dirichlet()}
    problem = sb.variational.VariationalProblem(
        sb.Grid((3,) * dim), sb.variational.QuadraticEnergy(), 1.0, boundary=sides
    )
    exact = sb.BarronNetwork.of(np.zeros((0, dim)), [], [], offset=0.125, dirichlet_sides=[(0, 0), (0, 1)])
    certificate = certify_energy(problem, exact, rtol=1e-12)
    assert float(certificate.upper) < 1e-12
    assert float(certificate.energy.lower) == pytest.approx(-1 / 24)  # - int u / 2
    assert float(certificate.minimum.upper) == pytest.approx(-1 / 24)
    assert float(certify_energy(problem, certificate.values).upper) > 1e-3


@pytest.mark.parametrize("name", DENSITIES)
@pytest.mark.parametrize(
    "kind", [("tanh", 1), pytest.param(("relu", 2), marks=pytest.mark.slow)], ids=["tanh", "relu2"]
)
def test_energy_and_excess_are_bracketed_the_more_closely_the_finer_the_grid(name, kind):
    """The minimum is that of a grid of half the spacing, which is above J(u): the excess cannot be above `upper`."""
    widths = []
    for n in (6, 12, 24):
        problem, network = problem_of(DENSITIES[name], n), drawn(*kind)
        certificate = certify_energy(problem, network)
        J = energy(problem, network)
        assert float(certificate.energy.lower) <= J <= float(certificate.energy.upper)
        excess = J - sb.variational.minimize_energy(problem.refine(2), rtol=1e-6).energy
        assert excess <= float(certificate.upper)
        assert float(certificate.lower) <= excess + 0.02 * abs(excess)  # J(u) is a little below that of the grid
        assert float(certificate.indicators.sum()) == pytest.approx(float(certificate.upper))
        widths.append(float(certificate.energy.upper - certificate.energy.lower))
    # all that is left to bounds is of second order or better; kinks of second derivatives are in few cells
    assert widths[2] < 0.35 * widths[1] < 0.2 * widths[0]
    assert float(certificate.upper) <= 1.1 * excess
    assert float(certificate.lower) >= 0.9 * excess


def test_a_network_that_fits_is_told_from_its_nodal_values():
    """D / 8 and a little: the nodal field has the error of 8 cells, the network nearly none."""
    sides = {side: sb.Neumann(0.0) for side in sb.Grid((2, 2)).sides} | {"x0": sb.Dirichlet(), "x1": sb.Dirichlet()}
    problem = sb.variational.VariationalProblem(sb.Grid((8, 8)), sb.variational.QuadraticEnergy(), 1.0, boundary=sides)
    network = sb.BarronNetwork.of([[1.0, 0.5]], [0.0], [1e-3], offset=0.125, dirichlet_sides=[(0, 0), (0, 1)])
    certificate = certify_energy(problem, network)
    assert float(certificate.upper) < 1e-2 * float(certify_energy(problem, certificate.values).lower)
    assert certificate.layout == "function"


def test_linear_problems_have_the_bound_of_diffusion():
    """|||u - v|||^2 / 2, found in another way."""
    problem = problem_of(sb.variational.QuadraticEnergy(2.0), 16)
    network = drawn()
    of_energy = certify_energy(problem, network)
    of_error = sb.certify(problem.as_diffusion(), network)
    assert float(of_energy.upper) == pytest.approx(float(of_error.upper) ** 2 / 2, rel=0.02)
    assert float(of_energy.gradient_upper) == pytest.approx(float(of_error.upper) / math.sqrt(2), rel=0.01)
    slopes = network.gradient(elements_on(problem.grid, gauss(4)).coordinates()).detach().square().sum(-1)
    norm = float(elements_on(problem.grid, gauss(4)).integrate(slopes).sqrt())
    assert 0.9 * norm <= float(of_energy.gradient_norm) <= norm


def test_what_solvers_return_is_certified_as_its_network():
    problem = sb.variational.VariationalProblem(sb.Grid((8, 8)), sb.variational.QuadraticEnergy(reaction=1.0), 1.0)
    solution = sb.network_solvers.greedy_network(problem, 6)
    for certify, posed in ((certify_energy, problem), (sb.certify, problem.as_diffusion())):
        mine, of_network = certify(posed, solution), certify(posed, solution.network)
        assert mine.layout == "function"
        assert float(mine.upper) == float(of_network.upper)


def test_fluxes_are_used_again_and_finer_ones_help():
    problem, network = problem_of(sb.variational.ShearThinning(2.0), 5), drawn()
    first = certify_energy(problem, network)
    again = certify_energy(problem, network, flux=first.flux, lower=False)
    assert float(again.upper) == pytest.approx(float(first.upper), rel=1e-9)
    assert float(again.lower) == 0.0
    finer = certify_energy(problem, network, halvings=2)
    assert float(finer.upper) < float(first.upper)
    assert finer.indicators.shape == (5, 6)
    assert finer.values.shape == problem.node_shape
    np.testing.assert_array_equal(finer.values, first.values)


# --- parts ------------------------------------------------------------------------------------------------------------


def parts(name, seed=0):
    problem, network = problem_of(DENSITIES[name], 4), drawn(seed=seed)
    bounds = network.cell_bounds(problem.grid)
    dual = DualFlux(Fenchel(problem), bounds.nodes)
    return problem, network, bounds, dual.fenchel.with_curvatures(bounds.curvatures), dual.flux(dual.compute(1e-3))


@pytest.mark.parametrize("name", DENSITIES)
def test_suprema_are_not_below_samples(name):
    problem, network, bounds, fenchel, y = parts(name)
    rule = elements_on(problem.grid, gauss(6))
    x = rule.coordinates()
    u, p = network(x).detach(), network.gradient(x).detach()
    value, gradient = problem.density.first(problem.quadrature_data_of(rule), u, p)
    _, q = fenchel.field_at(bounds.nodes, rule)
    _, of_q = problem.density.first(problem.quadrature_data_of(rule), u, q)
    flux, s = y.at(rule.points), y.dual_at(rule.points, problem.source)
    gradients, values = module._GradientSuprema.of(fenchel, bounds, y), module._ValueSuprema.of(fenchel, bounds, y)
    for slope in (gradient, of_q):
        mismatch = torch.linalg.vector_norm(slope - flux, dim=-1).amax(0)
        assert bool((mismatch <= gradients.mismatch).all())
        assert bool((gradients.mismatch <= 10 * mismatch.max()).all())
    profile, potential = problem.density.profile, problem.density.potential
    for vectors in (p, q):
        assert bool((profile.curvature(torch.linalg.vector_norm(vectors, dim=-1)).amax(0) <= gradients.curvature).all())
    belongs = profile.inverse(torch.linalg.vector_norm(flux, dim=-1) / fenchel.a)
    assert bool((profile.curvature(belongs).amax(0) <= gradients.curvature).all())
    if fenchel.has_reaction:
        assert bool(((value - s).abs().amax(0) <= values.mismatch).all())
        assert bool((potential.curvature(u).amax(0) <= values.curvature).all())


@pytest.mark.parametrize("name", ["reaction", "shear thinning", "thin"])
def test_each_way_is_a_bound_for_itself(name, monkeypatch):
    """With one of the two left out, the excess of the network is still below."""
    problem, network = problem_of(DENSITIES[name], 6), drawn(seed=3)
    excess = energy(problem, network) - sb.variational.minimize_energy(problem.refine(4), rtol=1e-6).energy
    both = float(certify_energy(problem, network).upper)
    for part in ("_GradientSuprema", "_ValueSuprema") if problem.quadrature_data[1].any() else ("_GradientSuprema",):
        of = getattr(module, part).of
        for missing in ("curvature", "mismatch"):

            def without(fenchel, bounds, flux, of=of, missing=missing):
                found = of(fenchel, bounds, flux)
                return found._replace(**{missing: torch.full_like(found.curvature, math.inf)})

            with monkeypatch.context() as patched:
                patched.setattr(getattr(module, part), "of", staticmethod(without))
                upper = float(certify_energy(problem, network).upper)
            assert upper >= both
            assert upper >= excess


def test_products_with_the_slopes_are_integrals():
    problem, _, bounds, fenchel, y = parts("reaction")
    assert y.bubbles
    rule = elements_on(problem.grid, gauss(2))
    _, q = fenchel.field_at(bounds.nodes, rule)
    _, p = rule.at(bounds.nodes)
    exact = torch.tensordot(rule.weights, ((q - p) * y.at(rule.points)).sum(-1), 1)
    torch.testing.assert_close(fenchel.bent_products(y), exact)


def test_fluxes_do_not_leave_their_spread():
    grid = sb.Grid((3, 2, 2), (1.0, 2.0, 0.5))
    random = np.random.default_rng(0).standard_normal
    faces = tuple(torch.as_tensor(random([n + (i == axis) for i, n in enumerate(grid.shape)])) for axis in range(3))
    y = CellFlux(grid, faces, bubbles_of(torch.as_tensor(50 * random([n + 1 for n in grid.shape])), 3))
    values = y.at(elements_on(grid, gauss(5)).points)
    for axis, mean in enumerate(y.means):
        off = (values[..., axis] - mean).abs().amax(0)
        assert bool((off <= y.spread(axis)).all())
        assert bool((y.spread(axis) <= 4 * off).all())


class Bubbles:
    """I u plus beta (x - x_K)^2 / 2 in every cell, -u'' = 1, of which no second derivative is known but its size."""

    def __init__(self, beta):
        self.beta = beta

    def cell_bounds(self, grid):
        x, h = grid.nodes(0), grid.spacing[0]
        nodes = x * (1 - x) / 2
        slopes, half = (nodes[1:] - nodes[:-1]) / h, abs(self.beta) * h / 2
        value = torch.minimum(nodes[1:], nodes[:-1]) - abs(self.beta) * h**2 / 8
        second = torch.full((1, 1, *grid.shape), abs(self.beta), dtype=torch.float64)
        return CellBounds(
            nodes, (value, value + 1), ((slopes - half)[None], (slopes + half)[None]), (-second, second), 0 * second,
            ("x0", "x1"),
        )  # fmt: skip


@pytest.mark.parametrize("beta", [0.2, 1.0, 5.0])
def test_bounds_are_attained_where_what_is_left_lies_along_the_residual(beta):
    """slope - y is x - x_K, and what is left beta times that: J(v) - J(u) = (1 + beta)^2 h^2 / 24 on the unit interval.

    With the other sign, the lower bound of J(v) misses the square of what is left alone, beta^2 h^2 / 24.
    """
    problem = sb.variational.VariationalProblem(sb.Grid(4), sb.variational.QuadraticEnergy(), 1.0)
    unit = 0.25**2 / 24
    certificate = certify_energy(problem, Bubbles(beta), rtol=1e-12)
    assert float(certificate.upper) == pytest.approx((1 + beta) ** 2 * unit, rel=1e-9)
    assert float(certificate.energy.upper) == pytest.approx(-1 / 24 + (1 + beta) ** 2 * unit, rel=1e-9)
    other = certify_energy(problem, Bubbles(-beta), rtol=1e-12)
    assert float(other.energy.lower) == pytest.approx(-1 / 24 + ((1 - beta) ** 2 - beta**2) * unit, rel=1e-9)


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_an_infinite_gap_stays_infinite(beta):
    """Where the flux is out of reach, with or without something left."""
    problem = sb.variational.VariationalProblem(sb.Grid(4), sb.variational.QuadraticEnergy(), 1.0)
    bounds = Bubbles(beta).cell_bounds(problem.grid)
    dual = DualFlux(Fenchel(problem), bounds.nodes)
    fenchel, y = dual.fenchel.with_curvatures(bounds.curvatures), dual.flux(dual.compute(1e-6))
    more = module.function_corrections(fenchel, bounds, y, torch.full((4,), math.inf, dtype=torch.float64))
    assert not bool(more.above.isnan().any() | more.below.isnan().any())


def test_the_slopes_of_a_wrong_guess_are_among_the_gradients():
    """Second derivatives from 0 to 8 make b = 4, but I u has none: slopes of q differ by 4 h within a cell."""

    class Straight(Bubbles):
        def cell_bounds(self, grid):
            known = super().cell_bounds(grid)
            slopes = (known.gradient[0] + known.gradient[1]) / 2
            return known._replace(gradient=(slopes, slopes), second=(0 * known.second[0], 8 * known.second[1]))

    problem = sb.variational.VariationalProblem(sb.Grid(4), sb.variational.PLaplacian(1.5), 1.0)
    bounds = Straight(1.0).cell_bounds(problem.grid)
    dual = DualFlux(Fenchel(problem), bounds.nodes)
    fenchel, y = dual.fenchel.with_curvatures(bounds.curvatures), dual.flux(dual.compute(1e-6))
    rule = elements_on(problem.grid, gauss(8))
    u, q = fenchel.field_at(bounds.nodes, rule)
    _, slope = problem.density.first(problem.quadrature_data_of(rule), u, q)
    mismatch = (slope - y.at(rule.points)).abs()[..., 0].amax(0)
    assert bool((mismatch <= module._GradientSuprema.of(fenchel, bounds, y).mismatch).all())


def test_slopes_may_change_faster_than_gradients_turn():
    """Gradients from 1 to 3 and g' = r^9, in one dimension, where none turns."""
    problem = sb.variational.VariationalProblem(sb.Grid(4), sb.variational.PLaplacian(10.0), 1.0)
    known = Bubbles(0.0).cell_bounds(problem.grid)
    one = torch.ones_like(known.gradient[0])
    y = DualFlux(Fenchel(problem), known.nodes).flux((torch.zeros(5, dtype=torch.float64),))
    fenchel = Fenchel(problem).with_curvatures(known.curvatures)
    found = module._GradientSuprema.of(fenchel, known._replace(gradient=(one, 3 * one)), y)
    assert bool((found.mismatch >= 3.0**9).all())
    assert bool((found.curvature >= 9 * 3.0**8).all())


def test_energies_have_bounds_where_no_flux_carries_the_load():
    """The energy of a minimal surface under 3 > 2 a is not bounded below, and nothing is left of a parabola."""
    problem = sb.variational.VariationalProblem(sb.Grid(4), sb.variational.MinimalSurface(), 3.0)
    network = sb.BarronNetwork.of(np.zeros((0, 1)), [], [], offset=0.1, dirichlet_sides="all")
    certificate = certify_energy(problem, network)
    assert float(certificate.upper) == math.inf
    assert float(certificate.minimum.lower) == -math.inf
    assert math.isfinite(float(certificate.lower))
    t, w = np.polynomial.legendre.leggauss(40)  # 0.4 x (1 - x) has slopes of 0.4 (1 - 2 x) and the mean 0.4 / 6
    J = float(w @ np.sqrt(1 + (0.4 * t) ** 2)) / 2 - 3 * 0.4 / 6
    assert float(certificate.energy.lower) <= J <= float(certificate.energy.upper) <= J + 0.01


class Scaled:
    """The interpolant of x (1 - x) / 2 times a number, of which some parts are not known."""

    def __init__(self, scale, unknown=()):
        self.scale, self.unknown = scale, unknown

    def cell_bounds(self, grid):
        known = Bubbles(0.0).cell_bounds(grid)
        nodes, slopes = self.scale * known.nodes, self.scale * known.gradient[0]
        ends = torch.minimum(nodes[1:], nodes[:-1]), torch.maximum(nodes[1:], nodes[:-1])
        known = known._replace(nodes=nodes, value=ends, gradient=(slopes, slopes))
        return known._replace(**{part: (getattr(known, part)[0] - math.inf, getattr(known, part)[1] + math.inf)
                                 for part in self.unknown})  # fmt: skip


@pytest.mark.parametrize("name", ["quadratic", "root reaction", "thin", "surface", "own"])
@pytest.mark.parametrize(
    "unknown", [("value",), ("gradient",), ("gradient", "second"), ("value", "gradient", "second")]
)
def test_what_is_not_known_leaves_larger_bounds_and_no_nan(name, unknown):
    """Of zero nothing is left even where values and gradients are not known."""
    problem = sb.variational.VariationalProblem(sb.Grid(4), DENSITIES[name], 1.0)
    for scale in (0.0, 1.0):
        found, all_known = (certify_energy(problem, Scaled(scale, left_out)) for left_out in (unknown, ()))
        assert float(found.upper) >= float(all_known.upper)
        assert 0 <= float(found.lower) <= float(found.upper)
        assert float(found.energy.lower) <= float(all_known.energy.lower)
        assert float(found.energy.upper) >= float(all_known.energy.upper)
        assert 0 <= float(found.gradient_norm) <= float(all_known.gradient_norm)


def test_round_off_of_the_nodes_is_among_what_occurs():
    """Slopes of I v may be off by 2 t / h, and values by t; of squares all of that counts."""
    problem = sb.variational.VariationalProblem(sb.Grid(4), sb.variational.QuadraticEnergy(1.0, 2.0), 1.0)
    known = Bubbles(1.0).cell_bounds(problem.grid)
    dual = DualFlux(Fenchel(problem), known.nodes)
    fenchel, y = dual.fenchel.with_curvatures(known.curvatures), dual.flux(dual.compute(1e-3))
    off = known._replace(round_off=0.1)
    for part, more in ((module._GradientSuprema, 2 * 0.1 / 0.25), (module._ValueSuprema, 2.0 * 0.1)):
        added = part.of(fenchel, off, y).mismatch - part.of(fenchel, known, y).mismatch
        assert bool((added >= more * (1 - 1e-12)).all())


def test_waves_may_have_all_nodes_at_their_zeros():
    """sin(2 pi x) on two cells: values at the nodes are round-off, those on the sides among them."""
    network = sb.BarronNetwork.of_series(sb.barron.BarronFunction.sine([[2]], [1.0], (1.0,)))
    certificate = certify_energy(
        sb.variational.VariationalProblem(sb.Grid(2), sb.variational.QuadraticEnergy()), network
    )
    assert float(certificate.energy.lower) <= math.pi**2 <= float(certificate.energy.upper)  # (2 pi)^2 / 4
    assert float(certificate.upper) >= math.pi**2


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_refusals():
    problem = problem_of(sb.variational.ShearThinning(3.0), 4)
    refused("values side x0", lambda: certify_energy(problem, sb.BarronNetwork(2, 4, lengths=(1.0, 1.5))))
    refused(
        "boundary values 0.3",
        lambda: certify_energy(problem, sb.BarronNetwork(2, 4, "tanh", lengths=(1.0, 1.5), dirichlet_sides=HELD)),
    )
    wraps = {"y0": sb.Periodic(), "y1": sb.Periodic(), "x0": sb.Dirichlet(), "x1": sb.Dirichlet()}
    refused("axis periodic", lambda: certify_energy(problem_of(sb.variational.ShearThinning(3.0), 4, wraps), drawn()))
    refused("energy convex", lambda: certify_energy(problem_of(sb.variational.GinzburgLandau(0.1), 4), drawn()))
    broken = drawn()
    with torch.no_grad():
        broken.outer[0] = math.nan
    refused("NaN", certify_energy, problem, broken)
