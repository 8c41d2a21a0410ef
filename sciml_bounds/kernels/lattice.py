"""The lattice operator: (A u)_i = sum over neighbours j of T_ij (u_i - u_j) + c_i u_i.

`offsets` lists one direction of each pair of neighbours; `T[k, b, i]` is the conductance between point i and point i +
offsets[k], with indices taken modulo the lattice (it is zero where that neighbour does not exist). The fine lattices
have one offset an axis, Galerkin coarse lattices half of the 3^d - 1 neighbours. The difference form keeps constants in
the null space exactly, whatever the round-off.

One sweep serves three uses: A u, b - A u, and the relaxation step u + w s (b - A u).
"""

from __future__ import annotations

import numpy as np
import torch
from numba import prange
from torch import Tensor

from sciml_bounds.kernels._backend import NumbaKernel, backend_for, constant_table, launch, tl, triton_jit

__all__ = ["apply", "relax", "residual"]

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


def _sweep(
    mode: int, offsets: Offsets, T: Tensor, c: Tensor, s: Tensor, u: Tensor, b: Tensor, w: float, out: Tensor
) -> Tensor:
    backend = backend_for(u)
    if backend == "numba":
        _sweep_numba(u.numel(), mode, np.array(offsets), T, c, s, u, b, w, out)
    elif backend == "triton":
        _sweep_triton(mode, offsets, T, c, s, u, b, w, out)
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


@NumbaKernel
def _sweep_numba(mode, offsets, T, c, s, u, b, w, out):
    # One row of the last axis at a time, so that every inner loop runs over contiguous memory without a branch.
    B, X, Y, Z = u.shape
    K = offsets.shape[0]
    for row in prange(B * X * Y):
        n = row // (X * Y)
        x = (row // Y) % X
        y = row % Y
        m = n if c.shape[0] > 1 else 0
        v = u[n, x, y]
        o = out[n, x, y]
        ci = c[m, x, y]
        for z in range(Z):
            o[z] = ci[z] * v[z]
        for k in range(K):
            dx = offsets[k, 0]
            dy = offsets[k, 1]
            dz = offsets[k, 2]
            xf = (x + dx) % X
            yf = (y + dy) % Y
            xb = (x - dx) % X
            yb = (y - dy) % Y
            tf = T[k, m, x, y]
            qf = u[n, xf, yf]
            tb = T[k, m, xb, yb]
            qb = u[n, xb, yb]
            if dz == 0:
                for z in range(Z):
                    o[z] += tf[z] * (v[z] - qf[z]) + tb[z] * (v[z] - qb[z])
            elif dz == 1:
                o[0] += tf[0] * (v[0] - qf[1 % Z]) + tb[Z - 1] * (v[0] - qb[Z - 1])
                for z in range(1, Z - 1):
                    o[z] += tf[z] * (v[z] - qf[z + 1]) + tb[z - 1] * (v[z] - qb[z - 1])
                if Z > 1:
                    o[Z - 1] += tf[Z - 1] * (v[Z - 1] - qf[0]) + tb[Z - 2] * (v[Z - 1] - qb[Z - 2])
            else:
                o[0] += tf[0] * (v[0] - qf[Z - 1]) + tb[1 % Z] * (v[0] - qb[1 % Z])
                for z in range(1, Z - 1):
                    o[z] += tf[z] * (v[z] - qf[z - 1]) + tb[z + 1] * (v[z] - qb[z + 1])
                if Z > 1:
                    o[Z - 1] += tf[Z - 1] * (v[Z - 1] - qf[Z - 2]) + tb[0] * (v[Z - 1] - qb[0])
        if mode == 1:
            bi = b[n, x, y]
            for z in range(Z):
                o[z] = bi[z] - o[z]
        elif mode == 2:
            bi = b[n, x, y]
            si = s[m, x, y]
            for z in range(Z):
                o[z] = v[z] + w * si[z] * (bi[z] - o[z])


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
    stride_k,
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
        row = T + k * stride_k + coefficient
        acc += tl.load(row + i, mask=inside, other=0.0) * (v - tl.load(u + n * N + forward, mask=inside, other=0.0))
        acc += tl.load(row + backward, mask=inside, other=0.0) * (
            v - tl.load(u + n * N + backward, mask=inside, other=0.0)
        )
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
        T.shape[1] * points,
        stride_m,
        K=len(offsets),
        MODE=mode,
    )
