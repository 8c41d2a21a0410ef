"""A prediction from files comes with a bound that holds."""

import json

import numpy as np
import pytest
import torch
import xarray
from refusals import complaint

import sciml_bounds as sb
from sciml_bounds.cli.main import app, run
from sciml_bounds.cli.predict import predict
from sciml_bounds.multigrid._flux_head import CertifiedMgNO
from sciml_bounds.multigrid._mgno import MgNO

if all(predict is not known.callback for known in app.registered_commands):
    app.command()(predict)


@pytest.fixture
def place(tmp_path, monkeypatch):
    torch.manual_seed(0)
    MgNO(channels=2, layers=1, levels=2).save(tmp_path / "w.safetensors", recipe="darcy-rough")
    np.save(tmp_path / "a.npy", np.where(np.random.default_rng(0).random((16, 16)) > 0.5, 12.0, 2.0))
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMAND = ["predict", "w.safetensors", "--coefficient", "a.npy", "--source", "1"]


def problem():
    return sb.Diffusion(sb.Grid((16, 16)), coefficient=np.load("a.npy"), source=1.0)


def test_the_prediction_is_that_of_the_network(place, capsys):
    assert run([*COMMAND, "--out", "u.nc", "--plot", "u.png"]) == 0
    assert "MgNO" in capsys.readouterr().out
    with xarray.open_dataset("u.nc") as data:
        expected = MgNO.load("w.safetensors").predict(problem())
        np.testing.assert_allclose(data["prediction"].values, expected.numpy(), rtol=1e-5, atol=1e-9)
        assert data["prediction"].dims == ("x_node", "y_node")
        np.testing.assert_allclose(data["x_node"], np.linspace(0, 1, 17))
        assert data["prediction"].values[0].tolist() == [0.0] * 17
    assert (place / "u.png").stat().st_size > 1000


def test_the_certificate_is_that_of_the_prediction(place, capsys):
    assert run([*COMMAND, "--certify", "--json", "--out", "c.nc"]) == 0
    record = json.loads(capsys.readouterr().out)
    expected = sb.certify(problem(), MgNO.load("w.safetensors").predict(problem()))
    assert record["certificate"]["upper"] == pytest.approx(float(expected.upper), rel=1e-5)
    assert 0 < record["certificate"]["lower"] < record["certificate"]["upper"]
    assert record["certificate"]["kind"] == "bound"
    assert type(sb.data.read("c.nc")).__name__ == "Certificate"


def test_a_target_that_is_missed_ends_with_three(place, capsys):
    assert run([*COMMAND, "--certify", "--target", "0.001"]) == 3
    assert "relative error" in capsys.readouterr().err
    assert run([*COMMAND, "--target", "0.1"]) == 2
    complaint(capsys, "--certify")


def test_bad_input_is_one_sentence(place, capsys):
    np.save("cube.npy", np.ones((8, 8, 8)))
    CertifiedMgNO(channels=2, layers=1, levels=2).save("head.safetensors")
    for weights in ("w.safetensors", "head.safetensors"):
        command = ["predict", weights, "--coefficient", "cube.npy", "--source", "1", "--json"]
        assert run(command) == 2
        words = "the problem has 3 axes, but the network is for 2; if the first axis is a batch, give --shape 8,8."
        assert words in " ".join(capsys.readouterr().err.split())
        assert run([*command, "--shape", "8,8"]) == 0
        assert json.loads(capsys.readouterr().out)["batch_shape"] == [8]
    assert run(["predict", "nothing", "--coefficient", "a.npy", "--source", "1", "--json"]) == 2
    complaint(capsys, "weights 'nothing' package")
    assert run([*COMMAND, "--json", "--device", "cdua"]) == 2
    complaint(capsys, "device")
    assert run([*COMMAND, "--out", "u.txt"]) == 2
    complaint(capsys, ".nc")


def test_a_prediction_that_nobody_sees_is_refused_before_the_work(place, capsys):
    (place / "w.safetensors").unlink()
    assert run(COMMAND) == 2
    complaint(capsys, "prediction")


def test_a_flux_head_brings_its_own_bound(place, capsys):
    network = CertifiedMgNO(channels=2, layers=1, levels=2)
    network.save("head.safetensors")
    command = ["predict", "head.safetensors", "--coefficient", "a.npy", "--source", "1", "--certify", "--json"]
    assert run(command) == 0
    certificate = json.loads(capsys.readouterr().out)["certificate"]
    assert certificate["kind"] == "bound"
    assert certificate["upper"] == pytest.approx(float(sb.certify(problem(), network, lower=False).upper), rel=1e-5)
    assert certificate["lower"] == 0.0
