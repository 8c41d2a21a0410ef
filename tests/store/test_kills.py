"""Processes that are killed while they write."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray

import sciml_bounds as sb

KILLS = int(os.environ.get("SCIML_BOUNDS_KILLS", "20"))
WORKER = Path(__file__).with_name("kill_worker.py")


def parts(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.endswith(".part"))


def check(target: Path, known: list[int], started: int) -> str:
    """Tell that the target is what it was, or one of the whole files that the killed process wrote."""
    if not target.exists():
        assert not known
        return "absent"
    read = sb.data.read(target)  # compares the whole content with its checksum
    number = int(read["number"])
    assert read["noise"].size == 200_000
    assert float(read["noise"][0]) == pytest.approx(0.12573022 + number, abs=1e-6)
    if number in known:
        return "old"
    assert number >= started
    known[:] = [number]
    return "new"


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path):
    """Every other kill falls while the temporary file is there; for the first half of them there is no old file.

    The last one surely does: that child waits before it renames the file.
    """
    draw, target = random.Random(0), tmp_path / "u.nc"
    outcomes, leftovers, known, left = {"absent": 0, "old": 0, "new": 0}, 0, [], []
    command = [sys.executable, str(WORKER), str(target)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        for kill in range(KILLS):
            if kill < KILLS // 2:
                target.unlink(missing_ok=True)
                known.clear()
            started = 1000 * (kill + 1)
            last = kill == KILLS - 1
            worker.stdin.write(f"{started} wait\n" if last else f"{started}\n")
            worker.stdin.flush()
            process = int(worker.stdout.readline())
            own = f".u.nc.{process}.part"
            if kill % 2 or last:
                while own not in parts(tmp_path):
                    time.sleep(0.0005)
                time.sleep(draw.uniform(0.0, 0.004))
            else:
                time.sleep(draw.uniform(0.0, 0.3))
            os.kill(process, signal.SIGKILL)
            assert int(worker.stdout.readline()) == -signal.SIGKILL
            outcome = check(target, known, started)
            outcomes[outcome] += 1
            before, left = left, parts(tmp_path)
            assert set(left) <= {own} | (set() if outcome == "new" else set(before))  # a write removes the older ones
            assert not last or (own in left and outcome != "new")
            leftovers += own in left
        worker.stdin.close()
    assert sum(outcomes.values()) == KILLS
    sb.data.write(xarray.Dataset({"u": (["x"], np.zeros(3))}), target)
    assert os.listdir(tmp_path) == ["u.nc"]
    print(f"\n{KILLS} kills: {outcomes}, {leftovers} of them left a temporary file, none of them half a target")
