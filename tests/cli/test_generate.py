"""`sciml-bounds generate` with a real recipe, small."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from interruptions import interrupting
from refusals import complaint

from sciml_bounds.cli import main
from sciml_bounds.cli.consolidate import consolidate
from sciml_bounds.cli.generate import RECIPES, generate
from sciml_bounds.cli.inspect import inspect
from sciml_bounds.cli.solve import solve
from sciml_bounds.errors import ConvergenceError
from sciml_bounds.recipes._registry import find_recipe, recipe_names
from sciml_bounds.store.datasets.dataset_files import open_dataset

SMALL = ["generate", "poisson", "--resolution", "8", "--samples", "10"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    app = typer.Typer(pretty_exceptions_enable=False)
    for command in (generate, consolidate, inspect, solve):
        app.command()(command)
    monkeypatch.setattr(main, "app", app)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_data_set(folder, capsys):
    assert main.run([*SMALL, "--seed", "3", "--out", "a.nc"]) == 0
    captured = capsys.readouterr()
    for word in ("poisson", "10 (0 to 9)", "source", "solution", "guaranteed", "a.nc"):
        assert word in captured.out, word
    assert "poisson: 10 of 10 samples" in captured.err
    with open_dataset("a.nc") as data:
        assert (data.attrs["recipe"], data.attrs["seed"], data.sizes["x"]) == ("poisson", 3, 8)
        worst = float(data["label_error"].max())
    assert main.run([*SMALL, "--seed", "3", "--out", "a.nc", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "sciml-bounds: a.nc already contains the requested data set; nothing to do.\n"
    record = json.loads(captured.out)
    assert record["label_error"] == worst
    expected = {"command": "generate", "recipe": "poisson", "seed": 3, "resolution": 8, "samples": 10, "first": 0}
    assert {name: record[name] for name in expected} == expected
    assert (record["out"], record["bytes"]) == ("a.nc", os.path.getsize("a.nc"))
    assert os.listdir(folder) == ["a.nc"]


def test_it_can_be_inspected(capsys):
    assert main.run([*SMALL, "--out", "a.nc"]) == 0
    capsys.readouterr()
    assert main.run(["inspect", "a.nc", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)["sciml_bounds"]
    expected = {"content": "Dataset", "recipe": "poisson", "seed": 0, "samples": 10, "checksum": "verified"}
    assert {name: about[name] for name in expected} == expected
    assert about["parameters"] == json.loads(json.dumps(find_recipe("poisson").parameters(8)))
    assert main.run(["inspect", "a.nc"]) == 0
    printed = capsys.readouterr().out
    for word in ("recipe", "poisson", "cells->nodes", "verified", "label_error", "sample 10"):
        assert word in printed, word


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["generate", "poison", "--out", "a.nc"], "recipe 'poison' 'poisson'"),
        ([*SMALL, "--out", "a.csv"], "extension h5 hdf5"),
        ([*SMALL, "--out", "none/a.nc"], "first"),
        ([*SMALL, "--out", "a.nc", "--device", "gpu"], "device='gpu' device 'cpu' 'cuda'"),
        ([*SMALL, "--out", "a.nc", "--device", "cuda:77"], "device='cuda:77'"),
        ([*SMALL, "--out", "a.nc", "--shard-index", "0"], "--shard-index"),
        ([*SMALL, "--out", "a.nc", "--num-shards", "2"], "--shard-index"),
        (
            [*SMALL, "--out", "a.nc", "--num-shards", "2", "--shard-index", "2"],
            "2 shards 10 samples resolution 8",
        ),
        ([*SMALL[:2], "--resolution", "1", "--out", "a.nc"], "resolution 1"),
    ],
)
def test_one_sentence_for_what_is_wrong(folder, capsys, arguments, words):
    assert main.run(arguments) == 2
    complaint(capsys, words)
    assert os.listdir(folder) == []


def test_a_file_that_is_something_else_stays(folder, capsys):
    command = ["solve", "--coefficient", "1", "--source", "1", "--shape", "8,8", "--out", "u.nc"]
    assert main.run(command) == 0
    capsys.readouterr()
    assert main.run([*SMALL, "--out", "u.nc"]) == 2
    complaint(capsys, "u.nc Solution data set")


def test_the_help_names_all_recipes():
    assert RECIPES.removesuffix(" (extra fem).").replace(" or ", ", ").split(", ") == list(recipe_names())


@pytest.mark.parametrize("option", ["--samples", "--num-shards"])
def test_options_below_their_least(capsys, option):
    assert main.run([*SMALL, "--out", "a.nc", option, "0"]) == 2
    assert option in capsys.readouterr().err


def test_an_equation_that_is_not_solved(folder, capsys, monkeypatch):
    recipe = find_recipe("poisson")

    def fail(*_: object) -> None:
        raise ConvergenceError("sample 3 was not solved.")

    monkeypatch.setattr(type(recipe), "generate", fail)
    assert main.run([*SMALL, "--out", "a.nc"]) == 3
    complaint(capsys, "sample 3")
    assert os.listdir(folder) == []


@pytest.mark.slow
def test_a_signal_leaves_finished_parts_and_no_worker(folder):
    code = (
        "import sys, typer; from sciml_bounds.cli import main; from sciml_bounds.cli.generate import generate;"
        "from sciml_bounds.cli.inspect import inspect;"
        "main.app = typer.Typer(); [main.app.command()(c) for c in (generate, inspect)];"
        "sys.exit(main.run(sys.argv[1:]))"
    )
    arguments = ["generate", "poisson", "--resolution", "64", "--samples", "3200", "--workers", "1", "--out", "a.nc"]
    # after the first tenth; as a terminal does: to the worker, too
    command = [sys.executable, "-c", interrupting(signal.SIGINT, "samples", group=True) + code, *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        lines = process.stderr.read().splitlines()
    assert process.returncode == 130
    assert "sciml-bounds: stopped by SIGINT; no partial file is left." in lines
    assert any("the same command resumes" in line for line in lines)
    assert not any("Traceback" in line for line in lines)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # nobody is left
    assert os.listdir(folder) == [".a.nc.parts"]
    assert not [name for name in os.listdir(".a.nc.parts") if name.endswith(".part")]


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_recipe_of_ones_own_by_its_location(folder, workers):
    """The module of the page on recipes, in the current folder, is found by the command and by its workers."""
    page = Path(__file__).parents[2] / "docs" / "how_to" / "cubic_reaction.py"
    (folder / page.name).write_text(page.read_text())
    program = "import sys; from sciml_bounds.cli.main import run; sys.exit(run())"
    command = ["generate", "cubic_reaction:CubicReaction", "--samples", "40", "--resolution", "16", "--out", "c.nc"]
    whole = [sys.executable, "-P", "-c", program, *command, "--workers", workers]
    subprocess.run(whole, check=True, cwd=folder)
    with open_dataset(folder / "c.nc") as data:
        assert data.attrs["recipe"] == "cubic-reaction"
        assert data["solution"].shape == (40, 17)
