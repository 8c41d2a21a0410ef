"""Multilinear finite elements on a box grid: (a grad v, grad phi) + (c v, phi) for every node, exactly.

On a cell a multilinear function is a sum of products of centred coordinates xi_i in [-1/2, 1/2],

    v = sum over sets S of axes of m_S prod_{i in S} xi_i,    d_i v = 1/h_i sum over S with i in S of m_S prod_{S - i}
    xi,

and these products are orthogonal with mean squares 12^-|S|. In the coefficients m_S every integral of this package is
therefore a weighted sum of squares. The transform from corner values is one mean and one difference an axis.

Node fields have n + 1 nodes along every axis here (periodic ones carry a copy of their first node).
"""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from numba import prange
from torch import Tensor

from sciml_bounds.kernels._backend import (
    NumbaKernel,
    backend_for,
    launch,
    needs_gradient,
    require_batches,
    tl,
    triton_jit,
)

__all__ = ["modes", "stiffness"]


def stiffness(coefficient: tuple[Tensor, ...], reaction: Tensor, values: Tensor, spacing: tuple[float, ...]) -> Tensor:
    """Apply the stiffness and mass matrix of multilinear elements.

    Parameters
    ----------
    coefficient
        a along each axis, shape (1 or b, n); zero in solids.
    reaction
        c, shape (1 or b, n); zero in solids.
    values
        Nodal values, shape (b, n + 1).
    spacing
        h along each axis.

    Returns
    -------
    Tensor
        One number a node, shape (b, n + 1).
    """
    require_batches(len(values), *coefficient, reaction)
    backend = backend_for(values)
    if backend == "torch" or needs_gradient(*coefficient, reaction, values):
        return _stiffness_torch(coefficient, reaction, values, spacing)
    dim = len(spacing)
    nodes = _pad(values, dim)
    out = torch.zeros_like(nodes)
    fields = [_pad(part, dim) for part in (*coefficient, reaction)]
    fields = [fields[0]] * (3 - dim) + fields  # axes that are not there are never read
    scale = _mode_scales(spacing)
    if backend == "numba":
        scratch = np.empty((len(nodes) * fields[3].shape[1] * fields[3].shape[2], 8))
        _stiffness_numba(nodes.numel(), dim, *fields, nodes, scale, out, scratch)
    else:
        _stiffness_triton(dim, fields, nodes, scale, out)
    return out.view(values.shape)


def _pad(field: Tensor, dim: int) -> Tensor:
    return field.reshape(len(field), *(1,) * (3 - dim), *field.shape[1:]).contiguous()


def _mode_scales(spacing: tuple[float, ...]) -> np.ndarray:
    """Weights of a_x, a_y, a_z and c in the energy of each mode, shape (8, 4); modes are numbered by bits x y z."""
    dim = len(spacing)
    volume = float(np.prod(spacing))
    scale = np.zeros((8, 4))
    for bits in product((0, 1), repeat=dim):
        number = sum(b << (dim - 1 - axis) for axis, b in enumerate(bits))
        size = sum(bits)
        scale[number, 3] = volume * 12.0**-size
        for axis, b in enumerate(bits):
            if b:
                scale[number, 3 - dim + axis] = volume / spacing[axis] ** 2 * 12.0 ** (1 - size)
    return scale


# --- reference --------------------------------------------------------------------------------------------------------


def modes(values: Tensor, dim: int) -> dict[tuple[int, ...], Tensor]:
    """Coefficients m_S of a multilinear function on every cell, by the bits of S; nodes are the last `dim` axes."""
    found: dict[tuple[int, ...], Tensor] = {(): values}
    for axis in range(dim):
        position = values.ndim - dim + axis
        split: dict[tuple[int, ...], Tensor] = {}
        for bits, part in found.items():
            n = part.shape[position] - 1
            low, high = part.narrow(position, 0, n), part.narrow(position, 1, n)
            split[(*bits, 0)] = (low + high) / 2
            split[(*bits, 1)] = high - low
        found = split
    return found


def from_modes(parts: dict[tuple[int, ...], Tensor], dim: int) -> Tensor:
    """Transpose of `modes`: one number a node from one number a mode and cell."""
    for axis in reversed(range(dim)):
        joined = {}
        for bits in [b for b in parts if b[axis] == 0]:
            mean, difference = parts[bits], parts[(*bits[:axis], 1, *bits[axis + 1 :])]
            position = mean.ndim - dim + axis
            zero = torch.zeros_like(mean.narrow(position, 0, 1))
            low, high = mean / 2 - difference, mean / 2 + difference
            joined[(*bits[:axis], *bits[axis + 1 :])] = torch.cat([low, zero], position) + torch.cat(
                [zero, high], position
            )
        parts = joined
    return parts[()]


def _stiffness_torch(
    coefficient: tuple[Tensor, ...], reaction: Tensor, values: Tensor, spacing: tuple[float, ...]
) -> Tensor:
    dim = len(spacing)
    scale = _mode_scales(spacing)
    parts = {}
    for number, (bits, mode) in enumerate(modes(values, dim).items()):
        weight = float(scale[number, 3]) * reaction
        for axis, b in enumerate(bits):
            if b:
                weight = weight + float(scale[number, 3 - dim + axis]) * coefficient[axis]
        parts[bits] = weight * mode
    return from_modes(parts, dim)


# --- numba ------------------------------------------------------------------------------------------------------------


@NumbaKernel
def _stiffness_numba(dim, ax, ay, az, c, v, scale, out, scratch):
    # Rows of cells that share no node are done at the same time: four colours of (x, y).
    B = v.shape[0]
    X, Y, Z = c.shape[1:]
    corners = 1 << dim
    ex = 1 if dim > 2 else 0
    ey = 1 if dim > 1 else 0
    for colour in range(4):
        px = colour >> 1
        py = colour & 1
        if px > ex or py > ey:
            continue
        rows_x = (X - px + ex) // (1 + ex)
        rows_y = (Y - py + ey) // (1 + ey)
        for row in prange(B * rows_x * rows_y):
            n = row // (rows_x * rows_y)
            x = ((row // rows_y) % rows_x) * (1 + ex) + px
            y = (row % rows_y) * (1 + ey) + py
            m = n if c.shape[0] > 1 else 0
            mx = n if ax.shape[0] > 1 else 0
            my = n if ay.shape[0] > 1 else 0
            mz = n if az.shape[0] > 1 else 0
            e = scratch[row]
            for z in range(Z):
                for q in range(corners):
                    e[q] = v[n, x + (q >> 2), y + ((q >> 1) & 1), z + (q & 1)]
                for a in range(dim):
                    bit = 1 << a
                    for q in range(corners):
                        if q & bit == 0:
                            low = e[q]
                            high = e[q | bit]
                            e[q] = 0.5 * (low + high)
                            e[q | bit] = high - low
                kx = ax[mx, x, y, z]
                ky = ay[my, x, y, z]
                kz = az[mz, x, y, z]
                kc = c[m, x, y, z]
                for q in range(corners):
                    e[q] *= scale[q, 0] * kx + scale[q, 1] * ky + scale[q, 2] * kz + scale[q, 3] * kc
                for a in range(dim):
                    bit = 1 << a
                    for q in range(corners):
                        if q & bit == 0:
                            mean = 0.5 * e[q]
                            difference = e[q | bit]
                            e[q] = mean - difference
                            e[q | bit] = mean + difference
                for q in range(corners):
                    out[n, x + (q >> 2), y + ((q >> 1) & 1), z + (q & 1)] += e[q]


# --- triton -----------------------------------------------------------------------------------------------------------


@triton_jit
def _stiffness_kernel(
    ax, ay, az, c, v, scale, out, X, Y, Z, NX, NY, NZ, sx, sy, sz, sc,
    DIM: tl.constexpr, CORNERS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # One node a lane: it gathers the contributions of the cells around it, so that nothing is written twice.
    N = NX * NY * NZ
    n = tl.program_id(1).to(tl.int64)
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = i // (NY * NZ)
    y = (i // NZ) % NY
    z = i % NZ
    acc = tl.load(v + n * N + i, mask=i < N, other=0.0) * 0.0
    for corner in tl.static_range(CORNERS):  # this node is the given corner of the cell
        cx = x - (corner >> 2)
        cy = y - ((corner >> 1) & 1)
        cz = z - (corner & 1)
        inside = (i < N) & (cx >= 0) & (cy >= 0) & (cz >= 0) & (cx < X) & (cy < Y) & (cz < Z)
        cell = (cx * Y + cy) * Z + cz
        kx = tl.load(ax + n * sx + cell, mask=inside, other=0.0)
        ky = tl.load(ay + n * sy + cell, mask=inside, other=0.0)
        kz = tl.load(az + n * sz + cell, mask=inside, other=0.0)
        kc = tl.load(c + n * sc + cell, mask=inside, other=0.0)
        for q in tl.static_range(CORNERS):
            # entry (corner, q) of the cell matrix: sum over modes of transform(corner) weight transform(q)
            entry = acc * 0.0
            for s in tl.static_range(CORNERS):
                # each axis gives 1/2 * 1/2 to a mean, -1/+1 * -1/+1 to a difference
                factor = 1.0
                for a in tl.static_range(DIM):
                    if (s >> a) & 1:
                        factor = factor * (1.0 if ((corner >> a) & 1) == ((q >> a) & 1) else -1.0)
                    else:
                        factor = factor * 0.25
                weight = tl.load(scale + 4 * s) * kx + tl.load(scale + 4 * s + 1) * ky
                weight += tl.load(scale + 4 * s + 2) * kz + tl.load(scale + 4 * s + 3) * kc
                entry += factor * weight
            node = ((cx + (q >> 2)) * NY + cy + ((q >> 1) & 1)) * NZ + cz + (q & 1)
            acc += entry * tl.load(v + n * N + node, mask=inside, other=0.0)
    tl.store(out + n * N + i, acc, mask=i < N)


def _stiffness_triton(dim: int, fields: list[Tensor], nodes: Tensor, scale: np.ndarray, out: Tensor) -> None:
    table = torch.as_tensor(scale, dtype=nodes.dtype, device=nodes.device)
    cells = fields[3][0].numel()
    strides = [cells if len(field) > 1 else 0 for field in fields]
    launch(
        _stiffness_kernel, nodes[0].numel(), len(nodes), *fields, nodes, table, out,
        *fields[3].shape[1:], *nodes.shape[1:], *strides,
        DIM=dim, CORNERS=1 << dim,
    )  # fmt: skip
