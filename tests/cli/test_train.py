"""From a recipe to weights, in a shell."""

import json
import re
import signal
import subprocess
import sys

import pytest
import torch
from interruptions import interrupting

from sciml_bounds.cli.evaluate import evaluate
from sciml_bounds.cli.main import app, run
from sciml_bounds.cli.predict import predict
from sciml_bounds.cli.train import train
from sciml_bounds.recipes.generation import make_dataset
from sciml_bounds.store.datasets.weights import load_model, read_weights

for _command in (train, evaluate, predict):
    if all(_command is not known.callback for known in app.registered_commands):
        app.command()(_command)

#: What a process of its own runs.
RUN = """
import sys
from sciml_bounds.cli.main import app, run
from sciml_bounds.cli.train import train
if all(train is not known.callback for known in app.registered_commands):
    app.command()(train)
sys.exit(run(sys.argv[1:]))
"""

RECIPE = """
[data]
file = "darcy.nc"
recipe = "darcy-rough"
samples = 20
seed = 3
resolution = 16
in_memory = true
[model]
class = "MgNO"
arguments = { channels = 2, layers = 1, levels = 2 }
[training]
loss = "h1"
epochs = 3
batch_size = 8
lr = 5e-3
[output]
folder = "run"
weights = "final.safetensors"
metrics = ["l2", "h1"]
"""


@pytest.fixture(scope="session")
def darcy(tmp_path_factory):
    path = tmp_path_factory.mktemp("darcy") / "darcy.nc"
    make_dataset("darcy-rough", path, samples=20, seed=3, resolution=16)
    return path.read_bytes()


@pytest.fixture
def place(tmp_path, monkeypatch, darcy):
    """A folder with recipe and data, in which the command runs."""
    (tmp_path / "darcy.nc").write_bytes(darcy)
    (tmp_path / "small.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def error_of(capsys, words, *arguments):
    """Run a command that is refused, and check what is said last."""
    assert run(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    line = err.splitlines()[-1]
    missing = [word for word in words.split() if word.lower() not in line.lower()]
    assert not missing, f"{missing} not in {line!r}"


def test_a_recipe_leads_to_weights_whose_card_says_everything(place, capsys):
    assert run(["train", "small.toml", "--json"]) == 0
    out, err = capsys.readouterr()
    record = json.loads(out)
    assert record["reason"] == "all epochs done"
    assert record["epochs"] == 3
    assert 0 < record["test l2"] < 1
    assert re.search(r"in epoch 3 of 3, 0:00:00 left", err)
    assert {path.name for path in (place / "run").iterdir()} == {
        "best.safetensors", "last.safetensors", "log.csv", "log.jsonl",
    }  # fmt: skip
    state, card = read_weights("final.safetensors")
    assert card["class"] == "MgNO"
    assert (card["recipe"], card["seed"]) == ("darcy-rough", 0)
    assert card["metrics"].keys() == {"test l2", "test h1", "validation l2"}
    assert card["data"]["train"]["samples"] == 16
    assert card["data"]["train"]["seed"] == 3
    assert card["training_recipe"]["training"]["lr"] == 5e-3
    best = read_weights("run/best.safetensors")[0]
    assert all(torch.equal(state[name], best[name]) for name in state)
    assert load_model("final.safetensors")(torch.ones(1, 1, 16, 16)).shape == (1, 1, 17, 17)


@pytest.mark.slow
def test_the_same_recipe_gives_the_same_weights(place):
    for folder in ("a", "b"):
        assert run(["train", "small.toml", "--folder", folder, "--set", f"output.weights={folder}.safetensors"]) == 0
    ours, theirs = (read_weights(f"{name}.safetensors")[0] for name in "ab")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert run(["train", "small.toml", "--folder", "c", "--set", "training.seed=1"]) == 0
    others = read_weights("final.safetensors")[0]
    assert not all(torch.equal(ours[name], others[name]) for name in ours)


def test_weights_of_another_training_are_not_replaced(place, capsys):
    assert run(["train", "small.toml", "--set", "training.epochs=1"]) == 0
    kept = (place / "final.safetensors").read_bytes()
    capsys.readouterr()
    error_of(capsys, "final.safetensors", "train", "small.toml", "--folder", "other")
    assert not (place / "other").exists()
    assert (place / "final.safetensors").read_bytes() == kept


def test_a_table_is_printed_and_a_value_replaced(place, capsys):
    assert run(["train", "small.toml", "--set", "training.epochs=1", "--set", "training.loss=l2"]) == 0
    out = capsys.readouterr().out
    assert "1 of 1" in out
    assert "test h1" in out
    assert read_weights("run/best.safetensors")[1]["settings"]["loss"] == "l2"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_loses_nothing(place, number, code):
    arguments = ["train", "small.toml", "--set", "training.epochs=40"]
    code_of_run = interrupting(number, "epoch 1 of 40") + RUN
    done = subprocess.run([sys.executable, "-c", code_of_run, *arguments], capture_output=True, text=True)
    assert done.returncode == code
    lines = done.stderr.splitlines()
    assert lines[-1] == f"sciml-bounds: stopped by {number.name}; no partial file is left."
    assert re.fullmatch(r"sciml-bounds: the checkpoint .*last.safetensors is complete; resume from it\.", lines[-2])
    assert read_weights("run/last.safetensors")[1]["state"]["epoch"] < 40
    assert run([*arguments, "--resume"]) == 0
    assert run([*arguments, "--folder", "whole", "--set", "output.weights=whole.safetensors"]) == 0
    for name in ("last.safetensors", "best.safetensors"):
        ours, theirs = (read_weights(f"{folder}/{name}")[0] for folder in ("run", "whole"))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("training.epoch=2", "[training] small.toml 'epoch' epochs"),
        ("trainin.epochs=2", "small.toml 'trainin' training"),
        ("data.files=2", "[data] small.toml 'files' file"),
        ("training.lr=fast", "lr='fast' finite number 0"),
        ("training.device=cdua", "device='cdua' device"),
        ("model.class=MgN", "network 'MgN' MgNO"),
        (
            "model.arguments={chanels = 3}",
            "arguments MgNO 'chanels'",
        ),
        (
            "model.arguments={in_channels = 2, channels = 2}",
            "input 1 channels axis network 2",
        ),
        ("data.recipe=darcy-smooth", "recipe 'darcy-rough' 'darcy-smooth'"),
        (
            "data.seed=4",
            "seed 3 4 20",
        ),
        ("data.samples=30", "20 samples 30"),
        ("data.samples=many", "data samples = 'many' number"),
        ("data.file=none.nc", "data"),
        ('data.inputs=["permeability"]', "variable 'permeability'"),
        ("data.inputs=3", "inputs = 3 list names"),
        ("data.targets=[1]", "targets = [1] list names"),
        ("data.in_memory=yes", "in_memory = 'yes'"),
        ("output.weights=final.pt", "safetensors"),
        ("output.metrics=l2", "= 'l2' list names"),
        ('output.metrics=["l2", "h2"]', "metric 'h2' 'l2'"),
        ("training.select=bound", "bound loss values function"),
        ("output.folder=3", "folder = 3"),
        ("epochs=2", "epochs=2 TABLE.NAME=VALUE"),
        ("data.file.name=2", "data.file.name=2 file"),
    ],
    ids=lambda text: text.split("=")[0],
)
def test_a_wrong_recipe_is_one_sentence_before_any_work(place, capsys, change, words):
    error_of(capsys, words, "train", "small.toml", "--set", change)
    assert not (place / "run" / "last.safetensors").exists()
    assert not (place / "final.safetensors").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[data", "TOML"),
        ("data = 3", "data"),
        ("[data]\n", "data file ="),
        ('[data]\nfile = "a.nc"\n', "class ="),
    ],
)
def test_a_recipe_that_cannot_be_read_is_one_sentence(place, capsys, content, words):
    (place / "bad.toml").write_text(content)
    error_of(capsys, words, "train", "bad.toml")
    error_of(capsys, "recipe TOML file", "train", "none.toml")


def test_data_in_place_of_a_recipe_are_one_sentence(place, capsys):
    error_of(capsys, "TOML file recipe training", "train", "darcy.nc")
    (place / "classic.nc").write_bytes(b"CDF\x01\x00")
    error_of(capsys, "TOML file recipe training", "train", "classic.nc")


def test_a_network_of_ones_own_is_trained_lengthened_evaluated_and_applied(place, capsys):
    """Its class is named in the recipe, which is the user's; a file of weights needs the option --class."""
    own = ["--set", "model.class=own_networks:CNN", "--set", "model.arguments={width = 3}"]
    recipe = ["train", "small.toml", *own, "--set", 'output.metrics=["l2", "bound"]']
    assert run([*recipe, "--set", "training.epochs=1"]) == 0
    assert run([*recipe, "--resume", "--set", "training.epochs=2", "--json"]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (record["epochs"], record["class"]) == (2, "own_networks:CNN")
    assert record["test bound"] > 0
    command = ["evaluate", "final.safetensors", "darcy.nc", "--metrics", "bound", "--json"]
    error_of(capsys, "own_networks:CNN --class", *command)
    assert run([*command, "--class", "own_networks:CNN"]) == 0
    evaluated = json.loads(capsys.readouterr().out)
    assert evaluated["metrics"]["bound"]["mean"] == pytest.approx(record["test bound"], rel=1e-3)
    field = ["--coefficient", "darcy.nc:coefficient", "--sample", "0", "--source", "1", "--shape", "16,16"]
    predicted = ["predict", "final.safetensors", *field, "--certify", "--json"]
    error_of(capsys, "own_networks:CNN --class", *predicted)
    assert run([*predicted, "--class", "own_networks:CNN"]) == 0
    assert json.loads(capsys.readouterr().out)["certificate"]["upper"] > 0


def test_a_class_that_cannot_be_imported(place, capsys):
    error_of(capsys, "class no_module:CNN small.toml", "train", "small.toml", "--set", "model.class=no_module:CNN")
    error_of(capsys, "class json:loads Module", "train", "small.toml", "--set", "model.class=json:loads")
    error_of(capsys, "class text", "train", "small.toml", "--set", "model.class=3")


def test_damaged_data_and_a_folder_in_use_are_one_sentence(place, capsys):
    assert run(["train", "small.toml", "--set", "training.epochs=1"]) == 0
    capsys.readouterr()
    error_of(capsys, "training", "train", "small.toml")
    error_of(capsys, "lr=0.005 0.1", "train", "small.toml", "--resume", "--set", "training.lr=0.1")
    changed = ["--set", "model.arguments={channels = 3, layers = 1, levels = 2}", "--set", "training.epochs=1"]
    error_of(capsys, "architecture", "train", "small.toml", "--resume", *changed)
    (place / "darcy.nc").write_bytes((place / "darcy.nc").read_bytes()[:5000])
    error_of(capsys, "darcy.nc", "train", "small.toml", "--folder", "new")


def test_a_training_that_breaks_ends_with_three(place, capsys):
    assert run(["train", "small.toml", "--set", "training.lr=1e30", "--set", "training.schedule=constant"]) == 3
    assert re.search(r"epoch \d+(, step \d+)?: .*checkpoint", capsys.readouterr().err.splitlines()[-1])


def test_the_recipes_that_ship_can_be_read():
    from sciml_bounds.training._training_recipes import read_training_recipe, shipped_recipes

    assert "darcy-rough" in shipped_recipes()
    for name in shipped_recipes():
        recipe = read_training_recipe(name)
        assert sum(p.numel() * p.element_size() for p in recipe.make_model().parameters()) < 3e6


@pytest.mark.slow
def test_processes_of_torchrun_share_the_work_and_one_speaks(place):
    """In float32 and over six steps of Adam, sums in another order stay far below a thousandth."""
    (place / "run.py").write_text(RUN)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*torchrun, "run.py", "train", "small.toml", "--json", "--folder", "two"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert run(["train", "small.toml", "--folder", "one", "--set", "output.weights=one.safetensors"]) == 0
    ours, theirs = (read_weights(f"{folder}/best.safetensors")[1]["metrics"] for folder in ("two", "one"))
    assert ours["validation l2"] == pytest.approx(theirs["validation l2"], rel=1e-3)


DIRECTIONS = """
[data]
file = "ritz.nc"
recipe = "ritz-poisson-2d"
samples = 20
seed = 0
resolution = 8
inputs = ["rhs", "geometry"]
[model]
class = "LearnedDirections"
arguments = { network = "multigrid", dim = 2, levels = 2 }
[training]
loss = "line-search"
epochs = 3
batch_size = 4
lr = 1e-2
weight_decay = 0.0
[output]
weights = "directions.safetensors"
"""


def test_learned_directions_are_trained_from_a_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_dataset("ritz-poisson-2d", "ritz.nc", samples=20, seed=0, resolution=8)
    (tmp_path / "directions.toml").write_text(DIRECTIONS)
    assert run(["train", "directions.toml", "--folder", "run"]) == 0
    _, card = read_weights("directions.safetensors")
    assert card["class"] == "LearnedDirections"
    assert set(card["metrics"]) == {"test line-search", "validation line-search"}
    network = load_model("directions.safetensors")
    assert network.arguments == {"network": "multigrid", "dim": 2, "levels": 2}
    assert run(["evaluate", "directions.safetensors", "ritz.nc", "--out", "each.csv"]) == 0
    assert (tmp_path / "each.csv").read_text().splitlines()[0].endswith("line-search")
    assert run(["predict", "directions.safetensors", "--shape", "8,8", "--out", "u.nc"]) == 2


def test_a_recipe_of_directions_without_their_loss_is_refused_before_any_work(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_dataset("ritz-poisson-2d", "ritz.nc", samples=20, seed=0, resolution=8)
    (tmp_path / "directions.toml").write_text(DIRECTIONS.replace('loss = "line-search"\n', ""))
    error_of(capsys, "loss='h1' 'line-search' 'contraction'", "train", "directions.toml")
    (tmp_path / "directions.toml").write_text(DIRECTIONS.replace('inputs = ["rhs", "geometry"]\n', ""))
    error_of(capsys, "input 1 channels axis network 2 geometry", "train", "directions.toml")


def test_a_training_starts_from_the_weights_of_another_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_dataset("ritz-poisson-2d", "ritz.nc", samples=20, seed=0, resolution=8)
    (tmp_path / "directions.toml").write_text(DIRECTIONS)
    assert run(["train", "directions.toml", "--folder", "first"]) == 0
    changes = ("model.start=first/best.safetensors", "training.epochs=1", "output.weights=second.safetensors")
    again = ["train", "directions.toml", *(word for change in changes for word in ("--set", change))]
    assert run([*again, "--folder", "second", "--set", "training.lr=1e-9", "--set", "training.seed=1"]) == 0
    before, first = read_weights("first/best.safetensors")
    after, second = read_weights("second/best.safetensors")
    assert second["start"] == first["sha256"]
    assert all(bool((after[name] - before[name]).abs().max() < 1e-7) for name in before)  # five steps of 1e-9
    capsys.readouterr()
    error_of(capsys, "architecture", *again, "--set", "model.arguments.levels=1", "--folder", "third")
    lost = [*again, "--set", "model.start=lost.safetensors", "--folder", "third"]
    error_of(capsys, "file", *lost)
    error_of(capsys, "= 3", *again, "--set", "model.start=3", "--folder", "third")
