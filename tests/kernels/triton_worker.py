"""Holds every triton kernel to the plain torch reference; run by test_triton.py.

On a CPU this needs TRITON_INTERPRET=1 before the first import, so it runs in a process of its own. The kernels and
their input are those of the table in tests/contracts/test_kernels.py; what has no triton version, the reference serves.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import torch

from sciml_bounds.kernels import use_backend

TABLE = runpy.run_path(str(Path(__file__).parents[1] / "contracts" / "test_kernels.py"))


def agree(run, dtype, what):
    """Compare the two implementations of a list of tensors."""
    results = []
    for backend in ("torch", "triton"):
        with use_backend(backend):
            results.append(run())
    # sums of at most some hundred products of numbers of order one, in another order
    tolerance = 1e-12 if dtype == torch.float64 else 1e-4
    for k, (one, other) in enumerate(zip(*results, strict=True)):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance, msg=lambda m, k=k: f"{what}, {k}: {m}")


def main(device="cpu"):
    torch.manual_seed(0)
    batches = TABLE["BATCHES"]
    cases = [*((torch.float64, batch) for batch in batches), (torch.float32, batches[-1])]
    for name, make in TABLE["KERNELS"].items():
        for shape in TABLE["SHAPES"]:
            for dtype, batch in cases:
                run = make(TABLE["Case"](shape, *batch, dtype, device))
                agree(run, dtype, f"{name} on {shape}, batches {batch}, {dtype}")


if __name__ == "__main__":
    main(*sys.argv[1:])
    print("every kernel agrees")
