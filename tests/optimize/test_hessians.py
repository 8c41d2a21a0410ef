"""Damped BFGS: positive definite, exact along the last step of positive curvature, with exact products."""

from __future__ import annotations

import pytest
import torch
from nonlinear_programs import PROBLEMS, program_at, program_of

from sciml_bounds.optimize._hessians import DampedBFGS, ExactHessian, hessians_of
from sciml_bounds.optimize._nonlinear_program import Program
from sciml_bounds.optimize._user_functions import Function, Given


def of_literature(name):
    problem = PROBLEMS[name]
    return program_of(problem.fun, problem.start, problem.constraints), problem.start


@pytest.mark.parametrize("name", ["HS7", "HS79", "HS100LNP"])
def test_updates_stay_positive_definite(name):
    program, x = of_literature(name)
    bfgs = DampedBFGS(program)
    multipliers = torch.ones(program.m, dtype=torch.float64)
    for step in range(12):
        H, _ = bfgs.at(program.at(x + 0.2 * torch.randn(len(x), dtype=torch.float64), multipliers))
        smallest = float(torch.linalg.eigvalsh(H)[0])
        assert smallest > 0, step
        torch.testing.assert_close(H, H.mT)


def test_the_last_change_of_a_convex_function_is_reproduced():
    program, x = of_literature("HS28")
    bfgs = DampedBFGS(program)
    points = [
        program.at(x + torch.randn(3, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)) for _ in range(3)
    ]
    for point in points:
        H, _ = bfgs.at(point)
    s = points[2].x - points[1].x
    torch.testing.assert_close(H @ s, program.hessian(points[2]) @ s)


@pytest.mark.parametrize("name", ["HS7", "HS79", "HS100LNP"])
def test_products_are_those_of_the_true_hessian(name):
    """By a difference whose step is 1e-7 of x: its error is that times third derivatives, and 1e-9 of round-off."""
    program, x = of_literature(name)
    point = program.at(x, torch.ones(program.m, dtype=torch.float64))
    _, product = DampedBFGS(program).at(point)
    _, exact = ExactHessian(program).at(point)
    assert float((product - exact).norm()) <= 1e-4 * float(exact.norm())


def test_hessians_whose_norm_overflows_are_not_finite():
    """At x = 1e-104, sqrt(x) has the second derivative -2.5e155, whose square overflows."""
    x = torch.full((2,), 1e-104, dtype=torch.float64)
    program, point = program_at(lambda x: x.sqrt().sum(), x)
    _, curved = ExactHessian(program).at(point)
    assert bool(curved.isnan().all())


def test_updates_end_before_they_vanish():
    """On a linear function each update leaves a fifth of the curvature along the step."""
    x = torch.ones(2, dtype=torch.float64)
    program = program_of(lambda x: x.sum(), x)
    bfgs = DampedBFGS(program)
    for step in range(600):
        H, _ = bfgs.at(program.at(x - step, x.new_zeros(0)))
    assert bool(torch.isfinite(H).all())


def test_updates_along_negative_curvature_stay_positive_definite():
    """Beside a curvature of 1e8, each step lowers the other one to a fifth, until round-off of the first decides."""
    x = torch.zeros(2, dtype=torch.float64)
    turn = torch.tensor([[0.8, 0.6], [-0.6, 0.8]], dtype=torch.float64)
    curvature = torch.tensor([1e8, -1.0], dtype=torch.float64)
    program = program_of(lambda x: curvature @ (turn @ x) ** 2 / 2, x)
    updates = DampedBFGS(program)
    for step in range(60):
        x = x + (turn[0] if step % 2 else turn[1])
        H, _ = updates.at(program.at(x, x.new_zeros(0)))
        assert float(torch.linalg.eigvalsh(H)[0]) > 0, step


def test_exact_derivatives_are_taken_where_all_functions_have_them():
    program, _ = of_literature("HS7")
    assert isinstance(hessians_of(program), ExactHessian)
    x = torch.ones(2, dtype=torch.float64)
    objective = Function(Given(lambda x: float(x @ x), lambda x: 2 * x, None, "fun", True), x, tensors_first=False)
    assert isinstance(hessians_of(Program(objective, [])), DampedBFGS)
