"""The lattice operator: (A u)_i = sum over neighbours j of T_ij (u_i - u_j) + c_i u_i.

`offsets` lists one direction per pair of neighbours. `T[k, b, i]` is the conductance between points i and i +
offsets[k], with indices modulo the lattice; it is zero if that neighbour does not exist. Fine lattices have one offset
per axis, and Galerkin coarse lattices have one for half of the 3^d - 1 neighbours in d dimensions. In this difference
form, constants are in the null space of the neighbour sum exactly, whatever the round-off.

One sweep computes A u, b - A u, or the relaxation step u + w s (b - A u). It reads every T once, and its cost is the
memory traffic of T. Therefore the rows T[:, b, x, y] of one (b, x, y) are adjacent in memory (`interleaved`): the
hardware prefetches one long stream instead of one stream per offset.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from sciml_bounds.kernels._backend import (
    backend_for,
    constant_table,
    launch,
    require_batches,
    run_compiled,
    tl,
    triton_jit,
)

__all__ = [
    "apply",
    "energy",
    "groups",
    "interleaved",
    "relax",
    "residual",
    "rows",
    "shifted",
    "strip_length",
]

Offsets = tuple[tuple[int, ...], ...]

_APPLY, _RESIDUAL, _RELAX = 0, 1, 2


def apply(offsets: Offsets, T: Tensor, c: Tensor, u: Tensor, out: Tensor) -> Tensor:
    """Write A u into `out` (b, x, y, z), which must not be `u`."""
    return _sweep(_APPLY, offsets, T, c, c, u, u, 0.0, out)


def energy(offsets: Offsets, T: Tensor, c: Tensor, u: Tensor, out: Tensor) -> Tensor:
    """Write A u into `out`, which must not be `u`, and return the inner products of u and A u, shape (b,)."""
    if backend_for(u) != "compiled":
        return (u * apply(offsets, T, c, u, out)).flatten(1).sum(1)
    B, X, Y, Z = u.shape
    sums = u.new_zeros((B, X * -(-Y // strip_length(Y, Z)), Z))
    _sweep(_APPLY, offsets, T, c, c, u, u, 0.0, out, sums)
    return torch.from_numpy(sums.flatten(1).numpy().sum(1))  # order of summation independent of the batch size


def residual(offsets: Offsets, T: Tensor, c: Tensor, u: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """Write b - A u into `out`, which must be neither `u` nor `b`."""
    return _sweep(_RESIDUAL, offsets, T, c, c, u, b, 0.0, out)


def relax(offsets: Offsets, T: Tensor, c: Tensor, s: Tensor, u: Tensor, b: Tensor, w: float, out: Tensor) -> Tensor:
    """Write the relaxation step u + w s (b - A u) into `out`, which must be neither `u` nor `b`."""
    return _sweep(_RELAX, offsets, T, c, s, u, b, w, out)


def rows(T: Tensor) -> Tensor:
    """View (k, b, x, y, z) as contiguous (b, x, y, k, z), the layout of the compiled kernels; copy if necessary."""
    return T.movedim(0, 3).contiguous()


def interleaved(T: Tensor) -> Tensor:
    """Return (k, b, x, y, z) in the memory layout for which `rows` needs no copy."""
    return rows(T).movedim(3, 0)


def _sweep(
    mode: int, offsets: Offsets, T: Tensor, c: Tensor, s: Tensor, u: Tensor, b: Tensor, w: float, out: Tensor,
    sums: Tensor | None = None,
) -> Tensor:  # fmt: skip
    require_batches(len(u), c, s)
    backend = backend_for(u)
    if backend == "compiled":
        sums = u.new_empty((0, 0, 0)) if sums is None else sums
        c, s, u, b = c.contiguous(), s.contiguous(), u.contiguous(), b.contiguous()  # c and s may have a batch of 1
        run_compiled("sweep", u.numel(), mode, groups(offsets), rows(T), c, s, u, b, w, out, sums)
    elif backend == "triton":
        _sweep_triton(mode, offsets, rows(T), c, s, u, b, w, out)
    else:
        _sweep_torch(mode, offsets, T, c, s, u, b, w, out)
    return out


# --- reference --------------------------------------------------------------------------------------------------------


def lattice_product(offsets: Offsets, T: Tensor, c: Tensor, u: Tensor) -> Tensor:
    """Compute A u in differentiable torch operations."""
    result = c * u
    for k, offset in enumerate(offsets):
        flow = T[k] * (u - shifted(u, offset))
        result = result + flow - shifted(flow, tuple(-o for o in offset))
    return result


def shifted(u: Tensor, offset: tuple[int, ...]) -> Tensor:
    """Return the field whose value at i is u at i + offset, with indices modulo the lattice."""
    return torch.roll(u, tuple(-o for o in offset), (-3, -2, -1))


def _sweep_torch(
    mode: int, offsets: Offsets, T: Tensor, c: Tensor, s: Tensor, u: Tensor, b: Tensor, w: float, out: Tensor
) -> None:
    product = lattice_product(offsets, T, c, u)
    if mode == _RESIDUAL:
        product = b - product
    elif mode == _RELAX:
        product = u + w * s * (b - product)
    out.copy_(product)


# --- compiled -----------------------------------------------------------------------------------------------------


_SAME_ROW, _OTHER_ROW, _BOX = 0, 1, 2  # the dz of a group: 1, 0, or -1, 0, 1


@lru_cache
def groups(offsets: Offsets) -> np.ndarray:
    """Group the offsets by row (x + dx, y + dy): dx, dy, index of the first offset, and kind of its dz.

    The dz of a group are 1 (within the row itself), 0 (to a neighbouring row), or the consecutive offsets -1, 0, 1.
    """
    numbers: dict[tuple[int, int], list[int]] = {}
    for k, (dx, dy, _) in enumerate(offsets):
        numbers.setdefault((dx, dy), []).append(k)
    table = []
    for (dx, dy), members in sorted(numbers.items()):
        steps = tuple(offsets[k][2] for k in members)
        table.append((dx, dy, members[0], {(1,): _SAME_ROW, (0,): _OTHER_ROW, (-1, 0, 1): _BOX}[steps]))
    return np.array(table, dtype=np.int64)


def strip_length(Y: int, Z: int) -> int:
    """Return the number of rows of a plane that form one piece of work, as in `array.hpp`."""
    return max(1, min(Y, 16384 // Z))


# --- triton -----------------------------------------------------------------------------------------------------------


@triton_jit
def _sweep_kernel(
    offsets,
    T,
    c,
    s,
    u,
    b,
    w,
    out,
    X,
    Y,
    Z,
    stride_m,
    K: tl.constexpr,
    MODE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    N = X * Y * Z
    n = tl.program_id(1).to(tl.int64)
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < N
    x = i // (Y * Z)
    y = (i // Z) % Y
    z = i % Z
    coefficient = n * stride_m
    v = tl.load(u + n * N + i, mask=inside, other=0.0)
    acc = tl.load(c + coefficient + i, mask=inside, other=0.0) * v
    for k in tl.static_range(K):
        dx = tl.load(offsets + 3 * k)
        dy = tl.load(offsets + 3 * k + 1)
        dz = tl.load(offsets + 3 * k + 2)
        forward = ((x + dx + X) % X) * (Y * Z) + ((y + dy + Y) % Y) * Z + (z + dz + Z) % Z
        backward = ((x - dx + X) % X) * (Y * Z) + ((y - dy + Y) % Y) * Z + (z - dz + Z) % Z
        there = T + K * coefficient + k * Z + (K - 1) * Z * (i // Z) + i
        back = T + K * coefficient + k * Z + (K - 1) * Z * (backward // Z) + backward
        acc += tl.load(there, mask=inside, other=0.0) * (v - tl.load(u + n * N + forward, mask=inside, other=0.0))
        acc += tl.load(back, mask=inside, other=0.0) * (v - tl.load(u + n * N + backward, mask=inside, other=0.0))
    if MODE > 0:
        acc = tl.load(b + n * N + i, mask=inside, other=0.0) - acc
    if MODE > 1:
        acc = v + tl.load(w) * tl.load(s + coefficient + i, mask=inside, other=0.0) * acc
    tl.store(out + n * N + i, acc, mask=inside)


def _sweep_triton(
    mode: int, offsets: Offsets, T: Tensor, c: Tensor, s: Tensor, u: Tensor, b: Tensor, w: float, out: Tensor
) -> None:
    B, X, Y, Z = u.shape
    points = X * Y * Z
    table = constant_table(offsets, torch.int32, u.device)
    weight = constant_table(w, u.dtype, u.device)  # triton would cut a Python float to single precision
    stride_m = points if c.shape[0] > 1 else 0
    launch(
        _sweep_kernel,
        points,
        B,
        table,
        T,
        c,
        s,
        u,
        b,
        weight,
        out,
        X,
        Y,
        Z,
        stride_m,
        K=len(offsets),
        MODE=mode,
    )
