"""Flow through a bent pipe: Poiseuille's flow, conservation, the equations in physical space, and the recipe."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest
import torch

from sciml_bounds.errors import ConvergenceError, InputError, MissingExtraError
from sciml_bounds.fem import require_dolfinx
from sciml_bounds.fem.pipe_flow import PIPE, Centreline, PipeFlow, draw_centreline, solve_pipe_flow
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
    pressure = 8 * viscosity * (10 - flow.mesh_x[::2, ::2])
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
def test_mass_flux_is_that_of_the_inlet_on_every_element_column(bent):
    """The flux through a section at x is quadratic along an element; tested with pressures that depend on x alone.

    By hats in x, continuity says that the mean of the flux over every column of elements is that of the inlet, 2 / 3.
    """
    simpson = np.tile([1.0, 4.0, 1.0], 16) / 6 / 16
    across = np.zeros(33)
    np.add.at(across, np.add.outer(2 * np.arange(16), np.arange(3)).ravel(), simpson)
    flux = bent.velocity[0].numpy() @ across
    means = (flux[:-2:2] + 4 * flux[1::2] + flux[2::2]) / 6
    np.testing.assert_allclose(means, 2 / 3, rtol=1e-10)
    np.testing.assert_allclose(flux, 2 / 3, rtol=0.02)
    assert np.ptp(flux) > 1e-6  # not conserved point by point, so the test above says something


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

    n, knots = 16, np.linspace(0, 10, 5)
    flow = solve_pipe_flow(Centreline(centre(knots), 0.06 * knots - 0.25), n, viscosity=0.02)
    numbers = np.arange((n + 1) ** 2).reshape(n + 1, n + 1)
    in_cell = [(0, 0), (2, 0), (0, 2), (2, 2), (1, 0), (0, 1), (2, 1), (1, 2), (1, 1)]  # corners, sides, middle
    cells = np.array([[numbers[i + a, j + b] for a, b in in_cell] for i in range(0, n, 2) for j in range(0, n, 2)])
    points = np.stack([flow.mesh_x.numpy().ravel(), flow.mesh_y.numpy().ravel()], axis=1)
    geometry = basix.ufl.element("Lagrange", "quadrilateral", 2, shape=(2,))
    domain = mesh.create_mesh(MPI.COMM_SELF, cells, geometry, points)
    linear = basix.ufl.element("Lagrange", "quadrilateral", 1)
    space = fem.functionspace(domain, basix.ufl.mixed_element([geometry, linear]))

    def place(part: object, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        collapsed, dofs = part.collapse()
        x, y = collapsed.tabulate_dof_coordinates()[:, :2].T
        i, j = np.rint(x * steps / 10).astype(int), np.rint((y - centre(x) + 0.5) * steps).astype(int)
        return np.ravel(dofs), i, j

    state, fixed = fem.Function(space), []
    for axis in range(2):
        dofs, i, j = place(space.sub(0).sub(axis), n)
        state.x.array[dofs] = flow.velocity[axis].numpy()[i, j]
        fixed.append(dofs[(i == 0) | (j == 0) | (j == n)])
    dofs, i, j = place(space.sub(1), n // 2)
    state.x.array[dofs] = flow.pressure.numpy()[i, j]

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
    monkeypatch.setattr("sciml_bounds.fem.pipe_flow._MOST_STEPS", 3)
    with pytest.raises(ConvergenceError, match=r"followed to \d+% of its inertia only") as caught:
        solve_pipe_flow(BENT, 8)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConvergenceError, match="sample 4 of seed 1: the steady flow"):
        PIPE.generate(1, 4, 1, 8, CPU)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cells", [0, 4, 12, 16.0, True, "128"])
def test_meshes_that_do_not_fit_are_refused(cells):
    with pytest.raises(InputError, match="give a positive multiple of 8"):
        solve_pipe_flow(STRAIGHT, cells)


@pytest.mark.parametrize("viscosity", [0.0, -1.0, math.inf, math.nan, "water"])
def test_viscosity_is_positive(viscosity):
    with pytest.raises(InputError, match=r"viscosity is .*; it must be a positive number"):
        solve_pipe_flow(STRAIGHT, 8, viscosity=viscosity)


@pytest.mark.parametrize("values", [[0.0] * 4, [[0.0] * 5], [0, 0, math.nan, 0, 0]])
def test_a_centreline_has_five_heights_and_slopes(values):
    with pytest.raises(InputError, match="heights of a centreline must be five finite numbers"):
        Centreline(values, [0.0] * 5)
    with pytest.raises(InputError, match="slopes of a centreline must be five finite numbers"):
        Centreline([0.0] * 5, values)


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
    with pytest.raises(MissingExtraError, match=r"pip install 'sciml-bounds\[fem\]'"):
        PIPE.generate(0, 0, 1, 24, CPU)


@pytest.mark.parametrize("resolution", [7, 12, 8.0])
def test_impossible_resolutions_are_one_sentence(resolution):
    with pytest.raises(InputError, match="recipe pipe cannot"):
        PIPE.check(resolution)


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
    whole = PIPE.generate(0, 2, 2, 16, CPU)
    alone = PIPE.generate(0, 3, 1, 16, CPU)
    for name, variable in PIPE.variables(16).items():
        assert np.array_equal(whole[name][1], alone[name][0])
        assert whole[name].shape == (2, 17, 17)
        assert whole[name].dtype == variable.dtype
    flow = solve_pipe_flow(draw_centreline(0, 3), 16)
    np.testing.assert_array_equal(alone["velocity"][0], flow.velocity[0].numpy())
    np.testing.assert_array_equal(alone["mesh_y"][0], flow.mesh_y.numpy())
