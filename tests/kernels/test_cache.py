"""Compiled kernels on disk: what is said about them, and that no state of the disk is in the way of a solve."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from numba.core.caching import IndexDataCacheFile

import sciml_bounds
from sciml_bounds.kernels import _backend

WORKER = Path(__file__).with_name("cache_worker.py")
MOST = 12  # kernels; each one has to be compiled


def start(folder: Path, *types: str, script: Path = WORKER, **environment: str) -> subprocess.Popen[str]:
    environment = {"NUMBA_CACHE_DIR": str(folder), "NUMBA_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"} | environment
    return subprocess.Popen(
        [sys.executable, script, *types], env=os.environ | environment, stdout=subprocess.PIPE, text=True
    )


def report(process: subprocess.Popen[str]) -> dict:
    printed, _ = process.communicate(timeout=240)
    assert process.returncode == 0
    return json.loads(printed)


def test_the_kernels_are_few():
    found = {}
    for module in pkgutil.walk_packages(sciml_bounds.__path__, "sciml_bounds."):
        if not module.name.startswith("sciml_bounds.fem"):
            items = vars(importlib.import_module(module.name)).values()
            found |= {id(item): item for item in items if isinstance(item, _backend.NumbaKernel)}
    assert 7 <= len(found) <= MOST


def test_another_state_of_any_kernel_file_is_compiled_anew(tmp_path, monkeypatch):
    """Loops are made of functions of several files, of which the cache of numba sees one."""
    folder = tmp_path / "kernels"
    shutil.copytree(Path(_backend.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(_backend, "__file__", str(folder / "_backend.py"))
    _backend._digest.cache_clear()
    before = _backend._digest()
    (folder / "lattice.py").write_text((folder / "lattice.py").read_text() + "\n")
    _backend._digest.cache_clear()
    assert _backend._digest() != before
    monkeypatch.undo()
    _backend._digest.cache_clear()
    assert _backend._digest() == before
    kernel = importlib.import_module("sciml_bounds.kernels.wavefront")._descend_numba
    names = {getattr(kernel, form).py_func.__qualname__ for form in ("serial", "parallel")}
    assert len(names) == 2
    assert all(before in name for name in names)


@pytest.mark.slow
def test_compiling_is_said_once_and_not_where_the_disk_has_it_all(tmp_path):
    cold, warm = report(start(tmp_path, "float64")), report(start(tmp_path, "float64"))
    assert len(cold["said"]) == 1
    assert cold["said"][0].startswith("compiling the kernels")
    assert cold["hits"] == 0
    assert warm == {"said": [], "hits": 2}

    for file in tmp_path.rglob("*.nb[ic]"):  # as a crash may leave them
        file.write_bytes(file.read_bytes()[:20])
    assert report(start(tmp_path, "float64")) == cold
    assert report(start(tmp_path, "float64")) == warm


@pytest.mark.slow
def test_processes_that_compile_at_once_do_not_disturb_each_other(tmp_path):
    types = ("float64", "float32")
    for process in [start(tmp_path, *types[k:], *types[:k]) for k in range(2)]:
        assert report(process)["said"]
    assert report(start(tmp_path, *types)) == {"said": [], "hits": 2 * len(types)}


def test_kernels_that_are_stored_at_once_get_files_of_their_own(tmp_path, monkeypatch):
    """Without the lock both writers find an empty index, take the same name, and one index is lost."""
    at_once = threading.Barrier(2)
    load = IndexDataCacheFile._load_index

    def load_slowly(file):
        index = load(file)
        try:
            at_once.wait(1)
        except threading.BrokenBarrierError:
            at_once.reset()
        return index

    def save(cache, key, data):
        cache._cache_file.save(key, data)

    monkeypatch.setattr(_backend.numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(IndexDataCacheFile, "_load_index", load_slowly)
    monkeypatch.setattr(_backend.FunctionCache, "save_overload", save)
    caches = [_backend._Cache(save_by_hand) for _ in range(2)]
    writers = [
        threading.Thread(target=cache.save_overload, args=(f"key {k}", f"data {k}")) for k, cache in enumerate(caches)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    monkeypatch.setattr(IndexDataCacheFile, "_load_index", load)
    assert [caches[0]._cache_file.load(f"key {k}") for k in range(2)] == ["data 0", "data 1"]


def save_by_hand(values):
    """Stand for a kernel, which is never compiled."""


def test_a_full_disk_costs_time_only(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(_backend.numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(_backend.FunctionCache, "save_overload", full)
    _backend._Cache(save_by_hand).save_overload("key", "data")  # raises nothing


@pytest.mark.slow
def test_kernels_work_where_no_folder_can_be_written(tmp_path):
    """A file stands where each folder would be made: the named one, that of the package, that of the user."""
    script = tmp_path / "cache_worker.py"
    shutil.copy(WORKER, script)
    (tmp_path / "__pycache__").write_text("")
    nowhere = tmp_path / "nowhere"
    nowhere.write_text("")
    told = report(start(nowhere, "float64", script=script, HOME=str(nowhere), XDG_CACHE_HOME=str(nowhere)))
    assert told["hits"] == 0
    assert len(told["said"]) == 1
    assert "NUMBA_CACHE_DIR" in told["said"][0]
