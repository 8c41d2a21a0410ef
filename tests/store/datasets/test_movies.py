"""Movies: readable by others, checked as a whole, and never half there."""

from __future__ import annotations

import numpy as np
import pytest
import xarray
from refusals import refused

import sciml_bounds as sb
from sciml_bounds.store.datasets.movies import MovieHeader, MovieVariable, writing_movie

HEADER = MovieHeader(
    title="Something that changes",
    lengths={"time": 3, "x": 4, "x_face": 5},
    coordinates={"time": np.array([0.0, 0.5, 2.0]), "x": np.arange(4.0), "x_face": np.arange(5.0) - 0.5},
    variables={
        "u": MovieVariable(("time", "x_face"), "float64", "velocity"),
        "count": MovieVariable(("time",), "int32", "number"),
    },
    asked={"b": 1, "a": [2, "x"]},
)


def test_frames_are_read_back_by_us_and_by_others(tmp_path):
    u = np.random.default_rng(0).random((3, 5))
    with writing_movie(tmp_path / "m.nc", HEADER) as movie:
        movie.write("count", slice(None), np.array([3, 1, 2]))
        for index in (2, 0, 1):
            movie.write("u", index, u[index])
    ours = sb.data.read(tmp_path / "m.nc")
    with xarray.open_dataset(tmp_path / "m.nc", engine="h5netcdf") as others:
        for found in (ours, others):
            assert np.array_equal(found["u"], u)
            assert np.array_equal(found["count"], [3, 1, 2])
            assert np.array_equal(found["time"], [0.0, 0.5, 2.0])
            assert found["u"].dims == ("time", "x_face")
            assert found["u"].attrs["long_name"] == "velocity"
            assert found.attrs["asked"] == '{"a": [2, "x"], "b": 1}'


def test_a_changed_number_is_found(tmp_path):
    with writing_movie(tmp_path / "m.nc", HEADER) as movie:
        movie.write("count", slice(None), np.array([3, 1, 2]))
    import h5py

    with h5py.File(tmp_path / "m.nc", "r+") as file:
        file["count"][0] = 4
    refused("content checksum", sb.data.read, tmp_path / "m.nc")


def test_an_error_leaves_nothing_and_the_old_file(tmp_path):
    (tmp_path / "m.nc").write_text("old")

    def fail() -> None:
        with writing_movie(tmp_path / "m.nc", HEADER) as movie:
            movie.write("u", 0, np.zeros(5))
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["m.nc"]
    assert (tmp_path / "m.nc").read_text() == "old"
