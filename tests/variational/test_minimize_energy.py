"""Minimisers of energies: against scipy, exact solutions and proven rates."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.optimize
import torch
from refusals import refused

import sciml_bounds as sb
from sciml_bounds.barron import Box
from sciml_bounds.errors import ConvergenceError, ConvergenceWarning, InputError
from sciml_bounds.reports import Reason
from sciml_bounds.variational import (
    EnergyDensity,
    GinzburgLandau,
    IsotropicEnergy,
    MinimalSurface,
    PLaplacian,
    QuadraticEnergy,
    ShearThinning,
    VariationalProblem,
    minimize_energy,
)

METHODS = ("newton", "kacanov", "gradient", "gns")
STIFF = ShearThinning(3.0)


# --- against scipy ----------------------------------------------------------------------------------------------------


def numpy_energy(v: np.ndarray, grid: sb.Grid, density, source: float):
    """J by two Gauss points per axis, cell by cell, of a nodal array that may be complex; density of (u, |p|^2)."""
    h, total = grid.spacing, 0.0
    gauss = [0.5 - math.sqrt(1 / 12), 0.5 + math.sqrt(1 / 12)]
    for i, j in itertools.product(*map(range, grid.shape)):
        a, b, c, d = v[i, j], v[i + 1, j], v[i, j + 1], v[i + 1, j + 1]
        for s, t in itertools.product(gauss, gauss):
            u = a * (1 - s) * (1 - t) + b * s * (1 - t) + c * (1 - s) * t + d * s * t
            px = ((b - a) * (1 - t) + (d - c) * t) / h[0]
            py = ((c - a) * (1 - s) + (d - b) * s) / h[1]
            total += (density(u, px**2 + py**2) - source * u) * grid.cell_volume / 4
    return total


DENSITIES = {
    "cubic reaction": (QuadraticEnergy(2.0, 5.0, power=4), lambda u, r2: r2 + 5 * u**4 / 4),
    "p = 3": (PLaplacian(3, reaction=0.5), lambda u, r2: r2**1.5 / 3 + u**2 / 4),
    "p = 1.7": (PLaplacian(1.7), lambda u, r2: r2**0.85 / 1.7),
    "minimal surface": (MinimalSurface(2.0), lambda u, r2: 2 * np.sqrt(1 + r2)),
    "shear thinning": (STIFF, lambda u, r2: r2 / 2 + 3 * (np.sqrt(1 + r2) - 1)),
    "two phases": (GinzburgLandau(0.4), lambda u, r2: 0.08 * r2 + (u**2 - 1) ** 2 / 4),
    "general": (
        EnergyDensity(lambda x, u, p: torch.exp(p.square().sum(-1) / 2 + u**2 / 2), convex=True),
        lambda u, r2: np.exp(r2 / 2 + u**2 / 2),
    ),
}


@pytest.mark.parametrize("method", ["newton", "kacanov", "gns"])
@pytest.mark.parametrize("name", DENSITIES)
def test_the_minimiser_is_that_of_scipy(name, method):
    """BFGS with derivatives by complex steps, which are exact, on an energy written cell by cell in numpy."""
    density, of_numbers = DENSITIES[name]
    if method == "kacanov" and name == "general":
        pytest.skip("nothing is frozen in a general density")
    grid, source = sb.Grid((4, 3), lengths=(1.0, 0.8)), 1.5
    boundary = sb.Dirichlet(lambda x, y: 0.5 + x - x * y)
    problem = VariationalProblem(grid, density, source, boundary=boundary)
    start = problem.impose_boundary(np.full((5, 4), 0.7)).numpy()

    def fun(free: np.ndarray) -> complex:
        v = start.astype(free.dtype)
        v[1:-1, 1:-1] = free.reshape(3, 2)
        return numpy_energy(v, grid, of_numbers, source)

    def jac(free: np.ndarray) -> np.ndarray:
        return np.array([fun(free + 1e-30j * e).imag / 1e-30 for e in np.eye(len(free))])

    known = scipy.optimize.minimize(fun, start[1:-1, 1:-1].reshape(-1), jac=jac, options={"gtol": 1e-9, "maxiter": 500})
    solution = minimize_energy(problem, method=method, x0=start, rtol=1e-10)
    assert solution.converged
    assert solution.energy == pytest.approx(known.fun, rel=1e-12)
    np.testing.assert_allclose(solution.values[1:-1, 1:-1].reshape(-1), known.x, atol=1e-6)


# --- exact solutions --------------------------------------------------------------------------------------------------


def test_linear_problems_need_one_step():
    problem = VariationalProblem(sb.Grid((12, 9)), QuadraticEnergy(lambda x, y: 1 + x, 2.0), 3.0)
    for method in METHODS:
        solution = minimize_energy(problem, method=method, x0=np.zeros((13, 10)))
        assert solution.iterations == 1 or method == "gns"  # which does not trust the first step
        assert float(problem.gradient(solution.values).abs().max()) < 1e-8


def test_nodal_errors_fall_with_the_square_of_the_spacing():
    """u = sin(pi x) sin(pi y), f by torch: halving h divides errors by 4 (by 4.2 and 4.06 on these grids)."""

    def u(x: torch.Tensor) -> torch.Tensor:
        return torch.sin(math.pi * x).prod(-1)

    def source(*coordinates: torch.Tensor) -> torch.Tensor:
        x = torch.stack(coordinates, -1).requires_grad_()
        (p,) = torch.autograd.grad(u(x).sum(), x, create_graph=True)
        y = p * (1 + 3 / torch.sqrt(1 + p.square().sum(-1, keepdim=True)))
        divergence = sum(torch.autograd.grad(y[..., a].sum(), x, create_graph=True)[0][..., a] for a in range(2))
        return (-divergence).detach()

    errors = []
    for n in (16, 32, 64):
        grid = sb.Grid((n, n))
        exact = u(torch.stack(torch.meshgrid(grid.nodes(0), grid.nodes(1), indexing="ij"), -1))
        errors.append(float((minimize_energy(VariationalProblem(grid, STIFF, source)).values - exact).abs().max()))
    ratios = [coarse / fine for coarse, fine in itertools.pairwise(errors)]
    assert min(ratios) > 3.6
    assert max(ratios) < 4.4


@pytest.mark.parametrize("q", [1.5, 3.0, 4.0])
def test_the_p_laplacian_on_an_interval(q):
    """-(|u'|^(q - 2) u')' = 1 has u' = +-|1/2 - x|^(q' - 1), q' = q / (q - 1)."""
    conjugate = q / (q - 1)
    grid = sb.Grid(64)
    exact = (0.5**conjugate - (grid.nodes(0) - 0.5).abs() ** conjugate) / conjugate
    for method in ("newton", "gns"):
        solution = minimize_energy(VariationalProblem(grid, PLaplacian(q), 1.0), method=method)
        assert float((solution.values - exact).abs().max()) < 64**-1.5 / 4  # the order near the kink of u' is below 2


def test_sides_of_all_kinds():
    """A plane u = 1 + x solves with flux 4 - 3 + 3 / sqrt(2) on the right, and any period across."""
    flux = 1 + 3 / math.sqrt(2)
    boundary = {"x0": sb.Dirichlet(1.0), "x1": sb.Neumann(flux), "y0": sb.Periodic(), "y1": sb.Periodic()}
    problem = VariationalProblem(sb.Grid((6, 5)), STIFF, boundary=boundary)
    for method in METHODS:
        solution = minimize_energy(problem, method=method, rtol=1e-11)
        exact = 1 + torch.linspace(0, 1, 7, dtype=torch.float64).unsqueeze(1).expand(7, 5)
        torch.testing.assert_close(solution.values, exact, rtol=1e-9, atol=1e-9)


def test_three_dimensions_and_a_reaction_that_alone_holds_the_level():
    """u^3 = 8 everywhere."""
    problem = VariationalProblem(
        sb.Grid((3, 4, 3)), ShearThinning(2.0, reaction=1.0, power=4), 8.0, boundary=sb.Neumann(0.0)
    )
    for method in ("newton", "kacanov", "gns"):
        solution = minimize_energy(problem, method=method, rtol=1e-11)
        torch.testing.assert_close(solution.values, torch.full((4, 5, 4), 2.0).double())


# --- rates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [1.0, 3.0, 15.0])
def test_proven_contraction_holds_and_is_nearly_observed(extra):
    """The map is a contraction by (L - mu) / (L + mu) in B: successive steps obey it up to the inner residuals."""
    problem = VariationalProblem(sb.Grid((32, 32)), ShearThinning(extra), lambda x, y: 20 * (extra + 1) * (x < 0.5))
    solution = minimize_energy(problem, method="gradient", rtol=1e-6)
    assert solution.proven_contraction == pytest.approx(extra / (extra + 2))
    assert 0.9 * solution.proven_contraction < solution.observed_contraction < 1.0001 * solution.proven_contraction
    assert "proven" in repr(solution)


@pytest.mark.parametrize("extra", [1.0, 15.0])
def test_kacanov_lowers_the_energy_as_proven(extra):
    problem = VariationalProblem(sb.Grid((32, 32)), ShearThinning(extra), 20.0)
    solution = minimize_energy(problem, method="kacanov", rtol=1e-12)
    assert solution.proven_contraction == pytest.approx(math.sqrt(extra / (1 + extra)))
    gaps = [step.energy - solution.energy for step in solution.history]
    known = [(a, b) for a, b in itertools.pairwise(gaps) if b > 1e-10 * abs(solution.energy)]
    assert known
    assert all(math.sqrt(b / a) <= solution.proven_contraction for a, b in known)
    assert all(step.step_length == 1.0 for step in solution.history[:3])


def test_kacanov_does_not_go_round_in_circles():
    """For |p|^3 its plain iteration multiplies errors by -1."""
    solution = minimize_energy(VariationalProblem(sb.Grid((16, 16)), PLaplacian(3), 1.0), method="kacanov")
    assert solution.iterations < 30


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_iterations_do_not_depend_on_the_mesh(method):
    counts, inner = [], []
    for n in (12, 24, 48):
        problem = VariationalProblem(sb.Grid((n, n)), STIFF, 20.0)
        solution = minimize_energy(problem, method=method, rtol=1e-6)
        counts.append(solution.iterations)
        inner.append(solution.inner_steps / solution.iterations)
    assert max(counts) <= min(counts) + 2
    assert max(inner) <= 1.6 * min(inner)


def test_newton_is_fast_where_gradients_take_long():
    problem = VariationalProblem(sb.Grid((16, 16)), ShearThinning(49.0), 100.0)
    newton, gns = (minimize_energy(problem, method=method) for method in ("newton", "gns"))
    gradient = minimize_energy(problem, method="gradient", rtol=1e-3)
    assert max(newton.iterations, gns.iterations) < gradient.iterations / 4


# --- two phases -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["newton", "gns"])
def test_a_double_well_has_more_than_one_minimiser(method):
    problem = VariationalProblem(sb.Grid((16, 16)), GinzburgLandau(0.1), boundary=sb.Neumann(0.0))
    for level in (0.3, -2.0):
        solution = minimize_energy(problem, method=method, x0=np.full((17, 17), level))
        assert solution.values.mean().item() == pytest.approx(math.copysign(1.0, level), abs=1e-6)
        assert solution.energy == pytest.approx(0.0, abs=1e-12)
    assert solution.proven_contraction is None


def test_energies_that_grow_exponentially_are_not_done_too_early():
    """Zero values next to sides with value 10 have an energy of e^60; the residual there says nothing."""
    density = IsotropicEnergy(lambda r: torch.cosh(r) - 1, convex=True, lower=1.0)
    problem = VariationalProblem(sb.Grid((6, 6)), density, 1.0, boundary=sb.Dirichlet(10.0))
    level = VariationalProblem(sb.Grid((6, 6)), density, 1.0)
    solution = minimize_energy(problem, x0=np.full((7, 7), 10.0))
    torch.testing.assert_close(solution.values, minimize_energy(level).values + 10, rtol=1e-9, atol=1e-7)
    slope = sb.Dirichlet(lambda x, y: 10 * x)
    steep = minimize_energy(VariationalProblem(sb.Grid((6, 6)), density, 1.0, boundary=slope))
    assert float(VariationalProblem(sb.Grid((6, 6)), density, 1.0, boundary=slope).gradient(steep).abs().max()) < 1e-3


# --- how it ends ------------------------------------------------------------------------------------------------------


def test_what_is_not_reached_is_said():
    problem = VariationalProblem(sb.Grid((8, 8)), STIFF, 20.0)
    with pytest.warns(ConvergenceWarning, match="the energy did not converge: maxiter reached; after 2 iterations"):
        solution = minimize_energy(problem, method="gradient", maxiter=2)
    assert (solution.reason, solution.converged, solution.iterations) == (Reason.MAXITER, False, 2)
    with pytest.raises(ConvergenceError):
        minimize_energy(problem, method="gradient", maxiter=2, throw=True)


def test_newton_is_no_advice_for_newton():
    problem = VariationalProblem(sb.Grid((4, 4)), STIFF, 20.0)
    with pytest.warns(ConvergenceWarning):
        advice = {method: minimize_energy(problem, method=method, maxiter=1).advice for method in ("newton", "gns")}
    assert advice == {
        "newton": "Raise maxiter, or use a larger rtol.",
        "gns": "Raise maxiter, or use method='newton'.",
    }


def test_the_callback_may_stop():
    seen = []

    def watch(iteration: int, values: torch.Tensor) -> bool:
        seen.append((iteration, float(problem.energy(values))))
        return iteration == 2

    problem = VariationalProblem(sb.Grid((8, 8)), STIFF, 20.0)
    solution = minimize_energy(problem, method="kacanov", callback=watch)
    assert solution.reason is Reason.STOPPED
    assert seen == [(k + 1, step.energy) for k, step in enumerate(solution.history)]


def test_a_certificate_comes_with_the_solution():
    problem = VariationalProblem(sb.Grid((8, 8)), STIFF, 20.0)
    solution = minimize_energy(problem, certify=True)
    assert solution.certificate.lower < solution.certificate.upper < 3 * solution.certificate.lower
    assert solution.certificate.energy.lower <= solution.energy <= solution.certificate.energy.upper
    assert "J(v) - J(u)" in repr(solution)
    assert minimize_energy(problem).certificate is None
    refused(
        "convex",
        lambda: minimize_energy(VariationalProblem(sb.Grid((4, 4)), GinzburgLandau(0.5)), certify=True),
    )


def test_a_solution_may_be_where_another_method_starts():
    problem = VariationalProblem(sb.Grid((8, 8)), STIFF, 20.0)
    solution = minimize_energy(problem, rtol=1e-10)
    assert minimize_energy(problem, method="gns", x0=solution).iterations == 0


def test_an_energy_without_a_lower_bound_is_not_said_to_have_a_minimum():
    """No flux |y| <= 1 carries a load of 10: int sqrt(1 + |p|^2) - 10 u falls without end."""
    problem = VariationalProblem(sb.Grid((8, 8)), MinimalSurface(), 10.0)
    with pytest.warns(ConvergenceWarning, match="objective unbounded below"):
        assert not minimize_energy(problem).converged


@pytest.mark.parametrize(
    "profile",
    [
        lambda r: torch.log(torch.cosh(r)) + r**2 / 2,  # infinite beyond 711
        lambda r: torch.logaddexp(r, -r) + r**2 / 2,  # finite, but torch has NaN for its second derivative
    ],
)
@pytest.mark.parametrize("method", ["newton", "gns"])
def test_energies_that_overflow_are_said_to(profile, method):
    density = IsotropicEnergy(profile, convex=True, lower=1.0, upper=2.0)
    problem = VariationalProblem(sb.Grid((8, 8)), density, 1e5)
    with pytest.warns(ConvergenceWarning, match="does not overflow"):
        solution = minimize_energy(problem, method=method, certify=math.isinf(profile(torch.tensor(1e3))))
    assert solution.reason is Reason.NOT_FINITE
    assert solution.certificate is None


GRID = sb.Grid((4, 4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: minimize_energy(sb.Diffusion(GRID)), "got a Diffusion"),
        (lambda: minimize_energy(VariationalProblem(Box([1.0]), STIFF)), "got a problem on a box"),
        (lambda: minimize_energy(VariationalProblem(GRID, STIFF), method="ritz"), "the choices are 'newton'"),
        (lambda: minimize_energy(VariationalProblem(GRID, STIFF), rtol=0.0), "rtol is 0.0"),
        (lambda: minimize_energy(VariationalProblem(GRID, STIFF), rtol=1e-16), "below round-off"),
        (lambda: minimize_energy(VariationalProblem(GRID, STIFF), maxiter=-1), "maxiter is -1"),
        (lambda: minimize_energy(VariationalProblem(GRID, STIFF), callback=3), "callback is 3"),
        (lambda: minimize_energy(VariationalProblem(GRID, STIFF), x0=np.full((5, 5), np.nan)), "NaN"),
        (lambda: minimize_energy(VariationalProblem(GRID, PLaplacian(3)), method="gradient"),
         "method='gradient' needs mu > 0 and a finite L"),
        (lambda: minimize_energy(VariationalProblem(GRID, GinzburgLandau(0.1)), method="gradient"),
         "method='gradient' needs mu > 0 and a finite L"),
        (lambda: minimize_energy(VariationalProblem(GRID, EnergyDensity(
            lambda x, u, p: p.square().sum(-1)), 1.0), method="kacanov"), "Kacanov's method needs"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_one_sentence(call, message):
    with pytest.raises(InputError) as caught:
        call()
    assert message in str(caught.value)
