"""The merit function: its gradient and slopes against differences, and the identity at an exact Newton step."""

from __future__ import annotations

import pytest
import torch
from nonlinear_programs import PROBLEMS, program_of

from sciml_bounds.optimize._kkt import kkt_matrix
from sciml_bounds.optimize._merit import Merit, Slope

NAMES = ["HS7", "HS56", "HS77", "HS79", "HS100LNP"]
MERIT = Merit(2.5, 0.3)


def place(name):
    """A point off the start of a problem, with multipliers, its Hessian, and the program."""
    problem = PROBLEMS[name]
    x = problem.start + 0.1 * torch.randn(len(problem.start), dtype=torch.float64)
    program = program_of(problem.fun, x, problem.constraints)
    point = program.at(x, torch.randn(program.m, dtype=torch.float64))
    return program, point, program.hessian(point)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_that_of_differences(name):
    program, point, H = place(name)
    n = len(point.x)
    y = torch.cat([point.x, point.multipliers])
    step = 1e-6

    def value(y):
        return MERIT.value(program.at(y[:n], y[n:]))

    shifts = step * torch.eye(len(y), dtype=torch.float64)
    differences = torch.tensor([(value(y + s) - value(y - s)) / (2 * step) for s in shifts], dtype=torch.float64)
    gradient = MERIT.gradient(point, H @ point.lagrangian_gradient)
    # central differences: round-off 1e-16 |L| / step, and a truncation of step^2 times third derivatives
    assert float((gradient - differences).norm()) <= 1e-6 * float(gradient.norm()) + 1e-9 * abs(value(y))


@pytest.mark.parametrize("name", NAMES)
def test_slope_is_the_gradient_along_the_direction(name):
    _, point, H = place(name)
    curved = H @ point.lagrangian_gradient
    z = torch.randn(len(point.residual), dtype=torch.float64)
    expected = float(MERIT.gradient(point, curved) @ z)
    assert Slope.along(z, point, curved).at(MERIT) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_slope_along_an_exact_step_is_the_published_identity(name):
    """-dx.B dx + 2 c.dl - eta1 ||c||^2 - eta2 ||g||^2 + eta2 dx.(H - B) g, with B = H + I."""
    _, point, H = place(name)
    B = H + torch.eye(len(H))
    z = torch.linalg.solve(kkt_matrix(B, point.jacobian), -point.residual)
    dx, dl = z.split([len(H), len(z) - len(H)])
    g, c = point.lagrangian_gradient, point.constraints
    terms = [
        -dx @ B @ dx, 2 * c @ dl, -MERIT.eta1 * c.square().sum(), -MERIT.eta2 * g.square().sum(),
        MERIT.eta2 * dx @ (H - B) @ g,
    ]  # fmt: skip
    size = float(torch.stack(terms).abs().max())
    assert Slope.along(z, point, H @ g).at(MERIT) == pytest.approx(float(sum(terms)), abs=1e-10 * size)
