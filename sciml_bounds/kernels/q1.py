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
from sciml_bounds.kernels.memory import new_field
from sciml_bounds.kernels.rows import (
    LENGTH,
    STRIP,
    add_four,
    add_one,
    add_square,
    add_squares,
    add_two,
    cells_of,
    chunks,
    clear,
    join,
    weigh,
    write_modes,
)

__all__ = ["energy", "from_modes", "mode_weights", "modes", "stiffness"]


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
    out = new_field(nodes).zero_()
    if backend == "compiled":
        _on_cells(coefficient, reaction, nodes, spacing, out, nodes.new_empty((0, 0, 0)))
    else:
        fields = [_pad(part, dim) for part in (*coefficient, reaction)]
        _stiffness_triton(dim, [fields[0]] * (3 - dim) + fields, nodes, _mode_scales(spacing), out)
    return out.view(values.shape)


def energy(coefficient: tuple[Tensor, ...], reaction: Tensor, values: Tensor, spacing: tuple[float, ...]) -> Tensor:
    """Compute (a grad v, grad v) + (c v, v), shape (b,), for arguments as of `stiffness`."""
    require_batches(len(values), *coefficient, reaction)
    if backend_for(values) != "compiled" or needs_gradient(*coefficient, reaction, values):
        product = stiffness(coefficient, reaction, values, spacing)
        return torch.linalg.vecdot(values.flatten(1), product.flatten(1))
    nodes = _pad(values, len(spacing))
    X, Y = (max(n - 1, 1) for n in nodes.shape[1:3])
    sums = nodes.new_empty((len(nodes), X, -(-Y // STRIP)))
    _on_cells(coefficient, reaction, nodes, spacing, nodes[:0], sums)
    return torch.from_numpy(sums.flatten(1).numpy().sum(1))  # in one order for any number of samples


def _on_cells(
    coefficient: tuple[Tensor, ...], reaction: Tensor, nodes: Tensor, spacing: tuple[float, ...], out: Tensor,
    sums: Tensor,
) -> None:  # fmt: skip
    """Run the loop on a CPU: it writes to `out`, or where there are sums to these."""
    dim = len(spacing)
    fields = [_pad_cells(part, dim) for part in (*coefficient, reaction)]
    fields = [fields[0]] * (3 - dim) + fields  # axes that are not there have weights of zero
    cells = (1,) * (3 - dim) + tuple(reaction.shape[1:])
    scratch = nodes.new_empty((chunks(len(nodes), cells), 13, min(cells[2], LENGTH) + 1))
    scale = _mode_scales(spacing).astype(nodes.numpy().dtype)
    _stiffness_numba(nodes.numel(), dim, np.array(cells), *fields, nodes, scale, out, sums, scratch)


def _pad(field: Tensor, dim: int) -> Tensor:
    return field.reshape(len(field), *(1,) * (3 - dim), *field.shape[1:]).contiguous()


def _pad_cells(field: Tensor, dim: int) -> Tensor:
    """Pad a field of cells; of one number for all cells of a sample there is but one row."""
    padded = field.reshape(len(field), *(1,) * (3 - dim), *field.shape[1:])
    return (padded if any(field.stride()[1:]) else padded[:, :1, :1]).contiguous()


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


def mode_weights(
    coefficient: tuple[Tensor, ...], reaction: Tensor, spacing: tuple[float, ...]
) -> dict[tuple[int, ...], Tensor]:
    """Weights k_S of the modes on every cell: the energy of a multilinear function is the sum of k_S m_S^2."""
    dim = len(spacing)
    scale = _mode_scales(spacing)
    found = {}
    for number, bits in enumerate(product((0, 1), repeat=dim)):
        weight = float(scale[number, 3]) * reaction
        for axis, b in enumerate(bits):
            if b:
                weight = weight + float(scale[number, 3 - dim + axis]) * coefficient[axis]
        found[bits] = weight
    return found


def _stiffness_torch(
    coefficient: tuple[Tensor, ...], reaction: Tensor, values: Tensor, spacing: tuple[float, ...]
) -> Tensor:
    dim = len(spacing)
    weights = mode_weights(coefficient, reaction, spacing)
    return from_modes({bits: weights[bits] * mode for bits, mode in modes(values, dim).items()}, dim)


# --- numba ------------------------------------------------------------------------------------------------------------


@NumbaKernel
def _stiffness_numba(dim, cells, ax, ay, az, c, v, scale, out, sums, scratch):
    # Row by row, as the loops over a row are vector code. Strips of cells that share no node are done at the same time.
    B = v.shape[0]
    X, Y, Z = cells
    ex = 1 if dim > 2 else 0
    ey = 1 if dim > 1 else 0
    parts = scratch.shape[0]
    strips = (Y + STRIP - 1) // STRIP
    for colour in range(4):
        px = colour >> 1
        py = colour & 1
        planes = (X - px + 1) // 2
        pairs = (strips - py + 1) // 2
        count = B * planes * pairs
        for chunk in prange(parts):
            m = scratch[chunk]
            for k in range(chunk * count // parts, (chunk + 1) * count // parts):
                n = k // (planes * pairs)
                x = 2 * (k // pairs % planes) + px
                start = STRIP * (2 * (k % pairs) + py)
                clear(m[12])
                for y in range(start, min(start + STRIP, Y)):
                    for low in range(0, Z, LENGTH):
                        high = min(low + LENGTH, Z)
                        a0, a1 = cells_of(ax, n, x, y, low, high), cells_of(ay, n, x, y, low, high)
                        a2, a3 = cells_of(az, n, x, y, low, high), cells_of(c, n, x, y, low, high)
                        r00, r01 = v[n, x, y, low : high + 1], v[n, x, y + ey, low : high + 1]
                        r10, r11 = v[n, x + ex, y, low : high + 1], v[n, x + ex, y + ey, low : high + 1]
                        write_modes(dim, r00, r01, r10, r11, m[8:], m)
                        if sums.size > 0 and dim == 3:
                            add_squares(m[12], m, scale, a0, a1, a2, a3)
                            continue
                        if sums.size > 0:
                            for s in range(1 << dim):
                                add_square(m[12], m[s], scale[s], a0, a1, a2, a3)
                            continue
                        for s in range(1 << dim):
                            weigh(m[s], 1.0, scale[s], a0, a1, a2, a3)
                        for s in range(1 << (dim - 1)):
                            join(m[2 * s], m[2 * s + 1], m[8 + s, : high - low + 1])
                        if dim == 1:
                            add_one(out[n, x, y, low : high + 1], m[8])
                        elif dim == 2:
                            add_two(out[n, x, y, low : high + 1], m[8], m[9], -1)
                            add_two(out[n, x, y + 1, low : high + 1], m[8], m[9], 1)
                        else:
                            for q in range(4):
                                s1 = 2 * (q >> 1) - 1
                                s2 = 2 * (q & 1) - 1
                                row = out[n, x + (q >> 1), y + (q & 1), low : high + 1]
                                add_four(row, m[8], m[9], m[10], m[11], s1, s2)
                if sums.size > 0:
                    total = 0.0
                    for z in range(min(Z, LENGTH)):
                        total += m[12, z]
                    sums[n, x, start // STRIP] = total


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
