"""One reading of a lattice operator, which tells what a multigrid hierarchy is set up from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numba import prange
from torch import Tensor

from sciml_bounds.kernels._backend import NumbaKernel, backend_for
from sciml_bounds.kernels.lattice import Offsets, groups, rows, shifted
from sciml_bounds.kernels._numba_lattice import strip_length, wrapped
from sciml_bounds.kernels.memory import new_field
from sciml_bounds.kernels.rows import clear, prefetch, row_loop

__all__ = ["Survey", "survey"]


class Survey(NamedTuple):
    """What one reading of a lattice operator tells.

    Attributes
    ----------
    diagonal
        c + sum_j T_ij, shape (b, x, y, z).
    absolute
        The sums of |A_ij| over rows, shape (b, x, y, z).
    conductances
        For each offset the sum of the conductances, how many are not zero, the smallest positive one (infinite if
        there is none) and the largest, shape (b, k, 4).
    isolated
        The number of points without neighbours that are on no side of the box, shape (b,).
    excess
        The sum of c over the points that have neighbours, shape (b,).
    contrast
        The largest ratio of two positive conductances between nearest neighbours that follow each other along an axis,
        at least 1. Shape (b,).
    """

    diagonal: Tensor
    absolute: Tensor
    conductances: Tensor
    isolated: Tensor
    excess: Tensor
    contrast: Tensor


def survey(offsets: Offsets, T: Tensor, c: Tensor) -> Survey:
    """Read an operator once."""
    if backend_for(c) != "compiled":
        return _survey_torch(offsets, T, c)
    B, X, Y, Z = c.shape
    strips = X * -(-Y // strip_length(Y, Z))
    diagonal, absolute = new_field(c), new_field(c)
    parts, points = c.new_empty((B, strips, len(T), 4)), c.new_empty((B, strips, 3))
    scratch = c.new_empty((B * strips, 4, len(T) + 1, Z))
    data = rows(T), c, diagonal, absolute, parts.view(-1, len(T), 4), points.view(-1, 3), scratch
    _survey_numba(c.numel(), groups(offsets), *data)
    summed = parts[..., :2].sum(1), parts[..., 2:3].amin(1), parts[..., 3:].amax(1)
    isolated, excess = points[..., :2].sum(1).unbind(1)
    return Survey(diagonal, absolute, torch.cat(summed, 2), isolated, excess, points[..., 2].amax(1))


# --- reference --------------------------------------------------------------------------------------------------------


def _survey_torch(offsets: Offsets, T: Tensor, c: Tensor) -> Survey:
    couplings, sizes = torch.zeros_like(c), torch.zeros_like(c)
    for k, offset in enumerate(offsets):
        back = tuple(-o for o in offset)
        couplings += T[k] + shifted(T[k], back)
        sizes += T[k].abs() + shifted(T[k].abs(), back)
    flat = T.flatten(2).movedim(0, 1)  # (b, k, n)
    smallest = torch.where(flat > 0, flat, torch.inf).amin(2)
    inside = tuple(slice(1, -1) if n > 1 else slice(None) for n in c.shape[1:])
    return Survey(
        c + couplings,
        (c + couplings).abs() + sizes,
        torch.stack([flat.sum(2), (flat != 0).sum(2).to(c), smallest, flat.amax(2)], 2),
        (sizes[:, *inside] == 0).flatten(1).sum(1).to(c),
        torch.where(sizes > 0, c, 0.0).flatten(1).sum(1),
        _contrast_torch(offsets, T),
    )


def _contrast_torch(offsets: Offsets, T: Tensor) -> Tensor:
    ratios = [torch.ones_like(T[0])]
    for offset, t in zip(offsets, T):
        if sum(map(abs, offset)) == 1:
            before = shifted(t, tuple(-o for o in offset))
            small, large = torch.minimum(t, before), torch.maximum(t, before)
            ratios.append(torch.where(small > 0, large / small, 1.0))
    return torch.stack(ratios).amax((0, 2, 3, 4))


# --- numba ------------------------------------------------------------------------------------------------------------


@NumbaKernel
def _survey_numba(groups, T, c, diagonal, absolute, parts, points, scratch):
    B, X, Y, Z = c.shape
    K = T.shape[3]
    length = strip_length(Y, Z)
    strips = (Y + length - 1) // length
    for i in prange(B * X * strips):
        n = i // (X * strips)
        x = i // strips % X
        start = i % strips * length
        seen = scratch[i]  # of each column: what `parts` has of all
        for k in range(K):
            _begin(seen[0, k], seen[1, k], seen[2, k], seen[3, k])
        held, contrast = seen[0, K], seen[1, K]
        clear(held)
        for z in range(Z):
            contrast[z] = 1.0
        alone = 0
        for y in range(start, min(start + length, Y)):
            total, size = diagonal[n, x, y], absolute[n, x, y]
            if y + 1 < Y:
                prefetch(T[n, x, y + 1])
                prefetch(c[n, x, y + 1])
                prefetch(diagonal[n, x, y + 1])
                prefetch(absolute[n, x, y + 1])
            clear(total)
            clear(size)
            for g in range(groups.shape[0]):
                xb = wrapped(x - groups[g, 0], X)
                yb = wrapped(y - groups[g, 1], Y)
                for step in range(3 if groups[g, 3] == 2 else 1):
                    k = groups[g, 2] + step
                    dz = step - 1 if groups[g, 3] == 2 else 1 - groups[g, 3]
                    nearest = abs(groups[g, 0]) + abs(groups[g, 1]) + abs(dz) == 1
                    t, before = T[n, x, y, k], T[n, xb, yb, k]
                    _count(t, seen[0, k], seen[1, k], seen[2, k], seen[3, k])
                    _add_sizes(t, total, size)
                    if dz > 0:
                        _add_sizes(before[: Z - 1], total[1:], size[1:])
                        _add_sizes(before[Z - 1 :], total[:1], size[:1])
                        if nearest:
                            _compare(t[1:], before[: Z - 1], contrast[1:])
                            _compare(t[:1], before[Z - 1 :], contrast[:1])
                    elif dz < 0:
                        _add_sizes(before[1:], total[: Z - 1], size[: Z - 1])
                        _add_sizes(before[:1], total[Z - 1 :], size[Z - 1 :])
                    else:
                        _add_sizes(before, total, size)
                        if nearest:
                            _compare(t, before, contrast)
            if (0 < x < X - 1 or X == 1) and (0 < y < Y - 1 or Y == 1):
                for z in range(min(1, Z - 1), max(Z - 1, 1)):
                    alone += size[z] == 0
            _add_held(c[n, x, y], total, size, held)
        points[i, 0] = alone
        points[i, 1] = 0
        points[i, 2] = 1
        for z in range(Z):
            points[i, 1] += held[z]
            points[i, 2] = max(points[i, 2], contrast[z])
        for k in range(K):
            for q in range(4):
                parts[i, k, q] = seen[q, k, 0]
            for z in range(1, Z):
                parts[i, k, 0] += seen[0, k, z]
                parts[i, k, 1] += seen[1, k, z]
                parts[i, k, 2] = min(parts[i, k, 2], seen[2, k, z])
                parts[i, k, 3] = max(parts[i, k, 3], seen[3, k, z])


# One loop for each array that is written, compiled by themselves: then they are vector code.


@row_loop
def _begin(total, count, smallest, largest):
    """Begin the statistics of a column of conductances."""
    for z in range(total.size):
        total[z] = 0.0
        count[z] = 0.0
        smallest[z] = np.inf
        largest[z] = -np.inf


@row_loop
def _count(t, total, count, smallest, largest):
    """Take a row of conductances into the statistics of their columns."""
    for z in range(t.size):
        total[z] += t[z]
    for z in range(t.size):
        count[z] += 1.0 if t[z] != 0.0 else 0.0
    for z in range(t.size):
        positive = t[z] if t[z] > 0.0 else np.inf
        smallest[z] = positive if positive < smallest[z] else smallest[z]
    for z in range(t.size):
        largest[z] = t[z] if t[z] > largest[z] else largest[z]


@row_loop
def _compare(t, before, contrast):
    """Take the ratio of a row of conductances and those before them into that of their columns."""
    for z in range(t.size):
        small = t[z] if t[z] < before[z] else before[z]
        large = before[z] if t[z] < before[z] else t[z]
        ratio = large / small if small > 0.0 else 1.0
        contrast[z] = ratio if ratio > contrast[z] else contrast[z]


@row_loop
def _add_sizes(t, total, size):
    """Add numbers and their absolute values."""
    for z in range(t.size):
        total[z] += t[z]
    for z in range(t.size):
        size[z] += abs(t[z])


@row_loop
def _add_held(c, total, size, held):
    """Finish the sums of a row of points with what holds them."""
    for z in range(c.size):
        held[z] += c[z] if size[z] > 0.0 else 0.0
    for z in range(c.size):
        total[z] += c[z]
    for z in range(c.size):
        size[z] += abs(total[z])
