from __future__ import annotations

import hashlib
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from refusals import refused

from sciml_bounds.store.datasets.dataset_files import open_dataset
from sciml_bounds.store.formats.foreign import import_dataset

RNG = np.random.default_rng(0)
COEFFICIENT = RNG.choice([3.0, 12.0], (11, 5, 5))
SOLUTION = RNG.standard_normal((11, 5, 5))


def write_mat(path: Path, version: str, **arrays: np.ndarray) -> Path:
    """Write a file of MATLAB; of version 7.3 as MATLAB does, with columns first."""
    if version == "5":
        scipy.io.savemat(path, arrays)
        return path
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in arrays.items():
            file[name] = values.T
            file[name].attrs["MATLAB_class"] = np.bytes_("single" if values.dtype == np.float32 else "double")
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    return path


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_darcy_flow_of_the_fno_authors(tmp_path, version):
    source = write_mat(tmp_path / "d.mat", version, coeff=COEFFICIENT, sol=SOLUTION, Kcoeff=COEFFICIENT)
    import_dataset(source, tmp_path / "d.nc")
    with open_dataset(tmp_path / "d.nc") as data:
        np.testing.assert_array_equal(data["coefficient"], COEFFICIENT)
        np.testing.assert_array_equal(data["solution"], SOLUTION)
        assert data["solution"].dims == ("sample", "x_node", "y_node")
        np.testing.assert_array_equal(data["x_node"], [0, 0.25, 0.5, 0.75, 1])
        assert data["split"].values.tolist() == [0] * 8 + [1, 2, 0]
        assert "label_error" not in data  # nobody certified them
        parameters = json.loads(data.attrs["parameters"])
    assert (parameters["kind"], parameters["file"]) == ("fno", "d.mat")
    assert parameters["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()


@pytest.mark.parametrize("version", ["5", "7.3"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_not_imported(tmp_path, version, value):
    solution = SOLUTION.copy()
    solution[7, 2, 3] = value
    source = write_mat(tmp_path / "d.mat", version, coeff=COEFFICIENT, sol=solution)
    refused("sample 7 file 'solution' NaN infinite", import_dataset, source, tmp_path / "d.nc")
    assert [path.name for path in tmp_path.iterdir()] == ["d.mat"]


def test_chunks_that_span_samples(tmp_path):
    values = RNG.standard_normal((30, 3, 16))
    with h5py.File(tmp_path / "p.hdf5", "w") as file:
        file.create_dataset("tensor", data=values, chunks=(8, 2, 5), compression="lzf")
        file["x-coordinate"], file["t-coordinate"] = np.arange(16), np.arange(4)
    import_dataset(tmp_path / "p.hdf5", tmp_path / "p.nc")
    with open_dataset(tmp_path / "p.nc") as data:
        np.testing.assert_array_equal(data["solution"], values)


def test_progress_is_told_up_to_the_last_sample(tmp_path):
    told = []
    write_mat(tmp_path / "d.mat", "5", coeff=COEFFICIENT, sol=SOLUTION)
    import_dataset(tmp_path / "d.mat", tmp_path / "d.nc", callback=lambda *progress: told.append(progress))
    assert told[-1] == (11, 11)


# --- what is refused ---


def import_refused(source: Path, *words: str, kind: str | None = None, name: str = "out.nc") -> None:
    before = sorted(source.parent.iterdir())
    refused(" ".join(words), import_dataset, source, source.parent / name, kind=kind)
    assert sorted(source.parent.iterdir()) == before


def test_a_file_of_another_kind_than_it_is_said_to_be(tmp_path):
    source = write_mat(tmp_path / "d.mat", "5", coeff=COEFFICIENT, sol=SOLUTION)
    import_refused(source, "array 'x'", kind="neuraloperator")
    import_refused(source, "array 'tensor'", kind="pdebench")
    import_refused(source, "kind 'well'", "pdebench", kind="well")


def test_a_truncated_file(tmp_path):
    source = write_mat(tmp_path / "d.mat", "7.3", coeff=COEFFICIENT, sol=SOLUTION)
    source.write_bytes(source.read_bytes()[:-400])
    import_refused(source, "read")


def test_no_file_and_no_place(tmp_path):
    import_refused(tmp_path / "none.mat", "file")
    source = write_mat(tmp_path / "d.mat", "5", coeff=COEFFICIENT, sol=SOLUTION)
    import_refused(source, "h5 hdf5", name="out.txt")
    import_refused(source, "folder", name="none/out.nc")


def test_the_file_itself_as_the_target(tmp_path):
    with h5py.File(tmp_path / "p.h5", "w") as file:
        file["tensor"] = np.ones((2, 3, 4))
    import_refused(tmp_path / "p.h5", "p.h5", name="p.h5")
