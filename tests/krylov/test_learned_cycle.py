"""The learned cycle: symmetric positive definite whatever its weights, the same compiled and in torch, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from refusals import refusals, refused

import sciml_bounds as sb
from sciml_bounds.evolution.scenes import make_scene
from sciml_bounds.evolution.smoke import Smoke
from sciml_bounds.krylov._direction_loss import pressure_product
from sciml_bounds.krylov._learned_cycle import LEVELS, LearnedCycle, pressure_operator
from sciml_bounds.krylov._loop import iterate
from sciml_bounds.krylov._multigrid_shaped import AIR, FLUID, SOLID
from sciml_bounds.operators._lattice_operator import LatticeOperator
from sciml_bounds.operators._linear_operator import MatrixOperator
from sciml_bounds.pressure import PressureSolver

SPACES = {2: (17, 14), 3: (8, 7, 6)}
NAMES = ("learned-cycle", "multigrid-pcg", "cg")


def _cycle(dim, seed=0, size=1.0, **options):
    """A cycle whose weights are far from those it starts with."""
    torch.manual_seed(seed)
    cycle = LearnedCycle(dim, **options)
    with torch.no_grad():
        for weight in cycle.parameters():
            weight += size * torch.randn_like(weight)
    return cycle


def _geometry(dim, seed=0, closed=False):
    """Fluid around a random body, with air on one side."""
    rng = np.random.default_rng(seed)
    geometry = np.full(SPACES[dim], FLUID)
    body = tuple(slice(int(rng.integers(1, 3)), int(rng.integers(4, 6))) for _ in range(dim))
    geometry[body] = SOLID
    if not closed:
        geometry[..., -1] = AIR
    return torch.from_numpy(geometry)[None]


def _matrix(cycle, operator):
    hierarchy = cycle.hierarchy(operator)
    eye = torch.eye(operator.shape[0], dtype=torch.float64).view(-1, *operator.lattice)
    with torch.no_grad():
        return cycle.apply_cycle(hierarchy, eye).flatten(1), hierarchy


@pytest.mark.parametrize("dim", [2, 3])
def test_the_operator_of_a_geometry_is_that_of_the_loss(dim):
    geometry = torch.randint(0, 3, (2, *SPACES[dim]), generator=torch.Generator().manual_seed(0))
    p = torch.randn(geometry.shape, dtype=torch.float64)
    p[geometry != FLUID] = 0.0
    found = pressure_operator(geometry).matvec(p.flatten(1)).view(p.shape)
    torch.testing.assert_close(found, pressure_product(p, geometry), rtol=0, atol=1e-13)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("dim", [2, 3])
def test_it_is_symmetric_and_positive_definite_whatever_its_weights(dim, seed):
    operator = pressure_operator(_geometry(dim, seed, closed=seed % 2 == 1))
    M, hierarchy = _matrix(_cycle(dim, seed, size=2.0), operator)
    assert len(hierarchy.scales) >= 1
    largest = float(M.abs().max())
    torch.testing.assert_close(M, M.mT, rtol=0, atol=1e-11 * largest)  # round-off of sums of some 1e3 products
    fluid = hierarchy.fluid.flatten().bool()
    values = torch.linalg.eigvalsh(M[fluid][:, fluid])
    # a step shortens every error component, the slowest, t = 1 / (12 * 200), by more than 1e-4 of its size
    assert float(values[0]) > 1e-6
    assert not M[~fluid].any()


def test_smoothing_contracts_everything_in_the_range_of_gershgorin():
    t = np.linspace(0.0, 1.0, 100_001)[1:]
    for seed in range(200):
        for lengths in _cycle(2, seed, size=3.0, sweeps=1 + seed % 6).steps().tolist():
            polynomial = np.prod(1 - np.array(lengths)[:, None] * t, 0)
            assert np.abs(polynomial).max() < 1


@pytest.mark.parametrize("dim", [2, 3])
def test_coarse_conductances_of_a_uniform_medium_are_those_of_the_coarse_grid(dim):
    """Ways of length two, each half as much, 2^(dim - 1) of them: before it is trained."""
    cycle = LearnedCycle(dim)
    coarse = cycle.hierarchy(pressure_operator(torch.full((1, *(17,) * dim), FLUID))).operators[1]
    for axis, T in enumerate(coarse.conductance):
        inner = T[(0, *(slice(2, -2),) * 3)] if dim == 3 else T[0, 0, 2:-2, 2:-2]
        torch.testing.assert_close(inner, torch.full_like(inner, 2.0 ** (dim - 2)))
        assert not T.select(1 + axis + 3 - dim, -1).any()
    assert not coarse.absorption.any()  # constants stay in the null space


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("dim", [2, 3])
def test_compiled_it_is_the_same_map(dim, closed):
    geometry = _geometry(dim, closed=closed)
    operator = pressure_operator(geometry)
    cycle = _cycle(dim, size=0.3)
    M, hierarchy = _matrix(cycle, operator)
    fluid = hierarchy.fluid.flatten().bool()
    r = torch.randn(3, operator.shape[0], dtype=torch.float64) * fluid
    if closed:
        r[:, fluid] -= r[:, fluid].mean(1, keepdim=True)
    found, expected = cycle.as_cycle(operator).matvec(r) * fluid, r @ M
    if closed:  # constants of the fluid mean nothing
        found, expected = (x - x[:, fluid].mean(1, keepdim=True) * fluid for x in (found, expected))
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))  # single precision


@pytest.mark.parametrize("space", [(70, 61), (19, 18, 17)])
def test_compiled_every_level_takes_its_own_steps(space):
    """Enough points for three levels in two dimensions and two in three."""
    geometry = torch.full((1, *space), FLUID)
    geometry[(0, *(slice(4, 9),) * len(space))] = SOLID
    geometry[..., -1] = AIR
    operator = pressure_operator(geometry)
    cycle = _cycle(len(space), size=0.3)
    hierarchy = cycle.hierarchy(operator)
    assert len(hierarchy.scales) == 5 - len(space)
    assert not torch.allclose(cycle.steps()[0], cycle.steps()[1], rtol=0.05)
    r = torch.randn(2, *operator.lattice, dtype=torch.float64) * hierarchy.fluid
    with torch.no_grad():
        expected = cycle.apply_cycle(hierarchy, r)
    found = cycle.as_cycle(operator).matvec(r.flatten(1)).view(r.shape) * hierarchy.fluid
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))  # single precision


@pytest.mark.parametrize("dim", [2, 3])
def test_plain_conjugate_gradients_and_their_bounds_apply(dim):
    operator = pressure_operator(_geometry(dim))
    b = torch.randn(operator.shape[0], dtype=torch.float64) * (operator.diagonal().flatten() > 1)
    s = sb.cg(operator, b, M=_cycle(dim, size=1.0).as_cycle(operator), rtol=1e-10)
    assert bool(s.converged.all())
    assert not s.flexible
    exact = torch.linalg.solve(torch.from_numpy(operator.to_csr().toarray()), b)
    torch.testing.assert_close(s.x.reshape(-1), exact, rtol=0, atol=1e-7 * float(exact.abs().max()))


def test_in_training_it_gives_the_iterates_of_conjugate_gradients():
    geometry = _geometry(2)
    operator = pressure_operator(geometry)
    net = sb.LearnedDirections("cycle", dim=2, unrolled=3).train()
    b = torch.where(geometry == FLUID, torch.randn(geometry.shape), 0.0).double()
    x = net(torch.stack([b, geometry.double()], 1).float())
    M, _ = _matrix(net.network, operator)
    symmetric = MatrixOperator((M + M.mT) / 2)
    b = b.float().double().flatten(1)
    expected = iterate(operator, b, symmetric, None, rtol=1e-14, atol=0.0, maxiter=3).x
    torch.testing.assert_close(x.flatten(1), expected, rtol=0, atol=1e-9 * float(expected.abs().max()))


def test_gradients_of_the_last_coarse_operator_are_those_of_finite_differences():
    """Those further up leave out how the interpolation of the levels between follows."""
    geometry = _geometry(2)
    operator = pressure_operator(geometry)
    b = torch.where(geometry == FLUID, torch.randn(geometry.shape, generator=torch.Generator().manual_seed(0)), 0.0)
    cycle = _cycle(2, size=0.1).double().train()
    levels = len(cycle.hierarchy(operator).scales)
    last = min(levels, LEVELS) - 1

    def loss():
        return cycle.along(cycle.hierarchy(operator), b.double().unsqueeze(1)).square().sum()

    cycle.zero_grad()
    loss().backward()
    for weight, place in ((cycle.roots, (last, 1)), (cycle.absorption, (last,))):
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                weight[place] += step
                values.append(float(loss()))
                weight[place] -= step
        expected = (values[0] - values[1]) / 2e-5
        # the second derivative is of the size of the loss: 1e-10 of it, and round-off of 1e-11
        assert float(weight.grad[place]) == pytest.approx(expected, rel=1e-4, abs=1e-8 * float(loss()))


def test_the_multigrid_that_refusals_name_takes_periodic_axes_and_lines():
    """As M too, where no method can be named."""
    net = sb.LearnedDirections("cycle", dim=2)
    sides = {"x0": sb.Periodic(), "x1": sb.Periodic(), "y0": sb.Dirichlet(0.0), "y1": sb.Dirichlet(0.0)}
    periodic = sb.Diffusion(sb.Grid((24, 24)), 1.0, 1.0, boundary=sides)
    for problem in (periodic, sb.Diffusion(sb.Grid((64,)), 1.0, 1.0)):
        solver = sb.prepare(problem, method="multigrid")
        refused("sb.prepare method='multigrid'", lambda problem=problem: net.as_preconditioner(problem))
        s = sb.cg(solver.operator, solver.rhs, M=solver.as_preconditioner())
        assert bool(s.converged.all())


def test_it_is_made_for_an_operator():
    net = sb.LearnedDirections("cycle", dim=2)
    refused("operator tuple", lambda: net.as_preconditioner((16, 16)))
    solver = sb.prepare(sb.Diffusion(sb.Grid((24, 16)), lambda x, y: 1 + x * y, 1.0), method="multigrid")
    refused("operator geometry", lambda: net.as_preconditioner(solver, geometry=torch.ones(25, 17)))
    s = sb.cg(solver.operator, solver.rhs, M=net.as_preconditioner(solver))
    torch.testing.assert_close(s.x.reshape(-1), solver.solve().values.reshape(-1), rtol=0, atol=1e-7)
    assert int(s.iterations.max()) <= 8


def test_weights_of_any_finite_size_make_a_positive_definite_cycle():
    """Sums of products of such weights are not finite in single precision."""
    operator = pressure_operator(_geometry(2))
    fluid = (operator.diagonal().flatten() > 1) & (operator.absorption.flatten() < 1)
    for seed in range(3):
        M, _ = _matrix(_cycle(2, seed, size=1e30), operator)
        values = torch.linalg.eigvalsh(M[fluid][:, fluid])
        assert float(values[0]) > 1e-6  # as above


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_coarse_conductances_are_in_proportion_in_single_precision_too(size):
    """Products of two conductances leave its range."""
    operator = pressure_operator(torch.full((1, 17, 17), FLUID)).to(torch.float32)
    scaled = LatticeOperator(operator.offsets, size * operator.conductance, size * operator.absorption)
    expected, found = (LearnedCycle(2).hierarchy(A).operators[1].conductance for A in (operator, scaled))
    torch.testing.assert_close(found / size, expected, rtol=1e-5, atol=0)  # some ten roundings
    b = torch.randn(operator.shape[0], generator=torch.Generator().manual_seed(0))
    b -= b.mean()
    counts = [int(sb.cg(A, b, M=LearnedCycle(2).as_cycle(A)).iterations) for A in (operator, scaled)]
    assert counts[0] == counts[1] <= 8


def test_parts_that_float_on_a_lattice_of_two_rows_are_solved_each_by_itself():
    """Every point lies on a side, so that walls conduct nothing, and the matrix is singular once for each part."""
    geometry = torch.full((1, 2, 201), FLUID)
    geometry[..., 100] = SOLID
    operator, cycle = pressure_operator(geometry), LearnedCycle(2).eval()
    b = torch.zeros(1, 1, 2, 201, dtype=torch.float64)
    b[..., 0, 10], b[..., 1, 110] = 1.0, -1.0  # neither part balances; round-off does not either
    x = cycle.along(cycle.kernels(geometry), b)
    assert float(x.abs().max()) < 1e4  # the sum of 200 cells, times a condition of 50^2 at most
    b[..., 1, 90], b[..., 0, 190] = -1.0, 1.0
    left = b - operator.matvec(cycle.along(cycle.kernels(geometry), b).reshape(1, -1)).view(b.shape)
    assert float(left.norm()) < 0.5 * float(b.norm())


def test_one_cell_among_walls_has_a_pressure_of_zero():
    cycle = LearnedCycle(2).eval()
    geometry = torch.full((1, 1, 1), FLUID)
    assert cycle.along(cycle.kernels(geometry), torch.zeros(1, 1, 1, 1)).tolist() == [[[[0.0]]]]


def test_in_training_a_solved_sample_stays_as_it_is():
    geometry = _geometry(2)
    cycle = LearnedCycle(2).train()
    x = cycle.along(cycle.kernels(geometry), torch.zeros(1, 1, *SPACES[2], dtype=torch.float64))
    x.sum().backward()
    assert not x.any()
    assert all(bool(torch.isfinite(p.grad).all()) for p in cycle.parameters() if p.grad is not None)


@pytest.mark.parametrize("training", [False, True])
def test_no_samples_have_no_directions(training):
    net = sb.LearnedDirections("cycle", dim=2).train(training)
    assert net(torch.ones(0, 2, 17, 17)).shape == (0, 1, 17, 17)


@pytest.mark.parametrize(("name", "dim"), [("cycle2d", 2), ("cycle3d", 3)])
def test_the_weights_that_ship_are_read_by_name(name, dim):
    net = sb.LearnedDirections.load(name)
    assert (net.dim, net.in_channels) == (dim, 2)
    assert sum(p.numel() for p in net.parameters()) < 200


@pytest.mark.slow
@pytest.mark.parametrize("scene", ["sphere", "rotating"])
@pytest.mark.parametrize(("dim", "cells"), [(2, 96), (3, 40)])
def test_trained_it_needs_no_more_iterations_than_multigrid_among_bodies_it_never_saw(scene, dim, cells):
    """Both start from full multigrid; multigrid smooths with three steps by default, the learned cycle with more."""
    setting = make_scene(scene, dim, cells)
    simulation = Smoke(setting.grid, dt=setting.dt, pressure=PressureSolver(), **setting.arguments())
    for _, system in simulation.pressure_systems(simulation.initial(), [4, 9]):
        asked = 1e-6 * float(system.rhs.norm())
        counts = {m: int(PressureSolver(m)(system, None, asked).iterations.max()) for m in NAMES}
        assert counts["learned-cycle"] <= counts["multigrid-pcg"] < counts["cg"]


def _spoilt(value):
    cycle = LearnedCycle(2)
    with torch.no_grad():
        cycle.conductance[0].bias[0] = value
    return cycle


def _training_on(geometry):
    cycle = LearnedCycle(2).train()
    return cycle.along(cycle.kernels(geometry), torch.zeros(geometry.shape).unsqueeze(1))


LINE = sb.Diffusion(sb.Grid((64,)), 1.0, 1.0)
ONES = torch.ones(2, 1, 1, 16, 16, dtype=torch.float64)

test_bad_input = refusals(
    *[
        (
            "neighbours box periodic M",
            lambda steps=steps: LearnedCycle(2).as_cycle(LatticeOperator(steps, ONES, ONES[0])),
        )
        for steps in (((0, 1, 0), (0, 0, 1)), ((0, 1, 1), (0, 0, 1)))
    ],
    ("3 axes 2", lambda: LearnedCycle(3).as_cycle(pressure_operator(_geometry(2)))),
    *[
        ("dimensions one M", lambda given=given: sb.LearnedDirections("cycle", dim=2).as_preconditioner(given))
        for given in (LINE, sb.prepare(LINE).operator)
    ],
    *[
        ("weights NaN", lambda value=value: _spoilt(value).as_cycle(pressure_operator(_geometry(2))))
        for value in (float("nan"), float("inf"))
    ],
    ("8x8 directly", lambda: _training_on(torch.full((1, 8, 8), FLUID))),
)
