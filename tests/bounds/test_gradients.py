"""Gradients of a certificate in the values and in the flux, with plain torch next to the compiled kernels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sciml_bounds as sb


def small_problem(kind: str) -> sb.Diffusion:
    rng = np.random.default_rng(1)
    shape = (3, 4)
    a, f = np.exp(rng.standard_normal(shape)), rng.standard_normal(shape)
    sides = {"x0": sb.Dirichlet(0.2), "x1": sb.Robin(1.5, 0.3), "y0": sb.Neumann(0.1), "y1": sb.Dirichlet(0.2)}
    solid, c = None, 0.0
    if kind == "reaction":
        c = rng.random(shape) * (rng.random(shape) > 0.4)
    if kind == "solids":
        solid = np.zeros(shape, dtype=bool)
        solid[1, 1:] = True
        sides["y1"] = sb.Neumann(0.0)
    if kind == "periodic":
        sides |= {"y0": sb.Periodic(), "y1": sb.Periodic()}
    return sb.Diffusion(sb.Grid(shape), a, f, boundary=sides, reaction=c, solid=solid)


def noisy(problem: sb.Diffusion, *batch: int, size: float = 0.05) -> torch.Tensor:
    v = sb.solve(problem).values
    noise = torch.randn(*batch, *problem.node_shape, dtype=v.dtype, generator=torch.Generator().manual_seed(1))
    return problem.impose_boundary(v + size * v.abs().max() * noise)


@pytest.mark.parametrize("off", [False, True], ids=["inside", "boundary"])
@pytest.mark.parametrize("kind", ["plain", "reaction", "solids", "periodic"])
def test_gradients_of_the_bound(kind, off):
    """With respect to the values (also through the lifting) and to a random flux (through solve and sweep).

    The two solves inside stop at 1e-8, so difference quotients with steps of 1e-4 are good to about 1e-4 of the slopes.
    """
    problem = small_problem(kind)
    rng = np.random.default_rng(3)
    values = torch.as_tensor(rng.standard_normal(problem.node_shape))
    values = (values if off else problem.impose_boundary(values)).requires_grad_()
    shape = problem.grid.shape
    sizes = [tuple(n + (k == axis) for k, n in enumerate(shape)) for axis in range(2)]
    flux = tuple(torch.as_tensor(rng.standard_normal(size)).requires_grad_() for size in sizes)
    fixed = problem.dirichlet_nodes[0]

    def bound(values: torch.Tensor, *flux: torch.Tensor) -> torch.Tensor:
        if not off:  # keep to fields with the right boundary values
            values = torch.where(fixed, problem.dirichlet_values[0], values)
        return sb.certify(problem, values, flux=flux, lower=False).upper

    assert torch.autograd.gradcheck(bound, (values, *flux), eps=1e-4, rtol=1e-4, atol=1e-6, fast_mode=True)


def test_gradients_of_indicators_and_energy():
    problem = small_problem("reaction")
    values = noisy(problem).requires_grad_()
    flux = sb.certify(problem, values.detach()).flux

    def parts(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values = torch.where(problem.dirichlet_nodes[0], problem.dirichlet_values[0], values)
        certificate = sb.certify(problem, values, flux=flux, lower=False)
        return certificate.indicators, certificate.energy

    assert torch.autograd.gradcheck(parts, (values,))


@pytest.mark.parametrize("improve", [0, 2])
def test_gradients_are_zero_and_not_nan_where_every_term_is_zero(improve):
    """u = x is the solution, and its own flux is constant: the bound is zero up to round-off, at its minimum."""
    sides = {"x0": sb.Dirichlet(0.0), "x1": sb.Robin(1.0, 2.0), "y0": sb.Neumann(0.0), "y1": sb.Neumann(0.0)}
    problem = sb.Diffusion(sb.Grid((4, 2)), boundary=sides)
    values = problem.grid.nodes(0)[:, None].expand(5, 3).clone().requires_grad_()
    flux = (torch.ones(5, 2, dtype=torch.float64, requires_grad=True), torch.zeros(4, 3, dtype=torch.float64))
    certificate = sb.certify(problem, values, flux=flux, improve=improve)
    assert certificate.upper.item() == 0
    (certificate.upper + certificate.indicators.sum() + certificate.boundary_part).backward()
    assert torch.equal(values.grad, torch.zeros_like(values))
    assert torch.equal(flux[0].grad, torch.zeros_like(flux[0]))


def test_improvement_keeps_the_gradients_of_a_given_flux():
    problem = small_problem("plain")
    values = noisy(problem)
    flux = tuple(face.clone().requires_grad_() for face in sb.certify(problem, values).flux)
    sb.certify(problem, values, flux=flux, improve=2).upper.backward()
    assert all(face.grad is not None and bool(face.grad.abs().sum() > 0) for face in flux)


def test_no_part_of_a_gradient_reaches_the_data():
    """The bound depends on them through the flux too, which is not differentiated: half a gradient would be wrong."""
    a = torch.rand(6, 5, dtype=torch.float64).add_(0.5).requires_grad_()
    problem = sb.Diffusion(sb.Grid((6, 5)), a, 1.0)
    certificate = sb.certify(problem, sb.solve(problem).values.detach())
    assert not certificate.upper.requires_grad
    assert not certificate.indicators.requires_grad
    solved = sb.solve(problem)
    assert solved.values.requires_grad
    (through_values,) = torch.autograd.grad(sb.certify(problem, 1.2 * solved.values).upper, a)
    assert float(through_values.abs().max()) > 0


def test_the_gradient_of_the_energy_is_whole():
    """In coefficient, reaction and Robin data, of one sample and of a batch, also where the values depend on them."""
    problem = small_problem("reaction")
    a, c = (torch.as_tensor(field) for field in (problem.coefficient[0], 1 + problem.reaction))
    alpha = torch.tensor([1.5, 0.7, 2.0, 1.0], dtype=torch.float64)

    def energy(a: torch.Tensor, c: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
        sides = problem.boundary | {"x1": sb.Robin(alpha, 0.3)}
        changed = problem.replace(coefficient=torch.stack([a, 2 * a]), reaction=c, boundary=sides)
        values = sb.solve(changed, rtol=1e-12, method="direct").values
        return sb.certify(changed, values, lower=False).energy

    fields = tuple(field.clone().requires_grad_() for field in (a, c, alpha))
    assert torch.autograd.gradcheck(energy, fields, eps=1e-5, rtol=1e-6, atol=1e-8)


def test_the_relative_bound_has_no_part_of_a_gradient_in_the_data():
    problem = small_problem("plain")
    a = problem.coefficient[0].clone().requires_grad_()
    changed = problem.replace(coefficient=a)
    values = sb.solve(problem).values.requires_grad_()
    relative = sb.certify(changed, values).relative_upper
    assert torch.autograd.grad(relative, (values, a), allow_unused=True)[1] is None
