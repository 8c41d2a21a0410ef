"""Multilinear finite elements on a box grid: (a grad v, grad phi) + (c v, phi) for every node, integrated exactly.

On a cell, a multilinear function is a sum of products of centred coordinates xi_i in [-1/2, 1/2],

    v = sum over sets S of axes of m_S prod_{i in S} xi_i,    d_i v = 1/h_i sum over S with i in S of m_S prod_{S - i}
    xi,

and these products are orthogonal with mean squares 12^-|S|. Integrals of squares are therefore weighted sums of squares
of the mode coefficients m_S. The transform from corner values takes a mean and a difference along each axis.

Node fields have n + 1 nodes along every axis; on a periodic axis the last node is a copy of the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from torch import Tensor

from sciml_bounds.kernels._backend import (
    backend_for,
    launch,
    needs_gradient,
    require_batches,
    run_compiled,
    tl,
    triton_jit,
)
from sciml_bounds.kernels.field_memory import new_field

__all__ = ["energy", "from_modes", "mode_weights", "modes", "stiffness"]

#: Number of rows of cells that are summed together, as in `rows.hpp`.
STRIP = 16


def stiffness(coefficient: tuple[Tensor, ...], reaction: Tensor, values: Tensor, spacing: tuple[float, ...]) -> Tensor:
    """Apply the sum of the stiffness and mass matrices of multilinear elements.

    Parameters
    ----------
    coefficient : tuple of Tensor (1 or b, n)
        a along each axis; zero in solids.
    reaction : Tensor (1 or b, n)
        c; zero in solids.
    values : Tensor (b, n + 1)
        Nodal values of v.
    spacing : tuple of float
        Cell size h along each axis.

    Returns
    -------
    Tensor (b, n + 1)
        One value per node.
    """
    require_batches(len(values), *coefficient, reaction)
    backend = backend_for(values)
    if backend == "torch" or needs_gradient(*coefficient, reaction, values):
        return _stiffness_torch(coefficient, reaction, values, spacing)
    dim = len(spacing)
    nodes = _pad(values, dim)
    out = new_field(nodes)
    if backend == "compiled":
        fields = cell_rows(coefficient, reaction)
        run_compiled("stiffness", nodes.numel(), dim, *fields, nodes, padded_spacing(spacing), out)
    else:
        fields = [_pad(part, dim) for part in (*coefficient, reaction)]
        _stiffness_triton(dim, [fields[0]] * (3 - dim) + fields, nodes, _mode_scales(spacing), out)
    return out.view(values.shape)


def energy(coefficient: tuple[Tensor, ...], reaction: Tensor, values: Tensor, spacing: tuple[float, ...]) -> Tensor:
    """Return (a grad v, grad v) + (c v, v), shape (b,), for the arguments of `stiffness`."""
    require_batches(len(values), *coefficient, reaction)
    if backend_for(values) != "compiled" or needs_gradient(*coefficient, reaction, values):
        product = stiffness(coefficient, reaction, values, spacing)
        return torch.linalg.vecdot(values.flatten(1), product.flatten(1))
    dim = len(spacing)
    nodes, fields = _pad(values, dim), cell_rows(coefficient, reaction)
    parts, sums = sums_over_cells(values, 1, reaction.shape[1:])
    run_compiled("stiffness_energy", nodes.numel(), dim, *fields, nodes, padded_spacing(spacing), parts, sums)
    return sums[:, 0]


def sums_over_cells(values: Tensor, count: int, cells: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Allocate scratch memory and results (b, count) for loops that compute `count` sums over cells per sample."""
    X, Y = (1, 1, *cells)[-3:-1]
    return values.new_empty((len(values), count, X * -(-Y // STRIP))), values.new_empty((len(values), count))


def padded_spacing(spacing: tuple[float, ...]) -> np.ndarray:
    """Return the spacing in three dimensions, with 1 for missing axes."""
    return np.array((1.0,) * (3 - len(spacing)) + tuple(spacing))


def cell_rows(coefficient: tuple[Tensor, ...], *others: Tensor) -> list[Tensor]:
    """Return cell fields in three dimensions for the compiled loops, which do not read a along missing axes."""
    dim = len(coefficient)
    fields = [_pad_cells(part, dim) for part in (*coefficient, *others)]
    return [fields[0]] * (3 - dim) + fields


def _pad(field: Tensor, dim: int) -> Tensor:
    return field.reshape(len(field), *(1,) * (3 - dim), *field.shape[1:]).contiguous()


def _pad_cells(field: Tensor, dim: int) -> Tensor:
    """View a cell field in three dimensions; a field that is constant on each sample is cut to one row of cells."""
    padded = field.reshape(len(field), *(1,) * (3 - dim), *field.shape[1:])
    return (padded if any(field.stride()[1:]) else padded[:, :1, :1]).contiguous()


def _mode_scales(spacing: tuple[float, ...]) -> np.ndarray:
    """Return the weights (8, 4) of a_x, a_y, a_z and c in the energy of each mode; modes are numbered by bits x y z."""
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
    """Return the coefficients m_S of a multilinear function on every cell, by the bits of S.

    The last `dim` axes of `values` are the nodes.
    """
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
    """Apply the transpose of `modes`: compute one value per node from one value per mode and cell."""
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
    """Return the weights k_S of the modes on every cell, for which the energy is the sum of k_S m_S^2."""
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


# --- triton -----------------------------------------------------------------------------------------------------------


@triton_jit
def _stiffness_kernel(
    ax, ay, az, c, v, scale, out, X, Y, Z, NX, NY, NZ, sx, sy, sz, sc,
    DIM: tl.constexpr, CORNERS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # Each lane gathers the contributions of the cells around one node, so that no memory is written twice.
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
                # factors of an axis: 1/2 * 1/2 for a mean, (-1 or +1) * (-1 or +1) for a difference
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
