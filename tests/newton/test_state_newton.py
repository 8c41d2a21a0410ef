"""Newton's method in the state: derivatives, a preconditioner and a norm that no mesh hurts, and all of its ends."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.newton.state_newton import Ending, StatePoint, StatePreconditioner, minimize_in_state
from sciml_bounds.reports import Reason


def published(n, weight, nonlinearity=None):
    """Control of -Lap u = z on (-1, 1)^2 with n x n free nodes, and a target that is not zero on the sides."""
    problem = sb.Diffusion(sb.Grid((n + 1, n + 1), lengths=(2.0, 2.0), origin=(-1.0, -1.0)))
    return sb.DistributedControl(
        problem, lambda x, y: torch.sin(2 + x) + torch.cos(y), weight=weight, nonlinearity=nonlinearity
    )


def general(nonlinearity):
    """Sides of all kinds, a coefficient and a nonlinearity."""
    generator = torch.Generator().manual_seed(0)
    sides = {"x0": sb.Dirichlet(1.0), "x1": sb.Neumann(0.3), "y0": sb.Robin(2.0, 1.0), "y1": sb.Neumann(0.0)}
    a = torch.rand(6, 5, generator=generator, dtype=torch.float64) + 0.5
    problem = sb.Diffusion(sb.Grid((6, 5)), coefficient=a, source=1.0, boundary=sides)
    return sb.DistributedControl(problem, lambda x, y: x * y, weight=1e-2, nonlinearity=nonlinearity)


def somewhere(control, scale=1.0):
    generator = torch.Generator().manual_seed(1)
    u, v = (scale * torch.randn(control.n, generator=generator, dtype=torch.float64) for _ in range(2))
    return StatePoint.of(control, u), v


def dense(function, n):
    return torch.stack([function(unit) for unit in torch.eye(n, dtype=torch.float64)]).numpy()


@pytest.mark.parametrize("nonlinearity", [None, torch.sin, lambda u: u**3], ids=["linear", "sin", "cubic"])
def test_derivatives_are_those_of_differences(nonlinearity):
    control = general(nonlinearity)
    point, v = somewhere(control)
    t = 1e-5  # central differences: an error of t^2 times third derivatives, which A^2 makes as large as 1e3
    ends = [StatePoint.of(control, point.u + sign * t * v) for sign in (1, -1)]
    assert (ends[0].fun - ends[1].fun) / (2 * t) == pytest.approx(float(point.gradient @ v), rel=1e-7)
    along = (ends[0].gradient - ends[1].gradient) / (2 * t)
    torch.testing.assert_close(along, point.hessian_product(v), rtol=1e-6, atol=1e-6)


def test_the_equation_holds_for_every_state_and_the_multipliers_are_those_of_the_control():
    control = general(torch.sin)
    point, _ = somewhere(control)
    assert float(control.equation(point.x).norm()) < 1e-12
    gradient = control.jac(point.x) + control.equation_jac(point.x).mT @ point.multipliers()
    torch.testing.assert_close(gradient[: control.n], point.gradient, rtol=1e-12, atol=1e-13)
    assert float(gradient[control.n :].abs().max()) < 1e-13


@pytest.mark.parametrize("n", [7, 15, 16])
@pytest.mark.parametrize("weight", [1e-1, 1e-3, 1e-6])
def test_preconditioned_spectra_lie_between_a_half_and_one(n, weight):
    """With inverses [1/2, 1] for any mesh and weight; cycles are a little smaller, by 3 % at most on these meshes."""
    control = published(n, weight)
    point, _ = somewhere(control, 0.0)
    H, P = dense(point.hessian_product, control.n), dense(StatePreconditioner(control, point).matvec, control.n)
    np.testing.assert_allclose(P, P.T, atol=1e-5 * abs(P).max())  # cycles are in float32
    root = np.linalg.cholesky((H + H.T) / 2)
    spectrum = np.linalg.eigvalsh(root.T @ P @ root)
    assert spectrum.min() > 0.47
    assert spectrum.max() < 1 + 1e-5


def test_the_residual_tells_how_far_the_objective_can_fall():
    """|g|_P^2 <= 2 (J - min J) <= 2 |g|_P^2, here with cycles."""
    control = published(15, 1e-2)
    exact = control.minimize(inner="direct", rtol=1e-13)
    for seed in range(5):
        random = torch.randn(control.n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        point = StatePoint.of(control, control.split(exact.x)[0] + 1e-2 * random)
        square = float(point.gradient @ StatePreconditioner(control, point).matvec(point.gradient))
        gap = 2 * (point.fun - exact.fun)
        assert 0.999 * square <= gap <= 2.1 * square


@pytest.mark.slow
def test_steps_depend_on_neither_mesh_nor_weight():
    """A condition number of 2 gives a factor of 0.172 a step, and 11 steps for 1e-8."""
    steps = {
        (n, weight): sum(step.inner_steps for step in published(n, weight).minimize().history)
        for n in (15, 31, 63, 127, 255)
        for weight in (1.0, 1e-1, 1e-3, 1e-6, 1e-9)
    }
    assert max(steps.values()) <= 11
    for weight in (1.0, 1e-1, 1e-3):
        assert steps[255, weight] <= steps[31, weight] + 1


def test_inexact_solves_take_fewer_steps_to_the_same_optimum():
    control = published(31, 1e-4, lambda u: 10 * u**3)
    runs = [control.minimize(forcing=forcing) for forcing in (None, 1e-9)]
    adaptive, exact = (sum(step.inner_steps for step in r.history) for r in runs)
    assert all(r.success for r in runs)
    assert adaptive < 0.6 * exact
    assert runs[0].fun == pytest.approx(runs[1].fun, rel=1e-12)


def test_steps_converge_faster_than_linearly():
    r = published(31, 1e-3, lambda u: u**3).minimize(rtol=1e-12)
    norms = [step.kkt_residual for step in r.history]
    assert r.success
    assert norms[-1] / norms[-2] < 0.1 * norms[1] / norms[0]


def test_it_descends_from_where_the_hessian_is_not_positive(monkeypatch):
    """With phi = -c u^2 and u = m / 2 c times the first eigenvector, A almost maps that to zero, m its eigenvalue.

    There z is about m^2 / 4 c and more, so that W = 1 + w z phi'' is about 1 - m^2 / 2 or less, with w = 1, m = 4.93.
    """
    control = published(15, 1.0, lambda u: -2.5 * u**2)
    shape = torch.cos(torch.pi / 2 * torch.linspace(-1.0, 1.0, 17, dtype=torch.float64))[1:-1]
    saddle = (shape[:, None] * shape).reshape(-1)
    whole = StatePoint.of
    start = whole(control, saddle)
    assert np.linalg.eigvalsh(dense(start.hessian_product, control.n))[0] < 0
    monkeypatch.setattr(StatePoint, "of", lambda program, u: whole(program, u if bool(u.any()) else saddle))
    r = minimize_in_state(control, Ending(1e-8, 0.0, 100))
    assert r.success
    assert r.fun < start.fun
    values = [step.fun for step in r.history]
    assert values == sorted(values, reverse=True)
    end = whole(control, control.split(r.x)[0])
    assert np.linalg.eigvalsh(dense(end.hessian_product, control.n))[0] > 0


def test_all_ends_are_told():
    control = published(7, 1e-3, lambda u: 100 * u**3)
    with pytest.warns(sb.ConvergenceWarning):
        assert control.minimize(maxiter=1).reason is Reason.MAXITER
    with pytest.raises(sb.ConvergenceError, match="maxiter reached"):
        control.minimize(maxiter=1, throw=True)
    assert control.minimize(callback=lambda x: True).reason is Reason.STOPPED
    with pytest.warns(sb.ConvergenceWarning):
        assert control.minimize(rtol=1e-30).reason is Reason.STAGNATED
    nothing = sb.DistributedControl(sb.Diffusion(sb.Grid((4, 4))), 0.0, weight=1.0).minimize()
    assert (nothing.nit, nothing.fun, nothing.success) == (0, 0.0, True)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"forcing": 2.0}, r"forcing is 2\.0; it must be between 0 and 1"),
        ({"rtol": -1.0}, r"rtol=-1\.0 and atol=0\.0 must not be negative"),
        ({"rtol": math.nan}, "rtol"),
        ({"maxiter": -1}, "maxiter"),
        ({"callback": 3}, "callback"),
    ],
    ids=["forcing", "rtol", "NaN", "maxiter", "callback"],
)
def test_bad_input_is_one_sentence(options, sentence):
    with pytest.raises(sb.InputError, match=sentence):
        published(3, 0.1).minimize(**options)
