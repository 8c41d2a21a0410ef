"""A checkpoint is continued by the training that wrote it, and by no other."""

import pytest
import torch
from refusals import refused
from torch.utils.data import TensorDataset

from sciml_bounds.store.datasets.weights import load_model, read_weights, save_model, write_weights
from sciml_bounds.training._trainer import train

OPTIONS = {"loss": "l2", "epochs": 3, "batch_size": 4, "lr": 1e-2}


@pytest.fixture
def folder(tmp_path, make, data):
    train(make(), *data, folder=tmp_path, callback=lambda row: row["epoch"] == 1, **OPTIONS)
    return tmp_path


def test_it_is_a_safetensors_file_with_everything_in_it(folder, make):
    tensors, card = read_weights(folder / "last.safetensors")
    parameters = [name for name, _ in make().named_parameters()]
    expected = {f"{part}/{name}" for part in ("model", "best") for name in [*parameters, "mean"]}
    expected |= {f"optimizer/{i}/{name}" for i in range(4) for name in ("step", "exp_avg", "exp_avg_sq")}
    assert tensors.keys() == expected | {"random/cpu"}
    assert card["state"]["epoch"] == 1
    assert card["settings"]["lr"] == 1e-2


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ({"width": 4}, {}, "checkpoint architecture arguments 'width' 3"),
        ({}, {"lr": 2e-2}, "lr=0.01 0.02"),
        ({}, {"epochs": 2}, "epochs=3 2"),
        ({}, {"loss": "h1"}, "loss='l2' 'h1'"),
        ({}, {"seed": 1}, "seed=0"),
    ],
)
def test_another_training_is_one_sentence(folder, make, data, arguments, options, words):
    before = (folder / "last.safetensors").read_bytes()
    refused(words, lambda: train(make(**arguments), *data, folder=folder, resume=True, **OPTIONS | options))
    assert (folder / "last.safetensors").read_bytes() == before


def test_another_network_or_other_data_are_one_sentence(folder, make, data):
    refused(
        "architecture network Smoother",
        lambda: train(torch.nn.Conv1d(1, 1, 1), *data, folder=folder, resume=True, **OPTIONS),
    )
    fewer = TensorDataset(*(tensor[:9] for tensor in data[0].tensors))
    refused("data", lambda: train(make(), fewer, data[1], folder=folder, resume=True, **OPTIONS))


def test_a_truncated_checkpoint_is_one_sentence(folder, make, data):
    path = folder / "last.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refused("file", lambda: train(make(), *data, folder=folder, resume=True, **OPTIONS))


def test_weights_are_no_checkpoint(folder, make, data):
    save_model(make(), folder / "last.safetensors")
    refused("checkpoint training", lambda: train(make(), *data, folder=folder, resume=True, **OPTIONS))


def test_a_checkpoint_is_no_network(folder):
    refused("checkpoint training network", load_model, folder / "last.safetensors")


def test_an_optimiser_that_does_not_fit_is_one_sentence(folder, make, data):
    tensors, card = read_weights(folder / "last.safetensors")
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("optimizer/3")}
    write_weights(folder / "last.safetensors", tensors, card)
    refused("optimiser", lambda: train(make(), *data, folder=folder, resume=True, **OPTIONS))
