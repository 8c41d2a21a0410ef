"""Distributed control as an objective of the state: derivatives, and a preconditioner and a norm that no mesh hurts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.control._state_objective import StatePoint, StatePreconditioner


def published(n, weight, nonlinearity=None):
    """Control of -Lap u = z on (-1, 1)^2 with n x n free nodes, and a target that is not zero on the sides."""
    problem = sb.Diffusion(sb.Grid((n + 1, n + 1), lengths=(2.0, 2.0), origin=(-1.0, -1.0)))
    return sb.control.DistributedControl(
        problem, lambda x, y: torch.sin(2 + x) + torch.cos(y), weight=weight, nonlinearity=nonlinearity
    )


def general(nonlinearity):
    """Sides of all kinds, a coefficient and a nonlinearity."""
    generator = torch.Generator().manual_seed(0)
    sides = {"x0": sb.Dirichlet(1.0), "x1": sb.Neumann(0.3), "y0": sb.Robin(2.0, 1.0), "y1": sb.Neumann(0.0)}
    a = torch.rand(6, 5, generator=generator, dtype=torch.float64) + 0.5
    problem = sb.Diffusion(sb.Grid((6, 5)), coefficient=a, source=1.0, boundary=sides)
    return sb.control.DistributedControl(problem, lambda x, y: x * y, weight=1e-2, nonlinearity=nonlinearity)


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
    ends = [StatePoint.of(control, point.v + sign * t * v) for sign in (1, -1)]
    assert (ends[0].fun - ends[1].fun) / (2 * t) == pytest.approx(float(point.gradient @ v), rel=1e-7)
    along = (ends[0].gradient - ends[1].gradient) / (2 * t)
    torch.testing.assert_close(along, point.hessian_product(v), rtol=1e-6, atol=1e-6)


def test_the_equation_holds_for_every_state_and_the_multipliers_are_those_of_the_control():
    control = general(torch.sin)
    point, _ = somewhere(control)
    assert float(control.equation(point.x).norm()) < 1e-12
    gradient = control.jac(point.x) + control.equation_jac(point.x).mT @ point.solution()[1]
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
    """A condition number of 2 gives a factor of 0.172 per step, and 11 steps for 1e-8."""
    steps = {
        (n, weight): sum(step.inner_steps for step in published(n, weight).minimize().history)
        for n in (15, 31, 63, 127, 255)
        for weight in (1.0, 1e-1, 1e-3, 1e-6, 1e-9)
    }
    assert max(steps.values()) <= 11
    for weight in (1.0, 1e-1, 1e-3):
        assert steps[255, weight] <= steps[31, weight] + 1
