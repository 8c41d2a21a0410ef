"""The lower bound: never above the error, and near it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.bounds._flux import flux_and_pressure
from sciml_bounds.bounds._minorant import minorant
from sciml_bounds.problems.transfers import with_periodic_copies


def problem_of(kind: str, n: int = 8) -> sb.Diffusion:
    rng = np.random.default_rng(0)
    a, f = np.exp(rng.standard_normal((n, n))), rng.standard_normal((n, n))
    sides: dict[str, sb.Boundary] = {"x0": sb.Dirichlet(0.0), "x1": sb.Robin(2.0, 1.0), "y0": sb.Neumann(0.2)}
    sides["y1"] = sb.Dirichlet(lambda x, y: x)
    if kind == "periodic":
        sides = dict.fromkeys(("x0", "x1", "y0", "y1"), sb.Periodic())
        f = f - f.mean()
    solid = None
    if kind == "solids":
        solid = np.zeros((n, n), dtype=bool)
        solid[n // 2, 1:] = solid[1, 2] = True
    reaction = 50 * rng.random((n, n)) if kind == "reaction" else 0.0
    return sb.Diffusion(sb.Grid((n, n)), a, f, boundary=sides, reaction=reaction, solid=solid)


def lower_bound(problem: sb.Diffusion, field: torch.Tensor) -> float:
    return minorant(problem, with_periodic_copies(field.unsqueeze(0), problem.periodic)).item()


KINDS = pytest.mark.parametrize("kind", ["plain", "reaction", "periodic", "solids"])


@KINDS
@pytest.mark.parametrize("size", [0.0, 0.1, 3.0])
def test_between_seven_tenths_and_all_of_the_error(kind, size, gauss):
    """The exact error lies between sqrt(2 J(v) - 2 J(w)) and that plus what w misses, for the w of a grid of h / 8.

    Bubbles are not functions of that grid, but for smooth u the part of the square that w misses is at most 1 / 64; the
    median must be at least 0.7.
    """
    problem = problem_of(kind)
    discrete = sb.solve(problem, rtol=1e-12).values
    noise = torch.randn(discrete.shape, dtype=discrete.dtype, generator=torch.Generator().manual_seed(0))
    v = problem.impose_boundary(discrete + size * discrete.abs().max() * noise)
    fine = problem.refine(8)
    gain = 2 * (gauss(problem).functional(v) - gauss(fine, 2).functional(sb.solve(fine, rtol=1e-12).values))
    error = np.sqrt(gain)
    found = lower_bound(problem, v)
    assert 0.7 * error <= found <= 1.001 * error


@KINDS
def test_an_error_of_the_same_grid_is_found_whole(kind):
    """With no data u = 0, and the error is the field itself: three cycles find it within 2 %."""
    problem = problem_of(kind)
    sides = {
        side: sb.Dirichlet(0.0)
        if isinstance(condition, sb.Dirichlet)
        else sb.Neumann(0.0)
        if isinstance(condition, sb.Neumann)
        else condition
        for side, condition in problem.boundary.items()
    }
    if kind != "periodic":
        sides["x1"] = sb.Robin(2.0, 0.0)
    problem = problem.replace(source=0.0, boundary=sides)
    field = torch.randn(problem.node_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    v = problem.impose_boundary(torch.where(problem.active_nodes[0], field, 0.0))
    energy = sb.certify(problem, v).energy.item()
    assert 0.98 * energy <= lower_bound(problem, v) <= energy * (1 + 1e-12)


def test_bound_of_the_exact_solution_is_zero():
    """u = x: nothing to find, and no division of zero by zero."""
    sides = {"x0": sb.Dirichlet(0.0), "x1": sb.Dirichlet(1.0), "y0": sb.Neumann(0.0), "y1": sb.Neumann(0.0)}
    problem = sb.Diffusion(sb.Grid((4, 4)), boundary=sides)
    v = problem.grid.nodes(0)[:, None].expand(5, 5).contiguous()
    assert lower_bound(problem, v) <= 1e-14
    zero = problem.replace(boundary=dict.fromkeys(problem.grid.sides, sb.Dirichlet(0.0)))
    assert lower_bound(zero, torch.zeros(5, 5, dtype=torch.float64)) == 0


@pytest.mark.parametrize("sides", ["walls", "periodic"])
@pytest.mark.parametrize("level", [0.0, 1e4, 1e8, 1e12])
def test_round_off_is_no_error(level, sides, extended_norm):
    """u = level + x where a depends on y only; the field is u rounded, or wrong in its last digits.

    Its energy error comes from extended precision, which has 11 bits more than what is left of the differences.
    """
    rng = np.random.default_rng(2)
    n = (33, 20)
    a = np.exp(6 * rng.random(n[1]))[None].repeat(n[0], 0)
    other = sb.Neumann(0.0) if sides == "walls" else sb.Periodic()
    ends = {"x0": sb.Dirichlet(level), "x1": sb.Dirichlet(level + 1.0)}
    problem = sb.Diffusion(sb.Grid(n), a, boundary=ends | {"y0": other, "y1": other})
    line = np.longdouble(level) + np.arange(n[0] + 1, dtype=np.longdouble) / n[0]
    exact = np.broadcast_to(line[:, None], problem.node_shape)
    for size in (0.0, 1e-16, 1e-14, 1e-12):
        noise = 1 + size * rng.standard_normal(exact.shape)
        field = problem.impose_boundary(torch.as_tensor(exact.astype(float) * noise))
        wrong = field.numpy() - exact
        copies = wrong if sides == "walls" else np.concatenate([wrong, wrong[:, :1]], 1)
        error = extended_norm(a, copies, problem.grid.spacing)
        assert lower_bound(problem, field) <= error * (1 + 1e-12)
        assert sb.certify(problem, field).lower.item() <= error * (1 + 1e-12)


@pytest.fixture
def extended_norm():
    """Energy norm of a bilinear field in extended precision: Simpson's rule is exact for its squared derivatives."""

    def norm(a: np.ndarray, w: np.ndarray, spacing: tuple[float, ...]) -> float:
        along_x, along_y = np.diff(w, axis=0) / spacing[0], np.diff(w, axis=1).T / spacing[1]
        means = [(d[:, 1:] ** 2 + d[:, 1:] * d[:, :-1] + d[:, :-1] ** 2) / 3 for d in (along_x, along_y)]
        return float(np.sqrt((a * (means[0] + means[1].T)).sum() * spacing[0] * spacing[1]))

    return norm


def test_each_sample_has_its_own_test_function():
    problem = problem_of("plain")
    v = sb.solve(problem).values
    stack = torch.stack([v, 2 * v, 0 * v])
    stack = problem.impose_boundary(stack)
    together = minorant(problem.broadcast(torch.Size([3])), stack)
    for field, found in zip(stack, together):
        # the cycles are in single precision, and add up in another order
        assert found.item() == pytest.approx(lower_bound(problem, field), rel=1e-6)


def parts_that_touch(n: int = 16) -> sb.Diffusion:
    """Two stiff squares that meet at a vertex, where pressures of cells are far from any nodal field."""
    index = np.arange(n) >= n // 4
    a = np.where(index[:, None] == index, 1e5, 1.0)
    a[:, 0] = a[:, -1] = a[0] = a[-1] = 1.0
    return sb.Diffusion(sb.Grid((n, n)), a, 1.0)


def test_pressures_that_make_no_nodal_field_are_not_relied_on(gauss):
    problem = parts_that_touch()
    discrete = sb.solve(problem, rtol=1e-12).values
    fine = problem.refine(8)
    least = gauss(fine, 2).functional(sb.solve(fine, rtol=1e-12).values)
    for v in (discrete, 1.2 * discrete):
        error = np.sqrt(2 * (gauss(problem).functional(v) - least))
        assert 0.7 * error <= sb.certify(problem, v).lower.item() <= 1.01 * error
    pressure, unknown = flux_and_pressure(problem, 1e-8)[1], torch.tensor([torch.inf], dtype=v.dtype)
    assert minorant(problem, v.unsqueeze(0), pressure, unknown).item() < 0.7 * error  # this case is one


@KINDS
def test_pressures_serve_as_well_as_cycles(kind):
    """For a field that is 20 % wrong, and the level that nothing holds does not matter."""
    problem = problem_of(kind, 16)
    discrete = sb.solve(problem, rtol=1e-12).values
    noise = torch.randn(discrete.shape, dtype=discrete.dtype, generator=torch.Generator().manual_seed(0))
    v = problem.impose_boundary(discrete + 0.2 * discrete.abs().max() * noise)
    certificate = sb.certify(problem, v)
    assert 0.97 * lower_bound(problem, v) <= certificate.lower.item() <= certificate.upper.item()
    if kind == "periodic":
        assert sb.certify(problem, v + 1e3).lower.item() == pytest.approx(certificate.lower.item(), rel=1e-6)
