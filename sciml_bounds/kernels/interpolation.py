"""Operator-dependent interpolation (set-up of the multigrid hierarchy).

After Dendy, "Black box multigrid", J. Comput. Phys. 48 (1982) 366-386, in any dimension: at a fine point of class S the
stencil is summed over the axes that S leaves even, and the resulting homogeneous equation is solved for the point,
smaller classes first. Conductances enter it by their absolute values (those of coarse lattices may be negative), so
that every weight lies between 0 and 1 and none is lost to cancellation. The defect of the interpolation, which is the
share of c in the equations that are solved for the points, is known from sums of positive numbers.

There is no triton version: on CUDA the set-up runs in the plain torch operations of the reference.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Any

import numba
import numpy as np
import torch
from numba import prange
from torch import Tensor

from sciml_bounds.kernels._backend import NumbaKernel, backend_for
from sciml_bounds.kernels.lattice import Offsets, rows, shifted
from sciml_bounds.kernels._numba_lattice import strip_length, wrapped
from sciml_bounds.kernels.memory import new_field
from sciml_bounds.kernels.rows import prefetch
from sciml_bounds.kernels.transfer import Bits, coarse_shape, pairs, parity_view

__all__ = ["add_product", "empty_rows", "full_stencil", "interpolation_weights", "scratch_rows", "take"]


def interpolation_weights(
    offsets: Offsets, T: Tensor, c: Tensor, axes: tuple[bool, bool, bool]
) -> tuple[Tensor, Tensor]:
    """Compute the weights (pairs, b, X, Y, Z) of `kernels.transfer` from the operator on (b, x, y, z).

    The second tensor, (b, x, y, z), is the defect: 1 minus what the interpolation makes of a constant 1.
    """
    weights = empty_rows(len(pairs(axes)), c, coarse_shape(tuple(c.shape[1:]), axes))
    defect = new_field(c)
    if backend_for(c) == "compiled":  # which makes zeros of them
        tables = _weight_tables(offsets, axes)
        found = rows(weights), defect, scratch_rows(29, weights)
        _weights_numba(c.numel(), *tables, np.array(axes, dtype=np.int64), rows(T), c, *found)
    else:
        _weights_torch(offsets, T, c, axes, weights.zero_(), defect.zero_())
    return weights, defect


def empty_rows(count: int, like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Allocate (count, b, x, y, z) in the memory layout of `rows`."""
    return new_field(like, (len(like), *shape[:2], count, shape[2])).movedim(3, 0)


def scratch_rows(count: int, weights: Tensor) -> Tensor:
    """Make so many coarse rows for each strip of the loops."""
    _, B, X, Y, Z = weights.shape
    return weights.new_empty((B * X * -(-Y // strip_length(Y, Z)), count, Z))


@lru_cache
def _weight_tables(
    offsets: Offsets, axes: tuple[bool, bool, bool]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """List what the weights are made of, smaller classes first.

    Classes: the bits of S (3), how many they are, the number of directions, and where the sources, the products and the
    defects of the class begin and end in the other tables (6). Sources: a direction, and the conductance that is summed
    into it, as its number and where it is stored relative to the point (3). Products: a direction, the number of the
    weight that it adds to, the number of the weight of the neighbour that it is multiplied with (-1: 1), and where that
    is stored relative to the coarse point (3). Defects: a direction whose neighbour is interpolated too, and where that
    is relative to the point (3).
    """
    number = {pair: k for k, pair in enumerate(pairs(axes))}
    classes: list[tuple[int, ...]] = []
    sources: list[tuple[int, ...]] = []
    products: list[tuple[int, ...]] = []
    defects: list[tuple[int, ...]] = []
    for S in dict.fromkeys(s for s, _ in pairs(axes)):
        directions: dict[Bits, int] = {}
        starts = len(sources), len(products), len(defects)
        for k, offset in enumerate(offsets):
            back = tuple(-i for i in offset)
            for o, stored in ((offset, (0, 0, 0)), (back, back)):
                direction = tuple(i * s for i, s in zip(o, S))
                if any(direction):  # other neighbours are taken to have the value of the point: they drop out
                    sources.append((directions.setdefault(direction, len(directions)), k, *stored))
        for direction, d in directions.items():
            rest = tuple(int(s and not i) for i, s in zip(direction, S))
            shift = tuple(int(i == 1) for i in direction)
            if any(rest):
                defects.append((d, *direction))
            for C in product(*[(0, 1) if bit else (0,) for bit in rest]):
                target = number[S, tuple(i + j for i, j in zip(shift, C))]
                products.append((d, target, number.get((rest, C), -1), *shift))
        ends = len(sources), len(products), len(defects)
        classes.append((*S, sum(S), len(directions), *[place for pair in zip(starts, ends) for place in pair]))
    return np.array(classes), np.array(sources), np.array(products), np.array(defects, dtype=np.int64).reshape(-1, 4)


# --- reference --------------------------------------------------------------------------------------------------------


def full_stencil(offsets: Offsets, T: Tensor, c: Tensor) -> dict[Bits, Tensor]:
    """Matrix entries by offset: the entry of offset o at i couples i with i + o."""
    stencil: dict[Bits, Tensor] = {(0, 0, 0): c.clone()}
    for k, o in enumerate(offsets):
        back = tuple(-i for i in o)
        stencil[o] = -T[k]
        stencil[back] = shifted(-T[k], back)
        stencil[0, 0, 0] -= stencil[o] + stencil[back]
    return stencil


def _weights_torch(
    offsets: Offsets, T: Tensor, c: Tensor, axes: tuple[bool, bool, bool], weights: Tensor, defect: Tensor
) -> None:
    stencil = full_stencil(offsets, T, c)
    index = {pair: k for k, pair in enumerate(pairs(axes))}
    for S in dict.fromkeys(s for s, _ in pairs(axes)):
        pivot = lacking = parity_view(c, axes, S).clamp_min(0)
        summed: dict[Bits, Tensor] = {}
        for o, entry in stencil.items():
            key = tuple(o[a] if S[a] else 0 for a in range(3))
            if any(key):  # other neighbours are taken to have the value of the point: they drop out
                value = parity_view(entry, axes, S).abs()
                pivot = pivot + value
                summed[key] = summed[key] + value if key in summed else value
        for o, value in summed.items():
            lacking = lacking + value * parity_view(shifted(defect, o), axes, S)
        parity_view(defect, axes, S).copy_(torch.where(pivot > 0, lacking / torch.where(pivot > 0, pivot, 1.0), 1.0))
        exists: Any = (..., *[slice(n) for n in pivot.shape[1:]])  # odd classes may be one shorter
        for o, value in summed.items():
            factor = torch.where(pivot > 0, value / torch.where(pivot > 0, pivot, 1.0), 0.0)
            neighbour = tuple(int(S[a] and o[a] == 0) for a in range(3))
            shift = tuple(int(o[a] == 1) for a in range(3))
            if not any(neighbour):
                weights[index[S, shift]][exists] += factor
                continue
            for S2, C2 in pairs(axes):
                if neighbour == S2:
                    corner = tuple(s + q for s, q in zip(shift, C2))
                    weights[index[S, corner]][exists] += factor * shifted(weights[index[S2, C2]], shift)[exists]


# --- numba ------------------------------------------------------------------------------------------------------------


@NumbaKernel
def _weights_numba(classes, sources, products, defects, axes, T, c, weights, defect, scratch):
    # One row of coarse points and one class at a time.
    B, X, Y, Z = c.shape
    CX, CY, CZ = weights.shape[1], weights.shape[2], weights.shape[4]
    step = 1 + axes[2]
    length = strip_length(CY, CZ)
    strips = (CY + length - 1) // length
    for size in range(1, 4):  # a class needs the weights of the smaller classes around it
        for i in prange(B * CX * strips):
            n = i // (CX * strips)
            I = i // strips % CX
            start = i % strips * length
            summed = scratch[i]
            pivot = scratch[i, 26]
            lacking = scratch[i, 27]
            taken = scratch[i, 28]
            for J in range(start, min(start + length, CY)):
                _fetch_ahead(axes, T[n], c[n], weights[n], defect[n], I, J + 2)
                if size == 1:
                    for k in range(weights.shape[3]):
                        for L in range(CZ):
                            weights[n, I, J, k, L] = 0
                    for z in range(Z):
                        defect[n, (1 + axes[0]) * I, (1 + axes[1]) * J, z] = 0
                for g in range(classes.shape[0]):
                    x = (1 + axes[0]) * I + classes[g, 0]
                    y = (1 + axes[1]) * J + classes[g, 1]
                    if classes[g, 3] != size or x >= X or y >= Y:
                        continue
                    first = classes[g, 2]
                    count = (Z - first + step - 1) // step
                    take(taken, c[n, x, y], first, step, count)
                    for L in range(count):
                        pivot[L] = max(taken[L], 0.0)
                        lacking[L] = pivot[L]
                    for d in range(classes[g, 4]):
                        for L in range(count):
                            summed[d, L] = 0
                    for k in range(classes[g, 5], classes[g, 6]):
                        t = T[n, wrapped(x + sources[k, 2], X), wrapped(y + sources[k, 3], Y), sources[k, 1]]
                        take(taken, t, first + sources[k, 4], step, count)
                        sizes = summed[sources[k, 0]]
                        for L in range(count):
                            sizes[L] += abs(taken[L])
                            pivot[L] += abs(taken[L])
                    for k in range(classes[g, 9], classes[g, 10]):
                        beside = defect[n, wrapped(x + defects[k, 1], X), wrapped(y + defects[k, 2], Y)]
                        take(taken, beside, first + defects[k, 3], step, count)
                        sizes = summed[defects[k, 0]]
                        for L in range(count):
                            lacking[L] += sizes[L] * taken[L]
                    row = defect[n, x, y]
                    for L in range(count):
                        row[step * L + first] = lacking[L] / pivot[L] if pivot[L] > 0.0 else 1.0
                    for L in range(count):
                        pivot[L] = 1.0 / pivot[L] if pivot[L] > 0.0 else 0.0
                    for d in range(classes[g, 4]):
                        for L in range(count):
                            summed[d, L] *= pivot[L]
                    for k in range(classes[g, 7], classes[g, 8]):
                        P = wrapped(I + products[k, 3], CX)
                        Q = wrapped(J + products[k, 4], CY)
                        target = weights[n, I, J, products[k, 1]]
                        add_product(
                            target, summed[products[k, 0]], count, weights[n, P, Q], products[k, 2], products[k, 5]
                        )


@numba.njit(inline="always")
def _fetch_ahead(axes, T, c, weights, defect, I, J):
    """Ask for what is wanted for a row of coarse points, if there is one: rows of many arrays, some of each."""
    X, Y = c.shape[:2]
    for x in range(max((1 + axes[0]) * I - 1, 0), min((1 + axes[0]) * I + 2, X)):
        for y in range((1 + axes[1]) * J, min((1 + axes[1]) * (J + 1), Y)):
            prefetch(T[x, y])
            prefetch(c[x, y])
            prefetch(defect[x, y])
    if weights.shape[1] > J:
        for i in range(I, min(I + 2, weights.shape[0])):
            prefetch(weights[i, J])


# Every second place of a row has a form of its own in these loops, which is vector code.


@numba.njit(inline="always")
def take(out, row, start, step, count):
    """Write row[start + step L], indices modulo the length, which only the first and the last place need."""
    if step == 2:
        for L in range(1, count - 1):
            out[L] = row[np.uint64(2 * L + start)]
    else:
        for L in range(1, count - 1):
            out[L] = row[np.uint64(L + start)]
    for end in range(min(count, 2)):
        L = end * (count - 1)
        out[L] = row[wrapped(step * L + start, row.size)]


@numba.njit(inline="always")
def add_product(out, factor, count, weights, m, shift):
    """Add factor[L] weights[m, L + shift] to out[L] for L < count, indices modulo the length.

    The weight is 1 for m < 0. The shift is -1, 0 or 1; each has a loop of its own, because one for all is no vector.
    """
    if m < 0:
        for L in range(count):
            out[L] += factor[L]
        return
    w = weights[m]
    e = w.size - 1
    if shift == 0:
        for L in range(count):
            out[L] += factor[L] * w[L]
    elif shift > 0:
        for L in range(min(count, e)):
            out[L] += factor[L] * w[L + 1]
        if count > e:
            out[e] += factor[e] * w[0]
    else:
        for L in range(1, count):
            out[L] += factor[L] * w[L - 1]
        out[0] += factor[0] * w[e]
