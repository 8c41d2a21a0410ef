from __future__ import annotations

import functools

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from refusals import refused

import sciml_bounds as sb
from sciml_bounds.bounds._energy import EnergyForm
from sciml_bounds.errors import ConvergenceError
from sciml_bounds.problems.transfers import interpolate_nodes
from sciml_bounds.recipes import _elliptic_samples as _diffusion
from sciml_bounds.recipes._elliptic_samples import CHUNK_CELLS, MAX_CHUNK_SAMPLES
from sciml_bounds.recipes._registry import find_recipe

CPU = torch.device("cpu")
NAMES = ("darcy-smooth", "darcy-rough", "darcy-multiscale", "poisson")
RECIPES = pytest.mark.parametrize("name", NAMES)


@functools.cache
def generated(name, resolution, count=3):
    return find_recipe(name).generate(1, 0, count, resolution, CPU)


def problem_of(name, data):
    """The problem as the file tells it."""
    one = {"coefficient": np.float64(1.0), "source": np.float64(1.0)}
    data = one | {key: data[key].astype(np.float64) for key in find_recipe(name).inputs}
    grid = sb.Grid(next(value.shape[-2:] for value in data.values() if value.ndim))
    return sb.Diffusion(grid, torch.as_tensor(data["coefficient"]), torch.as_tensor(data["source"]))


def solve_directly(coefficient, source):
    """Solve the equations of the nodes, assembled from their definition: an edge conducts by the mean of its cells."""
    n = len(coefficient)
    padded = np.pad(coefficient, 1)
    number = np.arange((n + 1) ** 2).reshape(n + 1, n + 1)
    matrix = scipy.sparse.csr_array(((n + 1) ** 2,) * 2)
    along_x = (padded[1:-1, :-1] + padded[1:-1, 1:]) / 2
    along_y = (padded[:-1, 1:-1] + padded[1:, 1:-1]) / 2
    for conductance, left, right in ((along_x, number[:-1], number[1:]), (along_y, number[:, :-1], number[:, 1:])):
        k, i, j = conductance.ravel(), left.ravel(), right.ravel()
        entries = np.concatenate([k, k, -k, -k])
        places = np.concatenate([i, j, i, j]), np.concatenate([i, j, j, i])
        matrix = matrix + scipy.sparse.csr_array((entries, places), matrix.shape)
    load = sum(np.pad(source, 1)[a : a + n + 1, b : b + n + 1] for a in (0, 1) for b in (0, 1)) / (4 * n**2)
    inner = number[1:-1, 1:-1].ravel()
    u = np.zeros((n + 1, n + 1))
    u[1:-1, 1:-1] = scipy.sparse.linalg.spsolve(matrix[inner][:, inner].tocsc(), load.ravel()[inner]).reshape(n - 1, -1)
    return u


@RECIPES
@pytest.mark.parametrize("resolution", [3, 9, 20])
def test_labels_solve_the_equations(name, resolution):
    """Up to the rounding to single precision, and 1e-10 of the residual times the condition of the matrix."""
    data = generated(name, resolution)
    one = np.ones((resolution, resolution))
    for sample, found in enumerate(data["solution"]):
        drawn = {key: data[key][sample].astype(np.float64) for key in find_recipe(name).inputs}
        expected = solve_directly(drawn.get("coefficient", one), drawn.get("source", one))
        np.testing.assert_allclose(found, expected, rtol=6e-8, atol=2e-8 * np.abs(expected).max())


@RECIPES
def test_label_errors_are_those_of_the_certificates_over_the_norm_of_the_solution(name):
    """|||u||| >= f(v) / |||v||| for every v; for the discrete solution, that is nearly |||v|||."""
    data = generated(name, 12)
    problem, stored = problem_of(name, data), torch.as_tensor(data["solution"]).double()
    certificate = sb.certify(problem, stored, lower=False)
    corners = [stored[:, a : a + 12, b : b + 12] for a in (0, 1) for b in (0, 1)]
    work = (problem.samples(problem.source) * sum(corners) / 4).mean((1, 2))  # f(v), v bilinear
    expected = certificate.upper * EnergyForm(problem).norm(stored) / work
    np.testing.assert_allclose(data["label_error"], expected, rtol=1e-6)
    assert bool((torch.as_tensor(data["label_error"]) < certificate.relative_upper).all())
    assert not bool(certificate.boundary_gap.any())


@RECIPES
@pytest.mark.parametrize("more", [0, 1, 5])
def test_label_errors_are_finite_on_any_grid(name, more):
    """Also where the error is as large as the solution, about which the certificate alone knows nothing."""
    errors = generated(name, find_recipe(name).smallest + more, count=32)["label_error"]
    assert np.isfinite(errors).all()
    assert (errors > 0).all()


@RECIPES
@pytest.mark.parametrize("resolution", [4, 7])
def test_label_errors_bound_the_error_on_coarse_grids(name, resolution):
    """Beside a solution on eight times as many cells: by Galerkin orthogonality, its distance is below the error."""
    data = generated(name, resolution, count=32)
    fine = problem_of(name, data).refine(8)
    reference = sb.solve(fine, rtol=1e-10).values
    form = EnergyForm(fine)
    stored = interpolate_nodes(torch.as_tensor(data["solution"]).double(), 8, (False, False))
    assert bool((torch.as_tensor(data["label_error"]) > form.norm(reference - stored) / form.norm(reference)).all())


@RECIPES
def test_label_errors_bound_the_error_and_are_close_to_it(name):
    """Beside a solution on eight times as many cells, whose own error is bounded, at most twice too large."""
    data = generated(name, 16)
    fine = problem_of(name, data).refine(8)
    solution = sb.solve(fine, rtol=1e-10)
    form = EnergyForm(fine)
    slack = sb.certify(fine, solution, lower=False).upper
    stored = interpolate_nodes(torch.as_tensor(data["solution"]).double(), 8, (False, False))
    distance, relative = form.norm(solution.values - stored), torch.as_tensor(data["label_error"])
    upper = relative * (form.norm(solution.values) + slack)
    assert bool((relative * (form.norm(solution.values) - slack) >= distance - slack).all())
    assert bool((upper <= 2 * (distance + slack)).all())
    assert bool((slack < distance).all())


@pytest.mark.parametrize("name", ["darcy-smooth", "poisson"])
def test_label_errors_fall_with_the_cells(name):
    """At the rate of the solution, which has a kink where the coefficient jumps: at least the square root of h."""
    coarse, fine = (generated(name, n)["label_error"].mean() for n in (16, 64))
    assert fine < coarse / 2


@pytest.mark.parametrize("name", ["darcy-smooth", "darcy-rough", "darcy-multiscale"])
def test_flow_that_is_fed_everywhere_is_positive(name):
    """The matrix is an M-matrix, so the discrete maximum principle holds."""
    solution = generated(name, 20)["solution"]
    assert (solution[:, 1:-1, 1:-1] > 0).all()


@pytest.mark.parametrize("name", ["darcy-rough", "poisson"])
def test_every_piece_has_the_same_bits(name):
    recipe, n = find_recipe(name), 8
    size = recipe.chunk(n)
    whole = recipe.generate(5, 0, 2 * size, n, CPU)
    for first, count in ((0, 1), (3, 2), (size - 1, 2), (size, size), (2 * size - 1, 1)):
        piece = recipe.generate(5, first, count, n, CPU)
        for key, values in piece.items():
            assert values.tobytes() == whole[key][first : first + count].tobytes(), (key, first, count)


def test_the_bits_do_not_depend_on_the_number_of_threads():
    before = torch.get_num_threads()
    try:
        bits = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            data = find_recipe("darcy-rough").generate(0, 0, 2, 17, CPU)
            bits.append([values.tobytes() for values in data.values()])
    finally:
        torch.set_num_threads(before)
    assert bits[0] == bits[1]


@pytest.mark.parametrize("resolution", [2, 8, 64, 256, 420, 512, 1024, 4096])
def test_chunks_fit_into_memory_and_hold_two_samples(resolution):
    size = find_recipe("darcy-rough").chunk(resolution)
    assert size in (2, 4, 8, 16, 32)
    assert size <= MAX_CHUNK_SAMPLES
    assert size == 2 or size * resolution**2 <= CHUNK_CELLS


@RECIPES
def test_a_grid_that_no_memory_holds_is_refused(name):
    refused(f"chunk {name} resolution 200000 GiB memory", lambda: find_recipe(name).generate(0, 0, 1, 200_000, CPU))


def test_what_is_not_solved_is_not_stored(monkeypatch):
    monkeypatch.setattr(_diffusion, "solve", functools.partial(sb.solve, maxiter=0))
    with pytest.raises(ConvergenceError, match=r"recipe.*samples"):
        find_recipe("darcy-rough").generate(7, 40, 1, 16, CPU)


@RECIPES
def test_a_single_cell_has_no_unknowns_and_is_refused(name):
    refused(f"recipe {name} resolution 1 integer", lambda: find_recipe(name).generate(0, 0, 1, 1, CPU))


@RECIPES
def test_every_device_gives_the_same_numbers(name, device):
    """Fields to the last bit, since they are drawn on the CPU; solutions to the residual."""
    recipe = find_recipe(name)
    here, there = (recipe.generate(0, 0, 2, 48, place) for place in (CPU, device))
    (drawn,) = recipe.inputs
    np.testing.assert_array_equal(here[drawn], there[drawn])
    np.testing.assert_allclose(there["solution"], here["solution"], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(there["label_error"], here["label_error"], rtol=1e-3)
