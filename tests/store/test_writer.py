import json
import os
import stat

import h5py
import numpy as np
import pytest
import xarray

import sciml_bounds
from sciml_bounds.errors import InputError
from sciml_bounds.store.writer import check_target, replacing, write_dataset

FIELD = np.random.default_rng(0).standard_normal((3, 8, 9))


def dataset() -> xarray.Dataset:
    return xarray.Dataset(
        {"u": (["sample", "x", "y"], FIELD, {"units": "1"}), "total": ([], 2.5)},
        {"x": np.arange(8.0), "y": np.arange(9.0)},
        {"method": "multigrid"},
    )


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_both_engines_read_it_back(tmp_path, engine):
    path = tmp_path / "u.nc"
    write_dataset(dataset(), path, asked={"rtol": 1e-8, "shape": [8, 9]})
    with xarray.open_dataset(path, engine=engine) as read:
        xarray.testing.assert_equal(read, dataset())
        assert read.attrs["format_version"] == "0.1"
        assert read.attrs["sciml_bounds_version"] == sciml_bounds.__version__
        assert read.attrs["method"] == "multigrid"
        assert json.loads(read.attrs["asked"]) == {"rtol": 1e-8, "shape": [8, 9]}
        assert np.datetime64(read.attrs["created"].removesuffix("+00:00")) <= np.datetime64("now")


def test_chunked_per_sample_with_checksums(tmp_path):
    write_dataset(dataset(), tmp_path / "u.h5", asked={})
    with h5py.File(tmp_path / "u.h5") as file:
        u = file["u"]
        assert u.chunks == (1, 8, 9)
        assert u.compression == "gzip"
        assert u.shuffle
        assert u.fletcher32
        assert file["x"].is_scale


def test_mode_follows_the_umask_and_links_are_resolved(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.nc"
    link.symlink_to(tmp_path / "real" / "u.nc")
    old = os.umask(0o027)
    try:
        write_dataset(dataset(), link, asked={})
    finally:
        os.umask(old)
    with replacing(link) as part:
        assert part.parent == tmp_path / "real"
        part.write_bytes(link.read_bytes())
        part.chmod(0o640)
    assert link.is_symlink()
    assert stat.S_IMODE((tmp_path / "real" / "u.nc").stat().st_mode) == 0o640


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    target = tmp_path / "u.nc"
    target.write_text("old")

    def interrupted():
        with replacing(target) as part:
            assert part.parent == tmp_path
            assert part.name == f".u.nc.{os.getpid()}.part"
            part.write_text("half")
            raise failure

    with pytest.raises(failure):
        interrupted()
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["u.nc"]
    with replacing(target) as part:
        part.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["u.nc"]


def test_a_failing_write_leaves_nothing(tmp_path):
    broken = xarray.Dataset({"u": (["x"], np.array([object()], dtype=object))})
    with pytest.raises((TypeError, ValueError)):
        write_dataset(broken, tmp_path / "u.nc", asked={})
    assert list(tmp_path.iterdir()) == []


def test_targets_are_checked_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "folder.nc").mkdir()
    os.mkfifo(tmp_path / "pipe.nc")
    with pytest.raises(InputError, match=r"no folder .*none; make it first"):
        check_target(tmp_path / "none" / "u.nc", (".nc",))
    with pytest.raises(InputError, match="is not a file"):
        check_target(tmp_path / "folder.nc", (".nc",))
    with pytest.raises(InputError, match="is not a file"):
        check_target(tmp_path / "pipe.nc", (".nc",))
    with pytest.raises(InputError, match=r"u.csv is not known by its ending; use one of .nc, .h5, .hdf5"):
        write_dataset(dataset(), tmp_path / "u.csv", asked={})
    monkeypatch.setattr(os, "access", lambda *_: False)  # the tests may run as root, for whom nothing is read-only
    with pytest.raises(InputError, match="read-only"):
        check_target(tmp_path / "u.nc", (".nc",))
