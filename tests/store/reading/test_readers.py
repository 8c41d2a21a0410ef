import os
import pickle
import re
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import xarray
from refusals import refused

from sciml_bounds.store.reading.readers import read_array, read_field, read_mask

FIELD = np.arange(12, dtype=np.float64).reshape(3, 4) / 8 + 1


class Trap:
    """Makes a file when it is unpickled; the tests then see that it was executed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def field_refused(text: str, *words: str) -> str:
    """Read, expect one sentence that names the field and what is wrong, and return it."""
    message = refused(" ".join(words), read_field, text, "the coefficient")
    assert message.startswith("the coefficient")
    return message


# --- what can be read ---


@pytest.mark.parametrize("text", ["1.0", "1", "-2.5e-3", " 7 "])
def test_a_number_is_a_field(text):
    assert read_field(text, "f") == float(text)


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy(tmp_path, dtype, order):
    np.save(tmp_path / "a.npy", np.asarray(FIELD, dtype=dtype, order=order))
    array = read_field(f"{tmp_path}/a.npy", "a")
    assert array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(array, FIELD)


def test_npz_by_name_and_alone(tmp_path):
    np.savez(tmp_path / "two.npz", a=FIELD, b=FIELD + 1)
    np.savez_compressed(tmp_path / "one.npz", a=FIELD)
    np.testing.assert_array_equal(read_field(f"{tmp_path}/two.npz:b", "a"), FIELD + 1)
    np.testing.assert_array_equal(read_field(f"{tmp_path}/one.npz", "a"), FIELD)


def test_hdf5_in_groups_and_without_coordinates(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["group/a"] = FIELD
        file["x"] = np.arange(3.0)
        file["x"].make_scale("x")
    np.testing.assert_array_equal(read_field(str(path), "a"), FIELD)  # the coordinate x is not meant
    np.testing.assert_array_equal(read_field(f"{path}:group/a", "a"), FIELD)
    np.testing.assert_array_equal(read_field(f"{path}:/group/a", "a"), FIELD)
    np.testing.assert_array_equal(read_field(f"{path}:x", "a"), np.arange(3.0))


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_netcdf(tmp_path, engine):
    dataset = xarray.Dataset({"a": (["x", "y"], FIELD), "b": (["x"], FIELD[:, 0])}, {"x": [0.0, 1.0, 2.0]})
    dataset.to_netcdf(tmp_path / "a.nc", engine=engine)
    np.testing.assert_array_equal(read_field(f"{tmp_path}/a.nc:a", "a"), FIELD)


def test_torch(tmp_path):
    torch.save(torch.from_numpy(FIELD).requires_grad_(), tmp_path / "a.pt")
    torch.save({"x": torch.from_numpy(FIELD > 1), "y": torch.from_numpy(FIELD).float().T}, tmp_path / "b.pt")
    torch.save({"x": torch.tensor(3.0), "epoch": 3}, tmp_path / "c.pth")
    np.testing.assert_array_equal(read_field(f"{tmp_path}/a.pt", "a"), FIELD)
    np.testing.assert_array_equal(read_field(f"{tmp_path}/b.pt:y", "a"), FIELD.astype(np.float32).T)
    np.testing.assert_array_equal(read_mask(f"{tmp_path}/b.pt:x", "a"), FIELD > 1)
    assert read_field(f"{tmp_path}/c.pth", "a").shape == ()


def test_a_name_with_a_colon_and_an_ending_in_it(tmp_path):
    folder = tmp_path / "run.h5:2"
    folder.mkdir()
    np.save(folder / "a.npy", FIELD)
    np.testing.assert_array_equal(read_field(str(folder / "a.npy"), "a"), FIELD)


def test_masks_must_be_boolean(tmp_path):
    np.save(tmp_path / "a.npy", FIELD > 1.5)
    np.save(tmp_path / "b.npy", FIELD)
    np.testing.assert_array_equal(read_mask(f"{tmp_path}/a.npy", "solid"), FIELD > 1.5)
    refused("solid dtype float64 bool", read_mask, f"{tmp_path}/b.npy", "solid")


# --- what is refused ---


def test_an_empty_name():
    field_refused("", "name file")


@pytest.mark.parametrize("version", [b"CDF\x01", b"CDF\x02", b"CDF\x05"])
@pytest.mark.parametrize("ending", ["nc", "h5"])
def test_netcdf_of_the_older_format(tmp_path, version, ending):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(version + bytes(60))
    field_refused(str(path), "netCDF-3", "netCDF-4", "nc4")


def test_missing_and_unknown(tmp_path):
    field_refused(f"{tmp_path}/none.npy", "file", "none.npy")
    field_refused(f"{tmp_path}/none.h5:a", "file", "none.h5")
    field_refused("x" * 5000, "file")
    field_refused(str(tmp_path), "file")
    (tmp_path / "a.csv").write_text("1,2")
    field_refused(f"{tmp_path}/a.csv", "a.csv", ".npy")
    field_refused("inf", "finite")
    field_refused("nan", "finite")


@pytest.mark.parametrize("ending", ["npy", "npz", "h5", "nc", "pt"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\x80\x04"])
def test_garbage(tmp_path, ending, content):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(content)
    field_refused(str(path), f"a.{ending}")


def write_all(folder: Path) -> list[Path]:
    big = np.random.default_rng(0).standard_normal((40, 50))
    np.save(folder / "a.npy", big)
    np.savez(folder / "a.npz", a=big)
    torch.save(torch.from_numpy(big), folder / "a.pt")
    with h5py.File(folder / "a.h5", "w") as file:
        file["a"] = big
    return sorted(folder.iterdir())


def test_truncated(tmp_path):
    for path in write_all(tmp_path):
        whole = path.read_bytes()
        for part in (0.99, 0.5, 0.05):
            path.write_bytes(whole[: int(part * len(whole))])
            field_refused(str(path), path.name)


def test_unknown_names_list_what_is_there(tmp_path):
    np.savez(tmp_path / "a.npz", first=FIELD, second=FIELD)
    torch.save({"first": torch.ones(2), "second": torch.ones(2)}, tmp_path / "a.pt")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["first"] = file["second"] = FIELD
    for name in ("a.npz", "a.pt", "a.h5"):
        field_refused(f"{tmp_path}/{name}:third", "'third'", "first")
        field_refused(f"{tmp_path}/{name}", "several", "first")
    np.save(tmp_path / "a.npy", FIELD)
    torch.save(torch.ones(2), tmp_path / "b.pt")
    field_refused(f"{tmp_path}/a.npy:a", "':a'")
    field_refused(f"{tmp_path}/b.pt:a", "':a'")


@pytest.mark.parametrize("value", [np.arange(4), FIELD > 1, FIELD.astype("f2"), FIELD + 1j, np.array(["a"])])
def test_wrong_dtypes(tmp_path, value):
    np.save(tmp_path / "a.npy", value)
    np.savez(tmp_path / "a.npz", a=value)
    field_refused(f"{tmp_path}/a.npy", str(value.dtype))
    field_refused(f"{tmp_path}/a.npz:a", str(value.dtype))
    if value.dtype.kind != "U":
        torch.save(torch.from_numpy(value), tmp_path / "a.pt")
        field_refused(f"{tmp_path}/a.pt", str(torch.from_numpy(value).dtype).removeprefix("torch."))
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["a"] = value
        field_refused(f"{tmp_path}/a.h5", str(value.dtype))


@pytest.mark.filterwarnings("ignore:Stored array in format 3.0")
def test_structured_and_text_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3, dtype=[("x", "f8")]))
    np.save(tmp_path / "b.npy", np.zeros(3, dtype=[("π", "f8")]))  # header version 3
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = "text"
    field_refused(f"{tmp_path}/a.npy", "numbers")
    field_refused(f"{tmp_path}/b.npy", "structured")
    field_refused(f"{tmp_path}/a.h5", "object")


def test_other_tensors(tmp_path, recwarn):
    for name, value in {"sparse": torch.eye(3).to_sparse(), "half": torch.ones(2).bfloat16(), "list": [1, 2]}.items():
        torch.save(value, tmp_path / f"{name}.pt")
        field_refused(f"{tmp_path}/{name}.pt", name.replace("half", "bfloat16"))
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    field_refused(f"{tmp_path}/none.pt", "array")
    assert not recwarn.list


# --- hostile files ---


def test_pickles_are_never_executed(tmp_path):
    trap = tmp_path / "trap"
    torch.save({"x": Trap(trap)}, tmp_path / "a.pt")
    torch.save(Trap(trap), tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Trap(trap)))
    np.save(tmp_path / "a.npy", np.array([Trap(trap)], dtype=object), allow_pickle=True)
    (tmp_path / "raw.npy").write_bytes(pickle.dumps(Trap(trap)))
    np.savez(tmp_path / "a.npz", a=np.array([Trap(trap)], dtype=object))
    field_refused(f"{tmp_path}/a.pt", "loaded")
    field_refused(f"{tmp_path}/a.pt:x", "loaded")
    field_refused(f"{tmp_path}/legacy.pt", "torch.save")
    field_refused(f"{tmp_path}/raw.pt", "torch.save")
    field_refused(f"{tmp_path}/a.npy", "loaded")
    field_refused(f"{tmp_path}/raw.npy", "read")
    field_refused(f"{tmp_path}/a.npz:a", "loaded")
    assert not trap.exists()
    pickle.loads(pickle.dumps(Trap(trap)))  # the trap works
    assert trap.exists()


def test_declared_sizes_are_checked_before_reading(tmp_path, monkeypatch):
    """With 100 kB of memory nothing larger is read; the files themselves are small or honest about their size."""
    with h5py.File(tmp_path / "sparse.h5", "w") as file:  # 8 MB declared, nothing stored
        file.create_dataset("a", (1000, 1000), dtype="f8", chunks=(10, 10))
    np.save(tmp_path / "large.npy", np.zeros((200, 200)))
    np.savez_compressed(tmp_path / "large.npz", a=np.zeros((200, 200)))
    torch.save(torch.zeros(200, 200), tmp_path / "large.pt")
    torch.save(torch.zeros(1).expand(10**6, 10**6), tmp_path / "stretched.pt")  # 4 TB of shape over 4 bytes of storage
    field_refused(f"{tmp_path}/stretched.pt", "GiB memory")
    monkeypatch.setattr("sciml_bounds.memory.available_memory", lambda: 100_000)
    for name in ("sparse.h5", "large.npy", "large.npz", "large.pt"):
        field_refused(f"{tmp_path}/{name}", "GiB memory")


def test_a_header_that_declares_more_than_the_file_holds(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((30, 40)))
    path.write_bytes(re.sub(rb"\(30, 40\), }    ", b"(3000, 4000), }", path.read_bytes()))
    field_refused(str(path), "truncated")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.write(path, "a.npy")
    field_refused(f"{tmp_path}/a.npz", "truncated")


def test_links_in_hdf5(tmp_path):
    outside = tmp_path / "outside.h5"
    with h5py.File(outside, "w") as file:
        file["secret"] = FIELD
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["plain"] = FIELD
        file["external"] = h5py.ExternalLink(str(outside), "/secret")
        file["folder"] = h5py.ExternalLink(str(outside), "/")
        file["soft"] = h5py.SoftLink("/external")
    field_refused(f"{path}:external", "link")
    field_refused(f"{path}:soft", "link")
    field_refused(f"{path}:folder/secret", "array")
    np.testing.assert_array_equal(read_field(str(path), "a"), FIELD)


def test_external_storage_in_hdf5(tmp_path):
    (tmp_path / "raw").write_bytes(FIELD.tobytes())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", FIELD.shape, dtype="f8", external=[(str(tmp_path / "raw"), 0, FIELD.nbytes)])
    field_refused(f"{tmp_path}/a.h5", "another")


def virtual(path: Path, source: str, name: str = "a") -> str:
    layout = h5py.VirtualLayout(shape=FIELD.shape, dtype="f8")
    layout[:] = h5py.VirtualSource(source, name, shape=FIELD.shape)
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset("v", layout)
    return f"{path}:v"


def test_virtual_sources_in_hdf5(tmp_path):
    """Plain sources in the same file or folder are read; others, and what would lead on to others, are not."""
    inside, outside = tmp_path / "inside", tmp_path / "outside.h5"
    inside.mkdir()
    (tmp_path / "raw").write_bytes(FIELD.tobytes())
    for path in (outside, inside / "plain.h5", inside / "own.h5"):
        with h5py.File(path, "w") as file:
            file["a"] = FIELD
    with h5py.File(inside / "storage.h5", "w") as file:
        file.create_dataset("a", FIELD.shape, dtype="f8", external=[(str(tmp_path / "raw"), 0, FIELD.nbytes)])
    with h5py.File(inside / "link.h5", "w") as file:
        file["a"] = h5py.ExternalLink(str(outside), "/a")
    (inside / "symlink.h5").symlink_to(outside)
    np.testing.assert_array_equal(read_array(virtual(inside / "own.h5", "."), "a"), FIELD)
    np.testing.assert_array_equal(read_array(virtual(inside / "v1.h5", "plain.h5"), "a"), FIELD)
    field_refused(virtual(inside / "v2.h5", str(outside)), "virtual")
    field_refused(virtual(inside / "v3.h5", "../outside.h5"), "virtual")
    field_refused(virtual(inside / "v4.h5", "symlink.h5"), "virtual")
    field_refused(virtual(inside / "v5.h5", "v2.h5", "v"), "virtual")
    field_refused(virtual(inside / "virtual.h5", "v1.h5", "v"), "virtual")  # one step only, or it might not end:
    field_refused(virtual(inside / "loop.h5", ".", "v"), "virtual")
    field_refused(virtual(inside / "v6.h5", "storage.h5"), "another")
    field_refused(virtual(inside / "v7.h5", "link.h5"), "link")
