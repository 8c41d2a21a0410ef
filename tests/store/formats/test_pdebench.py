from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from refusals import refused, refused_without_a_trace
from small_datasets import diffusion, vorticity, write_dataset

from sciml_bounds.store.datasets.dataset_files import open_dataset
from sciml_bounds.store.formats.foreign import import_dataset
from sciml_bounds.store.formats.pdebench import export_pdebench


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


def infinite(path: Path) -> Path:
    values = np.ones((3, 4, 6))
    values[1, 2, 3] = np.inf
    return write_dataset(path, {"u": (("time", "x"), values)}, {}, inputs=("u",), targets=("u",), layout="time")


@pytest.mark.parametrize(
    ("make", "target", "words"),
    [
        (vorticity, "p.hdf5", "'time' 'x' 'y') Well"),
        (diffusion, "p.h5", "hdf5"),
        (diffusion, "d.hdf5", "d.hdf5"),
        (infinite, "p.hdf5", "sample 1 'u' finite"),
    ],
)
def test_exports_that_cannot_be(tmp_path, make, target, words):
    source = make(tmp_path / "d.hdf5")
    refused_without_a_trace(tmp_path, words, export_pdebench, source, tmp_path / target)


def write(path: Path, **arrays: object) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name.replace("_coordinate", "-coordinate")] = values
    return path


ONES = np.ones((4, 1, 3, 5), "f4")
AXES = {"x_coordinate": np.arange(3.0), "y_coordinate": np.arange(5.0)}


STEADY = {"tensor": ONES, "nu": ONES[:, 0], **AXES}
TIMED = {"tensor": ONES[:, 0], "x_coordinate": np.arange(5.0), "t_coordinate": np.arange(3.0)}


@pytest.mark.parametrize(
    ("words", "arrays"),
    [
        ("disagree tensor (4, 1, 3, 5), nu (3, 3, 5)", STEADY | {"nu": ONES[:3, 0]}),
        ("'tensor' shape (4, 3, 5) 4 axes", STEADY | {"tensor": ONES[:, 0]}),
        ("array 'y-coordinate'", STEADY | {"y_coordinate": None}),
        ("kind arrays nu, x-coordinate, y-coordinate", STEADY | {"tensor": None}),
        ("y-coordinate 6 values 5", STEADY | {"y_coordinate": np.arange(6.0)}),
        ("sample 0 'solution' NaN", STEADY | {"tensor": np.full(ONES.shape, np.nan)}),
        ("'tensor' shape (0, 1, 3, 5)", STEADY | {"tensor": ONES[:0], "nu": ONES[:0, 0]}),
        ("array 't-coordinate'", TIMED | {"t_coordinate": None}),
        ("t-coordinate 5 values 3", TIMED | {"t_coordinate": np.arange(5.0)}),
        ("t-coordinate increasing", TIMED | {"t_coordinate": np.arange(3.0)[::-1]}),
        ("x-coordinate increasing", TIMED | {"x_coordinate": np.full(5, np.nan)}),
        ("'tensor' |S1 values", {"tensor": np.array([b"a"]), "x_coordinate": np.arange(5.0)}),
    ],
)
def test_wrong_files(tmp_path, words, arrays):
    source = write(tmp_path / "p.hdf5", **{name: values for name, values in arrays.items() if values is not None})
    refused_without_a_trace(tmp_path, words, import_dataset, source, tmp_path / "p.nc")


def test_a_file_with_a_group_a_seed(tmp_path):
    source = write(tmp_path / "p.h5", **{"0000/data": np.ones((3, 4, 5, 2)), "0001/data": np.ones((3, 4, 5, 2))})
    refused("files", import_dataset, source, tmp_path / "p.nc", kind="pdebench")
