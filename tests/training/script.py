"""Train a small network in a process of its own: script.py FOLDER [wait], under torchrun too.

With `wait` it reads its standard input to the end after the third epoch.
"""

import atexit
import sys
from pathlib import Path

import torch
from torch.utils.data import TensorDataset

from sciml_bounds.nn.losses import LOSSES
from sciml_bounds.training._trainer import train


class Network(torch.nn.Sequential):
    """Two layers, and a weight that no output depends on, as the published network for Helmholtz has them."""

    def __init__(self) -> None:
        super().__init__(torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, 8))
        self.unused = torch.nn.Parameter(torch.ones(3))


def say_what_runs() -> None:
    """Name the threads of this process, where the system tells."""
    print("threads", *(path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")), flush=True)


def main() -> None:
    """Do so, eleven samples in batches of four, so that two processes never have the same share of an epoch."""
    atexit.register(say_what_runs)  # the last to run, since the first to be registered
    torch.manual_seed(0)
    x = torch.randn(16, 1, 8, dtype=torch.float64)
    train_set, validation_set = TensorDataset(x[:11], x[:11].flip(2)), TensorDataset(x[11:], x[11:].flip(2))
    model = Network().double()
    options = {"loss": LOSSES["l2"], "epochs": 12, "batch_size": 4, "lr": 1e-2, "clip": 0.5}

    def say(row):
        print(row["epoch"], flush=True)
        if len(sys.argv) > 2 and row["epoch"] == 3:
            sys.stdin.read()

    train(model, train_set, validation_set, folder=sys.argv[1], resume=True, callback=say, **options)
    if len(sys.argv) == 2:  # several processes stay joined for all trainings of a program
        for _ in range(3):
            train(Network().double(), train_set, None, **options | {"epochs": 1})


if __name__ == "__main__":
    main()
