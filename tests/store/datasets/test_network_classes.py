"""Networks of one's own are saved and loaded; a file alone never leads to an import."""

from __future__ import annotations

import sys

import pytest
import torch
from own_networks import CNN
from refusals import refusals, refused
from torch import nn

import sciml_bounds as sb
from sciml_bounds.store.datasets import network_classes
from sciml_bounds.store.datasets.network_classes import class_name, import_class, register_model
from sciml_bounds.store.datasets.weights import read_weights, write_weights


@pytest.fixture(autouse=True)
def _fresh_registry(monkeypatch):
    monkeypatch.setattr(network_classes, "_REGISTERED", {})


def make_class():
    class Net(CNN):
        pass

    return Net


def same(one, other):
    x = torch.rand(2, 1, 5, 5)
    return torch.equal(one(x), other(x))


def test_a_registered_class_is_restored_with_its_arguments(tmp_path):
    network = register_model(make_class(), name="my-cnn")
    model = network(6)
    assert model.arguments == {"width": 6, "channels": 1}
    sb.save_model(model, tmp_path / "w.safetensors", recipe="imported")
    loaded = sb.load_model(tmp_path / "w.safetensors")
    assert type(loaded) is network
    assert same(loaded, model)
    card = read_weights(tmp_path / "w.safetensors")[1]
    assert (card["class"], card["arguments"]) == ("my-cnn", {"width": 6, "channels": 1})


def test_a_class_that_is_not_registered_is_given(tmp_path):
    model = CNN(3)
    path = tmp_path / "w.safetensors"
    sb.save_model(model, path)
    assert same(sb.load_model(path, network=CNN(3)), model)
    refused("arguments CNN network=CNN(...)", sb.load_model, path, network=CNN)
    refused("architecture first.weight", sb.load_model, path, network=CNN(4))
    model.arguments = {"width": 3}
    sb.save_model(model, path)
    assert same(sb.load_model(path, network=CNN), model)


def test_a_file_never_decides_what_is_imported(tmp_path, monkeypatch):
    """Neither the module nor its package is imported, even if it is on the path."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "bomb_of_this_test.py").write_text(f"open({str(tmp_path / 'exploded')!r}, 'w')\nclass Net: pass\n")
    path = tmp_path / "w.safetensors"
    for name in ("bomb_of_this_test:Net", "bomb_of_this_test.Net", "sciml_bounds.bomb:Net", "subprocess:Popen"):
        write_weights(path, {"a": torch.zeros(2)}, {"class": name, "arguments": {}})
        refused("network", sb.load_model, path)
    assert "bomb_of_this_test" not in sys.modules
    assert not (tmp_path / "exploded").exists()


def test_a_class_of_the_same_name_as_ours_is_another_class():
    impostor = type("MgNO", (nn.Linear,), {})
    assert class_name(impostor) == f"{__name__}:MgNO"
    assert class_name(sb.MgNO) == "MgNO"


def test_arguments_that_the_class_records_itself_win_and_subclasses_record_their_own():
    @register_model
    class Own(CNN):
        def __init__(self, width, *, depth=2, **others):
            super().__init__(width)
            self.arguments = {"all": width}

    @register_model
    class Base(CNN):
        def __init__(self, width, **others):
            super().__init__(width)

    @register_model
    class Derived(Base):
        def __init__(self, factor):
            super().__init__(2 * factor)

    assert Own(3).arguments == {"all": 3}
    assert Derived(2).arguments == {"factor": 2}
    assert Base(2, colour="red").arguments == {"width": 2, "colour": "red"}


def test_a_cell_of_a_notebook_may_be_run_again():
    first, again = make_class(), make_class()
    assert register_model(first) is first
    assert register_model(again) is again


test_refusals = refusals(
    ("register_model Module", lambda: register_model(CNN())),
    ("registered MgNO", lambda: register_model(make_class(), name="MgNO")),
    ("registered taken", lambda: (register_model(make_class(), name="taken"), register_model(CNN, name="taken"))),
    ("--class Module", lambda: import_class("json:loads", "--class")),
    ("Module", lambda tmp_path: given(tmp_path, dict)),
)


def given(tmp_path, network):
    sb.save_model(CNN(), tmp_path / "w.safetensors")
    return sb.load_model(tmp_path / "w.safetensors", network=network)
