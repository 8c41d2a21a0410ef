"""Predictions that carry a bound: bound / true error on test data, calibrated coverage, and what a good guess saves.

    python benchmarks/predictions.py --data darcy.nc [--model NAME] [--certified NAME] [--calibration other_seed.nc]

`--data` is a file of a Darcy or Poisson recipe (`sciml-bounds generate darcy-rough --samples 1600 --resolution 64 --out
darcy.nc`); only its test split is judged. Networks are files or names that ship with the package; what is not given is
trained here on the training split (`--epochs`): an MgNO on the H1 loss, and a CertifiedMgNO on the bound itself.

The true error of a prediction v follows from the discrete solution w of a grid with every cell divided, with the energy
J, |||u - v|||^2 = 2 (J(v) - J(w)) + |||u - w|||^2, where certified bounds of w enclose the last term. So every ratio
lies in an interval that is certain; bars are judged by that: PASS or MISS only where it decides, OPEN otherwise.

Coverage needs many cases: `--calibration` is a file of another seed, of which the first `--units` calibrate and all
others, 1,000 or more, are held out. Without it, one half of the test split calibrates and the other is held out: the
validation split will not do, since it chose the epoch. `calibration.py` does it where no guarantee is known.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from _coverage import COVERAGES, print_coverage
from torch import Tensor

import sciml_bounds as sb
from sciml_bounds.bounds._calibration import calibrate, calibrate_bound
from sciml_bounds.bounds._energy import EnergyForm
from sciml_bounds.bounds._flux import equilibrated_flux
from sciml_bounds.multigrid._flux_head import BoundLoss, CertifiedMgNO
from sciml_bounds.multigrid._mgno import MgNO
from sciml_bounds.problems.transfers import interpolate_nodes
from sciml_bounds.store.datasets.torch_dataset import TorchDataset
from sciml_bounds.store.datasets.weights import load_model
from sciml_bounds.training._trainer import train

FACTOR = 4
TOGETHER = 32  # problems certified at once


# --- data -------------------------------------------------------------------------------------------------------------


def problem_of(data: TorchDataset, x: Tensor) -> sb.Diffusion:
    """Pose the problem of inputs (b, channel, n): what is no input is one."""
    fields = {name: x[:, k].double() for k, name in enumerate(data.inputs)}
    return sb.Diffusion(sb.Grid(tuple(x.shape[2:])), fields.get("coefficient", 1.0), fields.get("source", 1.0))


def chunks(data: TorchDataset, first: int = 0, last: int | None = None) -> Iterable[sb.Diffusion]:
    """Take the problems of a data set, some at once."""
    indices = range(len(data))[first:last]
    for start in range(0, len(indices), TOGETHER):
        part = indices[start : start + TOGETHER]
        yield problem_of(data, torch.stack([data[i][0] for i in part]))


# --- true errors ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """The discrete solution on a finer grid, its energy J, and between what its own error lies."""

    form: EnergyForm
    functional: Tensor
    least: Tensor
    most: Tensor
    norm: Tensor
    factor: int

    @classmethod
    def of(cls, problem: sb.Diffusion, factor: int) -> Reference:
        """Solve and certify on the finer grid."""
        fine = problem.refine(factor)
        values = sb.solve(fine, rtol=1e-9).values
        certificate = sb.certify(fine, values)
        form = EnergyForm(fine)
        functional = form.norm(values) ** 2 / 2 - torch.linalg.vecdot(form.load.flatten(1), values.flatten(1))
        return cls(form, functional, certificate.lower, certificate.upper, form.norm(values), factor)

    def error(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Enclose the energy error of a field on the coarse grid."""
        fine = interpolate_nodes(values, self.factor, (False,) * (values.ndim - 1))
        load = torch.linalg.vecdot(self.form.load.flatten(1), fine.flatten(1))
        excess = 2 * (self.form.norm(fine) ** 2 / 2 - load - self.functional)
        return (excess + self.least**2).clamp_min(0).sqrt(), (excess + self.most**2).clamp_min(0).sqrt()


# --- what is measured -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One way to certify the predictions of one network; every number has shape (samples,)."""

    name: str
    bar: float
    error: tuple[Tensor, Tensor]
    norm: Tensor
    upper: Tensor
    lower: Tensor
    mesh: Tensor
    model: Tensor

    @property
    def ratio(self) -> tuple[Tensor, Tensor]:
        """The least and the most that bound / error can be."""
        return self.upper / self.error[1], self.upper / self.error[0]

    @property
    def violations(self) -> int:
        """Number of samples whose error is surely outside of its bounds."""
        least, most = self.error
        slack = 1 + 1e-9
        return int(((self.upper * slack < least) | (self.lower > most * slack)).sum())


def certified_rows(data: TorchDataset, plain: Any, certified: Any, factor: int, limit: int | None) -> list[Row]:
    """Certify the predictions of both networks in all ways."""

    def same_grid(problem: sb.Diffusion) -> sb.results.Certificate:
        return sb.certify(problem, plain)

    def finer_flux(problem: sb.Diffusion) -> sb.results.Certificate:
        return sb.certify(problem, plain, flux=equilibrated_flux(problem.refine(2)))

    def head(problem: sb.Diffusion) -> sb.results.Certificate:
        return sb.certify(problem, certified, lower=False)

    def improved(problem: sb.Diffusion) -> sb.results.Certificate:
        return sb.certify(problem, certified, lower=False, improve=5)

    ways: list[tuple[str, float, Callable[[sb.Diffusion], sb.results.Certificate]]] = [
        ("flux on the same grid", 1.55, same_grid),
        ("flux on h/2", 1.2, finer_flux),
        ("flux head, no solve", 2.0, head),
        ("flux head, 5 steps", 2.0, improved),
    ]
    parts: dict[str, list[tuple[Tensor, ...]]] = {name: [] for name, _, _ in ways}
    for problem in chunks(data, 0, limit):
        reference = Reference.of(problem, factor)
        finer = equilibrated_flux(problem.refine(2))
        for name, _, certify in ways:
            c = certify(problem)
            split = sb.certify(problem, c.values, flux=finer, lower=False)  # the parts do not depend on the way
            numbers = (
                *reference.error(c.values),
                reference.norm,
                c.upper,
                c.lower,
                split.mesh.upper,
                split.model.upper,
            )
            parts[name].append(numbers)
    rows = []
    for name, bar, _ in ways:
        least, most, norm, upper, lower, mesh, model = (torch.cat(column) for column in zip(*parts[name]))
        rows.append(Row(name, bar, (least, most), norm, upper, lower, mesh, model))
    return rows


def print_rows(rows: list[Row]) -> None:
    """Print the table of errors and bounds, and judge it."""
    head = ("true error", "upper", "lower", "mesh part", "model part", "bound / error", "largest", "violations")
    print(f"{'medians, relative to |||u|||':28}" + "".join(f"{name:>16}" for name in head))
    for row in rows:
        least, most = (float((end / row.norm).median()) for end in row.error)
        relative = [float((q / row.norm).median()) for q in (row.upper, row.lower, row.mesh, row.model)]
        low, high = (float(end.median()) for end in row.ratio)
        text = f"{row.name:28}{f'{100 * least:.2f}-{100 * most:.2f} %':>16}"
        text += "".join(f"{100 * number:14.2f} %" for number in relative)
        print(f"{text}{f'{low:.3f}-{high:.3f}':>16}{float(row.ratio[1].max()):16.3f}{row.violations:16}")
    print("\nbars")
    for row in rows:
        low, high = (float(end.median()) for end in row.ratio)
        verdict = "PASS" if high <= row.bar else "MISS" if low > row.bar else "OPEN"
        sure = f"surely in [{low:.3f}, {high:.3f}]"
        print(f"  {verdict}  {row.name}: median bound / error {sure} (bar: <= {row.bar})")
        sign = "PASS" if row.violations == 0 else "MISS"
        print(f"  {sign}  {row.name}: {row.violations} violations in {len(row.upper)} (bar: 0)")


# --- coverage ---------------------------------------------------------------------------------------------------------


def errors_and_bounds(data: TorchDataset, plain: Any, factor: int, limit: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Upper ends of the errors, the guaranteed bounds, and the norms, of all predictions."""
    found = []
    for problem in chunks(data, 0, limit):
        reference = Reference.of(problem, factor)
        certificate = sb.certify(problem, plain, lower=False)
        found.append((reference.error(certificate.values)[1], certificate.upper, reference.norm))
    errors, bounds, norms = (torch.cat(column) for column in zip(*found))
    return errors, bounds, norms


def coverage_table(calibration: tuple[Tensor, ...], held_out: tuple[Tensor, ...]) -> None:
    """Calibrate relative errors, and the ratio error / bound, and count what is covered."""
    errors, bounds, norms = calibration
    new_errors, new_bounds, new_norms = held_out
    held, n = len(new_errors), len(errors)
    print("\ncoverage (calibrated, not guaranteed)")
    print_coverage("relative error", lambda c: calibrate(errors / norms, coverage=c),
                   lambda found: found.covers(new_errors / new_norms), held, n)  # fmt: skip
    print_coverage("error / bound", lambda c: calibrate_bound(errors, bounds, coverage=c),
                   lambda found: new_errors <= found.pair(new_bounds).calibrated, held, n)  # fmt: skip
    if n >= math.ceil(COVERAGES[0] / (1 - COVERAGES[0])):
        pair = calibrate_bound(errors, bounds, coverage=COVERAGES[0]).pair(new_bounds)
        tight, sure = (float((q / new_norms).median()) for q in (pair.calibrated, pair.guaranteed))
        print(f"  median pair: calibrated at {COVERAGES[0]:.0%} {100 * tight:.2f} %, guaranteed {100 * sure:.2f} %")


# --- iterations -------------------------------------------------------------------------------------------------------


def iterations_table(data: TorchDataset, plain: Any, limit: int | None) -> None:
    """Count iterations with and without the network as the initial guess."""
    print("\niterations of conjugate gradients with multigrid, mean (largest), from zero and from the network")
    for cycle in ("full", "V"):
        for rtol in (1e-4, 1e-6, 1e-8):
            counts: dict[str, list[Tensor]] = {"zero": [], "network": []}
            for problem in chunks(data, 0, limit):
                for name, x0 in (("zero", None), ("network", plain)):
                    solution = sb.solve(problem, method=sb.Multigrid(cycle=cycle), rtol=rtol, x0=x0)
                    counts[name].append(solution.iterations)
            found = {name: torch.cat(parts).double() for name, parts in counts.items()}
            text = ", ".join(f"{name} {float(c.mean()):.2f} ({int(c.max())})" for name, c in found.items())
            print(f"  cycle={cycle!r}, rtol {rtol:g}: {text}", flush=True)


# --- main -------------------------------------------------------------------------------------------------------------


def networks(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """Load both networks, or train them on the training split."""
    size = {"channels": arguments.channels, "layers": arguments.layers, "levels": arguments.levels}
    options = {"epochs": arguments.epochs, "batch_size": arguments.batch, "lr": arguments.lr, "seed": 0,
               "device": arguments.device}  # fmt: skip
    splits = [TorchDataset(arguments.data, split, in_memory=True) for split in ("train", "validation")]
    fields = tuple(splits[0].inputs)
    if arguments.model:
        plain: Any = load_model(arguments.model)
    else:
        torch.manual_seed(0)
        plain = MgNO(len(fields), fields=fields, **size)
        train(plain, *splits, loss="h1", select="h1", **options)
    if arguments.certified:
        certified: Any = load_model(arguments.certified)
    else:
        torch.manual_seed(0)
        certified = CertifiedMgNO(fields=fields, **size)
        loss = BoundLoss(fields)
        train(certified, *splits, loss=loss, select=loss, **options)
    return plain.cpu().eval(), certified.cpu().eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="data set; its test split is judged")
    parser.add_argument("--model", help="network for the values (default: trained here)")
    parser.add_argument("--certified", help="network with a flux head (default: trained here)")
    parser.add_argument("--calibration", type=Path, help="data set of another seed, for the coverage")
    parser.add_argument("--units", type=int, default=500, help="samples of it that calibrate (default 500)")
    parser.add_argument("--limit", type=int, help="take at most so many test samples")
    parser.add_argument("--factor", type=int, default=FACTOR, help=f"refinement of the reference (default {FACTOR})")
    parser.add_argument("--epochs", type=int, default=50, help="epochs of training (default 50)")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--channels", type=int, default=24)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--levels", type=int, default=5)
    parser.add_argument("--device", default="cpu", help="where to train")
    arguments = parser.parse_args()
    plain, certified = networks(arguments)
    test = TorchDataset(arguments.data, "test", in_memory=True)
    print(f"{test.recipe}, {test.resolution}^2, seed {test.seed}: test split\n")
    print_rows(certified_rows(test, plain, certified, arguments.factor, arguments.limit))
    if arguments.calibration is None:
        numbers = errors_and_bounds(test, plain, arguments.factor, arguments.limit)
        units = len(numbers[0]) // 2
    else:
        other = TorchDataset(arguments.calibration, "all")
        if other.seed == test.seed:
            parser.error(f"{arguments.calibration} has the seed of the training data, {other.seed}; make another one")
        numbers = errors_and_bounds(other, plain, arguments.factor, None)
        units = arguments.units
    coverage_table(tuple(q[:units] for q in numbers), tuple(q[units:] for q in numbers))
    iterations_table(test, plain, arguments.limit)


if __name__ == "__main__":
    main()
