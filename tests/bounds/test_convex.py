"""Certificates of energies: known minimisers, what makes them tight, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from refusals import refused

import sciml_bounds as sb
from sciml_bounds.barron import Box
from sciml_bounds.problems.transfers import interpolate_nodes
from sciml_bounds.variational import (
    EnergyDensity,
    GinzburgLandau,
    IsotropicEnergy,
    MinimalSurface,
    PLaplacian,
    QuadraticEnergy,
    ShearThinning,
    VariationalProblem,
    certify_energy,
    minimize_energy,
)

STIFF = ShearThinning(3.0)
MIXED = {"x0": sb.Dirichlet(1.0), "x1": sb.Neumann(0.5), "y0": sb.Periodic(), "y1": sb.Periodic()}


def noise(problem: VariationalProblem, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return problem.free * torch.randn(problem.node_shape, generator=generator, dtype=torch.float64)


# --- known minimisers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("q", [1.5, 2.0, 3.0, 4.0])
def test_the_p_laplacian_on_an_interval(q):
    """J(u) = -(1 - 1 / q) int u for f = 1, with int u = 1 / (q' + 1) 2^-q': known for the exact u."""
    conjugate = q / (q - 1)
    minimum = -(1 - 1 / q) * 0.5**conjugate / (conjugate + 1)
    problem = VariationalProblem(sb.Grid(12), PLaplacian(q), 1.0)
    solution = minimize_energy(problem)
    fields = {"discrete": solution.values, "zero": torch.zeros(13), "noise": solution.values + 0.01 * noise(problem)}
    for v in fields.values():
        v = v.double()
        u, p = problem.elements.at(v)
        excess = float((p[..., 0].abs() ** q / q).mean() - u.mean()) - minimum
        certificate = certify_energy(problem, v)
        assert certificate.upper >= excess
        # in one dimension a flux can be exact; integrals may add 3 %, and steps end at gains of 2 %
        assert certificate.upper <= 1.06 * excess + 1e-9
        assert certificate.lower <= excess
        assert certificate.minimum.lower <= minimum <= certificate.minimum.upper


def test_the_bound_of_the_minimum_holds_where_finer_subcells_are_worse():
    """-1e-10 u'' + |u|^0.01 sign u = 1 with free sides: u = 1, and J(u) = (1 / 1.01 - 1) n on n cells of length 1.

    Two cells lead to -1.5, a kink at 0.4, where 10 sub-cells meet and 64 do not; 130 have it at 0.01, which asks for
    64. The bound of J(v) is then 2e-4 larger than that in the bound of the gap. y = 0 is exact but for 1e-6 a cell.
    """
    v = torch.tensor([1.0, *[-1.5, 1.0], *[-0.01 / 0.99, 1.0] * 65], dtype=torch.float64)
    n = len(v) - 1
    density = QuadraticEnergy(1e-10, 1.0, power=1.01)
    problem = VariationalProblem(sb.Grid(n, float(n)), density, 1.0, boundary=sb.Neumann(0.0))
    certificate = certify_energy(problem, v, flux=(torch.zeros(n + 1, dtype=torch.float64),), lower=False)
    least = (1 / 1.01 - 1) * n
    assert certificate.subdivisions == 64  # otherwise nothing is tested
    assert least - 2e-6 * n <= float(certificate.minimum.lower) <= least


def test_a_plane_is_certified_to_be_the_minimiser():
    """Flux and gradient are constant: the gap is round-off."""
    problem = VariationalProblem(sb.Grid((5, 4)), MinimalSurface(), boundary=sb.Dirichlet(lambda x, y: 2 * x - y))
    plane = minimize_energy(problem).values
    certificate = certify_energy(problem, plane)
    assert 0 <= certificate.upper < 1e-10
    assert certificate.lower < 1e-10


def test_a_minimiser_of_the_grid_is_no_better_than_it_is():
    """u = x y is harmonic and bilinear, J(u) = int (x^2 + y^2) / 2 = 1 / 3; without a lambda its rules are not exact.

    The better field is u itself, but for the tolerance of its steps: an energy that is too small makes a violation.
    """
    density = IsotropicEnergy(lambda r: r.square() / 2, convex=True)
    problem = VariationalProblem(sb.Grid((2, 2)), density, boundary=sb.Dirichlet(lambda x, y: x * y))
    u = problem.impose_boundary(torch.full((3, 3), 0.25, dtype=torch.float64))
    for size in (0.0, 0.1):
        v = u + size * problem.free
        excess = float(problem.energy(v)) - 1 / 3  # Gauss points are exact for squares
        certificate = certify_energy(problem, v)
        assert float(certificate.lower) <= excess + 1e-14 <= float(certificate.upper) + 2e-14
        assert float(certificate.minimum.lower) <= 1 / 3 <= float(certificate.minimum.upper)
        assert float(certificate.energy.lower) <= 1 / 3 + excess <= float(certificate.energy.upper)


def test_loads_that_hardly_any_flux_carries():
    """On the unit square a surface carries sources up to 2 + sqrt(pi) = 3.77, its perimeter over its area (Cheeger)."""
    problem = VariationalProblem(sb.Grid((16, 16)), MinimalSurface(), 3.5)
    solution = minimize_energy(problem)
    certificate = certify_energy(problem, solution)
    excess = solution.energy - minimize_energy(problem.refine(2)).energy
    assert excess <= float(certificate.upper) < 3 * excess


def test_with_a_reaction_every_load_has_a_bound():
    problem = VariationalProblem(
        sb.Grid((12, 12)), MinimalSurface(reaction=1.0), lambda x, y: 20 * torch.sin(3 * x) * y
    )
    solution = minimize_energy(problem)
    certificate = certify_energy(problem, solution)
    excess = solution.energy - minimize_energy(problem.refine(4)).energy  # u is nearly upright at two sides
    assert 0.4 * excess <= float(certificate.lower)
    assert excess <= float(certificate.upper) < 6 * excess


@pytest.mark.parametrize(
    "density",
    [STIFF, PLaplacian(3), QuadraticEnergy(1.0, 10.0, power=4), ShearThinning(2.0, 0.5, 3.0),
     MinimalSurface(2.0)],
    ids=lambda density: type(density).__name__,
)  # fmt: skip
@pytest.mark.parametrize("boundary", [sb.Dirichlet(0.0), MIXED], ids=["held", "mixed"])
def test_bounds_bracket_the_excess_over_a_fine_solution(density, boundary):
    """The minimiser on cells that are 8 times smaller has nearly the energy of u: 1/64 of the mesh error is left."""
    problem = VariationalProblem(sb.Grid((6, 5)), density, lambda x, y: 1 + x * y, boundary=boundary)
    fine = problem.refine(8)
    minimum = minimize_energy(fine).energy
    discrete = minimize_energy(problem).values
    for v, tight in ((discrete, 2.5), (discrete + 0.3 * noise(problem), 1.3)):
        energy = float(fine.energy(interpolate_nodes(v.unsqueeze(0), 8, problem.frame.periodic)[0]))
        excess = energy - minimum
        slack = 0.05 * (float(problem.energy(discrete)) - minimum)
        for halvings in (0, 1):
            certificate = certify_energy(problem, v, halvings=halvings)
            assert excess - slack <= certificate.upper <= tight * excess + slack
            assert 0.4 * excess <= certificate.lower <= excess + slack
            assert float(certificate.indicators.sum()) == pytest.approx(float(certificate.upper))
            assert certificate.indicators.shape == problem.grid.shape


def test_linear_problems_have_the_bound_of_prager_and_synge():
    problem = VariationalProblem(sb.Grid((6, 5)), QuadraticEnergy(lambda x, y: 1 + x, 2.0), 1.0, boundary=MIXED)
    v = minimize_energy(problem).values + 0.1 * noise(problem)
    certificate, linear = certify_energy(problem, v), sb.certify(problem.as_diffusion(), v)
    assert float(certificate.upper) == pytest.approx(float(linear.upper) ** 2 / 2)
    assert float(certificate.lower) == pytest.approx(float(linear.lower) ** 2 / 2)
    assert float(certificate.minimum.lower) == pytest.approx(float(certificate.energy.lower - certificate.upper))
    assert float(certificate.minimum.upper) == pytest.approx(float(certificate.energy.upper - certificate.lower))


@pytest.mark.parametrize("boundary", [sb.Dirichlet(0.0), MIXED], ids=["fixed", "mixed"])
def test_halvings_refine_the_flux_of_linear_problems_too(boundary):
    """The same bounds as with the flux that `sb.certify` computes on the refined grid."""
    problem = VariationalProblem(sb.Grid((6, 5)), QuadraticEnergy(lambda x, y: 1 + x, 2.0), 1.0, boundary=boundary)
    fine = problem.refine(4).as_diffusion()
    flux = sb.certify(fine, sb.solve(fine), rtol=1e-10).flux
    for v in (minimize_energy(problem).values, problem.impose_boundary(noise(problem))):
        first, halved = (certify_energy(problem, v, halvings=n, rtol=1e-10) for n in (0, 2))
        linear = sb.certify(problem.as_diffusion(), v, flux=flux, rtol=1e-10)
        assert float(halved.upper) == pytest.approx(float(linear.upper) ** 2 / 2, rel=1e-6)
        assert halved.flux[0].shape == (25, 20)
        assert first.lower <= halved.upper < first.upper
        assert halved.lower <= halved.upper


def test_without_reaction_the_gap_is_that_of_prager_and_synge():
    """With the same flux: int (a |p|^2 + |y|^2 / a) / 2 - y . p is half the square of the hypercircle's bound."""
    quadratic = QuadraticEnergy(lambda x, y: 1 + x)
    problem = VariationalProblem(sb.Grid((6, 5)), quadratic, 1.0, boundary=MIXED)
    nonlinear = VariationalProblem(
        problem.grid, IsotropicEnergy(lambda r: r**2 / 2, coefficient=quadratic.coefficient, convex=True,
                                         lower=1.0, upper=1.0), 1.0, boundary=MIXED,
    )  # fmt: skip
    v = problem.impose_boundary(noise(problem))
    linear = sb.certify(problem.as_diffusion(), v, lower=False)
    gap = certify_energy(nonlinear, v, flux=linear.flux, lower=False)
    assert float(gap.upper) == pytest.approx(float(linear.upper) ** 2 / 2, rel=1e-9)
    assert not nonlinear.linear


def test_a_nonlinear_problem_is_solved_to_a_certified_per_cent():
    """Of the energy norm of the gradient: the bound of the relative error falls with the spacing."""
    relative = {}
    for n in (16, 32):
        problem = VariationalProblem(sb.Grid((n, n)), STIFF, lambda x, y: 20 * x)
        certificate = certify_energy(problem, minimize_energy(problem), lower=False, halvings=1)
        relative[n] = float(certificate.relative_gradient_upper)
    assert relative[32] < 0.55 * relative[16]
    assert certificate.relative_upper < 0.01


def test_the_bound_needs_no_good_first_flux():
    """A field that is far off linearises to a flux that no surface carries; firmer profiles lead back."""
    problem = VariationalProblem(sb.Grid((6, 6)), MinimalSurface(), 1.0)
    v = 3 * noise(problem)
    excess = float(problem.energy(v)) - minimize_energy(problem).energy
    assert 0.95 * excess < certify_energy(problem, v).upper < 1.1 * excess


def test_where_no_flux_carries_the_load_there_is_no_bound():
    problem = VariationalProblem(sb.Grid((4, 4)), MinimalSurface(), 10.0)
    certificate = certify_energy(problem, torch.zeros(5, 5, dtype=torch.float64))
    assert certificate.upper.isinf()
    assert certificate.minimum.lower == -math.inf


# --- what a certificate says ------------------------------------------------------------------------------------------


def test_the_gradient_error_follows_from_lambda():
    problem = VariationalProblem(sb.Grid((8, 8)), ShearThinning(3.0, 2.0), 5.0)
    certificate = certify_energy(problem, minimize_energy(problem))
    assert float(certificate.gradient_upper) == pytest.approx(math.sqrt(float(certificate.upper)))
    assert certificate.gradient_kind == certificate.kind == "bound"
    assert "gradient error" in repr(certificate)
    surface = VariationalProblem(sb.Grid((8, 8)), MinimalSurface(), 1.0)
    certificate = certify_energy(surface, minimize_energy(surface))
    assert certificate.gradient_upper.isinf()
    assert "gradient error" not in repr(certificate)


def test_what_users_declare_is_said_to_be_assumed():
    density = IsotropicEnergy(lambda r: torch.log(torch.cosh(r)) + r**2 / 2, convex=True, lower=1.0, upper=2.0)
    problem = VariationalProblem(sb.Grid((6, 6)), density, 1.0)
    certificate = certify_energy(problem, minimize_energy(problem))
    assert certificate.kind == "assumes convexity"
    assert certificate.gradient_kind == "assumes lambda"
    assert "assumes lambda" in repr(certificate)
    assert certificate.lower < certificate.upper < 3 * certificate.lower


def test_a_flux_may_be_reused_for_other_fields():
    problem = VariationalProblem(sb.Grid((6, 5)), STIFF, 5.0, boundary=MIXED)
    v = minimize_energy(problem).values
    for halvings in (0, 1):
        first = certify_energy(problem, v, halvings=halvings, lower=False)
        again = certify_energy(problem, v, flux=first.flux, lower=False)
        assert float(again.upper) == pytest.approx(float(first.upper), rel=1e-6)
        other = v + 0.1 * noise(problem)
        fresh = certify_energy(problem, other, halvings=halvings, lower=False)
        assert certify_energy(problem, other, flux=first.flux, lower=False).upper < 1.1 * fresh.upper


def test_any_flux_gives_a_bound():
    problem = VariationalProblem(sb.Grid((4, 3)), STIFF, 5.0)
    solution = minimize_energy(problem)
    first = certify_energy(problem, solution)
    generator = torch.Generator().manual_seed(0)
    wrong = tuple(y + torch.randn(y.shape, generator=generator, dtype=torch.float64) for y in first.flux)
    assert certify_energy(problem, solution, flux=wrong, lower=False).upper > first.upper


def test_energies_are_bounded_whatever_the_flux():
    """u^7 pulls to 1 at once, so that rules differ: J(v) is off by up to the gap of a bad flux, on the safe sides."""
    density = QuadraticEnergy(0.01, 1.0, power=8)
    problem = VariationalProblem(sb.Grid(6), density, 1.0)
    fine = problem.refine(64)
    minimum = minimize_energy(fine).energy  # above J(u) by some 1e-3 of what v is
    v = minimize_energy(problem).values
    energy = float(fine.energy(interpolate_nodes(v.unsqueeze(0), 64, (False,))[0]))
    for size in (0.0, 0.2, 1.0):
        certificate = certify_energy(problem, v, flux=(torch.linspace(-size, size, 7).double(),), lower=False)
        assert float(certificate.energy.lower) < energy < float(certificate.energy.upper)
        assert float(certificate.minimum.lower) < minimum < float(certificate.minimum.upper)
        assert float(certificate.minimum.upper) >= energy  # nothing better than v is known
    certificate = certify_energy(problem, v)
    assert minimum - 1e-3 * (energy - minimum) <= float(certificate.minimum.upper) < energy


def test_single_precision_on_the_sides_is_put_right():
    """0.1 is another number in float32; what is certified has the prescribed one."""
    problem = VariationalProblem(sb.Grid((4, 3)), STIFF, 5.0, boundary=sb.Dirichlet(0.1))
    v = minimize_energy(problem).values
    certificate = certify_energy(problem, v.float(), lower=False)
    assert bool((certificate.values[0] == 0.1).all())
    assert float(certificate.upper) == pytest.approx(float(certify_energy(problem, v, lower=False).upper), rel=1e-4)
    refused("impose_boundary", lambda: certify_energy(problem, v.float().double()))


def test_without_lower_bound_there_is_zero():
    problem = VariationalProblem(sb.Grid((4, 3)), STIFF, 5.0)
    certificate = certify_energy(problem, minimize_energy(problem), lower=False)
    assert certificate.lower == 0


def overflowing(slope: float) -> tuple[VariationalProblem, torch.Tensor]:
    """log(cosh r) is infinite from r = 711 on in double precision; also a field with gradients up to `slope`."""
    density = IsotropicEnergy(lambda r: torch.log(torch.cosh(r)) + r**2 / 2, convex=True, lower=1.0, upper=2.0)
    problem = VariationalProblem(sb.Grid(4), density, 1e5)
    return problem, slope / 4 * torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0], dtype=torch.float64)


@pytest.mark.parametrize("halvings", [0, 1])
def test_an_infinite_energy_is_refused(halvings):
    problem, v = overflowing(800.0)
    refused("finite double precision 800", certify_energy, problem, v, halvings=halvings)
    network = sb.BarronNetwork.of(
        [[0.0]], [0.0], [1e4], dirichlet_sides="all"
    )  # 1e4 x (1 - x) has gradients beyond 711
    refused("finite double precision", certify_energy, problem, network, halvings=halvings)


def test_an_energy_that_is_nearly_infinite_has_bounds():
    problem, v = overflowing(700.0)
    certificate = certify_energy(problem, v)
    assert certificate.lower <= certificate.upper
    assert certificate.energy.lower <= problem.energy(v) <= certificate.energy.upper


# --- bad input --------------------------------------------------------------------------------------------------------

GRID = sb.Grid((4, 3))


def general(x, u, p):
    return p.square().sum(-1) + u**2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: certify_energy(VariationalProblem(GRID, GinzburgLandau(0.1)), np.zeros((5, 4))),
         "energy convex GinzburgLandau"),
        (lambda: certify_energy(VariationalProblem(GRID, EnergyDensity(general)), np.zeros((5, 4))),
         "energy convex"),
        (lambda: certify_energy(VariationalProblem(GRID, EnergyDensity(general, convex=True)), np.zeros((5, 4))),
         "convex conjugate general density"),
        (lambda: certify_energy(VariationalProblem(Box([1.0]), STIFF), np.zeros(3)), "box grid"),
        (lambda: certify_energy(VariationalProblem(GRID, STIFF), np.ones((5, 4))), "boundary values 1 minimiser"),
        (lambda: certify_energy(VariationalProblem(GRID, QuadraticEnergy()), np.ones((5, 4))), "impose_boundary"),
        (lambda: certify_energy(VariationalProblem(GRID, STIFF), np.zeros((4, 3))), "node field (5, 4)"),
        (lambda: certify_energy(VariationalProblem(GRID, STIFF), np.full((5, 4), np.nan)), "NaN"),
        (lambda: certify_energy(VariationalProblem(GRID, STIFF), np.zeros((5, 4)), halvings=-1), "halvings -1"),
        (lambda: certify_energy(VariationalProblem(GRID, STIFF), np.zeros((5, 4)), flux=(1.0,)),
         "flux face field axis"),
        (lambda: certify_energy(VariationalProblem(GRID, STIFF), np.zeros((5, 4)), flux=(1.0,), halvings=1),
         "halvings=1 flux"),
        (lambda: certify_energy(VariationalProblem(GRID, STIFF), np.zeros((5, 4)), rtol=0.0), "rtol"),
        (lambda: certify_energy(sb.Diffusion(GRID), np.zeros((5, 4))), "VariationalProblem Diffusion sb.certify"),
        (lambda: certify_energy(VariationalProblem(GRID, STIFF), np.zeros((5, 4)), flux=(np.zeros((5, 3)),) * 2),
         "flux y shape (5, 3) (4, 4)"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_one_sentence(call, message):
    refused(message, call)
