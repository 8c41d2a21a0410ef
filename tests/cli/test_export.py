import json
from pathlib import Path

import h5py
import pytest
import typer
from small_datasets import diffusion, vorticity
from typer.testing import CliRunner

import sciml_bounds as sb
from sciml_bounds.cli.export import export
from sciml_bounds.errors import InputError


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")  # no path is broken
    diffusion(Path("d.nc"))
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


@pytest.mark.vtk
def test_vtk(run):
    import pyvista

    vorticity(Path("v.nc"), count=2, frames=3)
    assert run("d.nc", "--format", "vtk", "--out", "darcy").exit_code == 0
    assert run("v.nc", "--format", "vtk", "--out", "flow").exit_code == 0
    assert pyvista.get_reader("darcy/samples.pvd").time_values == list(range(12))
    with h5py.File("d.nc") as file:
        image = pyvista.read("darcy/sample_0005.vti")
        assert (image.cell_data["coefficient"] == file["coefficient"][5].ravel(order="F")).all()
        assert (image.point_data["solution"] == file["solution"][5].ravel(order="F")).all()
        assert image.field_data["label_error"][0] == file["label_error"][5]
    assert pyvista.get_reader("flow/sample_0001.pvd").time_values == [0.0, 0.5, 1.0]
    with h5py.File("v.nc") as file:
        image = pyvista.read("flow/sample_0001/sample_0001_0002.vti")
        assert (image.cell_data["vorticity"] == file["vorticity"][1, 2].ravel(order="F")).all()


@pytest.mark.vtk
def test_vtk_of_a_result(run):
    import pyvista

    solution = sb.solve(sb.Diffusion(sb.Grid((4, 4)), source=1.0))
    sb.data.write(solution, "u.nc")
    result = run("u.nc", "--format", "vtk", "--out", "u.vti", "--json")
    assert json.loads(result.stdout)["files"] == ["u.vti"]
    assert (pyvista.read("u.vti").point_data["solution"] == solution.values.numpy().ravel(order="F")).all()
    result = run("u.nc", "--format", "vtk", "--out", "u.pvd", "--json")
    assert json.loads(result.stdout)["files"] == ["u/u_0000.vti", "u.pvd"]


def test_what_is_refused(run):
    assert run("d.nc", "--format", "zarr", "--out", "well").exit_code == 2
    Path("well").mkdir()
    result = run("d.nc", "--format", "the-well", "--out", "well")
    assert isinstance(result.exception, InputError)
    assert "well already exists" in str(result.exception)
