"""Compiled loops over half a level of a multigrid cycle, in one pass through memory: `smoothing`, `transfer` on CPUs.

The cost of such a half is the transport of its data through memory, which its parts one after the other would repeat.
So a loop takes a tile of the lattice and marches through it plane by plane, with all parts under way at once: while the
first step is at plane i, the second is at plane i - 1, and so on (Wellein, Hager, Zeiser, Wittmann, Fehske, "Efficient
temporal blocking for stencil computations by multicore-aware wavefront parallelization", COMPSAC 2009). Planes that one
part hands to the next stay in a ring of three, in the nearest cache of each thread. Around a tile the parts are
computed again on as many planes and rows as they reach, so that tiles are independent, and results do not depend on
them. Planes and rows are numbered on through the ends, modulo the lattice.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml_bounds.kernels._backend import run_compiled
from sciml_bounds.kernels.lattice import Offsets, groups, rows

__all__ = ["Work", "march_down", "march_up"]

Operator = tuple[Offsets, Tensor, Tensor, Tensor]
Axes = tuple[bool, bool, bool]
Pairs = tuple[tuple[tuple[int, ...], tuple[int, ...]] | None, ...]

#: What the loops need of a level besides fields, by the numbers of steps and of threads.
Work = dict[tuple[int, int], list[Any]]

#: Bytes that the tile of a core may fill in its nearest cache, of 1 to 2 MiB.
CACHE_BYTES = 1 << 20

#: Tiles have no fewer rows than this, because up to four rows around them are computed again. Even.
LEAST_TILE_HEIGHT = 16


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
    fixed = _fixed(steps, operator, axes, pairs, P, b, work)
    b = b.contiguous()
    run_compiled("descend", b.numel(), *fixed, _lengths(steps), b, x if steps else b, coarse)


def march_up(
    steps: tuple[float, ...], operator: Operator | None, axes: Axes, pairs: Pairs, P: Tensor, coarse: Tensor,
    b: Tensor, x: Tensor, out: Tensor, work: Work,
) -> None:  # fmt: skip
    """Write x plus the prolongation after steps into `out`, which may be x where there are none."""
    fixed = _fixed(steps, operator, axes, pairs, P, b, work)
    run_compiled("ascend", b.numel(), *fixed, _lengths(steps), b.contiguous(), x, out, coarse.contiguous())


@lru_cache
def _lengths(steps: tuple[float, ...]) -> np.ndarray:
    return np.array(steps, dtype=np.float64)


def _fixed(
    steps: tuple[float, ...], operator: Operator | None, axes: Axes, pairs: Pairs, P: Tensor, like: Tensor, work: Work
) -> list[Any]:
    """Collect tables, operator, weights and buffers of a level as arrays, once per number of steps and of threads."""
    key = len(steps), torch.get_num_threads()
    if key not in work:
        weights = rows(P)
        nothing = weights.new_zeros((1, 1, 1, 1))  # without steps, nothing is read of the operator
        offsets, *data = (
            ((), weights, nothing, nothing) if operator is None else (operator[0], rows(operator[1]), *operator[2:])
        )
        flat = like.shape[1] == 1  # a plane (1, y, z) is taken as space (y, 1, z)
        table, places, joins = _tables(offsets, axes, pairs, flat)
        Y, Z = 1 if flat else like.shape[2], like.shape[3]
        halo = len(steps) + 1
        height = _tile_height(len(steps), data[0].shape[3], Y, Z, like.element_size())
        height = height + 2 * halo if Y > 1 else 2  # a row of zeros: neighbours along an axis of one point
        scratch = weights.new_zeros((key[1], 2, Z))
        rings = weights.new_zeros((key[1], halo, 3, height, Z))  # 0 times what was there before might be NaN
        arrays = [table, *data, places, joins, weights, scratch, rings]
        work[key] = [a.detach().contiguous().numpy() if isinstance(a, Tensor) else a for a in arrays]
    return work[key]


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


def _tile_height(steps: int, directions: int, Y: int, Z: int, itemsize: int) -> int:
    """Choose how many of Y rows make a tile: an even number."""
    a_row = (steps + 1) * (3 + directions + 3) * Z * itemsize  # of all planes that are in use at once
    strips = -(-Y // max(CACHE_BYTES // a_row, LEAST_TILE_HEIGHT))
    height = -(-Y // strips)
    return height + height % 2
