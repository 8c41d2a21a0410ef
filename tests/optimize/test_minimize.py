"""`minimize` by every method: forms of functions and constraints, results, stopping, and bad input."""

from __future__ import annotations

import itertools
import math
import pickle

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import torch
from nonlinear_programs import double
from refusals import refused
from scipy.optimize import BFGS, LinearConstraint, NonlinearConstraint

import sciml_bounds as sb
from sciml_bounds.sketching._sketches.row_block import RowBlock

# HS7, in torch and in numpy, with all derivatives written out: the minimum is -sqrt(3), at (0, sqrt(3)).
MINIMUM = -np.sqrt(3)
START = (2.0, 2.0)


def fun_torch(x):
    return torch.log(1 + x[0] ** 2) - x[1]


def fun(x):
    return np.log(1 + x[0] ** 2) - x[1]


def jac(x):
    return np.array([2 * x[0] / (1 + x[0] ** 2), -1.0])


def hess(x):
    return np.diag([2 * (1 - x[0] ** 2) / (1 + x[0] ** 2) ** 2, 0.0])


def circle(x):  # no circle, but its name is short
    return (1 + x[0] ** 2) ** 2 + x[1] ** 2 - 4


def circle_jac(x):
    return np.array([[4 * x[0] * (1 + x[0] ** 2), 2 * x[1]]])


def circle_hess(x, v):
    return v[0] * np.diag([4 + 12 * x[0] ** 2, 2.0])


# --- functions --------------------------------------------------------------------------------------------------------

NONLINEAR = NonlinearConstraint(circle, 0, 0, jac=circle_jac, hess=circle_hess)
EXACT = {"jac": jac, "hess": hess, "constraints": NONLINEAR}
NUMPY = {
    "exact": EXACT,
    "sparse": {
        "jac": jac,
        "hess": lambda x: scipy.sparse.csr_array(hess(x)),
        "constraints": NonlinearConstraint(
            circle, 0, 0, jac=lambda x: scipy.sparse.csr_array(circle_jac(x)),
            hess=lambda x, v: scipy.sparse.coo_array(circle_hess(x, v)),
        ),
    },
    "bounds that are not zero": EXACT | {
        "constraints": NonlinearConstraint(lambda x: circle(x) + 4, 4, 4, jac=circle_jac, hess=circle_hess)
    },
    "BFGS": {"jac": jac, "constraints": NonlinearConstraint(circle, 0, 0, jac=circle_jac, hess=BFGS())},
    "differences": {"constraints": circle},
    "differences of one": {"jac": jac, "constraints": NonlinearConstraint(circle, 0, 0, jac="2-point")},
    "dictionary": {"jac": jac, "constraints": {"type": "eq", "fun": circle, "jac": circle_jac}},
    "list of two": EXACT | {"constraints": [NONLINEAR, LinearConstraint([[1.0, 0.0]], 0.0, 0.0)]},
}  # fmt: skip


@pytest.mark.parametrize("name", NUMPY)
def test_numpy_in_and_numpy_out(name):
    result = sb.minimize(fun, np.array(START), **NUMPY[name])
    assert result.success
    assert type(result.x) is type(result.multipliers) is np.ndarray
    assert result.x.dtype == np.float64
    accuracy = 1e-4 if "differences" in name else 1e-7
    np.testing.assert_allclose(result.x, [0.0, np.sqrt(3)], rtol=0, atol=accuracy)
    assert isinstance(result.fun, float)
    assert result.fun == pytest.approx(MINIMUM, abs=accuracy)


@pytest.mark.parametrize("method", ["auto", "sketched"])
def test_exact_derivatives_of_numpy_and_of_torch_give_the_same_iterates(method):
    """Iterates agree to round-off, and so do all counts."""
    ours = sb.minimize(fun_torch, double(*START), constraints=circle, method=method)
    theirs = sb.minimize(fun, np.array(START), method=method, **EXACT)
    assert (ours.nit, ours.nfev, ours.njev, ours.nhev) == (theirs.nit, theirs.nfev, theirs.njev, theirs.nhev)
    np.testing.assert_allclose(ours.x.numpy(), theirs.x, rtol=0, atol=1e-9)


def test_lists_are_starts_for_numpy_and_functions_of_torch_are_recognised():
    by_list = sb.minimize(fun, list(START), **EXACT)
    by_torch = sb.minimize(fun_torch, np.array(START), jac=None, constraints=lambda x: circle(x) + 0 * torch.sum(x))
    assert type(by_list.x) is type(by_torch.x) is np.ndarray
    np.testing.assert_allclose(by_torch.x, by_list.x, rtol=0, atol=1e-7)
    assert by_torch.nhev > 0  # by torch, not by updates
    assert "BFGS" not in by_torch.method


def test_functions_of_numpy_are_recognised_where_the_start_is_a_tensor():
    result = sb.minimize(fun_torch, double(*START), constraints=NonlinearConstraint(
        lambda x: np.square(1 + np.square(x[0])) + np.square(x[1]), 4.0, 4.0, jac=circle_jac, hess=circle_hess,
    ))  # fmt: skip
    assert isinstance(result.x, torch.Tensor)
    assert result.fun == pytest.approx(MINIMUM)


def test_multipliers_are_those_of_the_lagrangian_with_a_plus():
    """f = x, x^2 = 1: at the minimum x = -1, and 1 + 2 l x = 0."""
    result = sb.minimize(lambda x: x.sum(), double(-2.0), constraints=lambda x: x**2 - 1)
    torch.testing.assert_close(result.multipliers, double(0.5), rtol=0, atol=1e-8)


def luksan_vlcek(n):
    """The first problem of Luksan and Vlcek (1999), LUKVLE1: chained Rosenbrock with three unknowns a constraint."""

    def fun(x):
        a, b = x[:-1], x[1:]
        return (100 * (a**2 - b) ** 2 + (a - 1) ** 2).sum()

    def jac(x):
        gap, gradient = x[:-1] ** 2 - x[1:], np.zeros(n)
        gradient[:-1] += 400 * x[:-1] * gap + 2 * (x[:-1] - 1)
        gradient[1:] -= 200 * gap
        return gradient

    def hess(x):
        diagonal = np.zeros(n)
        diagonal[:-1] += 1200 * x[:-1] ** 2 - 400 * x[1:] + 2
        diagonal[1:] += 200
        return scipy.sparse.diags_array([diagonal, -400 * x[:-1], -400 * x[:-1]], offsets=[0, 1, -1])

    def constraint(x):
        u, v, w = x[:-2], x[1:-1], x[2:]
        module = np if isinstance(x, np.ndarray) else torch
        return 3 * v**3 + 2 * w - 8 + module.sin(v - w) * module.sin(v + w) + 4 * v - u * module.exp(u - v)

    def rows(x):
        u, v, w = x[:-2], x[1:-1], x[2:]
        decay = np.exp(u - v)
        diagonals = [-(1 + u) * decay, 9 * v**2 + np.sin(2 * v) + 4 + u * decay, 2 - np.sin(2 * w)]
        return scipy.sparse.diags_array(diagonals, offsets=[0, 1, 2], shape=(n - 2, n))

    def curvature(x, l):
        u, v, w = x[:-2], x[1:-1], x[2:]
        decay, diagonal, beside = np.exp(u - v), np.zeros(n), np.zeros(n - 1)
        diagonal[:-2] -= l * (2 + u) * decay
        diagonal[1:-1] += l * (18 * v + 2 * np.cos(2 * v) - u * decay)
        diagonal[2:] -= 2 * l * np.cos(2 * w)
        beside[:-1] += l * (1 + u) * decay
        return scipy.sparse.diags_array([diagonal, beside, beside], offsets=[0, 1, -1])

    start = np.where(np.arange(n) % 2 == 0, -1.2, 1.0)
    derivatives = {"jac": jac, "hess": hess, "constraints": NonlinearConstraint(constraint, 0, 0, rows, curvature)}
    return fun, start, constraint, derivatives


def test_sparse_problems_are_factorised_sparsely():
    """Where dense matrices would take 0.3 GB each; the minimum is the known one, for any n."""
    fun, start, _, derivatives = luksan_vlcek(6000)
    result = sb.minimize(fun, start, **derivatives)
    assert result.success
    assert result.fun == pytest.approx(6.23245863, rel=1e-8)
    assert result.nit <= 15


def test_derivatives_of_torch_give_the_solution_of_sparse_ones():
    fun, start, constraint, derivatives = luksan_vlcek(40)
    by_hand = sb.minimize(fun, start, **derivatives)
    by_torch = sb.minimize(fun, torch.from_numpy(start), constraints=constraint)
    np.testing.assert_allclose(by_torch.x.numpy(), by_hand.x, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_functions_may_write_to_their_argument(kind):
    def objective(x):
        x *= 2
        return (x**2).sum()

    def constraint(x):
        x += 1
        return x.sum() - 4

    x0 = double(1.0, 2.0) if kind == "torch" else np.array([1.0, 2.0])
    result = sb.minimize(objective, x0, constraints=constraint)
    np.testing.assert_allclose(np.asarray(result.x), [1.0, 1.0], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(x0), [1.0, 2.0])


def test_branches_on_values_are_allowed():
    """Data-dependent control flow, which transformations of functions do not take."""
    result = sb.minimize(lambda x: x[0] ** 2 if x[0] > 1 else 2 * x[0] - 1 + (x[0] - 1) ** 2, double(3.0))
    assert result.fun == pytest.approx(0.0)  # both branches are x^2


# --- results ----------------------------------------------------------------------------------------------------------


def test_a_result_has_the_fields_of_scipy_and_the_reached_residual():
    result = sb.minimize(fun_torch, double(*START), constraints=circle)
    for name in ("x", "fun", "success", "status", "message", "nit", "nfev", "njev", "nhev"):
        assert hasattr(result, name)
    assert (result.success, result.status, len(result.history)) == (True, 0, result.nit)
    assert result.message.startswith("Converged: the KKT residual is")
    assert result.history[-1].kkt_residual == result.kkt_residual <= result.tolerance == 1e-8
    assert result.history[-1].fun == result.fun
    table = repr(result).splitlines()
    assert table[0] == "OptimizeResult"
    assert any("-1.7320508" in line for line in table)
    x = result.x
    x_grad = torch.autograd.functional.jacobian(lambda x: fun_torch(x) + result.multipliers @ circle(x).view(1), x)
    assert float(torch.cat([x_grad, circle(x).view(1)]).norm()) == pytest.approx(result.kkt_residual, abs=1e-15)
    assert pickle.loads(pickle.dumps(result)).fun == result.fun


@pytest.mark.parametrize("stop", [True, StopIteration])
def test_a_callback_sees_every_iterate_and_can_stop(stop):
    seen = []

    def callback(x):
        seen.append(x)
        if len(seen) == 3 and stop is StopIteration:
            raise StopIteration
        return len(seen) == 3

    result = sb.minimize(fun, np.array(START), callback=callback, **EXACT)  # a requested stop does not warn
    assert result.reason is sb.results.Reason.STOPPED
    assert (len(seen), result.nit, result.success) == (3, 3, False)
    assert all(type(x) is np.ndarray for x in seen)
    np.testing.assert_array_equal(seen[-1], result.x)


def test_maxiter_warns_or_raises():
    with pytest.warns(sb.ConvergenceWarning, match="maxiter reached; the KKT residual is .* Raise maxiter"):
        result = sb.minimize(fun_torch, double(*START), constraints=circle, maxiter=2)
    assert (result.reason, result.nit) == (sb.results.Reason.MAXITER, 2)
    with pytest.raises(sb.ConvergenceError, match="maxiter"):
        sb.minimize(fun_torch, double(*START), constraints=circle, maxiter=0, throw=True)


def test_tolerances_are_absolute_or_relative_to_the_start():
    loose = sb.minimize(fun_torch, double(*START), constraints=circle, atol=1e-2)
    relative = sb.minimize(fun_torch, double(*START), constraints=circle, rtol=1e-1, atol=0.0)
    assert loose.nit < 10
    assert 1e-8 < loose.kkt_residual <= 1e-2
    assert relative.kkt_residual <= relative.tolerance
    assert relative.tolerance > 0.1


def test_a_start_that_is_the_solution_takes_no_step():
    result = sb.minimize(fun_torch, double(0.0, np.sqrt(3)), constraints=circle)
    assert (result.nit, result.nfev) == (0, 1)


def test_multipliers_may_be_given():
    first = sb.minimize(fun_torch, double(*START), constraints=circle)
    again = sb.minimize(fun_torch, first.x, constraints=circle, method="sketched", multipliers=first.multipliers)
    assert again.nit == 0


# --- ends that the methods share --------------------------------------------------------------------------------------

METHODS = ("auto", "sketched", sb.optimize.SketchedNewton(preset="published"))
SOLVERS = {"direct": {"inner": "direct"}, "minres": {"inner": "minres"}, "sketched": {"method": "sketched"}}


def sphere(x):
    return x @ x - 1


#: Objective, constraint, a start that leads to a stationary point which is not a minimum, and the minimum.
SADDLES = {
    "top of the circle": (lambda x: x[0], sphere, (1.0, 0.0), -1.0),
    "exactly there": (lambda x: x[1], sphere, (0.0, 1.0), -1.0),
    "large curvature": (lambda x: 1e3 * x[1], sphere, (0.0, 1.0), -1e3),
    "saddle": (lambda x: x[0] ** 2 - x[1] ** 2 + x[1] ** 4, (), (0.5, 0.0), -0.25),
    "ridge": (lambda x: (x[0] ** 2 - 1) ** 2 + x[1] ** 2, (), (0.0, 1.0), 0.0),
}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", SADDLES)
def test_stationary_points_that_are_not_minima_are_left(name, solver):
    objective, constraints, start, minimum = SADDLES[name]
    result = sb.minimize(objective, double(*start), constraints=constraints, atol=1e-6, **SOLVERS[solver])
    assert result.success
    assert result.fun == pytest.approx(minimum, abs=1e-5)


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e9])
@pytest.mark.parametrize("method", METHODS[:2])
def test_maxima_of_many_unknowns_are_left_in_any_units(method, scale):
    """With n wells there are 3^n stationary points, and the gradient at x0 is zero, so that it tells no unit."""
    result = sb.minimize(lambda x: scale * ((x**2 - 1) ** 2).sum(), torch.zeros(6, dtype=torch.float64), method=method)
    assert result.success
    assert result.fun <= 1e-8 * scale


def test_saddles_in_a_row_are_left_as_long_as_the_objective_falls():
    depth = torch.logspace(0, 2, 12, dtype=torch.float64)
    result = sb.minimize(lambda x: depth @ (x**2 - 1) ** 2, torch.zeros(12, dtype=torch.float64))
    assert result.success
    assert result.fun == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("name", SADDLES)
def test_the_published_method_reports_saddles(name):
    objective, constraints, start, minimum = SADDLES[name]
    with pytest.warns(sb.ConvergenceWarning, match="not a minimum"):
        result = sb.minimize(objective, double(*start), constraints=constraints, method=METHODS[2])
    assert result.reason is sb.results.Reason.SADDLE
    assert result.fun > minimum + 0.1


def scaled_program(of_f, of_c, of_x):
    """HS7 in other units: a f(x / s) subject to b c(x / s) = 0."""
    return lambda x: of_f * fun_torch(x / of_x), lambda x: of_c * circle(x / of_x)


UNITS = {
    **{f"objective {scale:g}": (scale, 1.0, 1.0) for scale in (1e-12, 1e-8, 1e-4, 1e4, 1e8)},
    **{f"constraint {scale:g}": (1.0, scale, 1.0) for scale in (1e-12, 1e-8, 1e-4, 1e4, 1e8)},
    **{f"both {scale:g}": (scale, scale, 1.0) for scale in (1e-10, 1e-6)},
    **{f"unknowns {scale:g}": (1.0, 1.0, scale) for scale in (1e-3, 1e3, 1e6)},
}


@pytest.mark.filterwarnings("ignore::sciml_bounds.ConvergenceWarning")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", UNITS)
def test_success_means_the_same_in_any_units(name, method):
    """Default tolerances are relative to derivatives that are small.

    In units of one, a KKT residual of 1e-4 leaves errors of at most 1e-3 in x and f: the smallest singular value of the
    KKT matrix of HS7 at the solution is above 0.1.
    """
    of_f, of_c, of_x = UNITS[name]
    objective, constraint = scaled_program(of_f, of_c, of_x)
    result = sb.minimize(objective, of_x * double(*START), constraints=constraint, method=method)
    if method == "auto" or (method == "sketched" and of_x < 1e6):
        assert result.success
    if result.success:
        np.testing.assert_allclose(result.x.numpy() / of_x, [0.0, np.sqrt(3)], rtol=0, atol=1e-3)
        assert result.fun / of_f == pytest.approx(MINIMUM, abs=1e-3)
        assert float(result.multipliers[0]) * of_c / of_f == pytest.approx(1 / np.sqrt(12), abs=1e-3)


@pytest.mark.parametrize("scale", [1e4, 1e6, 1e8])
def test_residuals_at_round_off_are_a_success(scale):
    """Both terms of g + J^T l are 1800 times the scale, and the curvature 4000 times."""

    def objective(x):
        return scale * (100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2)

    result = sb.minimize(objective, double(-1.2, 1.0), constraints=lambda x: x.sum() - 3)
    assert result.success
    assert result.kkt_residual <= 1e-11 * scale
    exact = sb.minimize(lambda x: objective(x) / scale, double(-1.2, 1.0), constraints=lambda x: x.sum() - 3)
    torch.testing.assert_close(result.x, exact.x, rtol=0, atol=1e-11)


@pytest.mark.parametrize("seed", [0, 4, 11, 22, 24, 40])
def test_gradients_decide_where_values_differ_by_round_off(seed):
    """A step that gains 1e-16 of a value near 0.1 may still shorten the gradient from 1e-7 to 1e-9."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.standard_normal((8, 8)))
    G, centre = (basis * np.logspace(-2, 2, 8)) @ basis.T, rng.standard_normal(8)
    result = sb.minimize(
        lambda x: 0.5 * (x - centre) @ G @ (x - centre), rng.standard_normal(8), jac=lambda x: G @ (x - centre),
        constraints=NonlinearConstraint(lambda x: x @ x - 2 * centre @ centre, 0, 0, jac=lambda x: 2 * x[None]),
    )  # fmt: skip
    assert result.reason is sb.results.Reason.CONVERGED


LINE = (lambda x: x[0] - x[1], lambda x: x[0] + x[1] - 2)
UNBOUNDED_LINEAR = {
    "on a line": LINE,
    "far from zero": (lambda x: 1e6 + LINE[0](x), LINE[1]),
    "small": (lambda x: 1e-6 * LINE[0](x), LINE[1]),
    "tiny": (lambda x: 1e-12 * LINE[0](x), LINE[1]),
    "free": (lambda x: x.sum(), ()),
}
UNBOUNDED = {
    "quadratic on a line": (lambda x: x[1] ** 2 - x[0] ** 2, lambda x: x[1] - 1),
    "cubic": (lambda x: (x**3).sum(), ()),
    "cubic on a line": (lambda x: x[0] ** 3, lambda x: x[1] - x[0]),
    "exponential": (lambda x: -torch.exp(x).sum(), ()),
    "exponential on a line": (lambda x: -torch.exp(x).sum(), lambda x: x[1] - 1),
}


@pytest.mark.parametrize(
    ("name", "method"), [*itertools.product(UNBOUNDED_LINEAR, METHODS), *itertools.product(UNBOUNDED, METHODS[:2])]
)
def test_objectives_without_a_lower_bound_are_reported(name, method):
    """Steps of constant length would need 1e14 iterations to reach -1e15; far along the last step it is below that."""
    objective, constraint = (UNBOUNDED_LINEAR | UNBOUNDED)[name]
    start = double(1.0, 1.0) if name in UNBOUNDED_LINEAR else double(-1.0, 0.2)
    with pytest.warns(sb.ConvergenceWarning, match="no lower bound"):
        result = sb.minimize(objective, start, constraints=constraint, method=method)
    assert result.reason is sb.results.Reason.UNBOUNDED
    assert result.nit <= 64


@pytest.mark.parametrize("method", METHODS[:2])
def test_objectives_of_numpy_without_a_lower_bound_are_reported(method):
    """Updates of the Hessian shrink it with each step."""
    with pytest.warns(sb.ConvergenceWarning, match="no lower bound"):
        result = sb.minimize(lambda x: x.sum(), np.ones(3), jac=lambda x: np.ones(3), method=method)
    assert result.reason is sb.results.Reason.UNBOUNDED


@pytest.mark.parametrize("method", METHODS[:2])
def test_large_objectives_are_not_unbounded(method):
    result = sb.minimize(lambda x: 1e16 * x[0], double(0.6, 0.8), constraints=sphere, method=method)
    assert result.success
    assert result.fun == pytest.approx(-1e16)


# --- constraints without full rank, or without a solution -------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
def test_dependent_constraints_are_regularised(solver):
    result = sb.minimize(
        lambda x: x @ x + x[1], double(3.0, 0.2), constraints=lambda x: torch.stack([x @ x - 4, 3 * (x @ x) - 12]),
        **SOLVERS[solver],
    )  # fmt: skip
    assert result.success
    assert result.fun == pytest.approx(2.0, abs=1e-4 if solver == "sketched" else 1e-6)
    if solver != "minres":  # MINRES gives the shortest solution of a consistent singular system, and needs no damping
        assert all(step.damping > 0 for step in result.history)
        assert "rank-deficient" in repr(result)


INCONSISTENT = {
    "no real root": (lambda x: x @ x + 1, (0.3, 0.2)),
    "two lines": (lambda x: torch.stack([x[0] - 1, x[0] - 2]), (3.0, 0.2)),
    "two lines, and nothing": (lambda x: torch.stack([x[0] - 1, x[0] - 3, 0 * x[1]]), (3.0, 0.2)),
    "circle and line": (lambda x: torch.stack([x @ x - 1, x[0] - 2]), (3.0, 0.2)),
    "three equations": (lambda x: torch.stack([x[0] - 1, x[0] - 2, x[1] ** 2]), (3.0, 0.2)),
}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", INCONSISTENT)
def test_inconsistent_constraints_are_reported(name, solver):
    """At a stationary point of ||c||, whose gradient is J^T c."""
    constraints, x0 = INCONSISTENT[name]
    with pytest.warns(sb.ConvergenceWarning, match="inconsistent"):
        result = sb.minimize(lambda x: x @ x, double(*x0), constraints=constraints, maxiter=200, **SOLVERS[solver])
    assert result.reason is sb.results.Reason.INFEASIBLE
    c = constraints(result.x)
    J = torch.autograd.functional.jacobian(constraints, result.x).reshape(-1, 2)
    assert float((J.T @ c.view(-1)).norm()) <= 1e-3 * max(1.0, float(J.norm())) * float(c.norm())


# --- gradients without Hessians ---------------------------------------------------------------------------------------


def circle_fit(points):
    """ORTHREGD of CUTEst: the circle next to points, whose feet are unknown too; unknowns (x, y, r, feet)."""
    angle = 2 * math.pi * torch.arange(points, dtype=torch.float64) / points
    radius = (3.89 + torch.cos(angle)) * (1 + 0.2 * torch.cos(237.1531 * angle))
    data = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], 1)

    def constraint(x):
        squares = (x[3:].view(-1, 2) - x[:2]).square().sum(1)
        return squares**2 - squares * (1 + x[2] ** 2) ** 2

    start = torch.cat([double(1.0, 0.0, 1.0), data.view(-1)])
    return lambda x: (x[3:] - data.view(-1)).square().sum(), constraint, start


def chained_hs50(n):
    """LUKVLE15 of CUTEst, with a gradient of 3e7 at x0 and second derivatives of order one at the minimum."""

    def fun(x):
        a, b, c, d, e = (x[i : i + n - 1 : 4] for i in range(5))
        return ((a - b) ** 2 + (b - c) ** 2 + (c - d) ** 4 + (d - e) ** 4).sum()

    count = 3 * (n - 1) // 4
    start = double(35.0, 11.0, 5.0, -5.0).repeat(n // 4 + 1)[:n]
    return fun, lambda x: x[:count] ** 2 + 2 * x[1 : count + 1] + 3 * x[2 : count + 2] - 6, start


#: Objective, constraint and start; the minimum; the largest number of iterations, about twice what it takes.
BY_GRADIENTS = {
    "steep constraints": (circle_fit(10), 3.412121065, 40),
    "objective steep at the start": (chained_hs50(49), 0.0, 700),
    # the first step ends at the minimum, but half a step changes the multiplier too little
    "multipliers last": ((lambda x: x[1] ** 2 * (x[0] - 2) ** 2, lambda x: x[1] - 1, double(1.0, 1.0)), 0.0, 5),
}


@pytest.mark.parametrize("name", BY_GRADIENTS)
def test_gradients_are_enough(name):
    (fun, constraint, start), minimum, most = BY_GRADIENTS[name]

    def numpy_of(function):
        return lambda x: np.atleast_1d(function(torch.from_numpy(x)).numpy())

    def derivative_of(function):
        return lambda x: torch.autograd.functional.jacobian(function, torch.from_numpy(x)).numpy()

    result = sb.minimize(
        lambda x: float(fun(torch.from_numpy(x))), start.numpy(), jac=derivative_of(fun), maxiter=most,
        constraints={"type": "eq", "fun": numpy_of(constraint), "jac": derivative_of(constraint)},
    )  # fmt: skip
    assert "BFGS" in result.method
    assert result.success
    assert result.fun == pytest.approx(minimum, abs=1e-6)


# --- bad input --------------------------------------------------------------------------------------------------------

ONE = double(1.0, 2.0)
BAD = {
    "float32": ((lambda x: x.sum(), torch.ones(2)), {}, "x0 float32"),
    "x0 of two axes": ((lambda x: x.sum(), ONE.view(1, 2)), {}, "x0 shape (1, 2) vector"),
    "x0 empty": ((lambda x: x.sum(), ONE[:0]), {}, "x0 shape (0,)"),
    "x0 NaN": ((lambda x: x.sum(), ONE * np.nan), {}, "x0 2 entries NaN"),
    "x0 integers": ((lambda x: x.sum(), np.array([1, 2])), {}, "x0 dtype int64"),
    "no function": ((3.0, ONE), {}, "fun 3.0 function"),
    "jac no function": ((lambda x: x.sum(), ONE), {"jac": True}, "jac True function x None"),
    "objective of two": ((lambda x: x, ONE), {}, "shape (2,) number"),
    "objective of float32": ((lambda x: x.sum().float(), ONE), {}, "float32 float64"),
    "objective a word": ((lambda x: "low", ONE), {}, "returns"),
    "objective NaN": ((lambda x: torch.log(-x).sum(), ONE), {}, "fun NaN infinite x0"),
    "gradient infinite": ((lambda x: torch.sqrt(x - ONE).sum(), ONE), {}, "derivative NaN infinite"),
    "detached": ((lambda x: x.detach().sum(), ONE), {}, "returns"),
    "item": ((lambda x: x.sum().item(), ONE), {}, "returns"),
    "gradient of wrong shape": (
        (lambda x: x.sum(), ONE), {"jac": lambda x: torch.cat([x, x])},
        "shape (4,) (2,)",
    ),
    "gradient an operator": (
        (lambda x: x @ x, ONE), {"jac": lambda x: scipy.sparse.linalg.aslinearoperator(np.ones((1, 2)))},
        "operator vector",
    ),
    "hessian not symmetric": (
        (lambda x: x @ x, ONE), {"hess": lambda x: torch.tensor([[2.0, 1.0], [0.0, 2.0]]).double()},
        "symmetric",
    ),
    "hessian of a constraint not symmetric": (
        (lambda x: x @ x, ONE), {"constraints": NonlinearConstraint(
            lambda x: x, 0, 0, jac=lambda x: np.eye(2), hess=lambda x, v: scipy.sparse.csr_array([[2.0, 1], [0, 2]]),
        )},
        "constraint symmetric",
    ),
    "operator with products of another length": (
        (lambda x: x @ x, ONE),
        {"hess": lambda x: scipy.sparse.linalg.LinearOperator((2, 2), lambda v: np.ones(3), dtype=float)},
        "operator product vector 2",
    ),
    "hessian of wrong shape": ((lambda x: x @ x, ONE), {"hess": lambda x: x}, "shape"),
    "constraint of two axes": (
        (lambda x: x.sum(), ONE), {"constraints": lambda x: x.view(1, 2)}, "vector"
    ),
    "constraint of float32": (
        (lambda x: x.sum(), ONE), {"constraints": [lambda x: x, lambda x: x.float()]}, "constraint 1 float32"
    ),
    "constraint NaN": ((lambda x: x.sum(), ONE), {"constraints": lambda x: x / 0}, "constraint NaN infinite"),
    "constraints that change in number": (
        (lambda x: x @ x, ONE), {"constraints": lambda x: x - 5 if x[0] == 1 else x[:1]}, "2 values x0 1"
    ),
    "constraint that leaves torch later": (
        (lambda x: x @ x, ONE),
        {"constraints": lambda x: x - 5 if x[0] == 1 else torch.zeros(2).double()}, "constraint",
    ),
    "multipliers of another length": (
        (lambda x: x @ x, ONE), {"constraints": lambda x: x[0], "multipliers": [1.0, 2.0]},
        "multipliers shape (2,) constraint (1,)",
    ),
    "constraint a word": ((lambda x: x.sum(), ONE), {"constraints": "x0 = 1"}, "constraint str"),
    "bounds": ((lambda x: x.sum(), ONE), {"constraints": scipy.optimize.Bounds(0, 1)}, "constraint Bounds"),
    "inequality": (
        (lambda x: x.sum(), ONE), {"constraints": NonlinearConstraint(lambda x: x, 0, 1)},
        "takes",
    ),
    "half-line": (
        (lambda x: x.sum(), ONE), {"constraints": LinearConstraint([[1, 1]], 0, np.inf)}, "takes"
    ),
    "inequality in a dictionary": (
        (lambda x: x.sum(), ONE), {"constraints": {"type": "ineq", "fun": lambda x: x}}, "type 'ineq'"
    ),
    "dictionary without fun": ((lambda x: x.sum(), ONE), {"constraints": {"type": "eq"}}, "dictionary 'fun'"),
    "bounds in words": (
        (lambda x: x.sum(), ONE), {"constraints": NonlinearConstraint(lambda x: x, "low", "low")},
        "bounds constraint 'low' numbers",
    ),
    "bounds of two lengths": (
        (lambda x: x.sum(), ONE), {"constraints": NonlinearConstraint(lambda x: x, [0, 0], [0, 0, 0])},
        "bounds constraint [0 0] 0",
    ),
    "bounds of another length": (
        (lambda x: x.sum(), ONE), {"constraints": NonlinearConstraint(lambda x: x, [1, 1, 1], [1, 1, 1])},
        "shape (2,) bounds (3,)",
    ),
    "matrix of another width": (
        (lambda x: x.sum(), ONE), {"constraints": LinearConstraint([[1, 1, 1]], 0, 0)}, "matrix constraint"
    ),
    "method": ((lambda x: x.sum(), ONE), {"method": "slsqp"}, "method 'slsqp' 'auto'"),
    "inner": ((lambda x: x.sum(), ONE), {"inner": "lu"}, "solver 'lu' 'auto'"),
    "maxiter": ((lambda x: x.sum(), ONE), {"maxiter": -1}, "maxiter -1"),
    "seed": ((lambda x: x.sum(), ONE), {"seed": 0.5}, "seed 0.5"),
    "seed too large": ((lambda x: x.sum(), ONE), {"seed": 2**64}, "2**64"),
    "callback": ((lambda x: x.sum(), ONE), {"callback": 1}, "callback 1"),
    "callback with a vector": ((lambda x: x @ x, ONE), {"callback": lambda x: x}, "callback Tensor"),
    "tolerances": ((lambda x: x.sum(), ONE), {"atol": 0.0}, "positive"),
    "negative tolerance": ((lambda x: x.sum(), ONE), {"rtol": -1.0}, "negative"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    arguments, options, message = BAD[name]
    refused(message, sb.minimize, *arguments, **options)


def test_hessians_of_differences_are_symmetric_enough():
    def hess(x):
        return np.stack([(circle_gradient(x + 1e-8 * e) - circle_gradient(x)) / 1e-8 for e in np.eye(2)])

    def circle_gradient(x):
        return np.array([4 * x[0] * (x[0] ** 2 + x[1] ** 2), 4 * x[1] * (x[0] ** 2 + x[1] ** 2) - 1])

    result = sb.minimize(lambda x: (x @ x) ** 2 - x[1], np.array([0.3, 0.7]), jac=circle_gradient, hess=hess)
    np.testing.assert_allclose(result.x, [0.0, 0.25 ** (1 / 3)], rtol=0, atol=1e-8)


def test_errors_of_the_users_functions_are_their_own():
    def broken(x):
        raise ZeroDivisionError("by the user")

    with pytest.raises(ZeroDivisionError, match="by the user"):
        sb.minimize(broken, ONE)

    def typo(x):
        return x.summ()

    with pytest.raises(AttributeError, match="summ"):
        sb.minimize(typo, ONE)


def test_any_sketch_is_an_inner_solver():
    result = sb.minimize(fun_torch, double(*START), constraints=circle, inner=RowBlock(2))
    assert result.success
    assert "RowBlock(size=2)" in result.method


@pytest.mark.filterwarnings("ignore::sciml_bounds.errors.ConvergenceWarning")
@pytest.mark.parametrize("start", [26.0, 27.0, 27.8])
def test_symmetry_of_underflowing_hessians_is_not_checked(start):
    """Products of their entries underflow, and what is left of zero need not be symmetric."""

    def gaussian(x):
        return np.exp(-(x @ x) / 2)

    result = sb.minimize(
        gaussian,
        np.array([start, 1.0]),
        jac=lambda x: -x * gaussian(x),
        hess=lambda x: (np.outer(x, x) - np.eye(2)) * gaussian(x),
    )
    assert not result.success
