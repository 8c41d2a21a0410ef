"""The Helmholtz recipes: the expansion of the wave speed, the labels of both sets, and what they promise."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from refusals import refused

from sciml_bounds.problems.helmholtz import Helmholtz, Strip
from sciml_bounds.recipes._registry import find_recipe
from sciml_bounds.recipes.helmholtz import HELMHOLTZ, HELMHOLTZ_CONVERGED, modes, wave_speed

CPU = torch.device("cpu")
BOTH = pytest.mark.parametrize("recipe", [HELMHOLTZ, HELMHOLTZ_CONVERGED], ids=lambda recipe: recipe.name)


def lattice(cells: int) -> tuple[torch.Tensor, ...]:
    """The coordinates of the nodes."""
    nodes = torch.linspace(0, 1, cells + 1, dtype=torch.float64)
    return torch.meshgrid(nodes, nodes, indexing="ij")


@pytest.fixture(scope="module")
def converged() -> dict[str, np.ndarray]:
    """Two samples of the converged set on a coarse lattice."""
    return HELMHOLTZ_CONVERGED.generate(0, 0, 2, 25, CPU)


# --- the wave speed ---------------------------------------------------------------------------------------------------


def test_the_hundred_lowest_modes_are_sorted():
    indices, eigenvalues, _ = modes()
    squares = (indices**2).sum(1)
    assert len({tuple(pair) for pair in indices}) == 100
    assert (np.diff(squares) >= 0).all()
    assert (np.diff(eigenvalues) <= 0).all()
    left_out = {(k, m) for k in range(30) for m in range(30)} - {tuple(pair) for pair in indices.tolist()} - {(0, 0)}
    assert min(k * k + m * m for k, m in left_out) >= squares.max()
    assert indices[0].tolist() == [0, 1]
    assert indices[-1].tolist() == [4, 10]


def test_eigenvalues_are_those_of_the_covariance():
    """(-Lap + 9)^-2 applied to a mode, by second differences of the mode itself."""
    indices, eigenvalues, _ = modes()
    step = 1e-4
    for number in (0, 2, 41, 99):
        k, m = indices[number]

        def mode(x: float, y: float, k: int = k, m: int = m) -> float:
            return math.cos(k * math.pi * x) * math.cos(m * math.pi * y)

        x, y = 0.03, 0.02
        around = mode(x + step, y) + mode(x - step, y) + mode(x, y + step) + mode(x, y - step) - 4 * mode(x, y)
        applied = 9 - around / step**2 / mode(x, y)
        assert eigenvalues[number] == pytest.approx(applied**-2, rel=1e-4)


def test_modes_are_orthonormal():
    """By the trapezoidal rule, which is exact for cosines below its frequency."""
    indices, _, factors = modes()
    cosines = np.cos(np.pi * np.outer(np.linspace(0, 1, 41), np.arange(12)))
    weights = np.full(41, 1 / 40)
    weights[[0, -1]] /= 2
    fields = factors[:, None, None] * cosines[:, indices[:, 0]].T[:, :, None] * cosines[:, indices[:, 1]].T[:, None, :]
    gram = np.einsum("axy,bxy,x,y->ab", fields, fields, weights, weights)
    np.testing.assert_allclose(gram, np.eye(100), atol=1e-12)


def test_wave_speed_is_the_series_summed_term_by_term():
    indices, eigenvalues, factors = modes()
    theta = np.random.default_rng([5, 7]).standard_normal(100)
    x, y = lattice(4)
    g = sum(
        t * math.sqrt(value) * factor * torch.cos(k * math.pi * x) * torch.cos(m * math.pi * y)
        for t, value, factor, (k, m) in zip(theta, eigenvalues, factors, indices.tolist())
    )
    torch.testing.assert_close(wave_speed(5, 7)(x, y), 20 + torch.tanh(g))


def test_theta_is_standard_normal():
    """The variance of g at a point is the sum of lambda phi^2; 400 draws know it within 4 sqrt(2 / 400) = 28 %."""
    indices, eigenvalues, factors = modes()
    phi = factors * np.cos(np.pi * indices * [0.3, 0.6]).prod(1)
    x, y = torch.tensor([[0.3]], dtype=torch.float64), torch.tensor([[0.6]], dtype=torch.float64)
    g = torch.atanh(torch.cat([wave_speed(1, index)(x, y) for index in range(400)]) - 20)
    assert float(g.var()) == pytest.approx((eigenvalues * phi**2).sum(), rel=0.28)


# --- the labels -------------------------------------------------------------------------------------------------------


def test_label_is_the_bilinear_solution():
    found = HELMHOLTZ.generate(3, 4, 1, 20, CPU)
    nodal = wave_speed(3, 4)(*lattice(20))
    solution = Helmholtz(20, nodal, frequency=1000.0, flux={"y1": Strip(0.35, 0.65)}).solve()
    np.testing.assert_allclose(found["wave_speed"][0], nodal.numpy(), rtol=1e-14)
    np.testing.assert_allclose(found["solution"][0], solution.values.numpy(), rtol=1e-9)


def test_converged_label_is_as_close_as_it_says(converged):
    """Against a degree and a mesh of its own: uniform cells, whose error is that of the jump, about h / p^3."""
    nodes = torch.linspace(0, 1, 26, dtype=torch.float64)
    problem = Helmholtz(20, wave_speed(0, 0), frequency=1000.0, flux={"y1": Strip(0.35, 0.65)})
    other = problem.solve(10).at(nodes, nodes).numpy()
    label = converged["solution"][0]
    assert np.linalg.norm(label - other) < 1e-4 * np.linalg.norm(other)
    assert (converged["refinement_error"] < 1e-5).all()
    assert (converged["refinement_error"] > 0).all()


@pytest.mark.slow
def test_the_published_map_is_far_from_the_equation(converged):
    """What the card says: 59 to 107 % between the two labels of the same draw."""
    bilinear = HELMHOLTZ.generate(0, 0, 2, 100, CPU)
    np.testing.assert_allclose(bilinear["wave_speed"][:, ::4, ::4], converged["wave_speed"], rtol=1e-14)
    for published, label in zip(bilinear["solution"][:, ::4, ::4], converged["solution"]):
        assert 0.59 < np.linalg.norm(published - label) / np.linalg.norm(label) < 1.08


# --- what every recipe promises ---------------------------------------------------------------------------------------


@BOTH
def test_found_by_name(recipe):
    assert find_recipe(recipe.name) is recipe


@BOTH
def test_published_sizes_are_the_defaults(recipe):
    assert recipe.resolution == 100
    assert recipe.samples == 4000
    positions, unit = recipe.coordinates(100)["x_node"]
    assert positions.shape == (101,)
    assert unit == "1"


@BOTH
def test_parameters_fit_into_a_file(recipe):
    assert json.loads(json.dumps(recipe.parameters(30))) == recipe.parameters(30)


def test_a_sample_depends_on_seed_and_index_only(converged):
    whole = HELMHOLTZ.generate(0, 0, 3, 12, CPU)
    for name, values in HELMHOLTZ.generate(0, 2, 1, 12, CPU).items():
        assert np.array_equal(values[0], whole[name][2])
    assert not np.array_equal(whole["wave_speed"][0], HELMHOLTZ.generate(1, 0, 1, 12, CPU)["wave_speed"][0])
    for name, values in HELMHOLTZ_CONVERGED.generate(0, 1, 1, 25, CPU).items():
        assert np.array_equal(values[0], converged[name][1])


def test_arrays_are_those_that_are_announced(converged):
    for recipe, found, n in [
        (HELMHOLTZ, HELMHOLTZ.generate(0, 0, 2, 12, CPU), 12),
        (HELMHOLTZ_CONVERGED, converged, 25),
    ]:
        variables = recipe.variables(n)
        assert list(found) == list(variables)
        for name, variable in variables.items():
            assert found[name].shape == (2, *(n + 1 for _ in variable.dims))
            assert found[name].dtype == variable.dtype


@BOTH
@pytest.mark.parametrize("resolution", [1, 2.5, True, "100"])
def test_impossible_resolutions_are_one_sentence(recipe, resolution):
    refused(f"recipe {recipe.name} resolution", recipe.check, resolution)
