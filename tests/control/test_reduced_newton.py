"""Reduced objectives: derivatives and preconditioners of the state objective, and Newton's method by inexact solves."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from control_problems import general_control, square_control
from refusals import refusals

import sciml_bounds as sb
from sciml_bounds.control._reduced_newton import minimize_reduced
from sciml_bounds.control._state_objective import StatePoint, StatePreconditioner
from sciml_bounds.reports import Reason
from sciml_bounds.stopping import StoppingCriteria


def dense(function, n):
    return torch.stack([function(unit) for unit in torch.eye(n, dtype=torch.float64)]).numpy()


class Quartic:
    """J = sum of s_i (v_i^2 / 2 + v_i^4 / 4) - b.v, whose values, gradients and products are wrong by what is allowed.

    The error of the gradient is a fixed vector, and that of the objective as large as it makes it.
    """

    quadratic = False
    least = 0.0
    name = "test"

    def __init__(self, n):
        generator = torch.Generator().manual_seed(0)
        self.scale = torch.logspace(0, 3, n, dtype=torch.float64)
        self.b, self.wrong = (torch.randn(n, generator=generator, dtype=torch.float64) for _ in range(2))
        self.asked = []
        self.products = []

    def start(self):
        return torch.zeros_like(self.b)

    def at(self, v, accuracy, near):
        self.asked.append(accuracy)
        return QuarticPoint(self, v, accuracy)

    def preconditioner(self, point, last):
        return self

    def matvec(self, r):
        return r / self.scale.sqrt()

    def size(self, point, P):
        return float(point.gradient @ P.matvec(point.gradient)) ** 0.5


class QuarticPoint:
    violation = 0.0

    def __init__(self, problem, v, accuracy):
        self.problem, self.v = problem, v
        s = problem.scale
        size = float(problem.b @ problem.matvec(problem.b)) ** 0.5
        error = problem.wrong * accuracy * size / float(problem.wrong @ problem.matvec(problem.wrong)) ** 0.5
        self.fun = float(s @ (v**2 / 2 + v**4 / 4) - problem.b @ v + error @ v)
        self.gradient = s * (v + v**3) - problem.b + error

    def hessian_product(self, p, accuracy):
        self.problem.products.append(accuracy)
        product = self.problem.scale * (1 + 3 * self.v**2) * p
        return product * (1 + accuracy * torch.sin(torch.arange(len(p), dtype=torch.float64)))

    def solution(self):
        return self.v, self.v[:0]


def test_inaccurate_values_and_products_lead_to_the_accurate_optimum():
    """At the end the gradient is as accurate as a tenth of the tolerance, so that the true one is at most 1.1 of it.

    The size that both are relative to is known to one per cent, as the first gradient is.
    """
    problem = Quartic(50)
    r = minimize_reduced(problem, StoppingCriteria(1e-9, 0.0, 50))
    assert r.success
    exact = QuarticPoint(problem, r.x, 0.0).gradient
    assert float(exact @ problem.matvec(exact)) ** 0.5 <= 1.12 * r.tolerance
    assert max(problem.asked) > 1e-3  # and it began with little
    assert min(problem.asked) == pytest.approx(1e-10, rel=0.05)
    assert 0.01 < max(problem.products) <= 0.1  # and the last products of a solve need least


class Lopsided:
    """J = sum of s_i v_i^2 / 2 - b_i v_i, and P = diag(part / s), whose eigenvalues times those of H are `part`."""

    quadratic = True
    least = 0.4
    name = "test"

    def __init__(self, part):
        self.scale, self.part = torch.logspace(0, 3, len(part), dtype=torch.float64), part
        self.b = self.scale.sqrt()  # errors of the start are 1 in energy, each

    def start(self):
        return torch.zeros_like(self.b)

    def at(self, v, accuracy, near):
        return LopsidedPoint(self, v)

    def preconditioner(self, point, last):
        return self

    def matvec(self, r):
        return self.part / self.scale * r

    def size(self, point, P):
        return float(point.gradient @ P.matvec(point.gradient)) ** 0.5

    def error(self, v):
        """sqrt(2 (J - min J))."""
        return float(((self.scale * v - self.b) ** 2 / self.scale).sum()) ** 0.5


class LopsidedPoint:
    violation = 0.0

    def __init__(self, problem, v):
        self.problem, self.v = problem, v
        self.gradient = problem.scale * v - problem.b
        self.fun = float(v @ (problem.scale * v / 2 - problem.b))

    def hessian_product(self, p, accuracy):
        return self.problem.scale * p

    def solution(self):
        return self.v, self.v[:0]


@pytest.mark.parametrize("rtol", [1e-4, 1e-6, 1e-8])
@pytest.mark.parametrize("smallest", [0.5, 0.1, 1e-2, 1e-3])
def test_residuals_bound_the_error_for_poor_preconditioners(smallest, rtol):
    """|g|_P^2 >= least 2 (J - min J), with what conjugate gradients see; without it errors are 15 tolerances at 1e-3.

    Ritz values lie above the least eigenvalue, but a bound by that alone is too large by as much and more.
    """
    problem = Lopsided(torch.linspace(math.log(smallest), 0.0, 50, dtype=torch.float64).exp())
    r = minimize_reduced(problem, StoppingCriteria(rtol, 0.0, 50))
    assert r.success
    assert problem.error(r.x) <= r.kkt_residual / problem.least**0.5


def test_round_off_is_measured_as_it_is():
    """Steps do not take it away, whatever they have seen of P; each part of the energy is known to eps."""
    problem = Lopsided(torch.logspace(-4, 0, 50, dtype=torch.float64))
    r = minimize_reduced(problem, StoppingCriteria(3e-16, 0.0, 50))
    assert r.success
    assert problem.error(r.x) <= 2 * np.finfo(np.float64).eps * len(problem.b) ** 0.5


def test_inexact_solves_take_fewer_steps_to_the_same_optimum():
    control = square_control(31, 1e-4, lambda u: 10 * u**3)
    runs = [control.minimize(forcing=forcing) for forcing in (None, 1e-9)]
    adaptive, exact = (sum(step.inner_steps for step in r.history) for r in runs)
    assert all(r.success for r in runs)
    assert adaptive < 0.6 * exact
    assert runs[0].fun == pytest.approx(runs[1].fun, rel=1e-12)


def test_steps_converge_faster_than_linearly():
    r = square_control(31, 1e-3, lambda u: u**3).minimize(rtol=1e-12)
    norms = [step.kkt_residual for step in r.history]
    assert r.success
    assert norms[-1] / norms[-2] < 0.1 * norms[1] / norms[0]


def test_it_descends_where_the_hessian_is_indefinite(monkeypatch):
    """With phi = -c u^2 and u = m / 2 c times the first eigenvector, A almost maps that to zero, m its eigenvalue.

    There z is about m^2 / 4 c and more, so that W = 1 + w z phi'' is about 1 - m^2 / 2 or less, with w = 1, m = 4.93.
    """
    control = square_control(15, 1.0, lambda u: -2.5 * u**2)
    shape = torch.cos(torch.pi / 2 * torch.linspace(-1.0, 1.0, 17, dtype=torch.float64))[1:-1]
    saddle = (shape[:, None] * shape).reshape(-1)
    whole = StatePoint.of
    start = whole(control, saddle)
    assert np.linalg.eigvalsh(dense(start.hessian_product, control.n))[0] < 0
    monkeypatch.setattr(StatePoint, "of", lambda program, u: whole(program, u if bool(u.any()) else saddle))
    r = control.minimize()
    assert r.success
    assert r.fun < start.fun
    values = [step.fun for step in r.history]
    assert values == sorted(values, reverse=True)
    end = whole(control, control.split(r.x)[0])
    assert np.linalg.eigvalsh(dense(end.hessian_product, control.n))[0] > 0


def test_all_reasons_to_stop_are_reported():
    control = square_control(7, 1e-3, lambda u: 100 * u**3)
    with pytest.warns(sb.ConvergenceWarning):
        assert control.minimize(maxiter=1).reason is Reason.MAXITER
    with pytest.raises(sb.ConvergenceError, match="maxiter reached"):
        control.minimize(maxiter=1, throw=True)
    assert control.minimize(callback=lambda x: True).reason is Reason.STOPPED
    with pytest.warns(sb.ConvergenceWarning):
        assert control.minimize(rtol=1e-30).reason is Reason.STAGNATED
    nothing = sb.control.DistributedControl(sb.Diffusion(sb.Grid((4, 4))), 0.0, weight=1.0).minimize()
    assert (nothing.nit, nothing.fun, nothing.success) == (0, 0.0, True)


test_bad_input = refusals(
    *[
        (words, lambda options=options: square_control(3, 0.1).minimize(**options))
        for words, options in [
            ("forcing 2.0 0 1", {"forcing": 2.0}),
            ("rtol=-1.0 atol=0.0 negative", {"rtol": -1.0}),
            ("rtol", {"rtol": math.nan}),
            ("maxiter", {"maxiter": -1}),
            ("callback", {"callback": 3}),
        ]
    ]
)


def somewhere(control, scale=1.0):
    generator = torch.Generator().manual_seed(1)
    u, v = (scale * torch.randn(control.n, generator=generator, dtype=torch.float64) for _ in range(2))
    return StatePoint.of(control, u), v


@pytest.mark.parametrize("nonlinearity", [None, torch.sin, lambda u: u**3], ids=["linear", "sin", "cubic"])
def test_derivatives_are_those_of_differences(nonlinearity):
    control = general_control(nonlinearity)
    point, v = somewhere(control)
    t = 1e-5  # central differences: an error of t^2 times third derivatives, which A^2 makes as large as 1e3
    ends = [StatePoint.of(control, point.v + sign * t * v) for sign in (1, -1)]
    assert (ends[0].fun - ends[1].fun) / (2 * t) == pytest.approx(float(point.gradient @ v), rel=1e-7)
    along = (ends[0].gradient - ends[1].gradient) / (2 * t)
    torch.testing.assert_close(along, point.hessian_product(v), rtol=1e-6, atol=1e-6)


def test_the_equation_holds_for_every_state_and_the_multipliers_are_those_of_the_control():
    control = general_control(torch.sin)
    point, _ = somewhere(control)
    assert float(control.equation(point.x).norm()) < 1e-12
    gradient = control.jac(point.x) + control.equation_jac(point.x).mT @ point.solution()[1]
    torch.testing.assert_close(gradient[: control.n], point.gradient, rtol=1e-12, atol=1e-13)
    assert float(gradient[control.n :].abs().max()) < 1e-13


@pytest.mark.parametrize("n", [7, 15, 16])
@pytest.mark.parametrize("weight", [1e-1, 1e-3, 1e-6])
def test_preconditioned_spectra_lie_between_a_half_and_one(n, weight):
    """With inverses [1/2, 1] for any mesh and weight; cycles are a little smaller, by 3 % at most on these meshes."""
    control = square_control(n, weight)
    point, _ = somewhere(control, 0.0)
    H, P = dense(point.hessian_product, control.n), dense(StatePreconditioner(control, point).matvec, control.n)
    np.testing.assert_allclose(P, P.T, atol=1e-5 * abs(P).max())  # cycles are in float32
    root = np.linalg.cholesky((H + H.T) / 2)
    spectrum = np.linalg.eigvalsh(root.T @ P @ root)
    assert spectrum.min() > 0.47
    assert spectrum.max() < 1 + 1e-5


def test_the_residual_tells_how_far_the_objective_can_fall():
    """|g|_P^2 <= 2 (J - min J) <= 2 |g|_P^2, here with cycles."""
    control = square_control(15, 1e-2)
    exact = control.minimize(inner="direct", rtol=1e-13)
    for seed in range(5):
        random = torch.randn(control.n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        point = StatePoint.of(control, control.split(exact.x)[0] + 1e-2 * random)
        square = float(point.gradient @ StatePreconditioner(control, point).matvec(point.gradient))
        gap = 2 * (point.fun - exact.fun)
        assert 0.999 * square <= gap <= 2.1 * square


@pytest.mark.slow
def test_steps_depend_on_neither_mesh_nor_weight():
    """A condition number of 2 gives a factor of 0.172 per step, and 11 steps for 1e-8."""
    steps = {
        (n, weight): sum(step.inner_steps for step in square_control(n, weight).minimize().history)
        for n in (15, 31, 63, 127, 255)
        for weight in (1.0, 1e-1, 1e-3, 1e-6, 1e-9)
    }
    assert max(steps.values()) <= 11
    for weight in (1.0, 1e-1, 1e-3):
        assert steps[255, weight] <= steps[31, weight] + 1
