"""Gradients of `solve`, first and second ones, against difference quotients, and where they are exactly zero."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.errors import ConvergenceWarning

METHODS = {
    "multigrid": "multigrid",
    "cg": "cg",
    "algebraic": "algebraic",
    "direct": "direct",
    "V-cycles": sb.Multigrid(cycle="V"),
    "cycles": sb.Multigrid(accelerate=False),
    "aggregation": sb.Algebraic(kind="smoothed-aggregation"),
}

#: Residuals so small that difference quotients with steps of 1e-6 are good to about 1e-6.
RTOL = 1e-13


def _numbers(*shape: int) -> torch.Tensor:
    """Positive numbers, away from zero."""
    return (0.5 + torch.rand(shape, dtype=torch.float64)).requires_grad_()


# --- difference quotients ---------------------------------------------------------------------------------------------


def _held(shape, diagonal):
    """A problem with Dirichlet, Robin and Neumann sides, and all its data: values = f(data)."""
    dim, across = len(shape), shape[1:]
    grid = sb.Grid(shape, lengths=(1.0, 0.7, 1.3)[:dim])
    data = [_numbers(*shape) for _ in range(dim if diagonal else 1)]
    data += [
        _numbers(*shape),
        _numbers(*shape),
        _numbers(*(n + 1 for n in across)),
        _numbers(*across),
        _numbers(*across),
    ]
    data += [_numbers(*shape[:1], *shape[2:])] if dim > 1 else []

    def values(*data: torch.Tensor) -> torch.Tensor:
        *a, f, c, u, alpha, g = data if dim == 1 else data[:-1]
        sides = dict.fromkeys(grid.sides, sb.Neumann())
        sides |= {"x0": sb.Dirichlet(u), "x1": sb.Robin(alpha, g)}
        sides |= {"y0": sb.Neumann(data[-1])} if dim > 1 else {}
        problem = sb.Diffusion(grid, tuple(a) if diagonal else a[0], f, boundary=sides, reaction=c)
        return sb.solve(problem, rtol=RTOL).values

    return values, data


def _periodic():
    """Periodic along one axis, held along the other."""
    grid = sb.Grid((3, 2))

    def values(a, f, u):
        sides = {"x0": sb.Periodic(), "x1": sb.Periodic(), "y0": sb.Dirichlet(u), "y1": sb.Dirichlet(0.5)}
        return sb.solve(sb.Diffusion(grid, a, f, boundary=sides), rtol=RTOL).values

    return values, [_numbers(3, 2), _numbers(3, 2), _numbers(3)]


def _walls():
    """A chamber that nothing holds beside one that is held by exchange."""
    solid = np.zeros((5, 2), dtype=bool)
    solid[2] = True

    def values(a, f, alpha):
        balanced = torch.cat([f[:3] - f[:2].mean(), f[3:]])
        sides = {"x0": sb.Neumann(), "x1": sb.Robin(alpha, 1.0), "y0": sb.Neumann(), "y1": sb.Neumann()}
        return sb.solve(sb.Diffusion(sb.Grid((5, 2)), a, balanced, boundary=sides, solid=solid), rtol=RTOL).values

    return values, [_numbers(5, 2), _numbers(5, 2), _numbers(2)]


def _free():
    """Neumann sides all round: the source is balanced with the flux."""
    grid = sb.Grid((3, 2), lengths=(1.0, 0.5))

    def values(ax, ay, f, flux):
        balanced = f - f.mean() - flux.sum() * grid.face_area(0) / 0.5
        sides = {"x0": sb.Neumann(flux), "x1": sb.Neumann(), "y0": sb.Neumann(), "y1": sb.Neumann()}
        return sb.solve(sb.Diffusion(grid, (ax, ay), balanced, boundary=sides), rtol=RTOL).values

    return values, [_numbers(3, 2), _numbers(3, 2), _numbers(3, 2), _numbers(2)]


def _torus():
    def values(a, f):
        problem = sb.Diffusion(sb.Grid((2, 3)), a, f - f.mean((-2, -1), keepdim=True), boundary=sb.Periodic())
        return sb.solve(problem, rtol=RTOL).values

    return values, [_numbers(2, 3), _numbers(2, 2, 3)]


def _shared():
    """One coefficient for a batch of sources, and one value on the boundary for both."""

    def values(a, f, u):
        sides = {"x0": sb.Dirichlet(u), "x1": sb.Dirichlet(0.0), "y0": sb.Neumann(), "y1": sb.Robin(1.0, 0.3)}
        return sb.solve(sb.Diffusion(sb.Grid((2, 2)), a, f, boundary=sides), rtol=RTOL).values

    return values, [_numbers(2, 2), _numbers(2, 2, 2), _numbers()]


def _apart():
    """A coefficient and an exchange for each sample of the batch, one source for both."""

    def values(a, f, alpha):
        sides = {"x0": sb.Robin(alpha, 1.0), "x1": sb.Dirichlet(0.0), "y0": sb.Neumann(), "y1": sb.Neumann()}
        return sb.solve(sb.Diffusion(sb.Grid((2, 2)), a, f, boundary=sides), rtol=RTOL).values

    return values, [_numbers(2, 2, 2), _numbers(2, 2), _numbers(2, 2)]


CASES = {
    "line": lambda: _held((4,), False),
    "plane": lambda: _held((3, 2), False),
    "plane, diagonal": lambda: _held((3, 2), True),
    "box, diagonal": lambda: _held((2, 2, 2), True),
    "cylinder": _periodic,
    "walls": _walls,
    "free": _free,
    "torus": _torus,
    "batch, shared": _shared,
    "batch, apart": _apart,
}


@pytest.mark.parametrize("case", CASES)
def test_first_derivatives_in_all_data(case):
    values, data = CASES[case]()
    assert torch.autograd.gradcheck(values, data)


@pytest.mark.parametrize("case", [name for name in CASES if not name.startswith("box")])
def test_second_derivatives_in_all_data(case):
    values, data = CASES[case]()
    assert torch.autograd.gradgradcheck(values, data)


def test_single_precision_gradients():
    a = _numbers(13, 11)
    gradients = []
    for dtype in (torch.float64, torch.float32):
        problem = sb.Diffusion(sb.Grid((13, 11)), a.to(dtype), torch.ones((), dtype=dtype))
        gradients.append(torch.autograd.grad(sb.solve(problem).values.sum(), a)[0])
    # two solves, each with a residual of 1e-5 of its right-hand side
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-3 * float(gradients[0].abs().max()))


# --- every method -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_the_same_gradients(name):
    a, f, u = _numbers(3, 13, 11), _numbers(13, 11), _numbers(11)
    boundary = {"x0": sb.Dirichlet(u), "x1": sb.Robin(1.0, 0.3), "y0": sb.Periodic(), "y1": sb.Periodic()}
    problem = sb.Diffusion(sb.Grid((13, 11)), a, f, boundary=boundary)
    probe = torch.randn(3, *problem.node_shape, dtype=torch.float64)
    ours, expected = (
        torch.autograd.grad((sb.solve(problem, method=method, rtol=1e-11).values * probe).sum(), (a, f, u))
        for method in (METHODS[name], "direct")
    )
    for one, other in zip(ours, expected):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", METHODS)
def test_the_source_of_a_free_problem_has_a_gradient_of_mean_zero(name):
    """Only sources of mean zero are allowed, so the gradient among them is the one that a descent can follow."""
    f = torch.randn(13, 11, dtype=torch.float64)
    f = (f - f.mean()).requires_grad_()
    problem = sb.Diffusion(sb.Grid((13, 11)), _numbers(13, 11), f, boundary=sb.Neumann())
    values = sb.solve(problem, method=METHODS[name], rtol=1e-11).values
    (gradient,) = torch.autograd.grad((values * torch.randn(14, 12, dtype=torch.float64)).sum(), f)
    assert abs(float(gradient.mean())) <= 1e-8 * float(gradient.abs().max())


# --- exact zeros ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("boundary", [sb.Dirichlet(0.0), sb.Neumann()], ids=["held", "free"])
@pytest.mark.parametrize("name", METHODS)
def test_what_is_zero_has_zero_gradients_and_never_nan(name, boundary):
    """Sample 0 counts, sample 1 is zero by itself, sample 2 counts for nothing."""
    a = _numbers(3, 13, 11)
    f = torch.randn(3, 13, 11, dtype=torch.float64)
    f = f - f.mean((1, 2), keepdim=True)
    f[1] = 0.0
    f.requires_grad_()
    values = sb.solve(sb.Diffusion(sb.Grid((13, 11)), a, f, boundary=boundary), method=METHODS[name]).values
    assert not values[1].any()
    loss = (values[:2] * torch.randn(2, 14, 12, dtype=torch.float64)).sum()
    grad_a, grad_f = torch.autograd.grad(loss, (a, f), create_graph=True)
    second_a, second_f = torch.autograd.grad(grad_a.square().sum() + grad_f.square().sum(), (a, f))
    for first in (grad_a, grad_f, second_a, second_f):
        assert bool(torch.isfinite(first).all())
        assert first[0].any()
        assert not first[2].any()
    assert not grad_a[1].any()  # nothing flows there
    assert grad_f[1].any()


def test_a_problem_that_is_zero_altogether():
    a, f, u = (
        _numbers(5, 4),
        torch.zeros(5, 4, dtype=torch.float64, requires_grad=True),
        torch.zeros((), dtype=torch.float64),
    )
    problem = sb.Diffusion(sb.Grid((5, 4)), a, f, boundary=sb.Dirichlet(u.requires_grad_()))
    values = sb.solve(problem).values
    assert not values.any()
    grad_a, grad_f, grad_u = torch.autograd.grad(values.sum(), (a, f, u))
    assert not grad_a.any()
    assert bool((grad_f > 0).all())  # the solution for the source one, up to round-off of the sums
    assert float(grad_u) == pytest.approx(30.0, rel=1e-7)  # all nodes follow the boundary


def test_values_inside_walls_have_no_gradient():
    a = _numbers(4, 4)
    solid = np.zeros((4, 4), dtype=bool)
    solid[1:3, 1:3] = True
    values = sb.solve(sb.Diffusion(sb.Grid((4, 4)), a, 1.0, solid=solid)).values
    (gradient,) = torch.autograd.grad(values[2, 2], a, retain_graph=True)
    assert not gradient.any()
    (gradient,) = torch.autograd.grad(values.sum(), a)
    assert torch.equal(gradient == 0, torch.as_tensor(solid))


# --- beside the other options -----------------------------------------------------------------------------------------


def test_an_exact_guess_leaves_the_gradient_as_it_is():
    a = _numbers(13, 11)
    problem = sb.Diffusion(sb.Grid((13, 11)), a, 1.0)
    plain = sb.solve(problem, rtol=1e-11)
    guess = plain.values.detach().clone().requires_grad_()
    warm = sb.solve(problem, rtol=1e-11, x0=guess)
    assert int(warm.iterations) == 0
    assert torch.equal(warm.values, plain.values)
    ours, expected = (torch.autograd.grad(s.values.square().sum(), a, retain_graph=True)[0] for s in (warm, plain))
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)
    assert torch.autograd.grad(warm.values.sum(), guess, allow_unused=True) == (None,)


def test_every_solve_of_a_problem_has_a_history_of_its_own():
    """Also after one that recorded nothing."""
    u, a = _numbers(), _numbers(4, 3)
    problem = sb.Diffusion(sb.Grid((4, 3)), a, 1.0, boundary=sb.Dirichlet(u))
    with torch.no_grad():
        assert not sb.solve(problem).values.requires_grad
    for _ in range(2):
        sb.solve(problem).values.sum().backward()
    assert float(u.grad) == pytest.approx(40.0, rel=1e-7)  # twice the number of nodes


def test_gradients_flow_through_a_prepared_solver():
    a, f = _numbers(13, 11), _numbers(2, 13, 11)
    solver = sb.prepare(sb.Diffusion(sb.Grid((13, 11)), a), method="algebraic")
    ours = torch.autograd.grad(solver.solve(source=f, rtol=1e-11).values.square().sum(), (a, f))
    direct = sb.solve(sb.Diffusion(sb.Grid((13, 11)), a, f), method="direct")
    for one, other in zip(ours, torch.autograd.grad(direct.values.square().sum(), (a, f))):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_nothing_but_the_values_carries_a_history():
    seen = []
    solution = sb.solve(sb.Diffusion(sb.Grid((4, 3)), _numbers(4, 3), _numbers(4, 3)), callback=seen.append)
    assert solution.values.requires_grad
    for tensor in (solution.residual_norms, solution.residual_norm, solution.tolerance, solution.coefficient):
        assert not tensor.requires_grad
    assert not any(p.values.requires_grad or p.residual_norm.requires_grad for p in seen)


def test_a_missed_error_is_told_of_differentiable_data_too():
    problem = sb.Diffusion(sb.Grid((4, 4)), _numbers(4, 4), 1.0)
    with pytest.warns(ConvergenceWarning, match="error bound limited by the mesh"):
        assert sb.solve(problem, error=1e-3).values.requires_grad


def test_a_callback_hears_of_the_forward_solve_only():
    a, seen = _numbers(13, 11), []
    solution = sb.solve(sb.Diffusion(sb.Grid((13, 11)), a, 1.0), method="cg", callback=seen.append)
    forward = len(seen)
    solution.values.sum().backward()
    assert len(seen) == forward


def test_a_callback_that_stops_does_not_stop_the_adjoint():
    """A guess that is the solution, so that only the adjoint can be stopped."""
    a, probe = _numbers(13, 11), torch.randn(14, 12, dtype=torch.float64)
    problem = sb.Diffusion(sb.Grid((13, 11)), a, 1.0)
    exact = sb.solve(problem)
    stopped = sb.solve(problem, method="cg", x0=exact, callback=lambda progress: True)
    expected, found = (torch.autograd.grad((s.values * probe).sum(), a)[0] for s in (exact, stopped))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_an_absolute_tolerance_is_none_of_the_adjoint():
    """The size of the loss is anybody's choice: a small one must not make the gradient zero."""
    a = _numbers(13, 11)
    values = sb.solve(sb.Diffusion(sb.Grid((13, 11)), a, 1.0), atol=1e-6).values
    (plain,) = torch.autograd.grad(values.sum(), a, retain_graph=True)
    (small,) = torch.autograd.grad(1e-9 * values.sum(), a)
    torch.testing.assert_close(1e9 * small, plain, rtol=1e-3, atol=1e-3 * float(plain.abs().max()))


def test_an_adjoint_that_does_not_converge_is_told():
    a = _numbers(13, 11)
    problem = sb.Diffusion(sb.Grid((13, 11)), a, 1.0)
    values = sb.solve(problem, method="cg", x0=sb.solve(problem), maxiter=2).values
    with pytest.warns(ConvergenceWarning, match="maxiter reached"):
        values.square().sum().backward()
