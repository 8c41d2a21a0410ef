"""Newton's method for reduced objectives: speed, accuracy of inner solves, negative curvature, and all of its ends."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from refusals import refused

import sciml_bounds as sb
from sciml_bounds.control._reduced_newton import minimize_reduced
from sciml_bounds.control._state_objective import StatePoint
from sciml_bounds.reports import Reason
from sciml_bounds.stopping import StoppingCriteria


def published(n, weight, nonlinearity=None):
    """Control of -Lap u = z on (-1, 1)^2 with n x n free nodes, and a target that is not zero on the sides."""
    problem = sb.Diffusion(sb.Grid((n + 1, n + 1), lengths=(2.0, 2.0), origin=(-1.0, -1.0)))
    return sb.control.DistributedControl(
        problem, lambda x, y: torch.sin(2 + x) + torch.cos(y), weight=weight, nonlinearity=nonlinearity
    )


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
def test_residuals_tell_the_error_where_preconditioners_are_worse_than_meant(smallest, rtol):
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
    r = control.minimize()
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
    nothing = sb.control.DistributedControl(sb.Diffusion(sb.Grid((4, 4))), 0.0, weight=1.0).minimize()
    assert (nothing.nit, nothing.fun, nothing.success) == (0, 0.0, True)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"forcing": 2.0}, "forcing 2.0 0 1"),
        ({"rtol": -1.0}, "rtol=-1.0 atol=0.0 negative"),
        ({"rtol": math.nan}, "rtol"),
        ({"maxiter": -1}, "maxiter"),
        ({"callback": 3}, "callback"),
    ],
)
def test_bad_input_is_one_sentence(options, sentence):
    refused(sentence, lambda: published(3, 0.1).minimize(**options))
