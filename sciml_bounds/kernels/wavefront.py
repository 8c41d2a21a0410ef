"""Compiled loops for the descent or ascent of a multigrid cycle on one level, in one pass through memory (CPU only).

The cost of a level is memory traffic, and separate loops for the smoothing steps and the transfer would read the level
several times. So one loop takes a tile of the lattice and marches through it plane by plane with all stages
interleaved: while the first step is at plane i, the second is at plane i - 1, and so on (Wellein, Hager, Zeiser,
Wittmann, Fehske, "Efficient temporal blocking for stencil computations by multicore-aware wavefront parallelization",
COMPSAC 2009). Each stage passes its planes to the next through a ring of three planes, which stays in the cache of the
core. In a halo around each tile, the stages are recomputed as far as later ones need them, so tiles are independent and
results do not depend on the tiling. Plane and row numbers are taken modulo the lattice.
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

#: Tables and buffers of a level, cached by the numbers of steps and of threads.
Work = dict[tuple[int, int], list[Any]]

#: Bytes of the tile of a core, which should fit into its L2 cache of 1 to 2 MiB.
CACHE_BYTES = 1 << 20

#: Smallest number of rows of a tile (even), as up to four rows around each tile are recomputed.
MIN_TILE_HEIGHT = 16


def march_down(
    steps: tuple[float, ...], operator: Operator | None, axes: Axes, pairs: Pairs, P: Tensor, b: Tensor, x: Tensor,
    coarse: Tensor, work: Work,
) -> None:  # fmt: skip
    """Write the result of smoothing steps from zero into x, and the restriction of b - A x into `coarse`.

    Without smoothing steps, x is not written and the restriction is that of b.

    Parameters
    ----------
    steps : tuple of float
        Lengths of the steps.
    operator : (Offsets, Tensor, Tensor, Tensor) or None
        Offsets, T, c and s of `kernels.lattice`; may be None without steps.
    axes, pairs, P : tuple of bool, tuple of pairs, Tensor
        The prolongation, as in `kernels.transfer`; pairs that are None are omitted.
    b, x : Tensor (b, x, y, z)
        Right-hand side, and output of the steps.
    coarse : Tensor (b, X, Y, Z)
        Output of the restriction.
    work : Work
        Buffers, reused by later calls; pass an empty dictionary at first.
    """
    fixed = _fixed(steps, operator, axes, pairs, P, b, work)
    b = b.contiguous()
    run_compiled("descend", b.numel(), *fixed, _lengths(steps), b, x if steps else b, coarse)


def march_up(
    steps: tuple[float, ...], operator: Operator | None, axes: Axes, pairs: Pairs, P: Tensor, coarse: Tensor,
    b: Tensor, x: Tensor, out: Tensor, work: Work,
) -> None:  # fmt: skip
    """Add the prolongation to x, and write the result of smoothing steps into `out`; without steps it may be x."""
    fixed = _fixed(steps, operator, axes, pairs, P, b, work)
    run_compiled("ascend", b.numel(), *fixed, _lengths(steps), b.contiguous(), x, out, coarse.contiguous())


@lru_cache
def _lengths(steps: tuple[float, ...]) -> np.ndarray:
    return np.array(steps, dtype=np.float64)


def _fixed(
    steps: tuple[float, ...], operator: Operator | None, axes: Axes, pairs: Pairs, P: Tensor, like: Tensor, work: Work
) -> list[Any]:
    """Return tables, operator, weights and buffers of a level as arrays, cached by the numbers of steps and threads."""
    key = len(steps), torch.get_num_threads()
    if key not in work:
        weights = rows(P)
        nothing = weights.new_zeros((1, 1, 1, 1))  # the operator is not read without steps
        offsets, *data = (
            ((), weights, nothing, nothing) if operator is None else (operator[0], rows(operator[1]), *operator[2:])
        )
        flat = like.shape[1] == 1  # a plane (1, y, z) is treated as (y, 1, z)
        table, places, joins = _tables(offsets, axes, pairs, flat)
        Y, Z = 1 if flat else like.shape[2], like.shape[3]
        halo = len(steps) + 1
        height = _tile_height(len(steps), data[0].shape[3], Y, Z, like.element_size())
        height = height + 2 * halo if Y > 1 else 2  # a row of zeros for the neighbours along an axis of one point
        scratch = weights.new_zeros((key[1], 2, Z))
        rings = weights.new_zeros((key[1], halo, 3, height, Z))  # zeroed, as 0 times uninitialised memory might be NaN
        arrays = [table, *data, places, joins, weights, scratch, rings]
        work[key] = [a.detach().contiguous().numpy() if isinstance(a, Tensor) else a for a in arrays]
    return work[key]


@lru_cache
def _tables(offsets: Offsets, axes: Axes, pairs: Pairs, flat: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the groups of offsets, the axes, and the joins between rows of the fine and the coarse lattice.

    Columns of the joins: class S of the fine row and corner C along the first two axes (4), the number of the weight
    between its even entries and the coarse ones (-1: weight 1), and the numbers of the weights between its odd entries
    and the coarse ones before and after (-1: none).
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
    """Return the number of rows per tile, an even number, for a lattice of Y rows."""
    a_row = (steps + 1) * (3 + directions + 3) * Z * itemsize  # of all planes in use at once
    strips = -(-Y // max(CACHE_BYTES // a_row, MIN_TILE_HEIGHT))
    height = -(-Y // strips)
    return height + height % 2
