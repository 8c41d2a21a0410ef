"""Files of data sets: written in pieces, opened by others, and one sentence for what cannot be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import xarray
from refusals import refused

import sciml_bounds as sb
from sciml_bounds.errors import InputError
from sciml_bounds.store.datasets.dataset_files import DatasetHeader, is_whole, join, open_dataset, writing_dataset


def variable(*dims: str, dtype: str = "float32") -> SimpleNamespace:
    return SimpleNamespace(dims=dims, long_name=" ".join(("field", *dims)), units="m", dtype=dtype)


HEADER = DatasetHeader(
    recipe="fake",
    title="A fake",
    description="Numbers.",
    reference="none",
    parameters={"scale": 2.0, "nested": [1, {"a": None}]},
    seed=7,
    resolution=4,
    device="cpu",
    samples=20,
    inputs=("coefficient",),
    targets=("solution", "velocity"),
    layout="cells->nodes",
    coordinates={"x": ((np.arange(4) + 0.5) / 4, "m")},
    variables={
        "coefficient": variable("x", "y"),
        "solution": variable("x_node", "y_node", dtype="float64"),
        "velocity": variable("time", "x", "y"),
        "label_error": variable(dtype="float64"),
    },
    lengths={"x": 4, "y": 3, "x_node": 5, "y_node": 4, "time": 6},
)


def numbers(first: int, last: int) -> dict[str, np.ndarray]:
    draws = [np.random.default_rng(i) for i in range(first, last)]
    return {
        name: np.stack([draw.standard_normal(HEADER.shape(name)) for draw in draws]).astype(v.dtype)
        for name, v in HEADER.variables.items()
    }


def write(path, samples: range = range(10, 20), header: DatasetHeader = HEADER) -> None:
    with writing_dataset(path, header, samples) as writer:
        for first in range(samples.start, samples.stop, 3):
            writer.write(first, numbers(first, min(first + 3, samples.stop)))


@pytest.mark.parametrize("engine", ["ours", "h5netcdf", "netcdf4"])
def test_what_is_written_in_pieces_is_read_back(tmp_path, engine):
    path = tmp_path / "a.nc"
    write(path)
    with open_dataset(path) if engine == "ours" else xarray.open_dataset(path, engine=engine) as data:
        assert data.sample.values.tolist() == list(range(10, 20))
        assert data.split.values.tolist() == [0] * 8 + [1, 2]
        assert data.split.attrs["flag_meanings"] == "train validation test"
        for name, expected in numbers(10, 20).items():
            assert data[name].dtype == expected.dtype
            assert data[name].dims == ("sample", *HEADER.variables[name].dims)
            assert (data[name].values == expected).all()
            assert data[name].attrs["units"] == "m"
        assert data.x.values.tolist() == [0.125, 0.375, 0.625, 0.875]
        assert json.loads(data.attrs["parameters"]) == HEADER.parameters
        expected = {"recipe": "fake", "seed": 7, "resolution": 4, "samples": 20, "content": "Dataset"}
        assert {name: data.attrs[name] for name in expected} == expected
        assert list(data.attrs["targets"]) == ["solution", "velocity"]
        if engine == "ours":
            assert data.attrs["inputs"] == ["coefficient"]
    assert sb.data.read(path)["solution"].shape == (10, 5, 4)  # compares all of it with the checksum
    assert os.listdir(tmp_path) == ["a.nc"]


def test_nothing_is_read_before_it_is_used(tmp_path):
    write(tmp_path / "a.nc")
    with h5py.File(tmp_path / "a.nc", "r+") as file:
        file["solution"].id.write_direct_chunk((3, 0, 0), b"broken")
    with open_dataset(tmp_path / "a.nc") as data:
        assert np.isfinite(data.solution.isel(sample=2).values).all()
        with pytest.raises(OSError, match="filter"):
            _ = data.solution.isel(sample=3).values
    with pytest.raises(InputError):
        sb.data.read(tmp_path / "a.nc")


def test_one_sample_is_a_chunk_that_is_compressed_and_summed(tmp_path):
    write(tmp_path / "a.nc")
    with h5py.File(tmp_path / "a.nc") as file:
        for name in ("coefficient", "solution", "velocity"):
            array = file[name]
            assert array.chunks == (1, *array.shape[1:])
            assert (array.compression, array.shuffle, array.fletcher32) == ("gzip", True, True)


def test_frames_of_large_samples_are_chunks(tmp_path):
    variables = {"velocity": variable("time", "x", "y"), "solution": variable("x", "y")}
    lengths = {"time": 5, "x": 512, "y": 256}
    header = replace(HEADER, inputs=("solution",), targets=("velocity",), variables=variables, lengths=lengths)
    header = replace(header, coordinates={})
    arrays = {name: np.zeros((1, *header.shape(name)), np.float32) for name in variables}
    with writing_dataset(tmp_path / "a.nc", header, range(1)) as writer:
        writer.write(0, arrays)
    with h5py.File(tmp_path / "a.nc") as file:
        assert file["velocity"].chunks == (1, 2, 512, 256)  # two frames are 1 MiB
        assert file["solution"].chunks == (1, 512, 256)


def test_a_header_is_read_as_it_was_written(tmp_path):
    from contextlib import ExitStack

    from sciml_bounds.store.reading.readers import open_file

    write(tmp_path / "a.nc")
    with ExitStack() as files:
        header = DatasetHeader.of(open_file(tmp_path / "a.nc", "it", files))
    assert header.identity() == HEADER.identity()
    assert dict(header.lengths) == HEADER.lengths
    assert (header.samples, header.targets, header.layout) == (20, ("solution", "velocity"), "cells->nodes")
    positions, units = header.coordinates["x"]
    assert (positions.tolist(), units) == ([0.125, 0.375, 0.625, 0.875], "m")


@pytest.mark.parametrize("same", [True, False], ids=["chunks as they are", "compressed anew"])
def test_joined_pieces_are_the_whole(tmp_path, same):
    ranges = [range(8, 12), range(12, 16), range(16, 20)]
    for samples in ranges:
        path = tmp_path / f"{samples.start}.nc"
        write(path, samples)
        if not same:  # a file whose chunks are others
            with h5py.File(path, "r+") as file:
                values = file["solution"][:]
                del file["solution"]
                file.create_dataset("solution", data=values, chunks=(2, 5, 4))
    told: list[int] = []
    sources = [(tmp_path / f"{samples.start}.nc", samples) for samples in ranges]
    join(sources, tmp_path / "out.nc", HEADER, range(8, 19), on_progress=told.append)  # the last sample is cut off
    assert told == [4, 8, 11]
    write(tmp_path / "once.nc", range(8, 19))
    with open_dataset(tmp_path / "out.nc") as joined, open_dataset(tmp_path / "once.nc") as once:
        assert joined.drop_attrs().identical(once.drop_attrs())
    assert is_whole(tmp_path / "out.nc", range(8, 19))


def test_what_is_whole(tmp_path):
    path = tmp_path / "a.nc"
    assert not is_whole(path, range(10, 20))
    write(path)
    assert is_whole(path, range(10, 20))
    assert not is_whole(path, range(10, 19))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert not is_whole(path, range(10, 20))
    path.write_bytes(content)
    with h5py.File(path, "r+") as file:
        file["label_error"][3] = 0.0
    assert not is_whole(path, range(10, 20))


def test_samples_that_were_forgotten_are_our_bug(tmp_path):
    def forgetful() -> None:
        with writing_dataset(tmp_path / "a.nc", HEADER, range(10, 20)) as writer:
            writer.write(10, numbers(10, 19))

    with pytest.raises(RuntimeError, match="'solution': 1"):
        forgetful()
    assert os.listdir(tmp_path) == []


FULL = """
import os, resource, sys
sys.path[:0] = {path!r}
import numpy as np
from test_dataset_files import HEADER
from sciml_bounds.store.datasets.dataset_files import writing_dataset
from sciml_bounds.errors import InputError
from dataclasses import replace
header = replace(HEADER, lengths=HEADER.lengths | {{"x": 4, "y": 3000}})
noise = np.random.default_rng(0)
def write():
    with writing_dataset({target!r}, header, range(20)) as writer:
        for i in range(20):
            names = header.variables
            arrays = {{n: noise.standard_normal((1, *header.shape(n))).astype(v.dtype) for n, v in names.items()}}
            writer.write(i, arrays)
for limit in {limits!r}:
    if not (child := os.fork()):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            write()
        except InputError as error:
            print(error)
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.slow
def test_a_disk_that_takes_no_more(tmp_path):
    """A limit on the size of files does to a process what a full disk does: the old file stays, and nothing else."""
    target = tmp_path / "a.nc"
    target.write_text("old")
    limits = [0, 1000, 10_000, 20_000, 50_000, 100_000, 500_000, 1_000_000]
    path = [os.path.dirname(__file__), *sys.path]
    code = FULL.format(path=path, limits=limits, target=str(target))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    sentence = f"{target} cannot be written: File too large; free some space or choose another folder."
    assert done.stdout.splitlines() == [sentence, "0"] * len(limits)  # and no crash of a library that cannot close
    assert os.listdir(tmp_path) == ["a.nc"]
    assert target.read_text() == "old"


# --- bad input --------------------------------------------------------------------------------------------------------


def test_files_of_others(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["tensor"] = np.zeros((3, 4))
    for name in ("a.npy", "a.h5"):
        refused(f"data {name} package import", open_dataset, tmp_path / name)
    refused("file", open_dataset, tmp_path / "none.nc")
    (tmp_path / "b.nc").write_bytes(b"\x89HDF\r\n\x1a\n" + b"x" * 100)
    refused("file", open_dataset, tmp_path / "b.nc")


def test_other_files_of_ours(tmp_path):
    sb.data.write(sb.solve(sb.Diffusion(sb.Grid((4, 4)), source=1.0)), tmp_path / "u.nc")
    refused("Solution data", open_dataset, tmp_path / "u.nc")
    sb.data.write(xarray.Dataset({"u": ("x", np.zeros(3))}), tmp_path / "v.nc")
    refused("fields recipe", open_dataset, tmp_path / "v.nc")


def test_files_that_were_changed(tmp_path):
    path = tmp_path / "a.nc"
    write(path)
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = "7.0"
    refused("7.0 version", open_dataset, path)
    write(path)
    with h5py.File(path, "r+") as file:
        del file["solution"]
    refused("variable 'solution'", open_dataset, path)
    write(path)
    with h5py.File(path, "r+") as file:
        file["other"] = h5py.ExternalLink("/etc/passwd", "x")
    refused("link", open_dataset, path)
    write(path)
    with h5py.File(path, "r+") as file:  # what only xarray looks at
        file["label_error"].attrs["units"] = "days since nonsense"
    refused("data", open_dataset, path)
    write(path)
    path.write_bytes(path.read_bytes()[:5000])
    refused("damaged", open_dataset, path)


def test_targets_are_checked_before_the_work(tmp_path):
    for name, words in (("a.csv", "extension"), ("none/a.nc", "folder")):
        refused(words, write, tmp_path / name)
