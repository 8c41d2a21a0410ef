from __future__ import annotations

import re
import subprocess
import sys

import pytest
from fake_recipe import FakeRecipe
from refusals import refusals, refused

from sciml_bounds.recipes import _registry
from sciml_bounds.recipes._registry import find_recipe, recipe_names, register_recipe

NAMES = (
    "darcy-smooth", "darcy-rough", "darcy-multiscale", "poisson", "ritz-poisson-2d", "ritz-poisson-3d",
    "pressure-2d", "pressure-3d",
    "helmholtz", "helmholtz-converged", "navier-stokes-1e-3", "navier-stokes-1e-4", "navier-stokes-1e-5", "pipe",
)  # fmt: skip


def test_all_names_are_listed():
    assert recipe_names() == NAMES


def test_the_same_recipe_is_found_every_time():
    assert find_recipe("poisson") is find_recipe("poisson")


@pytest.mark.parametrize("name", NAMES)
def test_titles_are_true_at_every_resolution(name):
    """A file of any resolution carries the title."""
    assert not re.search(r"\d+ x \d+", find_recipe(name).title)


@pytest.mark.parametrize(
    ("name", "first"),
    [("darcy_rough", "darcy-rough"), ("Poisson", "poisson"), ("navier-stokes-1e5", "navier-stokes-1e-5")],
)
def test_the_name_that_was_meant_comes_first(name, first):
    raised = refused(f"recipe '{name}' choices", find_recipe, name)
    assert f"choices are {first!r}" in raised
    assert all(known in raised for known in NAMES)


@pytest.mark.parametrize("name", ["", None, 3, ("poisson",)], ids=repr)
def test_what_is_no_name_is_refused(name):
    refused("recipe choices", find_recipe, name)


def test_listing_the_names_imports_no_recipe():
    """An optional package that one of them needs is then no trouble to the others."""
    code = (
        "import sys; from sciml_bounds.recipes._registry import recipe_names; recipe_names(); "
        "print(sorted(m for m in sys.modules if m.startswith(('sciml_bounds.recipes.', 'sciml_bounds.fem'))))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "['sciml_bounds.recipes._recipe', 'sciml_bounds.recipes._registry']"


# --- recipes of one's own ---


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(_registry, "_REGISTERED", {})


def test_a_registered_recipe_is_found_by_its_name(registry):
    recipe = FakeRecipe(name="mine")
    assert register_recipe(recipe) is recipe
    assert find_recipe("mine") is recipe
    assert recipe_names() == (*NAMES, "mine")
    assert register_recipe(FakeRecipe) is FakeRecipe
    assert isinstance(find_recipe("fake"), FakeRecipe)
    refused("'fakes' fake mine", find_recipe, "fakes")


def test_a_recipe_is_found_at_its_location():
    assert isinstance(find_recipe("fake_recipe:FakeRecipe"), FakeRecipe)
    assert find_recipe("sciml_bounds.recipes.poisson:POISSON") is find_recipe("poisson")


def test_an_installed_package_offers_recipes(tmp_path, monkeypatch):
    """Its metadata are read, but the module only when the recipe is used."""
    (tmp_path / "offer_of_this_test.py").write_text(
        "from fake_recipe import FakeRecipe\nMINE = FakeRecipe(name='mine')\n"
    )
    metadata = tmp_path / "offer_of_this_test-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: offer_of_this_test\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[sciml_bounds.recipes]\nmine = offer_of_this_test:MINE\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert recipe_names() == (*NAMES, "mine")
    assert "offer_of_this_test" not in sys.modules
    assert find_recipe("mine").name == "mine"


test_refusals = refusals(
    ("poisson name", lambda registry: register_recipe(FakeRecipe(name="poisson"))),
    ("register_recipe Recipe int", lambda registry: register_recipe(3)),
    ("no_module_of_this_test:MINE imported", lambda: find_recipe("no_module_of_this_test:MINE")),
    ("json:loads Recipe", lambda: find_recipe("json:loads")),
)
