"""The energy form against Gauss quadrature of the same integrals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.bounds._energy import EnergyForm
from sciml_bounds.kernels import use_backend
from sciml_bounds.problems.transfers import with_periodic_copies


def problem_of(shape: tuple[int, ...], seed: int) -> sb.Diffusion:
    """Diagonal coefficient, reaction on some cells, solids, and a different kind of boundary on every axis."""
    rng = np.random.default_rng(seed)
    sides = {
        "x0": sb.Robin(rng.random(shape[1:]) * (rng.random(shape[1:]) > 0.3), rng.standard_normal(shape[1:])),
        "x1": sb.Dirichlet(0.7),
        "y0": sb.Periodic(), "y1": sb.Periodic(),
        "z0": sb.Neumann(rng.standard_normal(shape[:2])), "z1": sb.Robin(0.4, -1.0),
    }  # fmt: skip
    grid = sb.Grid(shape, lengths=(1.0, 2.0, 0.7)[: len(shape)])
    solid = rng.random(shape) < 0.2 if len(shape) > 1 else None
    return sb.Diffusion(
        grid, tuple(np.exp(rng.standard_normal(shape)) for _ in shape), rng.standard_normal(shape), solid=solid,
        boundary={side: sides[side] for side in grid.sides}, reaction=rng.random(shape) * (rng.random(shape) > 0.4),
    )  # fmt: skip


@pytest.fixture(params=[(7,), (5, 4), (3, 4, 3)], ids=["1d", "2d", "3d"])
def problem(request) -> sb.Diffusion:
    return problem_of(request.param, len(request.param))


def nodal(problem: sb.Diffusion, seed: int) -> torch.Tensor:
    """A random nodal field that vanishes where it must."""
    field = torch.randn(problem.node_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.where(problem.active_nodes[0] & ~problem.dirichlet_nodes[0], field, 0.0)


def with_copies(problem: sb.Diffusion, field: torch.Tensor) -> torch.Tensor:
    return with_periodic_copies(field.unsqueeze(0), problem.periodic)


@pytest.mark.parametrize("backend", ["compiled", "torch"])
def test_norm_and_form_are_the_integrals(problem, gauss, backend):
    form, exact = EnergyForm(problem), gauss(problem)
    v, w = nodal(problem, 0) + 0.3, nodal(problem, 1)  # v does not vanish on Dirichlet sides, and has to count there
    with use_backend(backend):
        norm = form.norm(with_copies(problem, v)).item()
        product = (form.apply(with_copies(problem, v)) * with_copies(problem, w)).sum().item()
    assert norm == pytest.approx(exact.norm(exact.function(v)), rel=1e-13)
    assert product == pytest.approx(exact.product(exact.function(v), exact.function(w)), rel=1e-12)


def test_residual_is_load_minus_form(problem, gauss):
    form, exact = EnergyForm(problem), gauss(problem)
    v, w = nodal(problem, 0) + 0.3, nodal(problem, 1)
    expected = exact.load(w) - exact.product(exact.function(v), exact.function(w))
    residual = form.residual(with_copies(problem, v))
    assert form.pair(residual, with_copies(problem, w)).item() == pytest.approx(expected, rel=1e-12)


def test_residual_is_zero_where_test_functions_vanish_and_periodic_copies_agree(problem):
    residual = EnergyForm(problem).residual(with_copies(problem, nodal(problem, 0)))[0]
    held = with_copies(problem, (problem.dirichlet_nodes | ~problem.active_nodes)[0])[0]
    assert bool((residual[held] == 0).all())
    for axis, wraps in enumerate(problem.periodic):
        if wraps:
            assert torch.equal(residual.select(axis, 0), residual.select(axis, -1))


def test_each_sample_of_a_batch_is_a_problem_of_its_own(gauss):
    rng = np.random.default_rng(3)
    grid, alpha = sb.Grid((4, 3)), rng.random((2, 3))
    a, g = np.exp(rng.standard_normal((2, 4, 3))), rng.standard_normal((2, 3))
    sides = {"x0": sb.Robin(alpha, g), "x1": sb.Dirichlet(0.0), "y0": sb.Neumann(0.0), "y1": sb.Neumann(0.0)}
    form = EnergyForm(sb.Diffusion(grid, a, 1.0, boundary=sides))
    v = torch.as_tensor(rng.standard_normal((2, 5, 4)))
    for i in range(2):
        sample = sb.Diffusion(grid, a[i], 1.0, boundary=sides | {"x0": sb.Robin(alpha[i], g[i])})
        exact = gauss(sample)
        assert form.norm(v)[i].item() == pytest.approx(exact.norm(exact.function(v[i])), rel=1e-13)
        assert (form.load[i] * v[i]).sum().item() == pytest.approx(exact.load(v[i]), rel=1e-12)


def test_norm_of_zero_has_zero_gradient(problem):
    v = torch.zeros(problem.node_shape, dtype=torch.float64, requires_grad=True)
    EnergyForm(problem).norm(with_copies(problem, v)).sum().backward()
    assert torch.equal(v.grad, torch.zeros_like(v))
