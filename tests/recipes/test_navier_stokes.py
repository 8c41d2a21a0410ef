"""Recipes of flows on the torus: the published numbers, the amplitude, and what a sample depends on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from refusals import refused

from sciml_bounds.evolution.navier_stokes import NavierStokes, diagonal_forcing
from sciml_bounds.recipes._registry import find_recipe
from sciml_bounds.recipes.navier_stokes import NavierStokesRecipe

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def short():
    """A recipe like the published ones that ends early."""
    return NavierStokesRecipe(1e-3, last=2, samples=100)


@pytest.mark.parametrize(
    ("name", "viscosity", "last", "samples"),
    [
        ("navier-stokes-1e-3", 1e-3, 50, 5000),
        ("navier-stokes-1e-4", 1e-4, 30, 10000),
        ("navier-stokes-1e-5", 1e-5, 20, 1200),
    ],
)
def test_the_published_numbers(name, viscosity, last, samples):
    recipe = find_recipe(name)
    assert (recipe.name, recipe.resolution, recipe.samples) == (name, 64, samples)
    parameters, coordinates = recipe.parameters(64), recipe.coordinates(64)
    assert parameters["viscosity"] == viscosity
    assert parameters["solved resolution"] == 256
    np.testing.assert_array_equal(coordinates["time"][0], np.arange(1, last + 1))
    np.testing.assert_allclose(coordinates["x"][0], np.linspace(0, 1, 65)[:-1])
    assert recipe.variables(64)["vorticity"].dims == tuple(coordinates) == ("time", "x", "y")


def test_the_initial_vorticity_has_the_amplitude_of_the_authors_code(short):
    """The variance is the sum of the eigenvalues of the covariance; their text would give 0.18 / 7^(3/4) = 0.043."""
    fields = short.initial(0, 0, 100, 16)
    assert fields.shape == (100, 64, 64)
    k = np.fft.fftfreq(64, 1 / 64)
    eigenvalues = 343.0 * (4.0 * np.pi**2 * (k[:, None] ** 2 + k**2) + 49.0) ** -2.5
    eigenvalues[0, 0] = 0.0
    expected = np.sqrt(eigenvalues.sum())
    assert expected == pytest.approx(0.185, abs=1e-3)
    # the variance of a field scatters by sqrt(2 sum e^2) / sum e = 0.4 around its mean, of 100 by a tenth of it
    assert float(fields.square().mean().sqrt()) == pytest.approx(expected, rel=0.08)
    assert float(fields.mean((1, 2)).abs().max()) < 1e-15


def test_what_is_stored_is_every_fourth_point_of_the_flow(short):
    (stored,) = short.generate(3, 7, 1, 8, CPU).values()
    flow = NavierStokes(32, 1e-3, diagonal_forcing)
    frames = flow.evolve(short.initial(3, 7, 1, 8), [1.0, 2.0])
    assert stored.dtype == np.float32
    assert stored.shape == (1, 2, 8, 8)
    np.testing.assert_allclose(stored, frames[:, :, ::4, ::4].numpy(), rtol=1e-6, atol=1e-7)


def test_a_sample_depends_on_its_seed_and_index_only(short):
    (three,) = short.generate(0, 4, 3, 16, CPU).values()
    (again,) = short.generate(0, 5, 1, 16, CPU).values()
    (other_seed,) = short.generate(1, 5, 1, 16, CPU).values()
    np.testing.assert_array_equal(three[1:2], again)
    assert not np.allclose(other_seed, again)
    assert not np.allclose(three[0], three[1])


def test_the_number_of_threads_changes_no_bit():
    recipe, threads = NavierStokesRecipe(1e-3, last=1, samples=1), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        (alone,) = recipe.generate(0, 0, 1, 16, CPU).values()
        torch.set_num_threads(2)
        (shared,) = recipe.generate(0, 0, 1, 16, CPU).values()
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(alone, shared)


def test_the_same_flow_at_another_resolution(short):
    """The drawn field continues to finer grids, so frames differ by what the coarse grid lacks."""
    coarse, fine = (short.generate(0, 0, 1, n, CPU)["vorticity"] for n in (16, 32))
    assert np.abs(fine[..., ::2, ::2] - coarse).max() < 0.02 * np.abs(fine).max()


def test_the_error_in_time_is_far_below_single_precision_errors_of_networks(short):
    assert short.time_error(0, 0, 16) < 1e-5


def test_a_grid_that_no_memory_holds_is_refused(short):
    refused("chunk resolution 200000 GiB memory", lambda: short.generate(0, 0, 1, 200_000, torch.device("cpu")))


def test_a_resolution_that_is_too_small_is_refused(short):
    refused("resolution 4 integer 8", short.generate, 0, 0, 1, 4, CPU)


def test_every_device_gives_the_same_samples_to_rounding(short, device):
    here, there = (short.generate(0, 0, 3, 16, place)["vorticity"] for place in (CPU, device))
    np.testing.assert_allclose(there, here, rtol=0, atol=1e-6)
