"""Weights come back bit by bit, or not at all."""

import json
import os
import struct
import sys
import types

import pytest
import safetensors
import safetensors.torch
import torch
from refusals import failing, refused
from torch import nn

from sciml_bounds.errors import InputError
from sciml_bounds.multigrid._mgno import MgNO
from sciml_bounds.multigrid._published_mgno import PublishedMgNO
from sciml_bounds.store.datasets import weights
from sciml_bounds.store.datasets.weights import describe_weights, load_model, read_weights, save_model, write_weights


class Tiny(nn.Module):
    """A network of two tensors that is made from JSON."""

    def __init__(self, width=3, *, bias=True):
        super().__init__()
        if width < 1:
            raise InputError(f"width={width} is not positive.")
        self.arguments = {"width": width, "bias": bias}
        self.layer = nn.Linear(width, width, bias=bias)
        self.register_buffer("mean", torch.tensor(0.5))

    def forward(self, x):
        return self.layer(x - self.mean)


@pytest.fixture(autouse=True)
def _tiny_is_a_network(monkeypatch):
    module = types.ModuleType("networks_of_the_test")
    module.Tiny = Tiny
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(weights.MODELS, "Tiny", f"{module.__name__}:Tiny")


@pytest.fixture
def file(tmp_path):
    save_model(Tiny(), tmp_path / "w.safetensors", recipe="darcy-rough", seed=3, metrics={"l2": 0.01})
    return tmp_path / "w.safetensors"


def parts(file):
    """Split a safetensors file into its header and its numbers."""
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join(file, header, numbers):
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + numbers)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_network_comes_back_bit_by_bit(tmp_path, dtype):
    model = Tiny(4).to(dtype)
    save_model(model, tmp_path / "w.safetensors", recipe="darcy-rough")
    same = load_model(tmp_path / "w.safetensors")
    assert type(same) is Tiny
    assert not same.training
    assert same.arguments == model.arguments
    for name, tensor in model.state_dict().items():
        assert same.state_dict()[name].dtype == dtype
        assert torch.equal(same.state_dict()[name], tensor)
    x = torch.randn(2, 4, dtype=dtype)
    assert torch.equal(same(x), model(x))


def test_every_type_of_tensor_and_views_come_back(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    state = {
        "a": base,
        "transposed": base.T,
        "shared": base,
        "complex": torch.randn(2, 2, dtype=torch.complex64),
        "count": torch.tensor(7),
        "flags": torch.tensor([True, False]),
        "empty": torch.empty(0, 3),
    }
    write_weights(tmp_path / "w.safetensors", state, {})
    again, _ = read_weights(tmp_path / "w.safetensors")
    assert again.keys() == state.keys()
    for name in state:
        assert torch.equal(again[name], state[name])
        assert again[name].dtype == state[name].dtype


def test_the_card_says_what_is_in_the_file(file):
    _, card = read_weights(file)
    assert card["class"] == "Tiny"
    assert card["arguments"] == {"width": 3, "bias": True}
    assert (card["recipe"], card["seed"], card["metrics"]) == ("darcy-rough", 3, {"l2": 0.01})
    assert card["versions"].keys() == {"sciml_bounds", "torch"}
    assert len(card["sha256"]) == 64


def test_a_description_is_card_and_shapes(file):
    tensors, card = read_weights(file)
    contents = describe_weights(file)
    assert contents.attributes == card
    assert {name: info.shape for name, info in contents.arrays.items()} == {
        n: tuple(t.shape) for n, t in tensors.items()
    }
    assert {info.dtype for info in contents.arrays.values()} == {"float32"}


def test_other_programs_read_the_tensors(file):
    assert safetensors.torch.load_file(file).keys() == {"layer.weight", "layer.bias", "mean"}


def test_the_same_weights_are_the_same_bytes(tmp_path):
    model = Tiny()
    for name in ("a", "b"):
        save_model(model, tmp_path / f"{name}.safetensors", seed=1, recipe="r")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_truncated_file_is_one_sentence_wherever_it_ends(file):
    content = file.read_bytes()
    for length in [0, 1, 7, 8, 9, 100, len(content) // 2, len(content) - 1]:
        file.write_bytes(content[:length])
        refused("file", read_weights, file)
    file.write_bytes(content + b"\0")
    refused("file", read_weights, file)


@pytest.mark.slow
def test_no_byte_can_be_changed_unnoticed(file):
    """A change that leaves the content as it is, white space in the header for example, gives the same content."""
    content = file.read_bytes()
    expected, card = read_weights(file)
    sentences = []
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << (place % 7)
        file.write_bytes(changed)
        try:
            state, read = read_weights(file)
        except InputError as error:
            sentences.append(str(error))
            continue
        assert read == card
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert len(sentences) > 0.9 * len(content)
    assert all(sentence.endswith(".") and "\n" not in sentence for sentence in sentences)


def test_changed_numbers_and_changed_cards_are_told_apart(file):
    header, numbers = parts(file)
    join(file, header, bytes([numbers[0] ^ 1]) + numbers[1:])
    refused("numbers digest", read_weights, file)
    sealed = json.loads(header["__metadata__"]["sciml_bounds"])
    sealed["card"]["metrics"] = {"l2": 0.001}
    header["__metadata__"]["sciml_bounds"] = json.dumps(sealed)
    join(file, header, numbers)
    refused("card digest", read_weights, file)


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "{}", '{"card": 3, "sha256": ""}', '{"card": {}, "sha256": 1}'])
def test_a_card_that_is_none_is_one_sentence(file, text):
    header, numbers = parts(file)
    header["__metadata__"]["sciml_bounds"] = text
    join(file, header, numbers)
    refused("file", read_weights, file)


def test_a_foreign_file_is_one_sentence(tmp_path):
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(2)}, path)
    refused("tensors card package", read_weights, path)
    torch.save({"a": torch.zeros(2)}, path)
    refused("file", read_weights, path)
    refused("file", read_weights, tmp_path / "none.safetensors")
    refused("file", read_weights, tmp_path)


def test_a_newer_format_is_one_sentence(tmp_path):
    write_weights(tmp_path / "w.safetensors", {"a": torch.zeros(2)}, {"format_version": "1.0"})
    refused("version 1.0 0.1", read_weights, tmp_path / "w.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_never_written(tmp_path, value):
    model = Tiny()
    model.layer.weight.data[0, 0] = value
    refused("tensor NaN infinity", save_model, model, tmp_path / "w.safetensors")
    refused("JSON", lambda: save_model(Tiny(), tmp_path / "w.safetensors", loss=value))
    assert os.listdir(tmp_path) == []


def test_a_refused_write_keeps_the_old_file(file, monkeypatch):
    before = file.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    refused("device", lambda: save_model(Tiny(5), file))
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]


def test_only_classes_of_the_table_are_made(tmp_path):
    path = tmp_path / "w.safetensors"
    write_weights(path, {"a": torch.zeros(2)}, {"class": "Tyni", "arguments": {}})
    refused("network 'Tyni' mean Tiny?", load_model, path)
    write_weights(path, {"a": torch.zeros(2)}, {"class": "subprocess:Popen", "arguments": {}})
    refused("network", load_model, path)
    write_weights(path, {"a": torch.zeros(2)}, {})
    refused("card class", load_model, path)
    impostor = type("Tiny", (nn.Linear,), {"arguments": {}})(2, 2)
    save_model(impostor, path)
    refused("Tiny registered", load_model, path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"width": 0}, "arguments Tiny width=0 positive"),
        ({"size": 3}, "arguments Tiny keyword 'size'"),
        ({"width": "wide"}, "arguments Tiny"),
        ({"width": 10**12}, "arguments Tiny"),
        ([3], "arguments Tiny"),
        (None, "arguments Tiny"),
    ],
)
def test_arguments_that_make_no_network(tmp_path, arguments, words):
    path = tmp_path / "w.safetensors"
    write_weights(path, Tiny().state_dict(), {"class": "Tiny", "arguments": arguments})
    failing(InputError, words, lambda: load_model(path))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"width": 4}, "layer.weight (3, 3) (4, 4)"),
        ({"bias": False}, "layer.bias"),
    ],
    ids=["shape", "surplus"],
)
def test_weights_of_another_architecture(tmp_path, arguments, words):
    path = tmp_path / "w.safetensors"
    write_weights(path, Tiny().state_dict(), {"class": "Tiny", "arguments": arguments})
    refused(f"architecture {words}", load_model, path)
    write_weights(path, {"mean": torch.tensor(0.0)}, {"class": "Tiny", "arguments": {}})
    refused("layer.bias", load_model, path)


def test_a_card_that_asks_for_more_than_the_file_holds_takes_no_memory(tmp_path):
    """Of the 14 TB that a layer of this width takes, nothing is made before it is held against the file."""
    path = tmp_path / "w.safetensors"
    for width in (2 * 10**6, 10**8):
        write_weights(path, Tiny().state_dict(), {"class": "Tiny", "arguments": {"width": width}})
        refused(f"shape (3, 3) {width} {width})", load_model, path)
    arguments = {"channels": 10**5, "layers": 2, "levels": 2}
    write_weights(path, {"a": torch.zeros(2)}, {"class": "MgNO", "arguments": arguments})
    refused("architecture", load_model, path)


#: The arguments of `MgNO` that files of version 0.1 have in addition.
MOVED = {"norm": "none", "size": None, "head": "linear", "idle_operator": False}


@pytest.mark.parametrize(
    ("moved", "kind"),
    [
        ({}, MgNO),
        ({"norm": "levels", "size": [8, 8]}, PublishedMgNO),
        ({"size": [8, 8]}, PublishedMgNO),
        ({"head": "cycle"}, PublishedMgNO),
        ({"idle_operator": True}, PublishedMgNO),
        ({"size": [8, 8], "normalization": ["pointwise", "scalar"]}, PublishedMgNO),
    ],
)
def test_networks_of_older_files_keep_loading(tmp_path, moved, kind):
    """Files of version 0.1 name every network an `MgNO`, with arguments that only `PublishedMgNO` has now."""
    model = kind(channels=3, layers=2, levels=2, layout="same", boundary="neumann", **moved).eval()
    card = {"class": "MgNO", "arguments": model.arguments | MOVED | moved}
    write_weights(tmp_path / "w.safetensors", model.state_dict(), card)
    loaded = load_model(tmp_path / "w.safetensors")
    assert (type(loaded), loaded.arguments) == (kind, model.arguments)
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(loaded(x), model(x))


def test_names_mean_what_ships(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "_SHIPPED", tmp_path)
    refused("weights 'darcy-rough' package", load_model, "darcy-rough")
    model = Tiny()
    save_model(model, tmp_path / "darcy-rough.safetensors")
    assert torch.equal(load_model("darcy-rough").layer.weight, model.layer.weight)
    refused("mean", load_model, "darcy-ruogh")
    refused("file", load_model, tmp_path / "darcy-rough")


def test_another_ending_is_refused(tmp_path):
    refused("safetensors", write_weights, tmp_path / "w.pt", {}, {})
