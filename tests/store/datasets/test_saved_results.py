"""Files of ours: what is written is read back, other libraries open it, and no damage goes unseen."""

import dataclasses
import json
import os
import runpy
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import xarray
from refusals import refused

import sciml_bounds as sb
from sciml_bounds.errors import InputError
from sciml_bounds.store.datasets import saved_results as results

FIELD = np.random.default_rng(0).standard_normal((3, 8, 9))
STORED = Path(__file__).parents[1] / "format-0.1.nc"


def dataset() -> xarray.Dataset:
    return xarray.Dataset(
        {"u": (["sample", "x", "y"], FIELD, {"units": "m"}), "total": ([], 2.5), "wet": (["x"], np.arange(8) > 3)},
        {"x": np.arange(8.0), "y": np.arange(9.0)},
        {"method": "multigrid"},
    )


@pytest.fixture(scope="module")
def solution() -> sb.Solution:
    """Batch (2, 3), mixed sides, a reason that differs between samples."""
    a = torch.rand(2, 3, 8, 6, generator=torch.Generator().manual_seed(0)).double() + 0.5
    sides = {"x0": sb.Dirichlet(0.0), "x1": sb.Neumann(0.5), "y0": sb.Robin(2.0, 0.1), "y1": sb.Neumann(0.0)}
    grid = sb.Grid((8, 6), lengths=(2.0, 1.0), origin=(-1.0, 0.25))
    solved = sb.solve(sb.Diffusion(grid, a, 1.0, reaction=0.5, boundary=sides), certify=True, method="cg")
    reasons = (*solved.reason[:5], sb.results.Reason.MAXITER)
    return dataclasses.replace(solved, reason=reasons, converged=torch.tensor([[True] * 3, [True, True, False]]))


def assert_same(read, written, skipped=()):
    """Every field of a result, recursively, bit for bit."""
    assert type(read) is type(written)
    for field in dataclasses.fields(written):
        one, other = getattr(read, field.name), getattr(written, field.name)
        if field.name.startswith("_") or field.name in skipped:
            continue
        if dataclasses.is_dataclass(other):
            assert_same(one, other, skipped)
        elif isinstance(other, torch.Tensor):
            assert one.dtype == other.dtype, field.name
            assert torch.equal(one, other), field.name
        elif isinstance(other, dict):
            assert one.keys() == other.keys()
            assert all(torch.equal(one[key], other[key]) for key in other)
        elif field.name == "flux":
            assert len(one) == len(other)
            assert all(map(torch.equal, one, other))
        else:
            assert one == other, field.name


# --- results ----------------------------------------------------------------------------------------------------------


def test_a_solution_is_read_back(solution, tmp_path):
    sb.data.write(solution, tmp_path / "u.nc", flux=True)
    read = sb.data.read(tmp_path / "u.nc")
    assert_same(read, solution, skipped=("x", "coefficient"))
    assert torch.equal(read.linear.x, solution.values.flatten(2))
    assert torch.equal(read.coefficient, solution._own_coefficient)
    assert read.certificate.kind == "bound"
    assert str(read) == str(solution)


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4)])
@pytest.mark.parametrize("flux", [False, True])
def test_a_certificate_is_read_back(tmp_path, shape, flux):
    problem = sb.Diffusion(sb.Grid(shape), source=1.0)
    certificate = sb.certify(problem, torch.rand(problem.node_shape))
    sb.data.write(certificate, tmp_path / "c.h5", flux=flux)
    read = sb.data.read(tmp_path / "c.h5")
    assert_same(read, certificate, skipped=() if flux else ("flux",))
    assert len(read.flux) == flux * len(shape)
    assert torch.equal(read.relative_upper, certificate.relative_upper)
    with pytest.raises(RuntimeError, match="problem"):
        read.goal(sb.Mean())
    if flux:  # a kept flux gives the same certificate again
        assert torch.equal(sb.certify(problem, read.values, flux=read.flux).upper, certificate.upper)


def test_a_solution_of_float32_without_certificate_or_batch(tmp_path):
    solution = sb.solve(sb.Diffusion(sb.Grid((4, 4)), torch.ones(4, 4), 1.0, boundary=sb.Dirichlet(0.0)))
    assert solution.values.dtype == torch.float32
    sb.data.write(solution, tmp_path / "u.nc")
    assert_same(sb.data.read(tmp_path / "u.nc"), solution, skipped=("x",))


def test_labelled_fields_are_read_back(tmp_path):
    sb.data.write(dataset(), tmp_path / "u.nc")
    once = sb.data.read(tmp_path / "u.nc")
    xarray.testing.assert_identical(once, dataset())
    sb.data.write(once, tmp_path / "again.nc")
    xarray.testing.assert_identical(sb.data.read(tmp_path / "again.nc"), dataset())
    times = dataset().assign_coords(t=np.array(["2026-01-01", "2026-01-03"], dtype="datetime64[ns]"))
    sb.data.write(times, tmp_path / "times.nc")
    xarray.testing.assert_equal(sb.data.read(tmp_path / "times.nc"), times)


def test_empty_fields_are_read_back(tmp_path):
    empty = xarray.Dataset({"u": (["sample", "x"], np.zeros((0, 3)))})
    sb.data.write(empty, tmp_path / "u.nc")
    xarray.testing.assert_identical(sb.data.read(tmp_path / "u.nc"), empty)


# --- other libraries --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_both_engines_read_it(tmp_path, engine):
    path = tmp_path / "u.nc"
    sb.data.write(dataset(), path, parameters={"rtol": 1e-8, "shape": [8, 9]})
    with xarray.open_dataset(path, engine=engine) as read:
        xarray.testing.assert_equal(read, dataset())
        assert read["u"].attrs["units"] == "m"
        assert (read.attrs["content"], read.attrs["format_version"]) == ("Dataset", results.FORMAT_VERSION)
        assert read.attrs["sciml_bounds_version"] == sb.__version__
        assert read.attrs["method"] == "multigrid"
        assert json.loads(read.attrs["asked"]) == {"rtol": 1e-8, "shape": [8, 9]}
        assert np.datetime64(read.attrs["created"].removesuffix("+00:00")) <= np.datetime64("now")


def test_chunked_per_sample_with_checksums(tmp_path):
    sb.data.write(dataset(), tmp_path / "u.h5")
    with h5py.File(tmp_path / "u.h5") as file:
        u = file["u"]
        assert u.chunks == (1, 8, 9)
        assert (u.compression, u.shuffle, u.fletcher32) == ("gzip", True, True)
        assert file["x"].is_scale
        assert file["x"].fletcher32
        assert u.dims[1][0] == file["x"]
        np.testing.assert_array_equal(u, FIELD)


def test_numbers_of_samples_share_a_chunk_and_large_chunks_are_split(monkeypatch, tmp_path):
    monkeypatch.setattr(results, "_MAX_CHUNK_BYTES", 200)
    sb.data.write(
        xarray.Dataset({"n": (["sample"], np.arange(3)), "u": (["sample", "x", "y"], FIELD)}), tmp_path / "u.nc"
    )
    with h5py.File(tmp_path / "u.nc") as file:
        assert file["n"].chunks == (3,)
        assert file["u"].chunks == (1, 2, 9)


# --- the format -------------------------------------------------------------------------------------------------------


def test_the_stored_file_of_format_0_1_opens():
    """Written once by `python tests/store/make_stored.py`; every later version must read the same numbers."""
    solution = sb.data.read(STORED)
    assert solution.grid == sb.Grid((3, 2), lengths=(1.5, 1.0), origin=(0.5, 0.0))
    # -(2 u')' = 2 between u = 0 and a Neumann side with 2 u' = 1: u' = 2 - s, so u = 2 s - s^2 / 2, s = x - 1/2; exact.
    s = torch.tensor([0.0, 0.5, 1.0, 1.5], dtype=torch.float64)
    expected = torch.stack([2 * s - s**2 / 2, 2 * (2 * s - s**2 / 2)]).unsqueeze(-1).expand(2, 4, 3)
    torch.testing.assert_close(solution.values, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(solution.coefficient, torch.full((3, 2), 2.0).double())
    assert solution.reason == (sb.results.Reason.CONVERGED, sb.results.Reason.CONVERGED)
    # |||u - u_h|||^2 = 2 int (s_i + h/2 - s)^2 = 2 * 3 h^3 / 12, twice that field in the second sample.
    error = (2 * 3 * 0.5**3 / 12) ** 0.5 * torch.tensor([1.0, 2.0])
    assert bool((solution.certificate.lower <= error * (1 + 1e-12)).all())
    assert bool((error <= solution.certificate.upper * (1 + 1e-12)).all())
    for engine in ("h5netcdf", "netcdf4"):
        with xarray.open_dataset(STORED, engine=engine) as labelled:
            assert labelled.attrs["format_version"] == "0.1"
            assert labelled["solution"].dims == ("sample", "x_node", "y_node")


def test_the_script_still_makes_such_a_file(tmp_path):
    runpy.run_path(str(STORED.with_name("make_stored.py")))["main"](tmp_path / "again.nc")
    again, stored = sb.data.read(tmp_path / "again.nc"), sb.data.read(STORED)
    torch.testing.assert_close(again.values, stored.values)
    torch.testing.assert_close(again.certificate.flux, stored.certificate.flux)
    assert STORED.stat().st_size < 120_000


def with_version(path: Path, version: str) -> Path:
    sb.data.write(dataset(), path)
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = version
        file.attrs["checksum"] = results.stored_digest(file)
    return path


def test_newer_formats(tmp_path):
    """A newer minor version only adds; a newer major one is refused in one sentence, whatever else is in the file."""
    xarray.testing.assert_identical(sb.data.read(with_version(tmp_path / "minor.nc", "0.7")), dataset())
    for version, words in {"1.0": "format 1.0", "²": "version invalid"}.items():
        refused(words, sb.data.read, with_version(tmp_path / "major.nc", version))


def test_other_files_are_refused(tmp_path):
    dataset().to_netcdf(tmp_path / "foreign.nc", engine="h5netcdf")
    np.save(tmp_path / "a.npy", FIELD)
    for name in ("foreign.nc", "a.npy"):
        refused("package", sb.data.read, tmp_path / name)
    refused("file", sb.data.read, tmp_path / "none.nc")


# --- damage -----------------------------------------------------------------------------------------------------------


def change_number(path: Path) -> None:
    """The single number has no checksum of HDF5, so that another value is read without complaint."""
    content = path.read_bytes()
    assert content.count(np.float64(2.5).tobytes()) == 1
    path.write_bytes(content.replace(np.float64(2.5).tobytes(), np.float64(2.25).tobytes()))
    with h5py.File(path) as file:
        assert file["total"][()] == 2.25


def change_attribute(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["u"].attrs["units"] = "km"


def rename(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.move("u", "v")


def add_link(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["link"] = h5py.SoftLink("/u")


def remove_checksum(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file.attrs["checksum"]


def declare_much(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.create_dataset("huge", (10**9, 10**3), chunks=(10, 10), dtype="f8")


@pytest.mark.parametrize("change", [change_number, change_attribute, rename, add_link, remove_checksum, declare_much])
def test_a_changed_file_is_refused(tmp_path, change):
    path = tmp_path / "u.nc"
    sb.data.write(dataset(), path)
    sb.data.read(path)
    change(path)
    with pytest.raises(InputError, match=r"damaged|changed"):
        sb.data.read(path)


def test_a_changed_chunk_is_refused_by_every_library(tmp_path):
    path = tmp_path / "u.nc"
    sb.data.write(dataset(), path)
    with h5py.File(path) as file:
        place = file["u"].id.get_chunk_info(1)
    content = bytearray(path.read_bytes())
    content[place.byte_offset + place.size // 2] ^= 4
    path.write_bytes(content)
    refused("cannot", sb.data.read, path)
    for engine in ("h5netcdf", "netcdf4"):
        with xarray.open_dataset(path, engine=engine) as labelled, pytest.raises((OSError, RuntimeError)):
            labelled["u"].load()


# --- what cannot be written -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (xarray.Dataset({"u": (["x"], np.array([object()], dtype=object))}), "object values numbers"),
        (xarray.Dataset({"u": (["x"], np.array(["a"]))}), "numbers"),
        (FIELD, "ndarray"),
    ],
)
def test_what_is_not_made_of_numbers_leaves_nothing(tmp_path, thing, words):
    refused(words, sb.data.write, thing, tmp_path / "u.nc")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ("solution", None),
        ("certificate", "Certificate Solution name"),
        ("fields", "Dataset Solution"),
        ("data set", "data recipe Solution"),
        ("hdf5", "package"),
        ("text", "package"),
    ],
)
def test_only_a_result_of_the_same_kind_is_replaced(tmp_path, solution, there, words):
    path = tmp_path / "u.nc"
    if there == "data set":
        sb.make_dataset("poisson", path, samples=2, resolution=8)
    elif there == "hdf5":
        with h5py.File(path, "w") as file:
            file["u"] = np.ones(3)
    elif there == "text":
        path.write_text("somebody's notes")
    else:
        sb.data.write({"solution": solution, "certificate": solution.certificate, "fields": dataset()}[there], path)
    before = path.read_bytes()
    if words is None:
        sb.data.write(dataclasses.replace(solution, seconds=7.0), path)
        assert sb.data.read(path).seconds == 7.0
        return
    refused(words, sb.data.write, solution, path)
    assert path.read_bytes() == before


def test_fields_do_not_replace_a_data_set_of_a_recipe(tmp_path):
    sb.make_dataset("poisson", tmp_path / "d.nc", samples=2, resolution=8)
    refused("data recipe", lambda: sb.data.write(dataset(), tmp_path / "d.nc"))


def test_what_is_no_path_and_no_dictionary_is_refused(tmp_path):
    refused("path 3 string Path", sb.data.read, 3)
    refused("parameters type str dictionary", lambda: sb.data.write(dataset(), tmp_path / "u.nc", parameters="hi"))
    assert not (tmp_path / "u.nc").exists()


def test_a_flux_needs_a_certificate(tmp_path, solution):
    for thing in (dataset(), dataclasses.replace(solution, certificate=None)):
        refused("flux=True certificate", sb.data.write, thing, tmp_path / "u.nc", flux=True)


def test_a_full_disk(tmp_path):
    """A small file system, where one can be mounted: the old file stays, nothing else does, and the process lives."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        sb.data.write(dataset(), tmp_path / "u.nc")
        large = xarray.Dataset({"u": (["x"], np.random.default_rng(0).standard_normal(100_000))})
        refused("device", sb.data.write, large, tmp_path / "u.nc")
        assert os.listdir(tmp_path) == ["u.nc"]
        xarray.testing.assert_identical(sb.data.read(tmp_path / "u.nc"), dataset())
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
