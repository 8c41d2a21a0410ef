from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("triton_worker.py")


@pytest.mark.slow
def test_triton_kernels_agree_with_the_reference_in_the_interpreter():
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, WORKER], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "every kernel agrees\n"


@pytest.mark.gpu
def test_triton_kernels_agree_with_the_reference_on_the_device():
    runpy.run_path(str(WORKER))["main"]("cuda")
