from __future__ import annotations

import os
import subprocess
import sys

import pytest
from refusals import refused

from sciml_bounds.errors import InputError
from sciml_bounds.store.safety.folders import check_new_folder, making_folder


def test_a_folder_appears_whole(tmp_path):
    with making_folder(tmp_path / "out") as part:
        (part / "a").mkdir()
        (part / "a" / "b").write_text("c")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out" / "a" / "b").read_text() == "c"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_after_an_error_or_a_signal(tmp_path, error):
    def interrupted() -> None:
        with making_folder(tmp_path / "out") as part:
            (part / "b").write_text("c")
            raise error

    with pytest.raises(error):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_of_the_system_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="cannot"), making_folder(tmp_path / "out"):
        raise OSError(28, "full")
    assert list(tmp_path.iterdir()) == []


def test_what_appeared_meanwhile_is_kept(tmp_path):
    def too_late() -> None:
        with making_folder(tmp_path / "out"):
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "precious").write_text("work")

    refused("cannot", too_late)
    assert (tmp_path / "out" / "precious").read_text() == "work"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_killed_processes_left_is_removed_and_what_others_make_is_not(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name in (f".out.{dead.pid}.part", f".out.{os.getppid()}.part", f".other.{dead.pid}.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("")
    with making_folder(tmp_path / "out"):
        pass
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted([f".other.{dead.pid}.part", f".out.{os.getppid()}.part", "out"])


def test_where_no_folder_can_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    refused("exists", check_new_folder, tmp_path / "file")
    refused("folder", check_new_folder, tmp_path / "none" / "out")
    assert check_new_folder(tmp_path / "out") == tmp_path / "out"
