from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import pytest
from refusals import refused
from small_datasets import diffusion

from sciml_bounds.store.formats.the_well import export_the_well
from sciml_bounds.store.formats.the_well_check import check_the_well


@pytest.fixture(scope="module")
def train_file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("well")
    diffusion(folder / "d.nc")
    (path,) = (export_the_well(folder / "d.nc", folder / "out") / "data" / "train").iterdir()
    check_the_well(folder / "out")
    return path


@pytest.mark.parametrize(
    ("words", "damage"),
    [
        ("grid_type", lambda file: file.attrs.pop("grid_type")),
        ("shape (10, 8, 6) flags (3, 8, 6)", lambda file: file.attrs.update(n_trajectories=3)),
        ("group t2_fields", lambda file: file.pop("t2_fields")),
        ("dimensions/time attribute", lambda file: file["dimensions/time"].attrs.pop("time_varying")),
        ("bc_type", lambda file: file["boundary_conditions/x_wall"].attrs.update(bc_type="DIRICHLET")),
        ("mask", lambda file: file["boundary_conditions/x_wall"].pop("mask")),
        ("dim_varying", lambda file: file["t0_fields/solution"].attrs.update(dim_varying=[1, 1])),
        ("t0_fields/coefficient", lambda file: file["t0_fields"].pop("coefficient")),
        ("source", lambda file: file["scalars"].pop("source")),
        ("spatial_dims", lambda file: file["dimensions"].attrs.update(spatial_dims=["x"])),
        ("field_names", lambda file: file["scalars"].attrs.pop("field_names")),
    ],
)
def test_the_check_finds(tmp_path, train_file, words, damage):
    path = Path(shutil.copy(train_file, tmp_path))
    check_the_well(path)
    with h5py.File(path, "r+") as file:
        damage(file)
    refused(words, check_the_well, path)


def test_the_check_of_what_is_no_folder(tmp_path):
    refused("folder Well data/train/*.hdf5", check_the_well, tmp_path)
