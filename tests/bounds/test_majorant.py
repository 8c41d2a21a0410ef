"""The terms of the upper bound against quadrature, and the identity of Prager and Synge behind it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.bounds._flux import equilibrated_flux
from sciml_bounds.bounds._majorant import majorant
from sciml_bounds.kernels import use_backend
from sciml_bounds.problems.transfers import with_periodic_copies


def sides_of(dim: int) -> dict[str, sb.Boundary]:
    sides = {
        "x0": sb.Robin(0.8, 0.3), "x1": sb.Dirichlet(0.5), "y0": sb.Neumann(0.2), "y1": sb.Robin(2.0, -1.0),
        "z0": sb.Periodic(), "z1": sb.Periodic(),
    }  # fmt: skip
    return {f"{axis}{end}": sides[f"{axis}{end}"] for axis in "xyz"[:dim] for end in (0, 1)}


def problem_of(shape: tuple[int, ...], *, reaction: float = 0.0, solids: bool = False) -> sb.Diffusion:
    rng = np.random.default_rng(len(shape))
    c = reaction * rng.random(shape) * (rng.random(shape) > 0.4)
    coefficient = tuple(np.exp(rng.standard_normal(shape)) for _ in shape)
    grid = sb.Grid(shape, lengths=(1.0, 0.6, 1.5)[: len(shape)])
    solid = rng.random(shape) < 0.25 if solids else None
    source = rng.standard_normal(shape)
    return sb.Diffusion(grid, coefficient, source, boundary=sides_of(len(shape)), reaction=c, solid=solid)


def nodal(problem: sb.Diffusion, seed: int) -> torch.Tensor:
    field = torch.randn(problem.node_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return problem.impose_boundary(torch.where(problem.active_nodes[0], field, 0.0))


def with_copies(problem: sb.Diffusion, field: torch.Tensor) -> torch.Tensor:
    return with_periodic_copies(field.unsqueeze(0), problem.periodic)


SHAPES = pytest.mark.parametrize("shape", [(6,), (5, 4), (3, 4, 3)], ids=["1d", "2d", "3d"])


@SHAPES
@pytest.mark.parametrize("noise", [1e-3, 0.03, 1.0])
@pytest.mark.parametrize("backend", ["compiled", "torch"])
def test_terms_are_the_integrals(shape, noise, backend, gauss):
    """Any flux will do here, equilibrated or not, since every term is a plain integral over a cell.

    The oscillation is a term of its own where the flux nearly fits the field, and goes into the next term where it does
    not: each cell takes what is smaller. A linear field with its own flux, and more and more noise, make both cases.
    """
    diagonal = (2.0, 5.0, 0.5)[: len(shape)]
    problem = problem_of(shape, reaction=1.0, solids=len(shape) > 1)
    rng = np.random.default_rng(7)
    faces = [rng.standard_normal([n + (k == axis) for k, n in enumerate(shape)]) for axis in range(len(shape))]
    if noise < 1:  # the flux of the linear field is the same on every cell
        problem = problem.replace(coefficient=tuple(torch.full(shape, a, dtype=torch.float64) for a in diagonal))
    v = noise * nodal(problem, 0) + problem.grid.nodes(0).view(-1, *[1] * (len(shape) - 1))
    faces = [noise * y + 2.0 * (axis == 0) for axis, y in enumerate(faces)]
    exact = gauss(problem)
    with use_backend(backend):
        terms = majorant(problem, with_copies(problem, v), tuple(torch.as_tensor(y)[None] for y in faces))
    mismatch = sum((a * dv - y) ** 2 / a for a, dv, y in zip(exact.a, exact.gradient(v), exact.flux(faces)))
    flux = exact.per_cell(mismatch)
    residual = exact.f + exact.divergence(faces) - exact.c * exact.value(v)
    volume = problem.grid.cell_volume
    mean = exact.per_cell(residual) / volume
    rest = exact.per_cell((residual - exact.cells(mean)) ** 2)
    reacts = (problem.reaction.numpy() > 0) & problem.fluid[0].numpy()
    c = np.where(reacts, problem.reaction.numpy(), 1.0)
    m = np.max([h / (np.pi * np.sqrt(a.numpy())) for h, a in zip(problem.grid.spacing, problem.coefficient)], axis=0)
    outside = (np.sqrt(flux) + m * np.sqrt(rest)) ** 2 > flux + rest / c
    share = outside[reacts].mean()
    assert {1e-3: share == 0, 0.03: 0 < share < 1, 1.0: share == 1}[noise]
    oscillation = np.where(reacts & ~outside, m * np.sqrt(rest), 0.0)
    kept = np.where(reacts, (volume * mean**2 + np.where(outside, rest, 0.0)) / c, 0.0)
    for found, expected in ((terms.flux, flux), (terms.oscillation, oscillation), (terms.reaction, kept)):
        np.testing.assert_allclose(found[0].numpy(), expected, rtol=1e-11, atol=1e-13 * max(1.0, expected.max()))
    robin = 0.0
    for side, condition in problem.boundary.items():
        if isinstance(condition, sb.Robin):
            axis, end = "xyz".index(side[0]), int(side[1])
            outward = faces[axis].take(-end, axis) * (1 if end else -1)
            alpha, g = exact.side_data(condition.alpha), exact.side_data(condition.g)
            defect = g - alpha * exact.at_side(side, v) - exact.side_data(outward)
            robin += exact.side_integral(side, defect**2 / alpha)
    assert terms.robin.sum().item() == pytest.approx(robin, rel=1e-12)


@SHAPES
@pytest.mark.parametrize("solids", [False, True])
def test_prager_synge_between_two_fields(shape, solids, gauss):
    """With one equilibrated flux and no reaction, eta(v)^2 - eta(w)^2 = |||u - v|||^2 - |||u - w|||^2.

    That is 2 J(v) - 2 J(w), which is evaluated by quadrature; u is not needed. It all is exact, Robin sides included,
    so that only round-off remains: the terms are of size 1 to 100.
    """
    problem = problem_of(shape, solids=solids and len(shape) > 1)
    faces = equilibrated_flux(problem, rtol=1e-3)  # a rough solve will do: the sweep makes it equilibrated
    v, w, exact = nodal(problem, 0), nodal(problem, 1), gauss(problem)
    squares = [majorant(problem, with_copies(problem, field), faces).total.item() ** 2 for field in (v, w)]
    expected = 2 * (exact.functional(v) - exact.functional(w))
    assert abs(expected) > 1e-2  # the two fields are not equally wrong
    assert squares[0] - squares[1] == pytest.approx(expected, rel=0, abs=1e-10 * max(squares))


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_prager_synge_on_a_line(shift, gauss, exact_line):
    """eta^2 = |||u - v|||^2 + ||a^-1/2 (a u' - y)||^2 with the exact u and an equilibrated y that is off by a constant.

    On a line the two-point flux is exact, so the last term is shift^2 times the integral of 1/a.
    """
    rng = np.random.default_rng(0)
    a = np.where(rng.random(9) < 0.5, 1e3, 1.0)
    sides = {"x0": sb.Dirichlet(1.0), "x1": sb.Dirichlet(-2.0)}
    problem = sb.Diffusion(sb.Grid(9, lengths=2.0), a, rng.standard_normal(9), boundary=sides)
    v = nodal(problem, 0)
    (y,) = equilibrated_flux(problem, rtol=1e-13)
    eta = majorant(problem, v.unsqueeze(0), (y + shift,)).total.item()
    rest = shift**2 * float((problem.grid.spacing[0] / a).sum())
    error = exact_line(problem).error(v)
    assert eta**2 == pytest.approx(error**2 + rest, rel=1e-10)


def test_prager_synge_with_a_bilinear_solution(gauss):
    """u = x y solves -div grad u = 0; the Raviart-Thomas interpolant of its gradient misses it by h^2 / 6 (squared)."""
    n = 6
    grid = sb.Grid((n, n))
    problem = sb.Diffusion(grid, boundary=sb.Dirichlet(lambda x, y: x * y))
    x, y = (grid.nodes(k) for k in (0, 1))
    u = x[:, None] * y
    middle = grid.centers(0)
    faces = (middle.expand(n + 1, n).contiguous(), middle[:, None].expand(n, n + 1).contiguous())
    v, exact = nodal(problem, 0), gauss(problem)
    error = exact.norm(exact.function(v - u))
    rest = 2 / (12 * n**2)  # twice the mean square of the distance to the middle of a cell
    certificate = sb.certify(problem, v, flux=faces)
    assert certificate.upper.item() ** 2 == pytest.approx(error**2 + rest, rel=1e-10)
    assert sb.certify(problem, u, flux=faces).upper.item() ** 2 == pytest.approx(rest, rel=1e-10)


def test_counterexample_to_a_published_bound(gauss):
    """u = sin(pi x) sin(pi y), v = 0: C_F ||f|| with the published C_F = 1/(2 pi) is pi/2, but the error is pi/sqrt(2).

    f is replaced by its cell means f', which changes the solution by at most osc = (h / pi) ||f - f'|| in energy.
    """
    n = 32
    grid = sb.Grid((n, n))
    edges = torch.cos(math.pi * grid.nodes(0))
    means = (edges[:-1] - edges[1:]) * n / math.pi  # of sin(pi x) over each cell
    problem = sb.Diffusion(grid, 1.0, 2 * math.pi**2 * means[:, None] * means)
    square = math.pi**4 - float((problem.source**2).mean())  # ||f - f'||^2 = ||f||^2 - ||f'||^2
    osc = math.sqrt(square) / (n * math.pi)
    error, published = math.pi / math.sqrt(2), math.pi / 2
    certificate = sb.certify(problem, torch.zeros(problem.node_shape, dtype=torch.float64))
    assert published / error == pytest.approx(0.707, abs=1e-3)
    assert osc < 0.01
    assert error - osc <= certificate.upper.item() <= 1.01 * error  # nothing is wasted either
    assert certificate.lower.item() <= error + osc
    assert certificate.lower.item() >= 0.9 * error
    assert certificate.upper.item() > 1.4 * published
    l2_error = 0.5
    assert certificate.l2_upper.item() == pytest.approx(certificate.upper.item() / (math.sqrt(2) * math.pi), rel=1e-14)
    assert l2_error - osc / (math.sqrt(2) * math.pi) <= certificate.l2_upper.item() <= 1.01 * l2_error
    assert certificate.upper.item() / (2 * math.pi) < 0.75 * l2_error  # what 1/(2 pi) would have claimed
