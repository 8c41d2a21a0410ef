"""Files of MATLAB: the same axes from every version, numbers only."""

from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from refusals import refused

from sciml_bounds.store.reading.readers import find_field, open_file, read_array, read_field, read_mask

BATCH = np.random.default_rng(0).standard_normal((4, 3, 2))


@pytest.fixture
def write(write_matlab_73):
    def write(path: Path, version: str, array: np.ndarray, kind: str) -> None:
        if version == "7.3":
            write_matlab_73(path, {"a": (kind, array.astype("u1") if kind == "logical" else array)})
        else:
            scipy.io.savemat(path, {"a": array}, do_compression=version == "7")

    return write


@pytest.mark.parametrize("version", ["5", "7", "7.3"])
def test_axes_are_those_of_matlab(tmp_path, write, version):
    """A(i, j, k) is [i, j, k], although MATLAB 7.3 stores (k, j, i) in the words of HDF5."""
    write(tmp_path / "a.mat", version, BATCH, "double")
    if version == "7.3":
        with h5py.File(tmp_path / "a.mat") as file:
            assert file["a"].shape == (2, 3, 4)
    np.testing.assert_array_equal(read_field(f"{tmp_path}/a.mat", "a"), BATCH)
    with ExitStack() as files:
        found = find_field(f"{tmp_path}/a.mat:a", "a", files)
        assert found.shape == (4, 3, 2)
        np.testing.assert_array_equal(found.read(2), BATCH[2])


CLASSES = {
    "double": np.arange(6.0).reshape(2, 3),
    "single": np.ones((2, 3), "f4"),
    "logical": np.eye(2, 3) > 0,
    "int16": np.arange(6, dtype="i2").reshape(2, 3),
}


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_classes(tmp_path, write_matlab_73, version):
    if version == "7.3":
        stored = {kind: (kind, a.astype("u1") if kind == "logical" else a) for kind, a in CLASSES.items()}
        write_matlab_73(tmp_path / "a.mat", stored)
    else:
        scipy.io.savemat(tmp_path / "a.mat", CLASSES)
    with ExitStack() as files:
        contents = open_file(tmp_path / "a.mat", "a", files)
        for kind, array in CLASSES.items():
            read = contents.read(kind)
            assert read.dtype == array.dtype
            np.testing.assert_array_equal(read, array)
    np.testing.assert_array_equal(read_mask(f"{tmp_path}/a.mat:logical", "solid"), CLASSES["logical"])


def test_whole_numbers_that_were_stored_as_bytes(tmp_path):
    """MATLAB stores doubles as the smallest integers that hold them; scipy does not, so one is made by hand."""
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"a": np.arange(8, dtype="u1").reshape(1, 8)})
    content = bytearray(path.read_bytes())
    assert content[144] == 9  # the class uint8 ...
    content[144] = 6  # ... becomes double, and its data remain bytes
    path.write_bytes(content)
    array = read_array(str(path), "a")
    assert array.dtype == np.float64
    np.testing.assert_array_equal(array, np.arange(8.0)[None])


@pytest.mark.parametrize("compressed", [False, True])
def test_what_is_no_array_of_numbers_is_never_loaded(tmp_path, compressed):
    things = {"struct": {"x": 1.0}, "cell": np.array([1.0, "a"], dtype=object), "char": "text"}
    z = {"z": BATCH + 1j, "after": BATCH}
    scipy.io.savemat(tmp_path / "a.mat", things | {"good": BATCH} | z, do_compression=compressed)
    with ExitStack() as files:
        contents = open_file(tmp_path / "a.mat", "a", files)
        for name in things:
            assert contents.arrays[name].dtype == name
            refused(f"{name} values", contents.read, name)
        for name in ("good", "after"):
            np.testing.assert_array_equal(contents.read(name), BATCH)
        assert contents.arrays["z"].dtype == "complex float64"
        refused("complex float64 values", contents.read, "z")


def test_parts_and_other_classes_of_version_73(tmp_path, write_matlab_73):
    path = tmp_path / "a.mat"
    write_matlab_73(path, {"good": ("double", BATCH), "text": ("char", np.ones((1, 4), "u2"))})
    with h5py.File(path, "r+") as file:
        file["s/x"] = BATCH  # a field of a struct
        file["#refs#/a"] = BATCH
        file["none"] = np.array([0, 0], dtype="u8")
        file["none"].attrs["MATLAB_empty"] = 1
        file["z"] = np.zeros(3, dtype=[("real", "f8"), ("imag", "f8")])
        file["z"].attrs["MATLAB_class"] = np.bytes_("double")
    with ExitStack() as files:
        contents = open_file(path, "a", files)
        assert set(contents.arrays) == {"good", "text", "none", "z"}
        for name in ("text", "none", "z"):
            refused("never", contents.read, name)
        np.testing.assert_array_equal(contents.read("good"), BATCH)


def test_other_versions_and_other_files(tmp_path):
    scipy.io.savemat(tmp_path / "four.mat", {"a": np.ones((2, 2))}, format="4")
    refused("MATLAB file version 5", read_array, f"{tmp_path}/four.mat", "a")
    for content in (b"", b"hello" * 100, b"\x89HDF\r\n\x1a\n"):
        (tmp_path / "bad.mat").write_bytes(content)
        refused("bad.mat", read_array, f"{tmp_path}/bad.mat", "a")


@pytest.mark.parametrize("part", [0.99, 0.7, 0.3, 0.1])
def test_truncated(tmp_path, part):
    scipy.io.savemat(tmp_path / "a.mat", {"a": np.random.default_rng(0).standard_normal((40, 50))})
    content = (tmp_path / "a.mat").read_bytes()
    (tmp_path / "a.mat").write_bytes(content[: int(part * len(content))])
    refused("a.mat", read_array, f"{tmp_path}/a.mat", "a")
