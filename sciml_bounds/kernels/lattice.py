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

__all__ = ["apply", "interleaved", "relax", "residual", "row_sums", "rows", "scaled_copy"]

Offsets = tuple[tuple[int, ...], ...]

_APPLY, _RESIDUAL, _RELAX = 0, 1, 2


def apply(offsets: Offsets, T: Tensor, c: Tensor, u: Tensor, out: Tensor) -> Tensor:
    """Write A u into `out` (b, x, y, z), which must not be `u`."""
    return _sweep(_APPLY, offsets, T, c, c, u, u, 0.0, out)


def residual(offsets: Offsets, T: Tensor, c: Tensor, u: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """Write b - A u into `out`, which must be neither `u` nor `b`."""
    return _sweep(_RESIDUAL, offsets, T, c, c, u, b, 0.0, out)


def relax(offsets: Offsets, T: Tensor, c: Tensor, s: Tensor, u: Tensor, b: Tensor, w: float, out: Tensor) -> Tensor:
    """Write the relaxation step u + w s (b - A u) into `out`, which must be neither `u` nor `b`."""
    return _sweep(_RELAX, offsets, T, c, s, u, b, w, out)


def row_sums(offsets: Offsets, T: Tensor, c: Tensor, *, absolute: bool) -> Tensor:
    """Compute the diagonal c + sum_j T_ij of A, or with `absolute` the sums of |A_ij| over its rows."""
    out = torch.empty_like(c)
    if backend_for(c) == "numba":
        _row_sums_numba(c.numel(), absolute, _groups(offsets), rows(T), c, out)
    else:
        out.copy_(c)
        for k, offset in enumerate(offsets):
            both = T[k] + T[k].abs() if absolute else T[k]
            out += both + shifted(both, tuple(-o for o in offset))
    return out


def rows(T: Tensor) -> Tensor:
    """View (k, b, x, y, z) as contiguous (b, x, y, k, z), the layout of the compiled kernels (a copy if need be)."""
    return T.movedim(0, 3).contiguous()


def interleaved(T: Tensor) -> Tensor:
    """Give (k, b, x, y, z) the memory layout that `rows` needs."""
    return rows(T).movedim(3, 0)


def scaled_copy(u: Tensor, scale: Tensor, out: Tensor) -> Tensor:
    """Write scale u into `out`, both (b, ...) and of whatever dtypes, with one number `scale` (b,) a sample."""
    require_batches(len(u), scale)
    if backend_for(u) == "numba":
        flat = (len(u), u.shape[1:].numel())
        _scaled_copy_numba(u.numel(), u.view(flat), scale.expand(len(u)).contiguous(), out.view(flat))
    else:
        out.copy_(u * scale.view(-1, *(1,) * (u.ndim - 1)))
    return out


def _sweep(
    mode: int, offsets: Offsets, T: Tensor, c: Tensor, s: Tensor, u: Tensor, b: Tensor, w: float, out: Tensor
) -> Tensor:
    require_batches(len(u), c, s)
    backend = backend_for(u)
    if backend == "numba":
        _sweep_numba(u.numel(), mode, _groups(offsets), rows(T), c, s, u, b, w, out)
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
def _groups(offsets: Offsets) -> np.ndarray:
    """Put the offsets to one row (x + dx, y + dy) together: dx, dy, number of the first, and which dz there are.

    They are 1 (the row itself), 0 (a row beside it), or -1, 0, 1 one after the other.
    """
    numbers: dict[tuple[int, int], list[int]] = {}
    for k, (dx, dy, _) in enumerate(offsets):
        numbers.setdefault((dx, dy), []).append(k)
    table = []
    for (dx, dy), members in numbers.items():
        steps = tuple(offsets[k][2] for k in members)
        table.append((dx, dy, members[0], {(1,): _ALONG, (0,): _BESIDE, (-1, 0, 1): _BOX}[steps]))
    return np.array(table)


@numba.njit(inline="always")
def wrapped(i, n):
    """Index modulo n of what is at most n away from the range."""
    return i + n if i < 0 else (i - n if i >= n else i)


@numba.njit(inline="always")
def _add_two(sums, v, t, q, tb, qb):
    for z in range(sums.size):
        sums[z] += t[z] * (v[z] - q[z]) + tb[z] * (v[z] - qb[z])


@numba.njit(inline="always")
def _add_three(sums, v, t, q, u, r, w, s):
    for z in range(sums.size):
        sums[z] += t[z] * (v[z] - q[z]) + u[z] * (v[z] - r[z]) + w[z] * (v[z] - s[z])


@NumbaKernel
def _sweep_numba(mode, groups, T, c, s, u, b, w, out):
    # One row of the last axis at a time, summed up in `sums`, which stays in the nearest cache; inner loops run over
    # contiguous memory without a branch, and the two ends of a row, where indices wrap, stand apart.
    B, X, Y, Z = u.shape
    e = Z - 1
    inner = max(Z - 2, 0)
    for row in prange(B * X * Y):
        n = row // (X * Y)
        x = (row // Y) % X
        y = row % Y
        m = n if c.shape[0] > 1 else 0
        v = u[n, x, y]
        ci = c[m, x, y]
        sums = np.empty(Z, u.dtype)
        for z in range(Z):
            sums[z] = ci[z] * v[z]
        for g in range(groups.shape[0]):
            dx = groups[g, 0]
            dy = groups[g, 1]
            k = groups[g, 2]
            kind = groups[g, 3]
            xb = wrapped(x - dx, X)
            yb = wrapped(y - dy, Y)
            q = u[n, wrapped(x + dx, X), wrapped(y + dy, Y)]
            qb = u[n, xb, yb]
            t = T[m, x, y, k]
            tb = T[m, xb, yb, k]
            if kind == 0:
                _add_two(sums[1:e], v[1:e], t[1:e], v[2:], t[:inner], v[:inner])
                sums[0] += t[0] * (v[0] - v[1 % Z]) + t[e] * (v[0] - v[e])
                if e > 0:
                    sums[e] += t[e] * (v[e] - v[0]) + t[e - 1] * (v[e] - v[e - 1])
            elif kind == 1:
                _add_two(sums, v, t, q, tb, qb)
            else:
                t0 = T[m, x, y, k + 1]
                t1 = T[m, x, y, k + 2]
                tb0 = T[m, xb, yb, k + 1]
                tb1 = T[m, xb, yb, k + 2]
                _add_three(sums[1:e], v[1:e], t[1:e], q[:inner], t0[1:e], q[1:e], t1[1:e], q[2:])
                _add_three(sums[1:e], v[1:e], tb[2:], qb[2:], tb0[1:e], qb[1:e], tb1[:inner], qb[:inner])
                for z in range(0, Z, max(e, 1)):
                    low = wrapped(z - 1, Z)
                    high = wrapped(z + 1, Z)
                    sums[z] += t[z] * (v[z] - q[low]) + t0[z] * (v[z] - q[z]) + t1[z] * (v[z] - q[high])
                    sums[z] += tb[high] * (v[z] - qb[high]) + tb0[z] * (v[z] - qb[z]) + tb1[low] * (v[z] - qb[low])
        o = out[n, x, y]
        if mode == 0:
            for z in range(Z):
                o[z] = sums[z]
        elif mode == 1:
            bi = b[n, x, y]
            for z in range(Z):
                o[z] = bi[z] - sums[z]
        else:
            bi = b[n, x, y]
            si = s[m, x, y]
            for z in range(Z):
                o[z] = v[z] + w * si[z] * (bi[z] - sums[z])


@NumbaKernel
def _scaled_copy_numba(u, scale, out):
    B, N = u.shape
    block = 4096
    blocks = (N + block - 1) // block
    for k in prange(B * blocks):
        n = k // blocks
        start = (k % blocks) * block
        source = u[n, start : start + block]
        target = out[n, start : start + block]
        for i in range(source.size):
            target[i] = scale[n] * source[i]


@NumbaKernel
def _row_sums_numba(absolute, groups, T, c, out):
    B, X, Y, Z = c.shape
    for row in prange(B * X * Y):
        n = row // (X * Y)
        x = (row // Y) % X
        y = row % Y
        o = out[n, x, y]
        o[:] = c[n, x, y]
        for g in range(groups.shape[0]):
            kind = groups[g, 3]
            xb = wrapped(x - groups[g, 0], X)
            yb = wrapped(y - groups[g, 1], Y)
            for step in range(3 if kind == 2 else 1):
                t = T[n, x, y, groups[g, 2] + step]
                tb = T[n, xb, yb, groups[g, 2] + step]
                dz = step - 1 if kind == 2 else 1 - kind
                for z in range(Z):
                    forward = t[z]
                    backward = tb[wrapped(z - dz, Z)]
                    o[z] += forward + backward
                    if absolute:
                        o[z] += abs(forward) + abs(backward)


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
