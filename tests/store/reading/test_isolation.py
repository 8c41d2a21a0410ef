"""The process that reads dangerous files: whatever happens to it, this one says a sentence and goes on."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from refusals import refused

from sciml_bounds.store.reading import isolation
from sciml_bounds.store.reading.readers import open_file, read_array

FIELD = np.arange(12.0).reshape(3, 4)


@pytest.fixture
def path(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = FIELD
    return tmp_path / "a.h5"


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed SIGSEGV"),
        ("import os; os.abort()", "crashed SIGABRT"),
        ("import os; os._exit(7)", "crashed exit code 7"),
        (
            "from sciml_bounds.store.reading import isolation as i; i._SECONDS = 0; i._limit(0)\nwhile True: pass",
            "too much time",
        ),
        ("print('{\"format\": ', end='')", "crashed exit code 0"),
    ],
)
def test_deaths(path, monkeypatch, what, words):
    monkeypatch.setattr(isolation, "_COMMAND", what)
    refused(f"a.h5 {words} file", lambda: read_array(str(path), "a"))


@pytest.fixture
def children(monkeypatch):
    """The processes that are started."""
    started = []

    def start(*arguments, **options):
        started.append(subprocess.Popen(*arguments, **options))
        return started[-1]

    pipes = {"PIPE": subprocess.PIPE, "DEVNULL": subprocess.DEVNULL}
    monkeypatch.setattr(isolation, "subprocess", SimpleNamespace(Popen=start, **pipes))
    return started


def test_a_death_between_questions(path, children):
    with ExitStack() as files:
        contents = open_file(path, "a", files)
        np.testing.assert_array_equal(contents.read("a"), FIELD)
        children[0].send_signal(11)
        children[0].wait()
        # A question that nobody reads must not raise the signal that Python ignores and PETSc ends the process with.
        heard = []
        previous = signal.signal(signal.SIGPIPE, lambda *_: heard.append(True))
        try:
            with pytest.raises(RuntimeError, match="SIGSEGV"):
                contents.read("a")
        finally:
            signal.signal(signal.SIGPIPE, previous)
        assert not heard


def test_it_ends_with_the_file(path, children):
    with ExitStack() as files:
        open_file(path, "a", files)
        assert children[0].poll() is None
    assert children[0].poll() is not None


def test_memory_is_limited(path, monkeypatch):
    greedy = (
        "from sciml_bounds.store.reading import isolation as i; i._limit(0);"
        "i.Path = lambda _: bytearray(2**31); i.main('')"
    )
    monkeypatch.setattr(isolation, "_COMMAND", greedy)
    refused("MemoryError", lambda: read_array(str(path), "a"))


def test_modules_beside_the_file_are_not_imported(path):
    """A folder with hostile files may hold a module of a name that Python looks for."""
    for name in ("h5py", "numpy", "json"):
        (path.parent / f"{name}.py").write_text("open('trap', 'w')")
    code = "from sciml_bounds.store.reading.readers import read_array; print(read_array('a.h5', 'a').sum())"
    places = (str(Path(isolation.__file__).parents[3]), os.environ.get("PYTHONPATH", ""))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, places))}
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, env=environment)
    assert done.stdout == f"{FIELD.sum()}\n", done.stderr
    assert not (path.parent / "trap").exists()


def test_the_child_takes_the_package_from_where_this_process_has_it(path, tmp_path):
    """Here from a copy that only `sys.path` of this process knows, and that reads every number as 7."""
    package = Path(isolation.__file__).parents[2]
    shutil.copytree(package, tmp_path / "copy" / "sciml_bounds", ignore=shutil.ignore_patterns("__pycache__"))
    reader = tmp_path / "copy" / "sciml_bounds" / "store" / "reading" / "hdf5_files.py"
    changed = reader.read_text().replace("yield dataset[start : start + rows]", "yield 0 * dataset[:] + 7")
    assert changed != reader.read_text()
    reader.write_text(changed)
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); from sciml_bounds.store.reading.readers import read_array;"
        "print(read_array(sys.argv[1], 'a').mean())"
    )
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "copy")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "7.0\n", done.stderr
