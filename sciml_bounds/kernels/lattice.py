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
from typing import NamedTuple

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
from sciml_bounds.kernels.memory import new_field
from sciml_bounds.kernels.rows import clear, row_loop

__all__ = [
    "Survey",
    "apply",
    "energy",
    "groups",
    "interleaved",
    "relax",
    "residual",
    "rows",
    "shifted",
    "strip_length",
    "survey",
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
    if backend_for(u) != "numba":
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


class Survey(NamedTuple):
    """What one reading of a lattice operator tells.

    Attributes
    ----------
    diagonal
        c + sum_j T_ij, shape (b, x, y, z).
    absolute
        The sums of |A_ij| over rows, shape (b, x, y, z).
    conductances
        For each offset the sum of the conductances, how many are not zero, the smallest positive one (infinite if
        there is none) and the largest, shape (b, k, 4).
    isolated
        The number of points without neighbours that are on no side of the box, shape (b,).
    excess
        The sum of c over the points that have neighbours, shape (b,).
    contrast
        The largest ratio of two positive conductances between nearest neighbours that follow each other along an axis,
        at least 1. Shape (b,).
    """

    diagonal: Tensor
    absolute: Tensor
    conductances: Tensor
    isolated: Tensor
    excess: Tensor
    contrast: Tensor


def survey(offsets: Offsets, T: Tensor, c: Tensor) -> Survey:
    """Read an operator once."""
    if backend_for(c) != "numba":
        return _survey_torch(offsets, T, c)
    B, X, Y, Z = c.shape
    strips = X * -(-Y // strip_length(Y, Z))
    diagonal, absolute = new_field(c), new_field(c)
    parts, points = c.new_empty((B, strips, len(T), 4)), c.new_empty((B, strips, 3))
    scratch = c.new_empty((B * strips, 4, len(T) + 1, Z))
    data = rows(T), c, diagonal, absolute, parts.view(-1, len(T), 4), points.view(-1, 3), scratch
    _survey_numba(c.numel(), groups(offsets), *data)
    summed = parts[..., :2].sum(1), parts[..., 2:3].amin(1), parts[..., 3:].amax(1)
    isolated, excess = points[..., :2].sum(1).unbind(1)
    return Survey(diagonal, absolute, torch.cat(summed, 2), isolated, excess, points[..., 2].amax(1))


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
    if backend == "numba":
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


def _survey_torch(offsets: Offsets, T: Tensor, c: Tensor) -> Survey:
    couplings, sizes = torch.zeros_like(c), torch.zeros_like(c)
    for k, offset in enumerate(offsets):
        back = tuple(-o for o in offset)
        couplings += T[k] + shifted(T[k], back)
        sizes += T[k].abs() + shifted(T[k].abs(), back)
    flat = T.flatten(2).movedim(0, 1)  # (b, k, n)
    smallest = torch.where(flat > 0, flat, torch.inf).amin(2)
    inside = tuple(slice(1, -1) if n > 1 else slice(None) for n in c.shape[1:])
    return Survey(
        c + couplings,
        (c + couplings).abs() + sizes,
        torch.stack([flat.sum(2), (flat != 0).sum(2).to(c), smallest, flat.amax(2)], 2),
        (sizes[:, *inside] == 0).flatten(1).sum(1).to(c),
        torch.where(sizes > 0, c, 0.0).flatten(1).sum(1),
        _contrast_torch(offsets, T),
    )


def _contrast_torch(offsets: Offsets, T: Tensor) -> Tensor:
    ratios = [torch.ones_like(T[0])]
    for offset, t in zip(offsets, T):
        if sum(map(abs, offset)) == 1:
            before = shifted(t, tuple(-o for o in offset))
            small, large = torch.minimum(t, before), torch.maximum(t, before)
            ratios.append(torch.where(small > 0, large / small, 1.0))
    return torch.stack(ratios).amax((0, 2, 3, 4))


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


@NumbaKernel
def _survey_numba(groups, T, c, diagonal, absolute, parts, points, scratch):
    B, X, Y, Z = c.shape
    K = T.shape[3]
    length = strip_length(Y, Z)
    strips = (Y + length - 1) // length
    for i in prange(B * X * strips):
        n = i // (X * strips)
        x = i // strips % X
        start = i % strips * length
        seen = scratch[i]  # of each column: what `parts` has of all
        for k in range(K):
            _begin(seen[0, k], seen[1, k], seen[2, k], seen[3, k])
        held, contrast = seen[0, K], seen[1, K]
        clear(held)
        for z in range(Z):
            contrast[z] = 1.0
        alone = 0
        for y in range(start, min(start + length, Y)):
            total, size = diagonal[n, x, y], absolute[n, x, y]
            clear(total)
            clear(size)
            for g in range(groups.shape[0]):
                xb = wrapped(x - groups[g, 0], X)
                yb = wrapped(y - groups[g, 1], Y)
                for step in range(3 if groups[g, 3] == 2 else 1):
                    k = groups[g, 2] + step
                    dz = step - 1 if groups[g, 3] == 2 else 1 - groups[g, 3]
                    nearest = abs(groups[g, 0]) + abs(groups[g, 1]) + abs(dz) == 1
                    t, before = T[n, x, y, k], T[n, xb, yb, k]
                    _count(t, seen[0, k], seen[1, k], seen[2, k], seen[3, k])
                    _add_sizes(t, total, size)
                    if dz > 0:
                        _add_sizes(before[: Z - 1], total[1:], size[1:])
                        _add_sizes(before[Z - 1 :], total[:1], size[:1])
                        if nearest:
                            _compare(t[1:], before[: Z - 1], contrast[1:])
                            _compare(t[:1], before[Z - 1 :], contrast[:1])
                    elif dz < 0:
                        _add_sizes(before[1:], total[: Z - 1], size[: Z - 1])
                        _add_sizes(before[:1], total[Z - 1 :], size[Z - 1 :])
                    else:
                        _add_sizes(before, total, size)
                        if nearest:
                            _compare(t, before, contrast)
            if (0 < x < X - 1 or X == 1) and (0 < y < Y - 1 or Y == 1):
                for z in range(min(1, Z - 1), max(Z - 1, 1)):
                    alone += size[z] == 0
            _add_held(c[n, x, y], total, size, held)
        points[i, 0] = alone
        points[i, 1] = 0
        points[i, 2] = 1
        for z in range(Z):
            points[i, 1] += held[z]
            points[i, 2] = max(points[i, 2], contrast[z])
        for k in range(K):
            for q in range(4):
                parts[i, k, q] = seen[q, k, 0]
            for z in range(1, Z):
                parts[i, k, 0] += seen[0, k, z]
                parts[i, k, 1] += seen[1, k, z]
                parts[i, k, 2] = min(parts[i, k, 2], seen[2, k, z])
                parts[i, k, 3] = max(parts[i, k, 3], seen[3, k, z])


# One loop for each array that is written, compiled by themselves: then they are vector code.


@row_loop
def _begin(total, count, smallest, largest):
    """Begin the statistics of a column of conductances."""
    for z in range(total.size):
        total[z] = 0.0
        count[z] = 0.0
        smallest[z] = np.inf
        largest[z] = -np.inf


@row_loop
def _count(t, total, count, smallest, largest):
    """Take a row of conductances into the statistics of their columns."""
    for z in range(t.size):
        total[z] += t[z]
    for z in range(t.size):
        count[z] += 1.0 if t[z] != 0.0 else 0.0
    for z in range(t.size):
        positive = t[z] if t[z] > 0.0 else np.inf
        smallest[z] = positive if positive < smallest[z] else smallest[z]
    for z in range(t.size):
        largest[z] = t[z] if t[z] > largest[z] else largest[z]


@row_loop
def _compare(t, before, contrast):
    """Take the ratio of a row of conductances and those before them into that of their columns."""
    for z in range(t.size):
        small = t[z] if t[z] < before[z] else before[z]
        large = before[z] if t[z] < before[z] else t[z]
        ratio = large / small if small > 0.0 else 1.0
        contrast[z] = ratio if ratio > contrast[z] else contrast[z]


@row_loop
def _add_sizes(t, total, size):
    """Add numbers and their absolute values."""
    for z in range(t.size):
        total[z] += t[z]
    for z in range(t.size):
        size[z] += abs(t[z])


@row_loop
def _add_held(c, total, size, held):
    """Finish the sums of a row of points with what holds them."""
    for z in range(c.size):
        held[z] += c[z] if size[z] > 0.0 else 0.0
    for z in range(c.size):
        total[z] += c[z]
    for z in range(c.size):
        size[z] += abs(total[z])


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
