"""Data sets from recipes: the same bits, however many processes made them and however often they were killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_recipe import FakeRecipe
from refusals import refused

from sciml_bounds.errors import ConvergenceError
from sciml_bounds.recipes.generation import consolidate, make_dataset, make_shard
from sciml_bounds.store.datasets.dataset_files import open_dataset

HERE = Path(__file__).parents[1] / "support"


@pytest.fixture
def log(tmp_path):
    """A file beside the folder of the data sets."""
    return tmp_path / "log"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def chunks_in(log: Path) -> list[int]:
    return [int(line.split()[0]) for line in log.read_text().splitlines()] if log.exists() else []


def arrays(path: Path) -> dict[str, tuple[str, bytes]]:
    with open_dataset(path) as data:
        return {str(name): (str(v.dtype), v.values.tobytes()) for name, v in data.variables.items()}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    path = tmp_path_factory.mktemp("expected") / "a.nc"
    make_dataset(FakeRecipe(), path, samples=10, seed=3)
    return arrays(path)


# --- the same bits ----------------------------------------------------------------------------------------------------


def test_a_data_set_is_what_the_recipe_says(folder, log):
    make_dataset(FakeRecipe(log=log), folder / "a.nc", samples=10, seed=3)
    assert chunks_in(log) == [0, 4, 8]
    whole = FakeRecipe().generate(3, 0, 12, 4, torch.device("cpu"))
    with open_dataset(folder / "a.nc") as data:
        assert (data["solution"].values == whole["solution"][:10]).all()
        assert data["coefficient"].dtype == np.float32
        assert data["sample"].values.tolist() == list(range(10))
        assert data["split"].values.tolist() == [0] * 8 + [1, 2]
        assert json.loads(data.attrs["parameters"]) == {"scale": 1.0, "shape": [4, 4]}
        names = ("recipe", "title", "seed", "resolution", "device", "samples", "layout")
        assert [data.attrs[name] for name in names] == ["fake", "A fake", 3, 4, "cpu", 10, "cells->nodes"]
    assert os.listdir(folder) == ["a.nc"]


def test_published_numbers_are_the_default(folder):
    make_dataset(FakeRecipe(), folder / "a.nc")
    with open_dataset(folder / "a.nc") as data:
        assert (data.sizes["sample"], data.sizes["x"], data.attrs["seed"]) == (10, 4, 0)


@pytest.mark.parametrize("samples", [1, 4, 7])
def test_a_sample_does_not_depend_on_how_many_there_are(folder, expected, samples):
    make_dataset(FakeRecipe(), folder / "a.nc", samples=samples, seed=3)
    for name, (dtype, content) in arrays(folder / "a.nc").items():
        assert dtype == expected[name][0]
        assert expected[name][1].startswith(content)


def test_nor_on_a_seed_or_resolution_that_is_another(folder, expected):
    make_dataset(FakeRecipe(), folder / "a.nc", samples=10, seed=4)
    make_dataset(FakeRecipe(), folder / "b.nc", samples=10, seed=3, resolution=5)
    assert arrays(folder / "a.nc")["solution"] != expected["solution"]
    assert arrays(folder / "b.nc")["solution"] != expected["solution"]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_nor_on_the_number_of_workers(folder, log, expected, workers, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    make_dataset(FakeRecipe(log=log), folder / "a.nc", samples=10, seed=3, workers=workers)
    assert arrays(folder / "a.nc") == expected
    lines = [line.split() for line in log.read_text().splitlines()]
    assert sorted(int(first) for first, *_ in lines) == [0, 4, 8]
    assert str(os.getpid()) not in {process for _, process, _ in lines}
    assert {threads for *_, threads in lines} == {str(4 // workers)}  # which share the threads of this process


def test_nor_on_where_it_was_interrupted(folder, log, expected):
    with pytest.raises(ConvergenceError):
        make_dataset(FakeRecipe(failing={8: "sentence"}), folder / "a.nc", samples=10, seed=3)
    assert os.listdir(folder) == [".a.nc.parts"]
    make_dataset(FakeRecipe(log=log), folder / "a.nc", samples=10, seed=3)
    assert chunks_in(log) == [8]
    assert arrays(folder / "a.nc") == expected
    assert os.listdir(folder) == ["a.nc"]


def test_parts_serve_another_number_of_samples(folder, log, expected):
    with pytest.raises(ConvergenceError):
        make_dataset(FakeRecipe(failing={4: "sentence"}), folder / "a.nc", samples=7, seed=3)
    make_dataset(FakeRecipe(log=log), folder / "a.nc", samples=10, seed=3)
    assert chunks_in(log) == [4, 8]
    assert arrays(folder / "a.nc") == expected


@pytest.mark.parametrize("damage", ["cut", "changed", "renamed"])
def test_parts_that_are_damaged_are_made_again(folder, log, expected, damage):
    with pytest.raises(ConvergenceError):
        make_dataset(FakeRecipe(failing={8: "sentence"}), folder / "a.nc", samples=10, seed=3)
    first, second = (folder / ".a.nc.parts" / f"{number:09d}.nc" for number in (0, 4))
    content = second.read_bytes()
    if damage == "cut":
        second.write_bytes(content[:-100])
    elif damage == "renamed":
        second.write_bytes(first.read_bytes())
    else:
        middle = len(content) // 2
        second.write_bytes(content[:middle] + bytes(200) + content[middle + 200 :])
    make_dataset(FakeRecipe(log=log), folder / "a.nc", samples=10, seed=3)
    assert chunks_in(log) == [4, 8]
    assert arrays(folder / "a.nc") == expected


def test_what_is_there_is_not_made_again(folder, log, caplog):
    make_dataset(FakeRecipe(), folder / "a.nc", samples=10, seed=3)
    with caplog.at_level("INFO", logger="sciml_bounds"):
        make_dataset(FakeRecipe(log=log), folder / "a.nc", samples=10, seed=3)
    assert chunks_in(log) == []
    assert caplog.messages == [f"{folder / 'a.nc'} already contains the requested data set; nothing to do."]


@pytest.mark.parametrize(
    ("options", "words"),
    [({"samples": 9, "seed": 3}, "samples"), ({"samples": 10, "seed": 4}, "seed"), ({"samples": 10, "scale": 2.0}, "")],
    ids=["fewer", "seed", "parameters"],
)
def test_another_data_set_that_is_there_is_never_replaced(folder, log, options, words):
    make_dataset(FakeRecipe(), folder / "a.nc", samples=10, seed=3)
    before = (folder / "a.nc").read_bytes()
    recipe = FakeRecipe(log=log, scale=options.pop("scale", 1.0))
    refused(f"data {words}", make_dataset, recipe, folder / "a.nc", **({"seed": 3} | options))
    assert chunks_in(log) == []
    assert (folder / "a.nc").read_bytes() == before


def test_a_file_that_is_no_data_set_is_never_replaced(folder):
    (folder / "a.nc").write_bytes(b"results of last year")
    refused("data", lambda: make_dataset(FakeRecipe(), folder / "a.nc", samples=10, seed=3))
    assert (folder / "a.nc").read_bytes() == b"results of last year"


def test_finished_parts_of_a_larger_data_set_are_not_thrown_away(folder, log):
    with pytest.raises(ConvergenceError) as kept:
        make_dataset(FakeRecipe(failing={8: "sentence"}), folder / "a.nc", samples=12, seed=3)
    refused("part data samples", lambda: make_dataset(FakeRecipe(), folder / "a.nc", samples=4, seed=3))
    make_dataset(FakeRecipe(log=log), folder / "a.nc", samples=12, seed=3)
    assert chunks_in(log) == [8]
    assert kept.value  # until here, as notebooks keep the last one; it must not keep the lock


# --- kills ------------------------------------------------------------------------------------------------------------

RUN = """
import sys
sys.path.append({here!r})
from pathlib import Path
from fake_recipe import FakeRecipe
from functools import partial
from sciml_bounds.cli._program import interrupt
from sciml_bounds.recipes.generation import make_dataset
import signal
signal.signal(signal.SIGTERM, partial(interrupt, "sciml-bounds"))
recipe = FakeRecipe(log=Path({log!r}), gate=Path({gate!r}))
make_dataset(recipe, {path!r}, samples=26, seed=3, workers={workers})
"""


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_in_the_midst_of_it(tmp_path, folder, log, workers, number):
    gate = tmp_path / "gate"
    places = {"here": HERE, "log": log, "gate": gate, "path": folder / "a.nc"}
    code = RUN.format(**{name: str(place) for name, place in places.items()}, workers=workers)
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as process:
        while len(chunks_in(log)) < 3 and process.poll() is None:  # the third chunk waits at the gate
            time.sleep(0.01)
        process.send_signal(number)
        process.wait()
        gate.touch()  # workers whose parent was killed end after the chunk at hand
        complaint = process.stderr.read()
    assert "Traceback" not in complaint
    assert process.returncode == (-9 if number == signal.SIGKILL else 143)
    while any(lives(int(line.split()[1])) for line in log.read_text().splitlines()):
        time.sleep(0.01)
    assert os.listdir(folder) == [".a.nc.parts"]
    if number == signal.SIGTERM:
        assert not [name for name in os.listdir(folder / ".a.nc.parts") if name.endswith(".part")]
    finished = {int(path.stem) for path in (folder / ".a.nc.parts").glob("*.nc")}
    assert 0 < len(finished) < 7
    log.unlink()
    make_dataset(FakeRecipe(log=log), folder / "a.nc", samples=26, seed=3)
    assert chunks_in(log) == sorted(set(range(0, 26, 4)) - finished)
    make_dataset(FakeRecipe(), tmp_path / "once.nc", samples=26, seed=3)
    assert arrays(folder / "a.nc") == arrays(tmp_path / "once.nc")
    assert os.listdir(folder) == ["a.nc"]


def test_a_worker_ends_though_python_discards_the_exit():
    """A signal during a weak reference: the exception of its handler is discarded by Python."""
    code = """
import os, signal, time, weakref
from sciml_bounds.recipes._workers import _exit_on_termination
class Thing: pass
_exit_on_termination()
thing = Thing()
watch = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGTERM))
del thing
while True: time.sleep(0.01)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 143
    assert run.stderr == ""


# --- shards -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3])
def test_shards_join_to_the_data_set_of_one_run(folder, expected, count):
    paths = [folder / f"{i}.nc" for i in range(count)]
    for i in reversed(range(count)):
        make_shard(FakeRecipe(), paths[i], samples=10, seed=3, shard_index=i, num_shards=count)
    indices = []
    for path in paths:
        with open_dataset(path) as shard:
            assert shard.attrs["samples"] == 10
            indices += shard["sample"].values.tolist()
    assert indices == list(range(10))
    consolidate(paths[::-1], folder / "a.nc")
    assert arrays(folder / "a.nc") == expected
    make_dataset(FakeRecipe(), folder / "b.nc", samples=10, seed=3)
    with open_dataset(folder / "a.nc") as joined, open_dataset(folder / "b.nc") as once:
        ours = {"created", "checksum"}
        assert {k: v for k, v in joined.attrs.items() if k not in ours} == {
            k: v for k, v in once.attrs.items() if k not in ours
        }
        assert joined["x"].attrs == once["x"].attrs


@pytest.fixture(scope="module")
def made_shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    for i in range(3):
        make_shard(FakeRecipe(), folder / f"{i}.nc", samples=10, seed=3, shard_index=i, num_shards=3)
    return folder


@pytest.fixture
def shards(folder, made_shards):
    return [Path(shutil.copy(made_shards / f"{i}.nc", folder)) for i in range(3)]


def test_shards_that_do_not_fit(shards, folder):
    first, second, third = shards
    out = folder / "out.nc"
    refused("samples 4 7 shards shard", consolidate, [first, third], out)
    refused("samples 8 9", consolidate, [first, second], out)
    refused("samples 0 3", consolidate, [third, second], out)
    other = folder / "other.nc"
    make_shard(FakeRecipe(), other, samples=10, seed=3, shard_index=0, num_shards=2)
    refused("0.nc samples 0 3", consolidate, [first, second, third, other], out)
    refused("samples 4 7", consolidate, [first, second, second, third], out)
    refused("shard", consolidate, [], out)
    refused("file", consolidate, [first, folder / "none.nc"], out)
    assert not out.exists()


def test_what_is_there_is_not_replaced_by_joining(shards, folder, caplog):
    out = folder / "a.nc"
    make_dataset(FakeRecipe(), out, samples=10, seed=4)
    before = out.read_bytes()
    refused("data seed", consolidate, shards, out)
    assert out.read_bytes() == before
    out.write_bytes(b"results of last year")
    refused("data", consolidate, shards, out)
    assert out.read_bytes() == b"results of last year"
    out.unlink()
    consolidate(shards, out)
    written = out.stat().st_mtime_ns
    with caplog.at_level("INFO", logger="sciml_bounds"):
        consolidate(shards, out)  # a job that is queued once more
    assert out.stat().st_mtime_ns == written
    assert caplog.messages == [f"{out} already contains the requested data set; nothing to do."]


def test_shards_stay_as_they_are(shards):
    before = [shard.read_bytes() for shard in shards]
    refused("shards name", lambda: consolidate(shards, shards[1].parent / "." / shards[1].name))
    assert [shard.read_bytes() for shard in shards] == before


@pytest.mark.parametrize(
    ("recipe", "asked", "words"),
    [
        (FakeRecipe(), {"seed": 4, "samples": 10}, "seed"),
        (FakeRecipe(scale=2.0), {"seed": 3, "samples": 10}, "parameters"),
        (FakeRecipe(name="other"), {"seed": 3, "samples": 10}, "recipe"),
        (FakeRecipe(), {"seed": 3, "samples": 12}, "samples"),
        (FakeRecipe(), {"seed": 3, "samples": 10, "resolution": 5}, "resolution, parameters"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_shards_of_other_data_sets(shards, folder, recipe, asked, words):
    make_shard(recipe, folder / "other.nc", shard_index=1, num_shards=3, **asked)
    refused(f"shards data {words}", lambda: consolidate([shards[0], folder / "other.nc", shards[2]], folder / "out.nc"))


def test_shards_that_are_damaged(shards, folder):
    content = shards[1].read_bytes()
    middle = len(content) // 2
    shards[1].write_bytes(content[:middle] + bytes(500) + content[middle + 500 :])
    refused("1.nc", consolidate, shards, folder / "out.nc")


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"samples": 0}, "number samples 0 integer 1"),
        ({"samples": 2.5}, "number samples 2.5"),
        ({"seed": -1}, "seed -1 integer 0"),
        ({"seed": 2**63}, "seed 9223372036854775808"),
        ({"seed": True}, "seed True"),
        ({"workers": -1}, "number workers -1"),
        ({"resolution": 1}, "recipe resolution 1"),
        ({"device": "gpu"}, "device='gpu' device 'cpu' 'cuda'"),
        ({"device": "cuda:77"}, "device='cuda:77'"),
        ({"recipe": "darcy-ruff"}, "recipe 'darcy-ruff' 'darcy-rough'"),
        ({"path": "none/a.nc"}, "folder"),
        ({"path": "a.csv"}, "extension"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "-".join(map(str, value)),
)
def test_arguments_that_are_wrong(folder, monkeypatch, changed, words):
    monkeypatch.chdir(folder)
    refused(words, lambda: make_dataset(**({"recipe": FakeRecipe(), "path": "a.nc", "samples": 4} | changed)))
    assert os.listdir(folder) == []


def test_shards_that_cannot_be(folder):
    def make(index: int, count: int) -> None:
        make_shard(FakeRecipe(), folder / "a.nc", samples=10, shard_index=index, num_shards=count)

    refused("4 shards 10 samples 3", make, 0, 4)
    refused("index shard 3 shards 0 2", make, 3, 3)
    refused("number shards 0", make, 0, 0)


def test_parts_of_another_request_are_not_touched(folder):
    with pytest.raises(ConvergenceError):
        make_dataset(FakeRecipe(failing={4: "sentence"}), folder / "a.nc", samples=10, seed=3)
    before = sorted(os.listdir(folder / ".a.nc.parts"))
    refused("part seed", lambda: make_dataset(FakeRecipe(), folder / "a.nc", samples=10, seed=4))
    refused(
        "resolution parameters", lambda: make_dataset(FakeRecipe(), folder / "a.nc", samples=10, seed=3, resolution=5)
    )
    assert sorted(os.listdir(folder / ".a.nc.parts")) == before
    (folder / ".a.nc.parts" / "request.json").write_text("nonsense")
    refused("another data set", lambda: make_dataset(FakeRecipe(), folder / "a.nc", samples=10, seed=3))


def test_a_failure_before_the_first_part_leaves_nothing(folder):
    with pytest.raises(ConvergenceError, match=r"sample.*5"):
        make_dataset(FakeRecipe(failing={0: "sentence"}), folder / "a.nc")
    assert os.listdir(folder) == []


def test_two_at_a_time(folder):
    class Nested(FakeRecipe):
        def generate(self, *arguments):
            make_dataset(FakeRecipe(), folder / "a.nc")

    refused("process", lambda: make_dataset(Nested(), folder / "a.nc"))


def test_recipes_that_do_not_give_what_they_promise(folder):
    with pytest.raises(ConvergenceError, match=r"infinity.*'solution'"):
        make_dataset(FakeRecipe(failing={4: "nan"}), folder / "a.nc")
    refused(
        "recipe 'solution' float64 shape (4, 4, 5)",
        lambda: make_dataset(FakeRecipe(failing={0: "shape"}), folder / "b.nc"),
    )


@pytest.mark.slow
def test_workers_that_fail(folder):
    with pytest.raises(ConvergenceError, match=r"sample.*5"):
        make_dataset(FakeRecipe(failing={4: "sentence"}), folder / "a.nc", workers=2)
    refused("worker signal SIGKILL", lambda: make_dataset(FakeRecipe(failing={4: "die"}), folder / "a.nc", workers=1))
    with pytest.raises(RuntimeError, match=r"(?s)Traceback.*ZeroDivisionError: a bug"):
        make_dataset(FakeRecipe(failing={4: "bug"}), folder / "a.nc", workers=1)


def test_recipes_that_workers_cannot_have(folder):
    class Local(FakeRecipe):
        pass

    refused("recipe module", lambda: make_dataset(Local(), folder / "a.nc", workers=1))


@pytest.mark.slow
def test_a_disk_that_takes_no_more(folder):
    code = f"""
import resource, sys
sys.path.append({str(HERE)!r})
from fake_recipe import FakeRecipe
from sciml_bounds.errors import InputError
from sciml_bounds.recipes.generation import make_dataset
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
for workers in (0, 1):
    try:
        make_dataset(FakeRecipe(), {str(folder / "a.nc")!r}, workers=workers)
    except InputError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    sentence = "000000000.nc cannot be written: File too large; free some space or choose another folder."
    assert [line.rpartition("/")[2] for line in done.stdout.splitlines()] == [sentence, sentence]
    assert os.listdir(folder) == []


def test_progress_is_told_in_lines_where_there_is_no_terminal(folder, capsys):
    make_dataset(FakeRecipe(), folder / "a.nc", progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    told = [f"{what}: {done} of 10 samples" for what in ("fake", "joining") for done in (4, 8, 10)]
    assert captured.err.splitlines() == told
    make_dataset(FakeRecipe(), folder / "b.nc")
    assert capsys.readouterr() == ("", "")


# --- a real one -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_recipe_by_its_name(folder):
    make_dataset("poisson", folder / "a.nc", samples=5, resolution=8)
    make_dataset("poisson", folder / "b.nc", samples=5, resolution=8, workers=1)
    assert arrays(folder / "a.nc") == arrays(folder / "b.nc")
    with open_dataset(folder / "a.nc") as data:
        assert (data["label_error"].values > 0).all()
        assert (data["solution"].isel(x_node=0).values == 0).all()


def test_a_class_that_other_processes_do_not_find_is_refused_at_once(folder):
    class Local(FakeRecipe):
        pass

    refused("Local module workers=0", lambda: make_dataset(Local(), folder / "a.nc", workers=2))
    assert os.listdir(folder) == []
