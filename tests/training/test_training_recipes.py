"""Recipes are read whole, or refused with a sentence; tests/cli/test_train.py goes through what may be wrong in one."""

import pytest
import torch
from refusals import refused

from sciml_bounds.training._settings import TrainingSettings
from sciml_bounds.training._training_recipes import find_training_recipe, read_training_recipe, shipped_recipes

SMALL = """
[data]
file = "darcy.nc"
recipe = "darcy-rough"
samples = 20
[model]
class = "Smoother"
arguments = { width = 5 }
[training]
epochs = 4
"""


@pytest.fixture
def small(tmp_path):
    (tmp_path / "small.toml").write_text(SMALL)
    return tmp_path / "small.toml"


def test_what_stands_there_is_what_is_asked(small):
    recipe = read_training_recipe(small)
    assert recipe.settings == TrainingSettings(epochs=4)
    assert recipe.make_model().arguments == {"in_channels": 1, "width": 5, "dropout": 0.0}
    assert recipe.card()["data"] == {"file": "darcy.nc", "recipe": "darcy-rough", "samples": 20}


def test_values_are_replaced_as_toml_writes_them_or_as_words(small):
    changes = ["training.epochs=7", "training.optimizer=adamw", 'training.loss="l2"', "model.arguments.width=2"]
    recipe = read_training_recipe(small, changes, {"seed": 3})
    assert recipe.settings == TrainingSettings(epochs=7, optimizer="adamw", loss="l2", seed=3)
    assert recipe.model["arguments"] == {"width": 2}


def test_the_seed_makes_the_weights_and_the_random_numbers_stay(small):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    first, again = (read_training_recipe(small).make_model() for _ in range(2))
    other = read_training_recipe(small, ["training.seed=1"]).make_model()
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first.first.weight, again.first.weight)
    assert not torch.equal(first.first.weight, other.first.weight)


def test_data_that_are_missing_lead_to_the_command_that_makes_them(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = "data 20"
    refused(words, lambda: read_training_recipe(small).samples("train"))


def test_names_mean_what_ships():
    assert find_training_recipe("darcy-rough").name == "darcy-rough.toml"
    assert "darcy-rough" in shipped_recipes()
    refused("recipe TOML file", find_training_recipe, "darcy-ruogh")
