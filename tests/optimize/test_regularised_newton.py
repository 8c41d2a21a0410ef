"""method="auto": minima of the literature, peers, regularisation as needed, and ends that are said."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import torch
from nonlinear_programs import HARD, PROBLEMS, double

import sciml_bounds as sb
from sciml_bounds.operators._linear_operator import csr_tensor
from sciml_bounds.optimize._nonlinear_program import Point
from sciml_bounds.optimize._products import Products
from sciml_bounds.optimize._regularised_newton import AutomaticDirections, estimated_multipliers

INNER = ("direct", "minres", "kaczmarz", "gaussian")


def solve(name, **options):
    problem = PROBLEMS[name]
    return sb.minimize(problem.fun, problem.start, constraints=problem.constraints, **options)


@pytest.mark.parametrize("name", PROBLEMS)
def test_minima_of_the_literature_are_found(name):
    result = solve(name)
    assert result.success
    assert result.kkt_residual <= 1e-8
    # to the digits that are known; where the minimum is zero, f is of second order in an error of at most 1e-3
    assert result.fun == pytest.approx(PROBLEMS[name].minimum, rel=1e-6, abs=1e-6)
    assert result.nit <= 30


@pytest.mark.filterwarnings("ignore::sciml_bounds.ConvergenceWarning")
@pytest.mark.parametrize("name", HARD)
def test_stationary_infeasible_points_are_left(name):
    """It begins again from x0, where the constraints can be met; how it goes on is left to a degenerate minimum."""
    problem = HARD[name]
    start = sb.minimize(problem.fun, problem.start, constraints=problem.constraints, maxiter=0, method="sketched")
    assert start.kkt_residual == pytest.approx(problem.start_residual, rel=1e-4)  # the formula is that of CUTEst
    result = sb.minimize(problem.fun, problem.start, constraints=problem.constraints, maxiter=30)
    violations = [step.constraint_violation for step in result.history if np.isnan(step.step_length)]
    assert min(violations) <= 1e-6
    assert result.reason is not sb.results.Reason.INFEASIBLE


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("name", ["HS7", "HS28", "HS40", "HS79"])
def test_all_inner_solvers_find_the_minimum(name, inner):
    result = solve(name, inner=inner)
    assert result.fun == pytest.approx(PROBLEMS[name].minimum, abs=1e-6)
    assert (sum(step.inner_steps for step in result.history) > 0) == (inner != "direct")


@pytest.mark.filterwarnings("ignore:delta_grad:UserWarning")  # of trust-constr, where a gradient does not change
@pytest.mark.parametrize("peer", ["SLSQP", "trust-constr"])
@pytest.mark.parametrize("name", ["HS6", "HS7", "HS40", "HS56", "HS77", "HS78", "HS79", "HS100LNP", "BT5"])
def test_minima_agree_with_those_of_scipy(name, peer):
    problem = PROBLEMS[name]

    def fun(x):
        return float(problem.fun(torch.tensor(x)))

    def constraint(x):
        return np.atleast_1d(problem.constraints(torch.tensor(x)).numpy())

    equalities = scipy.optimize.NonlinearConstraint(constraint, 0, 0)
    start = problem.start.numpy()
    with np.errstate(all="ignore"):
        theirs = scipy.optimize.minimize(fun, start, constraints=equalities, method=peer, options={"maxiter": 500})
    # both stop at errors of about 1e-6 in f, from finite differences and a tolerance of 1e-6 in f
    assert solve(name).fun == pytest.approx(theirs.fun, rel=1e-4, abs=1e-4)


def test_convergence_is_quadratic_at_the_end():
    """Each of the last residuals is below a constant times the square of the one before, with full steps."""
    history = solve("HS7", atol=1e-12).history
    for before, after in zip(history[-4:], history[-3:]):
        assert after.step_length == 1.0
        assert after.shift == 0.0
        assert after.kkt_residual <= 10 * before.kkt_residual**2


def test_shifts_are_small():
    """A concave objective on a circle: the KKT matrix is that of a minimum as soon as H + shift I curves enough."""
    result = sb.minimize(lambda x: -x.square().sum() - x[0], double(0.1, 1.0), constraints=lambda x: x @ x - 1)
    assert result.success
    assert result.fun == pytest.approx(-2.0)
    assert all(step.shift <= 10 * 4 for step in result.history)  # ||H|| is about 2 (1 + multiplier)
    assert result.history[-1].shift == 0.0


def test_inertia_avoids_maxima():
    """From close to the maximum of x1 on a circle, a plain Newton step goes there."""
    result = sb.minimize(lambda x: x[1], double(0.1, 1.0), constraints=lambda x: x @ x - 1)
    assert result.fun == pytest.approx(-1.0)


#: Quadratic objectives x.Px/2 + q.x on the unit circle, and starts from which iterative solvers run into the maximum.
ON_A_CIRCLE = {
    "accelerated": ([[2.4, 0.2], [0.2, 2.9]], (-0.1, 0.2), (1.4, 1.4)),
    "minres": ([[2.6, -0.1], [-0.1, 2.2]], (-0.2, -0.1), (-1.5, -0.6)),
}


@pytest.mark.parametrize("inner", ON_A_CIRCLE)
def test_iterative_solvers_do_not_return_to_a_maximum(inner):
    """The normal part of a step hides that it goes uphill along the circle, since the inertia is unknown."""
    P, q, start = (double(*numbers) for numbers in ON_A_CIRCLE[inner])
    result = sb.minimize(lambda x: x @ (P @ x) / 2 + q @ x, start, constraints=lambda x: (x @ x - 1) / 2, inner=inner)
    assert result.success
    assert any(np.isnan(step.step_length) for step in result.history)  # it came there, and left
    along = torch.stack([-result.x[1], result.x[0]])
    assert float(along @ (P @ along) + result.multipliers[0]) > 0


def test_a_maximum_that_cannot_be_left_is_not_a_success(monkeypatch):
    """Without any escapes the maximum of x1 on a circle is found, and it is said that it is none of the minima."""
    monkeypatch.setattr("sciml_bounds.optimize._saddle_escape.MAX_ESCAPES", 0)
    with pytest.warns(sb.ConvergenceWarning, match="not a minimum"):
        result = sb.minimize(lambda x: x[1], double(0.0, 1.0), constraints=lambda x: x @ x - 1)
    assert result.reason is sb.results.Reason.SADDLE
    assert result.fun == 1.0


def test_a_maximum_at_maxiter_is_not_a_success():
    with pytest.warns(sb.ConvergenceWarning, match="maxiter"):
        result = sb.minimize(lambda x: x[1], double(0.0, 1.0), constraints=lambda x: x @ x - 1, maxiter=0)
    assert result.reason is sb.results.Reason.MAXITER


# --- Jacobians without full rank --------------------------------------------------------------------------------------


def test_more_constraints_than_unknowns_are_solved_where_they_agree():
    def constraints(x):
        return torch.stack([x[0] ** 2 - 1, x[1] ** 3 - 8, x.prod() - 2])

    result = sb.minimize(lambda x: x @ x, double(3.0, 0.2), constraints=constraints)
    assert result.success
    torch.testing.assert_close(result.x, double(1.0, 2.0), rtol=0, atol=1e-8)
    assert result.nit <= 15


def test_a_start_with_a_zero_jacobian_is_left():
    """Schittkowski's problem 316: the Jacobian is zero at x0."""
    result = sb.minimize(
        lambda x: (x[0] - 20) ** 2 + (x[1] + 20) ** 2, double(0.0, 0.0), constraints=lambda x: 0.01 * x @ x - 1
    )
    assert result.fun == pytest.approx(334.314576, rel=1e-8)  # 2 (20 - 10 / sqrt 2)^2


# --- first multipliers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("m", "n"), [(3, 8), (8, 8), (12, 5)])
@pytest.mark.parametrize("form", ["dense", "sparse", "products"])
def test_first_multipliers_are_those_of_least_squares(form, m, n):
    """Of least length where there are more than unknowns; damping of 1e-8 ||G||^2 is relative to singular values here.

    LSMR ends after 30 steps, and at 1e-8.
    """
    generator = torch.Generator().manual_seed(m)
    G = torch.randn((m, n), generator=generator, dtype=torch.float64)
    left, _, right = torch.linalg.svd(G, full_matrices=False)
    G = left @ torch.diag(torch.linspace(1, 3, min(m, n), dtype=torch.float64)) @ right
    g = torch.randn(n, generator=generator, dtype=torch.float64)
    forms = {
        "dense": G, "sparse": csr_tensor(scipy.sparse.csr_array(G.numpy())),
        "products": Products((m, n), lambda x: G @ x, lambda y: G.mT @ y, G.device),
    }  # fmt: skip
    point = Point(torch.zeros_like(g), g.new_zeros(m), 0.0, g.new_zeros(m), g, forms[form])
    expected = torch.linalg.pinv(G.mT) @ -g
    # the damping moves them by at most 1e-8 ||G||_F^2 / 1^2, relative to their length: ||G||_F^2 is below 12 * 9
    torch.testing.assert_close(estimated_multipliers(point), expected, rtol=0, atol=2e-6 * float(expected.norm()))


def test_first_multipliers_are_zero_where_the_jacobian_is_negligible():
    g = torch.ones(3, dtype=torch.float64)
    for G in (torch.zeros(2, 3).double(), torch.full((2, 3), torch.nan).double(), 1e-9 * torch.ones(2, 3).double()):
        point = Point(torch.zeros_like(g), g.new_zeros(2), 0.0, g.new_zeros(2), g, G)
        assert not estimated_multipliers(point).any()


# --- functions that are not finite everywhere -------------------------------------------------------------------------


def test_steps_into_nan_are_shortened():
    """A Newton step from 100 leads to where the logarithm is NaN."""
    result = sb.minimize(
        lambda x: x[0] - torch.log(x[0]) + x[1] ** 2, double(100.0, 0.2), constraints=lambda x: torch.sqrt(x[1]) - 1
    )
    assert result.success
    assert sum(step.not_finite for step in result.history) > 0
    torch.testing.assert_close(result.x, double(1.0, 1.0), rtol=0, atol=1e-6)


def test_a_wall_of_nan_is_reported():
    def fun(x):
        return torch.where(x[0] > 1, x[0] + x[1] ** 2, torch.nan)

    with pytest.warns(sb.ConvergenceWarning, match="NaN or infinite near the last x"):
        result = sb.minimize(fun, double(1.5, 0.2))
    assert result.reason is sb.results.Reason.NOT_FINITE
    assert 1 < float(result.x[0]) < 1 + 1e-3
    assert result.nit < 100


def test_second_derivatives_that_overflow_are_reported():
    """Towards the edge of sqrt(x), second derivatives grow like x^-3/2, until their norm overflows."""
    with pytest.warns(sb.ConvergenceWarning, match="NaN or infinite near the last x"):
        result = sb.minimize(lambda x: torch.sqrt(x).sum(), double(1.0, 1.0))
    assert result.reason is sb.results.Reason.NOT_FINITE


def test_second_derivatives_that_are_not_finite_are_reported():
    nowhere = torch.full((2, 2), torch.nan, dtype=torch.float64)
    with pytest.warns(sb.ConvergenceWarning, match="NaN or infinite near the last x"):
        result = sb.minimize(lambda x: x @ x, double(0.5, 0.0), hess=lambda x: nowhere)
    assert (result.reason, result.nit) == (sb.results.Reason.NOT_FINITE, 0)


def test_damping_grows_where_no_direction_is_found(monkeypatch):
    """A hundredfold each time, up to a millionfold, before the objective is left aside."""
    tried = []

    def nothing(self, point, H, curved, least):
        tried.append(self._damping_factor)
        self._damped = True

    monkeypatch.setattr(AutomaticDirections, "_direction", nothing)
    with pytest.warns(sb.ConvergenceWarning):
        result = sb.minimize(lambda x: x @ x + x[0], double(1.0, 0.0), constraints=lambda x: x[1:])
    assert tried == [1.0, 1e2, 1e4, 1e6]
    assert result.reason is sb.results.Reason.STAGNATED


def rosenbrock(direct):
    """HS6: the valley x1 = x0^2 is a constraint, which each whole step along it leaves."""
    return sb.minimize(
        lambda x: (1 - x[0]) ** 2, double(-1.2, 1.0), constraints=lambda x: 10 * (x[1:] - x[0] ** 2), inner=direct
    )


def test_steps_that_leave_curved_constraints_are_corrected():
    corrected, plain = rosenbrock("direct"), rosenbrock("minres")  # which has no factors to do it with
    assert corrected.success
    assert corrected.nit <= 6 < plain.nit
    taken = [(step.step_length, step.trials) for step in corrected.history]
    assert (1.0, 2) in taken  # a whole step, after one trial that was refused


def two_spheres():
    """BYRDSPHR: both constraints hold on a circle only, far from the start."""
    return sb.minimize(
        lambda x: -x.sum(), double(5.0, 1e-4, -1e-4),
        constraints=lambda x: torch.stack([x @ x - 9, (x - double(1, 0, 0)) @ (x - double(1, 0, 0)) - 9]),
    )  # fmt: skip


def test_constraints_are_met_first_after_short_steps():
    result = two_spheres()
    # on the circle x = 1/2, y^2 + z^2 = 35/4, the sum is largest at y = z
    assert result.fun == pytest.approx(-0.5 - np.sqrt(35 / 2), abs=1e-6)
    lengths = [step.step_length for step in result.history]
    restored = next(i for i, length in enumerate(lengths) if np.isnan(length))
    assert all(length < 0.1 for length in lengths[restored - 3 : restored])
    assert result.nit <= 20


def test_damping_becomes_weaker_again(monkeypatch):
    tried, real = [], AutomaticDirections._direction

    def once_nothing(self, point, H, curved, least):
        tried.append(self._damping_factor)
        self._damped = len(tried) <= 2
        return None if self._damped else real(self, point, H, curved, least)

    monkeypatch.setattr(AutomaticDirections, "_direction", once_nothing)
    result = sb.minimize(
        lambda x: (x**4).sum() + x.sum(), double(3.0, 2.0), constraints=lambda x: x[1:] - 1
    )  # takes some steps
    assert result.success
    assert tried[:5] == [1.0, 1e2, 1e4, 1e3, 1e2]
