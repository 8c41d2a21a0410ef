"""Loops over one row of cells or nodes, from which the kernels on cells are put together.

They are compiled by themselves, where few arrays have to be told apart for a loop to become vector code. Rows of nodes
are one longer than those of cells.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload

#: So many rows of cells, in pieces of so many cells, are one piece of work: few enough for sums along them to gather
#: little round-off and for scratch to stay in the cache.
STRIP, LENGTH = 16, 512

#: Numbers are divided by no less.
TINY = float(np.finfo(np.float64).tiny)

#: Division is that of the processor, which needs no branch.
row_loop = numba.njit(error_model="numpy", _nrt=False)


#: Bytes that come from memory together.
CACHE_LINE = 64


def chunks(batch: int, cells: tuple[int, ...]) -> int:
    """Count the parts into which the strips of a lattice of cells are divided, each with its own scratch."""
    return min(64, batch * cells[0] * -(-cells[1] // STRIP))


@intrinsic
def _fetch(context: Any, array: Any, place: Any) -> Any:
    """Ask for the cache line of array[place] without waiting for it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        form = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        fetch = builder.module.declare_intrinsic("llvm.prefetch", [pointer], form)
        where = builder.bitcast(builder.gep(data, [arguments[1]]), pointer)
        builder.call(fetch, [where, number(0), number(2), number(1)])  # to read; into the second cache; data
        return context.get_dummy_value()

    return types.void(array, place), generate


def _fetch_where_compiled(array, place):
    """Do nothing in Python, which these loops run in under NUMBA_DISABLE_JIT."""


@overload(_fetch_where_compiled)
def _fetch_compiled(array, place):
    return lambda array, place: _fetch(array, place)


@row_loop
def prefetch(rows):
    """Ask for rows that are wanted soon: hardware does not foresee that only some of those side by side are read."""
    flat = rows.reshape(-1)
    for place in range(0, flat.size, CACHE_LINE // flat.itemsize):
        _fetch_where_compiled(flat, place)


@row_loop
def write_modes(dim, r00, r01, r10, r11, t, m):
    """Write the modes of a row of cells into m, from the rows of nodes around it; t is scratch."""
    if dim == 1:
        split(r00, m[0], m[1])
        return
    if dim == 2:
        halves(r00, r01, t[0], t[1])
    else:
        across(r00, r01, r10, r11, t[0], t[1], t[2], t[3])
    for k in range(1 << (dim - 1)):
        split(t[k, : r00.size], m[2 * k], m[2 * k + 1])


@row_loop
def across(r00, r01, r10, r11, t0, t1, t2, t3):
    """Write the mean over four rows, the difference along each of the two axes, and that along both."""
    for z in range(r00.size):
        t0[z] = 0.25 * ((r00[z] + r01[z]) + (r10[z] + r11[z]))
    for z in range(r00.size):
        t1[z] = 0.5 * ((r01[z] - r00[z]) + (r11[z] - r10[z]))
    for z in range(r00.size):
        t2[z] = 0.5 * ((r10[z] - r00[z]) + (r11[z] - r01[z]))
    for z in range(r00.size):
        t3[z] = (r11[z] - r10[z]) - (r01[z] - r00[z])


@row_loop
def halves(low, high, mean, difference):
    """Write the mean of two rows and their difference."""
    for z in range(low.size):
        mean[z] = 0.5 * (low[z] + high[z])
        difference[z] = high[z] - low[z]


@row_loop
def split(t, mean, difference):
    """Write the means of neighbours in a row and their differences."""
    for z in range(t.size - 1):
        mean[z] = 0.5 * (t[z] + t[z + 1])
        difference[z] = t[z + 1] - t[z]


@row_loop
def weigh(m, factor, scale, ax, ay, az, c):
    """Multiply a mode of a row of cells by a factor and its weight."""
    for z in range(c.size):
        m[z] *= factor * (scale[0] * ax[z] + scale[1] * ay[z] + scale[2] * az[z] + scale[3] * c[z])


@row_loop
def add_square(energy, m, scale, ax, ay, az, c):
    """Add the square of a mode of a row of cells, times its weight."""
    for z in range(c.size):
        energy[z] += m[z] * m[z] * (scale[0] * ax[z] + scale[1] * ay[z] + scale[2] * az[z] + scale[3] * c[z])


@row_loop
def add_squares(energy, m, scale, ax, ay, az, c):
    """Add the squares of all eight modes of three axes: 4 to 7 vary along x, 2, 3, 6, 7 along y, the odd along z."""
    x4, x5, x6, x7 = scale[4, 0], scale[5, 0], scale[6, 0], scale[7, 0]
    y2, y3, y6, y7 = scale[2, 1], scale[3, 1], scale[6, 1], scale[7, 1]
    z1, z3, z5, z7 = scale[1, 2], scale[3, 2], scale[5, 2], scale[7, 2]
    c0, c1, c2, c3 = scale[0, 3], scale[1, 3], scale[2, 3], scale[3, 3]
    c4, c5, c6, c7 = scale[4, 3], scale[5, 3], scale[6, 3], scale[7, 3]
    m0, m1, m2, m3, m4, m5, m6, m7 = m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7]
    for z in range(c.size):
        q1, q2, q3, q4 = m1[z] * m1[z], m2[z] * m2[z], m3[z] * m3[z], m4[z] * m4[z]
        q5, q6, q7 = m5[z] * m5[z], m6[z] * m6[z], m7[z] * m7[z]
        energy[z] += (
            ax[z] * (x4 * q4 + x5 * q5 + x6 * q6 + x7 * q7)
            + ay[z] * (y2 * q2 + y3 * q3 + y6 * q6 + y7 * q7)
            + az[z] * (z1 * q1 + z3 * q3 + z5 * q5 + z7 * q7)
            + c[z] * (c0 * m0[z] * m0[z] + c1 * q1 + c2 * q2 + c3 * q3 + c4 * q4 + c5 * q5 + c6 * q6 + c7 * q7)
        )


@row_loop
def join(mean, difference, nodes):
    """Give the nodes of a row what the cells on both sides of them have, from means and differences along it."""
    Z = nodes.size - 1
    for z in range(1, Z):
        nodes[z] = 0.5 * (mean[z - 1] + mean[z]) + (difference[z - 1] - difference[z])
    nodes[0] = 0.5 * mean[0] - difference[0]
    nodes[Z] = 0.5 * mean[Z - 1] + difference[Z - 1]


@row_loop
def clear(row):
    """Write zeros."""
    for z in range(row.size):
        row[z] = 0.0


@row_loop
def add_one(out, mean):
    """Add one row to another."""
    for z in range(out.size):
        out[z] += mean[z]


@row_loop
def add_two(out, mean, difference, sign):
    """Add what the modes of a row of cells give on one of two sides."""
    for z in range(out.size):
        out[z] += 0.5 * mean[z] + sign * difference[z]


@row_loop
def add_four(out, mean, second, first, both, s1, s2):
    """Add what the modes of a row of cells give at one of four corners."""
    for z in range(out.size):
        out[z] += 0.25 * mean[z] + 0.5 * (s2 * second[z] + s1 * first[z]) + s1 * s2 * both[z]


@numba.njit(inline="always")
def cell_row(field, n, x, y):
    """Take a row of a field of cells; what is the same in all samples, or in all cells, is there once."""
    return field[n if field.shape[0] > 1 else 0, x if field.shape[1] > 1 else 0, y if field.shape[2] > 1 else 0]


@numba.njit(inline="always")
def cells_of(field, n, x, y, low, high):
    """Take a part of such a row."""
    return field[
        n if field.shape[0] > 1 else 0, x if field.shape[1] > 1 else 0, y if field.shape[2] > 1 else 0, low:high
    ]


@row_loop
def cell_beside(node, side, n, extends, wraps):
    """Find the cell before (0) or behind (1) a node, or -1 if there is none."""
    if not extends:
        return node
    cell = node - 1 + side
    if 0 <= cell < n:
        return cell
    return -1 if not wraps else (n - 1 if cell < 0 else 0)


@row_loop
def copy(row, out):
    """Copy a row."""
    for z in range(row.size):
        out[z] = row[z]


@row_loop
def combine(out, scale, ax, ay, az, c):
    """Write a combination of the data of a row of cells."""
    for z in range(out.size):
        out[z] = scale[0] * ax[z] + scale[1] * ay[z] + scale[2] * az[z] + scale[3] * c[z]


@row_loop
def add_combined(out, scale, ax, ay, az, c):
    """Add a combination of the data of a row of cells."""
    for z in range(out.size):
        out[z] += scale[0] * ax[z] + scale[1] * ay[z] + scale[2] * az[z] + scale[3] * c[z]


@row_loop
def add_load(m, volume, f):
    """Add the source of a row of cells, times its volume."""
    for z in range(f.size):
        m[z] += volume * f[z]


@row_loop
def divide(out, total):
    """Divide by the totals."""
    for z in range(out.size):
        out[z] /= max(total[z], TINY)


@row_loop
def add_sizes(omega, row):
    """Add absolute values."""
    for z in range(omega.size):
        omega[z] += abs(row[z])


@row_loop
def add_nodal(right, energy, v, e, weight):
    """Add what one mode has in -a(v, e) and a(e, e)."""
    for z in range(right.size):
        part = weight[z] * e[z]
        right[z] -= part * v[z]
        energy[z] += part * e[z]


@row_loop
def add_product(right, volume, f, mean):
    """Add the source of a row of cells, times its volume and a mean."""
    for z in range(f.size):
        right[z] += volume * f[z] * mean[z]


@row_loop
def add_noise(noise, size, omega, volume, f, level, kappa):
    """Add what round-off may change the sums of a row of cells by."""
    for z in range(noise.size):
        noise[z] += (volume * abs(f[z]) + level * kappa[z]) * omega[z]
        size[z] += kappa[z] * omega[z] * omega[z]


@row_loop
def add_own(energy, mode, share, along, a, weight):
    """Add what one mode of the bubbles along one axis has in the energy by itself."""
    for z in range(energy.size):
        energy[z] += (share * weight[z] + along * a[z]) * mode[z] * mode[z]


@row_loop
def add_joined(right, mixed, energy, factor, w, v, e, weight):
    """Add what one mode of the bubbles along all axes has in -a(v, w), a(e, w) and a(w, w)."""
    for z in range(right.size):
        part = factor * weight[z] * w[z]
        right[z] -= part * v[z]
        mixed[z] += part * e[z]
        energy[z] += factor * part * w[z]


@row_loop
def sum_beside(cells, nodes, wraps):
    """Write the sums over the cells on both sides of every node of a row."""
    Z = cells.size
    for z in range(1, Z):
        nodes[z] = cells[z - 1] + cells[z]
    nodes[0] = cells[0]
    nodes[Z] = cells[Z - 1]
    if wraps:
        nodes[0] += cells[Z - 1]
        nodes[Z] += cells[0]
