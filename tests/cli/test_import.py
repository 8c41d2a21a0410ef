import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from sciml_bounds.cli.import_ import import_
from sciml_bounds.errors import InputError
from sciml_bounds.store.datasets.dataset_files import open_dataset


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = torch.rand(10, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.save({"x": x > 0.5, "y": x}, "d.pt")
    app = typer.Typer()
    app.command()(import_)
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_a_file_of_neuraloperator(run):
    result = run("d.pt", "--out", "d.nc", "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert (record["command"], record["kind"], record["samples"]) == ("import", "neuraloperator", 10)
    assert record["shapes"] == {"phase": [4, 4], "solution": [4, 4]}
    with open_dataset("d.nc") as data:
        np.testing.assert_array_equal(data["solution"], torch.load("d.pt")["y"])


def test_the_table(run):
    result = run("d.pt", "--out", "d.nc", "--kind", "neuraloperator")
    assert result.exit_code == 0, result.output
    for word in (
        "Darcy flow of neuraloperator",
        "phase",
        "x, y: (4, 4)",
        "d.nc",
        "inputs and targets at the same points",
    ):
        assert word in result.stdout


def test_what_is_refused(run):
    result = run("d.pt", "--out", "d.nc", "--kind", "fno")
    assert isinstance(result.exception, InputError)
    assert "no array 'a'" in str(result.exception)
    assert not Path("d.nc").exists()
    assert run("d.pt", "--out", "d.nc", "--kind", "well").exit_code == 2
