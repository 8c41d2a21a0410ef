"""Nodal right-hand sides of prepared solvers, and time stepping with them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from refusals import refusals, refused

import sciml_bounds as sb

GRID = sb.Grid((17, 11), lengths=(1.0, 0.7))
SIDES = {"x0": sb.Dirichlet(2.0), "x1": sb.Robin(3.0, 1.0), "y0": sb.Neumann(-1.0), "y1": sb.Neumann(0.5)}


def _solid():
    solid = np.zeros(GRID.shape, dtype=bool)
    solid[4:7, 3:5] = solid[12:, 8:] = True
    return solid


def _problem(**changes):
    rng = np.random.default_rng(0)
    a = tuple(rng.lognormal(size=GRID.shape) for _ in range(2))
    fields = {"boundary": SIDES, "reaction": rng.random(GRID.shape), "solid": _solid()} | changes
    return sb.Diffusion(GRID, a, **fields)


# --- the heat equation ------------------------------------------------------------------------------------------------


def _first_mode(n, length):
    """Values of the first eigenfunction of a square, which decays with rate 2 (pi / length)^2."""
    s = torch.sin(torch.arange(n + 1, dtype=torch.float64) * (math.pi / n))
    return torch.outer(s, s), 2 * (math.pi / length) ** 2


@pytest.mark.parametrize("method", ["auto", "multigrid", "direct"])
@pytest.mark.parametrize("dt", [1e-2, 1e-3, 1e-4])
def test_implicit_euler_has_the_diffusivity_of_the_equation_for_small_steps(dt, method):
    """Ten steps against exp decay; the time error is dt times half the rate, the space error (pi h)^2 / 12 < 1e-3."""
    u, rate = _first_mode(32, 5.0)
    solver = sb.prepare(sb.Diffusion(sb.Grid((32, 32), lengths=5.0), reaction=1 / dt), method=method)
    v = u
    for _ in range(10):
        v = solver.solve(rhs=solver.mass @ v / dt, x0=v, rtol=1e-11).values
    effective = -float((v[16, 16] / u[16, 16]).log()) / (10 * dt * rate)
    assert abs(effective - 1) < 0.01


@pytest.mark.parametrize("dt", [1e-2, 1e-4])
def test_a_step_of_implicit_euler_is_that_of_the_assembled_matrices(dt):
    """Variable coefficient, prescribed values, fluxes, exchange and solids, against scipy's factors."""
    steady = _problem(source=3.0)
    problem = steady.replace(reaction=steady.reaction + 1 / dt)
    solver = sb.prepare(problem, method="multigrid")
    u = torch.from_numpy(np.random.default_rng(1).standard_normal(problem.node_shape))
    after = solver.solve(source=problem.source, rhs=solver.mass @ u / dt, rtol=1e-12).values

    diffusion = sb.prepare(steady)
    K, b = diffusion.operator.to_csr(), diffusion.rhs[0].numpy()
    free = problem.free_nodes[0].flatten().numpy()
    # the lumped mass by its definition: each fluid cell gives a quarter of its volume to each of its corners
    volumes = np.zeros(problem.node_shape)
    for i, j in np.argwhere(~_solid()):
        volumes[i : i + 2, j : j + 2] += GRID.cell_volume / 4
    np.testing.assert_allclose(solver.mass @ torch.ones(problem.node_shape).double(), volumes, rtol=1e-13)
    M = scipy.sparse.diags_array(np.where(free, volumes.reshape(-1), 0.0))
    x = scipy.sparse.linalg.spsolve((M / dt + K).tocsc(), M @ u.numpy().reshape(-1) / dt + b)
    expected = problem.impose_boundary(x.reshape(problem.node_shape))
    active = problem.active_nodes[0]
    torch.testing.assert_close(after[active], expected[active], rtol=0, atol=1e-9)


def test_the_steady_state_is_that_of_the_problem():
    problem = _problem(source=1.0, reaction=0.0)
    solver = sb.prepare(problem.replace(reaction=1e-2))
    u = torch.zeros(problem.node_shape, dtype=torch.float64)
    for _ in range(12):
        u = solver.solve(source=1.0, rhs=1e-2 * (solver.mass @ u)).values
    torch.testing.assert_close(u, sb.solve(problem).values, rtol=0, atol=1e-6)


# --- any load ---------------------------------------------------------------------------------------------------------


def test_the_load_of_a_source_gives_its_solution():
    problem = _problem(source=lambda x, y: x - y)
    load = sb.prepare(_problem(source=problem.source, boundary=sb.Neumann())).rhs.view(problem.node_shape)
    solver = sb.prepare(problem.replace(source=0.0))
    torch.testing.assert_close(solver.solve(rhs=load).values, sb.solve(problem).values, rtol=0, atol=1e-7)
    both = sb.prepare(problem).solve(source=problem.source, rhs=load).values
    torch.testing.assert_close(both, sb.solve(problem.replace(source=2 * problem.source)).values, rtol=0, atol=1e-7)
    alone = sb.prepare(problem).solve(rhs=load).values  # in place of the source of the problem
    torch.testing.assert_close(alone, sb.solve(problem).values, rtol=0, atol=1e-7)


def test_entries_at_prescribed_values_and_in_solids_are_ignored():
    problem = _problem()
    solver = sb.prepare(problem)
    load = torch.where(problem.free_nodes[0], 0.0, 1e6).double()
    torch.testing.assert_close(solver.solve(rhs=load).values, sb.solve(problem).values, rtol=0, atol=1e-7)


@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("given", [(), (3,), (2, 3), (2, 1)])
def test_loads_may_widen_the_batch(batch, given):
    rng = np.random.default_rng(2)
    problem = sb.Diffusion(GRID, rng.lognormal(size=(*batch, *GRID.shape)), boundary=SIDES)
    load = rng.standard_normal((*given, *problem.node_shape))
    values = sb.prepare(problem, method="multigrid").solve(rhs=load, rtol=1e-11).values
    shape = np.broadcast_shapes(batch, given)
    assert values.shape == (*shape, *problem.node_shape)
    for k in np.ndindex(shape):
        a = problem.coefficient[0].expand(*shape, *GRID.shape)[k]
        f = np.broadcast_to(load, (*shape, *problem.node_shape))[k]
        one = sb.prepare(sb.Diffusion(GRID, a, boundary=SIDES), method="direct").solve(rhs=f)
        torch.testing.assert_close(values[k], one.values, rtol=0, atol=1e-8)


def test_periodic_axes_have_no_last_node():
    problem = sb.Diffusion(
        GRID, boundary={"x0": sb.Periodic(), "x1": sb.Periodic(), "y0": sb.Dirichlet(), "y1": sb.Neumann()}
    )
    solver = sb.prepare(problem)
    f = torch.rand(17, 12, dtype=torch.float64)
    assert solver.solve(rhs=solver.mass @ f).values.shape == (17, 12)
    assert float((solver.mass @ torch.ones(17, 12).double()).sum()) == pytest.approx(0.7)


def test_gradients_reach_the_load_and_all_that_it_is_made_of():
    """Through two steps, with a coefficient that requires gradients and prescribed values that are not zero."""

    def final(a, u):
        solver = sb.prepare(sb.Diffusion(sb.Grid((4, 3)), a, boundary=SIDES, reaction=50.0), method="direct")
        for _ in range(2):
            u = solver.solve(source=1.0, rhs=50.0 * (solver.mass @ u)).values
        return u

    a = (1 + torch.rand(4, 3, dtype=torch.float64)).requires_grad_()
    u = torch.rand(5, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(final, (a, u))


def test_a_solver_with_gradients_serves_several_backward_passes():
    a = torch.ones(4, 3, dtype=torch.float64).requires_grad_()
    solver = sb.prepare(sb.Diffusion(sb.Grid((4, 3)), a, boundary=SIDES))
    for _ in range(2):
        solver.solve(rhs=torch.ones(5, 4)).values.sum().backward()
    assert bool(a.grad.any())


def test_loads_on_a_floating_domain_must_sum_to_zero():
    problem = sb.Diffusion(GRID, boundary=sb.Neumann())
    load = torch.rand(problem.node_shape, dtype=torch.float64)
    load -= load.mean()
    solver = sb.prepare(problem)
    assert bool(solver.solve(rhs=load).converged)
    refused("rhs sum zero mean", solver.solve, rhs=load + 1e-3)


# --- what is refused --------------------------------------------------------------------------------------------------

SOLVER = sb.prepare(sb.Diffusion(sb.Grid((4, 3))))
NODES = np.ones((5, 4))

test_bad_right_hand_sides = refusals(
    ("rhs (4, 3) (batch..., 5, 4) source=", lambda: SOLVER.solve(rhs=NODES[1:, 1:])),
    ("rhs (20,) reshape (batch..., 5, 4)", lambda: SOLVER.solve(rhs=NODES.reshape(-1))),
    ("rhs () (batch..., 5, 4)", lambda: SOLVER.solve(rhs=1.0)),
    ("rhs int64", lambda: SOLVER.solve(rhs=NODES.astype(int))),
    ("rhs 20 NaN", lambda: SOLVER.solve(rhs=NODES * np.nan)),
    ("rhs empty", lambda: SOLVER.solve(rhs=np.ones((0, 5, 4)))),
    ("rhs certificate certify source=", lambda: SOLVER.solve(rhs=NODES, certify=True)),
    ("rhs certificate error source=", lambda: SOLVER.solve(rhs=NODES, error=0.1)),
    ("source (5, 4) rhs= mass", lambda: SOLVER.solve(source=NODES)),
    ("source (5, 4) rhs= mass", lambda: sb.Diffusion(sb.Grid((4, 3)), source=NODES)),
    ("reaction (5, 4) cell", lambda: sb.Diffusion(sb.Grid((4, 3)), reaction=NODES)),
    (
        "(3,) (2,) rhs",
        lambda: sb.prepare(sb.Diffusion(sb.Grid((4, 3)), np.ones((2, 4, 3)))).solve(rhs=np.ones((3, 5, 4))),
    ),
)
