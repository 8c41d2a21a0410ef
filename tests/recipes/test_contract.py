"""Each clause of the contract of recipes is violated by a recipe, and the message says how to mend it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_recipe import FakeRecipe
from refusals import refusals, refused

import sciml_bounds as sb
from sciml_bounds.recipes._contract import check_recipe

PAGE = Path(__file__).parents[2] / "docs" / "how_to" / "cubic_reaction.py"


def test_a_recipe_that_keeps_it():
    check_recipe(FakeRecipe())
    check_recipe(FakeRecipe, resolution=7, seed=5)
    check_recipe("poisson", resolution=8)


def changed(**methods):
    """Return a fake recipe with other methods or attributes."""
    return type("Changed", (FakeRecipe,), methods)()


def with_arrays(change):
    """Return a fake recipe whose arrays are changed; the function gets seed, first and the arrays."""

    def generate(self, seed, first, count, resolution, device):
        arrays = FakeRecipe.generate(self, seed, first, count, resolution, device)
        change(seed, first, arrays)
        return arrays

    return changed(generate=generate)


def drawing(rng):
    def change(seed, first, arrays):
        arrays["solution"] = arrays["solution"] + rng()

    return with_arrays(change)


def constant(seed, first, arrays):
    arrays["solution"][:] = 1.0


def by_index(seed, first, arrays):
    for name in ("solution", "coefficient"):
        shape = (-1, *(1,) * (arrays[name].ndim - 1))
        arrays[name][:] = np.arange(first, first + len(arrays[name])).reshape(shape)


def cells(resolution):
    return (np.arange(resolution) + 0.5) / resolution, "1"


def with_sample_of_batch(seed, first, arrays):
    arrays["solution"] *= len(arrays["solution"])


AXES = FakeRecipe().coordinates(4)

test_refusals = refusals(
    ("fake title ''", lambda: check_recipe(FakeRecipe(title=""))),
    ("fake samples 0 positive", lambda: check_recipe(FakeRecipe(samples=0))),
    ("layout 'somewhere' cells->nodes", lambda: check_recipe(FakeRecipe(layout="somewhere"))),
    ("check resolution 0", lambda: check_recipe(changed(check=lambda self, resolution: None))),
    ("inputs 'pressure' variables()", lambda: check_recipe(FakeRecipe(inputs=("pressure",)))),
    ("targets () tuple", lambda: check_recipe(FakeRecipe(targets=()))),
    ("coordinate 'z'", lambda: check_recipe(changed(coordinates=lambda self, n: AXES | {"z": cells(4)}))),
    ("'x' ascend", lambda: check_recipe(changed(coordinates=lambda self, n: {"x": (-cells(n)[0], "1")}))),
    ("'x' units", lambda: check_recipe(changed(coordinates=lambda self, n: {"x": (cells(n)[0], "")}))),
    ("parameters JSON", lambda: check_recipe(changed(parameters=lambda self, n: {"array": np.ones(2)}))),
    ("parameters stored lists", lambda: check_recipe(changed(parameters=lambda self, n: {"shape": (n, n)}))),
    ("chunk(4) 0", lambda: check_recipe(changed(chunk=lambda self, n: 0))),
    ("generate returns ['coefficient', 'solution']", lambda: check_recipe(
        with_arrays(lambda seed, first, arrays: arrays.pop("label_error")))),
    ("'solution' float32 float64", lambda: check_recipe(
        with_arrays(lambda seed, first, arrays: arrays.update(solution=arrays["solution"].astype("f4"))))),
    ("'solution' (2, 4, 5) x_node", lambda: check_recipe(
        with_arrays(lambda seed, first, arrays: arrays.update(solution=arrays["solution"][:, 1:])))),
    ("'solution' NaN", lambda: check_recipe(
        with_arrays(lambda seed, first, arrays: arrays["solution"].__setitem__((0, 0, 0), np.nan)))),
    ("sample 0 'solution' alone sample_rng", lambda: check_recipe(with_arrays(with_sample_of_batch))),
    ("sample 0 'solution' alone sample_rng", lambda: check_recipe(drawing(np.random.default_rng(0).standard_normal))),
    ("samples 0 1 targets sample_rng", lambda: check_recipe(with_arrays(constant))),
    ("seeds inputs", lambda: check_recipe(with_arrays(by_index))),
    ("global torch sample_rng", lambda: check_recipe(drawing(lambda: 0 * float(torch.rand(()))))),
    ("global numpy", lambda: check_recipe(drawing(lambda: 0 * np.random.rand()))),  # noqa: NPY002
    ("check_recipe Recipe int", lambda: check_recipe(3)),
    ("check_recipe DiffusionRecipe arguments", lambda: check_recipe(sb.data.DiffusionRecipe)),
)  # fmt: skip


def test_threads_must_not_matter():
    def change(seed, first, arrays):
        arrays["solution"] = arrays["solution"] * torch.get_num_threads()

    refused("sample 1 'solution'", check_recipe, with_arrays(change))
    assert torch.get_num_threads() >= 1


@pytest.fixture
def cubic(monkeypatch):
    """The module of the page on recipes of one's own."""
    monkeypatch.setattr("sciml_bounds.recipes._registry._REGISTERED", {})
    spec = importlib.util.spec_from_file_location("cubic_reaction", PAGE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "cubic_reaction", module)
    spec.loader.exec_module(module)
    return module


def test_the_recipe_of_the_page(cubic, tmp_path):
    """It keeps the contract and is found by its name; its solutions converge at order two to those of a finer grid."""
    assert sum(bool(line.strip()) for line in PAGE.read_text().splitlines()) <= 42
    check_recipe(cubic.CubicReaction)
    sb.make_dataset("cubic-reaction", tmp_path / "c.nc", samples=3)
    f, coarse = (sb.open_dataset(tmp_path / "c.nc")[name].values for name in ("source", "solution"))
    errors = []
    for n in (128, 256):
        found = cubic.CubicReaction().generate(0, 0, 3, n, torch.device("cpu"))
        finest = cubic.CubicReaction().generate(0, 0, 3, 1024, torch.device("cpu"))
        errors.append(abs(found["solution"] - finest["solution"][:, :: 1024 // n]).max())
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.15)
    np.testing.assert_array_equal(coarse, cubic.CubicReaction().generate(0, 0, 3, 128, torch.device("cpu"))["solution"])
    assert f.shape == (3, 129)
    assert len(sb.TorchDataset(tmp_path / "c.nc", "train")) == 3
