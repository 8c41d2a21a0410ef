import os
import stat
import subprocess
import sys

import pytest
from refusals import refused

from sciml_bounds.store.safety.writer import check_target, replacing


def test_mode_follows_the_umask_and_links_are_resolved(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.nc"
    link.symlink_to(tmp_path / "real" / "u.nc")
    old = os.umask(0o027)
    try:
        with replacing(link) as part:
            assert part.parent == tmp_path / "real"
            part.write_text("content")
    finally:
        os.umask(old)
    assert link.is_symlink()
    assert stat.S_IMODE((tmp_path / "real" / "u.nc").stat().st_mode) == 0o640


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    target = tmp_path / "u.nc"
    target.write_text("old")

    def interrupted():
        with replacing(target) as part:
            assert part.parent == tmp_path
            assert part.name == f".u.nc.{os.getpid()}.part"
            part.write_text("half")
            raise failure

    with pytest.raises(failure):
        interrupted()
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["u.nc"]
    with replacing(target) as part:
        part.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["u.nc"]


def test_what_the_system_refuses_is_one_sentence(tmp_path):
    def on_a_full_disk() -> None:
        with replacing(tmp_path / "u.nc") as part:
            part.write_text("half")
            raise OSError(28, "No space left on device")

    refused("u.nc space", on_a_full_disk)
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_dead_processes_go_with_the_next_write(tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    alive = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    names = {"gone": f".u[1].nc.{int(dead.stdout)}.part", "huge": f".u[1].nc.{2**80}.part"}
    kept = {f".u[1].nc.{alive.pid}.part", f".v.nc.{int(dead.stdout)}.part", ".u[1].nc.x.part", f".u1.nc.{2**80}.part"}
    for name in (*names.values(), *kept):
        (tmp_path / name).write_text("half")
    try:
        with replacing(tmp_path / "u[1].nc") as part:
            part.write_text("whole")
    finally:
        alive.communicate(b"")
    assert {path.name for path in tmp_path.iterdir()} == {"u[1].nc", *kept}


def test_targets_are_checked_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "folder.nc").mkdir()
    os.mkfifo(tmp_path / "pipe.nc")
    refused("folder", check_target, tmp_path / "none" / "u.nc", (".nc",))
    for path in (None, 3):
        refused(f"path {path} string Path", check_target, path, (".nc",))
    refused("file", check_target, tmp_path / "folder.nc", (".nc",))
    refused("file", check_target, tmp_path / "pipe.nc", (".nc",))
    refused("extension h5 hdf5", check_target, tmp_path / "u.csv", (".nc", ".h5", ".hdf5"))
    monkeypatch.setattr(os, "access", lambda *_: False)  # the tests may run as root, for whom nothing is read-only
    refused("read-only", check_target, tmp_path / "u.nc", (".nc",))
