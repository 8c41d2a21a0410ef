"""Data sets as torch takes them: every item is what the file holds, in any process."""

from __future__ import annotations

import pickle
from dataclasses import replace
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from refusals import refused
from torch.utils.data import DataLoader

from sciml_bounds.errors import InputError
from sciml_bounds.store.datasets import torch_dataset
from sciml_bounds.store.datasets.dataset_files import DatasetHeader, open_dataset, writing_dataset
from sciml_bounds.store.datasets.torch_dataset import TorchDataset


def variable(*dims: str, dtype: str = "float64") -> SimpleNamespace:
    return SimpleNamespace(dims=dims, long_name=" ".join(dims), units="1", dtype=dtype)


STEADY = DatasetHeader(
    recipe="darcy",
    title="",
    description="",
    reference="",
    parameters={"contrast": 4},
    seed=5,
    resolution=6,
    device="cpu",
    samples=30,
    inputs=("coefficient", "source"),
    targets=("solution",),
    layout="cells->nodes",
    coordinates={},
    variables={
        "coefficient": variable("x", "y", dtype="float32"),
        "source": variable("x", "y"),
        "solution": variable("x_node", "y_node"),
        "label_error": variable(),
    },
    lengths={"x": 6, "y": 4, "x_node": 7, "y_node": 5},
)
TIMED = replace(
    STEADY,
    recipe="flow",
    inputs=("vorticity",),
    targets=("vorticity",),
    layout="time",
    variables={"vorticity": variable("time", "x", "y", dtype="float32")},
    lengths={"time": 4, "x": 6, "y": 6},
)


def numbers(header: DatasetHeader, count: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {
        name: draw.standard_normal((count, *header.shape(name))).astype(v.dtype) for name, v in header.variables.items()
    }


def write(path, header: DatasetHeader, arrays: dict[str, np.ndarray]):
    count = len(next(iter(arrays.values())))
    with writing_dataset(path, header, range(count)) as writer:
        writer.write(0, arrays)
    return path


@pytest.fixture(scope="module")
def steady(tmp_path_factory):
    arrays = numbers(STEADY, 30)
    return write(tmp_path_factory.mktemp("steady") / "a.nc", STEADY, arrays), arrays


@pytest.fixture(scope="module")
def timed(tmp_path_factory):
    arrays = numbers(TIMED, 20)
    return write(tmp_path_factory.mktemp("timed") / "a.nc", TIMED, arrays), arrays


def same(tensor: torch.Tensor, array: np.ndarray) -> bool:
    return tensor.dtype == torch.float32 and np.array_equal(tensor.numpy(), array.astype(np.float32))


# --- items ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_memory", [False, True], ids=["lazy", "in memory"])
def test_items_are_what_the_file_holds(steady, in_memory):
    path, arrays = steady
    validation = TorchDataset(path, "validation", in_memory=in_memory)
    assert len(validation) == 3
    assert validation.samples.tolist() == validation.trajectories.tolist() == [8, 18, 28]
    for item, sample in enumerate([8, 18, 28]):
        x, y = validation[item]
        assert same(x, np.stack([arrays["coefficient"][sample], arrays["source"][sample]]))
        assert same(y, arrays["solution"][sample][None])
    assert same(validation[-1][1], arrays["solution"][28][None])
    assert len(list(validation)) == 3  # which ends with an IndexError
    with pytest.raises(IndexError):
        validation[-4]


def test_splits_are_disjoint_and_cover_all(steady):
    path, _ = steady
    splits = {name: TorchDataset(path, name).samples.tolist() for name in ("train", "validation", "test", "all")}
    assert sorted(splits["train"] + splits["validation"] + splits["test"]) == splits["all"] == list(range(30))
    assert len(splits["train"]) == 24
    assert TorchDataset(path).samples.tolist() == splits["train"]
    assert TorchDataset(path, limit=5).samples.tolist() == splits["train"][:5]


def test_what_it_knows_about_itself(steady):
    data = TorchDataset(steady[0], "test")
    assert (data.recipe, data.seed, data.resolution, data.layout) == ("darcy", 5, 6, "cells->nodes")
    assert (data.inputs, data.targets, data.parameters) == (("coefficient", "source"), ("solution",), {"contrast": 4})
    assert (data.split, data.subsample, data.pairs) == ("test", 1, False)
    assert (data.label_error.numpy() == steady[1]["label_error"][9::10]).all()
    assert data.label_error.dtype == torch.float64


def test_other_channels_and_dtypes(steady):
    path, arrays = steady
    data = TorchDataset(path, "all", inputs=["source"], targets=["coefficient", "source"], dtype=torch.float64)
    x, y = data[4]
    assert np.array_equal(x.numpy(), arrays["source"][4][None])
    assert np.array_equal(y.numpy(), np.stack([arrays["coefficient"][4], arrays["source"][4]]))


# --- coarser grids ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_memory", [False, True], ids=["lazy", "in memory"])
def test_coarser_grids(steady, in_memory):
    """Nodes that stay keep their values; a coarse cell has the mean of its parts, so that integrals are kept."""
    path, arrays = steady
    x, y = TorchDataset(path, "all", subsample=2, in_memory=in_memory, dtype=torch.float64)[11]
    assert np.array_equal(y.numpy(), arrays["solution"][11][None, ::2, ::2])
    source = arrays["source"][11]
    parts = source[::2, ::2] + source[1::2, ::2] + source[::2, 1::2] + source[1::2, 1::2]
    assert x.shape == (2, 3, 2)
    assert x[1].numpy() == pytest.approx(parts / 4, rel=1e-14)


def test_constants_stay_constants_on_coarser_grids(tmp_path):
    header = replace(STEADY, lengths={"x": 12, "y": 6, "x_node": 13, "y_node": 7})
    path = write(tmp_path / "a.nc", header, {name: np.ones_like(a) for name, a in numbers(header, 1).items()})
    for k in (1, 2, 3, 6):
        x, y = TorchDataset(path, "all", subsample=k)[0]
        assert (x == 1).all()
        assert (y == 1).all()
        assert (x.shape, y.shape) == ((2, 12 // k, 6 // k), (1, 12 // k + 1, 6 // k + 1))


def test_periodic_grids_keep_every_second_point(timed):
    path, arrays = timed
    x, y = TorchDataset(path, "all", subsample=3)[1]
    assert same(x, arrays["vorticity"][0, 1:2, ::3, ::3])
    assert same(y, arrays["vorticity"][0, 2:3, ::3, ::3])


def test_steady_periodic_grids_keep_every_second_point(tmp_path):
    """Points of a periodic grid are no cells, whose mean would damp short waves."""
    header = replace(
        STEADY,
        parameters={"boundary": "periodic"},
        inputs=("initial",),
        layout="same",
        variables={name: variable("x") for name in ("initial", "solution")},
        lengths={"x": 12},
    )
    arrays = numbers(header, 2)
    x, y = TorchDataset(write(tmp_path / "a.nc", header, arrays), "all", subsample=4)[1]
    assert same(x, arrays["initial"][1][None, ::4])
    assert same(y, arrays["solution"][1][None, ::4])


def test_meshes_have_both_ends(tmp_path):
    header = replace(
        STEADY,
        inputs=("mesh_x", "mesh_y"),
        targets=("velocity",),
        layout="nodes->nodes",
        variables={name: variable("i", "j") for name in ("mesh_x", "mesh_y", "velocity")},
        lengths={"i": 9, "j": 5},
    )
    arrays = numbers(header, 2)
    x, y = TorchDataset(write(tmp_path / "a.nc", header, arrays), "all", subsample=4)[1]
    assert same(x, np.stack([arrays["mesh_x"][1], arrays["mesh_y"][1]])[:, ::4, ::4])
    assert same(y, arrays["velocity"][1][None, ::4, ::4])


def test_a_coarser_grid_loses_the_label_error_and_says_so(steady):
    data = TorchDataset(steady[0], subsample=2)
    refused("label_error grid 2 times", lambda: data.label_error)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_labels_in_half_precision_lose_the_label_error_and_say_so(steady, dtype):
    """Rounding to half precision alone may be more than the bound."""
    data = TorchDataset(steady[0], dtype=dtype)
    refused(f"label_error labels {dtype} dtype=", lambda: data.label_error)
    for exact in (torch.float32, torch.float64):
        assert len(TorchDataset(steady[0], dtype=exact).label_error) == 24


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_memory", [False, True], ids=["lazy", "in memory"])
def test_pairs_of_frames(timed, in_memory):
    path, arrays = timed
    data = TorchDataset(path, "test", in_memory=in_memory)
    assert data.pairs
    assert len(data) == 2 * 3
    assert data.trajectories.tolist() == [9, 9, 9, 19, 19, 19]
    assert data.samples.tolist() == [9, 19]
    for item in range(6):
        x, y = data[item]
        trajectory, frame = arrays["vorticity"][[9, 19][item // 3]], item % 3
        assert same(x, trajectory[frame : frame + 1])
        assert same(y, trajectory[frame + 1 : frame + 2])
    assert len(TorchDataset(path, "test", limit=1)) == 3


@pytest.mark.parametrize("in_memory", [False, True], ids=["lazy", "in memory"])
def test_all_frames_as_channels(timed, in_memory):
    path, arrays = timed
    data = TorchDataset(path, "test", pairs=False, in_memory=in_memory)
    assert len(data) == 2
    x, y = data[1]
    assert same(x, arrays["vorticity"][19])
    assert torch.equal(x, y)


def test_what_does_not_change_goes_with_every_frame(tmp_path):
    header = replace(
        TIMED,
        inputs=("vorticity", "force"),
        variables=dict(TIMED.variables) | {"force": variable("x", "y")},
    )
    arrays = numbers(header, 2)
    path = write(tmp_path / "a.nc", header, arrays)
    x, y = TorchDataset(path, "all")[4]
    assert same(x, np.stack([arrays["vorticity"][1, 1], arrays["force"][1]]))
    assert same(y, arrays["vorticity"][1, 2:3])
    x, _ = TorchDataset(path, "all", pairs=False)[1]
    assert same(x, np.concatenate([arrays["vorticity"][1], arrays["force"][1:2]]))


# --- processes --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("in_memory", [False, True], ids=["lazy", "in memory"])
def test_workers_of_a_loader(steady, context, in_memory):
    path, arrays = steady
    data = TorchDataset(path, "all", in_memory=in_memory)
    _ = data[0]  # the file is open here when the workers start
    loader = DataLoader(data, batch_size=4, num_workers=2, multiprocessing_context=context)
    batches = list(loader)
    assert same(torch.cat([y for _, y in batches]), arrays["solution"][:, None])
    assert same(data[29][1], arrays["solution"][29][None])  # and the file here is none the worse


@pytest.mark.parametrize("first", ["xarray", "torch"])
def test_a_file_may_be_open_for_xarray_too(steady, first):
    """HDF5 refuses to open a file twice in a process with different ways of locking."""
    path, arrays = steady
    if first == "xarray":
        with open_dataset(path) as opened:
            assert same(TorchDataset(path)[0][1][0], opened.solution[0].values)
    else:
        data = TorchDataset(path)
        assert same(data[0][1][0], arrays["solution"][0])
        with open_dataset(path) as opened:
            assert np.array_equal(opened.solution[0], arrays["solution"][0])


def test_a_copy_has_no_open_file(steady):
    path, arrays = steady
    data = TorchDataset(path, "all")
    _ = data[0]
    content = pickle.dumps(data)
    assert same(pickle.loads(content)[5][1], arrays["solution"][5][None])


def test_a_file_is_found_from_another_folder(steady, monkeypatch, tmp_path):
    path, arrays = steady
    monkeypatch.chdir(path.parent)
    data = TorchDataset("a.nc", "all")
    monkeypatch.chdir(tmp_path)
    assert same(data[0][1], arrays["solution"][0][None])


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"split": "valid"}, "split 'valid' train validation test"),
        ({"subsample": 0}, "subsample 0 positive integer"),
        ({"subsample": 1.5}, "subsample 1.5"),
        ({"limit": 0}, "limit 0"),
        ({"limit": True}, "limit True"),
        ({"dtype": torch.int32}, "dtype=torch.int32"),
        ({"inputs": ["permeability"]}, "variable 'permeability' samples coefficient"),
        ({"inputs": ["x"]}, "variable 'x' samples"),
        ({"targets": ["label_error"]}, "'label_error' number sample field"),
        ({"inputs": []}, "inputs grid channels"),
        ({"inputs": ["source", "solution"]}, "grid source (6, 4) (7, 5)"),
        ({"subsample": 4}, "6 intervals 'coefficient' x 1 2"),
        ({"recipe": "flow"}, "recipe 'darcy' 'flow' file"),
        ({"pairs": True}, "frames"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "-".join(map(str, value)),
)
def test_options_that_cannot_be(steady, options, words):
    refused(words, lambda: TorchDataset(steady[0], **options))


def test_splits_that_are_empty(tmp_path):
    path = write(tmp_path / "a.nc", STEADY, numbers(STEADY, 5))
    refused("sample test samples 0 4", TorchDataset, path, "test")
    assert len(TorchDataset(path)) == 5


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite(tmp_path, value):
    arrays = numbers(STEADY, 10)
    arrays["solution"][3, 2, 2] = value
    path = write(tmp_path / "a.nc", STEADY, arrays)
    data = TorchDataset(path)
    _ = data[2]
    words = "sample 3 numbers finite 'solution'"
    refused(words, lambda: data[3])
    refused(words, TorchDataset, path, in_memory=True)
    assert len(TorchDataset(path, "test", in_memory=True)) == 1  # which has none of them


def test_files_that_are_damaged_or_replaced(tmp_path):
    path = write(tmp_path / "a.nc", STEADY, numbers(STEADY, 10))
    data = TorchDataset(path)
    with h5py.File(path, "r+") as file:
        file["solution"].id.write_direct_chunk((3, 0, 0), b"broken")
    _ = data[2]
    refused("data file", lambda: data[3])
    data = TorchDataset(path)
    write(path, replace(STEADY, seed=6), numbers(STEADY, 10))
    refused("data", lambda: data[2])


def test_files_that_are_none(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["tensor"] = np.zeros((3, 4))
    refused("data import", TorchDataset, tmp_path / "a.h5")


def test_what_does_not_fit_into_memory(steady, monkeypatch):
    def refuse(size: int, what: str) -> None:
        raise InputError(f"{what} needs {size} bytes.")

    monkeypatch.setattr(torch_dataset, "require_memory", refuse)
    assert len(TorchDataset(steady[0])) == 24
    refused(f"data {24 * (2 * 6 * 4 + 7 * 5) * 4}", lambda: TorchDataset(steady[0], in_memory=True))


def test_no_label_errors(timed):
    refused("label_error labels", lambda: TorchDataset(timed[0]).label_error)
