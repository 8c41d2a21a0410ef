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
from sciml_bounds.kernels.lattice import Offsets, groups, rows
from sciml_bounds.kernels._numba_lattice import wrapped, write_product
from sciml_bounds.kernels.rows import prefetch, row_loop

__all__ = ["march_down", "march_up"]

Operator = tuple[Offsets, Tensor, Tensor, Tensor]
Axes = tuple[bool, bool, bool]
Work = dict[int, Tensor]
Pairs = tuple[tuple[tuple[int, ...], tuple[int, ...]] | None, ...]

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
        The prolongation, as in `kernels.transfer`; pairs that are None are left out.
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
    table, places, joins = _tables(offsets, axes, pairs, flat)
    shape = (b.shape[2], 1, b.shape[3]) if flat else tuple(b.shape[1:])
    tile = _tile_shape(len(steps), data[0].shape[3], shape, b.element_size(), torch.get_num_threads())
    if flat:
        data = [field.movedim(2, 1) for field in data]
        weights, fields = weights.movedim(2, 1), tuple(field.movedim(2, 1) for field in fields)
    halo = len(steps) + 1
    workers = torch.get_num_threads()
    height = tile[1] + 2 * halo if shape[1] > 1 else 2  # a row of zeros: neighbours along an axis of one point
    scratch = _buffer(work, (workers, 2, shape[2]), b)
    rings = _buffer(work, (workers, halo, 3, height, shape[2]), b)
    lengths = np.array(steps, dtype=b.numpy().dtype)
    return [lengths, np.array(tile), table, *data, places, joins, weights, scratch, rings], list(fields)


def _buffer(work: Work, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Return a buffer of this shape, for the loops to write to: its number of axes tells it from the others."""
    if len(shape) not in work or work[len(shape)].shape != shape:
        work[len(shape)] = like.new_zeros(shape)  # 0 times what is there from before might be NaN
    return work[len(shape)]


@lru_cache
def _tables(offsets: Offsets, axes: Axes, pairs: Pairs, flat: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the groups of the offsets, the axes, and what joins rows of the fine lattice and of the coarse one.

    Joins: the class S of a fine row and the corner C along the first two axes (4), and the numbers of the weights that
    join its even entries to the coarse ones (-1: weight 1), and its odd entries to those before and behind (-1: none).
    """
    number = {pair: k for k, pair in enumerate(pairs) if pair is not None}
    of_rows = dict.fromkeys([((0, 0), (0, 0)), *[(S[:2], C[:2]) for S, C in number]])
    ends = ((0, 0), (1, 0), (1, 1))
    joins = np.array([
        (*S, *C, *[number.get(((*S, s), (*C, c)), -1) for s, c in ends]) for S, C in of_rows
    ])  # fmt: skip
    table, places = groups(offsets).reshape(-1, 4), np.array(axes, dtype=np.int64)
    if flat:
        table, places, joins = table[:, [1, 0, 2, 3]], places[[1, 0, 2]], joins[:, [1, 0, 3, 2, 4, 5, 6]]
    return np.ascontiguousarray(table), places, np.ascontiguousarray(joins)


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

# Loops over one row stand by themselves, see `kernels.rows`.


@row_loop
def split(row, parts, coarsened):
    """Write the even entries of a row and behind them the odd ones, if its axis is coarsened."""
    Z = row.size
    if not coarsened:
        for z in range(Z):
            parts[z] = row[z]
        return
    odd = parts[(Z + 1) // 2 :]
    for L in range(Z // 2):
        parts[L] = row[2 * L]
        odd[L] = row[2 * L + 1]
    if Z % 2:
        parts[Z // 2] = row[Z - 1]


@row_loop
def gather(target, fresh, parts, weights, k0, k1, k2):
    """Add what a split fine row has in the restriction to a coarse row, or write it there if that is fresh."""
    CZ = target.size
    if k0 < 0:
        for L in range(CZ):
            target[L] = parts[L] if fresh else target[L] + parts[L]
    else:
        w = weights[k0]
        for L in range(CZ):
            target[L] += w[L] * parts[L]
    if k1 < 0:
        return
    odd = parts[CZ:]
    before, behind = weights[k1], weights[k2]
    for L in range(1, odd.size):
        target[L] += before[L] * odd[L] + behind[L - 1] * odd[L - 1]
    e = odd.size - 1
    if e >= 0:
        target[0] += before[0] * odd[0]
        target[(e + 1) % CZ] += behind[e] * odd[e]


@row_loop
def spread(values, fresh, source, weights, k0, k1, k2):
    """Add what a coarse row has in the prolongation to a fine one, or write it there if that is fresh."""
    CZ = source.size
    even, odd = values[0], values[1]
    if fresh:
        for L in range(CZ):
            even[L] = 0
        for L in range(CZ):
            odd[L] = 0
    if k0 < 0:
        for L in range(CZ):
            even[L] += source[L]
    else:
        w = weights[k0]
        for L in range(CZ):
            even[L] += w[L] * source[L]
    if k1 < 0:
        return
    before, behind = weights[k1], weights[k2]
    for L in range(CZ - 1):
        odd[L] += before[L] * source[L] + behind[L] * source[L + 1]
    odd[CZ - 1] += before[CZ - 1] * source[CZ - 1] + behind[CZ - 1] * source[0]


@row_loop
def add_joined(row, start, values, coarsened):
    """Write a row plus values by the parity of their place, if its axis is coarsened."""
    Z = row.size
    even, odd = values[0], values[1]
    if not coarsened:
        for z in range(Z):
            row[z] = start[z] + even[z]
        return
    for L in range(Z // 2):
        row[2 * L] = start[2 * L] + even[L]
        row[2 * L + 1] = start[2 * L + 1] + odd[L]
    if Z % 2:
        row[Z - 1] = start[Z - 1] + even[Z // 2]


@numba.njit(inline="always")
def _write_prolonged(values, joins, axes, weights, coarse, x, y):
    """Write the prolongation to the row (x, y) of the fine lattice into `values`, by the parity of the last index."""
    I = x // 2 if axes[0] else x
    J = y // 2 if axes[1] else y
    sx = x - 2 * I if axes[0] else 0
    sy = y - 2 * J if axes[1] else 0
    fresh = True
    if sx == 0 and sy == 0 and weights.shape[1] > J + 1:
        prefetch(weights[I, J + 1])
    for k in range(joins.shape[0]):
        if joins[k, 0] == sx and joins[k, 1] == sy:
            source = coarse[wrapped(I + joins[k, 2], coarse.shape[0]), wrapped(J + joins[k, 3], coarse.shape[1])]
            spread(values, fresh, source, weights[I, J], joins[k, 4], joins[k, 5], joins[k, 6])
            fresh = False


@numba.njit(inline="always")
def _write_restricted(target, joins, axes, weights, ring, first, shape, I, J):
    """Write the restriction to the row (I, J) of the coarse lattice.

    The fine rows are in the ring (3 planes, rows from number `first`, z), their even entries before the odd ones.
    `shape` is that of the fine lattice: an odd point beyond an odd end does not exist.
    """
    CX, CY = weights.shape[:2]
    fx = 2 if axes[0] else 1
    fy = 2 if axes[1] else 1
    if J + 1 < CY:
        prefetch(weights[I, J + 1])
    for k in range(joins.shape[0]):
        P = wrapped(I - joins[k, 2], CX)
        Q = wrapped(J - joins[k, 3], CY)
        if fx * P + joins[k, 0] >= shape[0] or fy * Q + joins[k, 1] >= shape[1]:
            continue
        x = fx * (I - joins[k, 2]) + joins[k, 0]
        y = fy * (J - joins[k, 3]) + joins[k, 1]
        gather(target, k == 0, ring[x % 3, y - first], weights[P, Q], joins[k, 4], joins[k, 5], joins[k, 6])


@NumbaKernel
def _descend_numba(steps, tile, groups, T, c, s, axes, joins, weights, scratch, rings, b, x, coarse):
    B, X, Y, Z = b.shape
    m = steps.size
    hx = 1 if X > 1 else 0
    hy = 1 if Y > 1 else 0
    nx = (X + tile[0] - 1) // tile[0]
    ny = (Y + tile[1] - 1) // tile[1]
    workers = rings.shape[0]
    for worker in prange(workers):
        ring = rings[worker]  # the iterates, and the residual
        product = scratch[worker, 0]
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
                        row = ring[j, px[1], k] if j < m else product
                        right = b[n, tx[1], ty[1]]
                        inverse = s[o, tx[1], ty[1]]
                        if m == 0:
                            split(right, ring[m, px[1], k], axes[2])
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
                                split(row, ring[m, px[1], k], axes[2])
                        if j == m - 1 and x0 <= p < x1 and y0 <= y < y1:
                            result = x[n, p, y]
                            for z in range(Z):
                                result[z] = row[z]
                p = i - m
                if p < x0 or p >= x1 or (axes[0] and p % 2 == 0 and p < X - 1):  # the plane after is wanted too
                    continue
                I = p // 2 if axes[0] else p
                for J in range(y0 // 2 if axes[1] else y0, (y1 + 1) // 2 if axes[1] else y1):
                    _write_restricted(coarse[n, I, J], joins, axes, weights[o], ring[m], first, (X, Y), I, J)


@NumbaKernel
def _ascend_numba(steps, tile, groups, T, c, s, axes, joins, weights, scratch, rings, b, x, out, coarse):
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
                            _write_prolonged(values, joins, axes, weights[o], coarse[n], tx[1], ty[1])
                            add_joined(row, start, values, axes[2])
                        else:
                            right = b[n, tx[1], ty[1]]
                            inverse = s[o, tx[1], ty[1]]
                            iterate = ring[j - 1]
                            v = iterate[px[1], k]
                            write_product(row, c[o, tx[1], ty[1]], groups, iterate, px, (k - 1, k, k + 1), T[o], tx, ty)
                            for z in range(Z):
                                row[z] = v[z] + steps[j - 1] * inverse[z] * (right[z] - row[z])
