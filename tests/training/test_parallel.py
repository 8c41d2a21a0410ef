"""Two processes do what one does, to round-off."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sciml_bounds.store.datasets.weights import read_weights
from sciml_bounds.training._parallel import Group, joined

SCRIPT = Path(__file__).with_name("script.py")


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    """Sums in another order differ by 1e-16 per step; 36 steps of Adam in float64 keep that far below 1e-10."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, str(SCRIPT), str(tmp_path / "one")], check=True, capture_output=True)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*torchrun, str(SCRIPT), str(tmp_path / "two")], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    # A thread of the group that outlives the program's end aborts it now and then.
    assert "threads" in done.stdout
    assert "gloo" not in done.stdout
    (ours, card), (theirs, expected) = (read_weights(tmp_path / name / "last.safetensors") for name in ("two", "one"))
    for name in theirs:
        if name != "random/cpu":
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-8, atol=1e-10)
    for row, wanted in zip(card["state"]["history"], expected["state"]["history"], strict=True):
        for name in ("loss", "validation", "gradient_norm"):
            assert row[name] == pytest.approx(wanted[name], rel=1e-8)


def test_shares_of_a_batch_are_disjoint_and_whole():
    for count in range(9):
        for size in (1, 2, 3, 5):
            shares = [Group(torch.device("cpu"), rank, size).share(range(count)) for rank in range(size)]
            assert sorted(i for share in shares for i in share) == list(range(count))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_process_alone_adds_up_nothing():
    with joined("cpu") as group:
        assert (group.rank, group.size, group.is_first) == (0, 1, True)
        parameter = torch.nn.Parameter(torch.ones(2))
        parameter.grad = torch.tensor([1.0, 2.0])
        extras = torch.tensor([3.0])
        assert group.sum_gradients([parameter], extras) is extras
        assert parameter.grad.tolist() == [1.0, 2.0]
        assert (group.any(True), group.any(False)) == (True, False)
