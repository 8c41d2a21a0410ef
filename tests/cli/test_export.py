import json
import runpy
from pathlib import Path

import h5py
import pytest
import typer
from typer.testing import CliRunner

from sciml_bounds.cli.export import export
from sciml_bounds.errors import InputError

MAKE = runpy.run_path(str(Path(__file__).parents[1] / "store" / "datasets_of_ours.py"))


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")  # no path is broken
    MAKE["diffusion"](Path("d.nc"))
    app = typer.Typer()
    app.command()(export)
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_the_well(run):
    result = run("d.nc", "--format", "the-well", "--out", "well")
    assert result.exit_code == 0, result.output
    assert "well/stats.yaml" in result.stdout
    assert (Path("well") / "data" / "train" / "darcy-test.hdf5").is_file()


def test_pdebench_as_json(run):
    result = run("d.nc", "--format", "pdebench", "--out", "d.hdf5", "--json")
    record = json.loads(result.stdout)
    assert (record["command"], record["format"], record["out"]) == ("export", "pdebench", "d.hdf5")
    with h5py.File("d.hdf5") as file:
        assert file["tensor"].shape == (12, 1, 8, 6)


def test_what_is_refused(run):
    assert run("d.nc", "--format", "zarr", "--out", "well").exit_code == 2
    Path("well").mkdir()
    result = run("d.nc", "--format", "the-well", "--out", "well")
    assert isinstance(result.exception, InputError)
    assert "well already exists" in str(result.exception)
