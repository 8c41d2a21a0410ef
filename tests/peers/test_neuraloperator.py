"""The comparison with the networks of neuraloperator runs; what it prints at full size is judged by people."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("neuralop", reason="needs neuraloperator: make test-peers")

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "operators.py"
SIZES = ("--samples", "20", "--epochs", "1", "--resolution", "32", "--rates", "1e-3")


@pytest.mark.slow
@pytest.mark.parametrize("task", ["darcy-rough", "navier-stokes-1e-5"])
def test_operators_are_trained_and_judged(task, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["operators.py", "--tasks", task, *SIZES, "--data", str(tmp_path)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    printed = capsys.readouterr().out
    for name in ("MgNO", "FNO", "TFNO", "U-NO"):
        assert re.search(rf"^{name} +[\d,]+ ", printed, re.MULTILINE), name
    assert len(re.findall(r"^  (?:PASS|MISS)  .*, equal (?:epochs|time): ", printed, re.MULTILINE)) == 2


def test_every_network_has_zeros_on_the_boundary_and_works_on_the_same_lattice():
    networks = runpy.run_path(str(SCRIPT))["networks"](darcy=True)
    for name, make in networks.items():
        torch.manual_seed(0)
        out = make()(torch.rand(2, 1, 32, 32)).detach()
        assert out.shape == (2, 1, 33, 33), name
        assert not out[..., 0].any(), name
        assert not out[..., -1, :].any(), name
        assert out[..., 1:-1, 1:-1].any(), name
