from __future__ import annotations

import re
import subprocess
import sys

import pytest
from refusals import refused

from sciml_bounds.recipes._registry import find_recipe, recipe_names

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
