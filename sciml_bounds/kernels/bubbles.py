"""Bubbles on the edges of a grid: functions that no multilinear function of the same grid resembles.

The bubble of an edge along axis i is q(xi_i) = 1 - 4 xi_i^2 along the edge, times the hats of the edge along the other
axes, on the cells around it. As q is even, all integrals are sums over the modes of `kernels.q1` (xi in [-1/2, 1/2]):
on a cell a sum of bubbles is the sum over axes of q(xi_i) W_i(other xi), W_i multilinear with modes W_iT, and

    a(v, w)  = Q sum over S of k_S v_S W_S            W_S = sum over i not in S of W_iS,   Q = int q = 2/3
    |||w|||^2 = Q^2 sum k_S W_S^2 + sum over i, T of W_iT^2 ((R - Q^2) k_T + D 12^-|T| V a_i / h_i^2)

with the weights k_S of the energy of modes, R = int q^2 = 8/15 and D = int q'^2 = 16/3. Every term is positive, so that
nothing cancels. The residual of a field in one bubble is Q times that of its mean along the axis in the hat across it.

All that a lower bound needs is a sum over cells; nothing is stored on a finer grid. Beside the values there are sums of
what round-off may change them by, in units of it:

    noise = sum over cells of (V |f| + level kappa) omega,      size = sum of kappa omega^2,

where omega is the sum of the absolute values that the function has at the corners or edges of the cell, and kappa at
least the sum of 4^|S| k_S, because a mode of numbers of size m is at most 2^|S| m.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numba import prange
from torch import Tensor

from sciml_bounds.kernels._backend import NumbaKernel, backend_for, require_batches
from sciml_bounds.kernels.memory import new_field
from sciml_bounds.kernels.q1 import _mode_scales, _pad, _pad_cells, from_modes, mode_weights, modes
from sciml_bounds.kernels.rows import (
    LENGTH,
    STRIP,
    across,
    add_combined,
    add_four,
    add_joined,
    add_load,
    add_nodal,
    add_noise,
    add_one,
    add_own,
    add_product,
    add_sizes,
    add_two,
    cell_beside,
    cell_row,
    cells_of,
    chunks,
    clear,
    combine,
    copy,
    divide,
    halves,
    split,
    sum_beside,
    weigh,
    write_modes,
)

__all__ = ["bubble_products", "bubble_residual", "bubble_scales", "nodal_products", "relax_bubbles"]

#: Integrals of q, q^2 and q'^2 over [-1/2, 1/2].
Q, R, D = 2 / 3, 8 / 15, 16 / 3

#: Rows of scratch that a piece of work has.
ROWS = 46

_NODAL, _RESIDUAL, _RELAX, _PRODUCTS = 0, 1, 2, 3

#: What all functions take first: a along each axis, c and f, shape (1 or b, n), zero in solids.
Data = tuple[tuple[Tensor, ...], Tensor, Tensor]


def nodal_products(data: Data, v: Tensor, e: Tensor, level: Tensor, spacing: tuple[float, ...]) -> Tensor:
    """Compute f(e) - a(v, e), a(e, e), noise and size of node fields v and e (b, n + 1), shape (b, 4).

    `level` (b,) bounds the absolute values of v.
    """
    a, c, f = data
    if _uses_reference(v, e, *a, c, f):
        return _nodal_torch(data, v, e, level, spacing)
    return _sums(_NODAL, 4, data, v, e, (), level, spacing)


def bubble_residual(data: Data, v: Tensor, spacing: tuple[float, ...]) -> tuple[Tensor, ...]:
    """Compute f(b) - a(v, b) for the bubble b of every edge: for each axis (b, n + 1, but n along the axis)."""
    a, c, f = data
    if _uses_reference(v, *a, c, f):
        return _residual_torch(data, v, spacing)
    out = tuple(new_field(v, (len(v), *_edges(c.shape[1:], axis))).zero_() for axis in range(len(spacing)))
    _run(_RESIDUAL, data, v, v, out, v.new_zeros(len(v)), spacing, v.new_zeros((1, 1, 1)))
    return out


def relax_bubbles(
    data: Data, residual: tuple[Tensor, ...], spacing: tuple[float, ...], periodic: tuple[bool, ...]
) -> tuple[Tensor, ...]:
    """Divide numbers of edges, in place, by the energies |||b|||^2 of their bubbles b (where there is any)."""
    a, c, f = data
    if _uses_reference(residual[0], *a, c, f):
        for r, scale in zip(residual, bubble_scales(data, spacing, periodic)):
            r.div_(scale)
    else:
        r = residual[0]
        _run(_RELAX, data, r, r, residual, r.new_zeros(len(r)), spacing, r.new_zeros((1, 1, 1)), periodic)
    return residual


def bubble_products(
    data: Data, v: Tensor, e: Tensor, w: tuple[Tensor, ...], level: Tensor, spacing: tuple[float, ...]
) -> Tensor:
    """Compute f(w) - a(v, w), a(e, w), a(w, w), noise and size of a sum w of bubbles, shape (b, 5)."""
    a, c, f = data
    if _uses_reference(v, e, *w, *a, c, f):
        return _products_torch(data, v, e, w, level, spacing)
    return _sums(_PRODUCTS, 5, data, v, e, w, level, spacing)


def _uses_reference(v: Tensor, *others: Tensor) -> bool:
    """Whether the plain version serves: points, the sides of a line, are no cells of the compiled one."""
    require_batches(len(v), *others)
    return backend_for(v) != "compiled" or v.ndim == 1


def _edges(cells: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return tuple(n + (k != axis) for k, n in enumerate(cells))


def _round_off_weights(spacing: tuple[float, ...]) -> np.ndarray:
    """Weights of a_x, a_y, a_z and c in kappa, shape (4,)."""
    dim, volume = len(spacing), math.prod(spacing)
    sizes = np.array([4.0 ** bin(number).count("1") for number in range(8)])
    found: np.ndarray = sizes @ _mode_scales(spacing)
    for axis, h in enumerate(spacing):
        found[3 - dim + axis] += D * volume / h**2 * (4 / 3) ** (dim - 1)
    return found


def _own_weights(spacing: tuple[float, ...]) -> np.ndarray:
    """Weights of a_x, a_y, a_z and c in the share that a cell has in |||b|||^2, shape (3, 4), by the axis of b."""
    dim, volume = len(spacing), math.prod(spacing)
    table = np.zeros((3, 4))
    for axis in range(dim):
        row = table[3 - dim + axis]
        for other, h in enumerate(spacing):
            own = D * 3.0 ** (1 - dim) if other == axis else R * 3.0 ** (2 - dim)
            row[3 - dim + other] = volume / h**2 * own
        row[3] = volume * R * 3.0 ** (1 - dim)
    return table


# --- reference --------------------------------------------------------------------------------------------------------


def bubble_scales(data: Data, spacing: tuple[float, ...], periodic: tuple[bool, ...]) -> tuple[Tensor, ...]:
    """Compute |||b|||^2 for the bubble of every edge, or the smallest normal number where that is zero."""
    a, c, _ = data
    dim = len(spacing)
    found = []
    for axis, row in enumerate(_own_weights(spacing)[3 - dim :]):
        share = float(row[3]) * c
        for other in range(dim):
            share = share + float(row[3 - dim + other]) * a[other]
        for other in range(dim):
            if other != axis:
                share = _sum_across(share, 1 + other, wraps=periodic[other])
        found.append(share.clamp_min(torch.finfo(share.dtype).tiny))
    return tuple(found)


def _sum_across(cells: Tensor, axis: int, *, wraps: bool) -> Tensor:
    """Sum over the cells on both sides of every node of an axis; both ends of one that wraps get the same."""
    zero = torch.zeros_like(cells.narrow(axis, 0, 1))
    first, last = cells.narrow(axis, 0, 1), cells.narrow(axis, cells.shape[axis] - 1, 1)
    before, behind = (last, first) if wraps else (zero, zero)
    return torch.cat([before, cells], axis) + torch.cat([cells, behind], axis)


def _residual_modes(data: Data, v: Tensor, spacing: tuple[float, ...]) -> dict[tuple[int, ...], Tensor]:
    """Coefficients P_S with f(w) - a(v, w) = sum of P_S w_S, by the bits of S."""
    a, c, f = data
    dim = len(spacing)
    weights = mode_weights(a, c, spacing)
    parts = {bits: -weights[bits] * mode for bits, mode in modes(v, dim).items()}
    mean = (0,) * dim
    parts[mean] = parts[mean] + math.prod(spacing) * f
    return parts


def _nodal_torch(data: Data, v: Tensor, e: Tensor, level: Tensor, spacing: tuple[float, ...]) -> Tensor:
    dim = len(spacing)
    weights, parts, own = mode_weights(*data[:2], spacing), _residual_modes(data, v, spacing), modes(e, dim)
    omega = _corner_sums(e.abs(), dim)
    terms = [
        sum((parts[bits] * mode for bits, mode in own.items()), torch.zeros(())),
        sum((weights[bits] * mode**2 for bits, mode in own.items()), torch.zeros(())),
        *_round_off_terms(data, omega, level, spacing),
    ]
    return torch.stack([term.reshape(len(term), math.prod(term.shape[1:])).sum(1) for term in terms], 1)


def _round_off_terms(data: Data, omega: Tensor, level: Tensor, spacing: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    a, c, f = data
    dim = len(spacing)
    table = _round_off_weights(spacing)
    kappa = float(table[3]) * c
    for axis in range(dim):
        kappa = kappa + float(table[3 - dim + axis]) * a[axis]
    level = level.view(-1, *(1,) * dim)
    return (math.prod(spacing) * f.abs() + level * kappa) * omega, kappa * omega**2


def _corner_sums(field: Tensor, dim: int) -> Tensor:
    """Sum over the corners of every cell; nodes are the last `dim` axes."""
    for axis in range(field.ndim - dim, field.ndim):
        n = field.shape[axis] - 1
        field = field.narrow(axis, 0, n) + field.narrow(axis, 1, n)
    return field


def _residual_torch(data: Data, v: Tensor, spacing: tuple[float, ...]) -> tuple[Tensor, ...]:
    dim = len(spacing)
    parts = _residual_modes(data, v, spacing)
    found = []
    for axis in range(dim):
        across = {
            (*bits[:axis], *bits[axis + 1 :]): Q * part.movedim(1 + axis, 1)
            for bits, part in parts.items()
            if not bits[axis]
        }
        found.append(from_modes(across, dim - 1).movedim(1, 1 + axis).contiguous())
    return tuple(found)


def _products_torch(
    data: Data, v: Tensor, e: Tensor, w: tuple[Tensor, ...], level: Tensor, spacing: tuple[float, ...]
) -> Tensor:
    dim = len(spacing)
    a, c, _ = data
    weights, parts, own = mode_weights(a, c, spacing), _residual_modes(data, v, spacing), modes(e, dim)
    zero = torch.zeros_like(parts[(0,) * dim])
    joined = dict.fromkeys(parts, zero)
    energy = omega = zero
    for axis, h in enumerate(spacing):
        field = w[axis].movedim(1 + axis, 1)
        omega = omega + _corner_sums(field.abs(), dim - 1).movedim(1, 1 + axis)
        for bits, part in modes(field, dim - 1).items():
            mode, full = part.movedim(1, 1 + axis), (*bits[:axis], 0, *bits[axis:])
            along = D * 12.0 ** -sum(bits) * math.prod(spacing) / h**2
            joined[full] = joined[full] + mode
            energy = energy + mode**2 * ((R - Q**2) * weights[full] + along * a[axis])
    terms = [
        sum((Q * parts[bits] * mode for bits, mode in joined.items()), zero),
        sum((Q * weights[bits] * own[bits] * mode for bits, mode in joined.items()), zero),
        sum((Q**2 * weights[bits] * mode**2 for bits, mode in joined.items()), energy),
        *_round_off_terms(data, omega, level, spacing),
    ]
    return torch.stack([term.reshape(len(term), math.prod(term.shape[1:])).sum(1) for term in terms], 1)


# --- numba ------------------------------------------------------------------------------------------------------------


def _sums(
    mode: int, count: int, data: Data, v: Tensor, e: Tensor, w: tuple[Tensor, ...], level: Tensor,
    spacing: tuple[float, ...],
) -> Tensor:  # fmt: skip
    *_, X, Y, Z = (1,) * (3 - len(spacing)) + tuple(data[1].shape[1:])
    sums = v.new_zeros((len(v), X * -(-Y // STRIP), count, Z))
    _run(mode, data, v, e, w, level, spacing, sums.view(-1, count, Z))
    return sums.sum(3).sum(1)


def _run(
    mode: int, data: Data, v: Tensor, e: Tensor, edges: tuple[Tensor, ...], level: Tensor, spacing: tuple[float, ...],
    sums: Tensor, periodic: tuple[bool, ...] = (),
) -> None:  # fmt: skip
    a, c, f = data
    dim = len(spacing)
    missing = 3 - dim
    fields = [_pad_cells(part, dim) for part in (*a, c, f)]
    cells = (1,) * missing + tuple(c.shape[1:])
    fields = [fields[0]] * missing + fields  # axes that are not there have weights of zero
    none = v.new_zeros((len(v), 1, 1, 1))
    along = [none] * missing + [_pad(part, dim) for part in edges] if edges else [none] * 3
    nodes = [none, none] if mode == _RELAX else [_pad(v, dim), _pad(e, dim)]
    wraps = np.array((False,) * missing + (periodic or (False,) * dim))
    tables = _mode_scales(spacing), _round_off_weights(spacing), _own_weights(spacing), _along_weights(spacing)
    dtype = none.numpy().dtype
    scratch = v.new_zeros((chunks(len(v), cells), ROWS, min(cells[2], LENGTH) + 1))
    long = v.new_zeros((len(scratch), 2, cells[2] + 1 if mode == _RELAX else 1))
    _bubbles_numba(
        v.numel(), mode, dim, np.array(cells), *fields, *nodes, *along, level.expand(len(v)).contiguous(),
        *(table.astype(dtype) for table in tables), math.prod(spacing), wraps, sums, scratch, long,
    )  # fmt: skip


def _along_weights(spacing: tuple[float, ...]) -> np.ndarray:
    """D V / h^2 of each axis; zero for those that are not there."""
    volume = math.prod(spacing)
    return np.array([0.0] * (3 - len(spacing)) + [D * volume / h**2 for h in spacing])


@NumbaKernel
def _bubbles_numba(
    mode,
    dim,
    cells,
    ax,
    ay,
    az,
    c,
    f,
    v,
    e,
    wx,
    wy,
    wz,
    level,
    scale,
    kappa,
    own,
    along,
    volume,
    wraps,
    sums,
    scratch,
    long,
):
    # Axes that are not there are done as if their two planes of nodes were the same one.
    B = v.shape[0]
    X, Y, Z = cells
    ex = 1 if dim > 2 else 0
    ey = 1 if dim > 1 else 0
    strips = (Y + STRIP - 1) // STRIP
    parts = scratch.shape[0]
    inner = (1 << dim) - 1  # the number of modes without the one along all axes, which no bubble has
    if mode == _RESIDUAL:
        for colour in range(4):  # strips of cells that share no edge are done at the same time
            px = colour >> 1
            py = colour & 1
            planes = (X - px + 1) // 2
            pairs = (strips - py + 1) // 2
            count = B * planes * pairs
            for chunk in prange(parts):
                rows = scratch[chunk]
                for k in range(chunk * count // parts, (chunk + 1) * count // parts):
                    n = k // (planes * pairs)
                    x = 2 * (k // pairs % planes) + px
                    start = STRIP * (2 * (k % pairs) + py)
                    for y in range(start, min(start + STRIP, Y)):
                        for low in range(0, Z, LENGTH):
                            high = min(low + LENGTH, Z)
                            a0, a1, a2 = (
                                cells_of(ax, n, x, y, low, high),
                                cells_of(ay, n, x, y, low, high),
                                cells_of(az, n, x, y, low, high),
                            )
                            a3, source = cells_of(c, n, x, y, low, high), cells_of(f, n, x, y, low, high)
                            r00, r01 = v[n, x, y, low : high + 1], v[n, x, y + ey, low : high + 1]
                            r10, r11 = v[n, x + ex, y, low : high + 1], v[n, x + ex, y + ey, low : high + 1]
                            write_modes(dim, r00, r01, r10, r11, rows[40:], rows)
                            for s in range(inner):
                                weigh(rows[s], -Q, scale[s], a0, a1, a2, a3)
                            add_load(rows[0], Q * volume, source)
                            if dim == 1:
                                add_one(wz[n, x, y, low:high], rows[0])
                            elif dim == 2:
                                for q in range(2):
                                    add_two(wz[n, x, y + q, low:high], rows[0], rows[2], 2 * q - 1)
                                    add_two(wy[n, x, y, low + q : high + q], rows[0], rows[1], 2 * q - 1)
                            else:
                                for q in range(4):
                                    i = q >> 1
                                    j = q & 1
                                    s1 = 2 * i - 1
                                    s2 = 2 * j - 1
                                    add_four(wz[n, x + i, y + j, low:high], rows[0], rows[2], rows[4], rows[6], s1, s2)
                                    add_four(
                                        wy[n, x + i, y, low + j : high + j], rows[0], rows[1], rows[4], rows[5], s1, s2
                                    )
                                    add_four(
                                        wx[n, x, y + i, low + j : high + j], rows[0], rows[1], rows[2], rows[3], s1, s2
                                    )
    elif mode == _RELAX:
        count = B * (X + ex) * (Y + ey)
        for chunk in prange(parts):
            total = long[chunk, 0, :Z]
            joined = long[chunk, 1]
            for k in range(chunk * count // parts, (chunk + 1) * count // parts):
                n = k // ((X + ex) * (Y + ey))
                x = k // (Y + ey) % (X + ex)
                y = k % (Y + ey)
                clear(total)
                for q in range((1 + ex) * (1 + ey)):
                    i = cell_beside(x, q // (1 + ey), X, ex, wraps[0])
                    j = cell_beside(y, q % (1 + ey), Y, ey, wraps[1])
                    if i >= 0 and j >= 0:
                        a0, a1, a2 = cell_row(ax, n, i, j), cell_row(ay, n, i, j), cell_row(az, n, i, j)
                        add_combined(total, own[2], a0, a1, a2, cell_row(c, n, i, j))
                divide(wz[n, x, y], total)
                if dim > 1 and y < Y:
                    clear(total)
                    for q in range(1 + ex):
                        i = cell_beside(x, q, X, ex, wraps[0])
                        if i >= 0:
                            a0, a1, a2 = cell_row(ax, n, i, y), cell_row(ay, n, i, y), cell_row(az, n, i, y)
                            add_combined(total, own[1], a0, a1, a2, cell_row(c, n, i, y))
                    sum_beside(total, joined, wraps[2])
                    divide(wy[n, x, y], joined)
                if dim > 2 and x < X:
                    clear(total)
                    for q in range(1 + ey):
                        j = cell_beside(y, q, Y, ey, wraps[1])
                        if j >= 0:
                            a0, a1, a2 = cell_row(ax, n, x, j), cell_row(ay, n, x, j), cell_row(az, n, x, j)
                            add_combined(total, own[0], a0, a1, a2, cell_row(c, n, x, j))
                    sum_beside(total, joined, wraps[2])
                    divide(wx[n, x, y], joined)
    else:
        count = B * X * strips
        for chunk in prange(parts):
            rows = scratch[chunk]
            rest = rows[40:]
            for k in range(chunk * count // parts, (chunk + 1) * count // parts):
                n = k // (X * strips)
                x = k // strips % X
                start = k % strips * STRIP
                for y in range(start, min(start + STRIP, Y)):
                    for low in range(0, Z, LENGTH):
                        high = min(low + LENGTH, Z)
                        omega = rows[44, : high - low]
                        weight = rows[45, : high - low]
                        right, mixed, energy = sums[k, 0, low:high], sums[k, 1, low:high], sums[k, 2, low:high]
                        a0, a1, a2 = (
                            cells_of(ax, n, x, y, low, high),
                            cells_of(ay, n, x, y, low, high),
                            cells_of(az, n, x, y, low, high),
                        )
                        a3, source = cells_of(c, n, x, y, low, high), cells_of(f, n, x, y, low, high)
                        r00, r01 = v[n, x, y, low : high + 1], v[n, x, y + ey, low : high + 1]
                        r10, r11 = v[n, x + ex, y, low : high + 1], v[n, x + ex, y + ey, low : high + 1]
                        write_modes(dim, r00, r01, r10, r11, rest, rows)
                        r00, r01 = e[n, x, y, low : high + 1], e[n, x, y + ey, low : high + 1]
                        r10, r11 = e[n, x + ex, y, low : high + 1], e[n, x + ex, y + ey, low : high + 1]
                        write_modes(dim, r00, r01, r10, r11, rest, rows[8:])
                        clear(omega)
                        if mode == _NODAL:
                            for i in range(1 + ex):
                                for j in range(1 + ey):
                                    add_sizes(omega, e[n, x + i, y + j, low:high])
                                    add_sizes(omega, e[n, x + i, y + j, low + 1 : high + 1])
                            for s in range(inner + 1):
                                combine(weight, scale[s], a0, a1, a2, a3)
                                add_nodal(right, mixed, rows[s], rows[8 + s], weight)
                            add_product(right, volume, source, rows[8])
                            combine(weight, kappa, a0, a1, a2, a3)
                            add_noise(energy, sums[k, 3, low:high], omega, volume, source, level[n], weight)
                            continue
                        # modes of the bubbles along z are in rows 16 (18, 20, 22), y 24 (25, 28, 29), x 32 to 35
                        if dim == 1:
                            add_sizes(omega, wz[n, x, y, low:high])
                            copy(wz[n, x, y, low:high], rows[16])
                        elif dim == 2:
                            halves(wz[n, x, y, low:high], wz[n, x, y + 1, low:high], rows[16], rows[18])
                            split(wy[n, x, y, low : high + 1], rows[24], rows[25])
                            for q in range(2):
                                add_sizes(omega, wz[n, x, y + q, low:high])
                                add_sizes(omega, wy[n, x, y, low + q : high + q])
                        else:
                            r00, r01 = wz[n, x, y, low:high], wz[n, x, y + 1, low:high]
                            r10, r11 = wz[n, x + 1, y, low:high], wz[n, x + 1, y + 1, low:high]
                            across(r00, r01, r10, r11, rows[16], rows[18], rows[20], rows[22])
                            halves(wy[n, x, y, low : high + 1], wy[n, x + 1, y, low : high + 1], rest[0], rest[1])
                            split(rest[0, : high - low + 1], rows[24], rows[25])
                            split(rest[1, : high - low + 1], rows[28], rows[29])
                            halves(wx[n, x, y, low : high + 1], wx[n, x, y + 1, low : high + 1], rest[0], rest[1])
                            split(rest[0, : high - low + 1], rows[32], rows[33])
                            split(rest[1, : high - low + 1], rows[34], rows[35])
                            for q in range(4):
                                add_sizes(omega, wz[n, x + (q >> 1), y + (q & 1), low:high])
                                add_sizes(omega, wy[n, x + (q >> 1), y, low + (q & 1) : high + (q & 1)])
                                add_sizes(omega, wx[n, x, y + (q >> 1), low + (q & 1) : high + (q & 1)])
                        for s in range(inner):
                            share = 12.0 ** -((s & 1) + (s >> 1 & 1) + (s >> 2))
                            w = rows[16 + s]  # summed up in the row of the first axis that the mode does not vary along
                            first = True
                            combine(weight, scale[s], a0, a1, a2, a3)
                            for i in range(dim):  # z, y, x
                                if s >> i & 1 == 0:
                                    other = rows[16 + 8 * i + s]
                                    a = a2 if i == 0 else (a1 if i == 1 else a0)
                                    add_own(energy, other, R - Q * Q, share * along[2 - i], a, weight)
                                    if first:
                                        w = other
                                        first = False
                                    else:
                                        add_one(w[: high - low], other)
                            if s == 0:
                                add_product(right, Q * volume, source, w)
                            add_joined(right, mixed, energy, Q, w, rows[s], rows[8 + s], weight)
                        combine(weight, kappa, a0, a1, a2, a3)
                        add_noise(sums[k, 3, low:high], sums[k, 4, low:high], omega, volume, source, level[n], weight)
