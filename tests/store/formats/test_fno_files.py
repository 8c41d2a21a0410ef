from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from refusals import refused

from sciml_bounds.store.datasets.dataset_files import open_dataset
from sciml_bounds.store.formats.foreign import import_dataset

RNG = np.random.default_rng(0)
COEFFICIENT = RNG.choice([3.0, 12.0], (11, 5, 5))
SOLUTION = RNG.standard_normal((11, 5, 5))
INITIAL = RNG.standard_normal((3, 4, 6)).astype(np.float32)
FRAMES = RNG.standard_normal((3, 4, 6, 2)).astype(np.float32)


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
def test_navier_stokes_of_the_fno_authors_starts_with_the_initial_frame(tmp_path, version):
    times = np.array([[0.5, 1.0]])
    write_mat(tmp_path / "n.mat", version, a=INITIAL, u=FRAMES, t=times)
    import_dataset(tmp_path / "n.mat", tmp_path / "n.nc")
    with open_dataset(tmp_path / "n.nc") as data:
        assert data["vorticity"].dims == ("sample", "time", "x", "y")
        np.testing.assert_array_equal(data["vorticity"].isel(time=0), INITIAL)
        np.testing.assert_array_equal(data["vorticity"].isel(time=2), FRAMES[..., 1])
        np.testing.assert_array_equal(data["time"], [0, 0.5, 1])
        assert data.attrs["layout"] == "time"


def test_burgers_of_the_fno_authors(tmp_path):
    write_mat(tmp_path / "b.mat", "5", a=INITIAL[0], u=FRAMES[0, ..., 0])
    import_dataset(tmp_path / "b.mat", tmp_path / "b.nc")
    with open_dataset(tmp_path / "b.nc") as data:
        np.testing.assert_array_equal(data["initial"], INITIAL[0])
        np.testing.assert_array_equal(data["solution"], FRAMES[0, ..., 0])
        assert (data.attrs["inputs"], data.attrs["targets"]) == (["initial"], ["solution"])


@pytest.mark.parametrize("contiguous", [True, False])
def test_darcy_flow_of_neuraloperator(tmp_path, contiguous):
    x, y = torch.from_numpy(COEFFICIENT > 5), torch.from_numpy(SOLUTION.astype(np.float32))
    if not contiguous:
        x, y = (torch.zeros(*z.shape[:2], 9, dtype=z.dtype)[..., ::2].copy_(z) for z in (x, y))
    torch.save({"x": x, "y": y}, tmp_path / "d.pt")
    import_dataset(tmp_path / "d.pt", tmp_path / "d.nc")
    with open_dataset(tmp_path / "d.nc") as data:
        np.testing.assert_array_equal(data["phase"], COEFFICIENT > 5)  # which material, not what it is
        np.testing.assert_array_equal(data["solution"], SOLUTION.astype(np.float32))
        assert data["phase"].dtype == np.float32


def test_a_coefficient_of_neuraloperator(tmp_path):
    torch.save({"x": torch.from_numpy(COEFFICIENT), "y": torch.from_numpy(SOLUTION)}, tmp_path / "d.pt")
    import_dataset(tmp_path / "d.pt", tmp_path / "d.nc")
    with open_dataset(tmp_path / "d.nc") as data:
        np.testing.assert_array_equal(data["coefficient"], COEFFICIENT)


def test_forced_flows_of_neuraloperator_are_not_taken_for_darcy_flow(tmp_path):
    """Its Navier-Stokes files have the same names: x is a forcing there, with both signs."""
    torch.save({"x": torch.from_numpy(-COEFFICIENT), "y": torch.from_numpy(SOLUTION)}, tmp_path / "d.pt")
    refused("x negative values coefficient Darcy", import_dataset, tmp_path / "d.pt", tmp_path / "d.nc")
    assert [path.name for path in tmp_path.iterdir()] == ["d.pt"]


def test_burgers_of_neuraloperator(tmp_path):
    frames = torch.from_numpy(SOLUTION)
    torch.save({"input": frames[:, 0], "output": frames, "visc": torch.tensor([[0.01]])}, tmp_path / "b.pt")
    import_dataset(tmp_path / "b.pt", tmp_path / "b.nc")
    with open_dataset(tmp_path / "b.nc") as data:
        np.testing.assert_array_equal(data["solution"], SOLUTION)
        assert json.loads(data.attrs["parameters"])["viscosity"] == pytest.approx(0.01)


# --- what is refused ---


def import_refused(source: Path, *words: str, kind: str | None = None, name: str = "out.nc") -> None:
    before = sorted(source.parent.iterdir())
    refused(" ".join(words), import_dataset, source, source.parent / name, kind=kind)
    assert sorted(source.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"coeff": COEFFICIENT}, ("kind arrays (coeff)",)),
        ({"coeff": COEFFICIENT, "sol": SOLUTION[:, :4]}, ("disagree", "coeff (11, 5, 5)", "sol (11, 4, 5)")),
        ({"coeff": COEFFICIENT[0], "sol": SOLUTION[0]}, ("'coeff' has shape (5, 5)", "3 axes")),
        ({"a": INITIAL, "u": FRAMES}, ("no array 't'",)),
        ({"a": INITIAL, "u": FRAMES, "t": np.array([[0.5, 1.0, 2.0]])}, ("disagree", "3 times t")),
        ({"a": INITIAL, "u": FRAMES, "t": np.array([[0.0, 1.0]])}, ("times t increase positive",)),
        ({"a": INITIAL[:2], "u": FRAMES, "t": np.array([[0.5, 1.0]])}, ("disagree", "a (2, 4, 6)")),
        ({"coeff": COEFFICIENT, "sol": np.where(SOLUTION > 2, np.nan, SOLUTION)}, ("'solution' has NaN",)),
        ({"coeff": COEFFICIENT + 1j, "sol": SOLUTION}, ("complex",)),
        ({"coeff": np.array(["text"]), "sol": SOLUTION}, ("'coeff' has char values",)),
    ],
    ids=["sol", "shapes", "axes", "t", "times", "zero", "samples", "nan", "complex", "text"],
)
def test_wrong_mat_files(tmp_path, arrays, words):
    import_refused(write_mat(tmp_path / "w.mat", "5", **arrays), *words)


def test_wrong_torch_files(tmp_path):
    x, y = torch.ones(3, 4, 4), torch.ones(3, 4, 5)
    torch.save({"x": x, "y": y}, tmp_path / "w.pt")
    import_refused(tmp_path / "w.pt", "disagree", "x (3, 4, 4) y (3, 4, 5)")
    torch.save({"input": x[:, 1] + 1, "output": x}, tmp_path / "w.pt")
    import_refused(tmp_path / "w.pt", "sample 0", "frame input")
    torch.save({"x": x, "y": print}, tmp_path / "w.pt")
    import_refused(tmp_path / "w.pt", "tensors")
    torch.save([x], tmp_path / "w.pt")
    import_refused(tmp_path / "w.pt", "(0)")
    torch.save(3, tmp_path / "w.pt")
    import_refused(tmp_path / "w.pt", "type int tensor")
