from __future__ import annotations

from contextlib import closing
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray
from refusals import refused
from small_datasets import diffusion, write_dataset

import sciml_bounds as sb
from sciml_bounds.store.datasets.dataset_source import open_source
from sciml_bounds.store.reading.hdf5_files import CHECKSUM, stored_digest


def test_the_samples_come_with_index_and_split(tmp_path):
    values = np.random.default_rng(0).standard_normal((5, 3))
    path = tmp_path / "d.nc"
    write_dataset(path, {"a": (("x",), values)}, {}, first=7, inputs=("a",), targets=("a",), layout="same")
    source = open_source(path)
    assert (source.fields, source.dims("a"), source.space("a")) == (("a",), ("x",), ("x",))
    np.testing.assert_array_equal(source.positions("x"), [0, 1, 2])
    with closing(source.walk(("a",))) as walk:
        for place, (sample, split, rows) in enumerate(walk):
            assert (sample, split) == (7 + place, [0, 1, 2, 0, 0][place])
            np.testing.assert_array_equal(rows["a"], values[place])


def edit(path: Path, name: str, value: object) -> None:
    """Change a variable, or leave it out, and write the checksum that belongs to the result."""
    with h5py.File(path, "r+") as file:
        if value is None:
            del file[name]
        else:
            file[name][...] = value
        file.attrs[CHECKSUM] = stored_digest(file)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("split", 3, "'split' 0 2"), ("split", None, "'split'"), ("solution", None, "'solution'")],
)
def test_what_is_edited_with_a_new_checksum(tmp_path, name, value, words):
    diffusion(tmp_path / "d.nc")
    edit(tmp_path / "d.nc", name, value)
    refused(words, open_source, tmp_path / "d.nc")


def test_what_is_no_data_set(tmp_path):
    sb.data.write(xarray.Dataset({"a": ("x", [1.0])}), tmp_path / "u.nc")
    refused("fields recipe data", open_source, tmp_path / "u.nc")
    refused("file", open_source, tmp_path / "none.nc")
