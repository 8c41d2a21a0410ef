"""Images of recordings: visible smoke and bodies, and files written atomically."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from refusals import refused

from sciml_bounds.errors import InputError
from sciml_bounds.evolution.smoke_pictures import BODY_COLOUR, animate, draw
from sciml_bounds.store.datasets.movies import MovieHeader, MovieVariable, writing_movie


def recording(path, density: np.ndarray, solid: np.ndarray) -> None:
    """Write a recording with the given frames (time, x, y[, z])."""
    axes = "xyz"[: density.ndim - 1]
    coordinates = {"time": np.arange(len(density), dtype=float)}
    coordinates |= {f"{axis}_face": np.linspace(0, 1, n + 1) for axis, n in zip(axes, density.shape[1:])}
    if len(axes) == 3:
        coordinates["z"] = np.linspace(0, 1, density.shape[3])
    lengths = dict(zip(axes, density.shape[1:])) | {k: len(v) for k, v in coordinates.items()}
    variables = {name: MovieVariable(("time", *axes), "float32", name) for name in ("density", "solid")}
    with writing_movie(path, MovieHeader("test", lengths, coordinates, variables, {})) as movie:
        for index in range(len(density)):
            movie.write("density", index, density[index])
            movie.write("solid", index, solid[index])


def seen(path) -> np.ndarray:
    """The first frame of an animation, one pixel per cell: (vertical, horizontal, 3) from the top, values in [0, 1]."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")) / 255
        return pixels[:: image.height // 8, :: image.width // 8]


def test_smoke_and_bodies_are_where_they_are_in_the_plane(tmp_path):
    density, solid = np.zeros((2, 8, 8)), np.zeros((2, 8, 8))
    density[:, 1, 6] = 1.0  # on the left, near the top
    solid[:, 5, 2] = 1.0
    recording(tmp_path / "s.h5", density, solid)
    animate(tmp_path / "s.h5", tmp_path / "s.gif")
    image = seen(tmp_path / "s.gif")
    bright = image.sum(-1)
    assert np.unravel_index(bright.argmax(), bright.shape) == (1, 1)
    assert np.allclose(image[5, 5], BODY_COLOUR, atol=0.02)
    assert bright.max() > 2.0
    assert np.median(bright) < 0.05


def test_what_is_behind_a_body_is_not_seen_and_what_is_in_front_dims_it(tmp_path):
    density, solid = np.zeros((1, 8, 8, 8)), np.zeros((1, 8, 8, 8))
    solid[:, 2:6, 4, 2:6] = 1.0
    density[:, 2, 5:, 2] = 1.0  # behind
    density[:, 3, :4, 3] = 1.0  # in front
    recording(tmp_path / "s.h5", density, solid)
    animate(tmp_path / "s.h5", tmp_path / "s.gif")
    image = seen(tmp_path / "s.gif")
    assert np.allclose(image[5, 2], BODY_COLOUR, atol=0.02)
    assert np.allclose(image[4, 4], BODY_COLOUR, atol=0.02)
    assert np.abs(image[4, 3] - BODY_COLOUR).max() > 0.2


@pytest.mark.parametrize("ending", [".png", ".pdf", ".svg"])
def test_pictures_in_all_formats(tmp_path, ending):
    recording(tmp_path / "s.h5", np.zeros((3, 8, 8)), np.zeros((3, 8, 8)))
    draw(tmp_path / "s.h5", tmp_path / f"s{ending}")
    assert (tmp_path / f"s{ending}").stat().st_size > 1000
    assert len(list(tmp_path.iterdir())) == 2


def test_an_animation_has_all_frames(tmp_path):
    density = np.linspace(0, 1, 5)[:, None, None] * np.ones((5, 8, 8))
    recording(tmp_path / "s.h5", density, np.zeros((5, 8, 8)))
    animate(tmp_path / "s.h5", tmp_path / "s.gif")
    with Image.open(tmp_path / "s.gif") as image:
        assert image.n_frames == 5


def test_other_endings_are_refused(tmp_path):
    recording(tmp_path / "s.h5", np.zeros((1, 8, 8)), np.zeros((1, 8, 8)))
    refused("png", draw, tmp_path / "s.h5", tmp_path / "s.jpg")
    with pytest.raises(InputError, match=r"use \.gif"):
        animate(tmp_path / "s.h5", tmp_path / "s.mp4")


def test_what_is_no_recording_is_refused(tmp_path):
    np.save(tmp_path / "u.npy", np.zeros(3))
    for make, picture in ((draw, "s.png"), (animate, "s.gif")):
        refused("recording time density", make, tmp_path / "u.npy", tmp_path / picture)
        refused("recording None file", make, None, tmp_path / picture)
        refused("recording file", make, tmp_path / "none.h5", tmp_path / picture)
        assert not (tmp_path / picture).exists()
