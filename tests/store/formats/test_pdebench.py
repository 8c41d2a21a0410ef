from __future__ import annotations

import runpy
from pathlib import Path

import h5py
import numpy as np
import pytest
from refusals import refused

from sciml_bounds.store.datasets.dataset_files import open_dataset
from sciml_bounds.store.formats.foreign import import_dataset
from sciml_bounds.store.formats.pdebench import export_pdebench

MAKE = runpy.run_path(str(Path(__file__).parents[1] / "datasets_of_ours.py"))
diffusion, vorticity, write_dataset = MAKE["diffusion"], MAKE["vorticity"], MAKE["write_dataset"]


def waves(path: Path, count: int = 11) -> np.ndarray:
    """Write one field in time and one dimension."""
    values = np.random.default_rng(0).standard_normal((count, 4, 6)).astype(np.float32)
    about = {"inputs": ("solution",), "targets": ("solution",), "layout": "time", "parameters": {"Nu": 0.01}}
    coordinates = {"time": [0.0, 0.5, 1.0, 1.5], "x": (np.arange(6) + 0.5) / 6}
    write_dataset(path, {"solution": (("time", "x"), values)}, coordinates, **about)
    return values


def test_darcy_flow(tmp_path):
    diffusion(tmp_path / "d.nc")
    assert export_pdebench(tmp_path / "d.nc", tmp_path / "d.hdf5") == tmp_path / "d.hdf5"
    with h5py.File(tmp_path / "d.hdf5") as file, h5py.File(tmp_path / "d.nc") as ours:
        assert file["tensor"].shape == (12, 1, 8, 6)
        np.testing.assert_array_equal(file["nu"][:], ours["coefficient"][:])
        x, y = file["x-coordinate"][:], file["y-coordinate"][:]
        np.testing.assert_allclose(x, (np.arange(8) + 0.5) / 8, rtol=1e-6)
        np.testing.assert_allclose(file["tensor"][4, 0], 5 * np.outer(1 + x, 1 + y), rtol=1e-6)
        assert file.attrs["beta"] == 2.0
        assert file["sample"][:].tolist() == list(range(12))


def test_darcy_flow_comes_back(tmp_path):
    diffusion(tmp_path / "d.nc")
    export_pdebench(tmp_path / "d.nc", tmp_path / "d.hdf5")
    import_dataset(tmp_path / "d.hdf5", tmp_path / "again.nc")
    with open_dataset(tmp_path / "again.nc") as data, h5py.File(tmp_path / "d.nc") as ours:
        assert (data.attrs["inputs"], data.attrs["targets"]) == (["coefficient"], ["solution"])
        assert (data.attrs["recipe"], data.attrs["layout"], data.attrs["seed"]) == ("imported", "same", -1)
        np.testing.assert_array_equal(data["coefficient"], ours["coefficient"][:])
        np.testing.assert_array_equal(data["split"], ours["split"][:])
        nodal = ours["solution"][:]
        centres = (nodal[:, 1:, 1:] + nodal[:, :-1, 1:] + nodal[:, 1:, :-1] + nodal[:, :-1, :-1]) / 4
        np.testing.assert_allclose(data["solution"], centres, rtol=1e-6)


def test_one_dimension_in_time_comes_back(tmp_path):
    values = waves(tmp_path / "w.nc")
    export_pdebench(tmp_path / "w.nc", tmp_path / "w.hdf5")
    with h5py.File(tmp_path / "w.hdf5") as file:
        np.testing.assert_array_equal(file["tensor"][:], values)
        np.testing.assert_array_equal(file["t-coordinate"][:], [0, 0.5, 1, 1.5, 2])  # one longer than the time axis
        assert file.attrs["Nu"] == 0.01
    import_dataset(tmp_path / "w.hdf5", tmp_path / "again.nc")
    with open_dataset(tmp_path / "again.nc") as data:
        np.testing.assert_array_equal(data["solution"], values)
        assert data["solution"].dims == ("sample", "time", "x")
        np.testing.assert_array_equal(data["time"], [0, 0.5, 1, 1.5])
        assert '"Nu": 0.01' in data.attrs["parameters"]


def test_compressible_flow(tmp_path):
    rng = np.random.default_rng(0)
    fields = {name: rng.standard_normal((3, 2, 4, 5)).astype("f4") for name in ("density", "pressure", "Vx", "Vy")}
    with h5py.File(tmp_path / "c.hdf5", "w") as file:
        for name, values in fields.items():
            file[name] = values
        file["t-coordinate"], file["x-coordinate"], file["y-coordinate"] = np.arange(3), np.arange(4), np.arange(5)
        file.attrs["eta"] = 0.1
    import_dataset(tmp_path / "c.hdf5", tmp_path / "c.nc")
    with open_dataset(tmp_path / "c.nc") as data:
        assert data.attrs["inputs"] == list(fields)
        for name, values in fields.items():
            np.testing.assert_array_equal(data[name], values)


# --- what is refused ---


def stays_refused(function, source: Path, target: Path, *words: str) -> None:
    before = sorted(target.parent.iterdir())
    refused(" ".join(words), function, source, target)
    assert sorted(target.parent.iterdir()) == before


def test_a_data_set_that_pdebench_has_no_layout_for(tmp_path):
    vorticity(tmp_path / "v.nc")
    stays_refused(export_pdebench, tmp_path / "v.nc", tmp_path / "v.hdf5", "'time' 'x' 'y')", "Well")


def test_an_ending_that_means_another_layout(tmp_path):
    stays_refused(export_pdebench, tmp_path / "d.nc", tmp_path / "d.h5", "hdf5")


def test_the_data_set_itself_as_the_target(tmp_path):
    diffusion(tmp_path / "d.hdf5")
    stays_refused(export_pdebench, tmp_path / "d.hdf5", tmp_path / "d.hdf5", "d.hdf5")


def test_nan_in_a_solution(tmp_path):
    values = np.ones((3, 4, 6))
    values[1, 2, 3] = np.inf
    about = {"inputs": ("u",), "targets": ("u",), "layout": "time"}
    write_dataset(tmp_path / "w.nc", {"u": (("time", "x"), values)}, {}, **about)
    stays_refused(export_pdebench, tmp_path / "w.nc", tmp_path / "w.hdf5", "sample 1", "'u'", "finite")


def write(path: Path, **arrays: object) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name.replace("_coordinate", "-coordinate")] = values
    return path


ONES = np.ones((4, 1, 3, 5), "f4")
AXES = {"x_coordinate": np.arange(3.0), "y_coordinate": np.arange(5.0)}


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"tensor": ONES, "nu": ONES[:3, 0], **AXES}, ("disagree", "tensor (4, 1, 3, 5), nu (3, 3, 5)")),
        ({"tensor": ONES[:, 0], "nu": ONES[:, 0], **AXES}, ("'tensor' has shape (4, 3, 5)", "4 axes")),
        ({"tensor": ONES, "nu": ONES[:, 0], "x_coordinate": np.arange(3.0)}, ("no array 'y-coordinate'",)),
        ({"nu": ONES[:, 0], **AXES}, ("kind arrays", "nu, x-coordinate, y-coordinate")),
        (
            {"tensor": ONES, "nu": ONES[:, 0], **AXES, "y_coordinate": np.arange(6.0)},
            ("y-coordinate has 6 values for 5",),
        ),
        ({"tensor": ONES[:, 0], "x_coordinate": np.arange(5.0)}, ("no array 't-coordinate'",)),
        (
            {"tensor": ONES[:, 0], "x_coordinate": np.arange(5.0), "t_coordinate": np.arange(5.0)},
            ("t-coordinate has 5 values for 3",),
        ),
        (
            {"tensor": ONES[:, 0], "x_coordinate": np.arange(5.0), "t_coordinate": np.arange(3.0)[::-1]},
            ("t-coordinate increasing",),
        ),
        (
            {"tensor": ONES[:, 0], "x_coordinate": np.full(5, np.nan), "t_coordinate": np.arange(3.0)},
            ("x-coordinate increasing",),
        ),
        ({"tensor": np.full((4, 1, 3, 5), np.nan), "nu": ONES[:, 0], **AXES}, ("sample 0", "'solution' has NaN")),
        ({"tensor": np.array([b"a"]), "x_coordinate": np.arange(5.0)}, ("'tensor' has |S1 values",)),
        ({"tensor": ONES[:0], "nu": ONES[:0, 0], **AXES}, ("'tensor' has shape (0, 1, 3, 5)",)),
    ],
    ids=["samples", "axes", "y", "none", "y_length", "t", "t_length", "t_back", "x_nan", "nan", "text", "empty"],
)
def test_wrong_files(tmp_path, arrays, words):
    source = write(tmp_path / "p.hdf5", **arrays)
    stays_refused(import_dataset, source, tmp_path / "p.nc", *words)


def test_a_file_with_a_group_a_seed(tmp_path):
    source = write(tmp_path / "p.h5", **{"0000/data": np.ones((3, 4, 5, 2)), "0001/data": np.ones((3, 4, 5, 2))})
    refused("files", import_dataset, source, tmp_path / "p.nc", kind="pdebench")
