"""Run by test_backend.py in a process of its own with two threads; prints one line of JSON.

`differences`: how many results of the kernels differ between the two compiled forms. Otherwise the names of the two
forms in some order: which threads a kernel of this file ran on in each, and how a child forked after them ends.
"""

from __future__ import annotations

import json
import os
import sys

import numba
import torch
from numba import prange

from sciml_bounds.kernels import _backend, coarsen, interpolation, lattice, smoothing, transfer, vectors
from sciml_bounds.kernels.majorant import majorant_terms
from sciml_bounds.kernels.q1 import stiffness
from sciml_bounds.kernels.survey import survey


@_backend.NumbaKernel
def _thread_numbers(out):
    for i in prange(out.shape[0]):
        out[i] = numba.get_thread_id()


def seen(threshold: int) -> list[int]:
    _backend.SERIAL_BELOW = threshold
    out = torch.full((8,), -1, dtype=torch.int64)
    _thread_numbers(out.numel(), out)
    return sorted(set(out.tolist()))


def every_kernel() -> list[torch.Tensor]:
    """Results of every compiled kernel on one batch of random three-dimensional data."""
    torch.manual_seed(0)
    shape, axes = (6, 7, 9), (True, True, True)
    offsets = coarsen.half_stencil(axes)
    T, (c, s) = torch.rand(len(offsets), 2, *shape), torch.rand(2, 2, *shape)
    u, b = torch.randn(2, 2, *shape)
    for k, offset in enumerate(offsets):  # the compiled coarse operator takes no odd seams
        for axis, step in enumerate(offset):
            if step:
                T[k].select(1 + axis, -1 if step > 0 else 0).zero_()
    weights, defect = interpolation.interpolation_weights(offsets, T, c, axes)
    found = survey(offsets, T, c)
    _, coarse_T, coarse_c, _ = coarsen.galerkin(offsets, T, c, axes, weights, defect, found.diagonal)
    stage = smoothing.Stage(offsets, T, c, s / 20, axes, weights)
    x, right, up = torch.empty_like(u), torch.empty_like(coarse_c), torch.empty_like(u)
    smoothing.descend(stage, (0.7, 0.9), b, x, right)
    smoothing.ascend(stage, (0.7, 0.9), coarse_c, b, u.clone(), up)
    flat = [v.flatten(1).clone() for v in (u, b)]
    cells = torch.rand(3, 2, 5, 6, 8)
    fluid = torch.rand(2, 5, 6, 8) > 0.2
    faces = tuple(torch.randn(2, *(n + (i == j) for j, n in enumerate((5, 6, 8)))) for i in range(3))
    a, reaction, source = (cells[0],) * 3, cells[1], cells[2]
    return [
        lattice.apply(offsets, T, c, u, torch.empty_like(u)),
        lattice.residual(offsets, T, c, u, b, torch.empty_like(u)),
        lattice.relax(offsets, T, c, s, u, b, 0.3, torch.empty_like(u)),
        *found,
        vectors.combine(torch.rand(2), flat[0], torch.rand(2), flat[1]),
        flat[1],
        x,
        right,
        up,
        weights,
        coarse_T,
        coarse_c,
        transfer.prolong_add(axes, weights, coarse_c, u.clone()),
        transfer.restrict(axes, weights, u, torch.empty_like(coarse_c)),
        stiffness(a, reaction, u, (0.2, 0.3, 0.1)),
        *majorant_terms(a, reaction, source, fluid, u, faces, (0.2, 0.3, 0.1)),
    ]


def differences() -> int:
    """Count the results that are not bitwise the same without threads and with two."""
    _backend.SERIAL_BELOW = 10**9
    serial = every_kernel()
    _backend.SERIAL_BELOW = 0
    return sum(  # races show up by chance
        not torch.equal(p, q) for _ in range(5) for p, q in zip(serial, every_kernel(), strict=True)
    )


def forked_child() -> int:
    """Run a large kernel in a child forked after threads were used, and return its exit status."""
    _backend.SERIAL_BELOW = 0
    child = os.fork()
    if child == 0:
        out = torch.full((8,), -1, dtype=torch.int64)
        _thread_numbers(out.numel(), out)
        os._exit(0 if out.tolist() == [0] * 8 else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    torch.set_num_threads(2)
    torch.set_default_dtype(torch.float64)
    if sys.argv[1] == "differences":
        print(json.dumps({"differences": differences()}))
    else:
        numba.set_num_threads(2)  # `get_thread_id` in code from the cache needs threads that are there already
        forms = {"serial": 10**9, "parallel": 0}
        report: dict[str, object] = {name: seen(forms[name]) for name in sys.argv[1:]}
        print(json.dumps({**report, "child": forked_child()}))
