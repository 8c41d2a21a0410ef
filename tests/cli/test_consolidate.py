"""`sciml-bounds consolidate`."""

from __future__ import annotations

import json
import os

import pytest
import typer
from refusals import complaint

from sciml_bounds.cli import main
from sciml_bounds.cli.consolidate import consolidate
from sciml_bounds.cli.generate import generate
from sciml_bounds.store.datasets.dataset_files import open_dataset

SMALL = ["generate", "poisson", "--resolution", "8", "--samples", "70"]


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(generate)
    app.command()(consolidate)
    monkeypatch.setattr(main, "app", app)
    monkeypatch.chdir(tmp_path)


def test_shards_of_the_command_line(capsys):
    for i in range(2):
        assert main.run([*SMALL, "--num-shards", "2", "--shard-index", str(i), "--out", f"{i}.nc"]) == 0
    assert main.run([*SMALL, "--out", "once.nc"]) == 0
    capsys.readouterr()
    assert main.run(["consolidate", "1.nc", "0.nc", "--out", "a.nc", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["command"], record["samples"], record["first"], record["last"]) == ("consolidate", 70, 0, 69)
    with open_dataset("a.nc") as joined, open_dataset("once.nc") as once:
        assert joined.drop_attrs().identical(once.drop_attrs())
    assert sorted(os.listdir()) == ["0.nc", "1.nc", "a.nc", "once.nc"]


def test_a_shard_that_is_missing(capsys):
    assert main.run([*SMALL, "--num-shards", "2", "--shard-index", "0", "--out", "0.nc"]) == 0
    capsys.readouterr()
    assert main.run(["consolidate", "0.nc", "--out", "a.nc"]) == 2
    complaint(capsys, "samples 32 69 shards")
    assert main.run(["consolidate", "--out", "a.nc"]) == 2
    assert "SHARD" in capsys.readouterr().err
