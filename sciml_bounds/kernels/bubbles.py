"""Edge bubbles: quadratic functions that enrich the multilinear functions of a grid, for lower error bounds.

The bubble of an edge along axis i is q(xi_i) = 1 - 4 xi_i^2 along the edge, multiplied by the hat functions of the edge
along the other axes. It is nonzero on the cells around the edge. As q is even, all integrals are sums over the modes of
`kernels.q1` (xi in [-1/2, 1/2]). On a cell, a sum of bubbles is the sum over axes of q(xi_i) W_i(other xi) with W_i
multilinear with modes W_iT, and

    a(v, w)  = Q sum over S of k_S v_S W_S            W_S = sum over i not in S of W_iS,   Q = int q = 2/3
    |||w|||^2 = Q^2 sum k_S W_S^2 + sum over i, T of W_iT^2 ((R - Q^2) k_T + D 12^-|T| V a_i / h_i^2)

with the energy weights k_S of the modes, the cell volume V, R = int q^2 = 8/15 and D = int q'^2 = 16/3. Every term is
positive, so there is no cancellation. The residual of a bubble is Q times the residual of the hat function across the
axis, after taking the mean along the axis.

A lower bound needs sums over cells only, and no field on a finer grid. Each value comes with two sums, `noise` and
`size`, that bound its round-off error in units of the unit round-off:

    noise = sum over cells of (V |f| + level kappa) omega,      size = sum of kappa omega^2,

where omega is the sum of the absolute values of the function at the corners or edges of the cell, and kappa is at least
the sum of 4^|S| k_S, because mode S of numbers of absolute value at most m is at most 2^|S| m.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from sciml_bounds.kernels._backend import backend_for, require_batches, run_compiled
from sciml_bounds.kernels.field_memory import new_field
from sciml_bounds.kernels.q1 import (
    _mode_scales,
    _pad,
    cell_rows,
    from_modes,
    mode_weights,
    modes,
    padded_spacing,
    sums_over_cells,
)

__all__ = ["bubble_products", "bubble_residual", "bubble_scales", "nodal_products", "relax_bubbles"]

#: Integrals of q, q^2 and q'^2 over [-1/2, 1/2].
Q, R, D = 2 / 3, 8 / 15, 16 / 3

#: First argument of all functions: a along each axis, c and f; shape (1 or b, n), zero in solids.
Data = tuple[tuple[Tensor, ...], Tensor, Tensor]


def nodal_products(data: Data, v: Tensor, e: Tensor, level: Tensor, spacing: tuple[float, ...]) -> Tensor:
    """Return f(e) - a(v, e), a(e, e), noise and size, shape (b, 4), of node fields v and e (b, n + 1).

    `level` (b,) bounds the absolute values of v.
    """
    a, c, f = data
    if _uses_reference(v, e, *a, c, f):
        return _nodal_torch(data, v, e, level, spacing)
    dim = len(spacing)
    parts, sums = sums_over_cells(v, 4, c.shape[1:])
    run_compiled(
        "nodal_products", v.numel(), dim, *cell_rows(a, c, f), _pad(v, dim), _pad(e, dim), _per_sample(level, v),
        padded_spacing(spacing), _round_off_weights(spacing), parts, sums,
    )  # fmt: skip
    return sums


def bubble_residual(data: Data, v: Tensor, spacing: tuple[float, ...]) -> tuple[Tensor, ...]:
    """Return f(b) - a(v, b) for the bubble b of every edge: per axis a field (b, n + 1), with n along the axis."""
    a, c, f = data
    if _uses_reference(v, *a, c, f):
        return _residual_torch(data, v, spacing)
    out = tuple(new_field(v, (len(v), *_edges(c.shape[1:], axis))) for axis in range(len(spacing)))
    nodes = _pad(v, len(spacing))
    run_compiled(
        "bubble_residual", v.numel(), len(spacing), *cell_rows(a, c, f), nodes, padded_spacing(spacing), *_in_space(out)
    )
    return out


def relax_bubbles(
    data: Data, residual: tuple[Tensor, ...], spacing: tuple[float, ...], periodic: tuple[bool, ...]
) -> tuple[Tensor, ...]:
    """Divide the value of each edge by the energy |||b|||^2 of its bubble, in place, and return the fields.

    An edge between solid cells has zero energy; its value is divided by the smallest normal number.
    """
    a, c, f = data
    if _uses_reference(residual[0], *a, c, f):
        for r, scale in zip(residual, bubble_scales(data, spacing, periodic)):
            r.div_(scale)
    else:
        wraps = np.array((False,) * (3 - len(spacing)) + tuple(periodic))
        run_compiled(
            "relax_bubbles", residual[0].numel(), len(spacing), *cell_rows(a, c), _own_weights(spacing), wraps,
            *_in_space(residual),
        )  # fmt: skip
    return residual


def bubble_products(
    data: Data, v: Tensor, e: Tensor, w: tuple[Tensor, ...], level: Tensor, spacing: tuple[float, ...]
) -> Tensor:
    """Return f(w) - a(v, w), a(e, w), a(w, w), noise and size, shape (b, 5), of a sum w of bubbles."""
    a, c, f = data
    if _uses_reference(v, e, *w, *a, c, f):
        return _products_torch(data, v, e, w, level, spacing)
    dim = len(spacing)
    parts, sums = sums_over_cells(v, 5, c.shape[1:])
    run_compiled(
        "bubble_products", v.numel(), dim, *cell_rows(a, c, f), _pad(v, dim), _pad(e, dim), *_in_space(w),
        _per_sample(level, v), padded_spacing(spacing), _round_off_weights(spacing), parts, sums,
    )  # fmt: skip
    return sums


def _uses_reference(v: Tensor, *others: Tensor) -> bool:
    """Return whether to use the reference: also for points (sides of a 1-D grid), which have no cells to loop over."""
    require_batches(len(v), *others)
    return backend_for(v) != "compiled" or v.ndim == 1


def _in_space(edges: tuple[Tensor, ...]) -> list[Tensor]:
    """Return edge fields in three dimensions; the loops do not read the entries of missing axes."""
    dim = len(edges)
    fields = [_pad(part, dim) for part in edges]
    return [fields[0]] * (3 - dim) + fields


def _per_sample(level: Tensor, v: Tensor) -> Tensor:
    return level.expand(len(v)).contiguous()


def _edges(cells: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return tuple(n + (k != axis) for k, n in enumerate(cells))


def _round_off_weights(spacing: tuple[float, ...]) -> np.ndarray:
    """Return the weights of a_x, a_y, a_z and c in kappa, shape (4,)."""
    dim, volume = len(spacing), math.prod(spacing)
    sizes = np.array([4.0 ** bin(number).count("1") for number in range(8)])
    found: np.ndarray = sizes @ _mode_scales(spacing)
    for axis, h in enumerate(spacing):
        found[3 - dim + axis] += D * volume / h**2 * (4 / 3) ** (dim - 1)
    return found


def _own_weights(spacing: tuple[float, ...]) -> np.ndarray:
    """Return the weights of a_x, a_y, a_z and c with which one cell enters |||b|||^2, shape (3, 4), per axis of b."""
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
    """Return |||b|||^2 for the bubble of every edge, or the smallest normal number where that is zero."""
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
    """Sum over the cells on both sides of every node along an axis; on a periodic axis both ends get the same sum."""
    zero = torch.zeros_like(cells.narrow(axis, 0, 1))
    first, last = cells.narrow(axis, 0, 1), cells.narrow(axis, cells.shape[axis] - 1, 1)
    before, behind = (last, first) if wraps else (zero, zero)
    return torch.cat([before, cells], axis) + torch.cat([cells, behind], axis)


def _residual_modes(data: Data, v: Tensor, spacing: tuple[float, ...]) -> dict[tuple[int, ...], Tensor]:
    """Return the coefficients P_S for which f(w) - a(v, w) = sum of P_S w_S over modes S, by the bits of S."""
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
    return _sums_over_cells(terms)


def _round_off_terms(data: Data, omega: Tensor, level: Tensor, spacing: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    a, c, f = data
    dim = len(spacing)
    table = _round_off_weights(spacing)
    kappa = float(table[3]) * c
    for axis in range(dim):
        kappa = kappa + float(table[3 - dim + axis]) * a[axis]
    level = level.view(-1, *(1,) * dim)
    return (math.prod(spacing) * f.abs() + level * kappa) * omega, kappa * omega**2


def _sums_over_cells(terms: list[Tensor]) -> Tensor:
    """Sum each term over the cells, shape (b, terms); a term with a batch of 1 is expanded to b."""
    sums = [term.reshape(len(term), math.prod(term.shape[1:])).sum(1) for term in terms]
    return torch.stack(torch.broadcast_tensors(*sums), 1)


def _corner_sums(field: Tensor, dim: int) -> Tensor:
    """Sum over the corners of every cell; the last `dim` axes are the nodes."""
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
    return _sums_over_cells(terms)
