"""The lattice operator: (A u)_i = sum over neighbours j of T_ij (u_i - u_j) + c_i u_i.

`offsets` lists one direction of each pair of neighbours; `T[k, b, i]` is the conductance between point i and point i +
offsets[k], with indices taken modulo the lattice (it is zero where that neighbour does not exist). The fine lattices
have one offset an axis, Galerkin coarse lattices half of the 3^d - 1 neighbours. The difference form keeps constants in
the null space exactly, whatever the round-off.

One sweep serves three uses: A u, b - A u, and the relaxation step u + w s (b - A u). It reads every T once; what it
costs is the way of T through memory, so the rows T[:, b, x, y] of one (b, x, y) lie side by side (`interleaved`): one
long stream instead of one for each offset, which hardware does not follow.
"""

from __future__ import annotations

from functools import lru_cache

import numba
import numpy as np
import torch
from numba import prange
from torch import Tensor

from sciml_bounds.kernels._backend import (
    NumbaKernel,
    backend_for,
    constant_table,
    launch,
    require_batches,
    tl,
    triton_jit,
)
from sciml_bounds.kernels.rows import row_loop

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
    "wrapped",
    "write_product",
]

Offsets = tuple[tuple[int, ...], ...]

_APPLY, _RESIDUAL, _RELAX = 0, 1, 2


def apply(offsets: Offsets, T: Tensor, c: Tensor, u: Tensor, out: Tensor) -> Tensor:
    """Write A u into `out` (b, x, y, z), which must not be `u`."""
    return _sweep(_APPLY, offsets, T, c, c, u, u, 0.0, out)


def energy(offsets: Offsets, T: Tensor, c: Tensor, u: Tensor, out: Tensor) -> Tensor:
    """Write A u into `out`, which must not be `u`, and return the inner products u . A u, shape (b,)."""
    if backend_for(u) != "compiled":
        return (u * apply(offsets, T, c, u, out)).flatten(1).sum(1)
    B, X, Y, Z = u.shape
    sums = u.new_zeros((B, X * -(-Y // strip_length(Y, Z)), Z))
    _sweep(_APPLY, offsets, T, c, c, u, u, 0.0, out, sums)
    return torch.from_numpy(sums.flatten(1).numpy().sum(1))  # in one order for any number of samples


def residual(offsets: Offsets, T: Tensor, c: Tensor, u: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """Write b - A u into `out`, which must be neither `u` nor `b`."""
    return _sweep(_RESIDUAL, offsets, T, c, c, u, b, 0.0, out)


def relax(offsets: Offsets, T: Tensor, c: Tensor, s: Tensor, u: Tensor, b: Tensor, w: float, out: Tensor) -> Tensor:
    """Write the relaxation step u + w s (b - A u) into `out`, which must be neither `u` nor `b`."""
    return _sweep(_RELAX, offsets, T, c, s, u, b, w, out)


def rows(T: Tensor) -> Tensor:
    """View (k, b, x, y, z) as contiguous (b, x, y, k, z), the layout of the compiled kernels (a copy if need be)."""
    return T.movedim(0, 3).contiguous()


def interleaved(T: Tensor) -> Tensor:
    """Give (k, b, x, y, z) the memory layout that `rows` needs."""
    return rows(T).movedim(3, 0)


def _sweep(
    mode: int, offsets: Offsets, T: Tensor, c: Tensor, s: Tensor, u: Tensor, b: Tensor, w: float, out: Tensor,
    sums: Tensor | None = None,
) -> Tensor:  # fmt: skip
    require_batches(len(u), c, s)
    backend = backend_for(u)
    if backend == "compiled":
        sums = u.new_empty((0, 0, 0)) if sums is None else sums
        _sweep_numba(u.numel(), mode, groups(offsets), rows(T), c, s, u, b, w, out, sums)
    elif backend == "triton":
        _sweep_triton(mode, offsets, rows(T), c, s, u, b, w, out)
    else:
        _sweep_torch(mode, offsets, T, c, s, u, b, w, out)
    return out


# --- reference --------------------------------------------------------------------------------------------------------


def lattice_product(offsets: Offsets, T: Tensor, c: Tensor, u: Tensor) -> Tensor:
    """Compute A u in plain torch operations, through which gradients flow."""
    result = c * u
    for k, offset in enumerate(offsets):
        flow = T[k] * (u - shifted(u, offset))
        result = result + flow - shifted(flow, tuple(-o for o in offset))
    return result


def shifted(u: Tensor, offset: tuple[int, ...]) -> Tensor:
    """Return the field of values at i + offset, indices taken modulo the lattice."""
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


# --- numba ------------------------------------------------------------------------------------------------------------


_ALONG, _BESIDE, _BOX = 0, 1, 2


@lru_cache
def groups(offsets: Offsets) -> np.ndarray:
    """Put the offsets to one row (x + dx, y + dy) together: dx, dy, number of the first, and which dz there are.

    They are 1 (the row itself), 0 (a row beside it), or -1, 0, 1 one after the other.
    """
    numbers: dict[tuple[int, int], list[int]] = {}
    for k, (dx, dy, _) in enumerate(offsets):
        numbers.setdefault((dx, dy), []).append(k)
    table = []
    for (dx, dy), members in sorted(numbers.items()):
        steps = tuple(offsets[k][2] for k in members)
        table.append((dx, dy, members[0], {(1,): _ALONG, (0,): _BESIDE, (-1, 0, 1): _BOX}[steps]))
    return np.array(table, dtype=np.int64)


@numba.njit(inline="always")
def wrapped(i, n):
    """Index modulo n of what is at most n away from the range."""
    return i + n if i < 0 else (i - n if i >= n else i)


@numba.njit
def strip_length(Y, Z):
    """So many of the Y rows of a plane are one piece of work: enough to be worth a thread, few enough for many."""
    return max(1, min(Y, 16384 // Z))


@numba.njit(inline="always")
def write_product(out, c, groups, u, px, py, T, tx, ty):
    """Write sum over j of T_ij (u_i - u_j) + c_i u_i for the points i of one row.

    u (planes, rows, z) has them at (px[1], py[1]), and the planes and rows before and after at px, py [0] and [2];
    likewise T (x, y, k, z) with tx and ty.
    """
    v = u[px[1], py[1]]
    t = T[tx[1], ty[1]]
    if groups.shape[0] == 3 and groups[1, 3] == 1 and groups[1, 0] == 0 and groups[2, 3] == 1 and groups[2, 1] == 0:
        # the finest level in three dimensions: the rows beside are in the plane itself, and in those before and after
        k = groups[1, 2]
        m = groups[2, 2]
        above, below, sb = u[px[1], py[2]], u[px[1], py[0]], T[tx[1], ty[0], k]
        after, before, tb = u[px[2], py[1]], u[px[0], py[1]], T[tx[0], ty[1], m]
        sf, tf = t[k], t[m]
        for z in range(out.size):
            out[z] = (
                c[z] * v[z]
                + sf[z] * (v[z] - above[z])
                + sb[z] * (v[z] - below[z])
                + tf[z] * (v[z] - after[z])
                + tb[z] * (v[z] - before[z])
            )
        _add_along(out, v, t[groups[0, 2]])
        return
    for z in range(out.size):
        out[z] = c[z] * v[z]
    for g in range(groups.shape[0]):
        k = groups[g, 2]
        if groups[g, 3] == 0:
            _add_along(out, v, t[k])
            continue
        after, before = u[px[1 + groups[g, 0]], py[1 + groups[g, 1]]], u[px[1 - groups[g, 0]], py[1 - groups[g, 1]]]
        tb = T[tx[1 - groups[g, 0]], ty[1 - groups[g, 1]]]
        if groups[g, 3] == 1:
            _add_beside(out, v, after, before, t[k], tb[k])
        else:
            _add_box(out, v, after, before, t[k], t[k + 1], t[k + 2], tb[k], tb[k + 1], tb[k + 2])


@row_loop
def _add_along(out, v, t):
    """Add the flows within a row; its two ends, where indices wrap, stand apart."""
    e = out.size - 1
    for z in range(1, e):
        out[z] += t[z] * (v[z] - v[z + 1]) + t[z - 1] * (v[z] - v[z - 1])
    out[0] += t[0] * (v[0] - v[min(1, e)]) + t[e] * (v[0] - v[e])
    if e > 0:
        out[e] += t[e] * (v[e] - v[0]) + t[e - 1] * (v[e] - v[e - 1])


@row_loop
def _add_beside(out, v, after, before, t, tb):
    """Add the flows to the same places of the rows after and before."""
    for z in range(out.size):
        out[z] += t[z] * (v[z] - after[z]) + tb[z] * (v[z] - before[z])


@row_loop
def _add_box(out, v, after, before, t0, t1, t2, tb0, tb1, tb2):
    """Add the flows to three places each of the rows after and before."""
    Z = out.size
    for z in range(1, Z - 1):
        here = v[z]
        out[z] += (
            t0[z] * (here - after[z - 1])
            + t1[z] * (here - after[z])
            + t2[z] * (here - after[z + 1])
            + tb0[z + 1] * (here - before[z + 1])
            + tb1[z] * (here - before[z])
            + tb2[z - 1] * (here - before[z - 1])
        )
    for end in range(min(Z, 2)):
        z = end * (Z - 1)
        low = wrapped(z - 1, Z)
        high = wrapped(z + 1, Z)
        out[z] += t0[z] * (v[z] - after[low]) + t1[z] * (v[z] - after[z]) + t2[z] * (v[z] - after[high])
        out[z] += tb0[high] * (v[z] - before[high]) + tb1[z] * (v[z] - before[z]) + tb2[low] * (v[z] - before[low])


@NumbaKernel
def _sweep_numba(mode, groups, T, c, s, u, b, w, out, sums):
    # A strip of a plane at a time, row by row; the product is written to where the result belongs.
    B, X, Y, Z = u.shape
    length = strip_length(Y, Z)
    strips = (Y + length - 1) // length
    for k in prange(B * X * strips):
        n = k // (X * strips)
        x = k // strips % X
        start = k % strips * length
        o = n if c.shape[0] > 1 else 0
        px = (wrapped(x - 1, X), x, wrapped(x + 1, X))
        for y in range(start, min(start + length, Y)):
            py = (wrapped(y - 1, Y), y, wrapped(y + 1, Y))
            row = out[n, x, y]
            write_product(row, c[o, x, y], groups, u[n], px, py, T[o], px, py)
            if sums.size > 0:
                total, v = sums[n, k % (X * strips)], u[n, x, y]
                for z in range(Z):
                    total[z] += v[z] * row[z]
            if mode == 1:
                for z in range(Z):
                    row[z] = b[n, x, y, z] - row[z]
            elif mode == 2:
                for z in range(Z):
                    row[z] = u[n, x, y, z] + w * s[o, x, y, z] * (b[n, x, y, z] - row[z])


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
    weight = constant_table(w, u.dtype, u.device)  # a plain float would be cut to single precision
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
