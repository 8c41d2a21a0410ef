"""Operator-dependent interpolation and the Galerkin coarse operator (set-up of the multigrid hierarchy).

Interpolation after Dendy, "Black box multigrid", J. Comput. Phys. 48 (1982) 366-386, in any dimension: at a fine point
of class S the stencil is summed over the axes that S leaves even, and the resulting homogeneous equation is solved for
the point, smaller classes first. Conductances enter it by their absolute values (those of coarse lattices may be
negative), so that every weight lies between 0 and 1 and none is lost to cancellation. The coarse operator is P^T A P,
in the difference form of the lattice operator.

There is no triton version: on CUDA the set-up runs in the plain torch operations of the reference.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import torch
from numba import prange
from torch import Tensor

from sciml_bounds.kernels._backend import NumbaKernel, backend_for
from sciml_bounds.kernels.lattice import Offsets, shifted
from sciml_bounds.kernels.transfer import Bits, coarse_shape, pairs, parity_view, restrict

__all__ = ["galerkin", "half_stencil", "interpolation_weights"]


@lru_cache
def half_stencil(extent: tuple[bool, bool, bool]) -> Offsets:
    """List one offset of each pair of neighbours in the box stencil over the axes that have an extent."""
    box = product(*[(-1, 0, 1) if e else (0,) for e in extent])
    return tuple(o for o in box if o > (0, 0, 0))


def interpolation_weights(offsets: Offsets, T: Tensor, c: Tensor, axes: tuple[bool, bool, bool]) -> Tensor:
    """Compute the weights (pairs, b, X, Y, Z) of `kernels.transfer` from the operator on (b, x, y, z)."""
    shape = (len(pairs(axes)), c.shape[0], *coarse_shape(tuple(c.shape[1:]), axes))
    weights = torch.zeros(shape, dtype=c.dtype, device=c.device)
    if backend_for(c) == "numba":
        _weights_numba(c.numel(), np.array(offsets), T, c, np.array(axes), _pair_index(axes), weights)
    else:
        _weights_torch(offsets, T, c, axes, weights)
    return weights


def galerkin(
    offsets: Offsets, T: Tensor, c: Tensor, axes: tuple[bool, bool, bool], weights: Tensor
) -> tuple[Offsets, Tensor, Tensor]:
    """Compute P^T A P as offsets, conductances and diagonal excess on the coarse lattice."""
    coarse_offsets = half_stencil(tuple(n > 1 for n in c.shape[1:]))
    shape = weights.shape[1:]
    coarse_T = torch.zeros((len(coarse_offsets), *shape), dtype=c.dtype, device=c.device)
    coarse_c = torch.zeros(shape, dtype=c.dtype, device=c.device)
    diagonal = c.clone()
    for k, o in enumerate(offsets):
        diagonal.add_(T[k]).add_(shifted(T[k], tuple(-i for i in o)))
    if backend_for(c) == "numba" and not _crosses_odd_seam(offsets, T, axes):
        terms = _galerkin_terms(offsets, axes, coarse_offsets)
        steps = np.array([1 + coarsened for coarsened in axes])
        ones = torch.ones(coarse_c.shape[-1], dtype=c.dtype)
        _galerkin_numba(c.numel(), terms, T, diagonal, steps, weights, ones, coarse_T, coarse_c)
    else:
        _galerkin_torch(offsets, T, c, axes, weights, coarse_offsets, coarse_T, coarse_c)
    for k, o in enumerate(coarse_offsets):  # the diagonal becomes its excess over the row sum
        coarse_c.sub_(coarse_T[k]).sub_(shifted(coarse_T[k], tuple(-i for i in o)))
    # where everything cancels, what is left is the round-off of the fine entries that were summed
    summed = restrict(axes, weights, diagonal, torch.empty_like(coarse_c))
    coarse_c.masked_fill_(coarse_c.abs() <= 64 * torch.finfo(c.dtype).eps * summed, 0.0)
    return coarse_offsets, coarse_T, coarse_c


@lru_cache
def _pair_index(axes: tuple[bool, bool, bool]) -> np.ndarray:
    """Position of the weight of (S, C), as an array indexed by the bits of S and of C; -1 where there is none."""
    index = np.full((2, 2, 2, 2, 2, 2), -1, dtype=np.int64)
    for k, (S, C) in enumerate(pairs(axes)):
        index[(*S, *C)] = k
    return index


def _crosses_odd_seam(offsets: Offsets, T: Tensor, axes: tuple[bool, bool, bool]) -> bool:
    """Whether an axis is coarsened that is periodic and odd: across its seam two even points are neighbours."""
    for axis, coarsened in enumerate(axes):
        if not coarsened or T.shape[2 + axis] % 2 == 0:
            continue
        for k, offset in enumerate(offsets):
            end = {1: -1, -1: 0}.get(offset[axis])
            if end is not None and bool(T[k].select(1 + axis, end).any()):
                return True
    return False


@lru_cache
def _galerkin_terms(offsets: Offsets, axes: tuple[bool, bool, bool], coarse_offsets: Offsets) -> np.ndarray:
    """List the products that make up P^T A P, relative to a coarse point I, one row of integers a product.

    A product joins the fine point f = 2 I + S - 2 C of class S, whose weight p(f; I) is stored at I - C, with its
    neighbour g = f + o, whose weight p(g; J) for the coarse point J is stored at I + base. The columns are: number of
    the conductance (-1: the diagonal) and where it is stored relative to 2 I (3); number of the weight p(f; I) (-1: 1)
    and C (3); number of the weight p(g; J) (-1: 1) and base (3); number of the coarse offset J - I (-1: none).
    """
    number = {pair: k for k, pair in enumerate(pairs(axes))}
    position = {o: k for k, o in enumerate(coarse_offsets)} | {(0, 0, 0): -1}
    entries: list[tuple[int, Bits, Bits]] = [(-1, (0, 0, 0), (0, 0, 0))]  # number, neighbour, where it is stored
    for k, o in enumerate(offsets):
        back = tuple(-i for i in o)
        entries += [(k, o, (0, 0, 0)), (k, back, back)]
    rows = []
    for S, C in [((0, 0, 0), (0, 0, 0)), *pairs(axes)]:
        f = tuple(s - 2 * q for s, q in zip(S, C))
        for entry, o, stored in entries:
            g = tuple(i + j for i, j in zip(f, o))
            parity = tuple(i % 2 if coarsened else 0 for i, coarsened in zip(g, axes))
            base = tuple(i // 2 if coarsened else i for i, coarsened in zip(g, axes))
            for D in product(*[(0, 1) if bit else (0,) for bit in parity]):
                target = position.get(tuple(b + q for b, q in zip(base, D)))
                if target is not None:
                    place = tuple(i + j for i, j in zip(f, stored))
                    rows.append((entry, *place, number.get((S, C), -1), *C, number.get((parity, D), -1), *base, target))
    return np.array(rows)


# --- reference --------------------------------------------------------------------------------------------------------


def _full_stencil(offsets: Offsets, T: Tensor, c: Tensor) -> dict[Bits, Tensor]:
    """Matrix entries by offset: the entry of offset o at i couples i with i + o."""
    stencil: dict[Bits, Tensor] = {(0, 0, 0): c.clone()}
    for k, o in enumerate(offsets):
        back = tuple(-i for i in o)
        stencil[o] = -T[k]
        stencil[back] = shifted(-T[k], back)
        stencil[0, 0, 0] -= stencil[o] + stencil[back]
    return stencil


def _even_stencil(stencil: dict[Bits, Tensor], axes: tuple[bool, bool, bool]) -> dict[Bits, Tensor]:
    """Append one point along each odd coarsened axis, so that every coarse point has an odd neighbour.

    On a periodic axis the new point stands for point 0, and the coupling of the last point across the seam goes to it;
    elsewhere it is coupled to nothing.
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


def _weights_torch(offsets: Offsets, T: Tensor, c: Tensor, axes: tuple[bool, bool, bool], weights: Tensor) -> None:
    stencil = _full_stencil(offsets, T, c)
    index = {pair: k for k, pair in enumerate(pairs(axes))}
    for S in dict.fromkeys(s for s, _ in pairs(axes)):
        pivot = parity_view(c, axes, S).clamp_min(0)
        summed: dict[Bits, Tensor] = {}
        for o, entry in stencil.items():
            key = tuple(o[a] if S[a] else 0 for a in range(3))
            if any(key):  # other neighbours are taken to have the value of the point: they drop out
                value = parity_view(entry, axes, S).abs()
                pivot = pivot + value
                summed[key] = summed[key] + value if key in summed else value
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


def _interpolation_terms(
    weights: Tensor, axes: tuple[bool, bool, bool], shape: torch.Size
) -> dict[Bits, list[tuple[Bits, Tensor]]]:
    """Weights by class, with the points that `_even_stencil` appends interpolated like the point 0 they stand for."""
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
    coarse_offsets: Offsets, coarse_T: Tensor, coarse_c: Tensor,
) -> None:  # fmt: skip
    stencil = _even_stencil(_full_stencil(offsets, T, c), axes)
    position = {o: k for k, o in enumerate(coarse_offsets)}
    terms = _interpolation_terms(weights, axes, c.shape)
    for S, rows in terms.items():
        for o, full_entry in stencil.items():
            entry = parity_view(full_entry, axes, S)
            moved = tuple(s + i if coarsened else i for s, i, coarsened in zip(S, o, axes))
            parity = tuple(i % 2 if coarsened else 0 for i, coarsened in zip(moved, axes))
            base = tuple(i // 2 if coarsened else i for i, coarsened in zip(moved, axes))
            for C1, w1 in rows:
                for C2, w2 in terms[parity]:
                    difference = tuple(b + q - p for b, q, p in zip(base, C2, C1))
                    if difference != (0, 0, 0) and difference not in position:
                        continue
                    value = shifted(w1 * entry * shifted(w2, base), tuple(-i for i in C1))
                    if difference == (0, 0, 0):
                        coarse_c += value
                    else:
                        coarse_T[position[difference]] -= value


# --- numba ------------------------------------------------------------------------------------------------------------


@NumbaKernel
def _weights_numba(offsets, T, c, axes, index, weights):
    B, X, Y, Z = c.shape
    CX, CY, CZ = weights.shape[2:]
    K = offsets.shape[0]
    for size in range(1, 4):  # a class needs the weights of the smaller classes around it
        for row in prange(B * CX * CY):
            n = row // (CX * CY)
            I = (row // CY) % CX
            J = row % CY
            summed = np.empty((3, 3, 3))
            for L in range(CZ):
                for code in range(1, 8):
                    s0 = code >> 2
                    s1 = (code >> 1) & 1
                    s2 = code & 1
                    if s0 + s1 + s2 != size or s0 > axes[0] or s1 > axes[1] or s2 > axes[2]:
                        continue
                    x = 2 * I + s0 if axes[0] else I
                    y = 2 * J + s1 if axes[1] else J
                    z = 2 * L + s2 if axes[2] else L
                    if x >= X or y >= Y or z >= Z:
                        continue
                    summed[:] = 0.0
                    pivot = max(c[n, x, y, z], 0.0)
                    for k in range(K):
                        dx = offsets[k, 0]
                        dy = offsets[k, 1]
                        dz = offsets[k, 2]
                        if dx * s0 == 0 and dy * s1 == 0 and dz * s2 == 0:
                            continue
                        forward = abs(T[k, n, x, y, z])
                        backward = abs(T[k, n, (x - dx) % X, (y - dy) % Y, (z - dz) % Z])
                        pivot += forward + backward
                        summed[1 + dx * s0, 1 + dy * s1, 1 + dz * s2] += forward
                        summed[1 - dx * s0, 1 - dy * s1, 1 - dz * s2] += backward
                    if pivot == 0.0:
                        continue
                    for o0 in range(-s0, s0 + 1):
                        for o1 in range(-s1, s1 + 1):
                            for o2 in range(-s2, s2 + 1):
                                if o0 == 0 and o1 == 0 and o2 == 0:
                                    continue
                                factor = summed[1 + o0, 1 + o1, 1 + o2] / pivot
                                f0 = 1 if o0 == 1 else 0
                                f1 = 1 if o1 == 1 else 0
                                f2 = 1 if o2 == 1 else 0
                                t0 = s0 if o0 == 0 else 0
                                t1 = s1 if o1 == 0 else 0
                                t2 = s2 if o2 == 0 else 0
                                if t0 + t1 + t2 == 0:
                                    weights[index[s0, s1, s2, f0, f1, f2], n, I, J, L] += factor
                                    continue
                                for q0 in range(t0 + 1):
                                    for q1 in range(t1 + 1):
                                        for q2 in range(t2 + 1):
                                            weights[index[s0, s1, s2, f0 + q0, f1 + q1, f2 + q2], n, I, J, L] += (
                                                factor
                                                * weights[
                                                    index[t0, t1, t2, q0, q1, q2],
                                                    n,
                                                    (I + f0) % CX,
                                                    (J + f1) % CY,
                                                    (L + f2) % CZ,
                                                ]
                                            )


@NumbaKernel
def _galerkin_numba(terms, T, diagonal, steps, weights, ones, coarse_T, coarse_c):
    # One row of coarse points at a time, term by term, so that the inner loops have no branches. Only at the two ends
    # of a row indices wrap.
    B, X, Y, Z = diagonal.shape
    CX, CY, CZ = coarse_c.shape[1:]
    step = steps[2]
    for row in prange(B * CX * CY):
        n = row // (CX * CY)
        I = (row // CY) % CX
        J = row % CY
        for k in range(terms.shape[0]):
            entry, px, py, pz = terms[k, 0], terms[k, 1], terms[k, 2], terms[k, 3]
            first, c0, c1, c2 = terms[k, 4], terms[k, 5], terms[k, 6], terms[k, 7]
            second, b0, b1, b2 = terms[k, 8], terms[k, 9], terms[k, 10], terms[k, 11]
            target = terms[k, 12]
            x = (steps[0] * I + px) % X
            y = (steps[1] * J + py) % Y
            source = diagonal[n, x, y] if entry < 0 else T[entry, n, x, y]
            wf = ones if first < 0 else weights[first, n, (I - c0) % CX, (J - c1) % CY]
            wg = ones if second < 0 else weights[second, n, (I + b0) % CX, (J + b1) % CY]
            out = coarse_c[n, I, J] if target < 0 else coarse_T[target, n, I, J]
            sign = 1.0 if (entry < 0) == (target < 0) else -1.0  # off-diagonal entries are -T
            for L in range(1, CZ - 1):
                out[L] += sign * wf[L - c2] * source[step * L + pz] * wg[L + b2]
            for L in range(0, CZ, max(CZ - 1, 1)):
                out[L] += sign * wf[(L - c2) % CZ] * source[(step * L + pz) % Z] * wg[(L + b2) % CZ]
