"""The scenes: contents of the box at any resolution, and invalid input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from refusals import refused

from sciml_bounds.evolution.bodies import Solids
from sciml_bounds.evolution.scenes import SCENES, make_scene


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("name", SCENES)
def test_bodies_stay_in_the_box_and_off_the_source(name, dim):
    scene = make_scene(name, dim, 24)
    assert scene.grid.shape == (24,) * dim
    assert scene.open_sides == ("y1",) if dim == 2 else ("z1",)
    moved = False
    first = None
    for time in np.linspace(0.0, 4.0, 9):
        solids = Solids.at(scene.bodies, scene.grid, time, (time, time + 0.01), torch.device("cpu"))
        edges = [solids.mask.select(axis, end) for axis in range(dim) for end in (0, -1)]
        assert not any(bool(edge.any()) for edge in edges)
        assert not bool(solids.mask[..., :5].any())  # where the source is
        first = solids.mask if first is None else first
        moved = moved or not torch.equal(first, solids.mask)
    assert moved == (name != "plume")
    assert bool(first.any()) == (name != "plume")


def test_voxels_are_added():
    solid = np.zeros((16, 16), dtype=bool)
    solid[3:5, 7] = True
    scene = make_scene("plume", 2, 16, solid)
    found = Solids.at(scene.bodies, scene.grid, 0.0, (0.0, 0.1), torch.device("cpu")).mask
    assert np.array_equal(found.numpy(), solid)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("steam", 2, 16), "scene 'steam' 'plume' 'sphere' 'rotating'"),
        (("plume", 4, 16), "scene 4 dimensions 2 3"),
        (("plume", 2, 0), "number cells 0 positive"),
        (("plume", 2, 3), "scene 3 cells axis 4"),
        (("plume", 2, 8, np.zeros((8, 9), bool)), "voxels shape (8, 9) grid 8 x"),
        (
            ("plume", 2, 8, "solid.npy"),
            "array voxels str",
        ),
        (("plume", 2, 8, np.zeros((8, 8))), "array voxels dtype float64"),
        ((["plume"], 2, 16), "scene ['plume'] 'plume' 'sphere' 'rotating'"),
        (("plume", 2.0, 16), "scene 2.0 dimensions 2 3"),
    ],
)
def test_a_scene_that_cannot_be_is_refused(arguments, sentence):
    refused(sentence, make_scene, *arguments)
