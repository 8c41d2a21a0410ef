"""A network is held against data of its own recipe."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from refusals import complaint

import sciml_bounds as sb
from sciml_bounds.cli.evaluate import evaluate
from sciml_bounds.cli.main import app, run
from sciml_bounds.multigrid._flux_head import CertifiedMgNO
from sciml_bounds.multigrid._mgno import MgNO
from sciml_bounds.nn.losses import LOSSES
from sciml_bounds.recipes.generation import make_dataset
from sciml_bounds.store.datasets.dataset_files import DatasetHeader, writing_dataset
from sciml_bounds.store.datasets.torch_dataset import TorchDataset
from sciml_bounds.training._settings import loss_table

if all(evaluate is not known.callback for known in app.registered_commands):
    app.command()(evaluate)


@pytest.fixture(scope="session")
def darcy(tmp_path_factory):
    path = tmp_path_factory.mktemp("darcy") / "darcy.nc"
    make_dataset("darcy-rough", path, samples=20, seed=3, resolution=16)
    return path


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    network = MgNO(channels=2, layers=1, levels=2)
    network.save(tmp_path / "w.safetensors", recipe="darcy-rough")
    return network


def test_the_metrics_are_those_of_the_losses(tmp_path, capsys, darcy, model):
    out = tmp_path / "m.csv"
    command = ["evaluate", str(tmp_path / "w.safetensors"), str(darcy), "--json", "--out", str(out)]
    assert run([*command, "--metrics", "l2,h1-spectral"]) == 0
    record = json.loads(capsys.readouterr().out)
    samples = TorchDataset(darcy, "test")
    assert (record["samples"], record["split"], record["recipe"]) == (2, "test", "darcy-rough")
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["sample"] for row in rows] == ["9", "19"]
    for row, (x, y) in zip(rows, samples):
        for name in ("l2", "h1-spectral"):
            with torch.no_grad():
                expected = float(LOSSES[name](model.eval()(x[None]), y[None], x[None]))
            assert float(row[name]) == pytest.approx(expected, rel=1e-4)
    mean = sum(float(row["l2"]) for row in rows) / 2
    assert record["metrics"]["l2"]["mean"] == pytest.approx(mean)


def test_a_table_is_printed(tmp_path, capsys, darcy, model):
    assert run(["evaluate", str(tmp_path / "w.safetensors"), str(darcy), "--split", "validation"]) == 0
    out = capsys.readouterr().out
    assert "2 (split: validation)" in out
    assert "l2 (relative)" in out
    assert "h1 (relative)" in out
    assert "mean" in out


def test_a_flux_head_is_measured_by_its_bound(tmp_path, capsys, darcy):
    CertifiedMgNO(channels=2, layers=1, levels=2).save(tmp_path / "c.safetensors", recipe="darcy-rough")
    assert run(["evaluate", str(tmp_path / "c.safetensors"), str(darcy), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"].keys() == {"bound"}


def test_a_metric_that_does_not_fit_names_those_that_do(tmp_path, capsys, darcy, model):
    CertifiedMgNO(channels=2, layers=1, levels=2).save(tmp_path / "c.safetensors", recipe="darcy-rough")
    for name, metric, fitting in (
        ("w", "line-search", "MgNO l2 h1 h1-periodic h1-spectral bound"),
        ("c", "l2", "CertifiedMgNO bound"),
    ):
        file = str(tmp_path / f"{name}.safetensors")
        assert run(["evaluate", file, str(darcy), "--metrics", metric]) == 2
        complaint(capsys, f"metric {metric} {file} {fitting}")


def test_the_help_names_all_metrics(capsys):
    assert run(["evaluate", "--help"]) == 0
    out = capsys.readouterr().out
    for name in loss_table():
        assert name in out, name


def test_data_of_another_recipe_need_consent(tmp_path, capsys, darcy, model):
    model.save(tmp_path / "other.safetensors", recipe="darcy-smooth")
    command = ["evaluate", str(tmp_path / "other.safetensors"), str(darcy)]
    assert run(command) == 2
    complaint(capsys, "recipe 'darcy-smooth'")
    assert run([*command, "--any-recipe"]) == 0
    capsys.readouterr()
    # also where they lack the variables that it was trained on
    model.save(tmp_path / "other.safetensors", data={"train": {"recipe": "poisson", "inputs": ["source"]}})
    assert run(command) == 2
    complaint(capsys, "recipe 'poisson'")
    assert run([*command, "--any-recipe"]) == 2
    complaint(capsys, "variable 'source' samples")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--split", "tset"], "split 'tset' 'test'"),
        (["--metrics", "l3"], "metric 'l3'"),
        (["--metrics", ","], "metric"),
        (["--device", "cdua"], "device='cdua' device"),
        (["--out", "m.txt"], ".csv"),
        (["--subsample", "3"], "divide"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_bad_input_is_one_sentence(tmp_path, capsys, darcy, model, arguments, words):
    assert run(["evaluate", str(tmp_path / "w.safetensors"), str(darcy), *arguments]) == 2
    complaint(capsys, words)


def test_files_that_cannot_be_read_are_one_sentence(tmp_path, capsys, darcy, model):
    weights = tmp_path / "w.safetensors"
    assert run(["evaluate", str(weights), str(tmp_path / "none.nc")]) == 2
    complaint(capsys, "none.nc")
    assert run(["evaluate", str(tmp_path / "none.safetensors"), str(darcy)]) == 2
    complaint(capsys, "file")
    sb.data.write(sb.solve(sb.Diffusion(sb.Grid((4, 4)), source=1.0)), tmp_path / "u.nc")
    assert run(["evaluate", str(weights), str(tmp_path / "u.nc")]) == 2
    complaint(capsys, "Solution data")
    weights.write_bytes(weights.read_bytes()[:-4])
    assert run(["evaluate", str(weights), str(darcy)]) == 2
    complaint(capsys, "file")
    MgNO(in_channels=2, fields=("coefficient", "source"), channels=2, layers=1, levels=2).save(weights)
    assert run(["evaluate", str(weights), str(darcy)]) == 2
    complaint(capsys, "input 1 channels axis network 2")


def test_frames_in_time_are_rolled_out(tmp_path, capsys):
    """The network keeps the frame, and the flow doubles it: step k is off by (2^k - 1) / 2^k."""
    variable = SimpleNamespace(dims=("time", "x", "y"), long_name="vorticity", units="1", dtype="float64")
    header = DatasetHeader(
        recipe="flow", title="", description="", reference="", parameters={}, seed=0, resolution=8, device="cpu",
        samples=20, inputs=("vorticity",), targets=("vorticity",), layout="time", coordinates={},
        variables={"vorticity": variable}, lengths={"time": 4, "x": 8, "y": 8},
    )  # fmt: skip
    first = np.random.default_rng(0).standard_normal((20, 1, 8, 8))
    with writing_dataset(tmp_path / "flow.nc", header, range(20)) as writer:
        writer.write(0, {"vorticity": first * 2.0 ** np.arange(4)[:, None, None]})
    model = MgNO(boundary="periodic", layout="same", increment=True, channels=2, layers=1, levels=2)
    torch.nn.init.zeros_(model.head.weight)
    model.save(tmp_path / "flow.safetensors", recipe="flow")
    assert run(["evaluate", str(tmp_path / "flow.safetensors"), str(tmp_path / "flow.nc"), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["samples"] == 6  # two trajectories of three pairs
    assert record["metrics"]["l2"]["mean"] == pytest.approx(0.5, abs=1e-6)
    assert record["rollout"]["steps"] == pytest.approx([1 / 2, 3 / 4, 7 / 8], abs=1e-6)
