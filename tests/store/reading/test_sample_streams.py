from __future__ import annotations

import tracemalloc
from collections import deque

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from refusals import refused

from sciml_bounds.store.reading import sample_streams
from sciml_bounds.store.reading.sample_streams import _regroup, stream_samples

FIELD = np.random.default_rng(0).standard_normal((7, 3, 4))


def write_npy(path) -> str:
    np.save(path, FIELD)
    return ""


def write_npz(path) -> str:
    np.savez_compressed(path, a=FIELD)
    return "a"


def write_hdf5(path) -> str:
    with h5py.File(path, "w") as file:
        file.create_dataset("g/a", data=FIELD, chunks=(3, 2, 4), compression="gzip")
    return "g/a"


def write_mat(path) -> str:
    scipy.io.savemat(path, {"a": FIELD})
    return "a"


def write_torch(path) -> str:
    torch.save({"a": torch.from_numpy(FIELD.transpose(2, 1, 0).copy()).permute(2, 1, 0)}, path)
    return "a"


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.npy", write_npy), ("a.npz", write_npz), ("a.h5", write_hdf5), ("a.mat", write_mat), ("a.pt", write_torch)],
    ids=["npy", "npz", "hdf5", "mat", "torch"],
)
def test_every_format_gives_its_samples_in_order(tmp_path, name, write):
    inside = write(tmp_path / name)
    samples = list(stream_samples(tmp_path / name, inside, "the field"))
    np.testing.assert_array_equal(samples, FIELD)


def test_one_number_a_sample(tmp_path):
    np.save(tmp_path / "a.npy", FIELD[:, 0, 0])
    assert [float(one) for one in stream_samples(tmp_path / "a.npy", "", "it")] == FIELD[:, 0, 0].tolist()


def test_booleans_are_true_or_false(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[0, 1], [2, 255]], np.uint8).view(bool))
    samples = [one.view(np.uint8).tolist() for one in stream_samples(tmp_path / "a.npy", "", "it")]
    assert samples == [[0, 1], [1, 1]]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 24])
@pytest.mark.parametrize("lengths", [(24,), (1,) * 24, (5, 7, 0, 12), (23, 1), (1, 23)])
def test_pieces_of_any_size_are_cut_anew(size, lengths):
    numbers, cuts = np.arange(24), np.cumsum(lengths)[:-1]
    groups = list(_regroup(iter(np.split(numbers, cuts)), size))
    np.testing.assert_array_equal(groups, numbers[: 24 // size * size].reshape(-1, size))


def test_memory_does_not_grow_with_the_file(tmp_path):
    array = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", "f8", (400, 2**17))  # 400 MiB, a hole in the file
    array[-1, -1] = 1.0
    array.flush()
    tracemalloc.start()
    (last,) = deque(stream_samples(tmp_path / "a.npy", "", "it"), maxlen=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert last[-1] == 1.0
    assert peak < 100 * 2**20


def test_matlab_arrays_that_do_not_fit_are_read_sample_by_sample(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        file["a"] = FIELD.T
        file["a"].attrs["MATLAB_class"] = np.bytes_("double")
    with (tmp_path / "a.mat").open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    monkeypatch.setattr(sample_streams, "available_memory", lambda: 1000)
    np.testing.assert_array_equal(list(stream_samples(tmp_path / "a.mat", "a", "it")), FIELD)


@pytest.mark.parametrize(
    "values",
    [np.array(["a"]), np.float64(1.0), np.empty((0, 3)), np.ones((2, 3), complex)],
    ids=["text", "number", "empty", "complex"],
)
def test_what_has_no_samples_of_real_numbers(tmp_path, values):
    np.save(tmp_path / "a.npy", values)
    refused("samples numbers", lambda: next(stream_samples(tmp_path / "a.npy", "", "it")))


def test_a_closed_stream_leaves_its_file(tmp_path):
    write_hdf5(tmp_path / "a.h5")
    stream = stream_samples(tmp_path / "a.h5", "g/a", "it")
    next(stream)
    stream.close()
    with pytest.raises(StopIteration):
        next(stream)
