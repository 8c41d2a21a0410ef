"""MgNO beside FNO, TFNO and U-NO of neuraloperator: same data, same split, same trainer, one run.

    python benchmarks/operators.py [--tasks darcy-rough ...] [--samples 384] [--epochs 12] [--resolution 64]
    python benchmarks/operators.py --ablation [...]

Needs neuraloperator (`make test-peers` makes `.venv-peers`, which has it). The data come from our recipes; they are
kept in the folder --data and made anew only if they are not there. All networks see the same training samples in the
same order, with the same batch size, loss and optimiser; the largest learning rate of each is the best of --rates by
the validation error after a quarter of the epochs, so that none is handicapped by another's. The table shows

- at equal epochs: the relative error on the test split, which chose nothing;
- at equal time: each network trained for as many epochs as fit into the time that MgNO took, with its own schedule.

For Darcy problems every network works on the same lattice: coefficients are averaged to the interior nodes, and zeros
are put around its output, so that all have exact boundary values. For Navier-Stokes it is the step from one stored time
to the next, of which every network learns the change.

With --ablation: what each difference between the default MgNO and the published network changes, on Darcy problems,
each at the best of the rates too; it needs no other package.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import sciml_bounds as sb
from sciml_bounds.multigrid._node_lattice import average_to_interior_nodes, with_zero_boundary
from sciml_bounds.nn.normalizer import Normalizer

TASKS = ("darcy-rough", "darcy-smooth", "navier-stokes-1e-5")


@dataclass(frozen=True)
class Result:
    """One network after one training."""

    error: float
    epochs: int
    seconds_per_epoch: float
    rate: float


class OnTheLattice(nn.Module):
    """A network of another package with the lattice, normalisers and boundary values that MgNO has by itself."""

    def __init__(self, network: nn.Module, darcy: bool) -> None:
        super().__init__()
        self.network, self.darcy = network, darcy
        self.inputs, self.targets = (Normalizer(1, (1, 1), "scalar") for _ in range(2))
        self.register_state_dict_post_hook(_keep_tensors)

    def forward(self, x: Tensor) -> Tensor:
        """Map fields (b, 1, x, y)."""
        given = self.inputs.encode(x)
        if not self.darcy:
            return x + self.targets.decode(self.network(given))
        out = self.targets.decode(self.network(average_to_interior_nodes(given, 2)))
        return with_zero_boundary(out, 2)

    def fit_normalizer(self, x: Tensor, y: Tensor) -> None:
        """Take means and deviations of the training data."""
        self.inputs.fit(x)
        self.targets.fit(y if self.darcy else y - x)


def _keep_tensors(network: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    """Take out what neuraloperator puts into a state beside tensors."""
    for name in [name for name, value in state.items() if not isinstance(value, Tensor)]:
        del state[name]


def networks(darcy: bool) -> dict[str, Callable[[], nn.Module]]:
    """Give makers of all networks that are compared."""
    from neuralop.models import FNO, TFNO, UNO

    size = {"in_channels": 1, "out_channels": 1, "hidden_channels": 32}
    uno = {
        "n_layers": 5,
        "channel_mlp_skip": "linear",  # of as many channels as the next layer wants
        "uno_out_channels": [32, 64, 64, 64, 32],
        "uno_n_modes": [[16, 16], [8, 8], [8, 8], [8, 8], [16, 16]],
        "uno_scalings": [[1.0, 1.0], [0.5, 0.5], [1.0, 1.0], [2.0, 2.0], [1.0, 1.0]],
    }
    mgno = {"boundary": "dirichlet"} if darcy else {"boundary": "periodic", "increment": True}
    return {
        "MgNO": lambda: sb.MgNO(**mgno),
        "FNO": lambda: OnTheLattice(FNO(n_modes=(16, 16), **size), darcy),
        "TFNO": lambda: OnTheLattice(TFNO(n_modes=(16, 16), factorization="tucker", rank=0.42, **size), darcy),
        "U-NO": lambda: OnTheLattice(_silently(lambda: UNO(**size, **uno)), darcy),
    }


def _silently(make: Callable[[], nn.Module]) -> nn.Module:
    """Make a network that tells of each of its layers."""
    with redirect_stdout(StringIO()):
        return make()


#: The default MgNO, and what it is without one of its choices or with one that was not taken.
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "learnt coarse start, as published": {"coarse_start": "restricted"},
    "restriction of the residual": {"residual": True},
    "one step after the correction": {"post": 1},
    "six levels": {"levels": 6},
    "kernel 3 of the prolongation": {"kernel": 3},
    "without local matrix and bias": {"local": False},
    "weights as torch draws them": {"gain": "torch"},
}


def ablate(task: str, arguments: argparse.Namespace) -> None:
    """Print errors on the test split after the same training of all variants."""
    data = data_of(task, arguments.data, arguments.samples, arguments.resolution)
    print(f"\n{task}, {arguments.resolution} cells an axis: {len(data[0])} training samples, {arguments.epochs} epochs")
    print(f"{'':36}{'parameters':>12}{'rate':>9}{'s/epoch':>9}{'error':>9}", flush=True)
    for name, options in VARIANTS.items():
        make = partial(sb.MgNO, **options)
        result = trained(make, data, arguments.epochs, best_rate(make, data, arguments.epochs, arguments.rates))
        parameters = sum(p.numel() for p in make().parameters())
        costs = f"{parameters:12,}{result.rate:9.0e}{result.seconds_per_epoch:9.2f}"
        print(f"{name:36}{costs}{result.error:9.4f}", flush=True)


def data_of(task: str, folder: Path, samples: int, resolution: int) -> tuple[sb.TorchDataset, ...]:
    """Make or open the data of a task: training, validation and test."""
    path = folder / f"{task}-{samples}-{resolution}.h5"
    if not path.exists():
        sb.make_dataset(task, path, samples=samples, seed=0, resolution=resolution, progress=True)
    return tuple(sb.TorchDataset(path, split=split, in_memory=True) for split in ("train", "validation", "test"))


def trained(make: Callable[[], nn.Module], data: tuple[sb.TorchDataset, ...], epochs: int, rate: float) -> Result:
    """Train from seed 0 and test the epoch that was best on the validation split."""
    train, validation, test = data
    torch.manual_seed(0)
    model = make()
    start = time.perf_counter()
    result = sb.train(
        model,
        train,
        validation,
        loss="h1" if test.layout != "time" else "l2",
        epochs=epochs,
        batch_size=8,
        lr=rate,
        seed=0,
    )
    seconds = (time.perf_counter() - start) / max(1, len(result.history))
    return Result(sb.training.evaluate(model, test, metrics=("l2",)).mean("l2"), epochs, seconds, rate)


def best_rate(
    make: Callable[[], nn.Module], data: tuple[sb.TorchDataset, ...], epochs: int, rates: list[float]
) -> float:
    """Choose the learning rate by the validation error after a short training."""
    if len(rates) == 1:
        return rates[0]
    train, validation, _ = data
    short = (train, validation, validation)
    return min(rates, key=lambda rate: trained(make, short, max(2, epochs // 4), rate).error)


def compare(task: str, arguments: argparse.Namespace) -> None:
    """Print the table of one task."""
    count = arguments.samples if task.startswith("darcy") else max(10, arguments.samples // 16)
    data = data_of(task, arguments.data, count, arguments.resolution)
    print(
        f"\n{task}, {arguments.resolution} cells an axis: {len(data[0])} training pairs, {len(data[2])} for the test",
        flush=True,
    )
    print(
        f"{'':10}{'parameters':>12}{'rate':>9}{'s/epoch':>9}{'error':>9}{'epochs':>8}{'error, equal time':>19}"
        f"{'epochs':>8}"
    )
    budget, ours, others = 0.0, (0.0, 0.0), []
    for name, make in networks(task.startswith("darcy")).items():
        rate = best_rate(make, data, arguments.epochs, arguments.rates)
        equal = trained(make, data, arguments.epochs, rate)
        budget = budget or equal.seconds_per_epoch * arguments.epochs
        epochs = max(2, round(budget / equal.seconds_per_epoch))
        timed = equal if abs(epochs - equal.epochs) <= 1 else trained(make, data, epochs, rate)
        parameters = sum(p.numel() * (2 if p.is_complex() else 1) for p in make().parameters())
        print(
            f"{name:10}{parameters:12,}{rate:9.0e}{equal.seconds_per_epoch:9.2f}{equal.error:9.4f}{equal.epochs:8}"
            f"{timed.error:19.4f}{timed.epochs:8}",
            flush=True,
        )
        if name == "MgNO":
            ours = (equal.error, timed.error)
        else:
            others.append((equal.error, timed.error))
    for place, what in enumerate(("equal epochs", "equal time")):
        ratio = ours[place] / min(pair[place] for pair in others)
        verdict = "PASS" if ratio < 1 else "MISS"
        print(f"  {verdict}  {task}, {what}: error of MgNO over the best other: {ratio:.3g} (bar: < 1)", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--samples", type=int, default=384, help="of Darcy problems; trajectories are a sixteenth")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument(
        "--rates", type=float, nargs="+", default=[1e-3, 2e-3, 4e-3], help="learning rates to choose from"
    )
    parser.add_argument("--data", type=Path, default=Path(".cache/operators"))
    parser.add_argument("--ablation", action="store_true", help="compare variants of MgNO instead")
    arguments = parser.parse_args()
    if not arguments.ablation and importlib.util.find_spec("neuralop") is None:
        parser.error("neuraloperator is not installed here; make test-peers makes .venv-peers, which has it.")
    arguments.data.mkdir(parents=True, exist_ok=True)
    for task in arguments.tasks:
        if not arguments.ablation:
            compare(task, arguments)
        elif task.startswith("darcy"):
            ablate(task, arguments)


if __name__ == "__main__":
    main()
