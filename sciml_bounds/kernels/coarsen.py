"""The Galerkin coarse operator P^T A P, computed in the set-up of the multigrid hierarchy.

P is the interpolation of `kernels.interpolation`, and the coarse operator has the difference form of the lattice
operator. Its conductances are sums of products. Its diagonal excess is P^T A P 1 = P^T A (1 - e), the product with the
constant 1, where the defect e of the interpolation is computed from sums of positive numbers. This avoids cancellation:
constants stay in the null space exactly, and single precision suffices for smooth coefficients.

There is no triton version; on CUDA the set-up runs in the torch operations of the reference.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np
import torch
from torch import Tensor

from sciml_bounds.kernels._backend import backend_for, run_compiled
from sciml_bounds.kernels.field_memory import new_field
from sciml_bounds.kernels.interpolation import empty_rows, full_stencil
from sciml_bounds.kernels.lattice import Offsets, residual, rows, shifted
from sciml_bounds.kernels.survey import Survey, survey
from sciml_bounds.kernels.transfer import Bits, pairs, parity_view, restrict

__all__ = ["crosses_odd_seam", "galerkin", "half_stencil"]


@lru_cache
def half_stencil(extent: tuple[bool, bool, bool]) -> Offsets:
    """Return one offset per pair of neighbours of the box stencil over the axes longer than one point."""
    box = product(*[(-1, 0, 1) if e else (0,) for e in extent])
    return tuple(o for o in box if o > (0, 0, 0))


def galerkin(
    offsets: Offsets, T: Tensor, c: Tensor, axes: tuple[bool, bool, bool], weights: Tensor, defect: Tensor,
    diagonal: Tensor,
) -> tuple[Offsets, Tensor, Tensor, Survey]:  # fmt: skip
    """Compute P^T A P on the coarse lattice: its offsets, conductances, diagonal excess and `Survey`.

    `weights` and `defect` come from `interpolation_weights`; `diagonal` is the diagonal of A.
    """
    coarse_offsets = half_stencil(tuple(n > 1 for n in c.shape[1:]))
    coarse_T = empty_rows(len(coarse_offsets), c, tuple(weights.shape[2:]))
    if backend_for(c) == "compiled" and not crosses_odd_seam(offsets, T, axes):
        tables = _galerkin_tables(offsets, axes, coarse_offsets)
        run_compiled("galerkin", c.numel(), *tables, rows(T), diagonal, rows(weights), rows(coarse_T))
    else:
        _galerkin_torch(offsets, T, c, axes, weights, coarse_offsets, coarse_T.zero_())
    of_ones = residual(offsets, T, c, defect, c, new_field(c))
    coarse_c = restrict(axes, weights, of_ones, c.new_empty(weights.shape[1:]))
    return coarse_offsets, coarse_T, coarse_c, survey(coarse_offsets, coarse_T, coarse_c)


def crosses_odd_seam(offsets: Offsets, T: Tensor, axes: tuple[bool, bool, bool]) -> bool:
    """Return whether a coarsened axis is periodic with odd length: then two even points are neighbours at the seam."""
    for axis, coarsened in enumerate(axes):
        if not coarsened or T.shape[2 + axis] % 2 == 0:
            continue
        for k, offset in enumerate(offsets):
            end = {1: -1, -1: 0}.get(offset[axis])
            if end is not None and bool(T[k].select(1 + axis, end).any()):
                return True
    return False


@lru_cache
def _galerkin_tables(
    offsets: Offsets, axes: tuple[bool, bool, bool], coarse_offsets: Offsets
) -> tuple[np.ndarray, ...]:
    """Return tables of the products that sum to P^T A P relative to a coarse point I, and the stride along each axis.

    A product couples the fine point f = 2 I + S - 2 C of class S, whose weight p(f; I) is stored at I - C, with its
    neighbour g = f + o, whose weight p(g; J) for the coarse point J is stored at I + base. Columns of the left factors:
    number of the conductance (-1: the diagonal), its position relative to 2 I (3), number of the weight p(f; I) (-1:
    weight 1), C (3), and begin and end of its right factors. Columns of the right factors: number of the weight p(g; J)
    (-1: weight 1), base (3), and number of the coarse offset J - I.
    """
    number = {pair: k for k, pair in enumerate(pairs(axes))}
    position = {o: k for k, o in enumerate(coarse_offsets)}
    entries: list[tuple[int, Bits, Bits]] = [(-1, (0, 0, 0), (0, 0, 0))]  # number, neighbour, position in memory
    for k, o in enumerate(offsets):
        back = tuple(-i for i in o)
        entries += [(k, o, (0, 0, 0)), (k, back, back)]
    left: list[tuple[int, ...]] = []
    right: list[tuple[int, ...]] = []
    for S, C in [((0, 0, 0), (0, 0, 0)), *pairs(axes)]:
        f = tuple(s - 2 * q for s, q in zip(S, C))
        for entry, o, stored in entries:
            g = tuple(i + j for i, j in zip(f, o))
            parity = tuple(i % 2 if coarsened else 0 for i, coarsened in zip(g, axes))
            base = tuple(i // 2 if coarsened else i for i, coarsened in zip(g, axes))
            start = len(right)
            for D in product(*[(0, 1) if bit else (0,) for bit in parity]):
                target = position.get(tuple(b + q for b, q in zip(base, D)))
                if target is not None:
                    right.append((number.get((parity, D), -1), *base, target))
            if len(right) > start:
                place = tuple(i + j for i, j in zip(f, stored))
                left.append((entry, *place, number.get((S, C), -1), *C, start, len(right)))
    return tuple(np.array(t, dtype=np.int64) for t in (left, right, [1 + coarsened for coarsened in axes]))


# --- reference --------------------------------------------------------------------------------------------------------


def _even_stencil(stencil: dict[Bits, Tensor], axes: tuple[bool, bool, bool]) -> dict[Bits, Tensor]:
    """Append a point along each odd coarsened axis, so that every coarse point has an odd neighbour.

    On a periodic axis the new point represents point 0 and takes the coupling of the last point across the seam; on
    other axes it has no couplings.
    """
    for axis, coarsened in enumerate(axes):
        dim = 1 + axis
        if not coarsened or stencil[0, 0, 0].shape[dim] % 2 == 0:
            continue
        for o, entry in stencil.items():
            first = entry.narrow(dim, 0, 1)
            if o[axis] == -1:
                rest = entry.narrow(dim, 1, entry.shape[dim] - 1)
                stencil[o] = torch.cat([torch.zeros_like(first), rest, first], dim)
            else:
                stencil[o] = torch.cat([entry, torch.zeros_like(first)], dim)
    return stencil


def _interpolation_terms(
    weights: Tensor, axes: tuple[bool, bool, bool], shape: torch.Size
) -> dict[Bits, list[tuple[Bits, Tensor]]]:
    """Return the weights by class; points appended by `_even_stencil` are interpolated like point 0."""
    even: Bits = (0, 0, 0)
    table: dict[tuple[Bits, Bits], Tensor] = {(even, even): torch.ones_like(weights[0])}
    table |= {pair: weights[k].clone() for k, pair in enumerate(pairs(axes))}
    for axis, coarsened in enumerate(axes):
        if not coarsened or shape[1 + axis] % 2 == 0:
            continue
        unit = tuple(int(a == axis) for a in range(3))
        for S, C in pairs(axes):
            if S[axis] and C[axis]:
                lower_S, lower_C = (tuple(b - u for b, u in zip(bits, unit)) for bits in (S, C))
                last = shifted(table[lower_S, lower_C], unit).narrow(1 + axis, -1, 1)
                table[S, C].narrow(1 + axis, -1, 1).copy_(last)
    terms: dict[Bits, list[tuple[Bits, Tensor]]] = {}
    for (S, C), weight in table.items():
        terms.setdefault(S, []).append((C, weight))
    return terms


def _galerkin_torch(
    offsets: Offsets, T: Tensor, c: Tensor, axes: tuple[bool, bool, bool], weights: Tensor,
    coarse_offsets: Offsets, coarse_T: Tensor,
) -> None:  # fmt: skip
    stencil = _even_stencil(full_stencil(offsets, T, c), axes)
    position = {o: k for k, o in enumerate(coarse_offsets)}
    terms = _interpolation_terms(weights, axes, c.shape)
    for S, corners in terms.items():
        for o, full_entry in stencil.items():
            entry = parity_view(full_entry, axes, S)
            moved = tuple(s + i if coarsened else i for s, i, coarsened in zip(S, o, axes))
            parity = tuple(i % 2 if coarsened else 0 for i, coarsened in zip(moved, axes))
            base = tuple(i // 2 if coarsened else i for i, coarsened in zip(moved, axes))
            for C1, w1 in corners:
                for C2, w2 in terms[parity]:
                    difference = tuple(b + q - p for b, q, p in zip(base, C2, C1))
                    if difference in position:
                        value = shifted(w1 * entry * shifted(w2, base), tuple(-i for i in C1))
                        coarse_T[position[difference]] -= value
