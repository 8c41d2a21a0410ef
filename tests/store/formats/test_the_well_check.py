from __future__ import annotations

import runpy
import shutil
from pathlib import Path

import h5py
import pytest
from refusals import refused

from sciml_bounds.errors import InputError
from sciml_bounds.store.formats.the_well import export_the_well
from sciml_bounds.store.formats.the_well_check import check_the_well

MAKE = runpy.run_path(str(Path(__file__).parents[1] / "datasets_of_ours.py"))


@pytest.fixture(scope="module")
def train_file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("well")
    MAKE["diffusion"](folder / "d.nc")
    (path,) = (export_the_well(folder / "d.nc", folder / "out") / "data" / "train").iterdir()
    check_the_well(folder / "out")
    return path


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: f.attrs.__delitem__("grid_type"), "grid_type"),
        (lambda f: f.attrs.__setitem__("n_trajectories", 3), "shape (10, 8, 6), but its flags require (3, 8, 6)"),
        (lambda f: f.__delitem__("t2_fields"), "the group t2_fields is missing"),
        (lambda f: f["dimensions/time"].attrs.__delitem__("time_varying"), "dimensions/time needs an attribute"),
        (lambda f: f["boundary_conditions/x_wall"].attrs.__setitem__("bc_type", "DIRICHLET"), "bc_type"),
        (lambda f: f["boundary_conditions/x_wall"].__delitem__("mask"), "mask"),
        (lambda f: f["t0_fields/solution"].attrs.__setitem__("dim_varying", [1, 1]), "dim_varying"),
        (lambda f: f["t0_fields"].__delitem__("coefficient"), "t0_fields/coefficient"),
        (lambda f: f["scalars"].__delitem__("source"), "source"),
        (lambda f: f["dimensions"].attrs.__setitem__("spatial_dims", ["x"]), "spatial_dims"),
        (lambda f: f["scalars"].attrs.__delitem__("field_names"), "field_names"),
    ],
    ids=[
        "grid_type",
        "count",
        "t2",
        "time",
        "bc_type",
        "mask",
        "dim_varying",
        "field",
        "scalar",
        "spatial_dims",
        "names",
    ],
)
def test_the_check_finds(tmp_path, train_file, damage, words):
    path = Path(shutil.copy(train_file, tmp_path))
    check_the_well(path)
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(InputError) as caught:
        check_the_well(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_check_of_what_is_no_folder(tmp_path):
    refused("folder Well data/train/*.hdf5", check_the_well, tmp_path)
