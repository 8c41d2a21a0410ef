"""Solving beside threads and processes of every kind: nothing dies, hangs, or gives another answer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("processes_worker.py")
LIMIT = 1800  # seconds after which a scenario hangs beyond doubt, on whatever machine

pytestmark = pytest.mark.slow


def run(scenario: str, **environment: str) -> None:
    """Run a scenario on two threads, in a process group that is killed as a whole if it hangs."""
    environment = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"} | environment
    command = [sys.executable, WORKER, scenario]
    with subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            printed, complaint = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            raise
    assert process.returncode == 0, complaint
    assert printed == "done\n"


@pytest.mark.parametrize("scenario", ["settings", "threads", "fork", "pools", "loaders", "interrupt"])
def test_nothing_dies_hangs_or_gives_another_answer(scenario):
    run(scenario)
