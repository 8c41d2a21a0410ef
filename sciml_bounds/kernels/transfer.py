"""Prolongation and restriction between a lattice and the lattice of its even points along the coarsened axes.

Along coarsened axes a fine point is i = 2 I + S with S in {0, 1}; along the others i = I. Even points (S = 0) take the
value of the coarse point. A point of class S is interpolated from the coarse points I + C with C <= S, each with its
own weight. `weights[k, b, I]` is the weight of the k-th pair (S, C) of `pairs(axes)`. Restriction is the transpose.
Weights and the conductances of `kernels.lattice` have the same interleaved memory layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import Any

import torch
from torch import Tensor

from sciml_bounds.kernels._backend import (
    backend_for,
    constant_table,
    launch,
    needs_gradient,
    require_batches,
    tl,
    triton_jit,
)
from sciml_bounds.kernels.lattice import rows, shifted
from sciml_bounds.kernels.wavefront import march_down, march_up

__all__ = ["coarse_shape", "pairs", "prolong_add", "prolonged", "restrict", "restrict_across", "restricted"]

Bits = tuple[int, ...]


@lru_cache
def pairs(axes: tuple[bool, bool, bool]) -> tuple[tuple[Bits, Bits], ...]:
    """Return the pairs (class S, corner C <= S), one per interpolation weight, smaller classes first."""
    classes = [s for s in product((0, 1), repeat=3) if any(s) and all(a or not b for a, b in zip(axes, s))]
    classes.sort(key=lambda s: (sum(s), s))
    return tuple((s, c) for s in classes for c in product(*[(0, 1) if bit else (0,) for bit in s]))


def coarse_shape(shape: tuple[int, ...], axes: tuple[bool, bool, bool]) -> tuple[int, ...]:
    """Return the shape of the coarse lattice: the points with even index along the coarsened axes."""
    return tuple((n + 1) // 2 if coarsened else n for n, coarsened in zip(shape, axes))


def prolong_add(axes: tuple[bool, bool, bool], weights: Tensor, coarse: Tensor, fine: Tensor) -> Tensor:
    """Add the interpolation of the coarse field (b, X, Y, Z) to the fine field (b, x, y, z), in place."""
    require_batches(len(fine), weights[0], coarse)
    backend = backend_for(fine)
    if backend == "compiled":
        march_up((), None, axes, pairs(axes), weights, coarse, fine, fine, fine, {})
    elif backend == "triton":
        _transfer_triton(_prolong_kernel, axes, rows(weights), coarse, fine, fine)
    else:
        _prolong_torch(axes, weights, coarse, fine)
    return fine


def restrict(axes: tuple[bool, bool, bool], weights: Tensor, fine: Tensor, coarse: Tensor) -> Tensor:
    """Write the restriction (transposed interpolation) of the fine field into the coarse field."""
    require_batches(len(fine), weights[0], coarse)
    backend = backend_for(fine)
    if backend == "compiled":
        march_down((), None, axes, pairs(axes), weights, fine, fine, coarse, {})
    elif backend == "triton":
        _transfer_triton(_restrict_kernel, axes, rows(weights), coarse, fine, coarse)
    else:
        _restrict_torch(axes, weights, fine, coarse)
    return coarse


def restrict_across(axis: int, axes: tuple[bool, bool, bool], weights: Tensor, fine: Tensor) -> Tensor:
    """Restrict along all axes except `axis`, along which `fine` is coarse already; differentiable.

    The weights used are those within the planes perpendicular to `axis`.
    """
    across = axes[0] and axis != 0, axes[1] and axis != 1, axes[2] and axis != 2
    if not any(across):
        return fine
    inside = [pair[0][axis] == 0 for pair in pairs(axes)]
    if backend_for(fine) != "compiled" or needs_gradient(fine):
        return restricted(across, weights[[k for k, kept in enumerate(inside) if kept]], fine)
    coarse = fine.new_empty((len(fine), *weights.shape[2:]))
    kept = tuple(pair if within else None for pair, within in zip(pairs(axes), inside))
    march_down((), None, across, kept, weights, fine, fine, coarse, {})
    return coarse


# --- reference --------------------------------------------------------------------------------------------------------


def prolonged(axes: tuple[bool, bool, bool], weights: Tensor, coarse: Tensor, shape: Sequence[int]) -> Tensor:
    """Interpolate to a lattice (b, x, y, z) in torch operations that are differentiable in the field."""
    fine = coarse.new_zeros(shape)
    _prolong_torch(axes, weights, coarse, fine)
    return fine


def restricted(axes: tuple[bool, bool, bool], weights: Tensor, fine: Tensor) -> Tensor:
    """Restrict a field in torch operations that are differentiable in the field."""
    coarse = fine.new_zeros(len(fine), *weights.shape[2:])
    _restrict_torch(axes, weights, fine, coarse)
    return coarse


def parity_view(fine: Tensor, axes: tuple[bool, bool, bool], S: Bits) -> Tensor:
    """View the fine points of class S; odd classes may have one point fewer than the coarse lattice."""
    return fine[(..., *[slice(s, None, 2) if coarsened else slice(None) for s, coarsened in zip(S, axes)])]


def _prolong_torch(axes: tuple[bool, bool, bool], weights: Tensor, coarse: Tensor, fine: Tensor) -> None:
    parity_view(fine, axes, (0, 0, 0)).add_(coarse)
    for k, (S, C) in enumerate(pairs(axes)):
        target = parity_view(fine, axes, S)
        value = weights[k] * shifted(coarse, C)
        existing: Any = (..., *[slice(n) for n in target.shape[-3:]])
        target.add_(value[existing])


def _restrict_torch(axes: tuple[bool, bool, bool], weights: Tensor, fine: Tensor, coarse: Tensor) -> None:
    coarse.copy_(parity_view(fine, axes, (0, 0, 0)))
    for k, (S, C) in enumerate(pairs(axes)):
        source = parity_view(fine, axes, S)
        padded = torch.zeros_like(coarse)
        existing: Any = (..., *[slice(n) for n in source.shape[-3:]])
        padded[existing] = source
        coarse.add_(shifted(weights[k] * padded, tuple(-c for c in C)))


# --- triton -----------------------------------------------------------------------------------------------------------


@triton_jit
def _prolong_kernel(
    bits, weights, coarse, fine, X, Y, Z, CX, CY, CZ, stride_m,
    AX: tl.constexpr, AY: tl.constexpr, AZ: tl.constexpr, K: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    N = X * Y * Z
    n = tl.program_id(1).to(tl.int64)
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < N
    x = i // (Y * Z)
    y = (i // Z) % Y
    z = i % Z
    I = x // (1 + AX)
    J = y // (1 + AY)
    L = z // (1 + AZ)
    sx = x - (1 + AX) * I
    sy = y - (1 + AY) * J
    sz = z - (1 + AZ) * L
    base = (I * CY + J) * CZ + L
    source = coarse + n * CX * CY * CZ
    value = tl.load(source + base, mask=inside & (sx + sy + sz == 0), other=0.0)
    for k in tl.static_range(K):
        own = (tl.load(bits + 6 * k) == sx) & (tl.load(bits + 6 * k + 1) == sy) & (tl.load(bits + 6 * k + 2) == sz)
        P = (I + tl.load(bits + 6 * k + 3)) % CX
        Q = (J + tl.load(bits + 6 * k + 4)) % CY
        R = (L + tl.load(bits + 6 * k + 5)) % CZ
        place = n * stride_m + ((I * CY + J) * K + k) * CZ + L
        w = tl.load(weights + place, mask=inside & own, other=0.0)
        value += w * tl.load(source + (P * CY + Q) * CZ + R, mask=inside & own, other=0.0)
    target = fine + n * N + i
    tl.store(target, tl.load(target, mask=inside, other=0.0) + value, mask=inside)


@triton_jit
def _restrict_kernel(
    bits, weights, coarse, fine, X, Y, Z, CX, CY, CZ, stride_m,
    AX: tl.constexpr, AY: tl.constexpr, AZ: tl.constexpr, K: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    N = CX * CY * CZ
    n = tl.program_id(1).to(tl.int64)
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < N
    I = i // (CY * CZ)
    J = (i // CZ) % CY
    L = i % CZ
    source = fine + n * X * Y * Z
    value = tl.load(source + ((1 + AX) * I * Y + (1 + AY) * J) * Z + (1 + AZ) * L, mask=inside, other=0.0)
    for k in tl.static_range(K):
        P = (I - tl.load(bits + 6 * k + 3) + CX) % CX
        Q = (J - tl.load(bits + 6 * k + 4) + CY) % CY
        R = (L - tl.load(bits + 6 * k + 5) + CZ) % CZ
        x = (1 + AX) * P + tl.load(bits + 6 * k)
        y = (1 + AY) * Q + tl.load(bits + 6 * k + 1)
        z = (1 + AZ) * R + tl.load(bits + 6 * k + 2)
        exists = inside & (x < X) & (y < Y) & (z < Z)
        place = n * stride_m + ((P * CY + Q) * K + k) * CZ + R
        w = tl.load(weights + place, mask=exists, other=0.0)
        value += w * tl.load(source + (x * Y + y) * Z + z, mask=exists, other=0.0)
    tl.store(coarse + n * N + i, value, mask=inside)


def _transfer_triton(
    kernel: object, axes: tuple[bool, bool, bool], weights: Tensor, coarse: Tensor, fine: Tensor, target: Tensor
) -> None:
    table = constant_table(pairs(axes), torch.int32, fine.device)
    points = target[0].numel()
    launch(
        kernel, points, fine.shape[0], table, weights, coarse, fine, *fine.shape[1:], *coarse.shape[1:],
        weights[0].numel() if len(weights) > 1 else 0,
        AX=int(axes[0]), AY=int(axes[1]), AZ=int(axes[2]), K=len(table),
    )  # fmt: skip
