"""Flow through a bent pipe: Poiseuille's flow, conservation, the equations in physical space, and the recipe."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from refusals import refused

from sciml_bounds.errors import ConvergenceError, MissingExtraError
from sciml_bounds.fem import require_dolfinx
from sciml_bounds.fem._pipe_flow import PIPE, Centreline, PipeFlow, _discretisation, draw_centreline, solve_pipe_flow
from sciml_bounds.recipes._registry import find_recipe

CPU = torch.device("cpu")
STRAIGHT = Centreline([0.0] * 5, [0.0] * 5)
BENT = Centreline([0.0, 0.5, -0.4, 0.6, 0.2], [0.1, -0.3, 0.2, 0.4, -0.1])


@pytest.fixture(scope="module")
def bent() -> PipeFlow:
    """The flow through a bent pipe on a small mesh."""
    require_or_skip()
    return solve_pipe_flow(BENT, 32)


def require_or_skip() -> None:
    """Skip where DOLFINx is missing."""
    try:
        require_dolfinx()
    except MissingExtraError as missing:
        pytest.skip(str(missing))


# --- the flow ---------------------------------------------------------------------------------------------------------


@pytest.mark.fem
@pytest.mark.parametrize("viscosity", [0.005, 0.3])
def test_a_straight_pipe_has_poiseuille_flow(viscosity):
    """u = 1 - 4 y^2 and p = 8 nu (10 - x) lie in the elements, so they are found up to round-off."""
    require_or_skip()
    flow = solve_pipe_flow(STRAIGHT, 16, viscosity=viscosity)
    torch.testing.assert_close(flow.velocity[0], 1 - 4 * flow.mesh_y**2, rtol=0, atol=1e-10)
    torch.testing.assert_close(flow.velocity[1], torch.zeros(17, 17, dtype=torch.float64), rtol=0, atol=1e-10)
    pressure = 8 * viscosity * (10 - flow.mesh_x[:, ::4])
    torch.testing.assert_close(flow.pressure, pressure, rtol=0, atol=1e-9)


@pytest.mark.fem
def test_a_lifted_pipe_has_the_same_flow(bent):
    lifted = solve_pipe_flow(Centreline([h + 3 for h in BENT.heights], BENT.slopes), 32)
    torch.testing.assert_close(lifted.velocity, bent.velocity, rtol=0, atol=1e-8)
    torch.testing.assert_close(lifted.mesh_y, bent.mesh_y + 3)


@pytest.mark.fem
def test_mirrored_pipe_has_the_mirrored_flow(bent):
    mirrored = solve_pipe_flow(Centreline([-h for h in BENT.heights], [-s for s in BENT.slopes]), 32)
    torch.testing.assert_close(mirrored.velocity[0], bent.velocity[0].flip(-1), rtol=0, atol=1e-8)
    torch.testing.assert_close(mirrored.velocity[1], -bent.velocity[1].flip(-1), rtol=0, atol=1e-8)


@pytest.mark.fem
def test_mass_flux_is_that_of_the_inlet_on_every_element_column():
    """The flux through a section at x is quadratic along an element; tested with pressures that depend on x alone.

    By hats in x, continuity says that the mean of the flux over every column of elements is that of the inlet, 2 / 3.
    """
    require_or_skip()
    velocity, _, _ = _discretisation(32).solve(BENT.spline(), 0.005)
    across = np.zeros(17)
    for first in range(0, 16, 2):
        across[first : first + 3] += np.array([1.0, 4.0, 1.0]) / 48  # Simpson's rule on each of eight elements
    flux = velocity[0] @ across
    means = (flux[:-2:2] + 4 * flux[1::2] + flux[2::2]) / 6
    np.testing.assert_allclose(means, 2 / 3, rtol=1e-10)
    np.testing.assert_allclose(flux, 2 / 3, rtol=0.02)
    assert np.ptp(flux) > 1e-6  # not conserved point by point, so the test above says something


@pytest.mark.fem
def test_mesh_values_are_those_of_the_elements(bent):
    """Evaluated by DOLFINx at some points of the straight pipe."""
    from dolfinx import geometry

    discretisation = _discretisation(32)
    discretisation.solve(BENT.spline(), 0.005)
    velocity = discretisation.state.sub(0).collapse()
    i, j = np.array([1, 5, 17, 30]), np.array([1, 2, 11, 27])
    points = np.stack([i * 10 / 32, j / 32 - 0.5, np.zeros(4)], axis=1)
    domain = discretisation.mesh
    near = geometry.compute_collisions_points(geometry.bb_tree(domain, 2, padding=1e-9), points)
    cells = [cells[0] for cells in map(geometry.compute_colliding_cells(domain, near, points).links, range(4))]
    found = velocity.eval(points, np.array(cells))
    np.testing.assert_allclose(found.T, bent.velocity[:, i, j].numpy(), rtol=0, atol=1e-9)


@pytest.mark.fem
def test_walls_hold_and_the_inlet_is_parabolic(bent):
    assert bool((bent.velocity[:, :, [0, -1]] == 0).all())
    s = torch.linspace(-0.5, 0.5, 33, dtype=torch.float64)
    torch.testing.assert_close(bent.velocity[0, 0], 1 - 4 * s**2)
    assert bool((bent.velocity[1, 0] == 0).all())


@pytest.mark.fem
@pytest.mark.slow
def test_velocity_converges_with_the_mesh():
    """Order three where everything is smooth; at the corners of the inlet it is not, so two is asked for."""
    require_or_skip()
    flows = [solve_pipe_flow(BENT, n, viscosity=0.1) for n in (16, 32, 64)]
    coarse, middle, fine = (flow.velocity[0, ::step, ::step] for flow, step in zip(flows, (1, 2, 4)))
    assert (coarse - fine).norm() > 4 * (middle - fine).norm()
    assert (middle - fine).norm() < 0.01 * fine.norm()


@pytest.mark.fem
def test_equations_hold_in_physical_space():
    """The textbook form on a mesh of curved elements, at our solution.

    Elements whose geometry has degree two represent a parabolic centreline exactly, so that residuals are round-off.
    """
    require_or_skip()
    import basix.ufl
    import ufl
    from dolfinx import fem, mesh
    from mpi4py import MPI

    def centre(x: np.ndarray) -> np.ndarray:
        return 0.3 - 0.25 * x + 0.03 * x**2

    knots, along, across = np.linspace(0, 10, 5), 32, 8  # nodes: half the size of 16 x 4 elements
    spline = Centreline(centre(knots), 0.06 * knots - 0.25).spline()
    velocity, pressure, _ = _discretisation(16).solve(spline, 0.02)
    numbers = np.arange((along + 1) * (across + 1)).reshape(along + 1, across + 1)
    in_cell = [(0, 0), (2, 0), (0, 2), (2, 2), (1, 0), (0, 1), (2, 1), (1, 2), (1, 1)]  # corners, sides, middle
    corners = [(i, j) for i in range(0, along, 2) for j in range(0, across, 2)]
    cells = np.array([[numbers[i + a, j + b] for a, b in in_cell] for i, j in corners])
    x, s = np.meshgrid(np.linspace(0, 10, along + 1), np.linspace(-0.5, 0.5, across + 1), indexing="ij")
    points = np.stack([x.ravel(), (centre(x) + s).ravel()], axis=1)
    geometry = basix.ufl.element("Lagrange", "quadrilateral", 2, shape=(2,))
    domain = mesh.create_mesh(MPI.COMM_SELF, cells, geometry, points)
    linear = basix.ufl.element("Lagrange", "quadrilateral", 1)
    space = fem.functionspace(domain, basix.ufl.mixed_element([geometry, linear]))

    def place(part: object, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        collapsed, dofs = part.collapse()
        x, y = collapsed.tabulate_dof_coordinates()[:, :2].T
        i, j = (x * along / 10) / steps, (y - centre(x) + 0.5) * across / steps
        return np.ravel(dofs), np.rint(i).astype(int), np.rint(j).astype(int)

    state, fixed = fem.Function(space), []
    for axis in range(2):
        dofs, i, j = place(space.sub(0).sub(axis), 1)
        state.x.array[dofs] = velocity[axis][i, j]
        fixed.append(dofs[(i == 0) | (j == 0) | (j == across)])
    dofs, i, j = place(space.sub(1), 2)
    state.x.array[dofs] = pressure[i, j]

    u, p = ufl.split(state)
    v, q = ufl.TestFunctions(space)
    form = ufl.inner(ufl.dot(ufl.grad(u), u), v) + 0.02 * ufl.inner(ufl.grad(u), ufl.grad(v))
    form += -p * ufl.div(v) - q * ufl.div(u)
    residual = fem.assemble_vector(fem.form(form * ufl.dx)).array
    free = np.setdiff1d(np.arange(len(residual)), np.concatenate(fixed))
    assert np.abs(residual[free]).max() < 1e-9
    assert np.abs(residual).max() > 1e-3  # the walls push back


@pytest.mark.fem
def test_no_steady_flow_is_one_sentence(monkeypatch):
    require_or_skip()
    monkeypatch.setattr("sciml_bounds.fem._pipe_flow._MAX_LINEAR_SOLVES", 3)
    with pytest.raises(ConvergenceError, match=r"\d+% of the convective term") as caught:
        solve_pipe_flow(BENT, 8)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConvergenceError, match=r"sample.*4"):
        PIPE.generate(1, 4, 1, 8, CPU)


# --- bad input --------------------------------------------------------------------------------------------------------


# --- the recipe -------------------------------------------------------------------------------------------------------


def test_found_by_name_without_loading_dolfinx():
    assert find_recipe("pipe") is PIPE
    assert PIPE.resolution == 128
    assert PIPE.samples == 1200
    assert PIPE.coordinates(16)["i"][0].shape == (17,)
    assert json.loads(json.dumps(PIPE.parameters(16))) == PIPE.parameters(16)


def test_without_dolfinx_generation_is_one_sentence(monkeypatch):
    for name in ("dolfinx_solver", "dolfinx"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"'sciml-bounds\[fem\]'"):
        PIPE.generate(0, 0, 1, 24, CPU)


@pytest.mark.parametrize("resolution", [16, 28, 34, 64.0, True, "64"])
def test_impossible_resolutions_are_one_sentence(resolution):
    refused("recipe pipe multiple 4 32", PIPE.check, resolution)


def test_centrelines_are_drawn_from_seed_and_index():
    rng = np.random.default_rng([3, 5])
    drawn = draw_centreline(3, 5)
    np.testing.assert_array_equal(drawn.heights, rng.uniform(-2, 2, 5))
    np.testing.assert_array_equal(drawn.slopes, rng.uniform(-1, 1, 5))


def test_a_centreline_is_cubic_between_its_points_and_smooth():
    spline = BENT.spline()
    knots = np.linspace(0, 10, 5)
    np.testing.assert_allclose(spline(knots), BENT.heights)
    np.testing.assert_allclose(spline(knots, 1), BENT.slopes)
    for left in knots[:-1]:
        inner = left + np.linspace(0.1, 2.4, 9)
        np.testing.assert_allclose(np.diff(spline(inner), 4), 0, atol=1e-12)


@pytest.mark.fem
def test_samples_depend_on_seed_and_index_only():
    require_or_skip()
    whole = PIPE.generate(0, 2, 2, 32, CPU)
    alone = PIPE.generate(0, 3, 1, 32, CPU)
    for name, variable in PIPE.variables(32).items():
        assert np.array_equal(whole[name][1], alone[name][0])
        assert whole[name].shape == (2, 33, 33)
        assert whole[name].dtype == variable.dtype
    flow = solve_pipe_flow(draw_centreline(0, 3), 32)
    np.testing.assert_array_equal(alone["velocity"][0], flow.velocity[0].numpy())
    np.testing.assert_array_equal(alone["mesh_y"][0], flow.mesh_y.numpy())
