"""What one GPU does: kernels, Poisson problems, batches of media, certificates, and one epoch of MgNO.

    python benchmarks/gpu.py [--out gpu.json] [--only kernels poisson ...] [--tiny] [--check]

Prints each figure next to those of others, and writes all of them to one JSON file with the name of the card. It needs
a CUDA device; `--tiny` runs everything at tiny sizes, on the CPU too, and `--check` only looks for the device. Seconds
are medians of runs after a first one, which compiles; the device has finished when the clock is read.

Figures of others: hypre's BoomerAMG on a V100 is from the documentation of LANL's AMG2023 benchmark, multigrid on an
RTX 4090 from arXiv 2604.18886, and an epoch of MgNO from its paper (ICLR 2024). Those on an H100 were measured once
with torch 2.11: the published code of MgNO, and plain conjugate gradients with a sine transform.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

import sciml_bounds as sb
from sciml_bounds.kernels import lattice
from sciml_bounds.problems.discretization import node_system

RTOL = 1e-8

Figures = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Sizes:
    """Cells along an axis, and numbers of samples."""

    kernel: int = 256
    boxes: tuple[int, ...] = (128, 256, 512)
    square: int = 1024
    medium: int = 256
    media: int = 1024
    group: int = 128
    samples: int = 1280
    repeats: int = 5


TINY = Sizes(kernel=8, boxes=(8,), square=16, medium=16, media=4, group=2, samples=8, repeats=1)

#: Figures of others, by part.
OTHERS = {
    "poisson": {
        "hypre BoomerAMG, V100, 260^3, set-up and solve": "0.850 + 0.656 s, 27 M unknowns a second of the solve",
        "matrix-free multigrid, RTX 4090, pressure": "more than 70 M cells a second",
    },
    "media": {"transform-preconditioned conjugate gradients, H100, 512^2 to 1e-9": "449 samples a second"},
    "epoch": {
        "its paper, A100": "6.6 s",
        "published code, rerun": "5.4 s",
        "published code, H100": "3.0 s",
        "the same, CUDA graphs and bfloat16": "2.07 s",
    },
}


class Bench:
    """Works on one device."""

    def __init__(self, device: torch.device, sizes: Sizes) -> None:
        self.device, self.sizes = device, sizes

    def seconds(self, work: Callable[[], Any], repeats: int | None = None) -> float:
        """Median time of a work that has been run before."""
        work()
        times = []
        for _ in range(repeats or self.sizes.repeats):
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            times.append(time.perf_counter() - start)
        return median(times)

    def wait(self) -> None:
        """Let the device finish."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def random(self, *shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
        """Draw numbers between 0 and 1."""
        generator = torch.Generator(self.device).manual_seed(seed)
        return torch.rand(shape, generator=generator, dtype=dtype, device=self.device)

    def medium(self, *shape: int) -> Tensor:
        """Two materials in blocks of an eighth of the box."""
        blocks = torch.where(self.random(*shape[:-2], 8, 8) < 0.5, 12.0, 3.0).double()
        for axis in (-2, -1):
            blocks = blocks.repeat_interleave(shape[axis] // 8, axis)
        return blocks

    # --- parts --------------------------------------------------------------------------------------------------------

    def kernels(self) -> Figures:
        """Compare the bytes that kernels must move with copying as many."""
        n, found = self.sizes.kernel, {}
        operator = node_system(sb.Diffusion(sb.Grid((n,) * 3), 1 + self.random(n, n, n), 1.0)).operator
        for dtype in (torch.float64, torch.float32):
            A = operator.to(dtype)
            s, u, b, out = (self.random(1, *A.lattice, seed=k, dtype=dtype) for k in range(4))
            parts = A.offsets, A.conductance, A.absorption
            works: dict[str, tuple[int, Callable[[], Any]]] = {
                "apply": (6, lambda p=parts, u=u, out=out: lattice.apply(*p, u, out)),
                "residual": (7, lambda p=parts, u=u, b=b, out=out: lattice.residual(*p, u, b, out)),
                "relax": (8, lambda p=parts, s=s, u=u, b=b, out=out: lattice.relax(*p, s, u, b, 0.5, out)),
            }
            for name, (vectors, kernel) in works.items():
                source = self.random(vectors * out.numel() // 2, dtype=dtype)
                target = torch.empty_like(source)
                own, copy = self.seconds(kernel), self.seconds(lambda t=target, s=source: t.copy_(s))
                bytes_moved = 2 * source.numel() * source.element_size()
                found[f"{name}, {str(dtype).removeprefix('torch.')}, {n}^3"] = {
                    "seconds": own, "of the speed of copying": copy / own, "GB/s": bytes_moved / own / 1e9,
                }  # fmt: skip
        return found

    def poisson(self) -> Figures:
        """Solve -Laplace u = f to 1e-8, by multigrid and by transforms."""
        found: Figures = {}
        for n in self.sizes.boxes:
            for method in ("multigrid", "transform"):
                found[f"{method}, {n}^3"] = self._or_out_of_memory(lambda n=n, m=method: self._poisson(n, m))
        return found

    def _poisson(self, n: int, method: str) -> dict[str, Any]:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        problem = sb.Diffusion(sb.Grid((n,) * 3), 1.0, self.random(n, n, n))
        setup = self.seconds(lambda: sb.prepare(problem, method=method), repeats=1)
        solver = sb.prepare(problem, method=method)
        solve = self.seconds(lambda: solver.solve(rtol=RTOL))
        solution = solver.solve(rtol=RTOL)
        row: dict[str, Any] = {
            "set-up": setup, "solve": solve, "iterations": int(solution.iterations),
            "residual": float(solution.residual_norm / solver.rhs.norm()), "M unknowns/s": (n + 1) ** 3 / solve / 1e6,
        }  # fmt: skip
        if self.device.type == "cuda":
            row["peak GiB"] = torch.cuda.max_memory_allocated() / 2**30
        return row

    def media(self) -> Figures:
        """Solve Darcy problems in batches to 1e-9, each with a medium of its own, set-up included."""
        n, group = self.sizes.medium, self.sizes.group
        a = self.medium(self.sizes.media, n, n)

        def batches() -> None:
            for start in range(0, len(a), group):
                sb.solve(sb.Diffusion(sb.Grid((n, n)), a[start : start + group], 1.0), rtol=1e-9, method="multigrid")

        taken = self.seconds(batches, repeats=1)
        return {f"{len(a)} of {n}^2, {group} a batch": {"seconds": taken, "samples/s": len(a) / taken}}

    def certificate(self) -> Figures:
        """Bound the error of a solution, and compare with the time of the solve."""
        n = self.sizes.square
        problem = sb.Diffusion(sb.Grid((n, n)), self.medium(n, n), 1.0)
        solution = sb.solve(problem, method="multigrid")
        flux = sb.certify(problem, solution).flux
        solve = self.seconds(lambda: sb.solve(problem, method="multigrid"))
        works: dict[str, Callable[[], Any]] = {
            "both bounds": lambda: sb.certify(problem, solution),
            "upper bound, flux at hand": lambda: sb.certify(problem, solution, flux=flux, lower=False),
        }
        found: Figures = {f"solve, {n}^2": {"seconds": solve}}
        for name, work in works.items():
            taken = self.seconds(work)
            found[f"{name}, {n}^2"] = {"seconds": taken, "over the solve": taken / solve}
        return found

    def epoch(self) -> Figures:
        """Train the published network for rough media for one epoch: 256^2, batches of 8, its loss."""
        tiny = self.sizes is TINY
        found: Figures = {}
        variants: dict[str, dict[str, Any]] = {"full precision": {}, "bfloat16": {"precision": "bf16"}}
        if self.device.type == "cuda":
            variants["CUDA graphs and bfloat16"] = {"precision": "bf16", "graphs": True}
        for name, options in variants.items():
            torch.manual_seed(0)
            model = sb.MgNO(in_channels=1, out_channels=1, dim=2, channels=4, layers=1, levels=2) if tiny else None
            model = sb.multigrid.PublishedMgNO.named("darcy-rough") if model is None else model
            inputs = torch.rand(self.sizes.samples, 1, self.sizes.medium, self.sizes.medium)
            with torch.no_grad():
                targets = torch.rand(len(inputs), *model(inputs[:1]).shape[1:])
            data = TensorDataset(inputs, targets)
            trained = sb.train(
                model, data, None, device=str(self.device), epochs=2, batch_size=8, loss="h1", select="l2", **options
            )
            taken = trained.history[-1]["seconds"]  # of the second epoch: the first one compiles
            found[name] = {"seconds": taken, "samples/s": len(data) / taken, "parameters": _weights(model)}
        return found

    def _or_out_of_memory(self, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        try:
            return work()
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            return {"out of memory": True}


def _weights(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


PARTS = ("kernels", "poisson", "media", "certificate", "epoch")


def card(device: torch.device) -> dict[str, Any]:
    """Name the card and what runs on it."""
    known = {"package": sb.__version__, "torch": torch.__version__, "cuda": torch.version.cuda}
    if device.type != "cuda":
        return {"card": "none (CPU)", **known}
    properties = torch.cuda.get_device_properties(device)
    return {"card": properties.name, "GiB": properties.total_memory / 2**30, **known}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="the file to write (default gpu.json)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to run")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, on the CPU where there is no CUDA device")
    parser.add_argument("--check", action="store_true", help="only see whether there is a CUDA device")
    arguments = parser.parse_args()
    if not torch.cuda.is_available() and not arguments.tiny:
        print("torch finds no CUDA device; run this on a machine with one, or see --tiny.", file=sys.stderr)
        sys.exit(2)
    if arguments.check:
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bench = Bench(device, TINY if arguments.tiny else Sizes())
    report: dict[str, Any] = card(device) | {"figures": {}, "others": OTHERS}
    print(", ".join(f"{name} {value}" for name, value in card(device).items()))
    for part in arguments.only:
        report["figures"][part] = rows = getattr(bench, part)()
        print(f"\n{getattr(Bench, part).__doc__}")
        for name, figures in rows.items():
            print(f"  {name:40}" + ", ".join(f"{key} {_short(value)}" for key, value in figures.items()))
        for name, figure in OTHERS.get(part, {}).items():
            print(f"  for comparison, {name}: {figure}", flush=True)
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")  # after each part, if a later one fails
    print(f"\nwritten to {arguments.out}")


def _short(value: float | bool) -> str:
    return str(value) if isinstance(value, bool | int) else f"{value:.3g}"


if __name__ == "__main__":
    main()
