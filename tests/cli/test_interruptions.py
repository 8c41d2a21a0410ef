"""Real processes that are stopped, or whose disk is full, while they solve and write."""

import os
import random
import signal
import subprocess
import sys

import numpy as np
import pytest
from interruptions import interrupting

import sciml_bounds as sb

RUN = "import sys; from sciml_bounds.cli.main import run; sys.exit(run(sys.argv[1:]))"


def command(*arguments: str, before: str = "") -> list[str]:
    return [sys.executable, "-c", before + RUN, *arguments]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_at_any_moment(tmp_path, number, code):
    """From the first line of progress on, which is when the handlers are there, to the end."""
    np.save(tmp_path / "a.npy", np.random.default_rng(0).uniform(1, 10, (400, 400)))
    delay = random.Random(int(number)).uniform(0.01, 0.3)
    before = interrupting(number, "iteration 1:", delay=delay, wait_at="iteration 512:")
    arguments = ["solve", "--coefficient", "a.npy", "--source", "1", "--out", "u.nc", "--method", "cg"]
    arguments += ["--rtol", "1e-12"]
    done = subprocess.run(command(*arguments, before=before), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == code
    lines = [line for line in done.stderr.splitlines() if "compiling" not in line]
    assert lines[-1] == f"sciml-bounds: stopped by {number.name}; no partial file is left."
    assert len(lines) > 1
    assert all("iteration" in line for line in lines[:-1])
    assert os.listdir(tmp_path) == ["a.npy"]


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--out", "--plot"])
def test_a_disk_that_takes_no_more(tmp_path, option):
    """A limit on the size of files does to a process what a full disk does: the old file stays, and nothing else."""
    target = tmp_path / ("u.nc" if option == "--out" else "u.png")
    sb.data.write(sb.solve(sb.Diffusion(sb.Grid((4, 4)), source=1.0)), tmp_path / "u.nc")
    (tmp_path / "u.nc").rename(target)  # for the picture, any bytes do
    old = target.read_bytes()
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000));"
    arguments = ["solve", "--coefficient", "1", "--source", "1", "--shape", "64,64", option, str(target)]
    done = subprocess.run(command(*arguments, before=limit), capture_output=True, text=True)
    assert done.returncode == 2, done.stderr  # and not a crash of a library that cannot close its file
    lines = done.stderr.splitlines()
    sentence = f"{target} cannot be written: File too large; free some space or choose another folder."
    assert lines[-1] == f"sciml-bounds: {sentence}"
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    assert target.read_bytes() == old
