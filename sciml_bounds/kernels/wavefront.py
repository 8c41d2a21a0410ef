"""Compiled loops over half a level of a multigrid cycle, in one pass through memory: `smoothing`, `transfer` on CPUs.

What such a half costs is the way of the data through memory, and its parts one after the other would take that way
again and again. So a loop takes a tile of the lattice and marches through it plane by plane, with all parts under way
at once: while the first step is at plane i, the second is at plane i - 1, and so on (Wellein, Hager, Zeiser, Wittmann,
Fehske, "Efficient temporal blocking for stencil computations by multicore-aware wavefront parallelization", COMPSAC
2009). Planes that one part hands to the next stay in a ring of three, in the nearest cache of each thread. Beside a
tile the parts are computed again on as many planes and rows as they reach, so that tiles are independent, and results
do not depend on them. Planes and rows are numbered on through the ends; `%` leads to where their data lie.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numba
import numpy as np
import torch
from numba import prange
from torch import Tensor

from sciml_bounds.kernels._backend import NumbaKernel
from sciml_bounds.kernels.lattice import Offsets, groups, rows, wrapped, write_product

__all__ = ["march_down", "march_up"]

Operator = tuple[Offsets, Tensor, Tensor, Tensor]
Axes = tuple[bool, bool, bool]
Work = dict[int, Tensor]
Pairs = tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]

#: Bytes that the tile of a core may fill in its nearest cache, of 1 to 2 MiB.
CACHE_BYTES = 1 << 20

#: Tiles are not shorter than this, because one to four planes (rows) beside them are computed again. Even.
SHORTEST_TILE = 16


def march_down(
    steps: tuple[float, ...], operator: Operator | None, axes: Axes, pairs: Pairs, P: Tensor, b: Tensor, x: Tensor,
    coarse: Tensor, work: Work,
) -> None:  # fmt: skip
    """Write x after steps from zero, if there are any, and the restriction of b - A x.

    Parameters
    ----------
    steps
        Their lengths.
    operator
        Offsets, T, c and s of `kernels.lattice`; needed for steps.
    axes, pairs, P
        The prolongation, as in `kernels.transfer`.
    b, x, coarse
        Fields on the fine lattice (b, x, y, z) and on the coarse one.
    work
        Where buffers are kept from one call to the next; empty at first.
    """
    data, fields = _laid_out(steps, operator, axes, pairs, P, work, b, x, coarse)
    _descend_numba(b.numel(), *data, *fields)


def march_up(
    steps: tuple[float, ...], operator: Operator | None, axes: Axes, pairs: Pairs, P: Tensor, coarse: Tensor,
    b: Tensor, x: Tensor, out: Tensor, work: Work,
) -> None:  # fmt: skip
    """Write x plus the prolongation after steps into `out`, which may be x where there are none."""
    data, fields = _laid_out(steps, operator, axes, pairs, P, work, b, x, out, coarse)
    _ascend_numba(b.numel(), *data, *fields)


def _laid_out(
    steps: tuple[float, ...],
    operator: Operator | None,
    axes: Axes,
    pairs: Pairs,
    P: Tensor,
    work: Work,
    *fields: Tensor,
) -> tuple[list[Any], list[Tensor]]:
    """Bring everything into the layout of the loops, in which a plane (1, y, z) is space (y, 1, z)."""
    weights, b = rows(P), fields[0]
    # without steps, nothing is read of the operator
    offsets, *data = ((), weights, b, b) if operator is None else (operator[0], rows(operator[1]), *operator[2:])
    flat = b.shape[1] == 1
    table, places, bits = _tables(offsets, axes, pairs, flat)
    shape = (b.shape[2], 1, b.shape[3]) if flat else tuple(b.shape[1:])
    tile = _tile_shape(len(steps), data[0].shape[3], shape, b.element_size(), torch.get_num_threads())
    if flat:
        data = [field.movedim(2, 1) for field in data]
        weights, fields = weights.movedim(2, 1), tuple(field.movedim(2, 1) for field in fields)
    halo = len(steps) + 1
    workers = torch.get_num_threads()
    height = tile[1] + 2 * halo if shape[1] > 1 else 1
    scratch = _buffer(work, (workers, 2, shape[2]), b)
    rings = _buffer(work, (workers, halo, 3, height, shape[2]), b)
    lengths = np.array(steps, dtype=b.numpy().dtype)
    return [lengths, np.array(tile), table, *data, places, bits, weights, scratch, rings], list(fields)


def _buffer(work: Work, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Return a buffer of this shape, for the loops to write to: its number of axes tells it from the others."""
    if len(shape) not in work or work[len(shape)].shape != shape:
        work[len(shape)] = like.new_empty(shape)
    return work[len(shape)]


@lru_cache
def _tables(offsets: Offsets, axes: Axes, pairs: Pairs, flat: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the groups of the offsets, the axes, and the pairs (pairs, 2, 3) for the loops."""
    table = groups(offsets).reshape(-1, 4)
    places = np.array(axes, dtype=np.int64)
    bits = np.array(pairs, dtype=np.int64).reshape(-1, 2, 3)
    if flat:
        order = [1, 0, 2]
        table, places, bits = table[:, [1, 0, 2, 3]], places[order], bits[:, :, order]
    return np.ascontiguousarray(table), np.ascontiguousarray(places), np.ascontiguousarray(bits)


@lru_cache
def _tile_shape(steps: int, directions: int, shape: tuple[int, ...], itemsize: int, threads: int) -> tuple[int, int]:
    """Choose how many planes and rows of a lattice (x, y, z) make a tile: even numbers."""
    X, Y, Z = shape
    a_row = (steps + 1) * (3 + directions + 3) * Z * itemsize  # of all planes that are in use at once
    fitting = max(CACHE_BYTES // a_row, SHORTEST_TILE)
    strips = -(-Y // fitting)
    height = -(-Y // strips)
    length = max(-(-X // (threads // math.gcd(strips, threads))), SHORTEST_TILE)  # as much for every thread
    return length + length % 2, height + height % 2


# --- numba ------------------------------------------------------------------------------------------------------------


@numba.njit(inline="always")
def _write_prolonged(values, bits, axes, weights, coarse, x, y):
    """Write the prolongation to the row (x, y) of the fine lattice into `values`, by the parity of the last index."""
    CX, CY, CZ = coarse.shape
    I = x // 2 if axes[0] else x
    J = y // 2 if axes[1] else y
    sx = x - 2 * I if axes[0] else 0
    sy = y - 2 * J if axes[1] else 0
    even, odd = values[0], values[1]
    if sx == 0 and sy == 0:
        source = coarse[I, J]
        for L in range(CZ):
            even[L] = source[L]
            odd[L] = 0
    else:
        for L in range(CZ):
            even[L] = 0
            odd[L] = 0
    for k in range(bits.shape[0]):
        if bits[k, 0, 0] == sx and bits[k, 0, 1] == sy:
            source = coarse[wrapped(I + bits[k, 1, 0], CX), wrapped(J + bits[k, 1, 1], CY)]
            w = weights[I, J, k]
            part = values[bits[k, 0, 2]]
            if bits[k, 1, 2] == 0:
                for L in range(CZ):
                    part[L] += w[L] * source[L]
            else:
                for L in range(CZ - 1):
                    part[L] += w[L] * source[L + 1]
                part[CZ - 1] += w[CZ - 1] * source[0]


@numba.njit(inline="always")
def _write_restricted(target, bits, axes, weights, ring, first, shape, values, I, J):
    """Write the restriction to the row (I, J) of the coarse lattice.

    The fine rows are in the ring (3 planes, rows from number `first`, z). `shape` is that of the fine lattice: an odd
    point beyond an odd end does not exist.
    """
    CX, CY, CZ = weights.shape[0], weights.shape[1], target.size
    fx = 2 if axes[0] else 1
    fy = 2 if axes[1] else 1
    _write_parts(values, ring[(fx * I) % 3, fy * J - first], axes[2])
    for L in range(CZ):
        target[L] = values[0, L]
    plane = fx * I
    line = fy * J
    for k in range(bits.shape[0]):
        P = wrapped(I - bits[k, 1, 0], CX)
        Q = wrapped(J - bits[k, 1, 1], CY)
        if fx * P + bits[k, 0, 0] >= shape[0] or fy * Q + bits[k, 0, 1] >= shape[1]:
            continue
        x = fx * (I - bits[k, 1, 0]) + bits[k, 0, 0]
        y = fy * (J - bits[k, 1, 1]) + bits[k, 0, 1]
        if x != plane or y != line:
            plane = x
            line = y
            _write_parts(values, ring[x % 3, y - first], axes[2])
        w = weights[P, Q, k]
        part = values[bits[k, 0, 2]]
        if bits[k, 1, 2] == 0:
            for L in range(CZ):
                target[L] += w[L] * part[L]
        else:
            for L in range(1, CZ):
                target[L] += w[L - 1] * part[L - 1]
            target[0] += w[CZ - 1] * part[CZ - 1]


@numba.njit(inline="always")
def _write_parts(values, row, coarsened):
    """Write the entries of a fine row by the parity of their index; where none is, zero."""
    even, odd = values[0], values[1]
    Z = row.size
    if not coarsened:
        for z in range(Z):
            even[z] = row[z]
        return
    for L in range(Z // 2):
        even[L] = row[2 * L]
        odd[L] = row[2 * L + 1]
    if Z % 2:
        even[Z // 2] = row[Z - 1]
        odd[Z // 2] = 0


@NumbaKernel
def _descend_numba(steps, tile, groups, T, c, s, axes, bits, weights, scratch, rings, b, x, coarse):
    B, X, Y, Z = b.shape
    m = steps.size
    hx = 1 if X > 1 else 0
    hy = 1 if Y > 1 else 0
    nx = (X + tile[0] - 1) // tile[0]
    ny = (Y + tile[1] - 1) // tile[1]
    workers = rings.shape[0]
    for worker in prange(workers):
        ring = rings[worker]  # the iterates, and the residual
        values = scratch[worker]
        for t in range(worker * B * nx * ny // workers, (worker + 1) * B * nx * ny // workers):
            n = t // (nx * ny)
            o = n if weights.shape[0] > 1 else 0
            x0 = (t // ny) % nx * tile[0]
            y0 = t % ny * tile[1]
            x1 = min(x0 + tile[0], X)
            y1 = min(y0 + tile[1], Y)
            first = y0 - hy * (m + 1)
            for i in range(x0 - hx * (m + 1), x1 + m):
                for j in range(m + 1):
                    p = i - j
                    if p < x0 - hx * (1 + m - j) or p >= x1 + hx * (m - j):
                        continue
                    tx = ((p - 1) % X, p % X, (p + 1) % X)
                    px = ((p - 1) % 3, p % 3, (p + 1) % 3)
                    for y in range(y0 - hy * (1 + m - j), y1 + hy * (m - j)):
                        ty = ((y - 1) % Y, y % Y, (y + 1) % Y)
                        k = y - first
                        row = ring[j, px[1], k]
                        right = b[n, tx[1], ty[1]]
                        inverse = s[o, tx[1], ty[1]]
                        if m == 0:
                            for z in range(Z):
                                row[z] = right[z]
                        elif j == 0:
                            for z in range(Z):
                                row[z] = steps[0] * inverse[z] * right[z]
                        else:
                            iterate = ring[j - 1]
                            write_product(row, c[o, tx[1], ty[1]], groups, iterate, px, (k - 1, k, k + 1), T[o], tx, ty)
                            if j < m:
                                v = iterate[px[1], k]
                                for z in range(Z):
                                    row[z] = v[z] + steps[j] * inverse[z] * (right[z] - row[z])
                            else:
                                for z in range(Z):
                                    row[z] = right[z] - row[z]
                        if j == m - 1 and x0 <= p < x1 and y0 <= y < y1:
                            result = x[n, p, y]
                            for z in range(Z):
                                result[z] = row[z]
                p = i - m
                if p < x0 or p >= x1 or (axes[0] and p % 2 == 0 and p < X - 1):  # the plane after is wanted too
                    continue
                I = p // 2 if axes[0] else p
                for J in range(y0 // 2 if axes[1] else y0, (y1 + 1) // 2 if axes[1] else y1):
                    _write_restricted(coarse[n, I, J], bits, axes, weights[o], ring[m], first, (X, Y), values, I, J)


@NumbaKernel
def _ascend_numba(steps, tile, groups, T, c, s, axes, bits, weights, scratch, rings, b, x, out, coarse):
    B, X, Y, Z = x.shape
    m = steps.size
    hx = 1 if X > 1 else 0
    hy = 1 if Y > 1 else 0
    nx = (X + tile[0] - 1) // tile[0]
    ny = (Y + tile[1] - 1) // tile[1]
    workers = rings.shape[0]
    for worker in prange(workers):
        ring = rings[worker]  # the iterates but the last
        values = scratch[worker]
        even, odd = values[0], values[1]
        for t in range(worker * B * nx * ny // workers, (worker + 1) * B * nx * ny // workers):
            n = t // (nx * ny)
            o = n if weights.shape[0] > 1 else 0
            x0 = (t // ny) % nx * tile[0]
            y0 = t % ny * tile[1]
            x1 = min(x0 + tile[0], X)
            y1 = min(y0 + tile[1], Y)
            first = y0 - hy * m
            for i in range(x0 - hx * m, x1 + m):
                for j in range(m + 1):
                    p = i - j
                    if p < x0 - hx * (m - j) or p >= x1 + hx * (m - j):
                        continue
                    tx = ((p - 1) % X, p % X, (p + 1) % X)
                    px = ((p - 1) % 3, p % 3, (p + 1) % 3)
                    for y in range(y0 - hy * (m - j), y1 + hy * (m - j)):
                        ty = ((y - 1) % Y, y % Y, (y + 1) % Y)
                        k = y - first
                        row = out[n, tx[1], ty[1]] if j == m else ring[j, px[1], k]
                        if j == 0:
                            start = x[n, tx[1], ty[1]]
                            _write_prolonged(values, bits, axes, weights[o], coarse[n], tx[1], ty[1])
                            if axes[2]:
                                for L in range(Z // 2):
                                    row[2 * L] = start[2 * L] + even[L]
                                    row[2 * L + 1] = start[2 * L + 1] + odd[L]
                                if Z % 2:
                                    row[Z - 1] = start[Z - 1] + even[Z // 2]
                            else:
                                for z in range(Z):
                                    row[z] = start[z] + even[z]
                        else:
                            right = b[n, tx[1], ty[1]]
                            inverse = s[o, tx[1], ty[1]]
                            iterate = ring[j - 1]
                            v = iterate[px[1], k]
                            write_product(row, c[o, tx[1], ty[1]], groups, iterate, px, (k - 1, k, k + 1), T[o], tx, ty)
                            for z in range(Z):
                                row[z] = v[z] + steps[j - 1] * inverse[z] * (right[z] - row[z])
