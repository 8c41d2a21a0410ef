"""Operator-dependent interpolation, computed in the set-up of the multigrid hierarchy.

This is the method of Dendy, "Black box multigrid", J. Comput. Phys. 48 (1982) 366-386, in any dimension. The class S of
a fine point lists the axes along which its index is odd. At a fine point of class S, the stencil is summed over the
axes along which the point is even, and the resulting homogeneous equation is solved for the value at the point, smaller
classes first. Conductances enter by their absolute values, since coarse lattices may have negative ones. So every
weight lies between 0 and 1 and is free of cancellation. The defect of the interpolation is the share of c in these
equations, computed from sums of positive numbers.

There is no triton version; on CUDA the set-up runs in the torch operations of the reference.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml_bounds.kernels._backend import backend_for, run_compiled
from sciml_bounds.kernels.field_memory import new_field
from sciml_bounds.kernels.lattice import Offsets, rows, shifted
from sciml_bounds.kernels.transfer import Bits, coarse_shape, pairs, parity_view

__all__ = ["empty_rows", "full_stencil", "interpolation_weights"]


def interpolation_weights(
    offsets: Offsets, T: Tensor, c: Tensor, axes: tuple[bool, bool, bool]
) -> tuple[Tensor, Tensor]:
    """Compute the weights (pairs, b, X, Y, Z) of `kernels.transfer`, and the defect, of an operator on (b, x, y, z).

    The defect, (b, x, y, z), is 1 minus the interpolation of the constant 1.
    """
    weights = empty_rows(len(pairs(axes)), c, coarse_shape(tuple(c.shape[1:]), axes))
    defect = new_field(c)
    if backend_for(c) == "compiled":
        tables = _weight_tables(offsets, axes)
        run_compiled("interpolation_weights", c.numel(), *tables, rows(T), c, rows(weights), defect)
    else:
        _weights_torch(offsets, T, c, axes, weights.zero_(), defect.zero_())
    return weights, defect


def empty_rows(count: int, like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Allocate (count, b, x, y, z) in the memory layout of `rows`."""
    return new_field(like, (len(like), *shape[:2], count, shape[2])).movedim(3, 0)


@lru_cache
def _weight_tables(offsets: Offsets, axes: tuple[bool, bool, bool]) -> tuple[np.ndarray, ...]:
    """Return the tables from which the weights are computed: classes, sources, products, defects and strides.

    Classes, each after those that it depends on: the bits of S (3), the number of set bits, the number of directions,
    begin and end of the sources, products and defects of the class in the other tables (6), and the index of its first
    weight. Sources: a direction, the number of the conductance that is summed into it, and the position of the
    conductance relative to the point (3). Products: a direction, the number of the weight that is increased, the number
    of the neighbour's weight by which the direction is multiplied (-1: weight 1), and the position of that weight
    relative to the coarse point (3). Defects: a direction whose neighbour is interpolated too, and the position of the
    neighbour relative to the point (3).
    """
    number = {pair: k for k, pair in enumerate(pairs(axes))}
    classes: list[tuple[int, ...]] = []
    sources: list[tuple[int, ...]] = []
    products: list[tuple[int, ...]] = []
    defects: list[tuple[int, ...]] = []
    for S in sorted({s for s, _ in pairs(axes)}):
        directions: dict[Bits, int] = {}
        starts = len(sources), len(products), len(defects)
        for k, offset in enumerate(offsets):
            back = tuple(-i for i in offset)
            for o, stored in ((offset, (0, 0, 0)), (back, back)):
                direction = tuple(i * s for i, s in zip(o, S))
                if any(direction):  # other neighbours are assumed to have the value of the point and cancel
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
        places = [place for pair in zip(starts, ends) for place in pair]
        classes.append((*S, sum(S), len(directions), *places, number[S, (0, 0, 0)]))
    steps = [1 + coarsened for coarsened in axes]
    found = classes, sources, products, np.reshape(defects, (-1, 4)), steps
    return tuple(np.array(table, dtype=np.int64) for table in found)


# --- reference --------------------------------------------------------------------------------------------------------


def full_stencil(offsets: Offsets, T: Tensor, c: Tensor) -> dict[Bits, Tensor]:
    """Return the matrix entries by offset; the entry of offset o at i couples points i and i + o."""
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
            if any(key):  # other neighbours are assumed to have the value of the point and cancel
                value = parity_view(entry, axes, S).abs()
                pivot = pivot + value
                summed[key] = summed[key] + value if key in summed else value
        for o, value in summed.items():
            lacking = lacking + value * parity_view(shifted(defect, o), axes, S)
        parity_view(defect, axes, S).copy_(torch.where(pivot > 0, lacking / torch.where(pivot > 0, pivot, 1.0), 1.0))
        exists: Any = (..., *[slice(n) for n in pivot.shape[1:]])  # odd classes may have one point fewer
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
