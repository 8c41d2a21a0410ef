"""Estimation as an objective of the coefficient: derivatives, the way with factors, meshes, and inexact solves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from refusals import refusals

import sciml_bounds as sb
from sciml_bounds.control._coefficient_functions import _prior
from sciml_bounds.control._coefficient_objective import CoefficientObjective, CoefficientPoint, prior_operator
from sciml_bounds.control._reduced_newton import minimize_reduced
from sciml_bounds.grid import AXES
from sciml_bounds.stopping import StoppingCriteria

FLOW = {"x0": sb.Dirichlet(0.0), "x1": sb.Dirichlet(1.0), "y0": sb.Neumann(0.0), "y1": sb.Neumann(0.0)}


def small(dim, hessian="exact"):
    """Sides of all kinds, a reaction, and smoothing that weighs as much as the data."""
    shape = (9, 8, 7)[:dim]
    a = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.5
    sides = {f"{axis}{end}": sb.Neumann(0.1 + end) for axis in AXES[:dim] for end in (0, 1)} | {"x0": sb.Dirichlet(1.0)}
    sides |= {"x1": sb.Robin(2.0, 1.0)}
    problem = sb.Diffusion(sb.Grid(shape), coefficient=a, source=1.0, reaction=0.5, boundary=sides)
    error = torch.randn(problem.node_shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    data = sb.solve(problem.replace(coefficient=1.0), method="direct").values + 0.02 * error  # Gauss-Newton needs a fit
    return sb.control.CoefficientEstimation(problem, data, smoothing=1e-2, hessian=hessian)


def inclusion(n, noise=0.1, smoothing=1e-5):
    """Flow across a unit square in which a disc conducts e times better, observed with errors."""
    guess = sb.Diffusion(sb.Grid((n, n)), source=10.0, boundary=FLOW)
    truth = guess.replace(coefficient=lambda x, y: torch.exp((torch.hypot(x - 0.6, y - 0.5) < 0.25).double()))
    u = sb.solve(truth).values
    error = noise * float(u.std())
    data = u + error * torch.randn(u.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return sb.control.CoefficientEstimation(guess, data, smoothing=smoothing)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_derivatives_are_those_of_differences(dim):
    objective = CoefficientObjective(small(dim), exact=True)
    random = torch.Generator().manual_seed(2)
    q, p = (0.3 * torch.randn(len(objective.guess), generator=random, dtype=torch.float64) for _ in range(2))
    q += objective.guess
    t = 1e-4  # central differences: an error of t^2 times third derivatives of about one; solves are exact to 1e-12
    point = CoefficientPoint(objective, q, 1e-13, None)
    ends = [CoefficientPoint(objective, q + sign * t * p, 1e-13, point) for sign in (1, -1)]
    slope = (ends[0].fun - ends[1].fun) / (2 * t)
    assert slope == pytest.approx(float(point.gradient @ p), rel=1e-6)
    along = (ends[0].gradient - ends[1].gradient) / (2 * t)
    torch.testing.assert_close(along, point.hessian_product(p, 1e-13), rtol=1e-5, atol=1e-7 * float(along.abs().max()))


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_products_of_gauss_and_newton_are_symmetric_and_positive(dim):
    objective = CoefficientObjective(small(dim), exact=False)
    point = CoefficientPoint(objective, objective.start(), 1e-13, None)
    n = len(objective.guess)
    units = torch.eye(n, dtype=torch.float64)[:: max(1, n // 20)]
    products = torch.stack([point.hessian_product(unit, 1e-13) for unit in units])
    block = products @ units.T
    torch.testing.assert_close(block, block.T, rtol=0, atol=1e-10 * float(block.abs().max()))
    assert float(torch.linalg.eigvalsh(block)[0]) > 0


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_the_smoothing_is_that_of_the_matrix(dim):
    grid = sb.Grid((6, 5, 4)[:dim], lengths=(1.0, 0.7, 2.0)[:dim])
    operator = prior_operator(grid, 0.3)
    np.testing.assert_allclose(operator.to_csr().toarray(), 0.3 * _prior(grid).toarray(), rtol=1e-13, atol=1e-15)


def test_errors_of_states_change_the_objective_at_second_order():
    """J is corrected by l.r: with states that are wrong by 1e-3, values are better by far."""
    objective = CoefficientObjective(inclusion(16), exact=False)
    q = objective.start() + 0.3
    exact, rough = (CoefficientPoint(objective, q, accuracy, None) for accuracy in (1e-13, 1e-1))
    plain = objective.estimation.fun(rough.solution()[0])
    assert abs(rough.fun - exact.fun) < 0.1 * abs(plain - exact.fun)


@pytest.mark.parametrize("hessian", ["gauss-newton", "exact"])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_cycles_and_factors_give_the_same_coefficient(dim, hessian):
    r = small(dim, hessian).minimize(inner="multigrid")
    direct = small(dim, "exact").minimize(inner="direct", rtol=1e-11)
    assert r.success
    assert r.fun == pytest.approx(direct.fun, rel=1e-10)
    np.testing.assert_allclose(r.x, direct.x, atol=1e-6)
    np.testing.assert_allclose(r.multipliers, direct.multipliers, atol=1e-6 * abs(direct.multipliers).max())


@pytest.mark.slow
def test_steps_do_not_depend_on_the_mesh():
    steps, outer = {}, {}
    for n in (16, 32, 64):
        r = inclusion(n).minimize(inner="multigrid", rtol=1e-6)
        assert r.success
        steps[n], outer[n] = sum(step.inner_steps for step in r.history), r.nit
    assert max(outer.values()) <= min(outer.values()) + 3
    assert steps[64] <= 1.3 * steps[16]


@pytest.mark.slow
def test_inexact_solves_cost_less():
    """Both end within |g|^2 / 2 of the least objective, in the norm dual to R, since H is at least R."""
    estimation = inclusion(16)
    cycles, values = [], []
    for forcing in (None, 1e-9):
        objective = CoefficientObjective(estimation, exact=False)
        r = minimize_reduced(objective, StoppingCriteria(1e-6, 0.0, 100), forcing=forcing)
        assert r.success
        cycles.append(objective.cycles)
        values.append(r.fun)
    assert cycles[0] < 0.5 * cycles[1]
    assert abs(values[0] - values[1]) <= r.tolerance**2 / 2


def floating():
    problem = sb.Diffusion(sb.Grid((4, 4)), boundary=sb.Neumann(0.0))
    return sb.control.CoefficientEstimation(problem, torch.ones(5, 5), smoothing=1.0)


test_bad_input = refusals(
    ("constant", lambda: floating().minimize(inner="multigrid")),
    ("inner='multigrid' seed", lambda: inclusion(4).minimize(inner="multigrid", seed=1)),
    ("forcing=0.1 inner='multigrid'", lambda: inclusion(4).minimize(inner="direct", forcing=0.1)),
)
