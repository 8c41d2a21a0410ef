"""Solves alongside threads, forks and subprocesses neither crash, hang nor change their results."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("processes_worker.py")

pytestmark = pytest.mark.slow


def run(scenario: str, **environment: str) -> None:
    """Run a scenario on two threads."""
    environment = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"} | environment
    command = [sys.executable, WORKER, scenario]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"


@pytest.mark.parametrize("scenario", ["settings", "threads", "fork", "pools", "loaders", "interrupt"])
def test_nothing_dies_hangs_or_gives_another_answer(scenario):
    run(scenario)
