"""Estimation of a coefficient: equations and derivatives, the adjoint, and coefficients that are found again."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from refusals import refusals

import sciml_bounds as sb
from sciml_bounds.grid import AXES

FLOW = {"x0": sb.Dirichlet(0.0), "x1": sb.Dirichlet(1.0), "y0": sb.Neumann(0.0), "y1": sb.Neumann(0.0)}


def small(dim=2):
    shape = (5, 4, 3)[:dim]
    a = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.5
    sides = {f"{axis}{end}": sb.Neumann(0.1 + end) for axis in AXES[:dim] for end in (0, 1)} | {"x0": sb.Dirichlet(1.0)}
    sides |= {"x1": sb.Robin(2.0, 1.0)}
    problem = sb.Diffusion(sb.Grid(shape), coefficient=a, source=1.0, reaction=0.5, boundary=sides)
    data = torch.rand(problem.node_shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return sb.control.CoefficientEstimation(problem, data, smoothing=2.0, hessian="exact")


def moved(estimation):
    """A point where nothing vanishes, a direction, and multipliers."""
    random = np.random.default_rng(0)
    x = estimation.start()
    return x + 0.1 * random.normal(size=len(x)), random.normal(size=len(x)), random.normal(size=estimation.n)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_equations_are_those_of_solve_for_any_coefficient(dim):
    estimation = small(dim)
    x, _, _ = moved(estimation)
    _, a = estimation.fields(x)
    u = sb.solve(estimation.problem.replace(coefficient=a), method="direct").values
    x[: estimation.n] = u.reshape(-1)[estimation.grid_stiffness.free].numpy()
    assert abs(estimation.equation(x)).max() < 1e-13


def test_it_starts_at_the_guess_and_its_state():
    estimation = small()
    state, a = estimation.fields(estimation.start())
    torch.testing.assert_close(state, sb.solve(estimation.problem, method="direct").values, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(a, estimation.problem.coefficient[0], rtol=1e-14, atol=0)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_derivatives_are_those_of_differences(dim):
    estimation = small(dim)
    x, v, multipliers = moved(estimation)
    t = 1e-5  # central differences: an error of t^2 times third derivatives of about one

    def slope(function):
        return (function(x + t * v) - function(x - t * v)) / (2 * t)

    assert slope(estimation.fun) == pytest.approx(estimation.jac(x) @ v, rel=1e-8)
    np.testing.assert_allclose(slope(estimation.jac), estimation.hess(x) @ v, atol=1e-7)
    np.testing.assert_allclose(slope(estimation.equation), estimation.equation_jac(x) @ v, atol=1e-7)
    along = slope(lambda y: estimation.equation_jac(y).T @ multipliers)
    np.testing.assert_allclose(along, estimation.equation_hess(x, multipliers) @ v, atol=1e-7)


def test_multipliers_are_the_implicit_adjoint_of_solve():
    """The gradient of the Lagrangian in q is that of the reduced objective, here by torch through `sb.solve`."""
    estimation = small()
    x, _, _ = moved(estimation)
    q = torch.from_numpy(x[estimation.n :]).requires_grad_()
    a = q.exp().view(estimation.problem.grid.shape)
    u = sb.solve(estimation.problem.replace(coefficient=a), method="direct").values
    free = u.reshape(-1)[estimation.grid_stiffness.free]
    data = torch.rand(u.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)  # those of `small`
    seen = data.reshape(-1)[estimation.grid_stiffness.free]
    (expected,) = torch.autograd.grad(estimation.grid_stiffness.mass @ (free - seen).square() / 2, q)
    x[: estimation.n] = free.detach().numpy()
    J, g = estimation.equation_jac(x), estimation.jac(x)
    multipliers = scipy.sparse.linalg.spsolve(J[:, : estimation.n].T.tocsc(), -g[: estimation.n])
    np.testing.assert_allclose((J.T @ multipliers)[estimation.n :], expected, rtol=1e-8, atol=1e-11)


def inclusion(n=16):
    """Flow across a unit square in which a disc conducts e times better."""
    grid = sb.Grid((n, n))
    truth = sb.Diffusion(
        grid, coefficient=lambda x, y: torch.exp((torch.hypot(x - 0.6, y - 0.5) < 0.25).double()), source=10.0,
        boundary=FLOW,
    )  # fmt: skip
    return truth, truth.replace(coefficient=1.0)


def test_a_known_coefficient_is_recovered():
    truth, guess = inclusion()
    estimation = sb.control.CoefficientEstimation(guess, sb.solve(truth).values, smoothing=1e-10)
    r = estimation.minimize()
    assert r.success
    state, a = estimation.fields(r.x)
    wrong = (a / truth.coefficient[0]).log().norm() / truth.coefficient[0].log().norm()
    assert float(wrong) < 0.1
    torch.testing.assert_close(
        state, sb.solve(truth.replace(coefficient=a), method="direct").values, rtol=1e-6, atol=1e-8
    )


def test_both_hessians_give_the_same_coefficient_and_the_exact_one_converges_faster():
    truth, guess = inclusion()
    found = [
        sb.control.CoefficientEstimation(guess, sb.solve(truth).values, smoothing=1e-5, hessian=hessian).minimize()
        for hessian in ("gauss-newton", "exact")
    ]
    np.testing.assert_allclose(found[0].x, found[1].x, atol=1e-6)
    last = [r.history[-1].kkt_residual / r.history[-2].kkt_residual for r in found]
    assert last[1] < 1e-3 * last[0]


def test_less_noise_and_more_observations_reduce_the_error():
    truth, guess = inclusion()
    u = sb.solve(truth).values
    random = torch.Generator().manual_seed(0)
    error = torch.randn(u.shape, generator=random, dtype=torch.float64)
    some = torch.rand(u.shape, generator=random) < 0.2
    wrong = []
    for noise, observed in ((1e-2, some), (1e-2, None), (1e-4, None)):
        smoothing = noise**2 * guess.grid.cell_volume
        estimation = sb.control.CoefficientEstimation(guess, u + noise * error, observed=observed, smoothing=smoothing)
        _, a = estimation.fields(estimation.minimize().x)
        wrong.append(float((a / truth.coefficient[0]).log().norm()))
    assert wrong == sorted(wrong, reverse=True)


def test_without_observations_the_guess_remains():
    _, guess = inclusion(8)
    nothing = torch.zeros(guess.node_shape, dtype=torch.bool)
    estimation = sb.control.CoefficientEstimation(
        guess, torch.full(guess.node_shape, math.nan), observed=nothing, smoothing=1.0
    )
    r = estimation.minimize(rtol=0.0, atol=1e-10)
    torch.testing.assert_close(estimation.fields(r.x)[1], torch.ones(8, 8, dtype=torch.float64), rtol=0, atol=1e-9)


def estimation_of(changes=(), **arguments):
    given = {"observations": torch.ones(9, 9), "smoothing": 1.0} | arguments
    return sb.control.CoefficientEstimation(sb.Diffusion(sb.Grid((8, 8)), **dict(changes)), **given)


test_bad_input = refusals(
    ("observations shape (8, 8) nodal (9, 9)", lambda: estimation_of(observations=torch.ones(8, 8))),
    ("observed shape (8, 9)", lambda: estimation_of(observed=torch.ones(8, 9) > 0)),
    ("observed dtype float32 boolean", lambda: estimation_of(observed=torch.ones(9, 9))),
    ("observations", lambda: estimation_of(observations=torch.full((9, 9), math.nan))),
    ("hessian 'bfgs' 'gauss-newton' 'exact'", lambda: estimation_of(hessian="bfgs")),
    ("smoothing -1.0 positive number", lambda: estimation_of(smoothing=-1.0)),
    ("scalar coefficient solids", lambda: estimation_of({"coefficient": (1.0, 2.0)})),
    ("scalar coefficient solids", lambda: estimation_of({"solid": np.eye(8) > 0})),
)


@pytest.mark.parametrize("observed", [True, False])
def test_a_guess_that_is_right_is_the_answer(observed):
    problem = sb.Diffusion(sb.Grid((12, 12)), coefficient=1.0, source=10.0)
    seen = np.full(problem.node_shape, observed)
    estimation = sb.control.CoefficientEstimation(problem, sb.solve(problem).values, observed=seen, smoothing=1e-6)
    r = estimation.minimize()
    assert r.success
    np.testing.assert_allclose(estimation.fields(r.x)[1], 1.0, rtol=1e-6)
