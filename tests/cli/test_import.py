import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

import sciml_bounds as sb
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


@pytest.fixture
def own(run):
    """Files of one's own: coefficients on cells, and solutions at nodes."""
    a = np.random.default_rng(0).uniform(1, 2, (10, 4, 3))
    np.save("a.npy", a)
    problem = sb.Diffusion(sb.Grid((4, 3), lengths=(2.0, 1.0)), coefficient=a, source=3.0)
    torch.save({"u": sb.solve(problem).values}, "u.pt")
    return run


def test_arrays_of_ones_own(own):
    arguments = ("--arrays", "coefficient=a.npy", "solution=u.pt:u", "--lengths", "2,1", "--source", "3", "--certify")
    result = own(*arguments, "--out", "own.nc", "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert (record["kind"], record["samples"], record["layout"]) == ("arrays", 10, "cells->nodes")
    assert record["shapes"] == {"coefficient": [4, 3], "solution": [5, 4]}
    data = sb.TorchDataset("own.nc", "all")
    assert data.parameters["problem"]["source"] == 3.0
    assert record["label_error"] == pytest.approx(float(data.label_error.max()))
    table = own(*arguments, "--out", "again.nc").stdout
    assert "x_node, y_node: (5, 4)" in table
    assert "guaranteed" in table


def test_shape_and_roles(own):
    np.save("b.npy", np.ones((10, 4, 3)))
    arguments = ("coefficient=a.npy", "flow=b.npy", "--arrays", "--targets", "flow", "--out", "own.nc")
    assert own(*arguments, "--shape", "3,2").exit_code == 0
    assert sb.TorchDataset("own.nc", "all").layout == "nodes->nodes"
    message = str(own(*arguments[:-1], "other.nc").exception)
    assert "--shape" in message
    assert "(4, 3)" in message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("coefficient=a.npy",), "--arrays"),
        (("d.pt", "u.pt"), "--arrays"),
        (("d.pt", "--source", "1"), "--source --arrays"),
        (("a.npy", "--arrays"), "NAME=FILE"),
        (("solution=a.npy", "solution=a.npy", "--arrays"), "once"),
        (("solution=a.npy", "--arrays", "--kind", "fno"), "--kind"),
        (("solution=u.pt:u", "coefficient=a.npy", "--arrays", "--certify", "--boundary", "x0=glue:1"), "glue"),
    ],
)
def test_arguments_that_do_not_fit(own, arguments, words):
    error = own(*arguments, "--out", "own.nc").exception
    assert isinstance(error, InputError)
    assert all(word in str(error) for word in words.split())
    assert not Path("own.nc").exists()
