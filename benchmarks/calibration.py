"""How often calibrated errors hold where no guarantee is known: networks for Helmholtz and Navier-Stokes problems.

    python benchmarks/calibration.py [--tasks helmholtz navier-stokes-1e-5] [--units 400] [--held-out 1000]

For each task a network is trained on data of seed 0. Of data of seed 1, which it never saw, the first `--units` samples
calibrate its relative L2 error and all others are held out: the share of them that is covered must be in the interval
that is expected of it. For flows the unit is a trajectory, and the network is fed its own predictions: each step has a
threshold of its own. Data and networks are kept in the folder --data; what is there is not made again. About forty
minutes of one core.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from _coverage import print_coverage
from torch import Tensor

import sciml_bounds as sb
from sciml_bounds.bounds._calibration import calibrate
from sciml_bounds.training._evaluation import evaluate_rollout


@dataclass(frozen=True)
class Task:
    """What a network is trained on, and how."""

    recipe: str
    resolution: int
    samples: int
    epochs: int
    network: dict[str, object]

    def data(self, folder: Path, seed: int, samples: int) -> Path:
        """Make a data set, or find it."""
        path = folder / f"{self.recipe}-{self.resolution}-{samples}-seed{seed}.nc"
        if not path.exists():
            sb.make_dataset(
                self.recipe, path, samples=samples, seed=seed, resolution=self.resolution, workers=2, progress=True
            )
        return path

    def trained(self, folder: Path) -> sb.MgNO:
        """Train the network, or go on with its training, on data of seed 0."""
        path = self.data(folder, 0, self.samples)
        train, validation = (sb.TorchDataset(path, split, in_memory=True) for split in ("train", "validation"))
        torch.manual_seed(0)
        model = sb.MgNO(**self.network)
        kept = folder / f"{self.recipe}-{self.resolution}-{self.samples}-{self.epochs}"
        sb.train(model, train, validation, epochs=self.epochs, batch_size=8, lr=2e-3, seed=0, folder=kept, resume=True)
        return model


FLOW = {"boundary": "periodic", "increment": True, "levels": 4}
TASKS = {
    "helmholtz": Task("helmholtz", 100, 640, 12, {"boundary": "neumann", "levels": 6}),
    "navier-stokes-1e-5": Task("navier-stokes-1e-5", 16, 120, 12, FLOW),
}


def errors_of(model: sb.MgNO, data: Path) -> Tensor:
    """Relative L2 errors: (samples,), or (trajectories, steps) of rollouts."""
    samples = sb.TorchDataset(data, "all", pairs=False)
    if samples.layout != "time":
        return sb.training.evaluate(model, samples, metrics=("l2",)).values["l2"]
    frames = torch.stack([samples[i][1] for i in range(len(samples))]).unsqueeze(2)
    return evaluate_rollout(model, frames, batch_size=64).steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--units", type=int, default=400, help="samples that calibrate (default 400)")
    parser.add_argument("--held-out", type=int, default=1000, help="samples that are held out (default 1,000)")
    parser.add_argument("--samples", type=int, help="that train, validate and test (default: the task's)")
    parser.add_argument("--epochs", type=int, help="of training (default: the task's)")
    parser.add_argument("--data", type=Path, default=Path(".cache/calibration"))
    arguments = parser.parse_args()
    arguments.data.mkdir(parents=True, exist_ok=True)
    n, held = arguments.units, arguments.held_out
    chosen = {name: value for name in ("samples", "epochs") if (value := getattr(arguments, name)) is not None}
    for task in (replace(TASKS[name], **chosen) for name in arguments.tasks):
        model = task.trained(arguments.data)
        errors = errors_of(model, task.data(arguments.data, 1, n + held))
        known, new = errors[:n], errors[n:]
        print(f"\n{task.recipe}, resolution {task.resolution}: mean error {float(errors.mean()):.2%} (calibrated, not "
              "guaranteed)")  # fmt: skip
        print_coverage("relative L2 error", lambda c, known=known: calibrate(known, coverage=c),
                       lambda found, new=new: found.covers(new), held, n)  # fmt: skip


if __name__ == "__main__":
    main()
