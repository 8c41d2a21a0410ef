import json

import numpy as np
import pytest
import torch
import xarray
from refusals import complaint

import sciml_bounds as sb
from sciml_bounds.cli.main import run
from sciml_bounds.reports import describe_upper

PROBLEM = ["certify", "--coefficient", "a.npy", "--source", "1"]


@pytest.fixture
def problem(tmp_path, monkeypatch):
    """A problem of two samples, with its coefficient and fields of several layouts in the working folder."""
    a = np.random.default_rng(0).uniform(1.0, 3.0, (8, 8))
    problem = sb.Diffusion(sb.Grid((8, 8)), a, 1.0)
    u = sb.solve(problem).values.numpy()
    fields = {"a": a, "u": u, "rough": 1.3 * u, "off": u + 0.01, "inner": u[1:-1, 1:-1], "coarse": u[::2, ::2]}
    fields |= {"cells": (u[1:, 1:] + u[:-1, :-1]) / 2, "batch": np.stack([u, 2 * u]), "nan": np.full_like(u, np.nan)}
    for name, field in fields.items():
        np.save(tmp_path / f"{name}.npy", field)
    monkeypatch.chdir(tmp_path)
    return problem


def as_json(capsys, *arguments: str) -> dict:
    assert run([*PROBLEM, *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("rough", "nodes"),
        ("inner", "interior"),
        ("coarse", "coarse"),
        ("cells", "cells"),
        ("cells", "centres"),
        ("batch", "nodes"),
    ],
)
def test_the_record_agrees_with_the_library(problem, capsys, name, layout):
    record = as_json(capsys, "--values", f"{name}.npy", "--layout", layout)
    certificate = sb.certify(problem, np.load(f"{name}.npy"), layout=layout)
    assert (record["command"], record["kind"], record["layout"]) == ("certify", "bound", layout)
    for key in ("lower", "upper", "relative_upper", "energy", "boundary_part", "boundary_gap"):
        # The same operations on the same data; round-off may differ with the order of sums in threads.
        assert record[key] == pytest.approx(getattr(certificate, key).tolist(), rel=1e-9), key
    assert np.all(np.array(record["lower"]) > 0)


def test_one_sample_of_the_values(problem, capsys):
    both = as_json(capsys, "--values", "batch.npy")
    one = as_json(capsys, "--values", "batch.npy", "--sample", "1", "--shape", "8,8")
    # One flux serves many fields of one problem, and that of a single field starts from it: both leave 1e-3 of the
    # residual, of which the bound sees the square.
    assert one["upper"] == pytest.approx(both["upper"][1], rel=1e-6)


def test_one_medium_and_a_batch_of_a_network(problem, capsys):
    """A medium without batch beside values (samples, channel, nodes): which axes are the grid must be said."""
    np.save("network.npy", np.load("batch.npy")[:, None])
    arguments = ["--values", "network.npy", "--sample", "1"]
    assert run([*PROBLEM, *arguments]) == 2
    complaint(capsys, "coefficient shape (8, 8) batch")
    record = as_json(capsys, *arguments, "--shape", "8,8")
    assert record["shape"] == [8, 8]
    both = as_json(capsys, "--values", "batch.npy")
    assert record["upper"] == pytest.approx([both["upper"][1]], rel=1e-6)  # as above


def test_the_table_names_the_grid(problem, capsys):
    assert run([*PROBLEM, "--values", "batch.npy"]) == 0
    assert "8 x 8 cells, 2 samples" in capsys.readouterr().out
    np.save("network.npy", np.load("u.npy")[None, None])
    assert run([*PROBLEM, "--values", "network.npy"]) == 0
    assert "8 x 8 cells, 1 sample " in capsys.readouterr().out


def test_a_number_is_a_constant_field(problem, capsys):
    """The error of the zero field is the solution itself, so the bounds enclose |||u|||, about that of u_h."""
    record = as_json(capsys, "--values", "0")
    energy = float(sb.certify(problem, np.load("u.npy")).energy)
    assert record["energy"] == 0
    assert record["relative_upper"] is None
    assert 0.9 * energy < record["lower"] < record["upper"] < 1.1 * energy


def test_no_lower(problem, capsys):
    record = as_json(capsys, "--values", "rough.npy", "--no-lower")
    assert record["lower"] == 0
    assert record["upper"] > 0


def test_target(problem, capsys):
    upper = as_json(capsys, "--values", "rough.npy")["relative_upper"]
    shown = describe_upper(torch.tensor(upper, dtype=torch.float64))
    assert run([*PROBLEM, "--values", "rough.npy"]) == 0
    assert f"<= {shown}" in capsys.readouterr().out
    assert run([*PROBLEM, "--values", "rough.npy", "--target", str(1.001 * upper)]) == 0
    capsys.readouterr()
    assert run([*PROBLEM, "--values", "rough.npy", "--target", str(0.999 * upper), "--json"]) == 3
    captured = capsys.readouterr()
    assert json.loads(captured.out)["relative_upper"] == pytest.approx(upper, rel=1e-9)
    assert captured.err.startswith(f"sciml-bounds: the guaranteed relative error is {shown}, above ")
    assert captured.err.count("\n") == 1


def test_boundary_values_that_are_off(problem, capsys):
    assert run([*PROBLEM, "--values", "off.npy"]) == 0
    assert "off by up to 0.01" in capsys.readouterr().out
    assert run([*PROBLEM, "--values", "off.npy", "--strict"]) == 2
    complaint(capsys, "boundary values 0.01")


def test_outputs(problem, tmp_path):
    assert run([*PROBLEM, "--values", "rough.npy", "--out", "c.nc", "--plot", "c.png"]) == 0
    with xarray.open_dataset("c.nc", engine="netcdf4") as dataset:
        np.testing.assert_array_equal(dataset["values"], np.load("rough.npy"))
        assert dataset["error_upper"].attrs["kind"] == "bound"
        assert json.loads(dataset.attrs["asked"])["values"] == "rough.npy"
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_what_solve_writes_can_be_certified(problem, capsys):
    assert run(["solve", *PROBLEM[1:], "--out", "u.nc", "--certify", "--json"]) == 0
    solved = json.loads(capsys.readouterr().out)["certificate"]
    assert as_json(capsys, "--values", "u.nc:solution")["upper"] == pytest.approx(solved["upper"], rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--values none.npy", "field file"),
        (
            "--values a.npy",
            "values shape (8, 8) nodes 9 9)",
        ),
        ("--values u.npy --layout faces", "layout 'faces' 'nodes'"),
        ("--values nan.npy", "NaN"),
        ("--values off.npy --strict", "repair"),
        ("--values u.npy --target -1", "-1 positive"),
        ("--values u.npy --target nan", "nan positive"),
        ("--values batch.npy --sample 5 --shape 8,8", "5 2 samples values"),
    ],
)
def test_bad_input_is_one_sentence(problem, capsys, tmp_path, arguments, sentence):
    before = sorted(tmp_path.iterdir())
    assert run([*PROBLEM, *arguments.split(), "--out", "c.nc", "--plot", "c.png"]) == 2
    complaint(capsys, sentence)
    assert sorted(tmp_path.iterdir()) == before
