"""The top of the package: names that are imported when they are used, and the versions for bug reports."""

import importlib.metadata
import platform
import subprocess
import sys
import traceback

import pytest
import torch

import sciml_bounds as sb


def printed_rows(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    sb.show_versions()
    lines = capsys.readouterr().out.splitlines()
    columns = {len(line) - len(line.split(maxsplit=1)[1]) for line in lines}
    assert len(columns) == 1  # the values stand in one column
    return dict(line.split(maxsplit=1) for line in lines)


# --- versions ---------------------------------------------------------------------------------------------------------


def test_versions_are_those_that_are_loaded(capsys):
    rows = printed_rows(capsys)
    assert rows["python"] == platform.python_version()
    assert rows["system"] == platform.platform()
    assert rows["torch"] == importlib.metadata.version("torch")
    assert rows["threads"].split()[0] == str(torch.get_num_threads())
    assert (rows["cuda"] == "none") == (not torch.cuda.is_available())


def test_the_version_is_that_of_the_installed_package():
    assert sb.__version__ == importlib.metadata.version("sciml-bounds")


def test_what_is_missing_is_said(capsys, monkeypatch):
    known = importlib.metadata.version

    def version(name: str) -> str:
        if name in ("triton", "dolfinx-solver-real"):
            raise importlib.metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    rows = printed_rows(capsys)
    assert rows["triton"] == rows["dolfinx-solver-real"] == "not installed"
    assert rows["numpy"] == known("numpy")


def test_the_device_is_named(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Accelerator 9000")
    assert printed_rows(capsys)["cuda"] == "Accelerator 9000"


def test_versions_are_asked_of_the_metadata_and_load_nothing():
    """A bug report must not depend on whether a broken dependency can still be imported."""
    code = "import sys, sciml_bounds as sb; sb.show_versions(); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in run.stdout.splitlines()[-1].split()}
    heavy = {"pyamg", "h5py", "h5netcdf", "xarray", "matplotlib", "typer", "rich", "scipy", "dolfinx"}
    assert "torch" in loaded
    assert not loaded & heavy


# --- lazy names -------------------------------------------------------------------------------------------------------


def test_dir_lists_the_public_names_in_order():
    assert dir(sb) == sorted(sb.__all__)
    assert len(set(sb.__all__)) == len(sb.__all__)
    assert {"Grid", "solve", "certify", "__version__"} <= set(dir(sb))


def test_a_star_import_gives_every_public_name():
    namespace: dict[str, object] = {}
    exec("from sciml_bounds import *", namespace)
    assert set(sb.__all__) <= set(namespace)
    assert all(namespace[name] is getattr(sb, name) for name in sb.__all__)


def test_a_name_is_looked_up_once(monkeypatch):
    grid = sb.Grid
    monkeypatch.delitem(vars(sb), "Grid")
    assert "Grid" not in vars(sb)
    assert sb.Grid is grid
    assert vars(sb)["Grid"] is grid


def test_unknown_names_are_attribute_errors_with_a_suggestion():
    with pytest.raises(AttributeError, match="sciml_bounds") as caught:
        _ = sb.Dirichlett
    assert "Did you mean: 'Dirichlet'?" in "".join(traceback.format_exception(caught.value))
    assert not hasattr(sb, "AXES")
    with pytest.raises(ImportError, match=r"import.*name"):
        exec("from sciml_bounds import Dirichlett")
