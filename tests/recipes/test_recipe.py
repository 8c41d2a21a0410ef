from __future__ import annotations

import numpy as np
import pytest
from refusals import refused

from sciml_bounds.recipes._recipe import Recipe, Variable, sample_rng


class Noise(Recipe):
    """The smallest recipe."""

    name, title, description, reference = "noise", "Noise", "White noise.", "none"
    resolution, samples, smallest = 8, 4, 3
    inputs, targets, layout = ("noise",), ("noise",), "nodes->nodes"

    def chunk(self, resolution):
        return 2

    def parameters(self, resolution):
        return {}

    def coordinates(self, resolution):
        return {"x": (np.arange(resolution), "1")}

    def variables(self, resolution):
        return {"noise": Variable(("x",), "noise", dtype="float32")}

    def generate(self, seed, first, count, resolution, device):
        fields = [sample_rng(seed, i).standard_normal(resolution) for i in range(first, first + count)]
        return {"noise": np.stack(fields).astype(np.float32)}


def test_a_recipe_must_say_everything():
    class Nothing(Recipe):
        pass

    with pytest.raises(TypeError, match=r"chunk.*coordinates"):
        Nothing()


@pytest.mark.parametrize("resolution", [3, 8, np.int64(17)], ids=str)
def test_integers_from_the_smallest_on_are_resolutions(resolution):
    Noise().check(resolution)


@pytest.mark.parametrize("resolution", [2, 0, -8, 8.0, "8", True, None], ids=repr)
def test_anything_else_is_refused_with_what_would_do(resolution):
    words = f"recipe noise resolution {resolution!r} 3"
    refused(words, lambda: Noise().check(resolution))


def test_random_numbers_depend_on_seed_and_index_alone():
    draws = {(seed, i): sample_rng(seed, i).standard_normal(4).tobytes() for seed in range(3) for i in range(3)}
    assert len(set(draws.values())) == 9
    assert all(sample_rng(*key).standard_normal(4).tobytes() == bits for key, bits in draws.items())


def test_variables_are_of_double_precision_without_units_by_default():
    assert Variable(("x",), "something") == Variable(("x",), "something", "1", "float64")


def test_a_recipe_shows_its_name():
    assert repr(Noise()) == "<recipe noise>"
